"""When Webhooks took a request last, in their status: to the minute, and no write where nothing came."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from innkeeper_engine.durations import MINUTE_MS
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_operator.actions import Action, SetStatus
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.conditions import read_time_ms, time_text
from innkeeper_operator.errors import ApiError
from innkeeper_operator.metrics import Metrics
from innkeeper_operator.objects import Meta, WebhookObject
from innkeeper_operator.received import ReceivedTimes, changes, newest
from innkeeper_operator.specs import Transform, WebhookSpec
from innkeeper_operator.world import WEBHOOKS, Dirty, World
from tests.operator.house import API, House, RunningOperator, says

Json = dict[str, Any]

NOW_MS = 1_795_000_000_000
NOW = "2026-11-18T11:06:40Z"


def webhook(name: str, shown_ms: int | None = None, **meta: Any) -> WebhookObject:
    """A Webhook whose status shows a time, or none."""
    status = {} if shown_ms is None else {"lastReceivedTime": time_text(shown_ms)}
    spec = WebhookSpec(transform=Transform(script="x"))
    return WebhookObject(Meta(name=name, namespace="prod", uid=f"u-{name}", **meta), spec, status)


def written(*webhooks: WebhookObject, **taken_ms: int) -> list[str]:
    """Whose status is written, in that order."""
    found = changes(webhooks, {("prod", name): at_ms for name, at_ms in taken_ms.items()})
    return [change.key[1] for change in found]


def test_a_time_is_written_as_the_schema_has_it() -> None:
    (change,) = changes([webhook("new")], {("prod", "new"): NOW_MS + 999})
    assert (change.key, change.uid, change.received) == (("prod", "new"), "u-new", NOW)


@pytest.mark.parametrize(
    ("ahead_ms", "is_written"),
    [
        (0, False),
        (MINUTE_MS - 1, False),
        (MINUTE_MS, True),
        (-MINUTE_MS + 1, False),
        (-MINUTE_MS, True),
    ],
)
def test_only_what_differs_by_a_minute_is_written(ahead_ms: int, is_written: bool) -> None:
    """In either direction: somebody may have written a time that is still to come."""
    assert bool(written(webhook("a", NOW_MS), a=NOW_MS + ahead_ms)) is is_written


def test_who_shows_the_oldest_time_comes_first() -> None:
    hour_ms = 60 * MINUTE_MS
    seen = webhook("late", NOW_MS - hour_ms), webhook("later", NOW_MS - 2 * hour_ms), webhook("never")
    assert written(*seen, late=NOW_MS, later=NOW_MS, never=NOW_MS) == ["never", "later", "late"]


def test_of_what_nothing_is_known_what_is_shown_stays() -> None:
    """As after the store has lost it."""
    assert written(webhook("a", NOW_MS)) == []
    assert written(webhook("going", deleting=True), going=NOW_MS) == []


def test_a_time_that_cannot_be_read_is_written_anew() -> None:
    odd = webhook("odd")
    odd.status["lastReceivedTime"] = "yesterday"
    assert written(odd, odd=NOW_MS) == ["odd"]


def test_a_webhook_that_moves_to_another_environment_shows_the_newest() -> None:
    times = {("old", "prod/a"): 2, ("new", "prod/a"): 1, ("old", "prod/b"): 3}
    assert newest(times) == {("prod", "a"): 2, ("prod", "b"): 3}


class Scene:
    """Times in a store, Webhooks in a world, and an API server that notes what is written."""

    def __init__(self, *names: str) -> None:
        self.world = World()
        self.taken_ms: dict[tuple[str, str], int] = {}
        self.reads = 0
        self.done: list[tuple[str, Json]] = []
        """Name, and what of the status changes."""
        self.refuses: dict[str, int] = {}
        """HTTP statuses, by name of the Webhook."""
        self.generation = 1
        self.dirty: list[Dirty] = []
        for name in names:
            self.world.put(WEBHOOKS, self.raw(name, {}))
        self.times = ReceivedTimes(
            self.world,
            cast(Cluster, self),
            cast(WebhookStore, self),
            Metrics(),
            self.dirty.append,
            writes_per_s=1_000_000,
        )

    def raw(self, name: str, status: Json) -> Json:
        """A Webhook as the API server has it."""
        meta = {
            "name": name,
            "namespace": "prod",
            "uid": f"u-{name}",
            "generation": self.generation,
            "resourceVersion": str(len(self.done) + 1),
        }
        return {"metadata": meta, "spec": {"transform": {"script": "x"}}, "status": status}

    def took(self, name: str, at_ms: int) -> None:
        """A gateway has noted a request."""
        self.taken_ms["prod", f"prod/{name}"] = at_ms

    async def last_taken(self) -> Mapping[tuple[str, str], int]:
        """What a `WebhookStore` does."""
        self.reads += 1
        return self.taken_ms

    async def do(self, action: Action, *, status_now: Json | None = None) -> Json | None:
        """What a `Cluster` does."""
        assert isinstance(action, SetStatus)
        before = status_now or {}
        changed = {name: value for name, value in action.status.items() if before.get(name) != value}
        if action.name in self.refuses:
            raise ApiError(self.refuses[action.name], "No", "no")
        self.done.append((action.name, changed))
        return self.raw(action.name, dict(action.status))


async def test_a_thousand_idle_webhooks_are_one_read_and_no_write() -> None:
    names = [f"hook-{n}" for n in range(1_000)]
    scene = Scene(*names)
    await scene.times.write()
    assert (scene.reads, scene.done) == (1, [])
    for name in names[:3]:
        scene.took(name, NOW_MS)
    await scene.times.write()
    assert scene.done == [(name, {"lastReceivedTime": NOW}) for name in names[:3]]
    await scene.times.write()
    assert (scene.reads, len(scene.done)) == (3, 3)


async def test_without_webhooks_the_store_is_not_asked() -> None:
    scene = Scene()
    await scene.times.write()
    assert scene.reads == 0


async def test_a_webhook_that_is_refused_keeps_no_other_waiting() -> None:
    scene = Scene("a", "b")
    for name in ("a", "b"):
        scene.took(name, NOW_MS)
    scene.refuses["a"] = 403
    await scene.times.write()
    assert [name for name, _ in scene.done] == ["b"]
    scene.refuses.clear()
    await scene.times.write()
    assert [name for name, _ in scene.done] == ["b", "a"]


@pytest.mark.parametrize("status", [0, 429, 503])
async def test_an_api_server_in_trouble_is_left_alone_until_the_next_round(status: int) -> None:
    scene = Scene("a", "b")
    for name in ("a", "b"):
        scene.took(name, NOW_MS)
    scene.refuses["a"] = status
    with pytest.raises(ApiError):
        await scene.times.write()
    assert scene.done == []


async def test_a_spec_that_the_answer_shows_first_is_looked_at() -> None:
    """The watch tells of it afterwards, and then it is known already."""
    scene = Scene("a")
    scene.took("a", NOW_MS)
    await scene.times.write()
    assert [each.webhooks for each in scene.dirty] == [frozenset()]
    scene.took("a", NOW_MS + MINUTE_MS)
    scene.generation = 2
    await scene.times.write()
    assert [each.webhooks for each in scene.dirty][1:] == [frozenset({("prod", "a")})]


# ---- a whole operator


def declare(house: House, namespace: str, name: str, script: str = "function transform() {}") -> None:
    """Apply a Webhook, and wait until it is ready."""
    meta = {"name": name, "namespace": namespace}
    spec = {"transform": {"script": script}}
    made = house.cluster.apply({"apiVersion": API, "kind": "Webhook", "metadata": meta, "spec": spec})
    generation = made["metadata"]["generation"]
    house.until(
        "Webhook",
        namespace,
        name,
        lambda obj: says(obj, "Ready", "True") and obj["status"].get("observedGeneration") == generation,
    )


def take(house: House, namespace: str, name: str, ago_ms: int) -> None:
    """Note a request, as a gateway does."""
    ages_ms = {(namespace, f"{namespace}/{name}"): ago_ms}
    house.store_run(lambda store: WebhookStore(store).note_taken(ages_ms))


def shown_ms(house: House, namespace: str, name: str) -> int | None:
    """The time in a status."""
    found = house.cluster.get("Webhook", namespace, name)
    assert found is not None
    text = found["status"].get("lastReceivedTime")
    return None if text is None else read_time_ms(text)


def test_the_time_comes_into_the_status_and_stays_through_other_changes(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace(keys=False)
    for name in ("busy", "idle"):
        declare(house, namespace, name)
    running.idle()
    looks = running.metric("reconciles_total", kind="webhook", result="ok")
    take(house, namespace, "busy", 10 * MINUTE_MS)
    running.write_received()
    before_ms = shown_ms(house, namespace, "busy")
    assert before_ms is not None
    assert abs(running.clock.now_ms() - 10 * MINUTE_MS - before_ms) < 5 * MINUTE_MS
    running.idle()
    writes = running.metric("status_writes_total", kind="Webhook")
    assert running.metric("reconciles_total", kind="webhook", result="ok") == looks, "no look comes of it"
    take(house, namespace, "busy", 10 * MINUTE_MS - 1_000)
    running.write_received()
    assert shown_ms(house, namespace, "busy") == before_ms, "less than a minute later"
    take(house, namespace, "busy", 0)
    running.write_received()
    after_ms = shown_ms(house, namespace, "busy")
    assert after_ms is not None
    assert after_ms >= before_ms + 5 * MINUTE_MS
    running.write_received()
    assert running.metric("status_writes_total", kind="Webhook") == writes + 1
    declare(house, namespace, "busy", "function transform() { return [] }")
    running.idle()
    assert shown_ms(house, namespace, "busy") == after_ms
    assert shown_ms(house, namespace, "idle") is None


def test_the_operator_that_leads_writes_times_by_itself(house: House, running: RunningOperator) -> None:
    running.stop()
    operator = house.operator(received_interval_ms=20)
    operator.settled()
    namespace = house.namespace(keys=False)
    declare(house, namespace, "acme")
    take(house, namespace, "acme", 0)
    house.until("Webhook", namespace, "acme", lambda obj: "lastReceivedTime" in obj["status"])
    operator.stop()
