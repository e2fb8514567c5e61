"""What becomes of one function: how it runs, and what its object says of that.

A spec that is wrong is refused for its Function alone: what runs goes on with the last good settings, and where there
are none yet, with those in code. A pause is obeyed all the same: it cannot be wrong, and it is what one reaches for
when something is.
"""

from typing import Any, Final

import msgspec

from innkeeper_apps.wire.fields import Problem
from innkeeper_engine.model.functions import FunctionConfig
from innkeeper_engine.model.switches import Switch, pause_of, with_switch
from innkeeper_operator.conditions import ACCEPTED, READY, Said, conditions, find
from innkeeper_operator.effective import differences, effective, listed, show_declared, shown
from innkeeper_operator.objects import FunctionObject, Unreadable
from innkeeper_operator.overlay import Merged, SpecProblem, at_endpoint, check_spec, merge, with_pause
from innkeeper_operator.ownership import owned_by_operator
from innkeeper_operator.pausing import pause_status, told_of

Json = dict[str, Any]

INVALID_FUNCTION: Final = "InvalidFunction"
SLUG_CONFLICT: Final = "SlugConflict"
NOT_REGISTERED: Final = "NotRegistered"
WAITING: Final = "WaitingForApp"
PAUSED: Final = "Paused"

_PAUSE: Final = ("paused", "pausePolicy")


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What all functions of an app have in common."""

    app_id: str
    """Empty while it is not known."""
    endpoint: str
    waiting: str
    """Why the app has no registration of its own yet, as a sentence; empty where it has one."""
    single: bool
    """At most one revision of the app is live."""
    slugs: dict[str, str]
    """Who else in the environment has a function of which slug."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One function, before anything is decided."""

    id: str
    slug: str
    declared: bytes | None
    """What the app declares of it (JSON); None: it does not."""
    registered: FunctionConfig | None
    """How it runs now."""
    object: FunctionObject | None
    """The Function that counts for it."""
    hidden: bool = False
    """No object is made for it: it is the failure handler that an SDK made for another function."""
    unknown_spec: bool = False
    """There are Functions that cannot be read, and one of them may be this function's."""
    switch: Switch | None = None
    """Its pause over the API."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided on one function."""

    case: Case
    config: FunctionConfig | None
    """How it shall run; None: it does not."""
    accepted: Said
    ready: Said
    shown: Json = {}
    """`effective`, `overridden` and `notEnforced` of the status."""
    declared: Json | None = None
    """What the app declares, as the status shows it."""


def judge(scene: Scene, case: Case) -> Judged:
    """Decide on one function."""
    judged = _judge(scene, case)
    if case.declared is None:
        return judged
    return msgspec.structs.replace(judged, declared=show_declared(case.declared))


def _judge(scene: Scene, case: Case) -> Judged:
    if _is_clash(scene, case):
        said = Said(
            "False",
            SLUG_CONFLICT,
            f"{case.slug!r} is also what a function of the app {scene.slugs[case.slug]!r} is called (the id of the "
            "app, a dash, the id of the function): give one of the two another id",
        )
        return Judged(case=case, config=None, accepted=said, ready=said)
    if case.declared is None:
        return _not_declared(scene, case)
    spec = case.object.spec if case.object else None
    if case.unknown_spec:
        # Which settings people want here cannot be read: what runs goes on.
        return _as_before(scene, case, case.declared, ())
    merged = merge(case.declared, spec, endpoint=scene.endpoint)
    if isinstance(merged, Merged):
        return _taken(case, merged)
    return _as_before(scene, case, case.declared, merged)


def invalid(judged: Judged, problems: tuple[Problem, ...], sent: bytes) -> Judged:
    """The same where the app declares the function anew, but not validly: what was decided goes on.

    `sent` is what it declares (JSON); it is shown as it is.
    """
    said = Said(
        "False",
        INVALID_FUNCTION,
        "the app declares what cannot be registered: "
        + "; ".join(f"{problem.field}: {problem.message}" for problem in problems)
        + (". The registration before it goes on" if judged.config else ""),
    )
    return msgspec.structs.replace(judged, accepted=said, ready=said, declared=show_declared(sent))


def still_invalid(judged: Judged) -> Judged:
    """The same where the app was not asked again since it declared the function wrongly."""
    before = judged.case.object.status if judged.case.object else {}
    said = find(before, ACCEPTED)
    if said is None or said.reason != INVALID_FUNCTION:
        return judged
    kept = msgspec.structs.replace(said, generation=None)
    declared = before.get("declared", judged.declared)
    return msgspec.structs.replace(judged, accepted=kept, ready=kept, declared=declared)


def function_status(judged: Judged, now_ms: int) -> Json:
    """The status of the Function that counts."""
    function = judged.case.object
    assert function is not None
    in_code = judged.declared is not None or owned_by_operator(function.meta)
    status: Json = {"source": "SDK" if in_code else "Manifest"}
    if judged.case.slug:
        status["slug"] = judged.case.slug
    if judged.declared is not None:
        status["declared"] = judged.declared
    if judged.config is not None:
        status |= pause_status(pause_of(judged.config, judged.case.switch))
    said = {ACCEPTED: judged.accepted, READY: judged.ready}
    return finished(status | judged.shown, said, function.meta.generation, function.status, now_ms)


def finished(status: Json, said: dict[str, Said], generation: int, before: Json, now_ms: int) -> Json:
    """A whole status: with conditions, and with the counts of runs as somebody else wrote them."""
    status["observedGeneration"] = generation
    status["conditions"] = conditions(said, before, generation=generation, now_ms=now_ms)
    if "runs" in before:
        status["runs"] = before["runs"]
    return status


def duplicate_status(function: FunctionObject, holder: FunctionObject, now_ms: int) -> Json:
    """The status of a Function whose identity an older one has."""
    said = Said(
        "False",
        "Duplicate",
        f"the Function {holder.meta.name} is older and declares the same function ({function.spec.id!r} of "
        f"{function.spec.app_ref.name}): put the settings there and delete this one",
    )
    return finished({}, {ACCEPTED: said, READY: said}, function.meta.generation, function.status, now_ms)


def unreadable_status(unreadable: Unreadable) -> Json:
    """The status of an object whose spec this version cannot read; the same whenever it is asked for."""
    said = Said(
        "False",
        "Unsupported",
        f"this version cannot read the spec: {unreadable.why}. Take out what it does not know, or install a newer "
        "version; until then what is registered goes on",
    )
    # Its own status is not known here, so the time is one that stays.
    kinds = (ACCEPTED, READY) if unreadable.kind == "Function" else (READY,)
    since = conditions(dict.fromkeys(kinds, said), {}, generation=unreadable.meta.generation, now_ms=0)
    for condition in since:
        condition["lastTransitionTime"] = unreadable.meta.created or condition["lastTransitionTime"]
    return {"observedGeneration": unreadable.meta.generation, "conditions": since}


def is_free_again(scene: Scene, judged: Judged) -> bool:
    """Whether a function that was left out for its slug could be registered, if the app declared it once more."""
    said = find(judged.case.object.status, ACCEPTED) if judged.case.object else None
    clashed = said is not None and said.reason == SLUG_CONFLICT
    return clashed and judged.config is None and judged.case.slug not in scene.slugs


# ---- inside


def _is_clash(scene: Scene, case: Case) -> bool:
    if case.slug not in scene.slugs:
        return False
    if case.declared is not None:
        return True
    # It is not registered, so what the app declared is forgotten; that it did is not.
    if case.object is None:
        return False
    said = find(case.object.status, ACCEPTED)
    return owned_by_operator(case.object.meta) or (said is not None and said.reason == SLUG_CONFLICT)


def _not_declared(scene: Scene, case: Case) -> Judged:
    spec = case.object.spec if case.object else None
    problems = check_spec(spec) if spec is not None else ()
    accepted = _not_accepted(problems) if problems else Said("True", "Accepted")
    if scene.waiting:
        return Judged(
            case=case, config=None, accepted=accepted, ready=Said("Unknown", WAITING, scene.waiting)
        )
    message = f"the app {scene.app_id} has no function {case.id!r}"
    if scene.single:
        ready = Said("False", NOT_REGISTERED, f"{message}: is the id as in code, and that code deployed?")
    else:
        # So that the time for which it is gone begins when a single revision is left.
        ready = Said(
            "Unknown", NOT_REGISTERED, f"{message} at the revision that was asked; others run as well"
        )
    return Judged(case=case, config=None, accepted=accepted, ready=ready)


def _taken(case: Case, merged: Merged) -> Judged:
    config = merged.config
    idle = config.not_enforced
    notes = list(merged.warnings)
    if idle:
        notes.insert(0, f"accepted, but this server does not act on it: {listed(idle, 32)}")
    accepted = Said("True", "NotEnforced" if idle else "Accepted", "; ".join(notes))
    return Judged(
        case=case,
        config=config,
        accepted=accepted,
        ready=_running(config, case.switch),
        shown=_shown(config, case.switch, merged.overridden),
    )


def _as_before(scene: Scene, case: Case, declared: bytes, problems: tuple[SpecProblem, ...]) -> Judged:
    """What runs goes on, at the endpoint as it is now; what is declared is kept for when the spec can be used.

    A function that runs as in code follows the code.
    """
    in_code = merge(declared, None, endpoint=scene.endpoint)
    registered = case.registered
    overridden: tuple[str, ...] = ()
    if isinstance(in_code, Merged) and (registered is None or _is_as_in_code(registered)):
        config, consequence = in_code.config, "what is in code goes on"
    elif registered is not None:
        config = at_endpoint(registered, scene.endpoint) if scene.endpoint else registered
        config = msgspec.structs.replace(config, declared=msgspec.Raw(declared))
        consequence = "the last good settings go on"
        overridden = _overridden_before(case)
    else:
        assert not isinstance(in_code, Merged)
        said = _not_accepted(in_code)
        return Judged(case=case, config=None, accepted=said, ready=said)
    if not case.unknown_spec:
        config = with_pause(config, case.object.spec if case.object else None)
    elif registered is not None:
        config = msgspec.structs.replace(
            config, paused=registered.paused, new_runs=registered.new_runs, running=registered.running
        )
    accepted = _not_accepted(problems, consequence) if problems else Said("True", "Accepted")
    return Judged(
        case=case,
        config=config,
        accepted=accepted,
        ready=accepted if problems else _running(config, case.switch),
        shown=_shown(config, case.switch, overridden),
    )


def _is_as_in_code(registered: FunctionConfig) -> bool:
    """Whether no Function has a say in how a function runs, but for a pause."""
    in_code = merge(bytes(registered.declared), None)
    return isinstance(in_code, Merged) and not set(differences(in_code.config, registered)) - set(_PAUSE)


def _overridden_before(case: Case) -> tuple[str, ...]:
    """What a status says of where settings come from that go on although they can no longer be made anew."""
    before = case.object.status.get("overridden") if case.object else None
    return tuple(str(name) for name in before) if isinstance(before, list) else ()


def _running(registered: FunctionConfig, switch: Switch | None) -> Said:
    config = with_switch(registered, switch)
    if not config.paused:
        return Said("True", "Registered")
    starts = "recorded as Skipped" if config.new_runs == "Skip" else "kept in the queue until it is resumed"
    goes_on = "go on" if config.running == "Continue" else "are held"
    message = f"{told_of(switch)}new runs are {starts}; runs that have begun {goes_on}"
    return Said("True", PAUSED, message)


def _not_accepted(problems: tuple[SpecProblem, ...], consequence: str = "") -> Said:
    message = "; ".join(problem.message for problem in problems)
    return Said(
        "False", problems[0].reason, f"{message}. Until then {consequence}" if consequence else message
    )


def _shown(config: FunctionConfig, switch: Switch | None, overridden: tuple[str, ...]) -> Json:
    found: Json = {"effective": shown(effective(with_switch(config, switch)))}
    if overridden:
        found["overridden"] = list(overridden)
    if config.not_enforced:
        found["notEnforced"] = list(config.not_enforced)
    return found
