"""The status of an InngestApp: what is known of it, in conditions and in a few facts."""

from collections.abc import Collection
from typing import Any, Final

from innkeeper_engine.model.functions import App
from innkeeper_engine.model.switches import Pause, pause_of
from innkeeper_operator.conditions import REACHABLE, READY, SYNCED, Said, conditions, find, shorten
from innkeeper_operator.effective import listed
from innkeeper_operator.functions import INVALID_FUNCTION
from innkeeper_operator.memory import write_memory
from innkeeper_operator.pausing import pause_status, spec_pauser, told_of
from innkeeper_operator.views import Answered, AppView, Failed, Outcome, Refused, SyncMemory

Json = dict[str, Any]

NOT_ASKED: Final = "NotAsked"
REGISTERS_ITSELF: Final = "RegistersItself"
DUPLICATE: Final = "Duplicate"
APP_ID_MISMATCH: Final = "AppIdMismatch"

_LIVE_REASONS: Final = ("NoService", "NoPort", "NoEndpoints")
_LONGEST: Final = 255
_LONGEST_URL: Final = 2048
_LONGEST_ENV: Final = 4096


def reachable(view: AppView, outcome: Outcome | None) -> Said:
    """Whether the app answers."""
    live = view.live
    match outcome:
        case Answered():
            return Said("True", "Answered", f"the app answered at {live.url}", view.memory.generation or None)
        case Refused():
            return Said("True", "Answered", f"the app answered at {live.url}")
        case Failed(reason=reason, message=message) if reason == REGISTERS_ITSELF:
            return Said("True", "Answered", message)
        case Failed(reason=reason, message=message, reachable=answers):
            if answers:
                return Said("True", "Answered", message)
            return Said("Unknown" if answers is None else "False", reason, message)
    if live.reason:
        # Pods come and go; a Service that is not there is a mistake.
        return Said("Unknown" if live.reason == "NoEndpoints" else "False", live.reason, live.message)
    seen = find(view.app.status, REACHABLE)
    if seen is not None and seen.reason not in (*_LIVE_REASONS, NOT_ASKED):
        return seen
    if _answered_before(view):
        return Said("True", "Answered", "the revision that is live has answered before")
    return Said("Unknown", NOT_ASKED, "the app is about to be asked for its functions")


def synced(view: AppView, outcome: Outcome | None, app: App | None, left_out: Collection[str]) -> Said:
    """Whether the app's functions are registered as it declares them.

    Args:
        app: what is in the registry after this plan.
        left_out: ids of functions that could not be registered.
    """
    match outcome:
        case Answered():
            message = _what_is_synced(app, left_out)
            return Said("True", "Synced", message, view.memory.generation or None)
        case Refused(message=message, problems=problems):
            wrong = listed(dict.fromkeys(each.function or "the app" for each in problems))
            return Said(
                "False", INVALID_FUNCTION, f"{message}. Nothing of it was registered: put {wrong} right"
            )
        case Failed(reason=reason) if reason == REGISTERS_ITSELF:
            return _registers_itself(view, outcome, app, left_out)
        case Failed(reason=reason, message=message):
            return Said("False", reason, message)
    if view.key_problem is not None and not view.signing_keys:
        return Said("False", *view.key_problem)
    seen = find(view.app.status, SYNCED)
    if seen is None or seen.reason in (*_LIVE_REASONS, NOT_ASKED, DUPLICATE):
        return _not_asked(view)
    if seen.status == "True" and (app is None or view.memory.registry != view.registry):
        return Said("Unknown", NOT_ASKED, "the registry is another one: the app is about to be asked again")
    return seen


def ready(view: AppView, reach: Said, sync: Said) -> Said:
    """Whether all is well, or else the reason that helps most."""
    generation = min((each.generation for each in (reach, sync) if each.generation is not None), default=None)
    if view.key_problem is not None:
        return Said("False", *view.key_problem)
    for each in (sync, reach):
        if each.status == "False":
            return each
    for each in (reach, sync):
        if each.status == "Unknown":
            return each
    if view.app.spec.paused or view.switch is not None:
        message = f"{told_of(view.switch)}nobody calls the app: what it has to do waits in the queue"
        return Said("True", "Paused", message, generation)
    return Said("True", "Ready", sync.message, generation)


def app_status(
    view: AppView, app: App | None, said: dict[str, Said], memory: SyncMemory, app_id: str
) -> Json:
    """The whole status. `app` is what the registry holds after this plan."""
    meta, spec = view.app.meta, view.app.spec
    status: Json = {"environment": shorten(view.env.partition("~")[0], _LONGEST_ENV)}
    if spec.branch is not None:
        status["branch"] = spec.branch
    url = app.url if app else view.live.url
    facts = {
        "appId": app_id,
        "appVersion": app.app_version if app else "",
        "url": url if len(url) <= _LONGEST_URL else "",
    }
    status |= {
        name: shorten(fact, _LONGEST) if name != "url" else fact for name, fact in facts.items() if fact
    }
    if app is not None:
        sdk = {"language": app.sdk_language, "version": app.sdk_version, "framework": app.framework}
        status["sdk"] = {name: shorten(fact, _LONGEST) for name, fact in sdk.items() if fact}
        status["functions"] = len(app.functions)
        status |= pause_status(pause_of(app, view.switch))
    elif spec.paused:
        status |= pause_status(Pause(by="spec", who=spec_pauser(meta)))
    sync = write_memory(memory, view.live)
    if sync:
        status["sync"] = sync
    # While a new spec was not tried, nothing of the status is about it.
    status["observedGeneration"] = min(
        meta.generation if each.generation is None else each.generation for each in said.values()
    )
    status["conditions"] = conditions(said, view.app.status, generation=meta.generation, now_ms=view.now_ms)
    return status


def said_of_app(
    view: AppView, outcome: Outcome | None, app: App | None, left_out: Collection[str]
) -> dict[str, Said]:
    """All conditions of an app that is in charge of its registration."""
    reach = reachable(view, outcome)
    sync = synced(view, outcome, app, left_out)
    return {REACHABLE: reach, SYNCED: sync, READY: ready(view, reach, sync)}


# ---- inside


def _what_is_synced(app: App | None, left_out: Collection[str]) -> str:
    count = len(app.functions) if app else 0
    message = f"{count} function{'' if count == 1 else 's'} registered"
    if left_out:
        message += f"; not registered, see their Functions: {listed(sorted(left_out))}"
    return message


def _registers_itself(view: AppView, outcome: Failed, app: App | None, left_out: Collection[str]) -> Said:
    if outcome.unchanged and app is not None and view.memory.config_hash:
        return Said("True", "Synced", _what_is_synced(app, left_out), view.memory.generation or None)
    seen = find(view.app.status, SYNCED)
    if seen is not None and seen.status == "True":
        return seen
    return Said("Unknown", REGISTERS_ITSELF, outcome.message)


def _not_asked(view: AppView) -> Said:
    if view.live.reason:
        return Said("Unknown", view.live.reason, view.live.message)
    return Said("Unknown", NOT_ASKED, "the app is about to be asked for its functions")


def _answered_before(view: AppView) -> bool:
    memory, live = view.memory, view.live
    if not memory.time_ms:
        return False
    return (
        live.external
        or any(revision.name in memory.revisions for revision in live.revisions)
        or any(address in memory.addresses for address in live.addresses)
    )
