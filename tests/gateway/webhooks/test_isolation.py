"""A thousand requests whose transforms misbehave: events and webhooks of others go on as if nothing were."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

import httpx
import orjson
import psutil
import pytest

from innkeeper_apps.sandbox.pool import MIB
from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_gateway.server import GatewayServer
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import MakeWorld
from tests.gateway.tenants import environment, event_key
from tests.gateway.webhooks.conftest import limits

pytestmark = pytest.mark.slow

REQUESTS = 1_000
WORKERS = 4
MEMORY_BYTES = 64 * MIB
SPOIL = """globalThis.left = evt; Object.prototype.left = 'left'; Array.prototype.left = 'left'
    JSON.stringify = () => '{"name":"spoilt"}'; throw new Error('bad')"""
BAD = {
    "loop": "while (true) {}",
    "memory": "const all = []; for (;;) all.push(new Array(100000).fill(1))",
    "regex": "return {name: 'a', data: {found: /^(a+)+$/.test('a'.repeat(50) + 'b')}}",
    "pollution": SPOIL,
    "recursion": "return transform(evt)",
}
GOOD = "return {name: 'good', data: {n: evt.n, seen: [typeof globalThis.left, ({}).left ?? null, [].left ?? null]}}"


def token(name: str) -> str:
    """What stands behind /w/."""
    return name + "-" + "t" * 40


def memory_of_workers() -> list[int]:
    """What each process of the sandbox holds now, in bytes."""
    found = []
    for process in psutil.Process().children(recursive=True):
        # One that has just ended holds nothing.
        with contextlib.suppress(psutil.NoSuchProcess):
            if "nursery.py" in str(process.cmdline()) and process.parent() != psutil.Process():
                found.append(process.memory_info().rss)
    return found


async def misbehave(port: int, n: int) -> tuple[int, bool]:
    """Send a request to one of the bad webhooks; the status, and whether it says when to come again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"n":%d}' % n
    path = f"/w/{token(list(BAD)[n % len(BAD)])}".encode()
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path, len(body), body))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 120)
    writer.close()
    return int(head.split()[1]), b"retry-after" in head.lower()


async def test_a_thousand_bad_transforms_leave_events_and_other_webhooks_alone(
    make_world: MakeWorld, store: Store
) -> None:
    for env in ("prod", "bad"):
        await EnvironmentStore(store).write(environment(env))
    for name, body in {**BAD, "good": GOOD}.items():
        await WebhookStore(store).write(
            Webhook(
                name=name,
                env="prod" if name == "good" else "bad",
                digest=key_digest(token(name)),
                transform=f"function transform(evt) {{ {body} }}",
            )
        )
    sandbox = limits(workers=WORKERS, memory_bytes=MEMORY_BYTES, wall_ms=60_000, waiting_ms=60_000)
    settings = GatewaySettings(managed=True, sandbox=sandbox, events_per_s=0, refusals_per_s=0)
    world = await make_world(settings)
    server = GatewayServer(world.app, host="127.0.0.1", port=0)
    await server.start()
    base = f"http://127.0.0.1:{server.port}"
    most_workers, most_bytes = 0, 0
    try:
        async with httpx.AsyncClient(base_url=base, timeout=120, trust_env=False) as http:
            flooding = asyncio.gather(*(misbehave(server.port, n) for n in range(REQUESTS)))
            sent, transformed = 0, 0
            while not flooding.done():
                reply = await http.post(f"/e/{event_key('prod')}", json={"name": "e", "data": {"n": sent}})
                assert reply.status_code == 200, reply.text
                sent += 1
                if sent % 5 == 1:
                    reply = await http.post(f"/w/{token('good')}", json={"n": transformed})
                    assert (reply.status_code, len(reply.json()["ids"])) == (200, 1), reply.text
                    transformed += 1
                held = memory_of_workers()
                most_workers, most_bytes = max(most_workers, len(held)), max([most_bytes, *held])
            answers = Counter(await flooding)
    finally:
        await server.stop(grace_s=1)
    assert sum(answers.values()) == REQUESTS
    assert set(answers) <= {(202, False), (503, True)}, "kept as dead letters, or asked to come again"
    # Half of the places to wait are an environment's, and a quarter a webhook's; what costs processes is soon not run.
    assert answers[202, False] >= sandbox.waiting // 4
    assert answers[503, True] >= REQUESTS // 2, "no more wait than may"
    assert most_workers <= 2 * WORKERS, "those that end stand beside those that begin"
    assert 0 < most_bytes < MEMORY_BYTES + 64 * MIB
    assert not world.app.core.sandbox.worker_pids
    stored = await routed(store, sent + transformed)
    assert [event["data"]["n"] for event in stored if event["name"] == "e"] == list(range(sent))
    good = [event["data"] for event in stored if event["name"] == "good"]
    assert [each["n"] for each in good] == list(range(transformed))
    assert all(each["seen"] == ["undefined", None, None] for each in good), (
        "nothing of one call is seen by the next"
    )


async def routed(store: Store, count: int) -> list[dict[str, Any]]:
    """The events of prod, in the order in which they take effect."""
    peeked = await store.peek(count + 1)
    assert peeked is not None
    assert peeked.env == "prod"
    assert len(peeked.events) == count
    return [orjson.loads(event.body) for event in peeked.events]
