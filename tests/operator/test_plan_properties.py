"""Whatever happens to a cluster: plans settle, leave people's objects alone, and write statuses that are valid."""

import copy
import json
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, given, settings

from innkeeper_engine.durations import MINUTE_MS
from innkeeper_operator.actions import Action, Apply, Delete, SetStatus, Tell
from innkeeper_operator.plan import plan_app
from innkeeper_operator.views import AppPlan, Failed, Live, Revision
from tests.crds.schemas import load_crds, schema_of, structural_errors
from tests.operator.plan_kit import URL, House, declared, failure_handler, refused

Json = dict[str, Any]

_STATUS = {kind: schema_of(crd)["properties"]["status"] for kind, crd in load_crds().items()}

IDS = ("a", "b", "Stripe/x.y")
SPECS: tuple[Json, ...] = (
    {},
    {"paused": True},
    {"retries": 1, "concurrency": [{"limit": 2}]},
    {"throttle": {"limit": 1, "period": "90s"}},
    {"unset": ["debounce"], "batchEvents": {"maxSize": 2, "timeout": "1s"}},
    {"batchEvents": {"maxSize": 2, "timeout": "1s"}},
    {"triggers": [{"event": "x", "if": "event.data.("}], "paused": True},
    {"triggers": []},
)
DECLARATIONS: tuple[Json, ...] = ({}, {"retries": 7}, {"debounce": {"period": "1m"}}, {"note": "x" * 20_000})
REVISIONS = (
    Live(url=URL, revisions=(Revision("aaa", 2, "10.0.0.1:1"),)),
    Live(url=URL, revisions=(Revision("bbb", 2, "10.0.0.2:1"), Revision("aaa", 1, "10.0.0.1:1"))),
    Live(url=URL, reason="NoEndpoints", message="no ready endpoint"),
    Live(url="", reason="NoService", message="no such Service"),
    Live(url="https://shop.example.com/api/inngest", external=True),
)


class Watched(House):
    """A cluster that refuses what the operator must not do."""

    def do(self, plan: AppPlan) -> None:
        before = copy.deepcopy(self.functions)
        if self.terminating:
            assert not any(isinstance(action, Tell) for action in plan.actions)
        for slug in self.slugs:
            assert plan.write is None or slug not in {function.slug for function in plan.write.functions}
        super().do(plan)
        for name, function in before.items():
            # Whatever is a person's has the spec, and the labels of its own, that it had.
            if _is_persons(function):
                assert name in self.functions
                assert self.functions[name]["spec"] == function["spec"]

    def act(self, action: Action) -> None:
        match action:
            case Apply(manifest=manifest):
                there = self.functions.get(manifest["metadata"]["name"])
                if there is not None and _is_persons(there):
                    assert set(manifest["metadata"]) == {"name", "namespace"}
            case Delete(name=name):
                assert not _is_persons(self.functions[name])
            case SetStatus(kind=kind, status=status, name=name):
                assert structural_errors(_STATUS[kind], status) == []
                now = self.app if kind == "InngestApp" else self.functions[name]
                assert now["status"] != status, "nothing to write"
                json.dumps(status, ensure_ascii=False).encode()
        super().act(action)


def _is_persons(function: Json) -> bool:
    """Whether somebody but the operator has a say in a Function: told by the object alone."""
    meta = function["metadata"]
    others = [
        entry
        for entry in meta["managedFields"]
        if entry["manager"] != "innkeeper-operator" and set(entry["fieldsV1"]["f:spec"]) - {"."}
    ]
    return bool(others) or meta.get("labels", {}).get("app.kubernetes.io/managed-by") != "innkeeper"


def _sent(ids: tuple[str, ...], config: Json) -> list[Json]:
    return [declared(each, **config) for each in ids] + [failure_handler(each) for each in ids[:1]]


_ids = st.sets(st.sampled_from(IDS)).map(sorted).map(tuple)
_config = st.sampled_from(DECLARATIONS)
_spec = st.sampled_from(SPECS)
_id = st.sampled_from(IDS)
STEPS = st.one_of(
    st.tuples(st.just("answer"), _ids, _config),
    st.tuples(st.just("refuse"), _id),
    st.tuples(st.just("fail"), st.sampled_from([True, False, None])),
    st.tuples(st.just("apply"), _id, _spec),
    st.tuples(st.just("patch"), st.integers(0, 9), _spec),
    st.tuples(st.just("prune"), st.integers(0, 9)),
    st.tuples(st.just("live"), st.sampled_from(REVISIONS)),
    st.tuples(st.just("later"), st.sampled_from([1_000, MINUTE_MS, 20 * MINUTE_MS])),
    st.tuples(
        st.just("app"), st.sampled_from([{"paused": True}, {"deletionPolicy": "Orphan"}, {"paused": False}])
    ),
    st.tuples(st.just("key"), st.sampled_from([("", ("SecretNotFound", "none")), ("key-2", None)])),
    st.tuples(st.just("slugs"), st.sampled_from([{"shop-a": "shop-"}, {}])),
    st.tuples(st.just("runs"), st.integers(0, 1)),
)


def _step(house: House, step: tuple[Any, ...]) -> None:
    match step:
        case ("answer", ids, config):
            revision = house.live.revisions[0].name if house.live.revisions else ""
            house.settle(house.answered(*_sent(ids, config), revision=revision))
        case ("refuse", function_id):
            house.settle(refused(declared(function_id, retries=99), wrong={function_id: "99 is too large"}))
        case ("fail", reachable):
            message = "nobody answers"
            house.settle(Failed(reason="Down", message=message, reachable=reachable, time_ms=house.now_ms))
        case ("apply", function_id, spec):
            house.person(function_id, f"mine-{house.uids}", **spec)
        case ("patch", number, spec) if house.functions:
            house.patch(sorted(house.functions)[number % len(house.functions)], **spec)
        case ("prune", number) if house.functions:
            del house.functions[sorted(house.functions)[number % len(house.functions)]]
        case ("live", live):
            house.live = live
        case ("later", length_ms):
            house.now_ms += length_ms
        case ("app", spec):
            house.patch_app(**spec)
        case ("key", (key, problem)):
            house.keys, house.key_problem = key, problem
        case ("slugs", slugs):
            # Nobody else can register what this app has.
            house.slugs = {slug: app for slug, app in slugs.items() if slug not in house.registered()}
        case ("runs", count):
            house.runs = {f"shop-{each}": count for each in IDS}
    house.settle()
    for function in house.functions.values():
        meta = function["metadata"]
        mine = _is_persons(function)
        assert bool(meta.get("labels")) != mine
        assert bool(meta.get("ownerReferences")) != mine


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=10))
def test_plans_settle_whatever_happens(steps: list[tuple[Any, ...]]) -> None:
    house = Watched()
    house.settle()
    for step in steps:
        _step(house, step)
    plan = house.plan()
    assert (plan.write, plan.remove, plan.actions) == (None, False, ())
    assert plan.wake_ms is None or plan.wake_ms > house.now_ms
    for function in house.functions.values():
        assert function["status"]["conditions"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=6), st.sampled_from(["Drain", "Cancel", "Orphan"]), st.booleans())
def test_deletion_comes_to_its_end_whatever_was_before(
    steps: list[tuple[Any, ...]], policy: str, terminating: bool
) -> None:
    house = Watched()
    for step in steps:
        _step(house, step)
    house.patch_app(deletionPolicy=policy)
    registered = house.registry is not None
    house.delete_app()
    house.terminating = terminating
    for _ in range(5):
        plan = house.plan()
        house.now_ms = max(house.now_ms, plan.wake_ms or 0)
        if not plan.wake_ms and not plan.actions and not plan.write:
            break
        house.now_ms += 10 * MINUTE_MS
    assert not house.app["metadata"].get("finalizers")
    assert (house.registry is not None) == (registered and policy == "Orphan" and not terminating)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(_id, _spec), max_size=5), _ids, _config, st.randoms())
def test_the_order_of_objects_does_not_matter(
    people: list[tuple[str, Json]], ids: tuple[str, ...], config: Json, random: Any
) -> None:
    house = House()
    for number, (function_id, spec) in enumerate(people):
        house.person(function_id, f"mine-{number}", **spec)
    view = house.view(outcome := house.answered(*_sent(ids, config)))
    shuffled = list(view.functions)
    random.shuffle(shuffled)
    other = plan_app(msgspec.structs.replace(view, functions=tuple(shuffled)), outcome)
    assert plan_app(view, outcome).write == other.write
    assert _as_set(plan_app(view, outcome)) == _as_set(other)


def _as_set(plan: AppPlan) -> set[str]:
    return {repr(action) for action in plan.actions}
