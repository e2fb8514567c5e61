"""Requests of providers over HTTP: what is stored of them, and what they are answered."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx
import orjson
import pytest

from innkeeper_apps.sandbox.pool import Sandbox
from innkeeper_engine.metrics import WEBHOOK_OUTCOMES
from innkeeper_engine.model.environments import Environment, key_digest
from innkeeper_engine.model.webhooks import DeadLetter, Proof, Webhook
from innkeeper_engine.store.connection import StoreUnavailableError
from innkeeper_engine.store.store import Store
from innkeeper_gateway.settings import GatewaySettings
from innkeeper_gateway.webhooks.handling import Outcome
from innkeeper_gateway.webhooks.route import WebhooksRoute
from innkeeper_gateway.webhooks.source import OpenedWebhook
from tests.gateway.world import World

SECRET = b"the-secret"
GITHUB = Proof(kind="github", secrets=(b"sealed",))


def test_every_outcome_is_one_that_alerts_can_ask_for() -> None:
    """Shown as 0 from the beginning; the others are counted where no request was handled."""
    handled = {kind.__name__.lower() for kind in get_args(Outcome)}
    assert handled | {"limited", "sealed", "store", "refused", "unknown"} == set(WEBHOOK_OUTCOMES)


class Hooks:
    """The webhooks that there are, and the letters that were kept: a source and a place for letters in memory."""

    def __init__(self, world: World) -> None:
        self.environment = world.app.core.own
        self.known: dict[str, OpenedWebhook] = {}
        self.letters: list[DeadLetter] = []
        self.away = False

    def add(self, token: str, transform: str, **settings: Any) -> None:
        """Make a webhook whose URL is `/w/<token>`."""
        digest = key_digest(token)
        webhook = Webhook(
            name=f"prod/{token}", env=self.environment.name, digest=digest, transform=transform, **settings
        )
        self.known[digest] = OpenedWebhook(webhook, self.environment, (SECRET,))

    async def by_digest(self, digest: str) -> OpenedWebhook | None:
        return self.known.get(digest)

    async def keep(self, letter: DeadLetter) -> None:
        if self.away:
            raise StoreUnavailableError("away")
        self.letters.append(letter)


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    world = World(store, GatewaySettings())
    yield world
    await world.close()


@pytest.fixture
def hooks(world: World) -> Hooks:
    return Hooks(world)


@pytest.fixture
async def http(world: World, hooks: Hooks, sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    route = WebhooksRoute(world.app.core, hooks, hooks, sandbox)
    transport = httpx.ASGITransport(app=route, client=("203.0.113.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def stored(world: World) -> list[dict[str, Any]]:
    """The events that wait to be routed."""
    peeked = await world.store.peek(64)
    return [] if peeked is None else [orjson.loads(event.body) for event in peeked.events]


async def test_a_request_of_a_provider_is_stored_as_an_event(
    world: World, hooks: Hooks, http: httpx.AsyncClient
) -> None:
    source = (
        "function transform(evt, h) { return {id: evt.id, name: `github.${h['X-GitHub-Event']}`, data: evt} }"
    )
    hooks.add("token", source, proof=GITHUB)
    body = b'{ "id": "one" }'
    signature = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": signature, "x-github-event": "push"}
    reply = await http.post("/w/token", content=body, headers=headers)
    assert reply.status_code == 200
    (event,) = await stored(world)
    assert (event["name"], event["id"], event["data"]) == ("github.push", "one", {"id": "one"})
    assert reply.json()["status"] == 200
    assert len(reply.json()["ids"]) == 1


@pytest.mark.parametrize(
    ("query", "headers", "env"),
    [
        ("", {}, "shop"),
        ("?x-inngest-env=feature%2Fa", {}, "shop~feature%2Fa"),
        ("?x-inngest-env=feature%2Fa", {"x-inngest-env": "b"}, "shop~b"),
    ],
)
async def test_a_request_may_choose_a_branch(
    world: World, hooks: Hooks, http: httpx.AsyncClient, query: str, headers: dict[str, str], env: str
) -> None:
    hooks.environment = Environment(name="shop")
    hooks.add("token", "function transform() { return {name: 'a'} }")
    assert (await http.post(f"/w/token{query}", content=b"{}", headers=headers)).status_code == 200
    peeked = await world.store.peek(64)
    assert peeked is not None
    assert peeked.env == env
    hooks.add("token", "throw 1")
    assert (await http.post(f"/w/token{query}", content=b"{}", headers=headers)).status_code == 202
    assert hooks.letters[0].env == env


async def test_what_is_not_proved_is_refused_and_stored_nowhere(
    world: World, hooks: Hooks, http: httpx.AsyncClient
) -> None:
    hooks.add("token", "function transform() { return {name: 'a'} }", proof=GITHUB)
    reply = await http.post("/w/token", content=b"{}", headers={"x-hub-signature-256": "sha256=" + "0" * 64})
    assert reply.status_code == 401
    assert reply.json() == {
        "error": "the signature in x-hub-signature-256 is not that of this body",
        "status": 401,
    }
    assert await stored(world) == []
    assert hooks.letters == []


async def test_a_request_whose_transform_fails_is_kept(
    world: World, hooks: Hooks, http: httpx.AsyncClient
) -> None:
    hooks.add("token", "function transform(evt) { throw new Error('saw ' + evt.card) }")
    reply = await http.post("/w/token", content=b'{"card":"4242"}')
    assert reply.status_code == 202
    assert "4242" not in reply.text
    (letter,) = hooks.letters
    assert (letter.webhook, letter.code, letter.body) == ("prod/token", "threw", b'{"card":"4242"}')
    assert await stored(world) == []


async def test_a_request_that_cannot_be_kept_shall_come_again(hooks: Hooks, http: httpx.AsyncClient) -> None:
    hooks.add("token", "throw 1")
    hooks.away = True
    reply = await http.post("/w/token", content=b"{}")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert "Redis cannot be reached; send the request again" in reply.json()["error"]


async def test_a_busy_sandbox_asks_for_patience(
    hooks: Hooks, http: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    hooks.add("token", "throw 1")
    await sandbox.close()
    reply = await http.post("/w/token", content=b"{}")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert hooks.letters == []


async def test_a_transform_that_wants_no_event_is_content(
    world: World, hooks: Hooks, http: httpx.AsyncClient
) -> None:
    hooks.add("token", "function transform() {}")
    reply = await http.post("/w/token", content=b"{}")
    assert (reply.status_code, reply.json()) == (200, {"ids": [], "status": 200})
    assert await stored(world) == []


async def test_slack_is_answered_in_plain_text(hooks: Hooks, http: httpx.AsyncClient, world: World) -> None:
    hooks.add("token", "throw 1", proof=Proof(kind="slack", secrets=(b"sealed",)))
    body, at_s = b'{"type":"url_verification","challenge":"abc"}', world.clock.now_ms() // 1000
    signature = hmac.new(SECRET, f"v0:{at_s}:".encode() + body, hashlib.sha256).hexdigest()
    headers = {"x-slack-request-timestamp": str(at_s), "x-slack-signature": f"v0={signature}"}
    reply = await http.post("/w/token", content=body, headers=headers)
    assert (reply.status_code, reply.text) == (200, "abc")
    assert reply.headers["content-type"].startswith("text/plain")


async def test_networks_and_proxies_count(hooks: Hooks, http: httpx.AsyncClient) -> None:
    hooks.add("near", "function transform() {}", cidrs=("203.0.113.0/24",))
    hooks.add("far", "function transform() {}", cidrs=("192.0.2.0/24",))
    forged = {"x-forwarded-for": "192.0.2.1"}
    assert (await http.post("/w/near", content=b"{}")).status_code == 200
    assert (await http.post("/w/far", content=b"{}", headers=forged)).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/w/unknown", b"{}", 404),
        ("POST", "/w/", b"{}", 404),
        ("POST", "/w/token/", b"{}", 404),
        ("GET", "/w/token", b"", 405),
        ("POST", "/w/token", b"{no", 400),
        ("POST", "/w/token", b'"' + b"x" * 2**22 + b'"', 413),
    ],
    ids=["unknown", "no token", "more than the token", "GET", "no JSON", "too large"],
)
async def test_what_is_wrong_is_told(
    hooks: Hooks, http: httpx.AsyncClient, method: str, path: str, body: bytes, status: int
) -> None:
    hooks.add("token", "function transform() { return {name: 'a'} }")
    reply = await http.request(method, path, content=body)
    assert reply.status_code == status
    assert reply.json()["status"] == status
    assert reply.json()["error"]
