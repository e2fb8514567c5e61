"""The options that hold runs back, put them together or drop them, as a function declares them on the wire.

Of these only a function's own concurrency limit is enforced so far. The others are checked all the same,
so that a mistake shows when it is made and not with a later version of the server, and each is named in a
warning.
"""

from typing import Any, Final, Literal, TypeVar

from innkeeper_apps.wire.expressions import EVENT, CheckExpression, condition, value_expression
from innkeeper_apps.wire.fields import Fields, kind, whole_number
from innkeeper_engine.durations import DAY_MS, MINUTE_MS, SECOND_MS
from innkeeper_engine.model.functions import Concurrency, Scope

_Text = TypeVar("_Text", bound=str)

MAX_CONCURRENCY: Final = 2
MAX_BATCH: Final = 100
MAX_BATCH_MS: Final = 10 * MINUTE_MS
MAX_PERIOD_MS: Final = 7 * DAY_MS
MAX_RATE_LIMIT_PERIOD_MS: Final = DAY_MS
MAX_TIMEOUT_MS: Final = 366 * DAY_MS

_SCOPES: Final[tuple[Scope, ...]] = ("fn", "env", "account")
_MODES: Final[tuple[Literal["skip", "cancel"], ...]] = ("skip", "cancel")
_EXCLUDED_BY_BATCHES: Final = ("cancel", "debounce", "priority", "singleton")


def read_concurrency(function: Fields, check: CheckExpression) -> tuple[Concurrency, ...]:
    """The limits on requests at one instant; a limit of 0 is none, and left out.

    Forms: a number, one object, a list of at most two, or `{"fn": [...], "step": [...]}`, where `step` is
    that list and `fn` limits whole runs (checked here, see `limits_whole_runs`).
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


def check_flow_control(function: Fields, check: CheckExpression) -> tuple[str, ...]:
    """The names of the declared options that are not enforced yet, in the order of the documentation."""
    declared = {
        "rateLimit": _check_rate_limit(function, check),
        "throttle": _check_throttle(function, check),
        "debounce": _check_debounce(function, check),
        "batchEvents": _check_batch(function, check),
        "priority": _check_priority(function, check),
        "singleton": _check_singleton(function, check),
        "idempotency": value_expression(function, "idempotency", check) is not None,
        "timeouts": _check_timeouts(function),
    }
    if declared["idempotency"] and declared["rateLimit"]:
        function.warn("rateLimit", "has no effect: idempotency is a rate limit itself, and takes its place")
    return tuple(option for option, there in declared.items() if there)


def _check_rate_limit(function: Fields, check: CheckExpression) -> bool:
    option = function.nested("rateLimit")
    if option is None:
        return False
    _required_limit(option, 1)
    # A limit without a period has no meaning that could be guessed, so it is refused, as by Inngest.
    option.required_duration("period", SECOND_MS, MAX_RATE_LIMIT_PERIOD_MS)
    value_expression(option, "key", check)
    return True


def _check_throttle(function: Fields, check: CheckExpression) -> bool:
    option = function.nested("throttle")
    if option is None:
        return False
    _required_limit(option, 0)  # Inngest reads 0 as 1
    option.required_duration("period", SECOND_MS, MAX_PERIOD_MS)
    option.integer("burst", 0)
    value_expression(option, "key", check)
    return True


def _required_limit(option: Fields, low: int) -> None:
    if option.get("limit") is None:
        renamed = " (`count` is what old SDKs called it)" if option.get("count") is not None else ""
        option.problem("limit", f"is missing: write how many runs may start in a period{renamed}")
    else:
        option.integer("limit", low)


def _check_debounce(function: Fields, check: CheckExpression) -> bool:
    option = function.nested("debounce")
    if option is None:
        return False
    option.required_duration("period", SECOND_MS, MAX_PERIOD_MS)
    option.duration("timeout", SECOND_MS, MAX_PERIOD_MS)
    value_expression(option, "key", check)
    return True


def _check_batch(function: Fields, check: CheckExpression) -> bool:
    option = function.nested("batchEvents")
    if option is None:
        return False
    if option.get("maxSize") is None:
        option.problem("maxSize", f"is missing: write how many events make a batch, 2 to {MAX_BATCH}")
    else:
        option.integer("maxSize", 2, MAX_BATCH)
    option.required_duration("timeout", SECOND_MS, MAX_BATCH_MS)
    value_expression(option, "key", check)
    condition(option, "if", EVENT, check)
    for other in _EXCLUDED_BY_BATCHES:
        if function.get(other):
            function.problem("batchEvents", f"cannot be combined with {other}: take one of them away")
    return True


def _check_priority(function: Fields, check: CheckExpression) -> bool:
    option = function.nested("priority")
    return option is not None and value_expression(option, "run", check) is not None


def _check_singleton(function: Fields, check: CheckExpression) -> bool:
    option = function.nested("singleton")
    if option is None:
        return False
    if option.get("mode") in (None, ""):
        option.problem("mode", "is missing: write 'skip' or 'cancel'")
    else:
        _one_of(option, "mode", _MODES)
    value_expression(option, "key", check)
    return True


def _check_timeouts(function: Fields) -> bool:
    option = function.nested("timeouts")
    if option is None:
        return False
    start = option.duration("start", 1, MAX_TIMEOUT_MS)
    finish = option.duration("finish", 1, MAX_TIMEOUT_MS)
    return start is not None or finish is not None
