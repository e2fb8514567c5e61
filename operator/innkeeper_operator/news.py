"""Kubernetes Events of a plan: what has changed, told once, at the object that it is about."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from innkeeper_engine.model.functions import FunctionConfig
from innkeeper_operator.actions import Action, Level, Tell, tell
from innkeeper_operator.conditions import SYNCED, Said, find, shorten
from innkeeper_operator.effective import differences, listed
from innkeeper_operator.functions import Judged
from innkeeper_operator.memory import read_memory
from innkeeper_operator.objects import APP_KIND, FUNCTION_KIND, AppObject, FunctionObject
from innkeeper_operator.overlay import Merged, merge
from innkeeper_operator.ownership import belongs_to_another, id_of, owned_by_operator
from innkeeper_operator.views import SyncMemory

_LONGEST: Final = 900


def of_sync(app: AppObject, sync: Said, memory: SyncMemory) -> list[Action]:
    """Synced, where the app declares something else than before or could not be synced; SyncFailed, with a new reason."""
    seen = find(app.status, SYNCED)
    same = seen is not None and seen.status == sync.status
    if sync.status == "True":
        if same and memory.config_hash == read_memory(app.status).config_hash:
            return []
        return [_tell(app, "Normal", "Synced", sync.message)]
    if sync.status == "False" and not (same and seen is not None and seen.reason == sync.reason):
        return [_tell(app, "Warning", "SyncFailed", f"{sync.reason}: {sync.message}")]
    return []


def of_functions(
    app: AppObject, app_id: str, before: Mapping[str, FunctionConfig], judged: Iterable[Judged]
) -> list[Action]:
    """FunctionAdded and FunctionRemoved with all names, FunctionPaused and FunctionResumed at each Function.

    `before`: what was registered, by slug.
    """
    after = {each.case.slug: each for each in judged if each.config is not None}
    added = [each.case.id for slug, each in after.items() if slug not in before and not each.case.hidden]
    removed = [id_of(app_id, slug) for slug in before if slug not in after and not _is_handler(slug, before)]
    tells: list[Action] = []
    if added:
        tells.append(_tell(app, "Normal", "FunctionAdded", f"registered: {listed(sorted(added))}"))
    if removed:
        message = f"not registered any more: {listed(sorted(removed))}"
        tells.append(_tell(app, "Normal", "FunctionRemoved", message))
    for slug, each in after.items():
        was = slug in before and before[slug].paused
        assert each.config is not None
        if each.config.paused and not was:
            message = f"{each.case.id} is paused: {each.ready.message or each.accepted.message}"
            tells.append(_tell(each.case.object or app, "Normal", "FunctionPaused", message))
        elif was and not each.config.paused:
            message = f"{each.case.id} runs again"
            tells.append(_tell(each.case.object or app, "Normal", "FunctionResumed", message))
    return tells


def of_switches(judged: Iterable[Judged]) -> list[Action]:
    """FunctionPaused and FunctionResumed at each Function that somebody has switched off or on over the API."""
    tells: list[Action] = []
    for each in judged:
        function, switch = each.case.object, each.case.switch
        if function is None or each.config is None:
            continue
        paused = function.status.get("paused")
        was = isinstance(paused, dict) and paused.get("by") in ("switch", "both")
        if switch is not None and not was:
            message = f"{each.case.id}: {each.ready.message or each.accepted.message}"
            tells.append(_tell(function, "Normal", "FunctionPaused", message))
        elif was and switch is None:
            stays = "its spec pauses it" if each.config.paused else "it runs again"
            message = f"the pause of {each.case.id} over the API is lifted: {stays}"
            tells.append(_tell(function, "Normal", "FunctionResumed", message))
    return tells


def of_overrides(app: AppObject, judged: Iterable[Judged]) -> list[Action]:
    """OverridesRemoved for each function that ran with settings of a Function which is not there any more."""
    tells: list[Action] = []
    for each in judged:
        registered, function = each.case.registered, each.case.object
        if registered is None or each.config is None or _alike(registered, each.config):
            continue
        if function is not None and not owned_by_operator(function.meta):
            continue
        in_code = merge(bytes(registered.declared), None)
        names = differences(in_code.config, registered) if isinstance(in_code, Merged) else ()
        if names:
            runs = " It was paused, and runs now." if registered.paused else ""
            message = f"the Function with settings for {each.case.id} is gone: {listed(names)} as in code again.{runs}"
            tells.append(_tell(app, "Warning", "OverridesRemoved", message))
    return tells


def _alike(one: FunctionConfig, other: FunctionConfig) -> bool:
    """Whether two functions run alike, wherever they are called and whatever they were declared as."""
    return msgspec.structs.replace(one, url=other.url, declared=other.declared) == other


def _is_handler(slug: str, configs: Mapping[str, FunctionConfig]) -> bool:
    return belongs_to_another(slug, [str(each.event) for each in configs[slug].triggers], configs)


def _tell(about: AppObject | FunctionObject, level: Level, reason: str, message: str) -> Tell:
    kind = APP_KIND if isinstance(about, AppObject) else FUNCTION_KIND
    return tell(kind, about.meta, level, reason, shorten(message, _LONGEST))
