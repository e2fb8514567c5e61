"""Looks at Webhooks: what is tried when, and what is written. The store, the sandbox and the cluster are in memory."""

from collections.abc import Iterable
from typing import Any, cast

import pytest

from innkeeper_apps.sandbox.failures import Code, SandboxBusyError, TransformError
from innkeeper_apps.sandbox.pool import Sandbox
from innkeeper_apps.sealing import Sealer
from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.connection import StoreUnavailableError
from innkeeper_engine.store.webhooks import Snapshot, WebhookStore
from innkeeper_operator.actions import Action, Create, SetStatus
from innkeeper_operator.doing import Doer
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.webhook_reconcile import WebhookReconciler
from innkeeper_operator.world import NAMESPACES, SECRETS, WEBHOOKS, World

Json = dict[str, Any]

TOKEN = "ab" * 32
KEY = ("prod", "acme")
NOW_MS = 1_795_000_000_000


class StillClock:
    """Always the same time."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return NOW_MS


class FakeStore:
    """Records in memory."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Webhook] = {}
        self.calls: list[str] = []
        self.away = False

    async def read(self) -> Snapshot:
        self.calls.append("read")
        return Snapshot(1, tuple(self.records.values()))

    async def write(self, webhook: Webhook) -> bool:
        if self.away:
            raise StoreUnavailableError("away")
        self.calls.append("write")
        self.records[webhook.env, webhook.name] = webhook
        return True

    async def remove(self, env: str, name: str) -> bool:
        self.calls.append("remove")
        return self.records.pop((env, name), None) is not None


class FakeSandbox:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.says: Exception | None = None
        self.closed = False

    async def check_transform(self, source: str) -> None:
        self.tried.append(source)
        if self.says is not None:
            raise self.says

    async def close(self) -> None:
        self.closed = True


class Scene:
    """A reconciler and all that it reaches."""

    def __init__(self, **settings: Any) -> None:
        self.world = World()
        self.store = FakeStore()
        self.sandbox = FakeSandbox()
        self.done: list[Action] = []
        self.version = 0
        self.reconciler = WebhookReconciler(
            self.world,
            cast(WebhookStore, self.store),
            cast(Sandbox, self.sandbox),
            cast(Doer, self),
            OperatorSettings(base_url="https://hooks.example", **settings),
            Sealer(bytes(range(32))),
            StillClock(),
            prepare=self.prepare,
            random_hex=lambda: TOKEN,
        )

    async def prepare(self) -> None:
        """Everything that is named is there."""

    async def do(self, actions: Iterable[Action]) -> None:
        """What a `Doer` does, as far as the world learns of it."""
        for action in actions:
            self.done.append(action)
            if isinstance(action, Create):
                self.put(SECRETS, action.manifest)

    def put(self, kind: str, raw: Json) -> None:
        """Let an object be there."""
        self.version += 1
        meta = {"uid": f"u-{raw['metadata']['name']}", "resourceVersion": str(self.version)}
        self.world.put(kind, raw | {"metadata": raw["metadata"] | meta})

    def declare(self, script: str = "x", generation: int = 1, **meta: Any) -> None:
        """Let the Webhook be there."""
        about = {"name": "acme", "namespace": "prod", "generation": generation} | meta
        self.put(WEBHOOKS, {"metadata": about, "spec": {"transform": {"script": script}}})

    async def look(self) -> int | None:
        """One look at it."""
        return await self.reconciler.look(KEY)

    def reasons(self) -> list[str]:
        """What each status said."""
        return [each.status["conditions"][0]["reason"] for each in self.done if isinstance(each, SetStatus)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_one_look_makes_the_url_the_record_and_the_status(scene: Scene) -> None:
    scene.declare()
    assert await scene.look() is None
    assert scene.store.records == {
        ("prod", "prod/acme"): Webhook(name="prod/acme", env="prod", digest=key_digest(TOKEN), transform="x")
    }
    assert scene.reasons() == ["Ready"]
    await scene.look()
    assert scene.store.calls == ["read", "write"]
    assert scene.sandbox.tried == ["x"]


@pytest.mark.parametrize("code", ["syntax", "threw", "async", "source_size"])
async def test_a_source_that_is_wrong_is_tried_once(scene: Scene, code: Code) -> None:
    scene.sandbox.says = TransformError(code, "no", 2, 3)
    scene.declare("bad")
    assert [await scene.look(), await scene.look()] == [None, None]
    assert scene.sandbox.tried == ["bad"]
    assert scene.reasons() == ["InvalidTransform"] * 2
    scene.declare("worse", generation=2)
    await scene.look()
    assert scene.sandbox.tried == ["bad", "worse"]


@pytest.mark.parametrize(
    ("failure", "reason", "wait_ms"),
    [
        (SandboxBusyError("too many wait"), "NotChecked", 5_000),
        (TransformError("timeout", "too slow"), "InvalidTransform", 60_000),
        (TransformError("crashed", "gone"), "InvalidTransform", 60_000),
    ],
)
async def test_what_the_machine_may_have_caused_is_tried_again(
    scene: Scene, failure: Exception, reason: str, wait_ms: int
) -> None:
    scene.sandbox.says = failure
    scene.declare()
    assert await scene.look() == NOW_MS + wait_ms
    scene.sandbox.says = None
    assert await scene.look() is None
    assert scene.reasons() == [reason, "Ready"]
    assert scene.sandbox.tried == ["x", "x"]


async def test_what_the_store_did_not_take_is_written_at_the_next_look(scene: Scene) -> None:
    scene.declare()
    scene.store.away = True
    with pytest.raises(StoreUnavailableError):
        await scene.look()
    assert scene.reasons() == [], "it is not ready before gateways know it"
    scene.store.away = False
    await scene.look()
    assert len(scene.store.records) == 1


async def test_another_store_is_read_anew_and_filled(scene: Scene) -> None:
    scene.declare()
    await scene.look()
    scene.store.records.clear()
    scene.reconciler.forget_store()
    await scene.look()
    assert len(scene.store.records) == 1


async def test_records_of_two_environments_become_one(scene: Scene) -> None:
    for env in ("old", "older"):
        scene.store.records[env, "prod/acme"] = Webhook(name="prod/acme", env=env, digest="0", transform="x")
    scene.declare()
    await scene.look()
    assert list(scene.store.records) == [("prod", "prod/acme")]


@pytest.mark.parametrize("whole_namespace", [True, False])
async def test_what_is_being_deleted_takes_nothing_any_more(scene: Scene, whole_namespace: bool) -> None:
    scene.declare()
    await scene.look()
    going = "2026-11-23T00:00:00Z"
    if whole_namespace:
        scene.put(NAMESPACES, {"metadata": {"name": "prod", "deletionTimestamp": going}})
    else:
        scene.declare(deletionTimestamp=going)
    scene.done.clear()
    await scene.look()
    assert scene.store.records == {}
    assert scene.done == []


async def test_a_webhook_that_cannot_be_read_keeps_its_record(scene: Scene) -> None:
    scene.declare()
    await scene.look()
    scene.put(
        WEBHOOKS,
        {"metadata": {"name": "acme", "namespace": "prod", "generation": 2}, "spec": {"transform": 3}},
    )
    await scene.look()
    assert scene.reasons() == ["Ready", "Unsupported"]
    assert len(scene.store.records) == 1


async def test_records_without_a_webhook_are_found_where_one_looks_after_them() -> None:
    scene = Scene(namespaces=("prod",))
    for name in ("prod/acme", "prod/gone", "eu/theirs"):
        scene.store.records["prod", name] = Webhook(name=name, env="prod", digest=name, transform="x")
    scene.declare()
    assert await scene.reconciler.strays() == [("prod", "gone")]
    for key in (("prod", "gone"), ("eu", "theirs")):
        await scene.reconciler.look(key)
    assert {name for _, name in scene.store.records} == {"prod/acme", "eu/theirs"}


async def test_the_sandbox_ends_with_it(scene: Scene) -> None:
    await scene.reconciler.close()
    assert scene.sandbox.closed
