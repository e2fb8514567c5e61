"""`/v1/replays`: many runs once more."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from innkeeper_engine.model.effects import Replayed, SetReplay
from innkeeper_engine.model.guards import NoGuard
from innkeeper_engine.model.times import rfc3339
from innkeeper_gateway import replays
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import MakeWorld
from tests.gateway.tenants import Tenant
from tests.gateway.world import World, function

NOW_MS = 1_705_968_001_000
UNKNOWN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


def asked(**fields: Any) -> dict[str, Any]:
    """A replay's body; None leaves a field out."""
    body = {"app_id": "app", "function_id": "fn", **fields}
    return {key: value for key, value in body.items() if value is not None}


async def create(world: World, **fields: Any) -> dict[str, Any]:
    """Replay runs; fails where that is refused."""
    reply = await world.http.post("/v1/replays", json=asked(**fields))
    assert reply.status_code == 200, reply.text
    return dict(reply.json()["data"])


async def test_a_replay_is_written_and_due_at_once(world: World) -> None:
    """With how many runs there are to look at."""
    await world.register(function("app-fn"), function("app-other"))
    for _ in range(3):
        await world.send()
    await world.route()
    # What is made in the same millisecond is after the window.
    await world.store.command("BLPOP", world.store.key("nothing"), 0.01)
    with capture_logs() as logs:
        made = await create(world, **{"if": "event.data.n == 1", "statuses": ["Failed", "Skipped", "Failed"]})
    assert made == {
        "id": made["id"],
        "app_id": "app",
        "function_id": "fn",
        "function_slug": "app-fn",
        "from": None,
        "until": made["created_at"],
        "statuses": ["Failed", "Skipped"],
        "if": "event.data.n == 1",
        "created_at": made["created_at"],
        "status": "Running",
        "total": 6,
        "looked": 0,
        "replayed": 0,
        "unavailable": 0,
        "done": False,
    }
    assert (await world.store.due()).replays == [("default", made["id"])]
    (change,) = [line for line in logs if line["event"] == "change"]
    assert (change["action"], change["replay"], change["function"]) == ("replay runs", made["id"], "app-fn")


async def test_how_far_it_is_is_shown(world: World) -> None:
    """In the list and by itself; and what it waits for."""
    await world.register(function("app-fn"))
    first, second = await create(world), await create(world, function_id="app-fn", statuses=["Cancelled"])
    page = Replayed("default", first["id"], "waiting", "paused", 1, "", 10, 4, 1, 0)
    await world.store.apply(NoGuard(), [page])
    listed = (await world.http.get("/v1/replays")).json()["data"]
    assert [each["id"] for each in listed] == [second["id"], first["id"]]
    shown = (await world.http.get(f"/v1/replays/{first['id']}")).json()["data"]
    assert shown == listed[1]
    counts = {"looked": 10, "replayed": 4, "unavailable": 1, "done": False}
    assert shown | counts == shown
    assert (shown["status"], shown["waiting_for"]) == ("Waiting", "the function is paused")
    await world.store.apply(NoGuard(), [page._replace(phase="done", why="")])
    shown = (await world.http.get(f"/v1/replays/{first['id']}")).json()["data"]
    assert (shown["status"], shown["looked"], shown["done"]) == ("Completed", 20, True)


async def test_a_replay_can_be_stopped(world: World) -> None:
    """Once; then it is not known."""
    await world.register(function("app-fn"))
    made = await create(world)
    path = f"/v1/replays/{made['id']}"
    with capture_logs() as logs:
        assert (await world.http.delete(path)).status_code == 200
    (change,) = [line for line in logs if line["event"] == "change"]
    assert (change["action"], change["function"]) == ("stop replaying runs", "app-fn")
    assert (await world.store.due()).replays == []
    for reply in (await world.http.delete(path), await world.http.get(path)):
        assert reply.status_code == 404
    assert (await world.http.get("/v1/replays/x")).status_code == 400
    assert (await world.http.get(f"/v1/replays/{UNKNOWN}")).status_code == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, "write an object"),
        ([], "write an object"),
        (asked(app_id=None), "app_id"),
        (asked(function_id=""), "function_id"),
        (asked(statuses=["Running"]), "what goes on is not run again"),
        (asked(statuses=[]), "statuses: write a list of Completed"),
        (asked(statuses=[["Failed"]]), "statuses: write a list of Completed"),
        (asked(statuses="Failed"), "statuses: write a list of Completed"),
        (asked(**{"from": rfc3339(NOW_MS)}), "from: is not before until"),
        (asked(**{"from": "yesterday"}), "from: "),
        (asked(until="1960-01-01T00:00:00Z"), "until: "),
        (asked(**{"if": "1 +"}), "if: "),
        (asked(**{"if": " "}), "if: is empty"),
        (asked(status=["Failed"]), "status: there is no such field"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_wrong(body: Any, message: str) -> None:
    """Before anything is looked at."""
    with pytest.raises(ApiError) as refused:
        replays.read_wanted(body, NOW_MS)
    assert refused.value.status == 400
    assert refused.value.message.startswith("Invalid replay: ")
    assert message in refused.value.message


def test_null_is_as_nothing() -> None:
    nothing = {"statuses": None, "if": None, "from": None, "until": None}
    assert replays.read_wanted(asked() | nothing, NOW_MS) == replays.read_wanted(asked(), NOW_MS)


def test_a_window_ends_now_at_the_latest() -> None:
    """Somebody's clock may be ahead."""
    wanted = replays.read_wanted(asked(until=rfc3339(NOW_MS + 5_000)), NOW_MS)
    assert (wanted.from_ms, wanted.until_ms, wanted.statuses) == (0, NOW_MS, ("Failed",))


async def test_what_starts_nothing_is_not_replayed(world: World) -> None:
    """Not registered, or paused: as for one run."""
    await world.register(function("app-fn"))
    reply = await world.http.post("/v1/replays", json=asked(function_id="other"))
    assert (reply.status_code, "no function 'other'" in reply.text) == (404, True)
    reply = await world.http.post("/v1/functions/app-fn/pause")
    assert reply.status_code == 200, reply.text
    reply = await world.http.post("/v1/replays", json=asked())
    assert (reply.status_code, "resume it first" in reply.text) == (409, True)


async def test_there_are_not_more_than_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest that are done make room; those that are not do not."""
    monkeypatch.setattr(replays, "MOST_ACTIVE", 2)
    monkeypatch.setattr(replays, "MOST_KEPT", 3)
    await world.register(function("app-fn"))
    made = []
    for _ in range(3):
        made.append((await create(world))["id"])
        await world.store.apply(
            NoGuard(), [Replayed("default", made[-1], "done", "", 0, "", 0, 0, 0, 2_000_000_000_000)]
        )
    made += [(await create(world))["id"] for _ in range(2)]
    assert sorted(await world.store.replays("default")) == made[2:]
    reply = await world.http.post("/v1/replays", json=asked())
    assert (reply.status_code, "2 replays" in reply.text) == (429, True)


async def test_environments_have_their_own(make_world: MakeWorld) -> None:
    """Nobody sees or stops another one's."""
    world = await make_world(GatewaySettings(managed=True))
    a, b = Tenant(world, "a"), Tenant(world, "b")
    for tenant in (a, b):
        await tenant.put()
        await tenant.register(function("app-fn"))
    reply = await a.http.post("/v1/replays", json=asked())
    assert reply.status_code == 200, reply.text
    path = f"/v1/replays/{reply.json()['data']['id']}"
    assert (await a.status("GET", path), await b.status("GET", path)) == (200, 404)
    assert await b.status("DELETE", path) == 404
    assert (await b.http.get("/v1/replays")).json()["data"] == []
    assert await a.status("DELETE", path) == 200


async def test_a_replay_that_is_set_twice_keeps_its_place(world: World) -> None:
    """A commit whose outcome was unknown is sent again."""
    await world.register(function("app-fn"))
    made = await create(world)
    body = await world.store.replay("default", made["id"])
    assert body is not None
    await world.store.apply(
        NoGuard(), [SetReplay("default", made["id"], body, world.clock.now_ms() + 60_000)]
    )
    assert (await world.store.due()).replays == [("default", made["id"])]
