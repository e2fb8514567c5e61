"""The options that hold runs back, put them together or drop them, as a function declares them on the wire.

Each `read_*` gives the option as the engine knows it, None where it is absent; where it is not valid too, and then
there is a problem, for which the whole registration is refused.
"""

from typing import Any, Final, TypeVar

from innkeeper_apps.wire.expressions import (
    EVENT,
    CheckExpression,
    condition,
    number_expression,
    value_expression,
)
from innkeeper_apps.wire.fields import Fields, kind, whole_number
from innkeeper_engine.durations import DAY_MS, MINUTE_MS, SECOND_MS
from innkeeper_engine.limits import MOST_PRIORITY_S
from innkeeper_engine.model.functions import (
    Batch,
    Concurrency,
    Debounce,
    RateLimit,
    Scope,
    Singleton,
    SingletonMode,
    Throttle,
    Timeouts,
)

_Text = TypeVar("_Text", bound=str)

MAX_CONCURRENCY: Final = 2
MAX_BATCH: Final = 100
MAX_BATCH_MS: Final = 10 * MINUTE_MS
MAX_PERIOD_MS: Final = 7 * DAY_MS
MAX_RATE_LIMIT_PERIOD_MS: Final = DAY_MS
MAX_TIMEOUT_MS: Final = 366 * DAY_MS

_SCOPES: Final[tuple[Scope, ...]] = ("fn", "env", "account")
_MODES: Final[tuple[SingletonMode, ...]] = ("skip", "cancel")
_EXCLUDED_BY_BATCHES: Final = ("cancel", "debounce", "priority", "singleton")


def read_concurrency(function: Fields, check: CheckExpression) -> tuple[Concurrency, ...]:
    """The limits on requests at one instant; a limit of 0 is none, and left out.

    Forms: a number, one object, a list of at most two, or `{"fn": [...], "step": [...]}`, where `step` is
    that list and `fn` limits whole runs (checked here, and not enforced: see `limits_whole_runs`).
    """
    value = function.get("concurrency")
    match value:
        case None:
            return ()
        case dict() if _is_two_part(value):
            parts = Fields(value, function.findings, "concurrency")
            _check_run_limits(parts, check)
            return _entries(parts, "step", parts.items("step"), check)
        case dict():
            return _entries(function, "concurrency", [value], check)
        case list():
            return _entries(function, "concurrency", value, check)
        case int() if not isinstance(value, bool):
            limit = function.integer("concurrency", 0)
            return (Concurrency(limit=limit),) if limit else ()
        case _:
            function.problem("concurrency", f"is {kind(value)}; write a number, or a list of limits")
            return ()


def limits_whole_runs(function: Fields) -> bool:
    """Whether a function limits whole runs (`concurrency: {"fn": [...]}`), and not requests."""
    value = function.get("concurrency")
    if not isinstance(value, dict) or not _is_two_part(value):
        return False
    return bool(Fields(value, function.findings).get("fn"))


def _is_two_part(value: dict[str, Any]) -> bool:
    return any(key.lower() in ("fn", "step") for key in value)


def _check_run_limits(parts: Fields, check: CheckExpression) -> None:
    limits = parts.objects("fn")
    if len(limits) > 1:
        parts.problem("fn", f"has {len(limits)} entries, 1 is the most")
    for limit in limits:
        limit.integer("limit", 0)
        value_expression(limit, "key", check)


def _entries(parent: Fields, key: str, entries: list[Any], check: CheckExpression) -> tuple[Concurrency, ...]:
    if len(entries) > MAX_CONCURRENCY:
        parent.problem(key, f"has {len(entries)} entries, {MAX_CONCURRENCY} is the most")
    found = []
    for index, entry in enumerate(entries):
        path = f"{parent.at(key)}[{index}]" if len(entries) > 1 else parent.at(key)
        match entry:
            case dict():
                limit = _entry(Fields(entry, parent.findings, path), check)
            case int() if not isinstance(entry, bool):
                number = whole_number(entry, path, parent.findings, 0, None)
                limit = Concurrency(limit=number) if number else None
            case _:
                parent.findings.problem(path, f"is {kind(entry)}, an object is wanted")
                limit = None
        if limit is not None:
            found.append(limit)
    return tuple(found)


def _entry(entry: Fields, check: CheckExpression) -> Concurrency | None:
    scope: Scope = _one_of(entry, "scope", _SCOPES) or "fn"
    declared_key = entry.text("key")
    key = value_expression(entry, "key", check)
    if scope != "fn" and declared_key is None:
        entry.problem(
            "key",
            f"is missing: a limit of scope {scope} needs one, for example \"'openai'\" to share it by name",
        )
    limit = entry.integer("limit", 0)
    return Concurrency(limit=limit, key=key, scope=scope) if limit else None


def _one_of(fields: Fields, key: str, allowed: tuple[_Text, ...]) -> _Text | None:
    """A text that is one of those allowed; None where it is absent or another one."""
    value = fields.text(key)
    for text in allowed:
        if value == text:
            return text
    if value is not None:
        fields.problem(key, f"is {value!r}; write {' or '.join(map(repr, allowed))}")
    return None


def read_rate_limit(function: Fields, check: CheckExpression) -> RateLimit | None:
    """How many runs may be made in a period; None beside `idempotency`, which takes its place."""
    option = function.nested("rateLimit")
    if option is None:
        return None
    limit = _required_limit(option, 1)
    # A limit without a period has no meaning that could be guessed, so it is refused, as by Inngest.
    period_ms = option.required_duration("period", SECOND_MS, MAX_RATE_LIMIT_PERIOD_MS)
    key = value_expression(option, "key", check)
    if function.get("idempotency"):
        function.warn("rateLimit", "has no effect: idempotency is a rate limit itself, and takes its place")
        return None
    return RateLimit(limit=limit, period_ms=period_ms, key=key) if limit and period_ms else None


def read_throttle(function: Fields, check: CheckExpression) -> Throttle | None:
    """How far runs begin apart; a limit of 0 and a burst of 0 are 1."""
    option = function.nested("throttle")
    if option is None:
        return None
    limit = _required_limit(option, 0)
    period_ms = option.required_duration("period", SECOND_MS, MAX_PERIOD_MS)
    burst = option.integer("burst", 0)
    key = value_expression(option, "key", check)
    if limit is None or period_ms is None:
        return None
    return Throttle(limit=limit or 1, period_ms=period_ms, burst=burst or 1, key=key)


def _required_limit(option: Fields, low: int) -> int | None:
    if option.get("limit") is not None:
        return option.integer("limit", low)
    renamed = " (`count` is what old SDKs called it)" if option.get("count") is not None else ""
    option.problem("limit", f"is missing: write how many runs may start in a period{renamed}")
    return None


def read_debounce(function: Fields, check: CheckExpression) -> Debounce | None:
    """How long events must stay away before a run is made of the last one."""
    option = function.nested("debounce")
    if option is None:
        return None
    period_ms = option.required_duration("period", SECOND_MS, MAX_PERIOD_MS)
    timeout_ms = option.duration("timeout", SECOND_MS, MAX_PERIOD_MS)
    if period_ms and timeout_ms and timeout_ms < period_ms:
        option.warn("timeout", "is shorter than period, which then has no effect: a run starts after timeout")
    key = value_expression(option, "key", check)
    return Debounce(period_ms=period_ms, timeout_ms=timeout_ms, key=key) if period_ms else None


def read_batch(function: Fields, check: CheckExpression) -> Batch | None:
    """How many events make one run, and how long it waits for them."""
    option = function.nested("batchEvents")
    if option is None:
        return None
    max_size = None
    if option.get("maxSize") is None:
        option.problem("maxSize", f"is missing: write how many events make a batch, 2 to {MAX_BATCH}")
    else:
        max_size = option.integer("maxSize", 2, MAX_BATCH)
    timeout_ms = option.required_duration("timeout", SECOND_MS, MAX_BATCH_MS)
    key = value_expression(option, "key", check)
    expression = condition(option, "if", EVENT, check)
    for other in _EXCLUDED_BY_BATCHES:
        if function.get(other):
            function.problem("batchEvents", f"cannot be combined with {other}: take one of them away")
    if max_size is None or timeout_ms is None:
        return None
    return Batch(max_size=max_size, timeout_ms=timeout_ms, key=key, expression=expression)


def read_priority(function: Fields, check: CheckExpression) -> str | None:
    """The expression for the seconds that a run is taken to be older than it is."""
    option = function.nested("priority")
    if option is None:
        return None
    return number_expression(option, "run", check, -MOST_PRIORITY_S, MOST_PRIORITY_S)


def read_singleton(function: Fields, check: CheckExpression) -> Singleton | None:
    """What becomes of a run while another one goes on."""
    option = function.nested("singleton")
    if option is None:
        return None
    mode = None
    if option.get("mode") in (None, ""):
        option.problem("mode", "is missing: write 'skip' or 'cancel'")
    else:
        mode = _one_of(option, "mode", _MODES)
    key = value_expression(option, "key", check)
    return Singleton(mode=mode, key=key) if mode is not None else None


def read_idempotency(function: Fields, check: CheckExpression) -> str | None:
    """The expression for what a run is made once of in 24 hours."""
    return value_expression(function, "idempotency", check)


def read_timeouts(function: Fields) -> Timeouts | None:
    """After how long a run is cancelled; None where neither of the two is set."""
    option = function.nested("timeouts")
    if option is None:
        return None
    start_ms = option.duration("start", 1, MAX_TIMEOUT_MS)
    finish_ms = option.duration("finish", 1, MAX_TIMEOUT_MS)
    if start_ms is None and finish_ms is None:
        return None
    return Timeouts(start_ms=start_ms, finish_ms=finish_ms)
