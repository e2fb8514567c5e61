"""Looks at apps: what breaks for one holds up no other, and is tried again."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import pytest

from innkeeper_apps.wire.register import parse_in_band
from innkeeper_engine.model.reach import Reach
from innkeeper_operator.asking import SPACING_MS
from innkeeper_operator.keys import AppKeys
from innkeeper_operator.objects import SYNC_REQUESTED, AppObject
from innkeeper_operator.views import Answered, Ask, Outcome
from tests.operator.house import House, RunningOperator, function


class ScriptedAsker:
    """Asks nobody: answers as an app with one function would, or as told."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        """Names of Services whose asks break."""
        self.slow: set[str] = set()
        """Those that never answer."""
        self.asked: list[str] = []
        self.asks: list[Ask] = []
        self.cancelled = threading.Event()

    async def ask(self, ask: Ask, keys: AppKeys) -> Outcome:
        """Whatever was set."""
        service = ask.url.split("//")[1].split(".")[0]
        self.asked.append(service)
        self.asks.append(ask)
        if service in self.broken:
            raise RuntimeError("nobody thought of this")
        if service in self.slow:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        body = {"app_id": service, "url": "http://x/api/inngest", "functions": [function("charge", service)]}
        registration = parse_in_band(json.dumps(body).encode())
        return Answered(
            registration=registration, revision=ask.revision, at=ask.at, time_ms=int(time.time() * 1000)
        )


@pytest.fixture
def asker() -> ScriptedAsker:
    """What the operators of a test ask with."""
    return ScriptedAsker()


@pytest.fixture
def operator(house: House, asker: ScriptedAsker) -> Iterator[RunningOperator]:
    """An operator of the test's own."""
    made = house.operator(asker=asker, workers=4)
    made.settled()
    yield made
    made.stop()


def declare(house: House, namespace: str, name: str) -> None:
    """An app behind a Service of its name."""
    house.serve(namespace, name, [(f"{name}-a", "r1", "192.0.2.200")])
    house.declare(namespace, name)


def test_apps_that_never_answer_hold_up_nobody(
    house: House, operator: RunningOperator, asker: ScriptedAsker
) -> None:
    """There are more of them than workers."""
    namespace = house.namespace()
    asker.slow = {f"slow{n}" for n in range(8)}
    for name in sorted(asker.slow):
        declare(house, namespace, name)
    declare(house, namespace, "quick")
    house.until_ready(namespace, "quick")
    house.cluster.patch("InngestApp", namespace, "slow1", {"spec": {"paused": True}})
    house.until("InngestApp", namespace, "slow1", lambda app: app["status"]["conditions"])
    assert asker.asked.count("slow1") == 1


def test_an_ask_of_an_app_that_is_deleted_is_given_up(
    house: House, operator: RunningOperator, asker: ScriptedAsker
) -> None:
    namespace = house.namespace()
    asker.slow = {"shop"}
    declare(house, namespace, "shop")
    house.until("InngestApp", namespace, "shop", lambda app: "shop" in asker.asked)
    house.until("InngestApp", namespace, "shop", lambda app: "status" in app)
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    assert asker.cancelled.wait(60)


def test_a_url_is_a_persons_and_a_service_the_platforms(
    house: House, operator: RunningOperator, asker: ScriptedAsker
) -> None:
    """Asks and calls go by it; with both goes what the Namespace grants."""
    granted = {"innkeeper.dev/egress-allow": "10.1.0.0/16, billing.internal"}
    namespace = house.namespace(annotations=granted)
    declare(house, namespace, "served")
    house.declare(namespace, "named", endpoint={"url": "http://named.example/api/inngest"})
    for name in ("served", "named"):
        house.until_ready(namespace, name)
        # The first ask may have gone before the Namespace was seen.
        again = {"metadata": {"annotations": {SYNC_REQUESTED: "again"}}}
        house.cluster.patch("InngestApp", namespace, name, again)
    operator.skip(SPACING_MS)
    for name in ("served", "named"):
        house.until("InngestApp", namespace, name, lambda app, name=name: asker.asked.count(name) == 2)
    reached = {ask.url.split("//")[1].split(".")[0]: ask.reach for ask in asker.asks}
    allow = ("10.1.0.0/16", "billing.internal")
    assert reached["served"] == Reach(env=namespace, allow=allow)
    assert reached["named"] == Reach(env=namespace, allow=allow, public_only=True)
    registered = house.registry(namespace)
    assert {name: app.public_only for name, app in registered.items()} == {"served": False, "named": True}


def test_an_ask_that_breaks_is_counted_and_made_again(
    house: House, operator: RunningOperator, asker: ScriptedAsker
) -> None:
    namespace = house.namespace()
    asker.broken = {"bad"}
    declare(house, namespace, "bad")
    declare(house, namespace, "good")
    house.until_ready(namespace, "good")
    operator.idle()
    assert operator.metric("asks_total", why="First", result="Broken") == 1
    asker.broken = set()
    operator.skip(SPACING_MS)
    house.until_ready(namespace, "bad")


def test_a_look_that_fails_is_made_again_while_others_go_on(
    house: House, operator: RunningOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = house.namespace()
    real = operator.operator.registry.register
    failures = 3

    async def failing(env: str, app: object) -> None:
        nonlocal failures
        if getattr(app, "id", "") == "bad" and failures:
            failures -= 1
            raise RuntimeError("nobody thought of this")
        await real(env, app)  # type: ignore[arg-type]

    monkeypatch.setattr(operator.operator.registry, "register", failing)
    declare(house, namespace, "bad")
    declare(house, namespace, "good")
    house.until_ready(namespace, "good")
    house.until_ready(namespace, "bad")
    assert operator.metric("reconciles_total", kind="app", result="error") == 3
    assert set(house.registry(namespace)) == {"bad", "good"}


def test_an_environment_that_cannot_be_planned_holds_up_no_other(
    house: House, operator: RunningOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from innkeeper_operator import environs

    bad, good = house.namespace(), house.namespace()
    real = environs.plan_environment

    def failing(view: environs.EnvironmentView, **rest: object) -> object:
        if view.name == bad:
            raise RuntimeError("nobody thought of this")
        return real(view, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(environs, "plan_environment", failing)
    declare(house, bad, "shop")
    declare(house, good, "shop")
    house.until_ready(good, "shop")
    monkeypatch.undo()
    operator.look(("environments", "", ""))
    house.until_ready(bad, "shop")


def test_finished_apps_leave_nothing_behind(house: House, operator: RunningOperator) -> None:
    namespace = house.namespace()
    declare(house, namespace, "shop")
    house.until_ready(namespace, "shop")
    known = len(operator.operator.reconciler._states)
    house.cluster.patch("InngestApp", namespace, "shop", {"spec": {"deletionPolicy": "Cancel"}})
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    operator.idle()
    assert len(operator.operator.reconciler._states) == known - 1


def test_a_wish_that_comes_in_the_middle_of_a_look_is_not_lost(
    house: House, operator: RunningOperator, asker: ScriptedAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = house.namespace()
    declare(house, namespace, "quick")
    house.until_ready(namespace, "quick")
    operator.idle()
    parts, met = operator.operator, threading.Event()
    read_id = parts.registry.id
    wishes = ["1"]

    async def done() -> None:
        met.set()

    async def id_and_a_wish() -> str:
        found = await read_id()
        app = parts.world.app((namespace, "quick"))
        if wishes and isinstance(app, AppObject):
            await parts.reconciler.demand(app, wishes.pop(), done)
        return found

    monkeypatch.setattr(parts.registry, "id", id_and_a_wish)
    operator.skip(SPACING_MS)
    operator.look(("app", namespace, "quick"))
    assert met.wait(60)
    assert asker.asked == ["quick", "quick"]
