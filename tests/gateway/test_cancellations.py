"""`/v1/cancellations`: many runs at once."""

from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from innkeeper_engine.model.cancellations import Cancellation
from innkeeper_engine.model.clock import RandomIds
from innkeeper_engine.model.effects import Swept
from innkeeper_engine.model.guards import SweepGuard
from innkeeper_engine.model.times import rfc3339
from innkeeper_engine.registry import read_cancellations
from innkeeper_engine.store.store import Store
from innkeeper_gateway import cancellations
from innkeeper_gateway.cancellations import LONGEST_MS
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import SIGNING_KEY, MakeWorld
from tests.gateway.tenants import Tenant
from tests.gateway.world import World, function

UNKNOWN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
AFTER, BEFORE = "2024-01-21T18:23:12.000Z", "2024-01-22T14:22:42.130Z"
EXPRESSION = "event.data.userId == 'user_o9235hf84hf'"
DAY_MS = 86_400_000


def asked(**fields: Any) -> dict[str, Any]:
    """A cancellation as the documentation of the API shows it; None leaves a field out."""
    body = {
        "app_id": "acme-app",
        "function_id": "schedule-reminder",
        "started_after": AFTER,
        "started_before": BEFORE,
        "if": EXPRESSION,
        **fields,
    }
    return {key: value for key, value in body.items() if value is not None}


async def register(world: World) -> None:
    """An app with a function of which one id says the other's slug."""
    await world.register(
        function("acme-app-schedule-reminder"), function("acme-app-acme-app-x"), appName="acme-app"
    )


async def create(world: World, **fields: Any) -> dict[str, Any]:
    """Cancel runs; fails where that is refused."""
    reply = await world.http.post("/v1/cancellations", json=asked(**fields))
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def shown(world: World) -> list[dict[str, Any]]:
    """All that the API lists."""
    reply = await world.http.get("/v1/cancellations")
    assert reply.status_code == 200, reply.text
    return list(reply.json()["data"])


async def stored(store: Store, env: str = "default") -> list[Cancellation]:
    """All that lies in the store."""
    return list((await read_cancellations(store, env)).values())


async def test_a_cancellation_is_answered_as_documented_and_written(world: World) -> None:
    """Routers and executors find it with the registry, and its sweep is due at once."""
    await register(world)
    version = await world.store.registry_version()
    reply = await create(world)
    assert reply == {
        "id": reply["id"],
        "environment_id": "00000000-0000-4000-b000-000000000000",
        "function_id": "schedule-reminder",
        "started_after": AFTER,
        "started_before": BEFORE,
        "if": EXPRESSION,
    }
    (found,) = await stored(world.store)
    assert (found.id, found.slug, found.why) == (reply["id"], "acme-app-schedule-reminder", "bulk")
    assert (rfc3339(found.after_ms), rfc3339(found.before_ms)) == (AFTER, BEFORE)
    assert found.expression == EXPRESSION
    assert await world.store.registry_version() > version
    assert (await world.store.due()).sweeps == [("default", found.id)]


@pytest.mark.parametrize(
    ("function_id", "slug"),
    [
        ("schedule-reminder", "acme-app-schedule-reminder"),
        ("acme-app-schedule-reminder", "acme-app-schedule-reminder"),
        ("acme-app-x", "acme-app-acme-app-x"),
    ],
)
async def test_a_function_is_named_by_its_own_id_or_by_its_slug(
    world: World, function_id: str, slug: str
) -> None:
    """Its own id goes first."""
    await register(world)
    reply = await create(world, function_id=function_id)
    assert reply["function_id"] == function_id
    assert [each.slug for each in await stored(world.store)] == [slug]


async def test_what_is_left_out_does_not_narrow_it(world: World) -> None:
    """No beginning: whenever they were made. No condition: all."""
    await register(world)
    reply = await create(world, started_after=None, **{"if": None})
    assert reply["started_after"] is None
    assert "if" not in reply
    (found,) = await stored(world.store)
    assert (found.after_ms, found.expression) == (0, None)


def in_days(days: float) -> str:
    """A time ahead; the clock that it is compared with stands at the first second of 2024-01-23."""
    return rfc3339(1_705_968_001_000 + int(days * DAY_MS))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "write an object"),
        ("text", "write an object"),
        (None, "write an object"),
        (asked(app_id=None), "app_id: is missing"),
        (asked(app_id=7), "app_id: is the number 7, a text is wanted"),
        (asked(function_id=" "), "function_id: is missing"),
        (asked(started_before=None), "started_before: is missing"),
        (asked(started_before="soon"), "started_before: 'soon' is no date; write it as 2024-01-31T16:30:00Z"),
        (asked(started_before="5m"), "started_before: '5m' is no date"),
        (asked(started_before=1_705_968_001_000), "started_before: is the number 1705968001000"),
        (asked(started_after="2024-02-30T00:00:00Z"), "started_after: '2024-02-30T00:00:00Z' is no date"),
        (asked(started_after="1960-01-01"), "started_after: '1960-01-01' is before 1970"),
        (asked(started_after=BEFORE), "started_before: is not after started_after"),
        (asked(started_after="2024-01-23"), "started_before: is not after started_after"),
        (asked(started_after="2023-01-20"), "started_before: is more than 366 days after started_after"),
        (asked(started_after=None, started_before=in_days(366.1)), "started_before: lies more than 366 days"),
        (asked(**{"if": "event.data.x =="}), "if: event.data.x == is no valid expression: line 1, column "),
        (
            asked(**{"if": "async.data.x == 1"}),
            "if: async.data.x == 1 is no valid expression: line 1, column 1",
        ),
        (asked(**{"if": "'event.data.x'"}), "if: 'event.data.x' gives neither true nor false"),
        (asked(**{"if": True}), "if: is true, a text is wanted"),
        (asked(**{"if": " "}), "if: is empty: leave it out to cancel all runs"),
        (asked(expression=EXPRESSION), "expression: there is no such field; there are app_id, function_id"),
        (asked(started_afer=AFTER), "started_afer: there is no such field"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_wrong(body: Any, message: str) -> None:
    """And where, before anything is looked at."""
    with pytest.raises(ApiError) as refused:
        cancellations.read_cancellation(body, 1_705_968_001_000)
    assert refused.value.status == 400
    assert refused.value.message.startswith("Invalid cancellation: ")
    assert message in refused.value.message


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """In the order of the fields."""
    with pytest.raises(ApiError) as refused:
        cancellations.read_cancellation({"if": "1 +", "started_after": "x"}, 0)
    said = refused.value.message.removeprefix("Invalid cancellation: ").split("; ")
    fields = [part.partition(":")[0] for part in said]
    assert [f for f in fields if f in asked()] == [
        "app_id",
        "function_id",
        "started_after",
        "started_before",
        "if",
    ]


def test_a_window_may_be_366_days_long_and_end_as_far_ahead() -> None:
    """Not a millisecond more."""
    now_ms = 1_705_968_001_000
    for after_ms, before_ms in ((now_ms, now_ms + LONGEST_MS), (now_ms - LONGEST_MS, now_ms)):
        fields = asked(started_after=rfc3339(after_ms), started_before=rfc3339(before_ms))
        wanted = cancellations.read_cancellation(fields, now_ms)
        assert (wanted.after_ms, wanted.before_ms) == (after_ms, before_ms)
        fields["started_before"] = rfc3339(before_ms + 1)
        with pytest.raises(ApiError):
            cancellations.read_cancellation(fields, now_ms)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"{", 400, "Invalid cancellation: "),
        (b"", 400, "Invalid cancellation: write an object"),
        (
            msgspec.json.encode(asked(function_id="other")),
            404,
            "no function 'other' of the app 'acme-app' is registered; `function_id` is what the function's own code "
            "calls it",
        ),
        (msgspec.json.encode(asked(app_id="acme")), 404, "no function 'schedule-reminder' of the app 'acme'"),
    ],
)
async def test_a_request_that_is_refused_writes_nothing(
    world: World, content: bytes, status: int, message: str
) -> None:
    """Errors have the API's form."""
    await register(world)
    reply = await world.http.post("/v1/cancellations", content=content)
    body = reply.json()
    assert (reply.status_code, body["status"], body["data"]) == (status, status, None)
    assert body["error"].startswith(message)
    assert await stored(world.store) == []


async def test_cancellations_are_listed_newest_first_with_their_progress(world: World) -> None:
    """Each is also shown by itself; what the engine cancels of its own is nobody's request."""
    await register(world)
    first, second = (await create(world))["id"], (await create(world, **{"if": None}))["id"]
    own = Cancellation(id=UNKNOWN, slug="x", before_ms=1, created_ms=1, why="function")
    await world.store.configure("default", cancellations=[(own.id, msgspec.json.encode(own), 1)])
    guard = SweepGuard("default", first, 0)
    swept = Swept("default", first, "done", "0", 7, 3, 0)
    assert (await world.store.apply(guard, [swept])).status == "ok"
    newest, oldest = await shown(world)
    assert [newest["id"], oldest["id"]] == [second, first]
    assert (newest["looked"], newest["cancelled"], newest["done"]) == (0, 0, False)
    assert (oldest["looked"], oldest["cancelled"], oldest["done"]) == (7, 3, True)
    assert oldest["created_at"].endswith("Z")
    assert {key: oldest[key] for key in ("app_id", "function_id", "if")} == {
        "app_id": "acme-app",
        "function_id": "schedule-reminder",
        "if": EXPRESSION,
    }
    reply = await world.http.get(f"/v1/cancellations/{first.lower()}")
    assert (reply.status_code, reply.json()) == (200, oldest)


async def test_a_cancellation_is_stopped(world: World) -> None:
    """Nothing is left of it; a second time it is not known."""
    await register(world)
    made, other = await create(world), await create(world)
    version = await world.store.registry_version()
    path = f"/v1/cancellations/{made['id']}"
    reply = await world.http.delete(path)
    assert (reply.status_code, reply.content) == (200, b"")
    assert await world.store.registry_version() > version
    assert [each["id"] for each in await shown(world)] == [other["id"]]
    assert (await world.store.due()).sweeps == [("default", other["id"])]
    assert (await world.http.delete(path)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    ("cancellation_id", "status", "message"),
    [
        (UNKNOWN, 404, f"Cancellation not found: {UNKNOWN}"),
        ("foo", 400, "Invalid cancellation ID: foo; an ID is 26 letters and digits"),
    ],
)
async def test_a_cancellation_that_is_not_known(
    world: World, method: str, cancellation_id: str, status: int, message: str
) -> None:
    """Also one that the engine made, which nobody stops but by bringing the function back."""
    own = Cancellation(id=UNKNOWN, slug="x", before_ms=1, created_ms=1, why="function")
    await world.store.configure("default", cancellations=[(own.id, msgspec.json.encode(own), 1)])
    reply = await world.http.request(method, f"/v1/cancellations/{cancellation_id}")
    assert reply.json() == {"error": message, "data": None, "status": status}
    assert len(await stored(world.store)) == 1


async def fill(world: World, count: int, *, before_ms: int, done: bool) -> list[str]:
    """Cancellations that were made long ago; their ids, oldest first."""
    ids = [RandomIds().ulid(n + 1) for n in range(count)]
    made = [Cancellation(id=each, slug="s", before_ms=before_ms, created_ms=1) for each in ids]
    written = [(each.id, msgspec.json.encode(each), 1) for each in made]
    await world.store.configure("default", cancellations=written)
    for each in ids if done else ():
        swept = Swept("default", each, "done", "0", 0, 0, 0)
        assert (await world.store.apply(SweepGuard("default", each, 0), [swept])).status == "ok"
    return ids


@pytest.mark.parametrize(("before_ms", "done"), [(2, False), (4_000_000_000_000, True)])
async def test_so_many_may_be_active(
    world: World, monkeypatch: pytest.MonkeyPatch, before_ms: int, done: bool
) -> None:
    """Whether runs are still looked at, or may still begin."""
    monkeypatch.setattr(cancellations, "MOST_ACTIVE", 3)
    await register(world)
    ids = await fill(world, 3, before_ms=before_ms, done=done)
    reply = await world.http.post("/v1/cancellations", json=asked())
    assert reply.status_code == 429
    assert reply.json()["error"].startswith("3 cancellations of this environment are active already")
    assert (await world.http.delete(f"/v1/cancellations/{ids[0]}")).status_code == 200
    await create(world)
    assert len(await stored(world.store)) == 3


async def test_those_that_are_over_make_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
    monkeypatch.setattr(cancellations, "MOST_ACTIVE", 3)
    monkeypatch.setattr(cancellations, "MOST_KEPT", 5)
    await register(world)
    ids = await fill(world, 4, before_ms=2, done=True)
    made = [(await create(world))["id"] for _ in range(3)]
    assert [each["id"] for each in await shown(world)] == [*reversed(made), ids[3], ids[2]]


async def test_who_shows_no_key_cancels_nothing(production: World) -> None:
    """And sees nothing."""
    for method, path in (
        ("POST", "/v1/cancellations"),
        ("GET", "/v1/cancellations"),
        ("GET", f"/v1/cancellations/{UNKNOWN}"),
        ("DELETE", f"/v1/cancellations/{UNKNOWN}"),
    ):
        assert (await production.http.request(method, path, json=asked())).status_code == 401
    bearer = {"authorization": f"Bearer {SIGNING_KEY}"}
    assert (await production.http.get("/v1/cancellations", headers=bearer)).json()["data"] == []


async def test_environments_do_not_see_each_others(make_world: MakeWorld, store: Store) -> None:
    """Nor does one reach into another, whatever it asks for."""
    world = await make_world(GatewaySettings(managed=True))
    mine, other = Tenant(world, "mine"), Tenant(world, "other")
    for tenant in (mine, other):
        await tenant.put()
        await tenant.register(function("acme-app-schedule-reminder"), appName="acme-app")
    made = (await mine.http.post("/v1/cancellations", json=asked())).json()["id"]
    assert await other.status("GET", f"/v1/cancellations/{made}") == 404
    assert await other.status("DELETE", f"/v1/cancellations/{made}") == 404
    assert (await other.http.get("/v1/cancellations")).json()["data"] == []
    assert [each.id for each in await stored(store, "mine")] == [made]
    assert await mine.status("DELETE", f"/v1/cancellations/{made}") == 200
    for tenant in (mine, other):
        await tenant.close()


async def test_what_is_cancelled_is_logged_and_not_what_for(world: World) -> None:
    """Names and ids; the condition may hold somebody's data."""
    await register(world)
    with capture_logs() as logs:
        made = await create(world)
        await world.http.delete(f"/v1/cancellations/{made['id']}")
    changes = [line for line in logs if line["event"] == "change"]
    assert [line["action"] for line in changes] == ["cancel runs", "stop cancelling runs"]
    for line in changes:
        assert (line["cancellation"], line["function"]) == (made["id"], "acme-app-schedule-reminder")
    assert "user_o9235hf84hf" not in repr(logs)
