"""One function as an SDK declares it on the wire, turned into a `FunctionConfig` or into problems."""

from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from innkeeper_apps.wire.canonical import canonical_parsed
from innkeeper_apps.wire.expressions import EVENT, EVENT_AND_ASYNC, CheckExpression, condition
from innkeeper_apps.wire.fields import Fields, Findings, kind
from innkeeper_apps.wire.flow_control import (
    limits_whole_runs,
    read_batch,
    read_concurrency,
    read_debounce,
    read_idempotency,
    read_priority,
    read_rate_limit,
    read_singleton,
    read_throttle,
    read_timeouts,
)
from innkeeper_engine.cron import CronError, CronLine
from innkeeper_engine.durations import DAY_MS, MINUTE_MS, SECOND_MS
from innkeeper_engine.model.functions import (
    DEFAULT_RETRIES,
    MAX_RETRIES,
    Cancel,
    FunctionConfig,
    Trigger,
)
from innkeeper_engine.triggers import event_name_problem, event_name_warning, is_pattern

MAX_TRIGGERS: Final = 10
MAX_CANCELS: Final = 5
MAX_CANCEL_MS: Final = 366 * DAY_MS
MAX_JITTER_MS: Final = 5 * MINUTE_MS

_STEP: Final = "step"
_RUN_LIMIT: Final = "concurrency.fn"
_SCHEMES: Final = ("http", "https", "ws", "wss")


def read_function(
    value: Any, index: int, findings: Findings, check: CheckExpression
) -> FunctionConfig | None:
    """One entry of `functions`; None where it has no id or no URL, or is no object: then there are problems.

    With other problems in it a function is still returned, since its id is needed to find duplicates;
    whoever calls refuses the whole registration as soon as `findings` has a problem.
    """
    place = f"functions[{index}]"
    if not isinstance(value, dict):
        findings.problem(place, f"is {kind(value)}, an object is wanted")
        return None
    slug = Fields(value, findings, place).identity("id", "write the app id, a dash and the function's id")
    function = Fields(value, findings.of(slug or place))
    name = function.identity("name", "write a name for people to read", longest=1000)
    url, retries = _read_step(function)
    config = FunctionConfig(
        slug=slug or "",
        name=name or "",
        url=url or "",
        triggers=_read_triggers(function, check),
        retries=retries,
        cancel=_read_cancels(function, check),
        concurrency=read_concurrency(function, check),
        throttle=read_throttle(function, check),
        rate_limit=read_rate_limit(function, check),
        debounce=read_debounce(function, check),
        batch=read_batch(function, check),
        priority=read_priority(function, check),
        singleton=read_singleton(function, check),
        idempotency=read_idempotency(function, check),
        timeouts=read_timeouts(function),
        not_enforced=_not_enforced(function),
        declared=msgspec.Raw(_readable(value)),
    )
    return config if slug and url else None


def _readable(value: dict[str, Any]) -> bytes:
    """The canonical form, with whole characters only: the registry is read by a stricter reader than SDKs write for."""
    canonical = canonical_parsed(value)
    return canonical_parsed(_whole(value)) if rb"\ud" in canonical else canonical


def _whole(value: Any) -> Any:
    match value:
        case dict():
            return {_whole(key): _whole(item) for key, item in value.items()}
        case list():
            return [_whole(item) for item in value]
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _not_enforced(function: Fields) -> tuple[str, ...]:
    if not limits_whole_runs(function):
        return ()
    function.warn(
        _RUN_LIMIT,
        "is accepted but not enforced: this server limits the requests of runs (step), not how many runs go on at once",
    )
    return (_RUN_LIMIT,)


def _read_step(function: Fields) -> tuple[str | None, int]:
    """The URL to call, as it was declared, and the number of retries."""
    retries = function.integer("retries", 0, MAX_RETRIES)
    steps = function.get("steps")
    if not isinstance(steps, dict) or [key.lower() for key in steps] != [_STEP]:
        function.problem("steps", 'must hold exactly one step, called "step", with the URL of the function')
        return None, DEFAULT_RETRIES
    step = Fields(steps, function.findings, "steps").nested(_STEP)
    if step is None:
        return None, DEFAULT_RETRIES
    # The object beside the URL is what SDKs send; where it speaks, it counts.
    own = step.nested("retries")
    attempts = own.integer("attempts", 0, MAX_RETRIES) if own is not None else None
    runtime = step.nested("runtime")
    if runtime is None:
        step.problem("runtime", "is missing: write the type and the url of the function")
        return None, DEFAULT_RETRIES
    url = runtime.text("url")
    wrong = "is missing: write where the function is served" if url is None else url_problem(url)
    if wrong is not None:
        runtime.problem("url", wrong)
        url = None
    return url, next((given for given in (attempts, retries) if given is not None), DEFAULT_RETRIES)


def url_problem(url: str) -> str | None:
    """Why an app cannot be called at a URL, as a sentence; None where it can."""
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        return f"{url!r} is no URL: it holds a space or a control character; encode it"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"{url!r} is no URL: {error}"
    if parts.scheme.lower() not in _SCHEMES or not host:
        return f"{url!r} is no URL of an app: write http:// or https:// and a host"
    return None


def _read_triggers(function: Fields, check: CheckExpression) -> tuple[Trigger, ...]:
    entries = function.objects("triggers")
    if len(entries) > MAX_TRIGGERS:
        function.problem("triggers", f"has {len(entries)} triggers, {MAX_TRIGGERS} is the most")
    found: list[Trigger] = []
    seen: set[tuple[str, ...]] = set()
    for entry in entries:
        trigger = _read_trigger(entry, check)
        if trigger is None:
            continue
        # A cron line counts once whatever its jitter; an event may come again with another condition.
        same = (
            ("cron", *trigger.cron.split())
            if trigger.cron is not None
            else ("event", trigger.event or "", trigger.expression or "")
        )
        if same in seen:
            entry.findings.problem(entry.path, "is there twice: take one of the two away")
        seen.add(same)
        found.append(trigger)
    return tuple(found)


def _read_trigger(entry: Fields, check: CheckExpression) -> Trigger | None:
    event, cron = entry.text("event"), entry.text("cron")
    if event is not None and cron is not None:
        entry.findings.problem(entry.path, "has both event and cron: write two triggers")
        return None
    if event is not None:
        if _event_name(entry, event) is None:
            return None
        if entry.text("jitter") is not None:
            entry.warn("jitter", "has no effect on an event, only on a cron")
        return Trigger(event=event, expression=condition(entry, "expression", EVENT, check))
    if cron is not None:
        return _cron_trigger(entry, cron)
    if entry.get("event") in (None, "") and entry.get("cron") in (None, ""):
        entry.findings.problem(
            entry.path, "a trigger needs either event or cron; `{ trigger: ... }` is not an option"
        )
    return None


def _cron_trigger(entry: Fields, cron: str) -> Trigger | None:
    if entry.text("expression") is not None:
        entry.warn("expression", "has no effect on a cron, only on an event")
    jitter_ms = entry.duration("jitter", SECOND_MS, MAX_JITTER_MS)
    try:
        CronLine.parse(cron)
    except CronError as error:
        entry.problem("cron", str(error))
        return None
    return Trigger(cron=cron, jitter_ms=jitter_ms or 0)


def _event_name(entry: Fields, name: str) -> str | None:
    wrong = event_name_problem(name)
    if wrong is not None:
        entry.problem("event", wrong)
        return None
    odd = event_name_warning(name)
    if odd is not None:
        entry.warn("event", odd)
    return name


def _read_cancels(function: Fields, check: CheckExpression) -> tuple[Cancel, ...]:
    entries = function.objects("cancel")
    if len(entries) > MAX_CANCELS:
        function.problem("cancel", f"has {len(entries)} entries, {MAX_CANCELS} is the most")
    found = []
    for entry in entries:
        event = entry.text("event")
        if event is None:
            entry.problem("event", "is missing: write the name of the event that cancels")
            continue
        if _event_name(entry, event) is None:
            continue
        if is_pattern(event):
            entry.warn(
                "event", f"{event!r} cancels nothing: write the whole name of an event, a * is for triggers"
            )
        found.append(
            Cancel(
                event=event,
                expression=_cancel_condition(entry, check),
                timeout_ms=entry.duration("timeout", 1, MAX_CANCEL_MS),
            )
        )
    return tuple(found)


def _cancel_condition(entry: Fields, check: CheckExpression) -> str | None:
    if entry.get("if") in (None, "") and entry.get("match") is not None:
        # SDKs write `match: "data.id"` out as a condition; without it every such event would cancel.
        entry.problem("match", "is not known here: write if, for example event.data.id == async.data.id")
        return None
    return condition(entry, "if", EVENT_AND_ASYNC, check)
