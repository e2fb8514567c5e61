"""People, GitOps and the operator on the same Functions: everybody keeps what is theirs."""

from typing import Any

from tests.operator.house import API, House, RunningOperator, condition

Json = dict[str, Any]


def ready(house: House, *functions: str) -> str:
    """A namespace with a synced app."""
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, *functions))
    house.declare(namespace)
    house.until_ready(namespace)
    for each in functions:
        house.until_function(namespace, f"shop-{each}", "Ready", "True")
    return namespace


def let_go(obj: Json) -> bool:
    """Whether nothing of the operator is left on an object but its status."""
    meta = obj["metadata"]
    return not meta.get("ownerReferences") and "app.kubernetes.io/managed-by" not in meta.get("labels", {})


def test_gitops_may_apply_the_operators_object_without_conflict_and_then_owns_it(
    house: House, running: RunningOperator
) -> None:
    namespace = ready(house, "charge")
    house.declare_function(
        namespace, "shop-charge", "charge", manager="flux", throttle={"limit": 3, "period": "1m"}
    )
    found = house.until("Function", namespace, "shop-charge", let_go)
    assert found["spec"]["throttle"] == {"limit": 3, "period": "1m"}
    found = house.until_function(namespace, "shop-charge", "Accepted", "True", "Accepted")
    assert found["status"]["effective"]["throttle"] == {"limit": 3, "period": "1m", "burst": 1}
    assert {e["manager"] for e in found["metadata"]["managedFields"] if not e.get("subresource")} == {"flux"}


def test_an_object_under_another_name_takes_the_place_of_the_operators(
    house: House, running: RunningOperator
) -> None:
    namespace = ready(house, "charge")
    house.declare_function(namespace, "from-git", "charge", manager="argocd", retries=7)
    house.until_gone("Function", namespace, "shop-charge")
    found = house.until_function(namespace, "from-git", "Ready", "True")
    assert let_go(found)
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert config.retries == 7


def test_pruning_takes_the_overrides_away_and_the_operator_makes_a_bare_one(
    house: House, running: RunningOperator
) -> None:
    namespace = ready(house, "charge")
    house.declare_function(namespace, "shop-charge", "charge", manager="flux", paused=True, retries=1)
    house.until_function(namespace, "shop-charge", "Ready", "True", "Paused")
    house.cluster.delete("Function", namespace, "shop-charge")

    def bare(obj: Json) -> bool:
        return not let_go(obj) and condition(obj, "Ready").get("reason") == "Registered"

    found = house.until("Function", namespace, "shop-charge", bare)
    assert set(found["spec"]) == {"appRef", "id"}
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert not config.paused
    running.idle()
    events = house.cluster.list("events.events.k8s.io", namespace)
    removed = [event for event in events if event["reason"] == "OverridesRemoved"]
    assert [event["type"] for event in removed] == ["Warning"]


def test_a_pause_by_hand_stays_when_git_applies_again(house: House, running: RunningOperator) -> None:
    namespace = ready(house, "charge")
    house.declare_function(namespace, "shop-charge", "charge", manager="flux", retries=3)
    house.until("Function", namespace, "shop-charge", let_go)
    house.cluster.patch("Function", namespace, "shop-charge", {"spec": {"paused": True}})
    house.until_function(namespace, "shop-charge", "Ready", "True", "Paused")
    house.declare_function(namespace, "shop-charge", "charge", manager="flux", retries=5)
    found = house.until(
        "Function", namespace, "shop-charge", lambda obj: obj["status"]["effective"]["retries"] == 5
    )
    assert found["spec"]["paused"] is True
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert config.paused


def test_a_patch_by_hand_of_the_operators_object_makes_it_a_persons(
    house: House, running: RunningOperator
) -> None:
    namespace = ready(house, "charge")
    house.cluster.patch("Function", namespace, "shop-charge", {"spec": {"retries": 2}})
    found = house.until("Function", namespace, "shop-charge", let_go)
    assert found["spec"] == {"appRef": {"name": "shop"}, "id": "charge", "retries": 2}
    house.until_function(namespace, "shop-charge", "Ready", "True")


def test_a_deleted_object_of_the_operator_comes_back(house: House, running: RunningOperator) -> None:
    namespace = ready(house, "charge")
    first = house.cluster.get("Function", namespace, "shop-charge")
    assert first is not None
    house.cluster.delete("Function", namespace, "shop-charge")
    again = house.until(
        "Function", namespace, "shop-charge", lambda obj: obj["metadata"]["uid"] != first["metadata"]["uid"]
    )
    assert not let_go(again)
    house.until_function(namespace, "shop-charge", "Ready", "True")


def test_a_name_that_another_apps_function_has_is_not_taken_from_it(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    house.declare_function(namespace, "shop-charge", "other", app="elsewhere")
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace)
    house.until_ready(namespace)
    running.idle()
    own = [
        obj
        for obj in house.cluster.list("Function", namespace)
        if obj["spec"] == {"appRef": {"name": "shop"}, "id": "charge"}
    ]
    assert len(own) == 1
    assert own[0]["metadata"]["name"].startswith("shop-charge-")
    untouched = house.cluster.get("Function", namespace, "shop-charge")
    assert untouched is not None
    assert untouched["spec"]["appRef"] == {"name": "elsewhere"}


def test_applying_what_is_there_already_makes_the_operator_write_nothing(
    house: House, running: RunningOperator
) -> None:
    namespace = ready(house, "charge")
    manifest = {
        "apiVersion": API,
        "kind": "Function",
        "metadata": {"name": "mine", "namespace": namespace},
        "spec": {"appRef": {"name": "shop"}, "id": "charge", "retries": 1},
    }
    house.cluster.apply(manifest, "flux")
    house.until_function(namespace, "mine", "Ready", "True")
    house.until_gone("Function", namespace, "shop-charge")
    running.idle()
    before = house.cluster.get("Function", namespace, "mine")
    house.cluster.apply(manifest, "flux")
    running.idle()
    assert house.cluster.get("Function", namespace, "mine") == before
