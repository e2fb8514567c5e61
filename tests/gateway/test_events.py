"""`POST /e/{key}`: what senders are answered, and what is stored when they are."""

import asyncio
import gzip
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest

from innkeeper_engine.model.clock import is_ulid
from innkeeper_engine.store.store import Store
from innkeeper_gateway.settings import GatewaySettings, Limits
from tests.conftest import OpenStore, ValkeyProcess
from tests.gateway.conftest import MakeWorld
from tests.gateway.world import World


async def stored(store: Store) -> list[tuple[str, dict[str, Any]]]:
    """The events that wait to be routed, as (internal id, event)."""
    peeked = await store.peek(10_000)
    return [] if peeked is None else [(event.id, orjson.loads(event.body)) for event in peeked.events]


async def test_events_are_answered_with_their_ids_once_they_are_stored(world: World) -> None:
    reply = await world.http.post(
        "/e/test", json=[{"name": "x/y", "data": {"a": 1}}, {"name": "x/z", "id": "mine"}]
    )
    assert reply.status_code == 200
    ids = reply.json()["ids"]
    assert reply.content == b'{"ids":["%b","%b"],"status":200}' % tuple(each.encode() for each in ids)
    assert all(map(is_ulid, ids))
    events = await stored(world.store)
    assert [event_id for event_id, _ in events] == ids
    assert [event["name"] for _, event in events] == ["x/y", "x/z"]
    assert [event["id"] for _, event in events] == [ids[0], "mine"]
    kept = await world.store.event("default", ids[0])
    assert kept is not None
    assert orjson.loads(kept.body)["data"] == {"a": 1}


@pytest.mark.parametrize("body", [b"", b"[]"])
async def test_nothing_sent_is_answered_like_something(world: World, body: bytes) -> None:
    reply = await world.http.post("/e/test", content=body)
    assert (reply.status_code, reply.json()) == (200, {"ids": [""], "status": 200})
    assert await stored(world.store) == []


async def test_one_bad_event_refuses_them_all(world: World) -> None:
    reply = await world.http.post("/e/test", json=[{"name": "x/y"}, {"data": {}}])
    assert reply.status_code == 400
    assert reply.json() == {"ids": [""], "status": 400, "error": "events[1]: event name is empty"}
    assert await stored(world.store) == []


async def test_a_repeated_send_with_its_seed_is_answered_the_same_and_stored_once(world: World) -> None:
    headers = {"x-inngest-event-id-seed": "1743130137367,eii2YKXRVTJPuA=="}
    replies = [
        await world.http.post("/e/test", json=[{"name": "x/y"}, {"name": "x/y"}], headers=headers)
        for _ in range(3)
    ]
    ids = ["01JQDAE4RQF8MBCR55T5AK4KXS", "01JQDAE4RQF8MBCR55T5AK4KXT"]
    assert [reply.json() for reply in replies] == [{"ids": ids, "status": 200}] * 3
    assert [event_id for event_id, _ in await stored(world.store)] == ids


async def test_without_a_seed_that_can_be_read_every_send_is_another(world: World) -> None:
    for headers in ({}, {"x-inngest-event-id-seed": "nonsense"}):
        for _ in range(2):
            reply = await world.http.post("/e/test", json={"name": "x/y"}, headers=headers)
            assert reply.status_code == 200
    assert len({event_id for event_id, _ in await stored(world.store)}) == 4


async def test_packed_events_are_taken(world: World) -> None:
    body = gzip.compress(orjson.dumps([{"name": "x/y"}] * 3))
    reply = await world.http.post("/e/test", content=body, headers={"content-encoding": "gzip"})
    assert reply.status_code == 200, reply.text
    assert len(await stored(world.store)) == 3


async def test_a_request_over_the_limit_is_refused(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings(dev=True, limits=Limits(request_bytes=1000)))
    for content, headers in (
        (b"[" + b" " * 1000 + b"]", {}),
        (gzip.compress(b"[" + b" " * 1000 + b"]", mtime=0), {"content-encoding": "gzip"}),
    ):
        reply = await world.http.post("/e/test", content=content, headers=headers)
        assert reply.status_code == 413
        assert "at most 1000 bytes" in reply.json()["error"]


async def test_five_thousand_events_are_taken_at_once_and_one_more_is_refused(world: World) -> None:
    reply = await world.http.post("/e/test", json=[{"name": "x/y"}] * 5000)
    assert len(reply.json()["ids"]) == 5000
    assert len(await stored(world.store)) == 5000
    refused = await world.http.post("/e/test", json=[{"name": "x/y"}] * 5001)
    assert refused.status_code == 400
    assert "at most 5000" in refused.json()["error"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_refused(world: World, method: str) -> None:
    reply = await world.http.request(method, "/e/test")
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST, OPTIONS"


async def test_browsers_of_every_origin_may_send(world: World) -> None:
    preflight = await world.http.options(
        "/e/test",
        headers={
            "origin": "https://shop.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        },
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "content-type"
    for body in ({"name": "x/y"}, {}):
        reply = await world.http.post("/e/test", json=body, headers={"origin": "https://shop.example"})
        assert reply.headers["access-control-allow-origin"] == "*"


async def test_in_dev_mode_every_key_will_do(world: World) -> None:
    for key in ("123", "NO_EVENT_KEY_SET", "a%2Fb"):
        reply = await world.http.post(
            f"/e/{key}", json={"name": "x/y"}, headers={"x-inngest-env": "feature/x"}
        )
        assert reply.status_code == 200
        assert reply.headers["x-inngest-server-kind"] == "dev"


async def test_outside_dev_mode_a_key_is_asked_for(production: World) -> None:
    for key in ("first-key", "second-key"):
        assert (await production.http.post(f"/e/{key}", json={"name": "x/y"})).status_code == 200
    for key in ("wrong", "first-ke", "first-key2", "FIRST-KEY", "", "%C3%BC", "first-key/"):
        reply = await production.http.post(f"/e/{key}", json={"name": "x/y"})
        assert (reply.status_code, reply.json()) == (
            401,
            {"status": 401, "message": "", "error": "Event key not found"},
        )
        assert reply.headers["x-inngest-server-kind"] == "cloud"
    assert len(await stored(production.store)) == 2


async def test_without_any_event_key_nothing_is_taken(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings())
    assert (await world.http.post("/e/", json={"name": "x/y"})).status_code == 401
    assert (await world.http.post("/e/x", json={"name": "x/y"})).status_code == 401


async def test_a_full_redis_is_a_503_that_says_when_to_come_back(
    make_world: MakeWorld, open_store: OpenStore, private_valkey: Callable[..., ValkeyProcess]
) -> None:
    server = private_valkey("--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
    store = await open_store(address=server.address)
    world = await make_world(store=store)
    replies = []
    for _ in range(20):
        # Nothing that gets much smaller when it is compressed.
        data = {"x": secrets.token_urlsafe(300_000)}
        replies.append(await world.http.post("/e/x", json={"name": "x/y", "data": data}))
        if replies[-1].status_code != 200:
            break
    refused = replies[-1]
    assert refused.status_code == 503
    assert "too little memory" in refused.json()["error"]
    assert int(refused.headers["retry-after"]) > 0


async def test_an_absent_redis_is_a_503_in_time_and_its_return_is_noticed(
    make_world: MakeWorld, open_store: OpenStore, private_valkey: Callable[..., ValkeyProcess]
) -> None:
    server = private_valkey()
    store = await open_store(address=server.address)
    settings = msgspec.structs.replace(GatewaySettings(dev=True), store_timeout_s=0.3)
    world = await make_world(settings, store=store)
    server.stop()
    for reply in (
        await world.http.post("/e/x", json={"name": "x/y"}),
        await world.http.get("/v1/runs"),
        await world.http.get("/ready"),
    ):
        assert reply.status_code == 503, reply.text
        assert "Redis cannot be reached" in reply.text
    assert (await world.http.get("/live")).status_code == 200
    again = ValkeyProcess(server.path.parent)
    try:
        async with asyncio.timeout(10):
            while (await world.http.post("/e/x", json={"name": "x/y"})).status_code != 200:
                pass
    finally:
        again.stop()
