"""Conditions of a status, as Kubernetes has them: what holds, since when, why, and what to do."""

from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from innkeeper_engine.durations import SECOND_MS

Json = dict[str, Any]

Holds = Literal["True", "False", "Unknown"]

REACHABLE: Final = "Reachable"
SYNCED: Final = "Synced"
READY: Final = "Ready"
ACCEPTED: Final = "Accepted"

_LONGEST_MESSAGE: Final = 4_000
_LONGEST_REASON: Final = 256


class Said(msgspec.Struct, frozen=True):
    """What is said of one thing."""

    status: Holds
    reason: str
    """CamelCase, one word."""
    message: str = ""
    generation: int | None = None
    """Of the spec that it was found out under, where that is not the current one."""


def find(status: Json, kind: str) -> Said | None:
    """What a status says of one thing; None where it says nothing."""
    found = _find(status, kind)
    if found is None:
        return None
    holds: Holds = (
        "True" if found.get("status") == "True" else "False" if found.get("status") == "False" else "Unknown"
    )
    return Said(
        holds,
        str(found.get("reason") or ""),
        str(found.get("message") or ""),
        int(found.get("observedGeneration") or 0),
    )


def since_ms(status: Json, kind: str) -> int | None:
    """Since when a condition holds or not; None where the status does not say."""
    found = _find(status, kind)
    return None if found is None else read_time_ms(str(found.get("lastTransitionTime") or ""))


def conditions(said: dict[str, Said], before: Json, *, generation: int, now_ms: int) -> list[Json]:
    """The list for a status. `before` is the status as it was: what holds as before keeps its time."""
    return [
        {
            "type": kind,
            "status": each.status,
            "reason": each.reason[:_LONGEST_REASON] or "Unknown",
            "message": shorten(each.message, _LONGEST_MESSAGE),
            "lastTransitionTime": _since(before, kind, each.status, now_ms),
            "observedGeneration": generation if each.generation is None else each.generation,
        }
        for kind, each in said.items()
    ]


def shorten(text: str, longest: int) -> str:
    """A text of at most so many characters, that can be sent; what is missing is marked."""
    clean = text.encode("utf-8", "replace").decode()
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"


def time_text(at_ms: int) -> str:
    """An instant in ms since the epoch as API servers write it: `2026-11-22T10:33:08Z`."""
    return datetime.fromtimestamp(at_ms // SECOND_MS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time_ms(text: str) -> int | None:
    """An instant of RFC 3339 in ms since the epoch; None where it is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if at.tzinfo is None else int(at.timestamp() * SECOND_MS)


def _find(status: Json, kind: str) -> Json | None:
    found = status.get("conditions")
    if not isinstance(found, list):
        return None
    return next((each for each in found if isinstance(each, dict) and each.get("type") == kind), None)


def _since(before: Json, kind: str, status: Holds, now_ms: int) -> str:
    found = _find(before, kind)
    if found is not None and found.get("status") == status:
        kept = str(found.get("lastTransitionTime") or "")
        if read_time_ms(kept) is not None:
            return kept
    return time_text(now_ms)
