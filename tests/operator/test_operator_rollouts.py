"""New code is asked for its functions once, soon, and at one of its own pods; anything else costs no call."""

import time

from innkeeper_operator.asking import SETTLED_MS, SPACING_MS
from innkeeper_operator.plan import GONE_MS
from tests.operator.house import Face, House, RunningOperator, ScriptedApp, says


class Rollout:
    """A Service whose pods come and go."""

    def __init__(self, house: House, namespace: str) -> None:
        self.house = house
        self.namespace = namespace
        self.pods: dict[str, tuple[str, Face]] = {}

    def add(self, app: ScriptedApp, revision: str, *names: str) -> None:
        """Pods of a revision become ready."""
        for name in names:
            self.pods[name] = (revision, self.house.apps.face(app))
        self._serve()

    def remove(self, *names: str) -> None:
        """Pods go."""
        for name in names:
            del self.pods[name]
        self._serve()

    def _serve(self) -> None:
        pods = [(name, revision, face.address) for name, (revision, face) in self.pods.items()]
        self.house.serve(self.namespace, "shop", pods)


def started(house: House, *functions: str) -> tuple[Rollout, ScriptedApp]:
    """An app of one revision with two pods, synced."""
    namespace = house.namespace()
    app = house.app(namespace, *functions)
    rollout = Rollout(house, namespace)
    rollout.add(app, "r1", "shop-r1-a", "shop-r1-b")
    house.declare(namespace)
    house.until_ready(namespace)
    return rollout, app


def until_synced(house: House, namespace: str, revision: str) -> None:
    """Wait until a revision is known to declare what is registered."""

    def synced(app: dict[str, object]) -> bool:
        revisions = app["status"]["sync"]["revisions"]  # type: ignore[index]
        return any(each["name"] == revision and each["synced"] and each["ready"] for each in revisions)

    house.until("InngestApp", namespace, "shop", synced)


def test_a_rollout_is_synced_within_seconds_of_leading_and_old_functions_stay_until_it_is_alone(
    house: House, running: RunningOperator
) -> None:
    rollout, old = started(house, "charge", "gone")
    new = house.app(rollout.namespace, "charge", "fresh")
    rollout.add(new, "r2", "shop-r2-a")
    running.idle()
    assert new.asked == 0, "two pods of the old code lead"
    rollout.remove("shop-r1-b")
    rollout.add(new, "r2", "shop-r2-b")
    leads_s = time.monotonic()
    house.until("InngestApp", rollout.namespace, "shop", lambda app: app["status"]["functions"] == 3)
    took_s = time.monotonic() - leads_s
    print(f"synced {took_s:.2f} s after it began to lead")
    assert took_s < 15, "5 s, on a machine that has time for it"
    assert new.asked == 1
    assert old.asked == 1
    assert {address for _, address in new.calls} <= {face.address for _, face in rollout.pods.values()}
    slugs = {each.slug for each in house.registry(rollout.namespace)["shop"].functions}
    assert slugs == {"shop-charge", "shop-gone", "shop-fresh"}
    running.skip(SPACING_MS)
    rollout.remove("shop-r1-a")
    running.idle()
    until_synced(house, rollout.namespace, "r2")


def test_what_is_gone_from_the_code_goes_from_the_registry_and_its_object_ten_minutes_later(
    house: House, running: RunningOperator
) -> None:
    rollout, _ = started(house, "charge", "gone")
    namespace = rollout.namespace
    new = house.app(namespace, "charge")
    rollout.add(new, "r2", "shop-r2-a")
    rollout.remove("shop-r1-a", "shop-r1-b")
    house.until("InngestApp", namespace, "shop", lambda app: app["status"]["functions"] == 1)
    assert [f.slug for f in house.registry(namespace)["shop"].functions] == ["shop-charge"]
    house.until_function(namespace, "shop-gone", "Ready", "False", "NotRegistered")
    running.skip(GONE_MS + 1000)
    house.until_gone("Function", namespace, "shop-gone")
    assert house.cluster.get("Function", namespace, "shop-charge") is not None


def test_a_persons_object_of_a_function_that_is_gone_stays_for_the_rollback(
    house: House, running: RunningOperator
) -> None:
    rollout, old = started(house, "charge", "gone")
    namespace = rollout.namespace
    house.declare_function(namespace, "mine", "gone", retries=1)
    house.until_function(namespace, "mine", "Ready", "True")
    new = house.app(namespace, "charge")
    rollout.add(new, "r2", "shop-r2-a")
    rollout.remove("shop-r1-a", "shop-r1-b")
    house.until_function(namespace, "mine", "Ready", "False", "NotRegistered")
    running.skip(max(GONE_MS, SPACING_MS) + 1000)
    rollout.add(old, "r1", "shop-r1-c")
    rollout.remove("shop-r2-a")
    house.until_function(namespace, "mine", "Ready", "True")
    config = house.registered(namespace, "shop-gone")
    assert config is not None
    assert config.retries == 1


def test_scaling_restarts_and_canaries_cost_no_call(house: House, running: RunningOperator) -> None:
    rollout, app = started(house, "charge")
    running.idle()
    calls = len(app.calls)
    rollout.add(app, "r1", "shop-r1-c", "shop-r1-d")
    running.idle()
    rollout.remove("shop-r1-a", "shop-r1-b", "shop-r1-c")
    running.idle()
    rollout.add(app, "r1", "shop-r1-e", "shop-r1-f")
    running.idle()
    canary = house.app(rollout.namespace, "charge", "fresh")
    rollout.add(canary, "canary", "shop-canary-a")
    running.idle()
    running.skip(SETTLED_MS + SPACING_MS)
    running.idle()
    assert len(app.calls) == calls
    assert canary.calls == []


def test_without_endpoints_nothing_is_removed_and_coming_back_costs_no_call(
    house: House, running: RunningOperator
) -> None:
    rollout, app = started(house, "charge")
    namespace = rollout.namespace
    rollout.remove("shop-r1-a", "shop-r1-b")
    house.until_app(namespace, "shop", "Reachable", "Unknown", "NoEndpoints")
    assert [f.slug for f in house.registry(namespace)["shop"].functions] == ["shop-charge"]
    running.skip(SETTLED_MS + SPACING_MS)
    rollout.add(app, "r1", "shop-r1-g")
    house.until_ready(namespace)
    running.idle()
    assert app.asked == 1


def test_a_switch_of_the_selector_is_a_new_leader(house: House, running: RunningOperator) -> None:
    """Blue and green: all endpoints change at once."""
    rollout, _ = started(house, "charge")
    green = house.app(rollout.namespace, "charge", "fresh")
    faces = [house.apps.face(green) for _ in range(2)]
    began_s = time.monotonic()
    rollout.house.serve(
        rollout.namespace, "shop", [(f"green-{n}", "green", face.address) for n, face in enumerate(faces)]
    )
    house.until("InngestApp", rollout.namespace, "shop", lambda app: app["status"]["functions"] == 2)
    assert time.monotonic() - began_s < 15
    assert green.asked == 1


def test_an_equal_answer_of_new_code_writes_nothing_to_the_registry(
    house: House, running: RunningOperator
) -> None:
    rollout, _ = started(house, "charge")
    before = house.registry(rollout.namespace)["shop"]
    same = house.app(rollout.namespace, "charge")
    rollout.add(same, "r2", "shop-r2-a")
    rollout.remove("shop-r1-a", "shop-r1-b")
    until_synced(house, rollout.namespace, "r2")
    assert same.asked == 1
    assert house.registry(rollout.namespace)["shop"] == before


def test_endpoints_without_pods_are_asked_once_each(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    first, second = house.apps.face(app), house.apps.face(app)
    house.serve(namespace, "shop", [("", "", first.address)])
    house.declare(namespace)
    house.until_ready(namespace)
    running.skip(SPACING_MS)
    house.serve(namespace, "shop", [("", "", first.address), ("", "", second.address)])
    running.idle()
    running.skip(SETTLED_MS)
    house.until("InngestApp", namespace, "shop", lambda obj: len(obj["status"]["sync"]["addresses"]) == 2)
    running.skip(SETTLED_MS + SPACING_MS)
    running.idle()
    assert app.asked == 2


def test_an_app_that_is_another_one_than_declared_is_not_asked_again_and_again(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    house.deploy(namespace, app)
    house.declare(namespace, appId="market")
    house.until_app(namespace, "shop", "Ready", "False", "AppIdMismatch")
    running.idle()
    asked = app.asked
    running.skip(5 * SPACING_MS)
    running.idle()
    assert app.asked == asked


def test_an_app_that_fails_is_asked_again_later_and_later(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    app.status = 500
    house.deploy(namespace, app)
    house.declare(namespace)
    house.until_app(namespace, "shop", "Ready", "False", "InternalServerError")
    running.idle()
    asked = app.asked
    running.skip(SPACING_MS)
    running.idle()
    assert app.asked > asked
    app.status = None
    running.skip(5 * SPACING_MS)
    house.until("InngestApp", namespace, "shop", lambda obj: says(obj, "Ready", "True"))
