"""Environments: their namespaces, their keys, and the Secrets that are made for them."""

import base64
import itertools
from typing import Any

import msgspec
import pytest

from innkeeper_apps.wire.keys import bearer_digest, bearer_hash
from innkeeper_engine.model.environments import Environment, EventKey, Policy, key_digest
from innkeeper_operator.actions import Apply, Create
from innkeeper_operator.environments import (
    EnvironmentPlan,
    EnvironmentView,
    environment_of,
    keys_elsewhere,
    plan_environment,
    views_of,
)
from innkeeper_operator.keys import AppKeys, Key
from innkeeper_operator.objects import (
    AppObject,
    Meta,
    NamespaceObject,
    SecretObject,
    read_app,
    read_namespace,
    read_secret,
)
from innkeeper_operator.settings import OperatorSettings

OLD, NEW, THIRD = (f"signkey-prod-{letters * 32}" for letters in ("ab", "cd", "ef"))
SETTINGS = OperatorSettings(base_url="http://innkeeper-gateway.innkeeper.svc")
OURS = {"app.kubernetes.io/managed-by": "innkeeper"}


class Seal:
    """Seals to something else each time, as the real one does."""

    def __init__(self) -> None:
        self._count = itertools.count()

    def seal(self, plain: bytes) -> bytes:
        """A number."""
        return b"%d" % next(self._count)


def app(name: str = "shop", namespace: str = "prod", *, app_id: str = "", **spec: Any) -> AppObject:
    """An InngestApp; `app_id` is what it has answered."""
    spec = {"endpoint": {"service": {"name": name, "port": 3000}}} | spec
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}"}
    made = read_app({"metadata": meta, "spec": spec, "status": {"appId": app_id} if app_id else {}})
    assert isinstance(made, AppObject)
    return made


def secret(
    name: str = "innkeeper-keys",
    namespace: str = "prod",
    *,
    label: str = "event.signing",
    created: str = "2026-01-01T00:00:00Z",
    **data: str,
) -> SecretObject:
    """A Secret; underscores in the names of its keys stand for dashes where they are small."""
    meta = Meta(
        name=name,
        namespace=namespace,
        uid=f"uid-{namespace}-{name}",
        created=created,
        labels={"innkeeper.dev/key": label},
    )
    values = {k.replace("_", "-") if k.islower() else k: v.encode() for k, v in data.items()}
    return SecretObject(meta, values)


def keys(
    namespace: str = "prod", signing: str = NEW, fallback: str = "", created: str = "2026-01-01T00:00:00Z"
) -> SecretObject:
    """A namespace's own keys."""
    made = secret(
        namespace=namespace, created=created, event_key=f"event-of-{namespace}", signing_key=signing
    )
    if fallback:
        made.data["signing-key-fallback"] = fallback.encode()
    return made


def namespace(name: str = "prod", *, deleting: bool = False, **annotations: str) -> NamespaceObject:
    """A Namespace with annotations of the group."""
    meta: dict[str, Any] = {"name": name, "uid": f"uid-{name}"}
    meta["annotations"] = {f"innkeeper.dev/{key}": value for key, value in annotations.items()}
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return read_namespace({"metadata": meta})


class World:
    """Apps, Secrets and Namespaces, and the plans for their environments."""

    def __init__(self, *objects: AppObject | SecretObject | NamespaceObject) -> None:
        self.objects = list(objects)
        self.settings = SETTINGS
        self.stored: list[Environment] = []
        self.known: dict[Key, AppKeys] = {}
        self.urls: dict[Key, str] = {("prod", "shop"): "http://shop.prod.svc:3000/api/inngest"}
        self._seal = Seal()
        self._random = itertools.count(1)

    @property
    def views(self) -> dict[str, EnvironmentView]:
        """Environments by name."""
        return views_of(
            [each for each in self.objects if isinstance(each, AppObject)],
            [each for each in self.objects if isinstance(each, SecretObject)],
            [each for each in self.objects if isinstance(each, NamespaceObject)],
            self.settings,
        )

    def plan(self, name: str = "prod") -> EnvironmentPlan:
        """The plan for an environment; the next one knows of it."""
        views = self.views
        plan = plan_environment(
            views[name],
            urls=self.urls,
            elsewhere=keys_elsewhere(views.values(), self.stored)(name),
            known=self.known,
            held=next((each.policy for each in self.stored if each.name == name), None),
            settings=self.settings,
            sealer=self._seal,
            random_hex=lambda: f"{next(self._random):064x}",
        )
        self.known |= plan.app_keys
        return plan

    def carry_out(self, name: str = "prod") -> EnvironmentPlan:
        """Plan, and put the Secrets in place as the API server would."""
        plan = self.plan(name)
        for action in plan.applies:
            made = read_secret(action.manifest)
            there = next(
                (o for o in self.objects if isinstance(o, SecretObject) and o.meta.key == made.meta.key), None
            )
            if there is None or isinstance(action, Apply):
                self.objects = [each for each in self.objects if each is not there] + [made]
        return plan

    def replace(self, fresh: SecretObject) -> None:
        """A person changes a Secret."""
        self.objects = [
            each
            for each in self.objects
            if not (isinstance(each, SecretObject) and each.meta.key == fresh.meta.key)
        ] + [fresh]


def decoded(action: Apply | Create) -> dict[str, str]:
    """The content of the Secret that an action writes."""
    return {key: base64.b64decode(value).decode() for key, value in action.manifest["data"].items()}


# ---- which namespaces


def test_a_namespace_is_its_own_environment_unless_something_says_otherwise() -> None:
    mapped = OperatorSettings(environments={"shop-ns": "mapped"})
    assert environment_of("shop-ns", None, SETTINGS) == "shop-ns"
    assert environment_of("shop-ns", namespace("shop-ns"), SETTINGS) == "shop-ns"
    assert environment_of("shop-ns", namespace("shop-ns", environment="prod"), SETTINGS) == "prod"
    assert environment_of("shop-ns", namespace("shop-ns", environment="prod"), mapped) == "mapped"


@pytest.mark.parametrize("name", ["a:b", "a/b", "a~b", "a b", "x" * 254])
def test_what_cannot_be_an_environments_name_counts_as_absent_and_is_told(name: str) -> None:
    world = World(app(), namespace(environment=name))
    plan = world.plan("prod")
    assert plan.environment.name == "prod"
    assert [(each.kind, each.name, each.reason) for each in plan.problems] == [
        ("Namespace", "prod", "InvalidEnvironment")
    ]


def test_namespaces_of_one_environment_are_one() -> None:
    world = World(
        app("shop", "eu"),
        app("pay", "us"),
        keys("eu", NEW),
        keys("us", OLD),
        namespace("eu", environment="prod"),
        namespace("us", environment="prod"),
    )
    plan = world.plan()
    record = plan.environment
    assert set(world.views) == {"prod"}
    assert (record.name, record.namespaces) == ("prod", ("eu", "us"))
    assert {each.digest for each in record.event_keys} == {
        key_digest("event-of-eu"),
        key_digest("event-of-us"),
    }
    assert len(record.signing_keys) == 2
    assert plan.app_keys["eu", "shop"].keys == (NEW,)
    assert plan.app_keys["us", "pay"].keys == (OLD,)


def test_a_namespace_with_nothing_in_it_is_no_environment() -> None:
    assert World(namespace("prod")).views == {}


# ---- accounts and branches


def test_the_account_is_that_of_the_namespace_or_the_default() -> None:
    assert World(app(), keys()).plan().environment.account == ""
    assert World(app(), keys(), namespace(account="acme")).plan().environment.account == "acme"
    world = World(app(), keys(), namespace())
    world.settings = msgspec.structs.replace(SETTINGS, default_account="team")
    assert world.plan().environment.account == "team"


def test_two_accounts_in_one_environment_are_told() -> None:
    world = World(
        app("shop", "eu"),
        app("pay", "us"),
        namespace("eu", environment="prod", account="acme"),
        namespace("us", environment="prod", account="other"),
    )
    plan = world.plan()
    assert plan.environment.account == "acme"
    assert [(each.name, each.reason) for each in plan.problems] == [("us", "AccountConflict")]


def test_the_policy_is_in_the_records_of_the_environment_and_its_branches() -> None:
    """What is wrong with it is told about the Namespace."""
    granted = namespace(**{"retention-runs": "7d", "retention-events": "soon"})
    plan = World(app(), app("shop-x", appId="shop", branch="x"), keys(), granted).plan()
    assert plan.environment.policy == Policy(runs_keep_s=7 * 86_400)
    assert [branch.policy for branch in plan.branches] == [plan.environment.policy]
    assert [(each.kind, each.name, each.reason) for each in plan.problems] == [
        ("Namespace", "prod", "InvalidPolicy")
    ]


def test_a_branch_stands_beside_its_environment_and_has_no_keys() -> None:
    plan = World(
        app("shop", appId="shop"),
        app("shop-x", appId="shop", branch="feature/x"),
        app("only-x", appId="only-x", branch="feature/x"),
        app("late", app_id="late-app"),
        app("unknown"),
        keys(),
    ).plan()
    assert plan.environment.branches == ("feature/x",)
    assert plan.environment.apps == ("late-app", "shop")
    (branch,) = plan.branches
    assert (branch.name, branch.apps) == ("prod~feature%2Fx", ("only-x", "shop"))
    assert branch.account == "prod"
    assert (branch.event_keys, branch.signing_keys) == ((), ())
    assert plan.app_keys["prod", "shop-x"].keys == (NEW,)


# ---- keys that are made


def test_missing_keys_are_created_with_random_values_that_sdks_accept() -> None:
    world = World(app(namespace="prod-eu"))
    (action,) = world.plan("prod-eu").applies
    assert isinstance(action, Create)
    assert action.manifest["metadata"] == {
        "name": "innkeeper-keys",
        "namespace": "prod-eu",
        "labels": {"innkeeper.dev/key": "event.signing", **OURS},
    }
    made = decoded(action)
    assert made == {"event-key": f"{1:064x}", "signing-key": f"signkey-prod_eu-{2:064x}"}
    assert bearer_hash(made["signing-key"])


def test_until_the_keys_are_there_nothing_is_known_of_them() -> None:
    """Another operator's may have been first."""
    world = World(app())
    plan = world.carry_out()
    waiting = plan.app_keys["prod", "shop"]
    assert waiting.problem is not None
    assert waiting.problem[0] == "KeysPending"
    assert not waiting.usable
    assert plan.environment.event_keys == ()
    after = world.plan()
    assert after.app_keys["prod", "shop"].usable
    assert len(after.environment.event_keys) == len(after.environment.signing_keys) == 1


def test_keys_that_are_there_are_left_alone_whatever_is_wrong_with_them() -> None:
    for there in (
        secret(signing_key="not hex"),
        secret(label="signing", signing_key=NEW),
        secret(label="webhook", signing_key=NEW),
    ):
        plan = World(app(), there).plan()
        assert plan.applies == ()
        assert plan.problems
        assert plan.environment.event_keys == ()


@pytest.mark.parametrize(
    "settings",
    [
        msgspec.structs.replace(SETTINGS, generate_keys=False),
        msgspec.structs.replace(SETTINGS, secret_mode="Named"),
    ],
)
def test_keys_are_not_made_where_the_admin_makes_them(settings: OperatorSettings) -> None:
    world = World(app())
    world.settings = settings
    plan = world.plan()
    assert plan.applies == ()
    problem = plan.app_keys["prod", "shop"].problem
    assert problem is not None
    assert problem[0] == "SecretNotFound"


def test_nothing_is_made_in_a_namespace_that_is_going_or_for_an_app_that_is() -> None:
    assert World(app(), namespace(deleting=True)).plan().applies == ()
    assert World(app(), keys(), namespace(deleting=True)).plan().applies == ()
    going = app()
    going = msgspec.structs.replace(going, meta=msgspec.structs.replace(going.meta, deleting=True))
    assert World(going).plan().applies == ()
    assert World(going, keys()).plan().applies == ()
    assert World(secret("web", label="event", event_key="x")).plan().applies == ()


# ---- the record


def test_every_form_of_a_signing_key_opens_the_environment() -> None:
    record = World(app(), keys(signing=NEW, fallback=OLD)).plan().environment
    for key in (NEW, OLD):
        for shown in (key, bearer_hash(key), f"signkey-prod-{bearer_hash(key)}"):
            digest = bearer_digest(f"Bearer {shown}")
            assert any(digest in each.digests for each in record.signing_keys)
    assert {each.name for each in record.signing_keys} == {
        "Secret prod/innkeeper-keys, key signing-key",
        "Secret prod/innkeeper-keys, key signing-key-fallback",
    }


def test_an_apps_own_key_opens_its_environment_too_and_one_key_is_there_once() -> None:
    def own(name: str) -> dict[str, Any]:
        return {"signingKey": {"secretRef": {"name": name, "key": "k"}}}

    plan = World(
        app("a", **own("s1")),
        app("b", **own("s2")),
        keys(),
        secret("s1", label="signing", k=OLD),
        secret("s2", label="signing", k=OLD),
        secret("s3", label="signing", k=THIRD),
    ).plan()
    names = [each.name for each in plan.environment.signing_keys]
    assert names == ["Secret prod/innkeeper-keys, key signing-key", "Secret prod/s1, key k"]
    assert plan.app_keys["prod", "a"].keys == plan.app_keys["prod", "b"].keys == (OLD,)


def test_more_event_keys_are_bounded_by_their_annotations_and_bad_bounds_are_told() -> None:
    bounded = secret("web", label="event", event_key="web-key")
    annotations = {"innkeeper.dev/allowed-events": "shop/*", "innkeeper.dev/allowed-cidrs": "192.0.2.0/24"}
    bounded = msgspec.structs.replace(
        bounded, meta=msgspec.structs.replace(bounded.meta, annotations=annotations)
    )
    bad = secret("bad", label="event", event_key="bad-key")
    bad = msgspec.structs.replace(
        bad, meta=msgspec.structs.replace(bad.meta, annotations={"innkeeper.dev/allowed-cidrs": "office"})
    )
    plan = World(app(), keys(), bounded, bad).plan()
    assert plan.environment.event_keys[1:] == (
        EventKey(
            name="Secret prod/web, key event-key",
            digest=key_digest("web-key"),
            events=("shop/*",),
            cidrs=("192.0.2.0/24",),
        ),
    )
    assert [(each.kind, each.name, each.reason) for each in plan.problems] == [
        ("Secret", "bad", "InvalidBounds")
    ]


def test_printing_a_plan_shows_no_key() -> None:
    world = World(app(), app("new", "fresh"), keys(signing=NEW, fallback=OLD))
    shown = repr(world.plan()) + repr(world.plan("fresh"))
    for key in (NEW, OLD, "event-of-prod", f"{1:064x}", base64.b64encode(b"event-of-prod").decode()):
        assert key.removeprefix("signkey-prod-") not in shown


# ---- one key, two environments


def two(**created: str) -> World:
    """Two environments with the same signing key."""
    return World(
        app("shop", "prod"),
        app("shop", "staging"),
        keys("prod", NEW, created=created["prod"]),
        keys("staging", NEW, created=created["staging"]),
    )


def test_a_key_of_two_environments_opens_the_one_of_the_older_secret() -> None:
    world = two(prod="2026-01-02T00:00:00Z", staging="2026-01-01T00:00:00Z")
    assert world.plan("staging").app_keys["staging", "shop"].keys == (NEW,)
    later = world.plan("prod")
    problem = later.app_keys["prod", "shop"].problem
    assert problem is not None
    assert problem[0] == "KeyShared"
    assert "the environment staging" in problem[1]
    assert later.environment.signing_keys == ()
    assert later.applies == (), "a pod must not start with a key that opens another environment"


def test_a_key_stays_with_the_environment_that_it_opens() -> None:
    """An old Secret that is given the key of another environment takes nothing away."""
    world = two(prod="2026-01-02T00:00:00Z", staging="2026-01-01T00:00:00Z")
    alone = World(app("shop", "prod"), keys("prod", NEW))
    world.stored = [alone.plan("prod").environment]
    assert world.plan("prod").app_keys["prod", "shop"].keys == (NEW,)
    problem = world.plan("staging").app_keys["staging", "shop"].problem
    assert problem is not None
    assert problem[0] == "KeyShared"


def test_a_key_goes_over_when_the_environment_that_it_opened_has_another() -> None:
    world = two(prod="2026-01-01T00:00:00Z", staging="2026-01-02T00:00:00Z")
    world.stored = [world.plan("prod").environment]
    world.replace(keys("prod", THIRD))
    assert world.plan("staging").app_keys["staging", "shop"].keys == (NEW,)


def test_who_no_longer_has_a_key_does_not_keep_it_from_others() -> None:
    world = two(prod="2026-01-01T00:00:00Z", staging="2026-01-02T00:00:00Z")
    world.objects += [app("shop", "test"), keys("test", NEW, created="2026-01-03T00:00:00Z")]
    world.stored = [world.plan("prod").environment]
    world.replace(keys("prod", THIRD))
    assert world.plan("staging").app_keys["staging", "shop"].keys == (NEW,)
    assert world.plan("test").app_keys["test", "shop"].problem is not None


def test_an_event_key_opens_one_environment() -> None:
    world = World(
        app("shop", "prod"),
        secret("web", "prod", label="event", created="2026-01-01T00:00:00Z", event_key="same"),
        secret("web", "staging", label="event", created="2026-01-02T00:00:00Z", event_key="same"),
    )
    assert len(world.plan("prod").environment.event_keys) == 1
    later = world.plan("staging")
    assert later.environment.event_keys == ()
    assert [each.reason for each in later.problems] == ["KeyShared"]


# ---- Secrets for workloads


def test_an_app_gets_its_environment_variables() -> None:
    (action,) = World(app(), keys(signing=NEW, fallback=OLD)).plan().applies
    assert isinstance(action, Apply)
    assert not action.force, "a Secret that was not seen may be a person's"
    assert action.manifest["metadata"] == {
        "name": "shop-inngest-env",
        "namespace": "prod",
        "labels": {"innkeeper.dev/key": "env", **OURS},
        "ownerReferences": [
            {"apiVersion": "innkeeper.dev/v1alpha1", "kind": "InngestApp", "name": "shop", "uid": "uid-shop"}
        ],
    }
    assert decoded(action) == {
        "INNGEST_BASE_URL": "http://innkeeper-gateway.innkeeper.svc",
        "INNGEST_DEV": "0",
        "INNGEST_EVENT_KEY": "event-of-prod",
        "INNGEST_SIGNING_KEY": NEW,
        "INNGEST_SIGNING_KEY_FALLBACK": OLD,
        "INNGEST_SERVE_ORIGIN": "http://shop.prod.svc:3000",
        "INNGEST_SERVE_HOST": "http://shop.prod.svc:3000",
    }


def test_a_branch_is_told_to_its_app() -> None:
    (action,) = World(app(branch="feature/x"), keys()).plan().applies
    assert decoded(action)["INNGEST_ENV"] == "feature/x"
    assert "INNGEST_SIGNING_KEY_FALLBACK" not in decoded(action)


def test_what_is_right_is_not_written_again() -> None:
    world = World(app())
    assert [type(each) for each in world.carry_out().applies] == [Create]
    assert [type(each) for each in world.carry_out().applies] == [Apply]
    assert world.plan().applies == ()


def test_a_secret_goes_over_to_an_app_that_was_made_anew() -> None:
    world = World(app(), keys())
    world.carry_out()
    anew = app()
    anew = msgspec.structs.replace(anew, meta=msgspec.structs.replace(anew.meta, uid="uid-2"))
    world.objects = [anew, *(each for each in world.objects if not isinstance(each, AppObject))]
    (action,) = world.plan().applies
    assert action.manifest["metadata"]["ownerReferences"][0]["uid"] == "uid-2"


def test_a_rotation_reaches_the_pods_and_ends() -> None:
    """New key as fallback, swap, old key gone; each step is one write, and then nothing."""
    world = World(app(), keys(signing=OLD))
    world.carry_out()
    seen = []
    for step in (
        keys(signing=OLD, fallback=NEW),
        keys(signing=NEW, fallback=OLD),
        keys(signing=NEW),
    ):
        world.replace(step)
        plan = world.carry_out()
        (action,) = plan.applies
        assert isinstance(action, Apply)
        assert action.force
        data = decoded(action)
        seen.append((data["INNGEST_SIGNING_KEY"], data.get("INNGEST_SIGNING_KEY_FALLBACK")))
        assert len(plan.environment.signing_keys) == len(plan.app_keys["prod", "shop"].sealed)
        assert world.plan().applies == ()
    assert seen == [(OLD, NEW), (NEW, OLD), (NEW, None)]


def test_the_origin_stays_while_the_service_is_gone() -> None:
    world = World(app(), keys())
    world.carry_out()
    world.urls = {}
    assert world.plan().applies == ()
    assert "INNGEST_SERVE_ORIGIN" not in decoded(World(app("late"), keys()).plan().applies[0])


@pytest.mark.parametrize("label", ["env", "webhook"])
def test_a_persons_secret_of_that_name_is_left_alone(label: str) -> None:
    theirs = secret("shop-inngest-env", label=label, INNGEST_SIGNING_KEY=OLD)
    assert World(app(), keys(), theirs).plan().applies == ()


@pytest.mark.parametrize(
    "objects",
    [
        [secret(signing_key=NEW)],
        [secret(event_key="e e", signing_key=NEW)],
        [secret(event_key="e", signing_key="short")],
        [secret(label="signing", event_key="e", signing_key=NEW)],
    ],
)
def test_without_all_keys_there_is_no_secret(objects: list[SecretObject]) -> None:
    """A pod that waits for its Secret is seen; one that starts without a key fails later."""
    assert World(app(), *objects).plan().applies == ()


def test_no_secret_is_made_without_the_gateways_url_or_where_the_admin_makes_it() -> None:
    for settings in (
        msgspec.structs.replace(SETTINGS, base_url=""),
        msgspec.structs.replace(SETTINGS, secret_mode="Named"),
    ):
        world = World(app(), keys())
        world.settings = settings
        assert world.plan().applies == ()
    world = World(app(), keys())
    world.settings = msgspec.structs.replace(SETTINGS, generate_keys=False)
    assert len(world.plan().applies) == 1


def test_a_name_that_is_too_long_for_a_secret_is_told() -> None:
    plan = World(app("x" * 250), keys()).plan()
    assert plan.applies == ()
    assert [(each.kind, each.reason) for each in plan.problems] == [("InngestApp", "NameTooLong")]


# ---- keys of apps from plan to plan


def test_sealed_keys_are_the_same_bytes_until_the_keys_change() -> None:
    world = World(app(), keys(signing=OLD))
    first = world.plan().app_keys["prod", "shop"]
    assert world.plan().app_keys["prod", "shop"] == first
    world.replace(keys(signing=NEW))
    second = world.plan().app_keys["prod", "shop"]
    assert second.sealed != first.sealed
    assert second.fingerprint != first.fingerprint


def test_a_typo_in_an_annotation_changes_nothing_of_the_record() -> None:
    """What the store has of the environment holds, and so it does for the next plan."""
    world = World(app(), namespace(**{"retention-runs": "90 dyas"}))
    world.stored = [Environment(name="prod", policy=Policy(runs_keep_s=90 * 86_400))]
    for _ in range(2):
        plan = world.plan()
        assert plan.environment.policy == Policy(runs_keep_s=90 * 86_400)
        assert [each.reason for each in plan.problems] == ["InvalidPolicy"]
        world.stored = [plan.environment]
