"""What the statuses of Functions shall say, as actions."""

from collections.abc import Iterable, Sequence

from innkeeper_operator.actions import Action, set_status
from innkeeper_operator.functions import (
    Case,
    Judged,
    Scene,
    duplicate_status,
    function_status,
    judge,
    unreadable_status,
)
from innkeeper_operator.objects import FUNCTION_KIND, FunctionObject, Unreadable
from innkeeper_operator.ownership import claims


def statuses(judged: Iterable[Judged], now_ms: int) -> list[Action]:
    """The statuses of the Functions that count, where they differ from what is there."""
    actions: list[Action] = []
    for each in judged:
        function = each.case.object
        if function is not None:
            status = function_status(each, now_ms)
            if status != function.status:
                actions.append(set_status(FUNCTION_KIND, function.meta, status))
    return actions


def other_statuses(functions: Iterable[FunctionObject | Unreadable], now_ms: int) -> list[Action]:
    """The statuses of Functions that do not count: duplicates, and those that cannot be read."""
    given = [each for each in functions if not each.meta.deleting]
    actions: list[Action] = [
        set_status(FUNCTION_KIND, each.meta, unreadable_status(each))
        for each in given
        if isinstance(each, Unreadable)
    ]
    for claim in claims(each for each in given if isinstance(each, FunctionObject)).values():
        for function in claim.duplicates:
            assert claim.holder is not None
            status = duplicate_status(function, claim.holder, now_ms)
            if status != function.status:
                actions.append(set_status(FUNCTION_KIND, function.meta, status))
    return actions


def waiting_statuses(
    functions: Sequence[FunctionObject | Unreadable], waiting: str, now_ms: int
) -> list[Action]:
    """The statuses of Functions whose app has no registration: `waiting` says why, as a sentence."""
    scene = Scene(app_id="", endpoint="", waiting=waiting, single=True, slugs={})
    claimed = claims(each for each in functions if isinstance(each, FunctionObject))
    judged = [
        judge(scene, Case(id=function_id, slug="", declared=None, registered=None, object=claim.holder))
        for function_id, claim in claimed.items()
    ]
    return [*statuses(judged, now_ms), *other_statuses(functions, now_ms)]
