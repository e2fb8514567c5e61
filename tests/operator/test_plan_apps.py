"""From an app's answer to its registration, its Functions and what their statuses say."""

import json
from typing import Any

import msgspec
import pytest

from innkeeper_engine.model.functions import Debounce, Throttle
from innkeeper_operator.actions import Apply
from innkeeper_operator.objects import FINALIZER, MANAGED_BY
from innkeeper_operator.plan import GONE_MS, config_hash, plan_waiting
from innkeeper_operator.views import Answered, Failed, Live, Revision
from tests.operator.plan_kit import NOW_MS, URL, House, declared, failure_handler, refused, registration


def failed(reason: str = "ConnectionRefused", *, reachable: bool | None = False) -> Failed:
    return Failed(reason=reason, message="nobody listens there", reachable=reachable, time_ms=NOW_MS)


# ---- the first answer


def test_an_answer_becomes_a_registration_at_the_endpoint_of_the_spec() -> None:
    house = House()
    house.settle(house.answered("orders", "stripe/charge.updated"))

    assert house.registry is not None
    assert house.registry.url == URL
    assert {f.slug: f.url for f in house.registry.functions} == {
        "shop-orders": f"{URL}?fnId=shop-orders&stepId=step",
        "shop-stripe/charge.updated": f"{URL}?fnId=shop-stripe/charge.updated&stepId=step",
    }
    assert house.writes == 1
    assert house.registry.signing_keys


def test_a_registration_names_the_objects_of_its_functions() -> None:
    """Grants may name one; written in the first registration already, so that no second one is needed."""
    house = House()
    house.settle(house.answered("orders", "stripe/charge.updated"))
    assert house.registry is not None
    objects = {f.slug: f.object_name for f in house.registry.functions}
    assert objects["shop-orders"] == "shop-orders"
    assert objects["shop-stripe/charge.updated"].startswith("shop-stripe-charge-updated-")
    assert house.writes == 1


def test_each_function_that_nobody_wrote_an_object_for_gets_a_bare_one() -> None:
    house = House()
    house.app["metadata"]["labels"] = {"argocd.argoproj.io/instance": "shop"}
    house.app["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": "x"}
    plan = house.plan(house.answered("orders"))

    (apply,) = [action for action in plan.actions if isinstance(action, Apply)]
    assert apply.manifest == {
        "apiVersion": "innkeeper.dev/v1alpha1",
        "kind": "Function",
        "metadata": {
            "name": "shop-orders",
            "namespace": "prod",
            "labels": {MANAGED_BY: "innkeeper"},
            "ownerReferences": [
                {
                    "apiVersion": "innkeeper.dev/v1alpha1",
                    "kind": "InngestApp",
                    "name": "shop",
                    "uid": "uid-1",
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {"appRef": {"name": "shop"}, "id": "orders"},
    }


def test_statuses_say_what_was_declared_and_what_runs() -> None:
    house = House()
    house.settle(house.answered(declared("orders", retries=2)))

    status = house.by_id("orders")["status"]
    assert status["slug"] == "shop-orders"
    assert status["source"] == "SDK"
    assert status["declared"]["retries"] == 2
    assert status["effective"] == {"triggers": [{"event": "shop/orders"}], "retries": 2, "paused": False}
    assert "overridden" not in status
    assert status["observedGeneration"] == 1
    assert house.condition("Accepted", "orders")[:2] == ("True", "Accepted")
    assert house.condition("Ready", "orders")[:2] == ("True", "Registered")
    app = house.app["status"]
    assert app["appId"] == "shop"
    assert app["functions"] == 1
    assert app["sdk"] == {"language": "js", "version": "4.24.0", "framework": "express"}
    assert app["url"] == URL
    assert app["environment"] == "prod"
    assert app["sync"]["revisions"] == [{"name": "aaa", "ready": 2, "synced": True}]
    assert [house.condition(kind)[:2] for kind in ("Reachable", "Synced", "Ready")] == [
        ("True", "Answered"),
        ("True", "Synced"),
        ("True", "Ready"),
    ]


def test_the_same_answer_again_changes_nothing() -> None:
    house = House()
    answer = house.answered("orders")
    house.settle(answer)
    events = list(house.events)

    assert house.plan(answer).actions == ()
    assert house.plan(answer).write is None
    assert house.events == events


def test_another_answer_that_declares_the_same_writes_only_when_it_was_asked() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.now_ms += 3_600_000
    plan = house.plan(house.answered("orders"))

    assert plan.write is None
    assert [type(action).__name__ for action in plan.actions] == ["SetStatus"]


def test_equal_declarations_have_equal_hashes_and_others_do_not() -> None:
    assert config_hash(registration("a", "b")) == config_hash(registration("b", "a"))
    assert config_hash(registration("a")) != config_hash(registration(declared("a", retries=1)))
    assert config_hash(registration("a")) != config_hash(registration("a", appVersion="2"))


def test_events_tell_of_the_sync_and_of_new_functions_once() -> None:
    house = House()
    house.settle(house.answered("orders", "mails", failure_handler("mails")))

    assert house.told("Synced") == ["3 functions registered"]
    assert house.told("FunctionAdded") == ["registered: mails, orders"]
    assert not house.told("FunctionPaused")


def test_failure_handlers_are_registered_without_an_object_of_their_own() -> None:
    house = House()
    house.settle(house.answered("orders", failure_handler("orders"), "orphan-failure"))

    assert set(house.registered()) == {"shop-orders", "shop-orders-failure", "shop-orphan-failure"}
    assert sorted(house.functions) == ["shop-orders", "shop-orphan-failure"]


def test_a_person_may_make_an_object_for_a_failure_handler() -> None:
    house = House()
    house.person("orders-failure", retries=0)
    house.settle(house.answered("orders", failure_handler("orders")))

    assert house.registered()["shop-orders-failure"].retries == 0
    assert house.condition("Ready", "orders-failure")[:2] == ("True", "Registered")


# ---- manifests before the app


def test_a_manifest_before_the_app_waits_and_is_not_called_wrong() -> None:
    house = House()
    house.person("orders", retries=1)
    for action in plan_waiting("shop", house.function_objects(), house.now_ms):
        house.act(action)

    assert house.condition("Accepted", "orders")[:2] == ("True", "Accepted")
    assert house.condition("Ready", "orders")[:2] == ("Unknown", "WaitingForApp")
    house.settle()
    assert house.condition("Ready", "orders")[:2] == ("Unknown", "WaitingForApp")
    assert house.by_id("orders")["status"]["source"] == "Manifest"
    assert house.registry is None


def test_a_spec_that_is_wrong_whatever_the_app_declares_is_told_before_there_is_an_app() -> None:
    house = House()
    house.person("orders", triggers=[{"event": "a", "if": "event.data. =="}])
    for action in plan_waiting("shop", house.function_objects(), house.now_ms):
        house.act(action)

    status, reason, message = house.condition("Accepted", "orders")
    assert (status, reason) == ("False", "InvalidExpression")
    assert "spec.triggers[0].if" in message
    assert "line 1, column 13" in message
    assert house.condition("Ready", "orders")[:2] == ("Unknown", "WaitingForApp")


def test_functions_and_overrides_of_the_first_sync_are_one_write() -> None:
    house = House()
    house.person("orders", concurrency=[{"limit": 3}], paused=True)
    plan = house.plan(house.answered("orders", "mails"))

    assert plan.write is not None
    configs = {function.slug: function for function in plan.write.functions}
    assert configs["shop-orders"].concurrency[0].limit == 3
    assert configs["shop-orders"].paused
    assert configs["shop-mails"].concurrency == ()
    house.settle()
    assert house.writes == 1
    assert house.by_id("orders")["status"]["overridden"] == ["concurrency"]


# ---- changes of a spec, without asking the app


def test_a_changed_spec_is_planned_from_what_is_registered() -> None:
    house = House()
    house.settle(house.answered(declared("orders", retries=7)))
    house.patch("shop-orders", retries=1)
    house.settle()
    assert house.registered()["shop-orders"].retries == 1
    assert house.by_id("orders")["status"]["overridden"] == ["retries"]

    house.patch("shop-orders", retries=None)
    house.settle()
    assert house.registered()["shop-orders"].retries == 7
    assert "overridden" not in house.by_id("orders")["status"]


def test_pausing_and_resuming_is_told_at_the_function() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.patch("shop-orders", paused=True, pausePolicy={"newRuns": "Queue", "running": "Hold"})
    house.settle()

    config = house.registered()["shop-orders"]
    assert (config.paused, config.new_runs, config.running) == (True, "Queue", "Hold")
    assert house.condition("Ready", "orders")[:2] == ("True", "Paused")
    assert len(house.told("FunctionPaused")) == 1
    house.patch("shop-orders", paused=False)
    house.settle()
    assert not house.registered()["shop-orders"].paused
    assert house.told("FunctionResumed") == ["orders runs again"]


def test_a_paused_app_is_registered_as_paused_and_ready() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.patch_app(paused=True)
    house.settle()

    assert house.registry is not None
    assert house.registry.paused
    assert house.condition("Ready")[:2] == ("True", "Paused")
    assert house.condition("Ready", "orders")[:2] == ("True", "Registered")


def test_a_setting_that_does_nothing_is_accepted_and_named() -> None:
    house = House()
    house.settle(house.answered(declared("orders", concurrency={"fn": [{"limit": 1}]})))

    status, reason, message = house.condition("Accepted", "orders")
    assert (status, reason) == ("True", "NotEnforced")
    assert "concurrency.fn" in message
    assert house.by_id("orders")["status"]["notEnforced"] == ["concurrency.fn"]
    assert house.condition("Ready", "orders")[0] == "True"

    house.patch("shop-orders", concurrency=[{"limit": 1}])
    house.settle()
    assert house.condition("Accepted", "orders") == ("True", "Accepted", "")
    assert "notEnforced" not in house.by_id("orders")["status"]


def test_an_option_of_a_spec_runs_and_shows_and_goes_with_it() -> None:
    house = House()
    house.settle(house.answered(declared("orders", throttle={"limit": 9, "period": "1h"})))
    house.patch("shop-orders", throttle={"limit": 1, "period": "90s", "key": "event.data.id"})
    house.settle()

    assert house.registered()["shop-orders"].throttle == Throttle(
        limit=1, period_ms=90_000, key="event.data.id"
    )
    status = house.by_id("orders")["status"]
    assert status["effective"]["throttle"] == {
        "limit": 1,
        "period": "1m30s",
        "burst": 1,
        "key": "event.data.id",
    }
    assert status["overridden"] == ["throttle"]
    assert house.condition("Accepted", "orders") == ("True", "Accepted", "")

    house.patch("shop-orders", throttle=None)
    house.settle()
    assert house.registered()["shop-orders"].throttle == Throttle(limit=9, period_ms=3_600_000)

    house.patch("shop-orders", unset=["throttle"])
    house.settle()
    assert house.registered()["shop-orders"].throttle is None
    assert "throttle" not in house.by_id("orders")["status"]["effective"]


def test_the_last_good_options_go_on_and_say_where_they_come_from() -> None:
    house = House()
    house.person("orders", debounce={"period": "30s"}, retries=1)
    house.settle(house.answered("orders"))
    house.patch(house.by_id("orders")["metadata"]["name"], debounce={"period": "9d"}, paused=True)
    house.settle()

    assert house.condition("Accepted", "orders")[:2] == ("False", "InvalidDuration")
    assert house.registered()["shop-orders"].debounce == Debounce(period_ms=30_000)
    status = house.by_id("orders")["status"]
    assert status["overridden"] == ["debounce", "retries"]
    assert status["effective"]["debounce"] == {"period": "30s"}
    assert status["effective"]["paused"] is True


# ---- a wrong spec


def test_a_wrong_spec_is_refused_for_its_function_alone() -> None:
    house = House()
    house.person("orders", retries=1)
    house.settle(house.answered("orders", "mails"))
    house.patch(house.by_id("orders")["metadata"]["name"], triggers=[{"cron": "61 * * * *"}], retries=2)
    house.patch("shop-mails", retries=9)
    house.settle()

    status, reason, message = house.condition("Accepted", "orders")
    assert (status, reason) == ("False", "InvalidCron")
    assert message.startswith("spec.triggers[0].cron: ")
    assert "last good settings" in message
    assert house.condition("Ready", "orders")[:2] == ("False", "InvalidCron")
    assert house.registered()["shop-orders"].retries == 1
    assert house.by_id("orders")["status"]["effective"]["retries"] == 1
    assert house.by_id("orders")["status"]["overridden"] == ["retries"]
    assert house.registered()["shop-mails"].retries == 9


def test_while_a_spec_is_wrong_new_declarations_are_kept_for_when_it_is_right() -> None:
    house = House()
    house.person("orders", name="orders", retries=1)
    house.settle(house.answered("orders"))
    house.patch("orders", triggers=[{"event": "a", "if": "1 +"}])
    house.settle(house.answered(declared("orders", name="renamed")))
    assert house.registered()["shop-orders"].name == "orders"
    assert house.by_id("orders")["status"]["declared"]["name"] == "renamed"

    house.patch("orders", triggers=None)
    house.settle()
    assert house.registered()["shop-orders"].name == "renamed"
    assert house.registered()["shop-orders"].retries == 1
    assert house.condition("Accepted", "orders")[:2] == ("True", "Accepted")


def test_a_wrong_spec_from_the_start_leaves_what_is_in_code() -> None:
    house = House()
    house.person("orders", retries=1, triggers=[{"cron": "no"}])
    house.settle(house.answered(declared("orders", retries=7, throttle={"limit": 1, "period": "1m"})))

    assert house.registered()["shop-orders"].retries == 7
    assert house.condition("Accepted", "orders")[:2] == ("False", "InvalidCron")
    effective = house.by_id("orders")["status"]["effective"]
    assert effective["retries"] == 7
    assert effective["throttle"] == {"limit": 1, "period": "1m", "burst": 1}


def test_a_pause_is_obeyed_although_the_rest_of_the_spec_is_wrong() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.patch("shop-orders", paused=True, triggers=[{"cron": "no"}])
    house.settle()

    assert house.registered()["shop-orders"].paused
    assert house.registered()["shop-orders"].triggers[0].event == "shop/orders"
    assert house.by_id("orders")["status"]["effective"]["paused"] is True
    fresh = House()
    fresh.person("orders", paused=True, triggers=[{"cron": "no"}])
    fresh.settle(fresh.answered("orders"))
    assert fresh.registered()["shop-orders"].paused


def test_what_excludes_each_other_only_together_says_how_to_go_on() -> None:
    house = House()
    house.person("orders", batchEvents={"maxSize": 10, "timeout": "5s"})
    house.settle(house.answered(declared("orders", debounce={"period": "30s"})))

    assert house.condition("Accepted", "orders") == (
        "False",
        "Conflict",
        "spec.batchEvents excludes debounce, which the app declares: add unset: [debounce]. Until then what is in "
        "code goes on",
    )


# ---- refused and failed


def test_a_refused_answer_leaves_everything_and_shows_what_was_sent() -> None:
    house = House()
    house.settle(house.answered("orders", "mails"))
    before = house.registry
    bad = declared("orders", retries=99)
    house.settle(
        refused(bad, declared("mails"), declared("new", retries=-1), wrong={"orders": "99 is too large"})
    )

    assert house.registry == before
    assert house.condition("Synced")[:2] == ("False", "InvalidFunction")
    assert house.condition("Ready")[:2] == ("False", "InvalidFunction")
    assert house.condition("Reachable")[:2] == ("True", "Answered")
    assert "shop-orders" in house.condition("Synced")[2]
    assert house.condition("Accepted", "orders")[:2] == ("False", "InvalidFunction")
    assert "retries: 99 is too large" in house.condition("Accepted", "orders")[2]
    assert house.by_id("orders")["status"]["declared"] == bad
    assert house.by_id("orders")["status"]["effective"]["retries"] == 4
    assert house.condition("Accepted", "mails")[0] == "True"
    assert house.told("SyncFailed")[0].startswith("InvalidFunction: At least one function is invalid")
    house.settle(failed())
    assert house.condition("Accepted", "orders")[:2] == ("False", "InvalidFunction")
    house.settle(house.answered("orders", "mails"))
    assert house.condition("Accepted", "orders")[:2] == ("True", "Accepted")


def test_a_bad_function_that_is_new_gets_an_object_that_says_so() -> None:
    house = House()
    bad = refused(declared("new", retries=99), wrong={"new": "99 is too large"})
    house.settle(bad)
    house.settle(bad)

    assert house.registry is None
    assert house.condition("Accepted", "new")[:2] == ("False", "InvalidFunction")
    assert house.by_id("new")["status"]["declared"]["retries"] == 99
    assert "appId" not in house.app["status"]
    house.settle()
    assert house.condition("Accepted", "new")[:2] == ("False", "InvalidFunction")


def test_a_spec_that_changes_while_the_app_is_refused_takes_effect() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.settle(refused(declared("orders", retries=99), wrong={"orders": "99 is too large"}))
    house.patch("shop-orders", paused=True)
    house.settle()

    assert house.registered()["shop-orders"].paused
    assert house.by_id("orders")["status"]["effective"]["paused"] is True
    assert house.condition("Accepted", "orders")[:2] == ("False", "InvalidFunction")


@pytest.mark.parametrize(
    ("outcome", "reach", "sync"),
    [
        (failed(), ("False", "ConnectionRefused"), ("False", "ConnectionRefused")),
        (failed("Unauthorized", reachable=True), ("True", "Answered"), ("False", "Unauthorized")),
        (failed("EgressDenied", reachable=None), ("Unknown", "EgressDenied"), ("False", "EgressDenied")),
    ],
)
def test_who_does_not_answer_stays_registered(
    outcome: Failed, reach: tuple[str, str], sync: tuple[str, str]
) -> None:
    house = House()
    house.settle(house.answered("orders"))
    before = house.registry
    house.settle(outcome)

    assert house.registry == before
    assert "shop-orders" in house.functions
    assert house.condition("Reachable")[:2] == reach
    assert house.condition("Synced")[:2] == sync
    assert house.condition("Ready")[:2] == sync
    house.settle()
    assert house.condition("Ready")[:2] == sync
    assert house.condition("Ready", "orders")[:2] == ("True", "Registered")


def test_without_endpoints_nothing_is_removed_and_readiness_is_not_known() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.live = Live(url=URL, reason="NoEndpoints", message="the Service shop has no ready endpoint")
    house.settle()

    assert house.registered()
    assert house.condition("Reachable")[:2] == ("Unknown", "NoEndpoints")
    assert house.condition("Synced")[:2] == ("True", "Synced")
    assert house.condition("Ready")[:2] == ("Unknown", "NoEndpoints")
    house.live = Live(url=URL, revisions=(Revision("aaa", 1, "10.0.0.9:3000"),))
    house.settle()
    assert house.condition("Ready")[:2] == ("True", "Ready")


def test_a_service_that_is_not_there_is_a_mistake() -> None:
    house = House()
    house.live = Live(url="", reason="NoService", message="there is no Service shop")
    house.settle()

    assert house.condition("Reachable")[:2] == ("False", "NoService")
    assert house.condition("Ready")[:2] == ("False", "NoService")
    assert FINALIZER not in house.app["metadata"].get("finalizers", [])


def test_an_app_that_registers_itself_is_waited_for() -> None:
    house = House()
    house.settle(failed("RegistersItself", reachable=True))
    assert house.condition("Synced")[:2] == ("Unknown", "RegistersItself")
    house.settle(Answered(registration=registration("orders"), in_band=False, time_ms=house.now_ms))
    assert house.condition("Synced")[:2] == ("True", "Synced")
    house.settle(failed("RegistersItself", reachable=True))
    assert house.condition("Synced")[:2] == ("True", "Synced")


def test_a_new_spec_is_not_called_observed_before_the_app_was_asked_under_it() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.patch_app(endpoint={"service": {"name": "shop", "port": 4000}})
    house.settle()
    assert house.app["status"]["observedGeneration"] == 1

    house.settle(house.answered("orders"))
    assert house.app["status"]["observedGeneration"] == 2
    assert {each["observedGeneration"] for each in house.app["status"]["conditions"]} == {2}


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    house = House()
    house.settle(house.answered("orders"))
    since = [each["lastTransitionTime"] for each in house.app["status"]["conditions"]]
    house.now_ms += 60_000
    house.settle(house.answered("orders", "mails"))
    assert [each["lastTransitionTime"] for each in house.app["status"]["conditions"]] == since

    house.settle(failed())
    times = {each["type"]: each["lastTransitionTime"] for each in house.app["status"]["conditions"]}
    assert times["Synced"] > since[1]


# ---- functions that go


def test_functions_go_only_when_a_single_revision_is_live() -> None:
    house = House()
    house.settle(house.answered("orders", "mails"))
    house.live = Live(url=URL, revisions=(Revision("bbb", 2, "10.0.0.2:1"), Revision("aaa", 1, "10.0.0.1:1")))
    house.settle(house.answered("orders", "fresh", revision="bbb"))
    assert set(house.registered()) == {"shop-orders", "shop-mails", "shop-fresh"}

    house.live = Live(url=URL, revisions=(Revision("bbb", 3, "10.0.0.2:1"),))
    house.settle(house.answered("orders", "fresh", revision="bbb"))
    assert set(house.registered()) == {"shop-orders", "shop-fresh"}
    assert house.told("FunctionRemoved") == ["not registered any more: mails"]
    assert house.condition("Ready", "mails")[:2] == ("False", "NotRegistered")
    assert house.by_id("mails")["status"]["source"] == "SDK"


def test_the_operators_object_of_a_gone_function_goes_after_ten_minutes_without_runs() -> None:
    house = House()
    house.settle(house.answered("orders", "mails"))
    house.settle(house.answered("orders"))
    assert house.plan().wake_ms == house.now_ms + GONE_MS

    house.runs["shop-mails"] = 1
    house.now_ms += GONE_MS
    plan = house.plan()
    assert "shop-mails" in house.functions
    assert plan.wake_ms is not None
    assert plan.wake_ms > house.now_ms

    house.runs["shop-mails"] = 0
    house.plan()
    assert "shop-mails" not in house.functions


def test_the_time_begins_anew_when_another_revision_was_live_meanwhile() -> None:
    house = House()
    house.settle(house.answered("orders", "mails"))
    house.settle(house.answered("orders"))
    one = house.live
    house.now_ms += GONE_MS - 1_000
    house.live = Live(url=URL, revisions=(*one.revisions, Revision("old", 1, "10.0.0.7:1")))
    house.settle()
    assert house.condition("Ready", "mails")[:2] == ("Unknown", "NotRegistered")
    house.live = one
    house.settle()
    house.now_ms += 60_000
    house.settle()
    assert "shop-mails" in house.functions


def test_a_persons_object_of_a_gone_function_stays_for_a_rollback() -> None:
    house = House()
    house.person("mails", retries=1)
    house.settle(house.answered("orders", "mails"))
    house.settle(house.answered("orders"))
    house.now_ms += 10 * GONE_MS
    house.settle()
    assert house.condition("Ready", "mails")[:2] == ("False", "NotRegistered")
    assert house.condition("Accepted", "mails")[0] == "True"

    house.settle(house.answered("orders", "mails"))
    assert house.registered()["shop-mails"].retries == 1


# ---- keys


def test_a_key_that_cannot_be_used_is_told_and_the_last_good_ones_stay() -> None:
    house = House()
    house.settle(house.answered("orders"))
    assert house.registry is not None
    sealed = house.registry.signing_keys
    house.keys, house.key_problem = "", ("SecretNotFound", "there is no Secret shop-inngest")
    house.settle()

    assert house.condition("Ready") == ("False", "SecretNotFound", "there is no Secret shop-inngest")
    assert house.condition("Synced")[:2] == ("False", "SecretNotFound")
    assert house.registry.signing_keys == sealed
    assert "keys" not in house.app["status"]["sync"]
    house.keys, house.key_problem = "key-2", None
    house.settle(house.answered("orders"))
    assert house.registry.signing_keys != sealed
    assert house.condition("Ready")[:2] == ("True", "Ready")


def test_a_bad_fallback_key_is_told_while_the_app_runs() -> None:
    house = House()
    house.key_problem = ("SecretNotFound", "there is no Secret shop-fallback")
    house.settle(house.answered("orders"))

    assert house.condition("Synced")[:2] == ("True", "Synced")
    assert house.condition("Ready")[:2] == ("False", "SecretNotFound")
    assert house.app["status"]["sync"]["keys"] == "key-1"


def test_keys_that_were_only_encrypted_anew_write_nothing() -> None:
    house = House()
    house.settle(house.answered("orders"))
    first, second = house.view().signing_keys, None
    house.writes += 1  # other bytes for the same keys
    second = house.view().signing_keys
    assert first != second
    assert house.plan().write is None
    house.keys = "key-2"
    assert house.plan().write is not None


# ---- identity of apps


def test_an_app_that_calls_itself_otherwise_is_not_taken() -> None:
    house = House(appId="store")
    house.settle(house.answered("orders"))

    assert house.registry is None
    assert house.condition("Synced")[:2] == ("False", "AppIdMismatch")
    assert "'shop'" in house.condition("Synced")[2]
    assert "'store'" in house.condition("Synced")[2]
    house.settle()
    assert house.condition("Ready")[:2] == ("False", "AppIdMismatch")


def test_an_app_id_does_not_change_once_it_is_known() -> None:
    house = House()
    house.settle(house.answered("orders"))
    before = house.registry
    house.settle(house.answered("orders", app_id="store"))

    assert house.registry == before
    assert house.condition("Synced")[:2] == ("False", "AppIdMismatch")
    assert house.app["status"]["appId"] == "shop"


def test_of_two_apps_with_one_id_the_older_counts() -> None:
    house = House()
    house.rival(older=True, appId="shop")
    house.person("orders", retries=1)
    house.settle(house.answered("orders"))

    assert house.registry is None
    assert house.condition("Ready")[:2] == ("False", "Duplicate")
    assert "prod/rival" in house.condition("Ready")[2]
    assert house.condition("Ready", "orders")[:2] == ("Unknown", "WaitingForApp")
    assert house.condition("Accepted", "orders")[0] == "True"
    assert not house.app["metadata"].get("finalizers")
    assert "configHash" not in house.app["status"]["sync"]


def test_the_older_app_does_not_mind_a_younger_one() -> None:
    house = House()
    house.rival(older=False, appId="shop")
    house.settle(house.answered("orders"))
    assert house.condition("Ready")[:2] == ("True", "Ready")


def test_a_duplicate_takes_over_when_the_other_one_goes() -> None:
    house = House()
    rival = house.rival(older=True, appId="shop")
    house.settle(house.answered("orders"))
    rival["metadata"]["deletionTimestamp"] = rival["metadata"]["creationTimestamp"]
    house.settle()
    assert house.condition("Synced")[:2] == ("Unknown", "NotAsked")
    house.settle(house.answered("orders"))
    assert house.condition("Ready")[:2] == ("True", "Ready")


# ---- slugs


def test_a_slug_that_another_app_has_is_left_out_and_told() -> None:
    house = House()
    house.slugs = {"shop-a-b": "shop-a"}
    house.settle(house.answered("orders", "a-b"))
    house.settle()

    assert set(house.registered()) == {"shop-orders"}
    assert house.condition("Accepted", "a-b")[:2] == ("False", "SlugConflict")
    assert "'shop-a'" in house.condition("Accepted", "a-b")[2]
    assert house.condition("Synced") == (
        "True",
        "Synced",
        "1 function registered; not registered, see their Functions: a-b",
    )
    house.slugs = {}
    plan = house.plan()
    assert plan.wake_ms is not None  # so that the app is asked again, for what it declares
    assert "generation" not in house.app["status"]["sync"]
    house.settle(house.answered("orders", "a-b"))
    assert set(house.registered()) == {"shop-orders", "shop-a-b"}
    assert house.condition("Ready", "a-b")[0] == "True"


# ---- a new registry, unreadable objects, counters


def test_an_emptied_registry_is_not_called_synced() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.registry, house.registry_id = None, "registry-2"
    house.settle()
    assert house.condition("Synced")[:2] == ("Unknown", "NotAsked")
    assert house.condition("Ready", "orders")[:2] == ("Unknown", "WaitingForApp")
    house.settle(house.answered("orders"))
    assert house.condition("Ready")[:2] == ("True", "Ready")
    assert house.app["status"]["sync"]["registry"] == "registry-2"


def test_a_function_that_cannot_be_read_keeps_what_is_registered() -> None:
    house = House()
    house.person("orders", name="orders", retries=1)
    house.settle(house.answered("orders"))
    house.person("paused", name="paused", paused=True)
    house.settle(house.answered("orders", "paused"))
    house.functions["orders"]["spec"]["retries"] = {"of": "a later version"}
    house.functions["paused"]["spec"]["paused"] = "until tomorrow"
    house.plan(house.answered("orders", "paused", "fresh"))

    assert house.registered()["shop-orders"].retries == 1
    assert house.registered()["shop-paused"].paused
    assert house.condition("Accepted", "orders")[:2] == ("False", "Unsupported")
    assert sorted(house.functions) == ["orders", "paused"]
    assert house.told("OverridesRemoved") == []


def test_counts_of_runs_are_left_alone() -> None:
    house = House()
    house.settle(house.answered("orders"))
    house.by_id("orders")["status"]["runs"] = {"queued": 3}
    assert house.plan().actions == ()
    house.patch("shop-orders", paused=True)
    house.settle()
    assert house.by_id("orders")["status"]["runs"] == {"queued": 3}


def test_what_is_declared_may_be_of_any_size_and_hold_anything() -> None:
    house = House()
    odd: dict[str, Any] = {"note": "\ud800", "large": 10**30, "nothing": None, "list": [None, 1.5]}
    house.settle(house.answered(declared("orders", **odd), declared("big", note="x" * 40_000)))

    shown = house.by_id("orders")["status"]["declared"]
    assert shown["note"] == "\ufffd"
    assert shown["large"] == 1e30
    assert "nothing" not in shown
    assert shown["list"] == [None, 1.5]
    big = house.by_id("big")["status"]["declared"]
    assert big["truncated"] is True
    assert big["bytes"] > 40_000
    assert json.loads(msgspec.json.encode(big)) == big
