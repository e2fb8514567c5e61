"""Why an app or a function is paused, in the words of statuses: its spec, a switch over the API, or both."""

from typing import Any, Final, TypeVar

import msgspec

from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.model.switches import Pause, Switch
from innkeeper_operator.conditions import shorten, time_text
from innkeeper_operator.objects import Meta

_LONGEST: Final = 255
_LONGEST_REASON: Final = 500

Paused = TypeVar("Paused", App, FunctionConfig)


def said_by(now: Paused, before: Paused | None, meta: Meta | None, now_ms: int) -> Paused:
    """The same with who paused it by its spec, and since when that was seen; nothing where it is not paused so.

    `before`: what is registered. `meta`: of the object that says so; None: it cannot be read now.
    """
    if not now.paused:
        return msgspec.structs.replace(now, paused_by="", paused_since_ms=0)
    was = before if before is not None and before.paused else None
    who = spec_pauser(meta) if meta is not None else was.paused_by if was is not None else ""
    since_ms = was.paused_since_ms if was is not None else now_ms
    return msgspec.structs.replace(now, paused_by=who, paused_since_ms=since_ms)


def spec_pauser(meta: Meta) -> str:
    """The field manager that owns `spec.paused`: `kubectl-patch`, `argocd-controller`; empty where that is not told."""
    owners = sorted(each.manager for each in meta.managed if "paused" in each.spec_fields)
    return shorten(owners[0], _LONGEST) if owners else ""


def pause_status(pause: Pause | None) -> dict[str, Any]:
    """`paused` of a status, and no field at all where nothing is paused."""
    if pause is None:
        return {}
    found: dict[str, Any] = {"by": pause.by}
    if pause.who:
        found["who"] = shorten(pause.who, _LONGEST)
    if pause.since_ms:
        found["since"] = time_text(pause.since_ms)
    if pause.reason:
        found["reason"] = shorten(pause.reason, _LONGEST_REASON)
    return {"paused": found}


def told_of(switch: Switch | None) -> str:
    """The beginning of a sentence about what a switch has come to; empty without one."""
    if switch is None:
        return ""
    reason = f" ({switch.reason})" if switch.reason else ""
    return f"paused over the API by {switch.who}{reason}: "
