"""Pages of what there is, newest first: events, runs, names of events, branches; and what waits.

Every page is one script, which looks at no more than its budget: a page may have fewer than were asked for, or none, and
still have a position to go on from. Positions stay where they are while new ones come in.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import structlog

from innkeeper_engine.model.state import RunStatus, RunSummary, StoredEvent
from innkeeper_engine.store.bodies import UnreadableBodyError, decode_body
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.wire import read_event, read_summary

BUDGET = 2_000
"""Entries that one script looks at, at most."""
MOST_LISTS = 2_000
"""Lists that one script merges: one for each function and status. Beyond, all of the environment's runs are looked at."""
CHUNK = 200
"""Functions that one script counts at most."""

_STATUSES = 6

_log = structlog.get_logger(__name__)


class EventPosition(NamedTuple):
    """Where a list of events goes on."""

    mode: str
    """`s`: every entry before this one; `c`: this one, then those of the same name. Empty: at the newest."""
    entry: str


NEWEST = EventPosition("", "")


class EventRow(NamedTuple):
    """A listed event."""

    entry: str
    """`<received ms>-<number>`: its place in the list."""
    id: str
    name: str
    stored: StoredEvent | None
    """The event itself; None where it was not asked for, or cannot be read."""
    after: EventPosition | None
    """Where the list goes on after it; None where nothing is left."""


class EventPage(NamedTuple):
    """Some events, newest first."""

    rows: list[EventRow]
    after: EventPosition | None
    """Where the list goes on; None where nothing is left."""


class RunRow(NamedTuple):
    """A listed run."""

    score: str
    """Its place in the list: when it was made, in ms, no two at the same."""
    run: RunSummary
    event: bytes = b""
    """Its first event; empty where it was not asked for, or is not kept."""
    output: bytes | None = None
    error: bytes | None = None


class RunPage(NamedTuple):
    """Some runs, newest first."""

    rows: list[RunRow]
    after: str
    """The score to go on from; empty where nothing is left."""


class EventType(NamedTuple):
    """A name that events had."""

    name: str
    last_ms: int
    """When the newest was received."""
    last_id: str
    today: int
    """How many came on the day (UTC) of the newest."""


class Backlog(NamedTuple):
    """What a function has to do."""

    queued: int
    """Runs that have not begun."""
    running: int
    """Runs that have begun and not ended."""
    oldest_ms: int | None
    """When the oldest of those that have not begun was made."""


class Lists:
    """Asks for pages. Every method is one round trip unless it says otherwise."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def events(
        self,
        env: str,
        *,
        limit: int,
        name: str = "",
        at: EventPosition = NEWEST,
        after_ms: int = 0,
        before: str = "",
        bodies: bool = False,
        budget: int = BUDGET,
    ) -> EventPage:
        """Events of an environment that are still kept.

        Args:
            env: the environment, or branch.
            limit: how many at most.
            name: only those; without it all but the engine's own (`inngest/...`).
            at: where the page before has ended.
            after_ms: none that were received before this.
            before: only entries before this one (`<ms>-0`: received before that moment).
            bodies: whether the events come along; then a page has no more than about 4 MiB hold, one at least.
            budget: how many entries are looked at.
        """
        request = {
            "env": env,
            "name": name,
            "at": list(at),
            "after": after_ms,
            "before": before,
            "limit": limit,
            "budget": budget,
            "bodies": bodies,
        }
        rows, mode, entry = await self._store.ask("list_events", request)
        found = [
            EventRow(e.decode(), i.decode(), n.decode(), _event(i.decode(), value), _position(m, a))
            for e, i, n, value, m, a in rows
        ]
        return EventPage(found, _position(mode, entry))

    async def runs(
        self,
        env: str,
        *,
        limit: int,
        slugs: Sequence[str] | None = None,
        statuses: Sequence[RunStatus] = (),
        before: str = "",
        after_ms: int = 0,
        bodies: bool = False,
        budget: int = BUDGET,
    ) -> RunPage:
        """Runs of an environment that are still kept, by when they were made.

        Args:
            env: the environment, or branch.
            limit: how many at most.
            slugs: only runs of these functions; None: of all.
            statuses: only runs that have one of these now; none: all. One that changes its status meanwhile may be
                missed by a list of one status.
            before: only runs before this score.
            after_ms: none that were made before this.
            bodies: whether payloads come along; then a page has no more runs than about 4 MiB hold, one at least.
            budget: how many runs are looked at.
        """
        if slugs is not None and not slugs:
            return RunPage([], "")
        picked: set[str] = set()
        if slugs is not None and len(slugs) * (len(statuses) or _STATUSES) > MOST_LISTS:
            picked, slugs = set(slugs), None
        request = {
            "env": env,
            "fns": list(slugs or ()),
            "statuses": list(statuses),
            "before": before,
            "after": after_ms,
            "limit": limit,
            "budget": budget,
            "bodies": bodies,
        }
        rows, after = await self._store.ask("list_runs", request)
        found = [
            RunRow(score.decode(), read_summary(run.decode(), flat), *_payloads(each))
            for score, run, flat, each in rows
        ]
        if picked:
            found = [row for row in found if row.run.slug in picked]
        return RunPage(found, after.decode())

    async def slugs(self, env: str) -> set[str]:
        """Functions that have had runs in an environment, those that are gone included."""
        return {
            slug.decode() for slug in await self._store.command("SMEMBERS", self._store.key(f"fns:{env}"))
        }

    async def event_types(self, env: str) -> list[EventType]:
        """The names of an environment's events, a thousand at most, in the order of the alphabet."""
        flat = await self._store.command("HGETALL", self._store.key(f"en:{env}"))
        pairs = ((flat[i].decode(), flat[i + 1].decode()) for i in range(0, len(flat), 2))
        return sorted(_event_type(name, value) for name, value in pairs if name)

    async def branches(self, env: str, most: int) -> list[str]:
        """Branches that events came for, declared or not, those with the newest first; as the store knows them."""
        found = await self._store.command("ZREVRANGE", self._store.key(f"eb:{env}"), 0, most - 1)
        return [name.decode() for name in found]

    async def backlog(self, env: str, slugs: Iterable[str]) -> dict[str, Backlog]:
        """What each of these functions has to do. One round trip, in scripts of 200 functions each."""
        wanted = list(dict.fromkeys(slugs))
        chunks = [wanted[first : first + CHUNK] for first in range(0, len(wanted), CHUNK)]
        replies = await asyncio.gather(
            *(
                self._store.ask("backlog", {"functions": [f"{env}/{slug}" for slug in chunk]})
                for chunk in chunks
            )
        )
        found = (
            Backlog(queued, running, int(float(oldest)) if oldest else None)
            for reply in replies
            for queued, running, oldest in reply
        )
        return dict(zip(wanted, found, strict=True))


def _position(mode: bytes, entry: bytes) -> EventPosition | None:
    return EventPosition(mode.decode(), entry.decode()) if mode else None


def _event_type(name: str, value: str) -> EventType:
    newest, _day, count, event_id = value.split(" ")
    return EventType(name, int(newest.partition("-")[0]), event_id, int(count))


def _event(event_id: str, value: bytes) -> StoredEvent | None:
    try:
        return read_event(event_id, value) if value else None
    except UnreadableBodyError as error:
        _log.error("a stored event cannot be read", event=event_id, why=str(error))
        return None


def _payloads(bodies: Sequence[bytes | None]) -> tuple[bytes, bytes | None, bytes | None]:
    if not bodies:
        return b"", None, None
    event, output, error = (_body(each) for each in bodies)
    return event or b"", output, error


def _body(body: bytes | None) -> bytes | None:
    try:
        return None if body is None else decode_body(body)
    except UnreadableBodyError as error:
        _log.error("a stored payload cannot be read", why=str(error))
        return None
