"""Whose a Function is: what the operator may write, what it gives up, and which of several counts."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_operator.actions import Apply, Delete
from innkeeper_operator.objects import MANAGED_BY, FunctionObject, Managed, Meta
from innkeeper_operator.ownership import (
    belongs_to_another,
    claims,
    id_of,
    let_go,
    object_name,
    owned_by_operator,
    slug_of,
)
from innkeeper_operator.specs import AppRef, FunctionSpec
from tests.operator.plan_kit import House, declared

OURS = Managed("innkeeper-operator", "Apply", "", frozenset({"appRef", "id"}))
LABEL = {MANAGED_BY: "innkeeper"}


def function(
    name: str,
    function_id: str = "orders",
    *,
    created: str = "2026-01-01T00:00:00Z",
    labels: dict[str, str] | None = None,
    managed: tuple[Managed, ...] = (),
    owners: tuple[str, ...] = (),
    deleting: bool = False,
) -> FunctionObject:
    meta = Meta(
        name=name,
        namespace="prod",
        uid=f"uid-{name}",
        created=created,
        labels=labels or {},
        managed=managed,
        owner_uids=owners,
        deleting=deleting,
    )
    return FunctionObject(meta, FunctionSpec(app_ref=AppRef(name="shop"), id=function_id), {})


def theirs(*fields: str, manager: str = "argocd") -> Managed:
    return Managed(manager, "Apply", "", frozenset(fields))


# ---- who owns it


@pytest.mark.parametrize(
    ("labels", "managed", "own"),
    [
        (LABEL, (OURS,), True),
        (LABEL, (OURS, Managed("kubectl-patch", "Update", "", frozenset({"paused"}))), False),
        (LABEL, (OURS, Managed("innkeeper-operator", "Update", "status", frozenset())), True),
        (LABEL, (OURS, Managed("kubectl-label", "Update", "", frozenset())), True),
        ({}, (OURS,), False),
        (LABEL, (theirs("appRef", "id"),), False),
        (LABEL, (), False),
    ],
)
def test_an_object_is_a_persons_once_somebody_else_has_a_say(
    labels: dict[str, str], managed: tuple[Managed, ...], own: bool
) -> None:
    assert owned_by_operator(function("a", labels=labels, managed=managed).meta) is own


def test_of_several_the_oldest_of_peoples_counts() -> None:
    old = function("z", created="2026-01-01T00:00:00Z")
    young = function("a", created="2026-01-02T00:00:00Z")
    own = function("shop-orders", created="2025-01-01T00:00:00Z", labels=LABEL, managed=(OURS,))
    found = claims([young, own, old])["orders"]
    assert (found.holder, found.duplicates, found.spare) == (old, (young,), (own,))


def test_objects_of_one_second_are_told_apart_the_same_way_every_time() -> None:
    one, other = function("a"), function("b")
    assert claims([one, other]) == claims([other, one])
    assert claims([one, other])["orders"].holder == one


def test_an_object_that_is_being_deleted_does_not_count() -> None:
    assert claims([function("a", deleting=True)]) == {}


# ---- names


@pytest.mark.parametrize(
    ("function_id", "name"),
    [
        ("orders", "shop-orders"),
        ("process-order-2", "shop-process-order-2"),
        ("stripe/charge.updated", "shop-stripe-charge-updated-"),
        ("Orders", "shop-orders-"),
        ("a b", "shop-a-b-"),
        ("///", "shop-"),
        ("日本", "shop-"),
        ("x" * 255, "shop-" + "x" * 195 + "-"),
    ],
)
def test_names_are_the_app_and_the_id_with_a_hash_where_that_was_changed(function_id: str, name: str) -> None:
    found = object_name("shop", function_id, ())
    digest = hashlib.sha256(function_id.encode()).hexdigest()[:8]
    assert found == (name + digest if name.endswith("-") else name)


@given(st.text(min_size=1, max_size=255), st.sets(st.text(max_size=3), max_size=3))
def test_every_name_is_one_that_an_api_server_takes(function_id: str, taken: set[str]) -> None:
    found = object_name("shop", function_id, taken)
    assert len(found) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", found)


def test_a_name_that_another_function_has_is_not_taken() -> None:
    digest = hashlib.sha256(b"orders").hexdigest()
    assert object_name("shop", "orders", {"shop-orders"}) == f"shop-orders-{digest[:8]}"
    taken = {"shop-orders", f"shop-orders-{digest[:8]}"}
    assert object_name("shop", "orders", taken) == f"shop-orders-{digest[:16]}"


def test_slugs_are_the_app_id_a_dash_and_the_id() -> None:
    assert slug_of("a-b", "c") == slug_of("a", "b-c")
    assert id_of("a-b", "a-b-c") == "c"
    assert id_of("a", "other") == "other"


@pytest.mark.parametrize(
    ("slug", "events", "belongs"),
    [
        ("shop-a-failure", ["inngest/function.failed"], True),
        ("shop-b-failure", ["inngest/function.failed"], False),
        ("shop-a-failure", ["shop/failed"], False),
        ("shop-a-failure", ["inngest/function.failed", "x"], False),
        ("shop-a", ["inngest/function.failed"], False),
    ],
)
def test_a_failure_handler_is_told_by_its_name_its_trigger_and_its_function(
    slug: str, events: list[str], belongs: bool
) -> None:
    assert belongs_to_another(slug, events, {"shop-a", slug}) is belongs


# ---- letting go


def test_what_a_person_patched_keeps_its_identity_and_loses_the_operators_marks() -> None:
    patched = function(
        "shop-orders",
        labels=LABEL,
        owners=("uid-app",),
        managed=(OURS, theirs("paused", manager="kubectl-patch")),
    )
    assert let_go(patched, "uid-app") == Apply(
        manifest={
            "apiVersion": "innkeeper.dev/v1alpha1",
            "kind": "Function",
            "metadata": {"name": "shop-orders", "namespace": "prod"},
            "spec": {"appRef": {"name": "shop"}, "id": "orders"},
        }
    )


def test_what_a_person_applied_as_a_whole_is_given_up_as_a_whole() -> None:
    applied = function(
        "shop-orders", labels=LABEL, owners=("uid-app",), managed=(OURS, theirs("appRef", "id", "retries"))
    )
    found = let_go(applied, "uid-app")
    assert found is not None
    assert "spec" not in found.manifest


def test_what_was_let_go_or_never_was_the_operators_is_not_touched() -> None:
    assert let_go(function("a", managed=(OURS, theirs("paused"))), "uid-app") is None
    assert let_go(function("a", labels=LABEL, managed=(theirs("appRef", "id"),)), "uid-app") is None


# ---- in a plan


def test_gitops_that_applies_the_operators_object_takes_it_over() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.person("orders", name="other")  # the same identity under another name
    house.settle()
    assert list(house.functions) == ["other"]
    assert "labels" not in house.functions["other"]["metadata"]

    house.settle(house.answered("orders"))
    assert list(house.functions) == ["other"]


def test_a_patch_of_the_operators_object_takes_it_over_for_good() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.patch("shop-orders", paused=True)
    plans = house.settle()
    meta = house.functions["shop-orders"]["metadata"]
    assert (meta["labels"], meta["ownerReferences"]) == ({}, [])
    assert house.functions["shop-orders"]["spec"] == {
        "appRef": {"name": "shop"},
        "id": "orders",
        "paused": True,
    }
    assert sum(isinstance(action, Apply) for plan in plans for action in plan.actions) == 1

    house.patch("shop-orders", paused=None)
    house.settle()
    assert house.functions["shop-orders"]["metadata"]["labels"] == {}
    assert "shop-orders" in house.functions


def test_two_manifests_for_one_function_the_older_counts_the_other_says_so() -> None:
    house = House()
    house.person("orders", name="old", retries=1)
    house.person("orders", name="young", retries=2)
    house.settle(house.answered("orders"))

    assert house.registered()["shop-orders"].retries == 1
    conditions = house.functions["young"]["status"]["conditions"]
    assert {(each["status"], each["reason"]) for each in conditions} == {("False", "Duplicate")}
    assert "old" in conditions[0]["message"]
    del house.functions["old"]
    house.settle()
    assert house.registered()["shop-orders"].retries == 2


def test_pruned_overrides_go_back_to_code_with_a_warning() -> None:
    house = House()
    house.person("orders", name="orders", paused=True, concurrency=[{"limit": 1}])
    house.settle(house.answered("orders"))
    del house.functions["orders"]
    house.settle()

    assert not house.registered()["shop-orders"].paused
    assert house.registered()["shop-orders"].concurrency == ()
    assert list(house.functions) == ["shop-orders"]
    (message,) = house.told("OverridesRemoved")
    assert "concurrency, paused" in message
    assert "It was paused, and runs now." in message
    assert [event.type for event in house.events if event.reason == "OverridesRemoved"] == ["Warning"]


def test_a_person_who_takes_overrides_back_hears_no_warning() -> None:
    house = House()
    house.person("orders", name="orders", retries=1)
    house.settle(house.answered("orders"))
    house.patch("orders", manager="argocd", retries=None)
    house.settle()
    assert house.registered()["shop-orders"].retries == 4
    assert house.told("OverridesRemoved") == []


def test_new_code_alone_is_no_loss_of_overrides() -> None:
    house = House()
    house.settle(house.answered("orders", "mails"))
    house.settle(house.answered(declared("orders", retries=1), "mails"))
    assert house.registered()["shop-orders"].retries == 1
    assert house.told("OverridesRemoved") == []


def test_an_object_left_over_from_another_app_object_gets_the_new_owner() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.app["metadata"]["uid"] = "uid-new"
    plan = house.plan()
    assert [type(action) for action in plan.actions if isinstance(action, Apply | Delete)] == [Apply]
    owners = house.functions["shop-orders"]["metadata"]["ownerReferences"]
    assert [owner["uid"] for owner in owners] == ["uid-new"]


def test_while_an_object_is_being_deleted_none_is_made_in_its_place() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.functions["shop-orders"]["metadata"]["deletionTimestamp"] = "2026-11-22T10:00:00Z"
    assert not any(isinstance(action, Apply) for action in house.plan().actions)
    del house.functions["shop-orders"]
    house.settle()
    assert "shop-orders" in house.functions


def test_a_name_that_a_function_of_another_app_has_is_left_to_it() -> None:
    house = House()
    house.taken = frozenset({"shop-orders"})
    house.settle(house.answered("orders"))
    assert [name.startswith("shop-orders-") for name in house.functions] == [True]
