"""`status.sync` of an InngestApp: what outlives the operator of what it asked, as JSON and as plain data.

It is written by the operator alone, but anybody may have edited it, and other versions write other things: what cannot
be read counts as not there, and then the app is asked once more.
"""

from collections.abc import Iterable
from typing import Any, Final

from innkeeper_operator.conditions import read_time_ms, time_text
from innkeeper_operator.objects import Json
from innkeeper_operator.views import Live, SyncMemory

MAX_REVISIONS: Final = 10
MAX_ADDRESSES: Final = 100
"""What the schema allows, so that no status grows without end."""


def read_memory(status: Json) -> SyncMemory:
    """What `status.sync` says; the memory of an app that was never asked where it says nothing."""
    sync = status.get("sync")
    if not isinstance(sync, dict):
        return SyncMemory()
    generation = sync.get("generation")
    return SyncMemory(
        time_ms=max(0, read_time_ms(_text(sync.get("time"))) or 0),
        config_hash=_text(sync.get("configHash")),
        registry=_text(sync.get("registry")),
        revisions=tuple(_synced(sync.get("revisions"))),
        addresses=tuple(each for each in _list(sync.get("addresses")) if isinstance(each, str)),
        generation=generation if isinstance(generation, int) else 0,
        keys=_text(sync.get("keys")),
        requested=_text(sync.get("requested")),
    )


def write_memory(memory: SyncMemory, live: Live) -> Json:
    """`status.sync` as a whole, with the revisions that are live now.

    Live ones come first; what the memory holds besides stays, since they may come back.
    """
    revisions: list[Json] = [
        {"name": revision.name, "ready": revision.ready, "synced": revision.name in memory.revisions}
        for revision in live.revisions
    ]
    shown = {revision.name for revision in live.revisions}
    revisions += [
        {"name": name, "ready": 0, "synced": True} for name in memory.revisions if name not in shown
    ]
    written: Json = {
        "time": time_text(memory.time_ms) if memory.time_ms else None,
        "configHash": memory.config_hash,
        "registry": memory.registry,
        "revisions": revisions[:MAX_REVISIONS],
        "addresses": list(memory.addresses[:MAX_ADDRESSES]),
        "generation": memory.generation,
        "keys": memory.keys,
        "requested": memory.requested,
    }
    return {name: value for name, value in written.items() if value}


def _synced(revisions: Any) -> Iterable[str]:
    for revision in _list(revisions):
        if (
            isinstance(revision, dict)
            and revision.get("synced") is True
            and isinstance(revision.get("name"), str)
        ):
            yield revision["name"]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
