"""From `kubectl apply` of an InngestApp to functions that run, and what is said where that does not work."""

import time

from innkeeper_operator.asking import SPACING_MS
from tests.operator.house import (
    PORT,
    House,
    RunningOperator,
    condition,
    function,
    says,
    seen_newest,
)


def test_an_app_is_ready_within_seconds_of_its_manifest(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    app = house.app(namespace, "charge", "refund")
    house.deploy(namespace, app)
    began_s = time.monotonic()
    house.declare(namespace)
    ready = house.until_ready(namespace)
    took_s = time.monotonic() - began_s
    print(f"Ready after {took_s:.2f} s")
    assert took_s < 10, "3 s, on a machine that has time for it"
    status = ready["status"]
    assert status["appId"] == "shop"
    assert status["functions"] == 2
    assert status["sdk"] == {"language": "js", "version": "4.24.0", "framework": "express"}
    assert condition(ready, "Synced")["status"] == "True"
    assert app.asked == 1
    assert set(house.registry(namespace)) == {"shop"}
    found = house.until_function(namespace, "shop-charge", "Ready", "True")
    assert found["status"]["slug"] == "shop-charge"
    assert found["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "innkeeper"}
    assert [ref["uid"] for ref in found["metadata"]["ownerReferences"]] == [ready["metadata"]["uid"]]


def test_what_the_operator_does_never_marks_objects_of_others(house: House, running: RunningOperator) -> None:
    """Neither annotations nor foreign finalizers; and on a person's Function nothing but its status."""
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace)
    house.declare_function(namespace, "mine", "charge", retries=2)
    house.until_ready(namespace)
    mine = house.until_function(namespace, "mine", "Ready", "True")
    assert "annotations" not in mine["metadata"]
    assert "finalizers" not in mine["metadata"]
    assert "labels" not in mine["metadata"]
    assert "ownerReferences" not in mine["metadata"]
    written = [e for e in mine["metadata"]["managedFields"] if e["manager"] == "innkeeper-operator"]
    assert [entry.get("subresource") for entry in written] == ["status"]
    app = house.cluster.get("InngestApp", namespace, "shop")
    assert app is not None
    assert app["metadata"]["finalizers"] == ["innkeeper.dev/runs"]
    assert "annotations" not in app["metadata"]


def test_a_patch_of_a_function_changes_what_runs_without_a_call_to_the_app(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    app = house.app(namespace, function("charge", concurrency=[{"limit": 9}]))
    house.deploy(namespace, app)
    house.declare(namespace)
    house.until_ready(namespace)
    house.until_function(namespace, "shop-charge", "Ready", "True")
    house.cluster.patch(
        "Function", namespace, "shop-charge", {"spec": {"concurrency": [{"limit": 2}], "paused": True}}
    )
    found = house.until_function(namespace, "shop-charge", "Ready", "True", "Paused")
    assert found["status"]["overridden"] == ["concurrency"]
    assert found["status"]["declared"]["concurrency"] == [{"limit": 9}]
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert config.paused
    assert [limit.limit for limit in config.concurrency] == [2]
    assert app.asked == 1
    house.cluster.patch("Function", namespace, "shop-charge", {"spec": {"concurrency": None, "paused": None}})
    house.until_function(namespace, "shop-charge", "Ready", "True", "Registered")
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert not config.paused
    assert [limit.limit for limit in config.concurrency] == [9]


def test_a_bad_expression_is_refused_for_its_function_while_the_last_good_settings_go_on(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge", "refund"))
    house.declare(namespace)
    house.declare_function(namespace, "mine", "charge", concurrency=[{"limit": 3, "key": "event.data.id"}])
    house.until_ready(namespace)
    house.until_function(namespace, "mine", "Ready", "True")
    house.cluster.patch(
        "Function", namespace, "mine", {"spec": {"triggers": [{"event": "a/b", "if": "event.data. >"}]}}
    )
    found = house.until_function(namespace, "mine", "Accepted", "False", "InvalidExpression")
    assert "spec.triggers[0].if" in condition(found, "Accepted")["message"]
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert [trigger.event for trigger in config.triggers] == ["shop/charge"]
    assert [limit.limit for limit in config.concurrency] == [3]
    house.until_ready(namespace)
    house.cluster.patch("Function", namespace, "mine", {"spec": {"triggers": [{"event": "a/b"}]}})
    house.until_function(namespace, "mine", "Accepted", "True")
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert [trigger.event for trigger in config.triggers] == ["a/b"]


def test_an_app_with_an_invalid_function_is_refused_as_a_whole_and_names_it(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    app = house.app(namespace, "charge", function("broken", triggers=[{"cron": "every day"}]))
    house.deploy(namespace, app)
    house.declare(namespace)
    found = house.until_app(namespace, "shop", "Synced", "False", "InvalidFunction")
    assert "shop-broken" in condition(found, "Synced")["message"]
    bad = house.until_function(namespace, "shop-broken", "Accepted", "False", "InvalidFunction")
    assert bad["status"]["declared"]["triggers"] == [{"cron": "every day"}]
    assert house.registry(namespace) == {}


def test_what_is_wrong_with_an_app_is_said_so_that_a_person_can_act(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    face = house.deploy(namespace, house.app(namespace, "charge"), name="shop")
    assert face.app is not None
    face.app.keys = ["signkey-test-" + "ef" * 32]
    house.declare(namespace)
    found = house.until_app(namespace, "shop", "Ready", "False", "Unauthorized")
    assert "INNGEST_SIGNING_KEY" in condition(found, "Ready")["message"]
    lost = house.app(namespace, "charge", app_id="lost")
    lost.status = 404
    house.deploy(namespace, lost, name="lost")
    house.declare(namespace, "lost")
    house.until_app(namespace, "lost", "Ready", "False", "WrongPath")
    house.serve(namespace, "closed", [("closed-a", "r1", "192.0.2.250")])
    house.declare(namespace, "closed")
    house.until_app(namespace, "closed", "Reachable", "False", "ConnectionRefused")
    house.declare(namespace, "nowhere")
    found = house.until_app(namespace, "nowhere", "Reachable", "False", "NoService")
    assert "there is no Service nowhere" in condition(found, "Reachable")["message"]
    house.serve(namespace, "empty", [])
    house.declare(namespace, "empty")
    house.until_app(namespace, "empty", "Reachable", "Unknown", "NoEndpoints")


def test_a_secret_without_the_label_is_not_read_and_the_app_says_so(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    app.keys = ["signkey-test-" + "cd" * 31 + namespace.encode().hex()[-2:]]
    house.deploy(namespace, app)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "own", "namespace": namespace},
        "stringData": {"key": app.keys[0]},
    }
    house.cluster.apply(secret, "admin")
    house.declare(namespace, signingKey={"secretRef": {"name": "own", "key": "key"}})
    found = house.until_app(namespace, "shop", "Ready", "False", "SecretNotFound")
    assert "innkeeper.dev/key: signing" in condition(found, "Ready")["message"]
    assert app.calls == []
    house.cluster.patch(
        "secrets", namespace, "own", {"metadata": {"labels": {"innkeeper.dev/key": "signing"}}}
    )
    house.until_ready(namespace)


def test_an_app_is_asked_again_when_somebody_wants_it(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    house.deploy(namespace, app)
    house.declare(namespace)
    house.until_ready(namespace)
    app.declare("charge", "refund")
    running.skip(SPACING_MS)
    wish = {"metadata": {"annotations": {"innkeeper.dev/sync-requested-at": "2026-01-01T00:00:00Z"}}}
    house.cluster.patch("InngestApp", namespace, "shop", wish)
    house.until("InngestApp", namespace, "shop", lambda obj: obj["status"]["functions"] == 2)
    assert app.asked == 2
    house.until_function(namespace, "shop-refund", "Ready", "True")


def test_manifests_before_the_app_hold_from_the_first_registration(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    house.declare_function(namespace, "mine", "charge", paused=True)
    waiting = house.until_function(namespace, "mine", "Ready", "Unknown", "WaitingForApp")
    assert condition(waiting, "Accepted")["status"] == "True"
    house.declare(namespace)
    house.until_function(namespace, "mine", "Ready", "Unknown", "WaitingForApp")
    house.deploy(namespace, house.app(namespace, "charge"))
    house.until_function(namespace, "mine", "Ready", "True", "Paused")
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert config.paused
    assert house.registry(namespace)["shop"].version == 1, "there was no registration without the pause"


def test_of_two_functions_for_one_identity_the_older_counts(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace)
    house.until_ready(namespace)
    house.declare_function(namespace, "first", "charge", retries=1)
    house.until_function(namespace, "first", "Ready", "True")
    house.until_gone("Function", namespace, "shop-charge")
    # The times of objects are whole seconds, and of two of one second the name decides.
    house.declare_function(namespace, "second", "charge", retries=2)
    found = house.until_function(namespace, "second", "Accepted", "False", "Duplicate")
    assert "first is older" in condition(found, "Accepted")["message"]
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert config.retries == 1
    house.cluster.delete("Function", namespace, "first")
    house.until_function(namespace, "second", "Ready", "True")
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert config.retries == 2


def test_of_two_apps_with_one_app_id_the_older_counts_until_it_goes(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"), name="a-first")
    other = house.app(namespace, "refund")
    house.deploy(namespace, other, name="b-second")
    house.declare(namespace, "a-first", appId="shop", deletionPolicy="Cancel")
    house.until_ready(namespace, "a-first")
    house.declare(namespace, "b-second", appId="shop")
    house.until_app(namespace, "b-second", "Ready", "False", "Duplicate")
    assert other.calls == []
    house.cluster.delete("InngestApp", namespace, "a-first")
    house.until_ready(namespace, "b-second")
    assert [f.slug for f in house.registry(namespace)["shop"].functions] == ["shop-refund"]


def test_apps_whose_functions_would_be_called_the_same_do_not_both_get_them(
    house: House, running: RunningOperator
) -> None:
    """`a-b` + `c` and `a` + `b-c` are one slug."""
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "c", app_id="a-b"), name="one")
    house.deploy(namespace, house.app(namespace, "b-c", "fine", app_id="a"), name="two")
    house.declare(namespace, "one", deletionPolicy="Cancel")
    house.until_ready(namespace, "one")
    house.declare(namespace, "two")
    house.until_function(namespace, "two-b-c", "Accepted", "False", "SlugConflict")
    assert [f.slug for f in house.registry(namespace)["a"].functions] == ["a-fine"]
    house.cluster.delete("InngestApp", namespace, "one")
    house.until_gone("InngestApp", namespace, "one")
    running.skip(SPACING_MS)
    wish = {"metadata": {"annotations": {"innkeeper.dev/sync-requested-at": "now"}}}
    house.cluster.patch("InngestApp", namespace, "two", wish)
    house.until_function(namespace, "two-b-c", "Ready", "True")


def test_a_paused_app_is_registered_as_paused(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace)
    house.until_ready(namespace)
    house.cluster.patch("InngestApp", namespace, "shop", {"spec": {"paused": True}})
    house.until("InngestApp", namespace, "shop", lambda app: says(app, "Ready", "True", reason="Paused"))
    assert house.registry(namespace)["shop"].paused


def test_a_branch_is_an_environment_beside_its_parent(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"), name="shop")
    house.deploy(namespace, house.app(namespace, "charge", "fresh"), name="feature")
    house.declare(namespace, "shop", appId="shop")
    house.declare(namespace, "feature", appId="shop", branch="feature/x")
    house.until_ready(namespace, "shop")
    house.until_ready(namespace, "feature")
    assert len(house.registry(namespace)["shop"].functions) == 1
    assert len(house.registry(f"{namespace}~feature%2Fx")["shop"].functions) == 2


def test_an_object_that_no_longer_can_be_read_is_said_to_be_so(
    house: House, running: RunningOperator
) -> None:
    """A URL that is nonsense passes no rule of a real API server, so the app is one of another kind here."""
    namespace = house.namespace()
    house.declare(namespace, "web", endpoint={"url": f"http://192.0.2.250:{PORT}/api/inngest"})
    found = house.until(
        "InngestApp",
        namespace,
        "web",
        lambda app: says(app, "Ready", "False", reason="ConnectionRefused") and seen_newest(app),
    )
    assert f"http://192.0.2.250:{PORT}/api/inngest" in condition(found, "Ready")["message"]


def test_news_are_told_as_events(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace)
    house.until_ready(namespace)
    running.idle()
    events = house.cluster.list("events.events.k8s.io", namespace)
    told = {(event["regarding"]["kind"], event["reason"]) for event in events}
    assert ("InngestApp", "Synced") in told
    assert all(event["reportingController"] == "innkeeper.dev/operator" for event in events)
