"""Nothing that a request leaves behind waits for Python's collector, which looks seldom: bodies would pile up."""

import asyncio
import gzip
from pathlib import Path

import pytest
import structlog

from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.connection import StoreError
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_gateway.access.reviews import ApiServer, ReviewError
from innkeeper_gateway.server import GatewayServer
from innkeeper_gateway.settings import GatewaySettings
from tests.garbage import LARGE_BYTES, nothing_left_behind
from tests.gateway.conftest import MakeWorld, reviews_of
from tests.gateway.tenants import environment, event_key, signing_key

TOKEN = "t" * 40
EVENTS = f"/e/{event_key('prod')}"
EVENT = "/v1/events/01M81CTARKW5SKMYZB787D66VA"
CHECKPOINT = "/v1/checkpoint/01M81CTARKW5SKMYZB787D66VA/async"
SIGNED = f"authorization: Bearer {signing_key('prod')}"
LARGE = b'{"data":{"a":"%b"}}' % (b"x" * 20 * LARGE_BYTES)
BOMB = gzip.compress(b" " * (10 * 2**20 + 1))


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """A request as it goes over the wire, the only one on its connection."""
    lines = (f"{method} {path} HTTP/1.1", "host: x", "connection: close", f"content-length: {len(body)}")
    return "\r\n".join((*lines, *headers, "", "")).encode() + body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(request("POST", EVENTS, b'{"name":"a"}'), 200, id="event"),
        pytest.param(request("POST", "/e/wrong", b"{}"), 401, id="key"),
        pytest.param(request("POST", EVENTS, b'{"name'), 400, id="json"),
        pytest.param(request("POST", EVENTS, BOMB, "content-encoding: gzip"), 413, id="bomb"),
        pytest.param(
            request("POST", EVENTS, b'{"name":"a","data":{"a":"' + b"x" * 3_500_000 + b'"}}'), 400, id="large"
        ),
        pytest.param(request("POST", f"/w/{TOKEN}", b'{"name":"a"}'), 200, id="webhook"),
        pytest.param(request("POST", f"/w/{TOKEN}", b"{}"), 202, id="dead letter"),
        pytest.param(request("GET", "/v1/runs"), 401, id="api"),
        pytest.param(request("POST", CHECKPOINT, LARGE, SIGNED), 400, id="checkpoint"),
        pytest.param(request("POST", CHECKPOINT, LARGE), 401, id="checkpoint of a stranger"),
        pytest.param(request("POST", "/invoke/app-fn", LARGE, SIGNED), 404, id="invoke"),
        pytest.param(request("POST", "/fn/register", LARGE, SIGNED), 400, id="register"),
    ],
)
async def test_requests_leave_nothing_that_holds_itself(
    make_world: MakeWorld, store: Store, sent: bytes, status: int
) -> None:
    await EnvironmentStore(store).write(environment("prod"))
    script = "function transform(evt) { if (!evt.name) throw new Error('no name'); return evt }"
    await WebhookStore(store).write(Webhook(name="w", env="prod", digest=key_digest(TOKEN), transform=script))
    world = await make_world(GatewaySettings(managed=True, refusals_per_s=0, events_per_s=0))
    server = GatewayServer(world.app, host="127.0.0.1", port=0)
    await server.start()
    try:
        await answers(server.port, sent, 2)
        with nothing_left_behind():
            assert await answers(server.port, sent, 5) == {status}
    finally:
        await server.stop(grace_s=1)


async def test_people_who_cannot_be_asked_about_leave_nothing_that_holds_itself(tmp_path: Path) -> None:
    """Whoever waits for an answer is held by the error that comes in its place, and with him what his request brought."""
    (tmp_path / "token").write_text("t")
    reviews = reviews_of(ApiServer(url="http://127.0.0.1:1", token_file=tmp_path / "token"))

    async def ask(token: str) -> str:
        try:
            await reviews.who(token)
        except ReviewError as error:
            return str(error)
        return "known"

    await ask("warm")
    with nothing_left_behind():
        for token in ("ann", "bob", "eve"):
            assert "could not be asked" in await ask(token)
    await reviews.close()


async def test_errors_of_the_store_that_are_bugs_leave_nothing_that_holds_itself(
    make_world: MakeWorld, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_args: object, **_options: object) -> None:
        raise StoreError("ERR no such thing")

    await EnvironmentStore(store).write(environment("prod"))
    world = await make_world(GatewaySettings(managed=True))
    monkeypatch.setattr(type(world.store), "event", refused)
    server = GatewayServer(world.app, host="127.0.0.1", port=0)
    await server.start()
    asked = request("GET", EVENT, b"", f"authorization: Bearer {signing_key('prod')}")
    try:
        with structlog.testing.capture_logs():
            await answers(server.port, asked, 2)
            with nothing_left_behind():
                assert await answers(server.port, asked, 3) == {500}
    finally:
        await server.stop(grace_s=1)


async def answers(port: int, sent: bytes, times: int) -> set[int]:
    """Send it so often, and collect the statuses."""
    found = set()
    for _ in range(times):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        answer = await reader.read()
        found.add(int(answer.split()[1]))
        writer.close()
        await writer.wait_closed()
    return found
