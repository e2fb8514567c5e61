"""Probes, the log, and the server around the app."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import structlog
from structlog.contextvars import bind_contextvars

from innkeeper_engine.store.connection import StoreError
from innkeeper_engine.store.store import Store
from innkeeper_gateway.server import GatewayServer, GatewayStartError
from tests.conftest import OpenStore, ValkeyProcess
from tests.gateway.conftest import MakeWorld
from tests.gateway.world import World, function


async def test_probes_of_a_server_that_is_well(world: World) -> None:
    for path in ("/live", "/health"):
        reply = await world.http.get(path)
        assert (reply.status_code, reply.json()) == (200, {"status": 200, "message": "OK"})
    ready = await world.http.get("/ready")
    assert ready.status_code == 200
    names = ("draining", "redis", "scripts", "registry")
    assert ready.json() == {"status": 200, "checks": dict.fromkeys(names, "ok"), "durability": "memory"}


async def test_a_server_about_to_stop_is_not_ready(world: World) -> None:
    world.app.drain()
    reply = await world.http.get("/ready")
    assert reply.status_code == 503
    assert reply.json()["checks"]["draining"] != "ok"
    assert (await world.http.get("/live")).status_code == 200


async def test_scripts_that_are_gone_are_noticed(world: World) -> None:
    await world.store.command("SCRIPT", "FLUSH")
    reply = await world.http.get("/ready")
    assert reply.status_code == 503
    assert "append" in reply.json()["checks"]["scripts"]
    await world.send()  # the store loads what it misses


async def test_durability_is_what_redis_is_told(
    make_world: MakeWorld, open_store: OpenStore, private_valkey: Callable[..., ValkeyProcess]
) -> None:
    server = private_valkey("--appendonly", "yes", "--appendfsync", "always")
    world = await make_world(store=await open_store(address=server.address))
    assert (await world.http.get("/ready")).json()["durability"] == "fsync"


async def test_the_log_shows_no_key_and_no_query(production: World) -> None:
    with structlog.testing.capture_logs() as log:
        await production.http.post(
            "/e/first-key?x=secret", json={"name": "secret/name", "data": {"s": "secret"}}
        )
        await production.http.post("/e/wrong-key", json={"name": "a"})
        await production.http.get("/v1/runs?token=secret", headers={"authorization": "Bearer secret"})
    paths = [
        (entry["method"], entry["path"], entry["status"]) for entry in log if entry["event"] == "request"
    ]
    assert paths == [("POST", "/e/***", 200), ("POST", "/e/***", 401), ("GET", "/v1/runs", 401)]
    for word in ("first-key", "wrong-key", "secret"):
        assert word not in str(log)


@pytest.mark.parametrize("path", ["/e/key", "/v1/runs"])
async def test_an_error_of_the_servers_own_is_a_500_in_form_and_logged_once(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async def broken(*_args: object, **_options: object) -> None:
        raise StoreError("ERR user_script: what a bug would say")

    monkeypatch.setattr(Store, "append", broken)
    monkeypatch.setattr(Store, "ask", broken)
    with structlog.testing.capture_logs() as log:
        if path == "/e/key":
            reply = await world.http.post(path, json={"name": "a"})
        else:
            reply = await world.http.get(path)
    assert reply.status_code == 500
    assert reply.json()["status"] == 500
    assert "user_script" not in reply.text
    assert [entry["log_level"] for entry in log if "exc_info" in entry] == ["error"]
    assert "/e/key" not in str(log)


@pytest.fixture
async def served(world: World) -> Any:
    """The world's gateway on a port."""
    server = GatewayServer(world.app, host="127.0.0.1", port=0)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as http:
            yield server, http
    finally:
        await server.stop(grace_s=1)


async def test_the_app_is_served_over_http(
    world: World, served: tuple[GatewayServer, httpx.AsyncClient]
) -> None:
    _, http = served
    reply = await http.post("/e/key", json=[{"name": "a"}] * 3)
    assert (reply.status_code, len(reply.json()["ids"])) == (200, 3)
    assert reply.headers["x-inngest-server-kind"] == "dev"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "server" not in reply.headers
    await world.register(function("app-a/b c"))
    assert (await http.post("/invoke/app-a%2Fb%20c", json={})).status_code == 200
    assert (await http.post("/invoke/app-a/b c", json={})).status_code == 200
    head = await http.head("/e/key")
    assert (head.status_code, head.content) == (405, b"")


async def test_a_body_sent_in_chunks_is_bounded(served: tuple[GatewayServer, httpx.AsyncClient]) -> None:
    _, http = served

    async def endless() -> Any:
        for _ in range(200):
            yield b" " * 100_000

    try:
        reply = await http.post("/e/key", content=endless())
    except httpx.WriteError:
        return  # the server hung up on the rest, which is an answer too
    assert reply.status_code == 413


async def test_requests_under_way_are_answered_when_the_server_stops(
    make_world: MakeWorld, served: tuple[GatewayServer, httpx.AsyncClient], world: World
) -> None:
    server, http = served
    event_id = await world.send()
    asked = asyncio.create_task(http.get(f"/v1/events/{event_id}/runs"))
    async with asyncio.timeout(10):
        while not await world.store.command("EXISTS", world.store.key("rw:default")):
            await asyncio.sleep(0)
        await server.stop(grace_s=5)
        assert json.loads((await asked).content)["data"] == []
    with pytest.raises(httpx.TransportError):
        await http.get("/live")


async def test_a_port_that_is_taken_is_said_so(
    world: World, served: tuple[GatewayServer, httpx.AsyncClient]
) -> None:
    server, _ = served
    with pytest.raises(
        GatewayStartError, match=f"cannot listen on 127.0.0.1:{server.port}: Address already in use"
    ):
        await GatewayServer(world.app, host="127.0.0.1", port=server.port).start()


async def test_half_a_character_in_what_is_refused_is_told_of(world: World) -> None:
    for path in ("/v1/replays", "/v1/cancellations"):
        reply = await world.http.post(path, content=b'{"\\ud800": 1}')
        assert reply.status_code == 400
        assert "?: there is no such field" in reply.json()["error"]


async def test_a_slash_too_many_leads_nowhere_else(world: World) -> None:
    reply = await world.http.get("/v1/runs/", headers={"host": "elsewhere"})
    assert reply.status_code == 404
    assert "location" not in reply.headers


async def test_a_request_is_not_told_of_with_what_another_was_about(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    # A server handles the requests of one connection in one context.
    run_id = "01HZZZZZZZZZZZZZZZZZZZZZZ1"
    assert (await world.http.get(f"/v1/runs/{run_id}")).status_code == 404
    bind_contextvars(run=run_id)
    assert (await world.http.get("/live")).status_code == 200
    assert (await world.http.get("/nowhere")).status_code == 404
    told = [line for line in capsys.readouterr().out.splitlines() if "/nowhere" in line or "/live" in line]
    assert told
    assert not any(run_id in line for line in told)
