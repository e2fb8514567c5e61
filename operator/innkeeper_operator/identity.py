"""Which app an InngestApp is, and which of several InngestApps is that app."""

from collections.abc import Iterable

from innkeeper_operator.conditions import Said
from innkeeper_operator.objects import AppObject
from innkeeper_operator.ownership import age
from innkeeper_operator.status import APP_ID_MISMATCH
from innkeeper_operator.views import Answered, AppView, Outcome, Refused


def in_charge(app: AppObject, rivals: Iterable[AppObject]) -> bool:
    """Whether an InngestApp is the one of its app id that counts: the oldest, of those that are not being deleted.

    The others are not to be asked, and nothing of them is registered.
    """
    return holder(app, rivals).meta.uid == app.meta.uid


def holder(app: AppObject, rivals: Iterable[AppObject]) -> AppObject:
    """Which of several InngestApps of one app id counts."""
    everyone = [app, *rivals]
    staying = [each for each in everyone if not each.meta.deleting]
    return min(staying or everyone, key=lambda each: age(each.meta))


def known_id(view: AppView) -> str:
    """The app id, once it is known: it does not change."""
    if view.app.spec.app_id:
        return view.app.spec.app_id
    known = view.app.status.get("appId")
    if isinstance(known, str) and known:
        return known
    return view.registered.id if view.registered else ""


def identity(view: AppView, outcome: Outcome | None) -> tuple[str, Said | None]:
    """The app id, and what to say where the app says another one."""
    known = known_id(view)
    told = ""
    if isinstance(outcome, Answered):
        told = outcome.registration.app_id
    elif isinstance(outcome, Refused):
        told = outcome.app_id
    if not known or not told or known == told:
        return known or told, None
    message = (
        f"the app calls itself {told!r}, and this InngestApp is {known!r}: give the SDK's client that id, or make "
        "another InngestApp for it (an app id does not change)"
    )
    return known, Said("False", APP_ID_MISMATCH, message)
