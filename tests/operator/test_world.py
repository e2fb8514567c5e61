"""What the operator has seen, and whom a change concerns."""

from typing import Any

import pytest

from innkeeper_operator.objects import Unreadable, WebhookObject
from innkeeper_operator.world import (
    APPS,
    CONFIG_MAPS,
    FUNCTIONS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    SLICES,
    WEBHOOKS,
    Dirty,
    World,
)

Json = dict[str, Any]
NOBODY = Dirty()


class Maker:
    """Objects with rising versions, as an API server hands them out."""

    def __init__(self) -> None:
        self.version = 0

    def __call__(self, name: str, *, namespace: str = "prod", **rest: Any) -> Json:
        self.version += 1
        meta = {"name": name, "namespace": namespace, "uid": f"u-{namespace}-{name}", "generation": 1}
        meta |= {"resourceVersion": str(self.version)} | rest.pop("meta", {})
        return {"metadata": meta, **rest}

    def app(self, name: str, *, service: str = "", app_id: str | None = None, **rest: Any) -> Json:
        endpoint: Json = (
            {"service": {"name": service, "port": 80}}
            if service
            else {"url": "http://app.example/api/inngest"}
        )
        spec: Json = {"endpoint": endpoint} | ({"appId": app_id} if app_id else {}) | rest.pop("spec", {})
        return self(name, spec=spec, **rest)

    def function(self, name: str, app: str, **rest: Any) -> Json:
        return self(name, spec={"appRef": {"name": app}, "id": name} | rest.pop("spec", {}), **rest)

    def slice(self, name: str, service: str, *pods: str) -> Json:
        return self(
            name,
            meta={"labels": {"kubernetes.io/service-name": service}},
            addressType="IPv4",
            ports=[{"name": "", "port": 3000}],
            endpoints=[
                {"addresses": [f"192.0.2.{n}"], "targetRef": {"kind": "Pod", "name": pod}}
                for n, pod in enumerate(pods, 1)
            ],
        )

    def pod(self, name: str, revision: str, **rest: Any) -> Json:
        return self(name, meta={"labels": {"pod-template-hash": revision, "other": "x"}}, **rest)


@pytest.fixture
def make() -> Maker:
    return Maker()


@pytest.fixture
def world() -> World:
    return World()


def apps(*names: str) -> frozenset[tuple[str, str]]:
    return frozenset(("prod", name) for name in names)


def test_a_new_app_is_looked_at_and_so_is_its_environment(make: Maker, world: World) -> None:
    assert world.put(APPS, make.app("shop")) == Dirty(apps("shop"), frozenset({"prod"}))


def test_what_the_operator_writes_makes_nothing_due_but_is_remembered(make: Maker, world: World) -> None:
    world.put(APPS, make.app("shop", app_id="shop"))
    assert world.put(APPS, make.app("shop", app_id="shop", status={"functions": 3})) == NOBODY
    app = world.app(("prod", "shop"))
    assert app is not None
    assert not isinstance(app, Unreadable)
    assert app.status == {"functions": 3}


@pytest.mark.parametrize(
    "change",
    [
        {"meta": {"generation": 2}},
        {"meta": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"meta": {"labels": {"team": "a"}}},
        {"meta": {"annotations": {"innkeeper.dev/sync-requested-at": "now"}}},
        {"meta": {"finalizers": ["innkeeper.dev/runs"]}},
        {"status": {"appId": "shop"}},
    ],
)
def test_what_matters_of_an_app_makes_it_due(make: Maker, world: World, change: Json) -> None:
    world.put(APPS, make.app("shop"))
    assert world.put(APPS, make.app("shop", **change)).apps == apps("shop")


def test_an_annotation_of_others_makes_no_app_due(make: Maker, world: World) -> None:
    world.put(APPS, make.app("shop"))
    assert world.put(APPS, make.app("shop", meta={"annotations": {"argocd": "x"}})) == NOBODY


def test_apps_with_one_app_id_concern_each_other(make: Maker, world: World) -> None:
    world.put(APPS, make.app("first", app_id="shop"))
    assert world.put(APPS, make.app("second", app_id="shop")).apps == apps("first", "second")
    renamed = make.app("second", app_id="other", meta={"generation": 2})
    assert world.put(APPS, renamed).apps == apps("first", "second")


def test_an_app_that_goes_concerns_who_waits_for_its_app_id(make: Maker, world: World) -> None:
    world.put(APPS, make.app("first", app_id="shop"))
    world.put(APPS, make.app("second", app_id="shop"))
    assert world.drop(APPS, "prod", "first", "u-prod-first").apps == apps("first", "second")
    assert world.app(("prod", "first")) is None


def test_a_function_concerns_its_app_also_before_there_is_one(make: Maker, world: World) -> None:
    assert world.put(FUNCTIONS, make.function("pay", "shop")).apps == apps("shop")
    assert [f.meta.name for f in world.functions_of(("prod", "shop"))] == ["pay"]


def test_owners_of_a_function_matter_and_its_status_does_not(make: Maker, world: World) -> None:
    def entry(manager: str, subresource: str = "") -> Json:
        return {
            "manager": manager,
            "operation": "Apply",
            "subresource": subresource,
            "fieldsV1": {"f:spec": {"f:id": {}}},
        }

    ours = entry("innkeeper-operator")
    world.put(FUNCTIONS, make.function("pay", "shop", meta={"managedFields": [ours]}))
    status = make.function(
        "pay",
        "shop",
        meta={"managedFields": [ours, entry("innkeeper-operator", "status")]},
        status={"slug": "x"},
    )
    assert world.put(FUNCTIONS, status) == NOBODY
    taken = make.function("pay", "shop", meta={"managedFields": [ours, entry("flux")]})
    assert world.put(FUNCTIONS, taken).apps == apps("shop")


def test_a_function_that_cannot_be_read_still_belongs_to_its_app(make: Maker, world: World) -> None:
    broken = make.function("pay", "shop", spec={"retries": "many"})
    assert world.put(FUNCTIONS, broken).apps == apps("shop")
    (found,) = world.functions_of(("prod", "shop"))
    assert isinstance(found, Unreadable)
    assert "retries" in found.why


def test_older_news_changes_nothing(make: Maker, world: World) -> None:
    old = make.function("pay", "shop", spec={"paused": True})
    new = make.function("pay", "shop", meta={"generation": 2})
    world.put(FUNCTIONS, new)
    assert world.put(FUNCTIONS, old) == NOBODY
    (found,) = world.functions_of(("prod", "shop"))
    assert found.meta.generation == 2


def test_late_news_of_what_is_gone_does_not_bring_it_back(make: Maker, world: World) -> None:
    late = make.function("pay", "shop")
    world.put(FUNCTIONS, make.function("pay", "shop"))
    gone = make.function("pay", "shop")["metadata"]
    world.drop(FUNCTIONS, "prod", "pay", gone["uid"], gone["resourceVersion"])
    assert world.put(FUNCTIONS, late) == NOBODY
    assert world.functions_of(("prod", "shop")) == ()


def test_an_object_of_the_same_name_is_not_dropped_for_the_one_before_it(make: Maker, world: World) -> None:
    world.put(FUNCTIONS, make.function("pay", "shop"))
    world.put(FUNCTIONS, make.function("pay", "shop", meta={"uid": "second"}))
    assert world.drop(FUNCTIONS, "prod", "pay", "u-prod-pay") == NOBODY
    assert len(world.functions_of(("prod", "shop"))) == 1


def test_a_secret_that_lost_its_label_and_got_it_again_is_seen_again(make: Maker, world: World) -> None:
    first = make("keys", data={"a": "YQ=="})
    world.put(SECRETS, first)
    world.drop(SECRETS, "prod", "keys", "u-prod-keys", make("keys")["metadata"]["resourceVersion"])
    assert world.secret(("prod", "keys")) is None
    assert world.put(SECRETS, make("keys", data={"a": "YQ=="})).namespaces == frozenset({"prod"})


def test_a_secret_concerns_the_apps_that_name_it(make: Maker, world: World) -> None:
    ref = {"signingKey": {"secretRef": {"name": "shop-keys", "key": "k"}}}
    world.put(APPS, make.app("shop", spec=ref))
    world.put(APPS, make.app("other"))
    assert world.put(SECRETS, make("shop-keys", data={"k": "YQ=="})) == Dirty(
        apps("shop"), frozenset({"prod"})
    )
    assert world.put(SECRETS, make("shop-keys", data={"k": "YQ=="})) == NOBODY
    assert world.put(SECRETS, make("shop-keys", data={"k": "Yg=="})).apps == apps("shop")


def test_the_keys_of_a_namespace_concern_all_its_apps(make: Maker, world: World) -> None:
    world.put(APPS, make.app("shop"))
    world.put(APPS, make.app("other"))
    world.put(APPS, make.app("far", namespace="test"))
    assert world.put(SECRETS, make("innkeeper-keys", data={})).apps == apps("shop", "other")


def test_a_secret_never_shows_its_values_when_it_is_printed(make: Maker, world: World) -> None:
    world.put(SECRETS, make("keys", data={"signing-key": "aHVudGVyMg=="}))
    assert "hunter2" not in repr(world.secret(("prod", "keys")))


def test_endpoints_concern_the_apps_behind_the_service(make: Maker, world: World) -> None:
    world.put(APPS, make.app("shop", service="web"))
    world.put(APPS, make.app("other", service="else"))
    served = world.put(SERVICES, make("web", spec={"ports": [{"port": 80}]}))
    assert served == Dirty(apps("shop"), frozenset({"prod"})), "its port is in what the workload is told"
    assert world.put(SERVICES, make("unused", spec={"ports": [{"port": 80}]})) == NOBODY
    assert world.put(SLICES, make.slice("web-1", "web", "web-a")).apps == apps("shop")
    assert world.put(SLICES, make.slice("web-1", "web", "web-a")) == NOBODY
    assert world.put(PODS, make.pod("web-a", "r1")).apps == apps("shop")
    assert world.put(PODS, make.pod("web-a", "r1")) == NOBODY, "a pod's status changes all the time"
    assert world.pods_behind(("prod", "web"))["web-a"].revision == "r1"


def test_a_pod_behind_no_slice_concerns_nobody(make: Maker, world: World) -> None:
    world.put(APPS, make.app("shop", service="web"))
    world.put(PODS, make.pod("web-a", "r1"))
    assert world.put(PODS, make.pod("web-a", "r2")) == NOBODY
    assert world.put(SLICES, make.slice("web-1", "web", "web-a")).apps == apps("shop")
    assert world.drop(PODS, "prod", "web-a", "u-prod-web-a").apps == apps("shop")


def test_a_slice_that_moves_to_another_service_concerns_both(make: Maker, world: World) -> None:
    world.put(APPS, make.app("shop", service="web"))
    world.put(APPS, make.app("other", service="else"))
    world.put(SLICES, make.slice("s", "web", "a"))
    assert world.put(SLICES, make.slice("s", "else", "a")).apps == apps("shop", "other")
    assert world.slices_of(("prod", "web")) == ()


def test_a_namespace_concerns_its_apps_when_it_is_deleted_or_named_otherwise(
    make: Maker, world: World
) -> None:
    world.put(APPS, make.app("shop"))
    plain = make("prod", namespace="")
    assert world.put(NAMESPACES, plain) == Dirty(apps("shop"), frozenset({"prod"}))
    assert world.put(NAMESPACES, make("prod", namespace="", meta={"labels": {"a": "b"}})) == NOBODY
    named = make("prod", namespace="", meta={"annotations": {"innkeeper.dev/environment": "live"}})
    assert world.put(NAMESPACES, named) == Dirty(apps("shop"), frozenset({"prod"}))
    going = make("prod", namespace="", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert world.put(NAMESPACES, going).apps == apps("shop")


# ---- webhooks


def hook(make: Maker, name: str = "acme", **rest: Any) -> Json:
    """A Webhook that names the ConfigMap `transforms` and the Secret `hook`."""
    verify = {"github": {"secretRef": {"name": "hook", "key": "secret"}}}
    spec = {"transform": {"configMapRef": {"name": "transforms", "key": "a.js"}}, "verify": verify}
    return make(name, spec=spec | rest.pop("spec", {}), **rest)


def hooks(*names: str) -> frozenset[tuple[str, str]]:
    return apps(*names)


def test_a_webhook_is_looked_at_when_what_it_names_changes(make: Maker, world: World) -> None:
    raw = hook(make)
    assert world.put(WEBHOOKS, raw) == Dirty(webhooks=hooks("acme"))
    world.put(WEBHOOKS, hook(make, "plain", spec={"transform": {"script": "x"}, "verify": None}))
    assert world.put(CONFIG_MAPS, make("transforms", data={"a.js": "x"})) == Dirty(webhooks=hooks("acme"))
    assert world.put(CONFIG_MAPS, make("others", data={"a.js": "x"})) == NOBODY
    assert world.put(CONFIG_MAPS, make("transforms", namespace="eu", data={"a.js": "x"})) == NOBODY
    prod = frozenset({"prod"})
    assert world.put(SECRETS, make("hook", data={})) == Dirty(namespaces=prod, webhooks=hooks("acme"))
    assert world.put(SECRETS, make("plain-webhook-url", data={})) == Dirty(
        namespaces=prod, webhooks=hooks("plain")
    )
    assert world.put(SECRETS, make("other", data={})) == Dirty(namespaces=prod)
    assert world.put(NAMESPACES, make("prod", namespace="")).webhooks == hooks("acme", "plain")
    assert world.forget(CONFIG_MAPS, ("prod", "transforms")) == Dirty(webhooks=hooks("acme"))
    assert world.drop(WEBHOOKS, "prod", "acme", raw["metadata"]["uid"]) == Dirty(webhooks=hooks("acme"))
    assert world.webhook(("prod", "acme")) is None
    assert world.put(CONFIG_MAPS, make("transforms", data={"a.js": "y"})) == NOBODY


def test_the_status_of_a_webhook_makes_nothing_due(make: Maker, world: World) -> None:
    world.put(WEBHOOKS, hook(make))
    assert world.put(WEBHOOKS, hook(make, status={"url": "x"})) == NOBODY
    known = world.webhook(("prod", "acme"))
    assert isinstance(known, WebhookObject)
    assert known.status == {"url": "x"}
    assert world.put(WEBHOOKS, hook(make, meta={"generation": 2})) == Dirty(webhooks=hooks("acme"))


def test_a_webhook_that_cannot_be_read_names_nothing(make: Maker, world: World) -> None:
    assert world.put(WEBHOOKS, make("odd", spec={"transform": 3})) == Dirty(webhooks=hooks("odd"))
    assert isinstance(world.webhook(("prod", "odd")), Unreadable)
    assert world.put(CONFIG_MAPS, make("transforms", data={})) == NOBODY
