"""What to do for one app: its registration, its Functions, their statuses. Pure: a view in, a plan out.

Planned from the objects as they are and from what the registry holds, level by level: a plan that was lost, or done
twice, is made good by the next one. What an app declared is in the registry, beside how it runs; so a change of a spec
needs no call to the app.
"""

from collections.abc import Container, Iterable, Sequence
from typing import Any, Final

import msgspec

from innkeeper_engine.durations import MINUTE_MS, SECOND_MS
from innkeeper_engine.model.functions import App
from innkeeper_operator import news
from innkeeper_operator.actions import Action, Delete, SetFinalizer, set_status
from innkeeper_operator.cases import Declared, cases
from innkeeper_operator.conditions import REACHABLE, READY, SYNCED, Said, find, since_ms
from innkeeper_operator.deletion import finalizer, plan_deletion, plan_gone, plan_terminating
from innkeeper_operator.function_statuses import other_statuses, statuses, waiting_statuses
from innkeeper_operator.functions import (
    NOT_REGISTERED,
    SLUG_CONFLICT,
    Case,
    Judged,
    Scene,
    invalid,
    is_free_again,
    judge,
    still_invalid,
    unreadable_status,
)
from innkeeper_operator.identity import holder, identity, in_charge, known_id
from innkeeper_operator.objects import APP_KIND, FINALIZER, FUNCTION_KIND, FunctionObject, Meta, Unreadable
from innkeeper_operator.ownership import (
    bare,
    claims,
    let_go,
    object_name,
    owned_by_operator,
    slug_of,
)
from innkeeper_operator.pausing import said_by
from innkeeper_operator.projection import changed, config_hash, project
from innkeeper_operator.status import (
    DUPLICATE,
    app_status,
    reachable,
    ready,
    said_of_app,
)
from innkeeper_operator.views import AppPlan, AppView, Outcome, SyncMemory

__all__ = [
    "GONE_MS",
    "config_hash",
    "in_charge",
    "plan_app",
    "plan_gone",
    "plan_unreadable",
    "plan_waiting",
    "runs_wanted",
]

Json = dict[str, Any]

GONE_MS: Final = 10 * MINUTE_MS
"""How long a function is gone, with a single revision live, before the operator deletes its own object."""
_LOOK_AGAIN_MS: Final = MINUTE_MS


def runs_wanted(view: AppView) -> frozenset[str]:
    """The slugs whose live runs a plan has to know: `AppView.live_runs` of the view that it is made from."""
    registered = {function.slug for function in view.registered.functions} if view.registered else set()
    if view.app.meta.deleting:
        return frozenset(registered)
    app_id = known_id(view)
    own = {
        slug_of(app_id, function.spec.id)
        for function in view.functions
        if isinstance(function, FunctionObject) and owned_by_operator(function.meta)
    }
    return frozenset(own - registered) if app_id else frozenset()


def plan_app(view: AppView, outcome: Outcome | None = None) -> AppPlan:
    """The plan for an InngestApp.

    Args:
        view: everything as it is. Its memory is what `asking.noted` made of the outcome; it is written to the status.
        outcome: what came of asking the app; None where something else has changed.
    """
    survived = view.terminating and any(not each.meta.deleting for each in view.rivals)
    if survived or not in_charge(view.app, view.rivals):
        return _plan_duplicate(view, outcome)
    if view.terminating:
        return plan_terminating(_own_registration(view))
    if view.app.meta.deleting:
        return plan_deletion(_own_registration(view))
    return _Planner(view, outcome).plan()


def plan_waiting(
    app_name: str, functions: Sequence[FunctionObject | Unreadable], now_ms: int
) -> tuple[Action, ...]:
    """What to do with the Functions that name an InngestApp which is not there yet, or not any more."""
    waiting = f"there is no InngestApp {app_name} in this namespace: the function runs as soon as there is"
    return (*_people(functions, ""), *waiting_statuses(functions, waiting, now_ms))


def plan_unreadable(app: Unreadable) -> tuple[Action, ...]:
    """What to do with an InngestApp that this version cannot read: say so, and leave everything as it is.

    One that is being deleted may go: what is registered of it is looked at as that of any app that has gone.
    """
    if app.meta.deleting and FINALIZER in app.meta.finalizers:
        meta = app.meta
        return (SetFinalizer(namespace=meta.namespace, name=meta.name, uid=meta.uid, present=False),)
    return (set_status(APP_KIND, app.meta, unreadable_status(app)),)


class _Planner:
    """One plan for an app that is in charge of its registration."""

    def __init__(self, view: AppView, outcome: Outcome | None) -> None:
        self.view = view
        self.outcome = outcome
        self.app_id, self.mismatch = identity(view, outcome)
        usable = outcome if self.mismatch is None else None
        self.declared = Declared.of(view, usable, self.app_id)
        self.unknown = any(isinstance(each, Unreadable) for each in view.functions)
        self.wake_ms: list[int] = []

    def plan(self) -> AppPlan:
        view = self.view
        scene = self._scene()
        judged = self._judged(scene)
        names = self._names(judged)
        app = self._app(judged, names)
        gone = [each for each in judged if self._is_gone(each)]
        memory = self._memory(scene, judged)
        said, status = self._said(app, judged, memory)
        actions: list[Action] = list(_people(view.functions, view.app.meta.uid))
        actions += [_delete(each.case.object.meta) for each in gone if each.case.object]
        actions += self._own_objects(judged, names)
        actions += statuses([each for each in judged if each not in gone], view.now_ms)
        actions += other_statuses(view.functions, view.now_ms)
        if status != view.app.status:
            actions.append(set_status(APP_KIND, view.app.meta, status))
        holds = app is not None and view.app.spec.deletion_policy != "Orphan"
        actions += finalizer(view.app, present=holds)
        actions += news.of_sync(view.app, said[SYNCED], memory)
        actions += news.of_functions(view.app, self.app_id, self.declared.before, judged)
        actions += news.of_switches(judged)
        if not self.unknown:
            actions += news.of_overrides(view.app, judged)
        return AppPlan(
            write=app if app is not None and changed(app, self.declared.registered) else None,
            actions=tuple(actions),
            wake_ms=min(self.wake_ms, default=None),
        )

    # ---- decisions

    def _scene(self) -> Scene:
        view = self.view
        waiting = ""
        if self.declared.registered is None and self.declared.registration is None:
            waiting = f"the InngestApp {view.app.meta.name} has not been synced yet: its conditions say why"
        return Scene(
            app_id=self.app_id,
            endpoint=self._url(),
            waiting=waiting,
            single=view.live.external or (not view.live.reason and len(view.live.revisions) <= 1),
            slugs=view.slugs,
        )

    def _judged(self, scene: Scene) -> list[Judged]:
        wrong = self.declared.wrong()
        judged = []
        for case in cases(self.view, self.declared):
            decided = judge(scene, case)
            if case.slug in wrong:
                decided = invalid(decided, *wrong[case.slug])
            elif self.declared.registration is None:
                decided = still_invalid(decided)
            judged.append(self._with_pauser(decided))
        return judged

    def _with_pauser(self, judged: Judged) -> Judged:
        """The same with who paused the function by its spec."""
        if judged.config is None:
            return judged
        case = judged.case
        meta = case.object.meta if case.object and not case.unknown_spec else None
        config = said_by(judged.config, case.registered, meta, self.view.now_ms)
        return msgspec.structs.replace(judged, config=config)

    def _url(self) -> str:
        """Where the app is called: not what it says of itself, if anything else is known."""
        if self.view.live.url:
            return self.view.live.url
        if self.declared.registered is not None:
            return self.declared.registered.url
        return self.declared.registration.url if self.declared.registration else ""

    def _app(self, judged: list[Judged], names: dict[str, str]) -> App | None:
        """What the registry shall hold; None while nothing is known of the app."""
        told = self.declared.registration or self.declared.registered
        if told is None:
            return None
        functions = [
            msgspec.structs.replace(each.config, object_name=names.get(each.case.slug, ""))
            for each in judged
            if each.config is not None
        ]
        return project(self.view, self.app_id, self._url(), functions, told, self.declared.registered)

    def _memory(self, scene: Scene, judged: list[Judged]) -> SyncMemory:
        """What is remembered of the last sync; changed where the app has to be asked again."""
        memory = self.view.memory
        if self.view.key_problem is not None and not self.view.keys:
            # Whatever key comes next, the app is asked with it.
            memory = msgspec.structs.replace(memory, keys="")
        if any(is_free_again(scene, each) for each in judged):
            memory = msgspec.structs.replace(memory, generation=0)
            self.wake_ms.append(self.view.now_ms + SECOND_MS)
        return memory

    def _said(
        self, app: App | None, judged: list[Judged], memory: SyncMemory
    ) -> tuple[dict[str, Said], Json]:
        """The conditions and the status of the app."""
        view = self.view
        if self.mismatch is not None:
            reach = reachable(view, self.outcome)
            said = {REACHABLE: reach, SYNCED: self.mismatch, READY: ready(view, reach, self.mismatch)}
        else:
            left_out = [each.case.id for each in judged if each.accepted.reason == SLUG_CONFLICT]
            said = said_of_app(view, self.outcome, app, left_out)
        # What an app that was refused calls itself may be a mistake too.
        app_id = self.app_id if app is not None else known_id(view)
        return said, app_status(view, app, said, memory, app_id)

    # ---- objects

    def _is_gone(self, judged: Judged) -> bool:
        """Whether the operator's own object of a function that is not declared any more can go."""
        function = judged.case.object
        if function is None or not owned_by_operator(function.meta):
            return False
        if (judged.ready.status, judged.ready.reason) != ("False", NOT_REGISTERED):
            return False
        now_ms = self.view.now_ms
        seen = find(function.status, READY)
        since = since_ms(function.status, READY)
        if seen is None or since is None or (seen.status, seen.reason) != ("False", NOT_REGISTERED):
            self.wake_ms.append(now_ms + GONE_MS)
            return False
        if now_ms < since + GONE_MS:
            self.wake_ms.append(since + GONE_MS)
            return False
        if self.view.live_runs.get(judged.case.slug) != 0:
            self.wake_ms.append(now_ms + _LOOK_AGAIN_MS)
            return False
        return True

    def _names(self, judged: list[Judged]) -> dict[str, str]:
        """What the object of each function is called, by slug; also of those that are made by this plan."""
        names = {each.case.slug: each.case.object.meta.name for each in judged if each.case.object}
        if self.unknown:
            return names  # one that cannot be read may be of any function
        taken = {*self.view.taken, *(each.meta.name for each in self.view.functions)}
        leaving = {
            each.spec.id
            for each in self.view.functions
            if isinstance(each, FunctionObject) and each.meta.deleting
        }
        wrong = self.declared.wrong()
        for case in (each.case for each in judged):
            if case.object is None and _deserves_object(case, wrong) and case.id not in leaving:
                names[case.slug] = object_name(self.view.app.meta.name, case.id, taken)
                taken.add(names[case.slug])
        return names

    def _own_objects(self, judged: list[Judged], names: dict[str, str]) -> list[Action]:
        """Make the operator's objects for functions that nobody has written one for."""
        if self.unknown:
            return []
        app = self.view.app
        wrong = self.declared.wrong()
        actions: list[Action] = []
        for case in (each.case for each in judged):
            if not _deserves_object(case, wrong):
                continue
            if case.object is None and case.slug in names:
                actions.append(bare(app, case.id, names[case.slug]))
            elif case.object is not None and _wants_owner(case.object.meta, app.meta.uid):
                actions.append(bare(app, case.id, case.object.meta.name))
        return actions


def _own_registration(view: AppView) -> AppView:
    """The view without a registration that is not this app's."""
    if view.registered is None or view.registered.id == known_id(view):
        return view
    return msgspec.structs.replace(view, registered=None)


# ---- duplicates


def _plan_duplicate(view: AppView, outcome: Outcome | None) -> AppPlan:
    """Say so, and let another one have the registration."""
    release = finalizer(view.app, present=False)
    if view.app.meta.deleting or view.terminating:
        return AppPlan(actions=tuple(release))
    app_id, _ = identity(view, outcome)
    older = holder(view.app, view.rivals)
    sync = Said(
        "False",
        DUPLICATE,
        f"the InngestApp {older.meta.namespace}/{older.meta.name} is older and has the app id {app_id!r} in this "
        "environment: delete one of the two, or give the apps other ids",
    )
    said = {REACHABLE: reachable(view, outcome), SYNCED: sync, READY: sync}
    # Nothing is remembered: once it is in charge, it is asked.
    status = app_status(view, None, said, SyncMemory(), app_id)
    waiting = (
        f"the InngestApp {view.app.meta.name} is not in charge of the app {app_id!r}: its conditions say why"
    )
    actions: list[Action] = list(_people(view.functions, view.app.meta.uid))
    actions += waiting_statuses(view.functions, waiting, view.now_ms)
    if status != view.app.status:
        actions.append(set_status(APP_KIND, view.app.meta, status))
    return AppPlan(actions=(*actions, *release, *news.of_sync(view.app, sync, SyncMemory())))


# ---- actions


def _people(functions: Iterable[FunctionObject | Unreadable], app_uid: str) -> list[Action]:
    """Give way to people: delete what they have objects for, let go of what they have taken."""
    actions: list[Action] = []
    for claim in claims(each for each in functions if isinstance(each, FunctionObject)).values():
        actions += [_delete(each.meta) for each in claim.spare]
        for function in (claim.holder, *claim.duplicates):
            if function is not None and not owned_by_operator(function.meta):
                given_up = let_go(function, app_uid)
                actions += [given_up] if given_up else []
    return actions


def _wants_owner(meta: Meta, app_uid: str) -> bool:
    """Whether the operator's own object is left over from another InngestApp."""
    return owned_by_operator(meta) and app_uid not in meta.owner_uids


def _delete(meta: Meta) -> Delete:
    return Delete(kind=FUNCTION_KIND, namespace=meta.namespace, name=meta.name, uid=meta.uid)


def _deserves_object(case: Case, wrong: Container[str]) -> bool:
    """Whether a function shall have an object: it is declared, if only in a way that cannot be taken."""
    return not case.hidden and (case.declared is not None or case.slug in wrong)
