"""Configuration as a status shows it: in the words of a spec, in one form, and never too large for an object."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from innkeeper_apps.wire.canonical import NotJsonError, parse, plain
from innkeeper_apps.wire.fields import Fields, Findings
from innkeeper_engine.durations import HOUR_MS, MINUTE_MS, SECOND_MS
from innkeeper_engine.model.functions import Cancel, FunctionConfig, Trigger

Json = dict[str, Any]

MAX_SHOWN_BYTES: Final = 16 * 1024
"""An object has room for about 1.5 MB in all, and every reader of a list of Functions gets all of it."""

_ANY_MS: Final = 2**53 - 1
_DURATIONS: Final = frozenset({"period", "timeout", "start", "finish"})
_NESTED: Final = {
    "throttle": ("limit", "period", "burst", "key"),
    "rateLimit": ("limit", "period", "key"),
    "debounce": ("period", "timeout", "key"),
    "batchEvents": ("maxSize", "timeout", "key", "if"),
    "priority": ("run",),
    "singleton": ("mode", "key"),
    "timeouts": ("start", "finish"),
}
"""Options that are objects, and their fields: the same names on the wire and in a spec."""
_LARGEST: Final = 2**63 - 1


def effective(config: FunctionConfig, wire: Json | None) -> Json:
    """What runs, in the form of a Function's spec.

    `wire` is the declaration that `config` was read from, the spec included: it holds the options that are not enforced
    yet. Without it these are left out.
    """
    found: Json = {
        "triggers": [_trigger(trigger) for trigger in config.triggers],
        "retries": config.retries,
        "paused": config.paused,
    }
    if config.concurrency:
        found["concurrency"] = [
            _present({"limit": limit.limit, "key": limit.key, "scope": limit.scope})
            for limit in config.concurrency
        ]
    if config.cancel:
        found["cancelOn"] = [_cancel(cancel) for cancel in config.cancel]
    if (config.new_runs, config.running) != ("Skip", "Continue"):
        found["pausePolicy"] = {"newRuns": config.new_runs, "running": config.running}
    return found | (_options(wire) if wire is not None else {})


def not_enforced(config: FunctionConfig) -> list[str]:
    """The names of the settings that are valid but do nothing yet, sorted."""
    return sorted(set(config.not_enforced))


def show_declared(declared: bytes) -> Json:
    """What an SDK sent, good or bad, as a status can hold it: see `shown`."""
    try:
        value = plain(parse(declared))
    except NotJsonError:
        return {"unreadable": True, "bytes": len(declared)}
    return shown(value if isinstance(value, dict) else {"value": value})


def shown(value: Json) -> Json:
    """A value that an API server gives back as it got it, of 16 KiB at most.

    What is larger is `{"truncated": true, "bytes": …}`: a part of it could be taken for the whole. Nulls of objects are
    left out, since a merge patch takes them for a wish to delete.
    """
    clean = _clean(value)
    size = len(msgspec.json.encode(clean))
    return clean if size <= MAX_SHOWN_BYTES else {"truncated": True, "bytes": size}


def duration_text(ms: int) -> str:
    """A duration in hours, minutes, seconds and milliseconds: `24h`, `1m30s`, `0s`."""
    parts = []
    for unit, size in (("h", HOUR_MS), ("m", MINUTE_MS), ("s", SECOND_MS), ("ms", 1)):
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def differences(one: FunctionConfig, other: FunctionConfig) -> tuple[str, ...]:
    """The names of the spec's fields in which two functions differ, sorted.

    Of an option that is not enforced only its presence counts.
    """
    found = {
        name
        for name, attribute in (
            ("triggers", "triggers"),
            ("retries", "retries"),
            ("cancelOn", "cancel"),
            ("concurrency", "concurrency"),
            ("paused", "paused"),
        )
        if getattr(one, attribute) != getattr(other, attribute)
    }
    if (one.new_runs, one.running) != (other.new_runs, other.running):
        found.add("pausePolicy")
    found |= {name.partition(".")[0] for name in set(one.not_enforced) ^ set(other.not_enforced)}
    return tuple(sorted(found))


# ---- inside


def _trigger(trigger: Trigger) -> Json:
    if trigger.cron is None:
        return _present({"event": trigger.event, "if": trigger.expression})
    jitter = duration_text(trigger.jitter_ms) if trigger.jitter_ms else None
    return _present({"cron": trigger.cron, "jitter": jitter, "catchUp": trigger.catch_up})


def _cancel(cancel: Cancel) -> Json:
    timeout = duration_text(cancel.timeout_ms) if cancel.timeout_ms is not None else None
    return _present({"event": cancel.event, "if": cancel.expression, "timeout": timeout})


def _options(wire: Json) -> Json:
    fields = Fields(wire, Findings())
    found: Json = {}
    for option, names in _NESTED.items():
        nested = fields.nested(option)
        if nested is not None:
            found[option] = _present({name: _value(nested, name) for name in names})
    idempotency = fields.text("idempotency")
    if idempotency is not None:
        found["idempotency"] = idempotency
        found.pop("rateLimit", None)  # idempotency takes its place
    return {option: value for option, value in found.items() if value}


def _value(fields: Fields, name: str) -> Any:
    if name in _DURATIONS:
        length_ms = fields.duration(name, 0, _ANY_MS)
        return None if length_ms is None else duration_text(length_ms)
    value = fields.get(name)
    return None if value == "" else value


def _present(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def _clean(value: Any) -> Any:
    match value:
        case dict():
            return {_text(str(key)): _clean(item) for key, item in value.items() if item is not None}
        case str():
            return _text(value)
        case list() | tuple():
            return [_clean(item) for item in value]
        case bool():
            return value
        case int() if not -_LARGEST <= value <= _LARGEST:
            return _as_float(value)
    return value


def _as_float(value: int) -> float | str:
    """A larger integer as API servers keep it; as text where even that is too small."""
    try:
        return float(value)
    except OverflowError:
        return str(value)


def _text(text: str) -> str:
    """A text that can be sent: half a character becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def listed(names: Iterable[str], most: int = 10) -> str:
    """Names for a sentence: `a, b and 3 more`."""
    given = list(names)
    rest = len(given) - most
    return ", ".join(given[:most]) + (f" and {rest} more" if rest > 0 else "")
