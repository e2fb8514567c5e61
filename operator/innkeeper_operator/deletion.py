"""What becomes of an app whose InngestApp is deleted.

Only an InngestApp has a finalizer, and none with `Orphan`. Drain: nothing new starts, runs in flight go on for the
drainTimeout, what is left then is cancelled. Cancel: they are cancelled at once. Orphan: the registration stays. Of a
namespace that is being deleted nothing can go on, so there it is Cancel whatever the policy.
"""

from typing import Final

import msgspec

from innkeeper_engine.durations import MINUTE_MS, SECOND_MS, DurationError, parse_duration_ms
from innkeeper_engine.model.functions import App
from innkeeper_operator.actions import Action, SetFinalizer, set_status
from innkeeper_operator.conditions import READY, Said, conditions, read_time_ms, time_text
from innkeeper_operator.objects import APP_KIND, FINALIZER, AppObject
from innkeeper_operator.projection import changed, keys_mark, with_checksum
from innkeeper_operator.views import AppPlan, AppView

DRAIN_LOOK_MS: Final = 5 * SECOND_MS
"""How often the runs of an app that drains are counted."""
_DEFAULT_DRAIN_MS: Final = 10 * MINUTE_MS


def finalizer(app: AppObject, *, present: bool) -> list[Action]:
    """Put the finalizer on or take it off, where it is not so already."""
    if (FINALIZER in app.meta.finalizers) == present:
        return []
    meta = app.meta
    return [SetFinalizer(namespace=meta.namespace, name=meta.name, uid=meta.uid, present=present)]


def plan_terminating(view: AppView) -> AppPlan:
    """The namespace goes: cancel everything and hold nothing up. No Event could be written there."""
    release = tuple(finalizer(view.app, present=False))
    return _cancelled(view.registered, release) if view.registered else AppPlan(actions=release)


def plan_deletion(view: AppView) -> AppPlan:
    """The next step for an InngestApp that is being deleted and is in charge of its registration."""
    registered = view.registered
    release = tuple(finalizer(view.app, present=False))
    if registered is None:
        return AppPlan(actions=release)
    policy = view.app.spec.deletion_policy
    if policy == "Orphan":
        orphan = _marked(registered, draining=False, orphaned=True)
        return AppPlan(write=orphan if changed(orphan, registered) else None, actions=release)
    if policy == "Cancel":
        return _cancelled(registered, release)
    deleted_ms = read_time_ms(view.app.meta.deleted_at)
    since_ms = view.now_ms if deleted_ms is None else deleted_ms
    step = _drain(registered, view.live_runs, since_ms + _drain_ms(view.app), view.now_ms)
    if step.remove:
        return msgspec.structs.replace(step, actions=release)
    until = time_text(since_ms + _drain_ms(view.app))
    left = _left(registered, view.live_runs)
    count = "runs" if left is None else f"{left} run{'' if left == 1 else 's'}"
    said = Said("False", "Draining", f"{count} go on; what is left at {until} is cancelled")
    return msgspec.structs.replace(step, actions=tuple(_say(view, said)))


def plan_gone(registered: App, live_runs: dict[str, int], now_ms: int) -> AppPlan:
    """The next step for a registration without an InngestApp, which was never seen being deleted.

    That is so after the policy Orphan, and then it stays; or where the finalizer was taken off while no operator ran.
    Then it drains for the default time, from when that was written. `live_runs`: runs that have not ended, by slug.
    """
    if registered.orphaned:
        return AppPlan()
    return _drain(registered, live_runs, registered.synced_at_ms + _DEFAULT_DRAIN_MS, now_ms)


# ---- inside


def _drain(registered: App, live_runs: dict[str, int], deadline_ms: int, now_ms: int) -> AppPlan:
    if not registered.draining:
        # Runs are counted once nothing new can start: an event may be on its way.
        draining = _marked(registered, draining=True, orphaned=False)
        return AppPlan(write=draining, wake_ms=now_ms + SECOND_MS)
    if _left(registered, live_runs) == 0:
        return AppPlan(remove=True)
    if now_ms >= deadline_ms:
        return _cancelled(registered, ())
    return AppPlan(wake_ms=min(deadline_ms, now_ms + DRAIN_LOOK_MS))


def _cancelled(registered: App, actions: tuple[Action, ...]) -> AppPlan:
    """Cancel all runs and take the app out of the registry; nothing starts runs meanwhile."""
    draining = _marked(registered, draining=True, orphaned=False)
    write = None if registered.draining else draining
    return AppPlan(write=write, remove=True, cancel_runs=True, actions=actions)


def _left(registered: App, live_runs: dict[str, int]) -> int | None:
    """How many runs go on; None where that is not known of every function."""
    slugs = [function.slug for function in registered.functions]
    if not all(slug in live_runs for slug in slugs):
        return None
    return sum(live_runs[slug] for slug in slugs)


def _marked(app: App, *, draining: bool, orphaned: bool) -> App:
    return with_checksum(msgspec.structs.replace(app, draining=draining, orphaned=orphaned), keys_mark(app))


def _drain_ms(app: AppObject) -> int:
    try:
        return parse_duration_ms(app.spec.drain_timeout)
    except DurationError:  # stored before there was a rule
        return _DEFAULT_DRAIN_MS


def _say(view: AppView, said: Said) -> list[Action]:
    """The status as it is, with another Ready."""
    meta, before = view.app.meta, view.app.status
    fresh = conditions({READY: said}, before, generation=meta.generation, now_ms=view.now_ms)
    others = [each for each in before.get("conditions") or () if each.get("type") != READY]
    status = before | {"conditions": others + fresh}
    if status == before:
        return []
    return [set_status(APP_KIND, meta, status)]
