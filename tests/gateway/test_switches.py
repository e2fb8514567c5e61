"""Pausing, resuming and asking again over the API: what is replied, who hears of it, what a resume does not lift."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from innkeeper_apps.egress import EgressPolicy, Resolver
from innkeeper_apps.sync import Syncer
from innkeeper_apps.transport import Transport
from innkeeper_engine.metrics import SYNC_OUTCOMES
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.model.functions import App
from innkeeper_engine.registering import register_app
from innkeeper_engine.registry import read_apps
from innkeeper_engine.store.asks import Asks
from innkeeper_engine.store.store import Store
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import PRODUCTION, SIGNING_KEY, MakeWorld
from tests.gateway.tenants import Tenant
from tests.gateway.world import World, function
from tests.operator.house import ScriptedApp

FUNCTION, APP = "/v1/functions/app-f", "/v1/apps/app"


@pytest.fixture
async def tenant(make_world: MakeWorld) -> AsyncIterator[Tenant]:
    """An environment of a managed gateway, with one app of two functions."""
    made = Tenant(await make_world(GatewaySettings(managed=True)), "prod")
    await made.put(apps=("app", "late"))
    await made.register(function("app-f"), function("app-g"))
    yield made
    await made.close()


async def data(world: World, path: str, **body: Any) -> dict[str, Any]:
    """What a request that is granted replies."""
    reply = await world.http.post(path, json=body or None)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()["data"]
    return answer


async def status(world: World, run: str) -> str:
    """What has become of a run."""
    found = await world.store.run(run)
    assert found is not None
    return found.status


async def spec(world: World, **changes: Any) -> None:
    """What an operator does when the spec of the app's one function changes."""
    (app,) = (await read_apps(world.store, "default")).values()
    (config,) = app.functions
    changed = msgspec.structs.replace(
        app, functions=(msgspec.structs.replace(config, **changes),), checksum=str(changes)
    )
    await register_app(world.store, "default", changed, now_ms=1)


async def test_events_of_a_function_that_is_switched_off_are_recorded_until_it_is_resumed(
    world: World,
) -> None:
    await world.register(function("app-f"))
    paused = await data(world, f"{FUNCTION}/pause", reason="it spams")
    assert (paused["id"], paused["app_id"], paused["app_paused"]) == ("app-f", "app", None)
    assert paused["paused"].pop("since").endswith("Z")
    assert paused["paused"] == {
        "by": "switch",
        "who": "dev",
        "reason": "it spams",
        "new_runs": "Skip",
        "running": "Continue",
    }
    run = await world.decided()
    assert await status(world, run) == "Skipped"
    assert (await world.http.post(f"/v1/runs/{run}/rerun")).status_code == 409
    (listed,) = (await world.http.get("/v1/apps/app/functions")).json()
    assert (listed["paused"]["by"], listed["app_paused"]) == ("switch", None)
    assert (await data(world, f"{FUNCTION}/resume"))["paused"] is None
    run = await world.decided()
    assert await status(world, run) == "Scheduled"


async def test_a_function_may_queue_and_hold_while_it_is_switched_off(world: World) -> None:
    await world.register(function("app-f"))
    await data(world, f"{FUNCTION}/pause", new_runs="Queue", running="Hold")
    run = await world.decided()
    assert await status(world, run) == "Scheduled"
    assert (await world.store.due(executor="x", tokens=["t"])).leases == []
    await data(world, f"{FUNCTION}/resume")
    assert (await world.lease()).run == run


async def test_a_second_pause_changes_what_it_says_and_uuids_name_functions(world: World) -> None:
    await world.register(function("app-f"))
    uuid = (await world.http.get("/v1/functions/app-f")).json()["data"]["internal_id"]
    first = await data(world, f"{FUNCTION}/pause", reason="it spams")
    second = (await data(world, f"/v1/functions/{uuid.upper()}/pause", new_runs="Queue"))["paused"]
    assert second == first["paused"] | {"new_runs": "Queue"}
    assert await status(world, await world.decided()) == "Scheduled"
    assert (await data(world, f"/v1/functions/{uuid}/resume"))["paused"] is None


async def test_nobody_calls_an_app_that_is_switched_off(world: World) -> None:
    await world.register(function("app-f"))
    paused = await data(world, f"{APP}/pause")
    assert (paused["id"], paused["paused"]["by"]) == ("app", "switch")
    run = await world.decided()
    assert (await world.store.due(executor="x", tokens=["t"])).leases == []
    (listed,) = (await world.http.get("/v1/apps/app/functions")).json()
    assert (listed["paused"], listed["app_paused"]["by"]) == (None, "switch")
    refused = await world.http.post(f"{APP}/sync")
    assert (refused.status_code, "resume it first" in refused.json()["error"]) == (409, True)
    await data(world, f"{APP}/resume")
    assert (await world.lease()).run == run


async def test_a_pause_stays_when_the_app_registers_again(world: World) -> None:
    await world.register(function("app-f"))
    await data(world, f"{FUNCTION}/pause")
    await world.register(function("app-f", name="Other"))
    run = await world.decided()
    assert await status(world, run) == "Skipped"


async def test_a_resume_does_not_lift_what_the_spec_says(world: World) -> None:
    await world.register(function("app-f"))
    await spec(world, paused=True, paused_by="kubectl", object_name="my-f")
    refused = await world.http.post(f"{FUNCTION}/resume")
    assert refused.status_code == 409
    assert "Function my-f: set spec.paused to false" in refused.json()["error"]
    assert (await data(world, f"{FUNCTION}/pause"))["paused"]["by"] == "both"
    still = (await data(world, f"{FUNCTION}/resume"))["paused"]
    assert still == {
        "by": "spec",
        "who": "kubectl",
        "since": None,
        "new_runs": "Skip",
        "running": "Continue",
    }
    await spec(world, paused=False)
    assert (await data(world, f"{FUNCTION}/resume"))["paused"] is None


async def test_a_paused_spec_of_an_app_stays(world: World) -> None:
    app = App(id="app", url="http://app/", checksum="1", paused=True, object_name="shop")
    await register_app(world.store, "default", app, now_ms=1)
    refused = await world.http.post(f"{APP}/resume")
    assert (refused.status_code, "InngestApp shop" in refused.json()["error"]) == (409, True)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/functions/app-x/pause", {}, 404, "'app-x'"),
        ("/v1/functions/app-x/resume", {}, 404, "'app-x'"),
        ("/v1/apps/other/pause", {}, 404, "'other'"),
        ("/v1/apps/other/resume", {}, 404, "'other'"),
        ("/v1/apps/other/sync", {}, 404, "'other'"),
        (f"{FUNCTION}/pause", [], 400, "write an object"),
        (f"{FUNCTION}/pause", {"new_runs": "Drop"}, 400, "new_runs: must be Skip or Queue"),
        (f"{FUNCTION}/pause", {"reason": 1, "until": "x"}, 400, "until: there is no such field"),
        (f"{FUNCTION}/pause", {"reason": "x" * 501}, 400, "500 is the most"),
        (f"{APP}/pause", {"running": "Hold"}, 400, "running: there is no such field; there are reason"),
        (f"{FUNCTION}/resume", {"reason": "x"}, 400, "send no body"),
        (f"{APP}/sync", {"url": "http://elsewhere/"}, 400, "send no body"),
        (f"{APP}/sync", {}, 501, "innkeeper sync"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_reason(
    world: World, path: str, body: Any, status: int, said: str
) -> None:
    await world.register(function("app-f"))
    reply = await world.http.post(path, json=body)
    assert reply.status_code == status
    assert said in reply.json()["error"]


async def test_an_operator_hears_of_each_switch_and_of_wishes_to_ask_an_app(tenant: Tenant) -> None:
    asks = Asks(tenant.world.store)

    async def told() -> list[tuple[str, str, str]]:
        left = await asks.left()
        for each in left:
            assert await asks.done(each)
        return [(each.what, each.env, each.app_id) for each in left]

    for path in (f"{FUNCTION}/pause", f"{FUNCTION}/resume", f"{APP}/pause", f"{APP}/resume"):
        assert (await tenant.http.post(path)).status_code == 200
        assert await told() == [("look", "prod", "app")]
        assert (await tenant.http.post(path)).status_code == 200
        assert await told() == [], "nothing has changed"
    for app_id in ("app", "late"):
        asked = await tenant.http.post(f"/v1/apps/{app_id}/sync")
        assert (asked.status_code, asked.json()["data"]) == (202, {"id": app_id, "sync": "Requested"})
        assert await told() == [("sync", "prod", app_id)]


async def test_changes_are_audited_and_what_changed_nothing_is_not(tenant: Tenant) -> None:
    with capture_logs() as logs:
        for path in ("functions/app-f/pause", "functions/app-f/resume", "apps/app/pause", "apps/app/resume"):
            for _ in range(2):
                await tenant.http.post(f"/v1/{path}")
        await tenant.http.post("/v1/apps/app/sync")
    lines = [each for each in logs if each["event"] == "change"]
    assert [each["action"] for each in lines] == [
        "pause function",
        "resume function",
        "pause app",
        "resume app",
        "sync app",
    ]
    assert {(each["by"], each["env"]) for each in lines} == {("signing key of prod", "prod")}


# ---- without an operator


@pytest.fixture
async def app() -> AsyncIterator[ScriptedApp]:
    """An app that answers in band."""
    scripted = ScriptedApp("app", "f", keys=[SIGNING_KEY])

    async def handle(request: web.BaseRequest) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, answered, sent = scripted.answer(request.method, headers, await request.read())
        return web.Response(status=status, headers=answered, body=sent)

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    scripted.url = f"http://127.0.0.1:{port}/api/inngest"
    yield scripted
    await runner.cleanup()


async def test_without_an_operator_the_gateway_asks_the_app_itself(
    make_world: MakeWorld, store: Store, app: ScriptedApp
) -> None:
    transport = Transport(Resolver(EgressPolicy.dev()))
    world = await make_world(PRODUCTION, syncer=Syncer(transport, SystemClock(), server_kind="cloud"))
    world.http.headers["authorization"] = f"Bearer {SIGNING_KEY}"
    await register_app(store, "default", App(id="app", url=app.url, checksum="1"), now_ms=1)
    try:
        first, second = [(await world.http.post(f"{APP}/sync")) for _ in range(2)]
        assert first.json()["data"] == {"id": "app", "sync": "Done", "modified": True}
        assert second.json()["data"]["modified"] is False
        assert [each.slug for each in (await read_apps(store, "default"))["app"].functions] == ["app-f"]
        app.functions[0]["triggers"] = [{"cron": "no cron"}]
        assert (await world.http.post(f"{APP}/sync")).status_code == 422
        app.status = 500
        failed = await world.http.post(f"{APP}/sync")
        assert (failed.status_code, failed.json()["status"]) == (502, 502)
        syncs = world.app.core.metrics.syncs
        counted = {outcome: syncs.value(outcome) for outcome in SYNC_OUTCOMES}
        assert counted == {"Answered": 2, "Broken": 0, "Failed": 1, "Refused": 1}
    finally:
        await transport.close()
