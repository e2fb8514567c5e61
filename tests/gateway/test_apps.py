"""Apps register their functions, and functions are invoked."""

import uuid
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from innkeeper_engine.model.functions import Throttle
from innkeeper_gateway.refusals import MOST_KNOWN, Refusals
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import SIGNING_KEY, MakeWorld
from tests.gateway.world import APP_URL, World, function, registration


async def test_an_app_registers_and_registers_again(world: World) -> None:
    first = (await world.register(function("app-fn"))).json()
    assert (first["ok"], first["modified"]) == (True, True)
    assert uuid.UUID(first["sync_id"]).version == 5
    assert "warnings" not in first
    again = (await world.register(function("app-fn"))).json()
    assert again == {**first, "modified": False}
    other = (await world.register(function("app-fn"), function("app-two"))).json()
    assert (other["modified"], other["app_id"]) == (True, first["app_id"])
    assert other["sync_id"] != first["sync_id"]
    registry = await world.registries.current("default")
    assert sorted(registry.functions) == ["app-fn", "app-two"]


async def test_a_later_sync_takes_functions_away(world: World) -> None:
    await world.register(function("app-a"), function("app-b"))
    await world.register(function("app-b"))
    assert list((await world.registries.current("default")).functions) == ["app-b"]
    assert (await world.register()).json()["ok"] is True
    assert (await world.registries.current("default")).functions == {}


async def test_the_python_sdks_spelling_is_read(world: World) -> None:
    body = registration(function("app-fn"), sdk="py:v0.5.19", appname="app", deploy_type="ping")
    del body["appName"], body["deployType"]
    reply = await world.http.post("/fn/register?deployId=abc", json=body)
    assert (reply.status_code, reply.json()["modified"]) == (200, True)
    assert (await world.registries.current("default")).apps["app"].sdk_language == "py"


async def test_what_is_declared_and_not_enforced_is_told(world: World) -> None:
    reply = await world.register(function("app-fn", concurrency={"fn": [{"limit": 1}]}))
    (warning,) = reply.json()["warnings"]
    assert warning["function"] == "app-fn"
    assert warning["field"] == "concurrency.fn"
    assert "concurrency.fn" in (await world.http.get("/dev")).text


async def test_an_option_is_registered_without_a_word(world: World) -> None:
    reply = await world.register(function("app-fn", throttle={"limit": 1, "period": "1s"}))
    assert "warnings" not in reply.json()
    throttle = (await world.registries.current("default")).functions["app-fn"].config.throttle
    assert throttle == Throttle(limit=1, period_ms=1000)


async def test_a_bad_registration_is_refused_with_every_problem(world: World) -> None:
    await world.register(function("app-old"))
    bad = registration(
        function("app-a", triggers=[{"event": "x", "cron": "* * * * *"}]),
        function("app-b", retries=1, cancel=[{"event": "x", "if": "((("}]),
    )
    reply = await world.http.post("/fn/register", json=bad)
    assert reply.status_code == 400
    body = reply.json()
    assert body["error"].startswith("At least one function is invalid")
    assert {problem["function"] for problem in body["problems"]} == {"app-a", "app-b"}
    assert all(problem["field"] and problem["message"] for problem in body["problems"])
    assert list((await world.registries.current("default")).functions) == ["app-old"]


async def refused(world: World, *functions: dict[str, Any], **fields: Any) -> list[str]:
    """Levels at which the log tells of a registration that is refused."""
    with capture_logs() as logs:
        reply = await world.http.post("/fn/register", json=registration(*functions, **fields))
    assert reply.status_code == 400
    return [line["log_level"] for line in logs if line["event"] == "refused a registration"]


async def test_a_refusal_is_told_once_until_it_is_another_one(world: World) -> None:
    """Apps that are refused ask again every few seconds."""
    bad = function("app-a", retries=-1)
    assert await refused(world, bad) == ["warning"]
    assert await refused(world, bad) == ["debug"]
    assert await refused(world, function("other-a", retries=-1), appName="other") == ["warning"]
    assert await refused(world, bad) == ["debug"]
    assert await refused(world, bad, function("app-b", retries=-1)) == ["warning"]
    assert await refused(world, bad) == ["warning"]
    await world.register(function("app-a"))
    assert await refused(world, bad) == ["warning"]


async def test_refusals_of_apps_without_an_id_are_told_apart_by_their_urls(world: World) -> None:
    """And by where they come from, where they have none."""
    for url in ("http://127.0.0.1:1/a", "http://127.0.0.1:1/b", ""):
        assert await refused(world, appName="", url=url) == ["warning"]
        assert await refused(world, appName="", url=url) == ["debug"]


async def test_the_same_slug_of_another_app_is_told_once(world: World) -> None:
    await world.register(function("a-b-c"), appName="a-b")
    assert await refused(world, function("a-b-c"), appName="a") == ["warning"]
    assert await refused(world, function("a-b-c"), appName="a") == ["debug"]


def test_the_memory_of_refusals_is_bounded() -> None:
    refusals = Refusals()
    for n in range(MOST_KNOWN + 1):
        assert refusals.is_news("default", f"app-{n}", "no")
    assert not refusals.is_news("default", f"app-{MOST_KNOWN}", "no")
    assert not refusals.is_news("default", "app-1", "no")
    assert refusals.is_news("default", "app-0", "no"), "the oldest was forgotten"


async def test_a_slug_that_another_app_has_is_refused(world: World) -> None:
    """App `a-b` with function `c` and app `a` with function `b-c`: calls of one would go to the other."""
    await world.register(function("a-b-c"), appName="a-b")
    body = registration(function("a-b-c"), function("a-d"), appName="a")
    reply = await world.http.post("/fn/register", json=body)
    assert reply.status_code == 400
    (problem,) = reply.json()["problems"]
    assert (problem["function"], problem["field"]) == ("a-b-c", "id")
    assert "the app 'a-b'" in problem["message"]
    assert list((await world.registries.current("default")).apps) == ["a-b"]
    await world.register(appName="a-b")
    await world.register(function("a-b-c"), appName="a")


async def test_a_limit_beyond_all_numbers_is_refused(world: World) -> None:
    body = registration(function("app-fn", concurrency=2**53))
    reply = await world.http.post("/fn/register", json=body)
    assert reply.status_code == 400
    assert "too large" in reply.json()["problems"][0]["message"]


async def test_the_functions_of_an_app_with_a_slash_in_its_id(world: World) -> None:
    await world.register(function("team/shop-fn"), appName="team/shop")
    reply = await world.http.get("/v1/apps/team%2Fshop/functions")
    assert [found["id"] for found in reply.json()] == ["team/shop-fn"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{bad", "Invalid request"),
        (b"", "Invalid request"),
        (b"[]", "Invalid request"),
        (orjson.dumps(registration(appName="")), "App ID required"),
    ],
)
async def test_what_is_no_registration_is_refused(world: World, body: bytes, error: str) -> None:
    reply = await world.http.post("/fn/register", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(error)
    assert (reply.json()["data"], reply.json()["status"]) == (None, 400)


async def test_an_app_that_was_told_of_another_kind_of_server_is_refused(
    world: World, production: World
) -> None:
    headers = {"authorization": f"Bearer {SIGNING_KEY}"}
    for gateway, ours, theirs in ((world, "dev", "cloud"), (production, "cloud", "dev")):
        told = {**headers, "x-inngest-expected-server-kind": theirs}
        reply = await gateway.http.post("/fn/register", json=registration(), headers=told)
        assert reply.status_code == 400
        assert reply.json()["error"] == f"Expected server kind {theirs}, got {ours}"
        right = {**headers, "x-inngest-expected-server-kind": ours}
        assert (
            await gateway.http.post("/fn/register", json=registration(), headers=right)
        ).status_code == 200


async def test_who_may_register_is_a_matter_of_policy(make_world: MakeWorld) -> None:
    always = await make_world(GatewaySettings(dev=True))
    existing = await make_world(GatewaySettings(dev=True, auto_register="Existing"))
    never = await make_world(GatewaySettings(dev=True, auto_register="Never"))
    body = registration(function("app-fn"))
    for world in (existing, never):
        reply = await world.http.post("/fn/register", json=body)
        assert reply.status_code == 403
        assert "autoRegister is" in reply.json()["error"]
    await always.register(function("app-fn"))
    assert (await existing.http.post("/fn/register", json=body)).status_code == 200
    assert (await never.http.post("/fn/register", json=body)).status_code == 403


async def events(world: World) -> list[dict[str, Any]]:
    peeked = await world.store.peek(100)
    return [] if peeked is None else [orjson.loads(event.body) for event in peeked.events]


@pytest.mark.parametrize("slug", ["app-fn", "app-a/b c", "app-ü"])
async def test_a_function_is_invoked_by_an_event_of_its_own(world: World, slug: str) -> None:
    await world.register(function(slug))
    body = {"data": {"n": 1, "_inngest": {"fn_id": "another"}}, "user": {"a": 1}, "ts": 1_700_000_000_000}
    with capture_logs() as logs:
        reply = await world.http.post(f"/invoke/{slug}", json=body)
    assert reply.status_code == 200
    event_id = reply.json()["id"]
    (change,) = [line for line in logs if line["event"] == "change"]
    assert (change["action"], change["function"], change["event_id"]) == ("invoke", slug, event_id)
    assert reply.json() == {"id": event_id, "status": 200}
    assert await events(world) == [
        {
            "name": "inngest/function.invoked",
            "id": event_id,
            "data": {"n": 1, "_inngest": {"fn_id": slug}},
            "user": {"a": 1},
            "ts": 1_700_000_000_000,
        }
    ]


async def test_an_invocation_needs_no_data(world: World) -> None:
    await world.register(function("app-fn"))
    for content in (b"{}", b"null", b""):
        assert (await world.http.post("/invoke/app-fn", content=content)).status_code == 200
    assert [event["data"] for event in await events(world)] == [{"_inngest": {"fn_id": "app-fn"}}] * 3


async def test_what_cannot_be_invoked_is_refused(world: World) -> None:
    await world.register(function("app-fn"))
    unknown = await world.http.post("/invoke/app-nope", json={})
    assert unknown.status_code == 404
    assert "'app-nope'" in unknown.json()["error"]
    for content, message in (
        (b"{bad", "Unable to read post data request"),
        (b"[]", "Unable to read post data request"),
        (b'{"data":1}', "event data is a number: it must be an object"),
    ):
        reply = await world.http.post("/invoke/app-fn", content=content)
        assert reply.status_code == 400
        assert reply.json()["error"].startswith(message)
    big = await world.http.post("/invoke/app-fn", json={"data": {"x": "y" * 600_000}})
    assert big.status_code == 413
    assert await events(world) == []


async def test_dev_info_lists_apps_and_functions(world: World) -> None:
    assert (await world.http.get("/dev")).json()["functions"] == []
    await world.register(function("app-fn"))
    info = (await world.http.get("/dev")).json()
    assert [(f["slug"], f["triggers"]) for f in info["functions"]] == [
        ("app-fn", [{"event": "test/go", "expression": None}])
    ]
    (handler,) = info["handlers"]
    assert (handler["app"], handler["url"], handler["functions"]) == ("app", APP_URL, ["app-fn"])
    assert handler["sdk"] == {"language": "js", "version": "4.24.0", "framework": "express"}


async def test_dev_info_and_documentation_are_for_dev_mode(world: World, production: World) -> None:
    for path in ("/dev", "/docs"):
        assert (await world.http.get(path)).status_code == 200
        assert (await production.http.get(path)).status_code == 404
