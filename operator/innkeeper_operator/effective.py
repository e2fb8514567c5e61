"""Configuration as a status shows it: in the words of a spec, in one form, and never too large for an object."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from innkeeper_apps.wire.canonical import NotJsonError, parse, plain
from innkeeper_engine.durations import HOUR_MS, MINUTE_MS, SECOND_MS
from innkeeper_engine.model.functions import (
    Batch,
    Cancel,
    Concurrency,
    Debounce,
    FunctionConfig,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    Trigger,
)

Json = dict[str, Any]

MAX_SHOWN_BYTES: Final = 16 * 1024
"""An object has room for about 1.5 MB in all, and every reader of a list of Functions gets all of it."""

_ATTRIBUTES: Final = {
    "triggers": ("triggers",),
    "concurrency": ("concurrency",),
    "throttle": ("throttle",),
    "rateLimit": ("rate_limit",),
    "debounce": ("debounce",),
    "batchEvents": ("batch",),
    "priority": ("priority",),
    "singleton": ("singleton",),
    "idempotency": ("idempotency",),
    "cancelOn": ("cancel",),
    "timeouts": ("timeouts",),
    "retries": ("retries",),
    "paused": ("paused",),
    "pausePolicy": ("new_runs", "running"),
}
"""What a field of the spec is in a function's configuration."""
_LARGEST: Final = 2**63 - 1


def effective(config: FunctionConfig) -> Json:
    """What runs, in the form of a Function's spec."""
    found: Json = {
        "triggers": [_trigger(trigger) for trigger in config.triggers],
        "retries": config.retries,
        "paused": config.paused,
    }
    if config.concurrency:
        found["concurrency"] = [_concurrency(limit) for limit in config.concurrency]
    if config.cancel:
        found["cancelOn"] = [_cancel(cancel) for cancel in config.cancel]
    if (config.new_runs, config.running) != ("Skip", "Continue"):
        found["pausePolicy"] = {"newRuns": config.new_runs, "running": config.running}
    options = {
        "throttle": config.throttle and _throttle(config.throttle),
        "rateLimit": config.rate_limit and _rate_limit(config.rate_limit),
        "debounce": config.debounce and _debounce(config.debounce),
        "batchEvents": config.batch and _batch(config.batch),
        "priority": config.priority and {"run": config.priority},
        "singleton": config.singleton and _singleton(config.singleton),
        "idempotency": config.idempotency,
        "timeouts": config.timeouts and _timeouts(config.timeouts),
    }
    return found | _present(options)


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

    A setting that one of them was registered with by a version that did nothing about it is no difference.
    """
    found = {
        name
        for name, attributes in _ATTRIBUTES.items()
        if any(getattr(one, each) != getattr(other, each) for each in attributes)
    }
    return tuple(sorted(found.difference(one.not_enforced, other.not_enforced)))


# ---- inside


def _trigger(trigger: Trigger) -> Json:
    if trigger.cron is None:
        return _present({"event": trigger.event, "if": trigger.expression})
    jitter = _duration(trigger.jitter_ms or None)
    return _present({"cron": trigger.cron, "jitter": jitter, "catchUp": trigger.catch_up})


def _cancel(cancel: Cancel) -> Json:
    return _present({"event": cancel.event, "if": cancel.expression, "timeout": _duration(cancel.timeout_ms)})


def _concurrency(limit: Concurrency) -> Json:
    return _present({"limit": limit.limit, "key": limit.key, "scope": limit.scope})


def _throttle(throttle: Throttle) -> Json:
    period = duration_text(throttle.period_ms)
    return _present({"limit": throttle.limit, "period": period, "burst": throttle.burst, "key": throttle.key})


def _rate_limit(limit: RateLimit) -> Json:
    return _present({"limit": limit.limit, "period": duration_text(limit.period_ms), "key": limit.key})


def _debounce(debounce: Debounce) -> Json:
    period, timeout = duration_text(debounce.period_ms), _duration(debounce.timeout_ms)
    return _present({"period": period, "timeout": timeout, "key": debounce.key})


def _batch(batch: Batch) -> Json:
    timeout = duration_text(batch.timeout_ms)
    return _present({"maxSize": batch.max_size, "timeout": timeout, "key": batch.key, "if": batch.expression})


def _singleton(singleton: Singleton) -> Json:
    return _present({"mode": singleton.mode, "key": singleton.key})


def _timeouts(timeouts: Timeouts) -> Json:
    return _present({"start": _duration(timeouts.start_ms), "finish": _duration(timeouts.finish_ms)})


def _duration(ms: int | None) -> str | None:
    return None if ms is None else duration_text(ms)


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
