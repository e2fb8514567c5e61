"""A cluster of one app in memory: what plans are made of, and an interpreter of what they ask for."""

import copy
import json
from typing import Any, Final

import msgspec

from innkeeper_apps.wire.fields import Problem
from innkeeper_apps.wire.register import Registration, parse_in_band
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.model.switches import Switch
from innkeeper_operator.actions import Action, Apply, Delete, SetFinalizer, SetStatus, Tell
from innkeeper_operator.asking import noted
from innkeeper_operator.conditions import time_text
from innkeeper_operator.memory import read_memory
from innkeeper_operator.objects import (
    FINALIZER,
    MANAGER,
    AppObject,
    FunctionObject,
    Unreadable,
    read_app,
    read_function,
)
from innkeeper_operator.plan import plan_app, runs_wanted
from innkeeper_operator.views import Answered, AppPlan, AppView, Ask, Live, Outcome, Refused, Revision

Json = dict[str, Any]

NOW_MS: Final = 1_795_000_000_000
URL: Final = "http://shop.prod.svc:3000/api/inngest"
SDK_URL: Final = "http://10.1.2.3:3000/api/inngest"


def declared(function_id: str, app_id: str = "shop", **config: Any) -> Json:
    """A function as an SDK declares it."""
    slug = f"{app_id}-{function_id}"
    url = f"{SDK_URL}?fnId={slug}&stepId=step"
    steps = {"step": {"id": "step", "name": "step", "runtime": {"type": "http", "url": url}}}
    return {
        "id": slug,
        "name": function_id,
        "triggers": [{"event": f"shop/{function_id}"}],
        "steps": steps,
    } | config


def failure_handler(function_id: str, app_id: str = "shop") -> Json:
    """What an SDK declares besides a function that has an onFailure."""
    condition = f"event.data.function_id == '{app_id}-{function_id}'"
    triggers = [{"event": "inngest/function.failed", "expression": condition}]
    return declared(f"{function_id}-failure", app_id, triggers=triggers)


def registration(*functions: Json | str, app_id: str = "shop", **fields: Any) -> Registration:
    """What an app answers; a text is the id of a plain function."""
    given = [declared(each, app_id) if isinstance(each, str) else each for each in functions]
    body = {
        "app_id": app_id,
        "url": SDK_URL,
        "sdk_language": "js",
        "sdk_version": "4.24.0",
        "framework": "express",
        "functions": given,
    } | fields
    return parse_in_band(json.dumps(body).encode())


def refused(*functions: Json, wrong: dict[str, str], app_id: str = "shop") -> Refused:
    """A refused answer; `wrong`: what is wrong with a field, by function id."""
    return Refused(
        problems=tuple(Problem(f"{app_id}-{name}", "retries", said) for name, said in wrong.items()),
        declared={each["id"]: json.dumps(each).encode() for each in functions},
        app_id=app_id,
        message="At least one function is invalid",
        time_ms=NOW_MS,
    )


class House:
    """An InngestApp `shop` in namespace `prod`, its Functions, the registry, and a clock that stands still."""

    def __init__(self, **spec: Any) -> None:
        self.now_ms = NOW_MS
        self.uids = 0
        self.app: Json = {
            "metadata": self._meta("shop"),
            "spec": {"endpoint": {"service": {"name": "shop", "port": 3000}}} | spec,
            "status": {},
        }
        self.rivals: list[Json] = []
        self.functions: dict[str, Json] = {}
        self.registry: App | None = None
        self.events: list[Tell] = []
        self.live = Live(url=URL, revisions=(Revision("aaa", 2, "10.0.0.1:3000"),))
        self.slugs: dict[str, str] = {}
        self.switches: dict[str, Switch] = {}
        self.runs: dict[str, int] = {}
        self.keys = "key-1"
        self.key_problem: tuple[str, str] | None = None
        self.registry_id = "registry-1"
        self.terminating = False
        self.taken: frozenset[str] = frozenset()
        self.released = False
        self.cancelled = False
        self.writes = 0

    def _meta(self, name: str) -> Json:
        self.uids += 1
        return {
            "name": name,
            "namespace": "prod",
            "uid": f"uid-{self.uids}",
            "generation": 1,
            "creationTimestamp": time_text(self.now_ms + self.uids * 1000),
        }

    # ---- people

    def person(self, function_id: str, name: str = "", manager: str = "argocd", **spec: Any) -> Json:
        """Somebody applies a Function."""
        name = name or f"mine-{len(self.functions)}"
        fields = {"appRef": {"name": "shop"}, "id": function_id} | spec
        function = {"metadata": self._meta(name), "spec": fields, "status": {}}
        _own(function, manager, "Apply", set(fields))
        self.functions[name] = function
        return function

    def patch(self, name: str, manager: str = "kubectl-patch", **spec: Any) -> None:
        """Somebody patches a Function; None takes a field away."""
        function = self.functions[name]
        function["metadata"]["generation"] += 1
        for field, value in spec.items():
            if value is None:
                function["spec"].pop(field, None)
            else:
                function["spec"][field] = value
        _own(function, manager, "Update", {field for field in spec if spec[field] is not None})

    def patch_app(self, **spec: Any) -> None:
        """Somebody patches the InngestApp."""
        self.app["metadata"]["generation"] += 1
        self.app["spec"].update(spec)

    def delete_app(self) -> None:
        """Somebody deletes the InngestApp."""
        self.app["metadata"]["deletionTimestamp"] = time_text(self.now_ms)

    def rival(self, *, older: bool, **spec: Any) -> Json:
        """Another InngestApp with the same app id."""
        meta = self._meta("rival")
        if older:
            meta["creationTimestamp"] = time_text(self.now_ms - 1_000_000)
        endpoint = {"service": {"name": "other", "port": 3000}}
        self.rivals.append({"metadata": meta, "spec": {"endpoint": endpoint} | spec, "status": {}})
        return self.rivals[-1]

    # ---- looking

    def app_object(self) -> AppObject:
        """The InngestApp as plans see it."""
        app = read_app(copy.deepcopy(self.app))
        assert isinstance(app, AppObject)
        return app

    def function_objects(self) -> tuple[FunctionObject | Unreadable, ...]:
        """The Functions as plans see them."""
        return tuple(read_function(copy.deepcopy(self.functions[name])) for name in sorted(self.functions))

    def view(self, outcome: Outcome | None = None) -> AppView:
        """Everything as it is, after an outcome."""
        app = self.app_object()
        memory = read_memory(app.status)
        may_remove = False
        if isinstance(outcome, Answered):
            keys, generation = self.keys, app.meta.generation
            ask = Ask(
                url=self.live.url,
                revision=outcome.revision,
                why="First",
                generation=generation,
                keys=keys,
                registry=self.registry_id,
            )
            memory = noted(memory, self.live, outcome, ask)
            may_remove = [each.name for each in self.live.revisions] == [outcome.revision]
        view = AppView(
            app=app,
            functions=self.function_objects(),
            rivals=tuple(each for each in map(read_app, self.rivals) if isinstance(each, AppObject)),
            env="prod",
            live=self.live,
            memory=memory,
            may_remove=may_remove,
            registered=self.registry,
            slugs=self.slugs,
            registry=self.registry_id,
            signing_keys=(f"sealed {self.keys} {self.writes}".encode(),) if self.keys else (),
            keys=self.keys,
            key_problem=self.key_problem,
            live_runs={},
            now_ms=self.now_ms,
            terminating=self.terminating,
            taken=self.taken,
            switches=self.switches,
        )
        return msgspec.structs.replace(
            view, live_runs={slug: self.runs.get(slug, 0) for slug in runs_wanted(view)}
        )

    def answered(self, *functions: Json | str, revision: str = "aaa", **fields: Any) -> Answered:
        """The app's answer."""
        return Answered(
            registration=registration(*functions, **fields), revision=revision, time_ms=self.now_ms
        )

    # ---- doing

    def plan(self, outcome: Outcome | None = None) -> AppPlan:
        """Plan once, and do it."""
        plan = plan_app(self.view(outcome), outcome)
        self.do(plan)
        return plan

    def settle(self, outcome: Outcome | None = None) -> list[AppPlan]:
        """Plan until nothing is left to do: first with the outcome, then as the changes of objects make it."""
        plans = [self.plan(outcome)]
        while plans[-1].write or plans[-1].remove or plans[-1].actions:
            assert len(plans) < 6, plans[-1]
            plans.append(self.plan())
        return plans

    def settle_drain(self) -> None:
        """Plan until the app drains and its status says so."""
        self.plan()
        self.plan()

    def do(self, plan: AppPlan) -> None:
        """Make a plan true."""
        if plan.write is not None:
            self.writes += 1
            version = self.registry.version + 1 if self.registry else 1
            self.registry = msgspec.json.decode(
                msgspec.json.encode(
                    msgspec.structs.replace(plan.write, version=version, synced_at_ms=self.now_ms)
                ),
                type=App,
            )
        if plan.cancel_runs:
            self.cancelled = True
        if plan.remove:
            self.registry = None
        for action in plan.actions:
            self.act(action)

    def act(self, action: Action) -> None:
        """Make one action true, as an API server would."""
        match action:
            case Apply(manifest=manifest):
                self._apply(manifest)
            case Delete(name=name, uid=uid):
                if name in self.functions and self.functions[name]["metadata"]["uid"] == uid:
                    del self.functions[name]
            case SetStatus(kind="InngestApp", status=status):
                self.app["status"] = json.loads(json.dumps(status))
            case SetStatus(name=name, uid=uid, status=status):
                assert self.functions[name]["metadata"]["uid"] == uid
                self.functions[name]["status"] = json.loads(json.dumps(status))
            case SetFinalizer(present=present):
                self.app["metadata"]["finalizers"] = [FINALIZER] * present
                self.released = not present
            case Tell():
                self.events.append(action)

    def _apply(self, manifest: Json) -> None:
        meta, spec = manifest["metadata"], manifest.get("spec", {})
        there = self.functions.get(meta["name"])
        if there is None:
            assert spec
            there = {"metadata": self._meta(meta["name"]), "spec": copy.deepcopy(spec), "status": {}}
            self.functions[meta["name"]] = there
        else:
            fixed = {field: there["spec"][field] for field in ("appRef", "id")}
            assert {**fixed, **spec} == fixed, "the identity cannot change"
        others = set[str]().union(
            *(
                _fields(each)
                for each in there["metadata"].get("managedFields", ())
                if _manager(each) != MANAGER
            )
        )
        for field in set(there["spec"]) - set(spec) - others:
            if field in _owned(there, MANAGER):
                del there["spec"][field]
        assert {"appRef", "id"} <= set(there["spec"]), "the object would not be valid"
        # In this small world the labels and the owner are the operator's alone.
        there["metadata"]["labels"] = dict(meta.get("labels", {}))
        there["metadata"]["ownerReferences"] = copy.deepcopy(meta.get("ownerReferences", []))
        _own(there, MANAGER, "Apply", set(spec), replace=True)

    # ---- reading

    def registered(self) -> dict[str, FunctionConfig]:
        """The registered functions, by slug."""
        return {each.slug: each for each in self.registry.functions} if self.registry else {}

    def by_id(self, function_id: str) -> Json:
        """The one Function of an id."""
        (found,) = [each for each in self.functions.values() if each["spec"]["id"] == function_id]
        return found

    def condition(self, kind: str, function_id: str = "") -> tuple[str, str, str]:
        """Status, reason and message of a condition: of a Function, or of the InngestApp."""
        status = self.by_id(function_id)["status"] if function_id else self.app["status"]
        (found,) = [each for each in status["conditions"] if each["type"] == kind]
        return found["status"], found["reason"], found["message"]

    def told(self, reason: str) -> list[str]:
        """The messages of Events with a reason."""
        return [event.message for event in self.events if event.reason == reason]


def _own(function: Json, manager: str, operation: str, fields: set[str], *, replace: bool = False) -> None:
    entries = function["metadata"].setdefault("managedFields", [])
    entry = next((each for each in entries if _manager(each) == manager), None)
    if entry is None:
        entry = {"manager": manager, "operation": operation, "fieldsV1": {}}
        entries.append(entry)
    kept = set() if replace else _fields(entry)
    entry["fieldsV1"] = {"f:spec": {".": {}, **{f"f:{field}": {} for field in kept | fields}}}
    if not kept | fields:
        entries.remove(entry)


def _manager(entry: Json) -> str:
    return str(entry["manager"])


def _fields(entry: Json) -> set[str]:
    spec = entry.get("fieldsV1", {}).get("f:spec", {})
    return {field.removeprefix("f:") for field in spec if field != "."}


def _owned(function: Json, manager: str) -> set[str]:
    entries = [each for each in function["metadata"].get("managedFields", ()) if _manager(each) == manager]
    return set[str]().union(*map(_fields, entries))
