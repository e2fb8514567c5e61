"""Who has the keys of one environment neither reads nor changes anything in another."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import orjson
import pytest
from structlog.testing import capture_logs

from innkeeper_apps.wire.request import encode_item_id
from innkeeper_engine.model.effects import Wait
from innkeeper_engine.model.environments import Environment, EventKey, branch_name, key_digest
from innkeeper_engine.model.guards import LeaseGuard
from innkeeper_engine.model.state import Lease
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import MakeWorld
from tests.gateway.tenants import Tenant, event_key, signing_key
from tests.gateway.world import World, function

MANAGED = GatewaySettings(managed=True, routed_wait_s=0.2, folded_wait_s=0.2, auto_register="Existing")
STEP = "a" * 40
BRANCH = "feature/x"

MakeTenant = Callable[..., Tenant]


@pytest.fixture
async def managed(make_world: MakeWorld) -> World:
    """A gateway whose environments are in the store."""
    return await make_world(MANAGED)


@pytest.fixture
async def make_tenant(managed: World) -> AsyncIterator[MakeTenant]:
    """`make_tenant("prod", **headers)`."""
    made: list[Tenant] = []

    def make(name: str, world: World | None = None, **options: Any) -> Tenant:
        made.append(Tenant(world or managed, name, **options))
        return made[-1]

    yield make
    for tenant in made:
        await tenant.close()


@pytest.fixture
async def prod(make_tenant: MakeTenant) -> Tenant:
    """An environment with an app."""
    tenant = make_tenant("prod")
    await tenant.put(branches=(BRANCH,))
    await tenant.register(function("app-fn"))
    return tenant


@pytest.fixture
async def other(make_tenant: MakeTenant) -> Tenant:
    """Another environment, with the same app in it."""
    tenant = make_tenant("other")
    await tenant.put()
    await tenant.register(function("app-fn"))
    return tenant


def checkpoint(lease: Lease, data: Any = "forged") -> dict[str, Any]:
    """A checkpoint of a call, complete and valid."""
    return {
        "run_id": lease.run,
        "fn_id": "x",
        "qi_id": encode_item_id(lease.item),
        "request_id": lease.token,
        "generation_id": lease.generation,
        "steps": [{"id": STEP, "op": "StepRun", "name": "s", "data": data}],
    }


async def test_a_key_decides_the_environment(managed: World, prod: Tenant, other: Tenant) -> None:
    """Of events, and of all that is read."""
    mine, theirs = await prod.send(), await other.send()
    runs = await managed.route()
    summaries = {run.id: run.env for run in [await managed.store.run(run_id) for run_id in runs] if run}
    assert sorted(summaries.values()) == ["other", "prod"]
    for tenant, event_id, env in ((prod, mine, "prod"), (other, theirs, "other")):
        data = (await tenant.http.get(f"/v1/events/{event_id}")).json()["data"]
        assert data["data"] == {"of": env}
        found = (await tenant.http.get(f"/v1/events/{event_id}/runs")).json()["data"]
        assert [summaries[run["run_id"]] for run in found] == [env]
        listed = (await tenant.http.get("/v1/runs")).json()["data"]
        assert [run["run_id"] for run in listed] == [run["run_id"] for run in found]


async def test_nothing_of_another_environment_is_read(managed: World, prod: Tenant, other: Tenant) -> None:
    """It is as if it were not there."""
    event_id = await prod.send()
    (run_id,) = await managed.route()
    for path in (f"/v1/events/{event_id}", f"/v1/runs/{run_id}", f"/v0/runs/{run_id}/actions"):
        assert await prod.status("GET", path) == 200
        assert await other.status("GET", path) == 404
    assert await prod.status("GET", f"/v0/runs/{run_id}/batch") == 200
    assert await other.status("GET", f"/v0/runs/{run_id}/batch") == 404
    assert (await other.http.get(f"/v1/events/{event_id}/runs")).json()["data"] == []
    assert (await other.http.get("/v1/runs")).json()["data"] == []


async def test_nothing_in_another_environment_is_changed(managed: World, prod: Tenant, other: Tenant) -> None:
    """Not even by who knows the ids, the lease and the names that it takes."""
    await prod.send()
    (run_id,) = await managed.route()
    lease = await managed.lease()
    path = f"/v1/checkpoint/{run_id}/async"
    reply = await other.http.post(path, json=checkpoint(lease))
    assert (reply.status_code, reply.json()["error"]) == (400, "run not found in state store")
    assert await managed.store.run_payload(run_id, STEP) == [None]
    assert await other.status("DELETE", f"/v1/runs/{run_id}") == 404
    summary = await managed.store.run(run_id)
    assert summary is not None
    assert summary.status == "Running"
    assert await prod.status("POST", path, json=checkpoint(lease, "true")) == 200
    assert await other.status("POST", path, json=checkpoint(lease)) == 400
    assert await managed.store.run_payload(run_id, STEP) == [b'{"data":"true"}']
    assert await prod.status("DELETE", f"/v1/runs/{run_id}") == 200


async def test_a_signal_stays_in_its_environment(managed: World, prod: Tenant, other: Tenant) -> None:
    await prod.send()
    await managed.route()
    lease = await managed.lease()
    wait = Wait(f"{lease.run}.{STEP}", lease.run, STEP, "signal", "prod", "go", "", "", 2**52, b"", b"null")
    guard = LeaseGuard(lease.item, lease.token, lease.seen)
    assert (await managed.store.apply(guard, [wait])).status == "ok"
    signal = {"signal": "go", "data": 1}
    assert await other.status("POST", "/v1/signals", json=signal) == 404
    assert await prod.status("POST", "/v1/signals", json=signal) == 200


async def test_a_function_is_invoked_where_the_key_is_from(
    managed: World, prod: Tenant, other: Tenant
) -> None:
    """One of the same name elsewhere does not run; one that is only elsewhere is not there."""
    await other.register(function("app-fn"), function("app-secret"))
    assert await prod.status("POST", "/invoke/app-secret") == 404
    reply = await prod.http.post("/invoke/app-fn", json={"data": {"x": 1}})
    assert reply.status_code == 200
    assert await managed.store.event("prod", reply.json()["id"]) is not None
    assert await managed.store.event("other", reply.json()["id"]) is None
    functions = (await prod.http.get("/v1/apps/app/functions")).json()
    assert [each["id"] for each in functions] == ["app-fn"]


async def test_every_route_asks_who_comes(managed: World, prod: Tenant) -> None:
    """But those that say how the server is. Whatever is added later is asked here too."""
    served = [
        (path, method) for path, methods in managed.app.api.openapi()["paths"].items() for method in methods
    ]
    unknown = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
    open_to_all = {
        path
        for path, method in [*served, ("/v1/checkpoint/{run_id}/async", "post")]
        for url in (re.sub(r"\{[^}]*\}", unknown, path),)
        if (await prod.http.request(method.upper(), url, headers={"authorization": ""})).status_code != 401
    }
    assert open_to_all == {"/live", "/ready", "/health", "/dev"}
    assert len(served) > 12


async def test_no_key_no_entry(managed: World, prod: Tenant) -> None:
    """An event key is no bearer, a signing key no event key, and a digest, which lies in the store, neither."""
    for bearer in (event_key("prod"), key_digest(signing_key("prod")), ""):
        headers = {"authorization": f"Bearer {bearer}"}
        assert await prod.status("GET", "/v1/runs", headers=headers) == 401
    assert (
        await prod.status("GET", "/v1/runs", headers={"authorization": f"Basic {signing_key('prod')}"}) == 401
    )
    for key in (signing_key("prod"), key_digest(event_key("prod")), "prod", ""):
        reply = await prod.http.post(f"/e/{key}", json={"name": "a"})
        assert (reply.status_code, reply.json()["error"]) == (401, "Event key not found")
    bearer = f"Bearer {signing_key('prod')}"
    assert await prod.status("GET", "/v1/runs", headers={"authorization": bearer}) == 200


async def test_no_key_is_the_settings_own_where_there_are_none(managed: World, prod: Tenant) -> None:
    """A managed gateway without keys of its own serves no environment of its own."""
    assert await prod.status("POST", "/e/", json={"name": "a"}) == 401
    assert await prod.status("GET", "/v1/runs", headers={"authorization": "Bearer "}) == 401


async def test_own_keys_go_beside_those_in_the_store(make_world: MakeWorld, make_tenant: MakeTenant) -> None:
    """Theirs is the environment of the settings, whatever branch is asked for."""
    world = await make_world(
        msgspec.structs.replace(MANAGED, event_keys=("own",), signing_key=signing_key("own"))
    )
    prod, own = make_tenant("prod", world), make_tenant("own", world)
    await prod.put()
    reply = await own.http.post("/e/own", json={"name": "a"}, headers={"x-inngest-env": BRANCH})
    (event_id,) = reply.json()["ids"]
    assert await world.store.event("default", event_id) is not None
    assert await own.status("GET", f"/v1/events/{event_id}") == 200
    assert await prod.status("GET", f"/v1/events/{event_id}") == 404
    await prod.send()


# ---- branches


async def test_a_header_chooses_a_branch(managed: World, prod: Tenant) -> None:
    """The branch's functions run, and not its parent's; with the parent's keys."""
    env = branch_name("prod", BRANCH)
    await prod.register(function("app-fn"), env=env)
    event_id = await prod.send(**{"x-inngest-env": BRANCH})
    (run_id,) = await managed.route()
    summary = await managed.store.run(run_id)
    assert summary is not None
    assert summary.env == env
    there = {"x-inngest-env": BRANCH}
    assert await prod.status("GET", f"/v1/events/{event_id}", headers=there) == 200
    assert await prod.status("GET", f"/v1/events/{event_id}") == 404
    runs = (await prod.http.get("/v1/runs", headers=there)).json()["data"]
    assert [run["run_id"] for run in runs] == [run_id]
    assert (await prod.http.get("/v1/runs")).json()["data"] == []


async def test_the_query_chooses_a_branch_where_a_sender_cannot_set_headers(
    managed: World, prod: Tenant
) -> None:
    reply = await prod.post_event(query="?x-inngest-env=feature%2Fx")
    (event_id,) = reply.json()["ids"]
    assert await managed.store.event(branch_name("prod", BRANCH), event_id) is not None


@pytest.mark.parametrize("named", ["", "prod"])
async def test_an_environments_own_name_is_no_branch(managed: World, prod: Tenant, named: str) -> None:
    event_id = await prod.send(**{"x-inngest-env": named})
    assert await managed.store.event("prod", event_id) is not None


async def test_an_unknown_branch_keeps_events_and_starts_nothing(
    managed: World, prod: Tenant, other: Tenant
) -> None:
    """Not even where it has the name of another environment."""
    event_id = await prod.send(**{"x-inngest-env": "other"})
    assert await managed.route() == []
    assert await managed.store.event("prod~other", event_id) is not None
    headers = {"x-inngest-env": "other"}
    assert (await prod.http.get(f"/v1/events/{event_id}/runs", headers=headers)).json()["data"] == []
    assert await other.status("GET", f"/v1/events/{event_id}") == 404


async def test_events_for_a_branch_that_nobody_declares_are_told_of_once(prod: Tenant) -> None:
    """Somebody will look for the runs that do not come."""
    with capture_logs() as lines:
        for branch in ("main", "main", BRANCH, "prod", ""):
            await prod.send(**{"x-inngest-env": branch})
    told = [line for line in lines if "no app declares" in line["event"]]
    assert [(line["env"], line["branch"]) for line in told] == [("prod", "main")]


async def test_a_run_of_a_branch_is_reached_without_naming_the_branch(managed: World, prod: Tenant) -> None:
    """Some SDKs name it when they send, and not when they fetch state; another branch is another matter."""
    await prod.register(function("app-fn"), env=branch_name("prod", BRANCH))
    await prod.send(**{"x-inngest-env": BRANCH})
    (run_id,) = await managed.route()
    lease = await managed.lease()
    assert await prod.status("GET", f"/v0/runs/{run_id}/actions") == 200
    assert await prod.status("POST", f"/v1/checkpoint/{run_id}/async", json=checkpoint(lease)) == 200
    shown = (await prod.http.get(f"/v1/runs/{run_id}")).json()["data"]
    assert (shown["function_slug"], shown["function_version"]) == ("app-fn", 1)
    elsewhere = {"x-inngest-env": "feature/y"}
    assert await prod.status("GET", f"/v1/runs/{run_id}", headers=elsewhere) == 404
    with capture_logs() as logs:
        assert await prod.status("POST", f"/v1/runs/{run_id}/rerun") == 200
        assert await prod.status("DELETE", f"/v1/runs/{run_id}") == 200
    changes = [(line["action"], line["env"]) for line in logs if line["event"] == "change"]
    assert changes == [("rerun", branch_name("prod", BRANCH)), ("cancel run", branch_name("prod", BRANCH))]


async def test_a_branch_that_cannot_be_is_refused(prod: Tenant) -> None:
    endless = {"x-inngest-env": "x" * 256}
    assert (await prod.post_event(**endless)).status_code == 400
    reply = await prod.http.get("/v1/runs", headers=endless)
    assert (reply.status_code, "255 is the most" in reply.json()["error"]) == (400, True)


# ---- what an event key may


def bound(**bounds: Any) -> dict[str, Any]:
    """An environment's fields with one event key that is bound."""
    return {"event_keys": (EventKey(name="bound", digest=key_digest(event_key("prod")), **bounds),)}


@pytest.mark.parametrize("name", ["shop/order", "shop/order/paid", "audit.log", "exact"])
async def test_a_key_sends_what_it_may(prod: Tenant, name: str) -> None:
    await prod.put(**bound(events=("shop/*", "audit.*", "exact")))
    await prod.send(name)


async def test_a_key_sends_nothing_else(managed: World, prod: Tenant) -> None:
    """The whole request is refused, and the message says which event it is about."""
    await prod.put(**bound(events=("shop/*",)))
    events = [{"name": "shop/order"}, {"name": "user/deleted"}]
    reply = await prod.http.post(f"/e/{event_key('prod')}", json=events)
    assert (reply.status_code, reply.json()) == (
        403,
        {"ids": [""], "status": 403, "error": "events[1]: this event key may not send 'user/deleted'"},
    )
    assert await managed.store.peek(1) is None


async def test_a_key_is_used_from_where_it_may(make_tenant: MakeTenant, make_world: MakeWorld) -> None:
    """By the peer's address; behind a trusted proxy by what that says."""
    world = await make_world(msgspec.structs.replace(MANAGED, trusted_proxies=("10.0.0.0/8",)))
    inside = make_tenant("prod", world, peer="198.51.100.7")
    outside = make_tenant("prod", world, peer="203.0.113.9")
    proxy = make_tenant("prod", world, peer="10.1.2.3")
    await inside.put(**bound(cidrs=("198.51.100.0/24",)))
    await inside.send()
    await proxy.send(**{"x-forwarded-for": "198.51.100.7"})
    refused = await outside.post_event()
    assert (refused.status_code, refused.json()["ids"]) == (403, [""])
    assert "may not be used from this address" in refused.json()["error"]
    for tenant, said in (
        (outside, "198.51.100.7"),
        (proxy, "203.0.113.9"),
        (proxy, "198.51.100.7, 192.0.2.1"),
    ):
        assert (await tenant.post_event(**{"x-forwarded-for": said})).status_code == 403


# ---- keys come and go


async def test_a_new_key_counts_at_once_and_a_revoked_one_no_more(managed: World, prod: Tenant) -> None:
    """While the gateway goes on."""
    await prod.send()
    fresh = EventKey(name="fresh", digest=key_digest("fresh"))
    await prod.put(event_keys=(fresh,))
    assert (await prod.http.post("/e/fresh", json={"name": "a"})).status_code == 200
    assert (await prod.post_event()).status_code == 401


async def test_a_store_that_is_away_is_no_wrong_key(
    make_world: MakeWorld, make_tenant: MakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told 401 may give up for good; 503 says to try again."""
    world = await make_world(msgspec.structs.replace(MANAGED, store_timeout_s=0.2))
    prod = make_tenant("prod", world)
    await prod.put()
    await world.store.close()
    for reply in (
        await prod.post_event(),
        await prod.http.get("/v1/runs"),
        await prod.http.post("/v1/checkpoint/x/async", json={}),
    ):
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")


async def test_ready_says_whether_environments_are_read(managed: World, prod: Tenant) -> None:
    reply = await prod.http.get("/ready")
    assert (reply.status_code, reply.json()["checks"]["environments"]) == (200, "ok")


# ---- registrations


async def test_a_declared_app_registers_into_the_operators_hands(managed: World, prod: Tenant) -> None:
    """The registry is left alone; what lies there is what the app sent."""
    await prod.put(apps=("new",))
    body = orjson.dumps(
        {
            "url": "http://app/api/inngest",
            "deployType": "ping",
            "appName": "new",
            "functions": [function("new-fn")],
            "sdk": "js:v4.24.0",
            "v": "0.1",
        }
    )
    before = await managed.store.registry_version()
    reply = await prod.http.post("/fn/register", content=body)
    assert reply.status_code == 200, reply.text
    said = reply.json()
    assert (said["ok"], said["modified"]) == (True, True)
    assert {"sync_id", "app_id"} <= said.keys()
    assert await managed.store.registry_version() == before
    (left,) = await managed.inbox.registrations_left()
    assert (left.env, left.app_id, left.body) == ("prod", "new", body)


async def test_an_app_of_a_branch_registers_into_that_branch(managed: World, prod: Tenant) -> None:
    """Its record says which apps are declared there; what runs there already may register too."""
    env = branch_name("prod", BRANCH)
    await prod.register(function("app-fn"), env=env)
    headers = {"x-inngest-env": BRANCH}
    reply = await prod.http.post("/fn/register", json=registration_of("app"), headers=headers)
    assert reply.status_code == 200, reply.text
    assert [(left.env, left.app_id) for left in await managed.inbox.registrations_left()] == [(env, "app")]
    assert await prod.status("POST", "/fn/register", json=registration_of("more"), headers=headers) == 403
    await EnvironmentStore(managed.store).write(Environment(name=env, apps=("more",)))
    assert await prod.status("POST", "/fn/register", json=registration_of("more"), headers=headers) == 200


def registration_of(app: str) -> dict[str, Any]:
    """A registration without anything special."""
    return {
        "url": "http://app/api/inngest",
        "appName": app,
        "functions": [function(f"{app}-fn")],
        "sdk": "js:v4.24.0",
    }


@pytest.mark.parametrize(
    ("policy", "app", "status"),
    [
        ("Existing", "app", 200),
        ("Existing", "stranger", 403),
        ("Always", "stranger", 200),
        ("Never", "app", 403),
    ],
)
async def test_the_policy_says_who_may_register(
    make_world: MakeWorld, make_tenant: MakeTenant, policy: Any, app: str, status: int
) -> None:
    world = await make_world(msgspec.structs.replace(MANAGED, auto_register=policy))
    prod = make_tenant("prod", world)
    await prod.put()
    await prod.register(function("app-fn"))
    assert await prod.status("POST", "/fn/register", json=registration_of(app)) == status
    assert len(await world.inbox.registrations_left()) == (status == 200)


async def test_another_environments_app_is_a_stranger(managed: World, prod: Tenant, other: Tenant) -> None:
    await other.put(apps=("theirs",))
    assert await prod.status("POST", "/fn/register", json=registration_of("theirs")) == 403


async def test_an_invalid_registration_is_refused_with_its_problems_and_left_nowhere(
    managed: World, prod: Tenant
) -> None:
    bad = registration_of("app") | {"functions": [function("app-fn", triggers=[{"cron": "nonsense"}])]}
    reply = await prod.http.post("/fn/register", json=bad)
    assert (reply.status_code, [each["function"] for each in reply.json()["problems"]]) == (400, ["app-fn"])
    assert await managed.inbox.registrations_left() == []


async def test_a_full_inbox_says_to_come_again(
    managed: World, prod: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper_engine.store.registrations.MOST_LEFT", 0)
    reply = await prod.http.post("/fn/register", json=registration_of("app"))
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert "is it running?" in reply.json()["error"]
