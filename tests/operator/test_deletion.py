"""What becomes of an app and its runs when its InngestApp, or the whole namespace, is deleted."""

import msgspec

from innkeeper_engine.durations import MINUTE_MS
from innkeeper_operator.actions import SetFinalizer, Tell
from innkeeper_operator.objects import FINALIZER
from innkeeper_operator.plan import plan_app, plan_gone, plan_waiting, runs_wanted
from tests.operator.plan_kit import House


def synced(**spec: object) -> House:
    house = House(**spec)
    house.settle(house.answered("orders", "mails"))
    return house


def held(house: House) -> bool:
    return FINALIZER in house.app["metadata"].get("finalizers", [])


# ---- the finalizer


def test_a_registered_app_is_held_by_a_finalizer() -> None:
    assert held(synced())


def test_an_orphaned_one_is_not() -> None:
    house = synced(deletionPolicy="Orphan")
    assert not held(house)
    assert house.registry is not None
    assert house.registry.orphaned


def test_a_changed_policy_takes_the_finalizer_off_and_on() -> None:
    house = synced()
    house.patch_app(deletionPolicy="Orphan")
    house.settle()
    assert not held(house)
    house.patch_app(deletionPolicy="Cancel")
    house.settle()
    assert held(house)
    assert house.registry is not None
    assert not house.registry.orphaned


def test_an_app_that_was_never_registered_goes_at_once() -> None:
    house = House()
    house.settle()
    house.delete_app()
    plan = house.plan()
    assert (plan.write, plan.remove, plan.actions) == (None, False, ())


# ---- Drain


def test_draining_stops_starts_then_waits_for_the_runs_then_removes() -> None:
    house = synced(drainTimeout="10m")
    house.runs = {"shop-orders": 2}
    house.delete_app()
    assert runs_wanted(house.view()) == {"shop-orders", "shop-mails"}
    plan = house.plan()
    assert plan.write is not None
    assert plan.write.draining
    assert house.registry is not None
    assert plan.write.checksum == house.registry.checksum
    assert plan.wake_ms is not None
    assert held(house)

    house.plan()
    status, reason, message = house.condition("Ready")
    assert (status, reason) == ("False", "Draining")
    assert message.startswith("2 runs go on; what is left at 20")
    plan = house.plan()
    assert plan.actions == ()
    assert plan.wake_ms == house.now_ms + 5_000

    house.runs = {}
    plan = house.plan()
    assert plan.remove
    assert not plan.cancel_runs
    assert house.registry is None
    assert not held(house)
    assert house.plan().actions == ()


def test_runs_are_counted_only_once_nothing_new_can_start() -> None:
    house = synced()
    house.delete_app()
    first = house.plan()
    assert first.write is not None
    assert not first.remove
    assert house.plan().remove


def test_what_is_left_when_the_time_is_over_is_cancelled() -> None:
    house = synced(drainTimeout="2m")
    house.runs = {"shop-orders": 1}
    house.delete_app()
    house.settle_drain()
    house.now_ms += 2 * MINUTE_MS - 1_000
    plan = house.plan()
    assert not plan.remove
    assert plan.wake_ms == house.now_ms + 1_000
    house.now_ms += 1_000
    plan = house.plan()
    assert (plan.cancel_runs, plan.remove) == (True, True)
    assert not held(house)


def test_runs_that_could_not_be_counted_are_waited_for() -> None:
    house = synced()
    house.delete_app()
    house.plan()
    unknown = msgspec.structs.replace(house.view(), live_runs={"shop-orders": 0})
    plan = plan_app(unknown)
    assert not plan.remove
    assert plan.wake_ms is not None


def test_a_policy_that_changes_while_draining_counts() -> None:
    house = synced()
    house.runs = {"shop-orders": 1}
    house.delete_app()
    house.settle_drain()
    house.patch_app(deletionPolicy="Cancel")
    plan = house.plan()
    assert (plan.cancel_runs, plan.remove, plan.write) == (True, True, None)


# ---- Cancel and Orphan


def test_cancel_lets_nothing_start_then_cancels_and_removes_in_one_plan() -> None:
    house = synced(deletionPolicy="Cancel")
    house.runs = {"shop-orders": 1}
    house.delete_app()
    plan = house.plan()
    assert plan.write is not None
    assert plan.write.draining
    assert (plan.cancel_runs, plan.remove) == (True, True)
    assert house.registry is None
    assert not held(house)


def test_orphan_leaves_the_registration_and_the_runs() -> None:
    house = synced()
    house.patch_app(deletionPolicy="Orphan")
    house.delete_app()
    plan = house.plan()
    assert plan.write is not None
    assert plan.write.orphaned
    assert not plan.remove
    assert house.registry is not None
    assert not held(house)
    assert house.plan().write is None


def test_an_app_that_is_made_again_adopts_what_was_orphaned() -> None:
    before = synced(deletionPolicy="Orphan")
    house = House(appId="shop")
    house.registry = before.registry
    house.settle()
    assert house.registry is not None
    assert not house.registry.orphaned
    assert set(house.registered()) == {"shop-orders", "shop-mails"}
    assert held(house)
    assert house.condition("Synced")[:2] == ("Unknown", "NotAsked")
    house.settle(house.answered("orders", "mails"))
    assert house.condition("Ready")[:2] == ("True", "Ready")


# ---- the namespace goes


def test_in_a_terminating_namespace_everything_is_cancelled_and_released_without_a_word() -> None:
    for policy in ("Drain", "Cancel", "Orphan"):
        house = synced(deletionPolicy=policy)
        house.person("orders", name="mine", retries=1)
        house.terminating = True
        plan = house.plan()
        assert (plan.cancel_runs, plan.remove) == (True, True)
        assert all(isinstance(action, SetFinalizer) for action in plan.actions)
        assert not any(isinstance(action, Tell) for action in plan.actions)
        assert house.registry is None
        assert not held(house)
        again = house.plan()
        assert (again.write, again.remove, again.actions) == (None, False, ())


def test_in_a_terminating_namespace_an_app_that_lives_on_elsewhere_is_left_to_its_other_object() -> None:
    house = synced()
    house.rival(older=False, appId="shop")
    house.terminating = True
    plan = house.plan()
    assert (plan.write, plan.cancel_runs, plan.remove) == (None, False, False)


# ---- others


def test_a_duplicate_that_is_deleted_takes_nothing_with_it() -> None:
    house = synced()
    house.rival(older=True, appId="shop")
    house.settle()
    house.delete_app()
    plan = house.plan()
    assert (plan.write, plan.remove) == (None, False)
    assert house.registry is not None


def test_an_app_made_anew_under_another_name_takes_over_from_one_that_drains() -> None:
    house = synced()
    house.runs = {"shop-orders": 1}
    house.delete_app()
    house.settle_drain()
    house.rival(older=False, appId="shop")
    plan = house.plan()
    assert (plan.write, plan.remove) == (None, False)
    assert not held(house)


def test_functions_of_people_wait_for_an_app_when_theirs_is_gone() -> None:
    house = synced()
    house.person("orders", name="mine", retries=1)
    house.settle()
    for action in plan_waiting("shop", house.function_objects(), house.now_ms):
        house.act(action)
    conditions = {each["type"]: each for each in house.functions["mine"]["status"]["conditions"]}
    assert conditions["Ready"]["reason"] == "WaitingForApp"
    assert house.functions["mine"]["status"]["source"] == "Manifest"
    assert plan_waiting("shop", house.function_objects()[:1], house.now_ms) == ()


def test_a_registration_without_an_object_drains_and_an_orphaned_one_stays() -> None:
    house = synced()
    assert house.registry is not None
    first = plan_gone(house.registry, {}, house.now_ms)
    assert first.write is not None
    assert first.write.draining
    draining = msgspec.structs.replace(first.write, synced_at_ms=house.now_ms)
    runs = {"shop-orders": 1, "shop-mails": 0}
    assert not plan_gone(draining, runs, house.now_ms).remove
    assert plan_gone(draining, dict.fromkeys(runs, 0), house.now_ms).remove
    late = plan_gone(draining, runs, house.now_ms + 10 * MINUTE_MS)
    assert (late.cancel_runs, late.remove) == (True, True)

    orphan = synced(deletionPolicy="Orphan").registry
    assert orphan is not None
    assert plan_gone(orphan, {}, house.now_ms).write is None
    assert not plan_gone(orphan, {}, house.now_ms).remove
