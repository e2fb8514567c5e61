"""Dead letters over HTTP."""

from collections.abc import AsyncIterator

import msgspec
import orjson
import pytest
from structlog.testing import capture_logs

from innkeeper_engine.environments import Environments
from innkeeper_engine.model.environments import Policy, key_digest
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.letters import LetterStore
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import SIGNING_KEY
from tests.gateway.webhooks.conftest import limits
from tests.gateway.world import World

BEARER = {"authorization": f"Bearer {SIGNING_KEY}"}
BROKEN = "function transform(evt) {\n  throw new Error('saw ' + evt.card)\n}"
MENDED = "function transform(evt) { return {name: 'card/came', data: evt} }"


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    """A gateway with keys, and a webhook whose transform throws."""
    settings = GatewaySettings(signing_key=SIGNING_KEY, sandbox=limits(cpu_ms=1_000), store_timeout_s=60)
    world = World(store, settings)
    world.http.headers.update(BEARER)
    await write(store, BROKEN)
    yield world
    await world.close()


async def write(store: Store, transform: str) -> None:
    hook = Webhook(name="shop/hook", env="default", digest=key_digest("token"), transform=transform)
    await WebhookStore(store).write(hook)


async def fail(world: World, body: bytes = b'{"card":"4242"}') -> None:
    assert (await world.http.post("/w/token?a=b", content=body)).status_code == 202


async def only(world: World) -> str:
    """The id of the one letter."""
    (letter,) = (await world.http.get("/v1/deadletters")).json()["data"]
    return str(letter["id"])


async def events(world: World) -> list[tuple[str, int]]:
    peeked = await world.store.peek(64)
    bodies = [] if peeked is None else [orjson.loads(event.body) for event in peeked.events]
    return [(body["name"], body["ts"]) for body in bodies]


async def test_letters_are_listed_newest_first_and_read_one_by_one(world: World) -> None:
    for number in range(3):
        await fail(world, orjson.dumps({"card": str(number)}))
    first = (await world.http.get("/v1/deadletters", params={"limit": 2})).json()
    cursor = first["page"]["cursor"]
    last = (await world.http.get("/v1/deadletters", params={"limit": 2, "cursor": cursor})).json()
    found = [*first["data"], *last["data"]]
    assert [each["id"] for each in found] == sorted((each["id"] for each in found), reverse=True)
    assert (len(found), last["page"]) == (
        3,
        {"cursor": None, "has_more": False, "limit": 2, "dropped": 0},
    )
    assert found[0]["failure"] == {"code": "threw", "line": 2, "column": 28}
    assert "saw" not in orjson.dumps(first).decode()
    letter = (await world.http.get(f"/v1/deadletters/{found[0]['id']}")).json()["data"]
    request = letter["request"]
    assert f"saw {orjson.loads(request['body'])['card']}" in letter["failure"]["message"]
    assert request["query"] == "a=b"
    assert ["host", "gateway"] in request["headers"]


async def test_who_may_not_see_payloads_sees_what_failed_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fail(world)

    async def may_not(*_: object) -> bool:
        return False

    monkeypatch.setattr(world.app.core.access, "may", may_not)
    monkeypatch.setattr(world.app.core.access, "require", may_not)
    letter = await world.http.get(f"/v1/deadletters/{await only(world)}")
    assert (letter.status_code, letter.json()["data"]["request"]) == (200, None)
    assert "4242" not in letter.text


async def test_a_body_that_is_no_text_comes_as_base64(world: World) -> None:
    reply = await world.http.post(
        "/w/token", content=b"\xff\xfe", headers={"content-type": "application/octet-stream"}
    )
    assert reply.status_code == 202
    letter = (await world.http.get(f"/v1/deadletters/{await only(world)}")).json()["data"]
    assert letter["request"]["body"] == {"base64": "//4="}


async def test_a_replay_runs_the_mended_transform_and_the_letter_goes(world: World, store: Store) -> None:
    await fail(world)
    letter_id = await only(world)
    received_ms = (await LetterStore(store).letters("default", 1)).letters[0].received_ms
    await write(store, MENDED)
    reply = await world.http.post(f"/v1/deadletters/{letter_id}/replay")
    assert reply.status_code == 200
    assert len(reply.json()["data"]["ids"]) == 1
    assert await events(world) == [("card/came", received_ms)]
    assert (await world.http.post(f"/v1/deadletters/{letter_id}/replay")).status_code == 404


async def test_a_replay_whose_answer_was_lost_stores_its_events_once(
    world: World, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the gateway died between storing the events and dropping the letter."""
    await fail(world)
    letter_id = await only(world)
    await write(store, MENDED)

    async def lost(*_: object) -> bool:
        raise TimeoutError

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(LetterStore, "drop_letter", lost)
        assert (await world.http.post(f"/v1/deadletters/{letter_id}/replay")).status_code == 503
    (change,) = [line for line in logs if line["event"] == "change"]
    assert (change["action"], change["letter"], change["events"]) == ("replay dead letter", letter_id, 1)
    assert (await world.http.post(f"/v1/deadletters/{letter_id}/replay")).status_code == 200
    assert len(await events(world)) == 1


async def test_a_replay_that_fails_keeps_the_letter_with_the_new_failure(world: World, store: Store) -> None:
    await fail(world)
    letter_id = await only(world)
    await write(store, "function transform() { return {data: 1} }")
    with capture_logs() as logs:
        reply = await world.http.post(f"/v1/deadletters/{letter_id}/replay")
    assert (reply.status_code, reply.json()["data"]["code"]) == (422, "event")
    (change,) = [line for line in logs if line["event"] == "change"]
    assert (change["action"], change["failed"]) == ("replay dead letter", "event")
    assert "the letter is kept" in reply.json()["error"]
    assert await only(world) == letter_id
    assert await events(world) == []


async def test_a_letter_whose_webhook_is_gone_stays(world: World, store: Store) -> None:
    await fail(world)
    letter_id = await only(world)
    await WebhookStore(store).remove("default", "shop/hook")
    reply = await world.http.post(f"/v1/deadletters/{letter_id}/replay")
    assert (reply.status_code, await only(world)) == (409, letter_id)


async def test_a_letter_can_be_thrown_away(world: World) -> None:
    await fail(world)
    letter_id = await only(world)
    with capture_logs() as logs:
        assert (await world.http.delete(f"/v1/deadletters/{letter_id}")).status_code == 200
        assert (await world.http.delete(f"/v1/deadletters/{letter_id}")).status_code == 404
    (change,) = [line for line in logs if line["event"] == "change"]
    assert (change["action"], change["letter"], change["webhook"]) == (
        "delete dead letter",
        letter_id,
        "shop/hook",
    )
    assert (await world.http.get("/v1/deadletters")).json()["data"] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/deadletters?cursor=x", 400),
        ("GET", "/v1/deadletters?limit=0", 400),
        ("GET", "/v1/deadletters/x", 400),
        ("GET", "/v1/deadletters/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404),
    ],
)
async def test_what_is_wrong_is_told(world: World, method: str, path: str, status: int) -> None:
    reply = await world.http.request(method, path)
    assert (reply.status_code, reply.json()["status"]) == (status, status)


async def test_nobody_gets_in_without_a_key(world: World) -> None:
    await fail(world)
    letter_id = await only(world)
    for method, path in (
        ("GET", ""),
        ("GET", f"/{letter_id}"),
        ("POST", f"/{letter_id}/replay"),
        ("DELETE", f"/{letter_id}"),
    ):
        reply = await world.http.request(method, f"/v1/deadletters{path}", headers={"authorization": ""})
        assert reply.status_code == 401


async def test_letters_are_kept_as_long_as_their_environment_says(world: World) -> None:
    """By default as long as the settings say."""
    await fail(world)
    key = world.store.key(f"dl:default:{await only(world)}")
    assert world.store.settings.letters_keep_s - 60 < await world.store.command("TTL", key)
    granted = msgspec.structs.replace(world.app.core.own, policy=Policy(letters_keep_s=7_200))
    world.app.core.environments = Environments(fixed=[granted])
    await world.http.delete(f"/v1/deadletters/{await only(world)}")
    await fail(world)
    key = world.store.key(f"dl:default:{await only(world)}")
    assert 7_100 < await world.store.command("TTL", key) <= 7_200
    assert world.app.core.letters_keep_s("default~branch") == 7_200
