"""A Function's spec on top of what the SDK declared: one field at a time, never merged inside.

The spec is turned into the form of the wire and read by the same reader as a registration, so that one validator
speaks for both. What it finds wrong in a field of the spec is told at that field of the spec.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args
from urllib.parse import urlsplit

import msgspec

from innkeeper_apps.wire.canonical import NotJsonError, parse
from innkeeper_apps.wire.expressions import CheckExpression
from innkeeper_apps.wire.fields import Fields, Findings, Problem, fold
from innkeeper_apps.wire.function_config import read_function
from innkeeper_engine.cel import compile_expression
from innkeeper_engine.model.functions import FunctionConfig, Trigger
from innkeeper_operator.specs import AppRef, CancelSpec, FunctionSpec, Option, TriggerSpec

Json = dict[str, Any]

OPTIONS: Final[tuple[Option, ...]] = get_args(Option)
"""The fields of a spec that stand over what the SDK registered, in the order of the documentation."""

_WIRE: Final = {"cancelOn": "cancel"}
"""What an option is called on the wire, where that is something else."""
_SPEC: Final = {wire: option for option, wire in _WIRE.items()}
_EXCLUSIONS: Final[tuple[tuple[Option, Option], ...]] = (
    ("batchEvents", "cancelOn"),
    ("batchEvents", "debounce"),
    ("batchEvents", "priority"),
    ("batchEvents", "singleton"),
    ("idempotency", "rateLimit"),
)
_EXPRESSIONS: Final = ("if", "expression", "match", "key", "run", "idempotency")
_DURATIONS: Final = ("period", "timeout", "start", "finish", "jitter")
_FIELD = re.compile(r"(?P<option>\w+)(?P<index>\[\d+\])?(?P<rest>.*)", re.DOTALL)


class SpecProblem(msgspec.Struct, frozen=True):
    """Why a function cannot run as its Function says."""

    reason: str
    """InvalidExpression, InvalidCron, InvalidDuration, InvalidValue; Conflict where only both together are wrong;
    InvalidFunction where it is what the app declares, and not the spec."""
    field: str
    """Where: `spec.triggers[0].if`, or without `spec.` in what the app declares."""
    message: str
    """The field, what is wrong there and what would be right."""

    def __str__(self) -> str:
        return self.message


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """A function as it shall run."""

    config: FunctionConfig
    """Its `declared` is what the SDK sent, without the spec."""
    overridden: tuple[str, ...] = ()
    """Names of the spec's fields that stand over, or take away, something; sorted."""
    warnings: tuple[str, ...] = ()
    """What is valid in the spec but probably not meant."""


def merge(
    declared: bytes,
    spec: FunctionSpec | None,
    *,
    endpoint: str = "",
    check: CheckExpression = compile_expression,
) -> Merged | tuple[SpecProblem, ...]:
    """One function as the SDK declared it (JSON of the wire), with a Function's spec on top, or what is wrong.

    `endpoint` is where the app is called whatever URL the SDK sent; only the query of that one is kept (it names the
    function). Empty: the SDK's own URL. `paused` and `pausePolicy` come from the spec alone: no SDK knows them.
    Not to be changed: the same question gets the same answer.
    """
    if check is compile_expression:
        return _merge_again(declared, spec, endpoint)
    return _merge(declared, spec, endpoint, check)


@functools.lru_cache(maxsize=4096)
def _merge_again(
    declared: bytes, spec: FunctionSpec | None, endpoint: str
) -> Merged | tuple[SpecProblem, ...]:
    # One change of an app plans all of its functions anew, and nearly all of them are as they were.
    return _merge(declared, spec, endpoint, compile_expression)


def _merge(
    declared: bytes, spec: FunctionSpec | None, endpoint: str, check: CheckExpression
) -> Merged | tuple[SpecProblem, ...]:
    try:
        value = parse(declared)
    except NotJsonError as error:
        return (SpecProblem("InvalidFunction", "", f"what the app declared cannot be read: {error}"),)
    if not isinstance(value, dict):
        return (SpecProblem("InvalidFunction", "", "what the app declared is no object"),)
    given = _given(spec)
    wire = _laid_over(value, given, spec.unset if spec else ())
    problems = _contradictions(wire, given, spec.unset if spec else ())
    findings = Findings()
    config = read_function(wire, 0, findings, check)
    excluded = bool(problems)
    problems += _conditions_twice(spec.cancel_on or () if spec else ())
    problems += [
        _told(problem, given, spec)
        for problem in findings.problems
        if not (excluded and problem.field == "batchEvents")
    ]
    if problems or config is None:
        return tuple(dict.fromkeys(problems))
    return Merged(
        config=_finished(config, declared, spec, endpoint),
        overridden=_overridden(value, given, spec),
        warnings=tuple(
            _told(warning, given, spec).message
            for warning in findings.warnings
            if _option(warning.field) in given
        ),
    )


def check_spec(spec: FunctionSpec, *, check: CheckExpression = compile_expression) -> tuple[SpecProblem, ...]:
    """What is wrong with a spec whatever the app declares; for a Function that is there before its app."""
    bare = {
        "id": spec.id,
        "name": spec.id,
        "steps": {"step": {"runtime": {"type": "http", "url": "http://app.invalid/"}}},
    }
    merged = merge(msgspec.json.encode(bare), spec, check=check)
    return () if isinstance(merged, Merged) else merged


def pause_only(spec: FunctionSpec) -> FunctionSpec:
    """The part of a spec that is never wrong: whether the function is paused, and how."""
    return FunctionSpec(
        app_ref=AppRef(name=spec.app_ref.name),
        id=spec.id,
        paused=spec.paused,
        pause_policy=spec.pause_policy,
    )


def with_pause(config: FunctionConfig, spec: FunctionSpec | None) -> FunctionConfig:
    """A function paused as the spec says; without one, or where it says nothing, it runs."""
    policy = spec.pause_policy if spec else None
    return msgspec.structs.replace(
        config,
        paused=bool(spec and spec.paused),
        new_runs=(policy.new_runs if policy else None) or "Skip",
        running=(policy.running if policy else None) or "Continue",
    )


def at_endpoint(config: FunctionConfig, endpoint: str) -> FunctionConfig:
    """A function that is called at an endpoint, with the query of its own URL."""
    query = urlsplit(config.url).query
    return msgspec.structs.replace(config, url=f"{endpoint}?{query}" if query else endpoint)


# ---- laying over


def _given(spec: FunctionSpec | None) -> dict[str, Any]:
    """What a spec sets, by option, in the form of the wire."""
    if spec is None:
        return {}
    written = msgspec.to_builtins(spec)
    found: dict[str, Any] = {option: written[option] for option in OPTIONS if option in written}
    if spec.concurrency is not None:
        found["concurrency"] = list(found["concurrency"])
    if spec.triggers is not None:
        found["triggers"] = [_trigger(trigger) for trigger in spec.triggers]
    if spec.cancel_on is not None:
        found["cancelOn"] = [_cancel(cancel) for cancel in spec.cancel_on]
    return found


def _trigger(trigger: TriggerSpec) -> Json:
    # How slots are caught up is put on afterwards: the wire does not know it.
    fields = {
        "event": trigger.event,
        "expression": trigger.if_,
        "cron": trigger.cron,
        "jitter": trigger.jitter,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _cancel(cancel: CancelSpec) -> Json:
    condition = cancel.if_
    if cancel.match is not None:
        condition = f"event.{cancel.match} == async.{cancel.match}"  # as SDKs write it out
    fields = {"event": cancel.event, "if": condition, "timeout": cancel.timeout}
    return {key: value for key, value in fields.items() if value is not None}


def _laid_over(value: Json, given: Mapping[str, Any], unset: Iterable[str]) -> Json:
    replaced = {fold(_WIRE.get(option, option)) for option in (*given, *unset)}
    # SDKs spell keys as they like: whatever reads as the option goes.
    wire = {key: item for key, item in value.items() if fold(key) not in replaced}
    if "retries" in given:
        wire = {key: _without_retries(item) if fold(key) == "steps" else item for key, item in wire.items()}
    return wire | {_WIRE.get(option, option): item for option, item in given.items()}


def _without_retries(steps: Any) -> Any:
    """The steps without the number of retries that SDKs write beside the URL: it would stand over the option."""
    if not isinstance(steps, dict):
        return steps
    return {
        name: {key: item for key, item in step.items() if fold(key) != "retries"}
        if isinstance(step, dict)
        else step
        for name, step in steps.items()
    }


def _finished(
    config: FunctionConfig, declared: bytes, spec: FunctionSpec | None, endpoint: str
) -> FunctionConfig:
    if spec is not None and spec.triggers is not None:
        # Nothing was left out by the reader: it found no problem.
        triggers = tuple(
            _caught_up(trigger, wanted)
            for trigger, wanted in zip(config.triggers, spec.triggers, strict=True)
        )
        config = msgspec.structs.replace(config, triggers=triggers)
    config = with_pause(msgspec.structs.replace(config, declared=msgspec.Raw(declared)), spec)
    return at_endpoint(config, endpoint) if endpoint else config


def _caught_up(trigger: Trigger, spec: TriggerSpec) -> Trigger:
    if spec.catch_up is None or trigger.cron is None:
        return trigger
    return msgspec.structs.replace(trigger, catch_up=spec.catch_up)


def _overridden(value: Json, given: Mapping[str, Any], spec: FunctionSpec | None) -> tuple[str, ...]:
    fields = Fields(value, Findings())
    taken_away = [option for option in (spec.unset if spec else ()) if fields.get(_WIRE.get(option, option))]
    return tuple(sorted({*given, *taken_away}))


# ---- what is wrong


def _contradictions(wire: Json, given: Mapping[str, Any], unset: Iterable[str]) -> list[SpecProblem]:
    """What the fields of a spec say against each other, or against what the app declares besides."""
    problems = [
        SpecProblem(
            "InvalidValue",
            "spec.unset",
            f"spec.unset: {option} is set as well: take it out of one of the two",
        )
        for option in unset
        if option in given
    ]
    fields = Fields(wire, Findings())
    for one, other in _EXCLUSIONS:
        if not all(fields.get(_WIRE.get(option, option)) for option in (one, other)):
            continue
        if one in given and other in given:
            problems.append(
                SpecProblem(
                    "InvalidValue",
                    f"spec.{one}",
                    f"spec.{one} excludes spec.{other}: take one of the two away",
                )
            )
        elif one in given or other in given:
            mine, theirs = (one, other) if one in given else (other, one)
            problems.append(
                SpecProblem(
                    "Conflict",
                    f"spec.{mine}",
                    f"spec.{mine} excludes {theirs}, which the app declares: add unset: [{theirs}]",
                )
            )
    return problems


def _conditions_twice(cancels: Iterable[CancelSpec]) -> list[SpecProblem]:
    """Rules that say twice which events they are about: the wire has room for one."""
    return [
        SpecProblem(
            "InvalidValue",
            f"spec.cancelOn[{index}].match",
            f"spec.cancelOn[{index}].match excludes if: take one of the two away",
        )
        for index, cancel in enumerate(cancels)
        if cancel.match is not None and cancel.if_ is not None
    ]


def _option(field: str) -> str:
    """The option that a field of the wire is in."""
    match = _FIELD.match(field)
    name = match["option"] if match else ""
    return _SPEC.get(name, name)


def _told(problem: Problem, given: Mapping[str, Any], spec: FunctionSpec | None) -> SpecProblem:
    """A finding of the wire, at the field of the spec that it comes from."""
    option = _option(problem.field)
    if spec is None or option not in given:
        where = problem.field
        return SpecProblem("InvalidFunction", where, f"{where}, as the app declares it: {problem.message}")
    match = _FIELD.match(problem.field)
    assert match is not None  # it named an option
    index, rest = match["index"] or "", match["rest"]
    if option == "concurrency" and rest and not index:
        index = "[0]"  # a single limit has no number on the wire
    if option == "triggers" and rest == ".expression":
        rest = ".if"
    if option == "cancelOn" and rest == ".if" and spec.cancel_on and index:
        rest = ".match" if spec.cancel_on[int(index[1:-1])].match is not None else rest
    field = f"spec.{option}{index}{rest}"
    return SpecProblem(_reason(field, problem.message), field, f"{field}: {problem.message}")


def _reason(field: str, message: str) -> str:
    name = field.rpartition(".")[2]
    if message.startswith("is missing"):
        return "InvalidValue"
    if name in _EXPRESSIONS:
        return "InvalidExpression"
    if name == "cron":
        return "InvalidCron"
    return "InvalidDuration" if name in _DURATIONS else "InvalidValue"
