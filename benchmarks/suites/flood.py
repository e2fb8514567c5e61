"""Whether a tenant that sends as fast as it can delays another one's events."""

import gzip
import sys
from collections import Counter

import orjson

from benchmarks.figures import Figure, percentile, percentiles
from benchmarks.load import Accepted
from benchmarks.session import Bench, Session
from benchmarks.tenants import House, house
from innkeeper_engine.model.environments import Policy

WARM_UP_EVENTS = 5
EVENTS_PER_S = 50
"""What A may send."""
BOMB_BYTES = 10 << 20
"""As much as a request may hold at most, unpacked."""
HUGE_HEAD = b"x-huge: " + b"x" * (100 << 10)


async def run(bench: Bench) -> list[Figure]:
    """From the sending of B's event to its first request: alone, while A sends events that would be in order, and junk.

    The three take turns, a few seconds each, so that what the machine does meanwhile meets all of them. `ratio` is a p99
    beside A, divided by that alone; `cpu` what the gateway uses of a core.
    """
    sizes = bench.sizes
    async with house(bench, Policy(events_per_s=EVENTS_PER_S)) as scene:
        floods = {"alone": (), "valid": valid(scene), "junk": junk(scene)}
        taken: dict[str, list[float]] = {kind: [] for kind in floods}
        cpu_s = dict.fromkeys(floods, 0.0)
        answers: dict[str, Counter[str]] = {kind: Counter() for kind in floods}
        await scene.session.closed_loop("noop", WARM_UP_EVENTS, 1)
        for _ in range(sizes.flood_rounds):
            for kind, requests in floods.items():
                before = gateway_cpu_s(scene)
                if requests:
                    await scene.flooder.begin(requests, sizes.flood_connections)
                taken[kind] += [ms for _, ms in await paced(scene.session, sizes.flood_s, sizes.flood_rate)]
                if requests:
                    answers[kind].update(await scene.flooder.end())
                cpu_s[kind] += gateway_cpu_s(scene) - before
    seconds = sizes.flood_rounds * sizes.flood_s
    figures: list[Figure] = []
    for kind, times in taken.items():
        figures += percentiles(f"flood.{kind}.sent", times, "ms")
        figures.append(Figure(f"flood.{kind}.cpu", 100 * cpu_s[kind] / seconds, "% of a core"))
        if floods[kind]:
            figures.append(Figure(f"flood.{kind}.answers", answers[kind].total() / seconds, "answers/s"))
            figures.append(
                Figure(f"flood.{kind}.ratio", percentile(times, 0.99) / percentile(taken["alone"], 0.99), "x")
            )
            print(f"flood, {kind}: answered {dict(answers[kind])}", file=sys.stderr, flush=True)
    return figures


async def paced(session: Session, seconds: float, per_second: float) -> list[tuple[float, float]]:
    """Ms from sent to answered, and from sent to the first request, of each of B's events."""
    marks = session.marks(max(1, round(seconds * per_second)))
    bodies = [session.event("noop", mark) for mark in marks]
    answers: list[Accepted] = await session.load.send_paced(bodies, per_second)
    await session.app.finished.every(marks, session.sizes.stall_s)
    stats = await session.load.stats(session.app.origin, marks)
    return [
        ((answer.accepted_us - answer.sent_us) / 1000, (at - answer.sent_us) / 1000)
        for at, answer in zip(stats["first"], answers, strict=True)
    ]


def gateway_cpu_s(scene: House) -> float:
    """CPU time that the gateway has used, without the processes of its sandbox."""
    times = scene.gateway.cpu_times()
    return float(times.user + times.system)


def request(path: str, body: bytes, *headers: bytes) -> bytes:
    """A POST as it goes over the wire."""
    head = [f"POST {path} HTTP/1.1".encode(), b"Host: gateway", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*head, b"", b""]) + body


def valid(scene: House) -> tuple[bytes, ...]:
    """One event a request, that starts a run."""
    event = orjson.dumps({"name": "null/noop", "data": {"padding": "x" * 300}})
    return (request(f"/e/{scene.a.event_key}", event),)


def junk(scene: House) -> tuple[bytes, ...]:
    """What nobody should send: some with a key of A, some with none."""
    path = f"/e/{scene.a.event_key}"
    packed = b"Content-Encoding: gzip"
    return (
        *(request(f"/e/wrong-key-{n}", b'{"name":"a"}') for n in range(4)),
        request(path, b'{"name":"a","data":' + b"[" * 10_000),
        request(path, gzip.compress(b" " * (BOMB_BYTES + 1)), packed),
        request(path, gzip.compress(b'{"name":"' + b"x" * (BOMB_BYTES - 100) + b'"}'), packed),
        request(path, b"{}", HUGE_HEAD),
        request(path, b"{}", *(b"x-%d: y" % n for n in range(300))),
    )
