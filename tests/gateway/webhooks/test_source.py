"""Webhooks as they lie in the store, served by a whole gateway."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest
from structlog.testing import capture_logs

from innkeeper_apps.sealing import Sealer
from innkeeper_engine.model.environments import Environment, key_digest
from innkeeper_engine.model.webhooks import Proof, Webhook
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.webhooks.conftest import limits
from tests.gateway.world import World

KEY = bytes(range(32))
SECRET = b"the-secret"
TOKEN = "a-token-that-nobody-may-read"
SOURCE = "function transform(evt) { return {name: 'hook/came', data: evt} }"

MakeWorld = Callable[..., Awaitable[World]]


def hook(**changes: Any) -> Webhook:
    """A webhook of the gateway's own environment, whose URL is `/w/<TOKEN>`."""
    fields = {"name": "shop/hook", "env": "default", "digest": key_digest(TOKEN), "transform": SOURCE}
    return Webhook(**(fields | changes))


def proof(*secrets: bytes) -> Proof:
    return Proof(kind="github", secrets=secrets)


def signed(body: bytes) -> dict[str, str]:
    return {"x-hub-signature-256": "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()}


@pytest.fixture
async def make_world(store: Store) -> AsyncIterator[MakeWorld]:
    worlds: list[World] = []

    async def make(**settings: Any) -> World:
        worlds.append(
            World(store, GatewaySettings(sandbox=limits(cpu_ms=1_000), store_timeout_s=60, **settings))
        )
        return worlds[-1]

    try:
        yield make
    finally:
        for world in worlds:
            await world.close()


async def post(world: World, token: str = TOKEN, **fields: Any) -> httpx.Response:
    return await world.http.post(f"/w/{token}", **({"content": b'{"a":1}'} | fields))


async def names(world: World) -> list[str]:
    peeked = await world.store.peek(64)
    return [] if peeked is None else [orjson.loads(event.body)["name"] for event in peeked.events]


async def test_a_webhook_takes_requests_from_the_moment_it_is_written(
    make_world: MakeWorld, store: Store
) -> None:
    world, hooks = await make_world(), WebhookStore(store)
    assert (await post(world)).status_code == 404
    await hooks.write(hook())
    reply = await post(world)
    assert (reply.status_code, await names(world)) == (200, ["hook/came"])
    assert reply.headers["x-inngest-server-kind"] == "cloud"
    assert (await post(world, "another")).status_code == 404


async def test_a_change_is_noticed_without_being_asked_for(make_world: MakeWorld, store: Store) -> None:
    """What is known is looked up without a read: only the notice of the change makes it go."""
    world, hooks = await make_world(), WebhookStore(store)
    webhooks, notices = world.app.core.webhooks, world.app.core.notices
    await hooks.write(hook())
    assert await webhooks.by_digest(key_digest(TOKEN)) is not None
    async with asyncio.timeout(60):
        while not notices.subscribed:
            await store.command("PING")
        await hooks.remove("default", "shop/hook")
        while await webhooks.by_digest(key_digest(TOKEN)) is not None:
            await store.command("PING")


async def test_no_process_is_started_before_it_is_needed_and_none_is_left(
    make_world: MakeWorld, store: Store
) -> None:
    world = await make_world()
    await WebhookStore(store).write(hook())
    await world.http.get("/live")
    await post(world, "another")
    assert world.app.core.sandbox.worker_pids == frozenset()
    assert (await post(world)).status_code == 200
    assert len(world.app.core.sandbox.worker_pids) == 1
    await world.app.close()
    assert world.app.core.sandbox.worker_pids == frozenset()


async def test_secrets_are_opened_with_the_key_of_webhooks(make_world: MakeWorld, store: Store) -> None:
    """Any that can be opened will do."""
    world = await make_world(webhook_key=KEY)
    sealed = proof(Sealer(bytes(32)).seal(SECRET), Sealer(KEY).seal(SECRET))
    await WebhookStore(store).write(hook(proof=sealed))
    body = b'{"a":1}'
    assert (await post(world, content=body, headers=signed(body))).status_code == 200
    assert (await post(world, content=b"{}", headers=signed(body))).status_code == 401


@pytest.mark.parametrize(
    ("key", "why"),
    [(None, "set INNKEEPER_WEBHOOK_KEY"), (bytes(32), "does not open with this encryption key")],
)
async def test_without_the_right_key_nothing_is_taken_and_the_log_says_why(
    make_world: MakeWorld, store: Store, key: bytes | None, why: str
) -> None:
    world = await make_world(webhook_key=key)
    await WebhookStore(store).write(hook(proof=proof(Sealer(KEY).seal(SECRET))))
    with capture_logs() as logs:
        reply = await post(world)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "60")
    (said,) = [each for each in logs if each["event"] == "a webhook's request was not taken"]
    assert said["webhook"] == "shop/hook"
    assert why in said["why"]
    assert await names(world) == []


async def test_the_log_has_no_url_of_a_webhook(make_world: MakeWorld, store: Store) -> None:
    world = await make_world()
    await WebhookStore(store).write(hook(transform="throw 1"))
    with capture_logs() as logs:
        assert (await post(world)).status_code == 202
    assert TOKEN not in repr(logs)
    assert "/w/***" in repr(logs)


async def test_webhooks_belong_to_the_environments_of_an_operator(
    make_world: MakeWorld, store: Store
) -> None:
    world = await make_world(managed=True)
    await WebhookStore(store).write(hook(env="prod"))
    with capture_logs() as logs:
        assert (await post(world)).status_code == 404
    assert "a webhook's environment is not known" in repr(logs)
    await EnvironmentStore(store).write(Environment(name="prod"))
    assert (await post(world, headers={"x-inngest-env": "b"})).status_code == 200
    peeked = await store.peek(64)
    assert peeked is not None
    assert peeked.env == "prod~b"


async def test_many_unknown_urls_share_a_read(
    make_world: MakeWorld, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is under way when they come is too old for them; the next is for all of them."""
    world, reads = await make_world(), 0
    whole = WebhookStore.read_if_not

    async def counted(self: WebhookStore, version: int) -> Any:
        nonlocal reads
        reads += 1
        return await whole(self, version)

    monkeypatch.setattr(WebhookStore, "read_if_not", counted)
    webhooks = world.app.core.webhooks
    found = await asyncio.gather(*(webhooks.by_digest(str(number)) for number in range(500)))
    assert set(found) == {None}
    assert reads <= 2
