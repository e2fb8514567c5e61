"""Events that nobody waits for: what accepting and routing one costs."""

from benchmarks.figures import Figure, rate
from benchmarks.load import bodies, event, now_us
from benchmarks.processes import NULL_APP
from benchmarks.session import Bench, Session

BATCH = 100
BATCH_SENDERS = 4
NAME = "bench/nobody"


async def run(bench: Bench) -> list[Figure]:
    """Events acknowledged, and events routed, per second; one and a hundred events a body.

    Routed: `GET /v1/events/{id}/runs` of the last event has answered. A server whose answer does not wait for
    routing shows the acknowledged rate here.
    """
    sizes = bench.sizes
    async with bench.session(NULL_APP) as session:
        return [
            *await _events(session, sizes.ingest_single, 1, sizes.ingest_senders),
            *await _events(session, sizes.ingest_batched, BATCH, BATCH_SENDERS),
        ]


async def _events(session: Session, count: int, per_body: int, senders: int) -> list[Figure]:
    await _send(session, max(per_body, count // 20), per_body, senders)
    before = await session.cpu()
    first_us, acknowledged_us, routed_us = await _send(session, count, per_body, senders)
    used = await session.cpu() - before
    name = f"ingest.{per_body}-a-body"
    # Routing goes on while events are accepted: the CPU time of an event covers both, beside both.
    return [
        rate(f"{name}.acknowledged", count, (acknowledged_us - first_us) / 1e6, operation="event", cpu=used),
        rate(f"{name}.routed", count, (routed_us - first_us) / 1e6, operation="event", cpu=used),
    ]


async def _send(session: Session, count: int, per_body: int, senders: int) -> tuple[float, float, float]:
    """When the first was sent, the last acknowledged and the last routed, in microseconds."""
    one = event(NAME, padding="")
    one = event(NAME, padding="x" * (session.sizes.ingest_event_bytes - len(one)))
    answers = await session.load.send_all(bodies([one] * count, per_body), senders)
    last = max(answers, key=lambda answer: answer.accepted_us)
    await session.load.await_routed(last.ids()[-1], session.sizes.stall_s)
    return min(answer.sent_us for answer in answers), last.accepted_us, now_us()
