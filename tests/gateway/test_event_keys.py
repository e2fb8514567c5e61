"""An event key sends events, and that is all; nobody learns it from what the server keeps or writes."""

import asyncio
import io
import logging
import re
from typing import Any

import pytest
import structlog

from innkeeper_cli import logs
from innkeeper_cli.settings import LogFormat
from innkeeper_engine.environments import Environments
from innkeeper_engine.model.environments import EventKey, key_digest
from innkeeper_engine.store.store import Store
from innkeeper_gateway.server import GatewayServer
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import MakeWorld
from tests.gateway.tenants import Tenant, environment
from tests.gateway.world import World

KEYS = {name: f"key-of-{name}-0123456789" for name in ("shop", "billing", "partner")}


def keys(*names: str) -> tuple[EventKey, ...]:
    """The named keys as they lie in the store."""
    return tuple(EventKey(name=name, digest=key_digest(KEYS[name])) for name in names)


@pytest.fixture
async def tenant(make_world: MakeWorld) -> Any:
    """An environment with three event keys."""
    world = await make_world(GatewaySettings(managed=True, refusals_per_s=0))
    made = Tenant(world, "prod")
    await made.put(event_keys=keys(*KEYS))
    yield made
    await made.close()


async def status(tenant: Tenant, name: str) -> int:
    """What an event with the key of this name is answered."""
    return await tenant.status("POST", f"/e/{KEYS[name]}", json={"name": "a"})


async def test_each_of_many_keys_is_revoked_by_itself(tenant: Tenant) -> None:
    assert [await status(tenant, name) for name in KEYS] == [200, 200, 200]
    await tenant.put(event_keys=keys("shop", "partner"))
    answers = {}
    for _ in range(100):
        answers = {name: await status(tenant, name) for name in KEYS}
        if answers["billing"] == 401:
            break
        await asyncio.sleep(0.02)  # the notice of the change is on its way
    assert answers == {"shop": 200, "billing": 401, "partner": 200}


async def test_a_key_appends_and_opens_nothing_else(tenant: Tenant) -> None:
    """Whatever route there is, also one that is added later."""
    api = tenant.world.app.api.openapi()["paths"]
    served = [(path, method) for path, methods in api.items() for method in methods]
    opened = set()

    async def look(path: str, method: str) -> None:
        url = re.sub(r"\{[^}]*\}", "01HZZZZZZZZZZZZZZZZZZZZZZZ", path)
        bearer = {"authorization": f"Bearer {KEYS['shop']}"}
        if await tenant.status(method.upper(), url, headers=bearer, json={}) != 401:
            opened.add(path)

    # Together: each unknown key waits for a read of the keys, which they share.
    await asyncio.gather(*(look(*each) for each in served), look("/v1/checkpoint/{run_id}/async", "post"))
    assert opened == {"/live", "/ready", "/health", "/dev"}
    assert len(served) > 12
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD"):
        assert await tenant.status(method, f"/e/{KEYS['shop']}") == 405


async def test_keys_are_compared_by_their_digests_alone() -> None:
    """So how long it takes says nothing of how much of a guess was right: the digest of a guess cannot be chosen."""
    environments = Environments(fixed=[environment("prod", event_keys=keys(*KEYS))])
    known = environments._index.event_keys
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in known)
    assert set(known) == {key_digest(key) for key in KEYS.values()}
    found = await environments.by_event_key(KEYS["shop"])
    assert found is not None
    assert found[1].name == "shop"
    for guess in (KEYS["shop"][:-1], KEYS["shop"] + "x", key_digest(KEYS["shop"]), ""):
        assert await environments.by_event_key(guess) is None


async def test_no_key_lies_in_redis(tenant: Tenant, store: Store) -> None:
    for name in KEYS:
        assert await status(tenant, name) == 200
    dumped = b""
    prefix = store.settings.prefix.replace("{", "?").replace("}", "?")
    for found in await store.command("KEYS", f"{prefix}*"):
        dumped += found + (await store.command("DUMP", found) or b"")
    assert b"prod" in dumped
    assert not [key for key in KEYS.values() if key.encode() in dumped]


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_log_shows_a_key_whatever_goes_wrong(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, log_format: LogFormat
) -> None:
    """Neither the gateway's lines nor uvicorn's own, and no traceback; not at the level debug either."""
    lines = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    logs.set_up(log_format, "debug", lines)
    server = GatewayServer(tenant.world.app, host="127.0.0.1", port=0)
    await server.start()
    key = KEYS["shop"]
    raw = [f"POST /e/{key} HTTP/9\r\n\r\n", f"POST /e/{key} HTTP/1.1\r\nhost: x\r\nno header: {key}\r\n\r\n"]
    good = [
        "POST /e/{}?x={}",
        "GET /e/{}?x={}",
        "POST //e/{}?x={}",
        "POST /base/e/{}?x={}",
        "POST /w/{}?x={}",
    ]
    raw += [
        f"{line.format(key, key)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 12\r\n\r\n"
        '{"name":"a"}'
        for line in (*good, "GET /v1/runs?x={}{}")
    ]

    async def first_line(text: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(text.encode())
        line = await asyncio.wait_for(reader.readline(), 20)
        writer.close()
        return line

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    try:
        await asyncio.gather(*map(first_line, raw))
        monkeypatch.setattr(Store, "append", broken)
        assert b" 500 " in await first_line(raw[2])
    finally:
        await server.stop(grace_s=1)
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
        structlog.reset_defaults()
    said = lines.getvalue()
    assert "a bug" in said
    assert "/e/***" in said
    assert "Invalid HTTP" in said, "uvicorn's own lines are among them"
    assert key not in said


async def test_only_the_way_in_for_events_is_open_to_pages_of_other_sites(world: World) -> None:
    """CORS: a browser that holds somebody's credentials reads nothing of the API for a page of another origin."""
    asked = {"origin": "https://evil.example", "access-control-request-method": "GET"}
    for path in ("/v1/runs", "/v1/events", "/fn/register", "/intent/create-webhook"):
        for method in ("OPTIONS", "GET"):
            reply = await world.http.request(method, path, headers=asked)
            assert "access-control-allow-origin" not in reply.headers
    assert (await world.http.options("/e/key", headers=asked)).headers["access-control-allow-origin"] == "*"


async def test_the_interactive_documentation_is_served_in_dev_mode_only(
    world: World, production: World
) -> None:
    assert (await world.http.get("/docs")).status_code == 200
    assert (await production.http.get("/docs")).status_code == 404
