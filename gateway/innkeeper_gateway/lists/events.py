"""`GET /v1/events` and `GET /v1/event-types`."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from innkeeper_engine.model.environments import parent_name, shown_name
from innkeeper_engine.model.times import rfc3339
from innkeeper_engine.store.lists import NEWEST, EventPosition, EventRow, Lists
from innkeeper_gateway.access.permissions import SEE_EVENTS, SEE_PAYLOADS
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import json_response
from innkeeper_gateway.lists.filtering import Budget
from innkeeper_gateway.lists.filters import EVENT, Filter, read_filter
from innkeeper_gateway.lists.paging import (
    DEFAULT,
    CursorOf,
    FilterOf,
    FlagOf,
    InstantOf,
    LimitOf,
    Page,
    Seen,
    bad_cursor,
    check_window,
    digest_of,
    instant_ms,
    page_of,
    paged,
    read_cursor,
)
from innkeeper_gateway.lists.searching import Rows, search
from innkeeper_gateway.requests import KNOWN_CALLER, KNOWN_PARAMETERS, CallerOf, CoreOf, needs
from innkeeper_gateway.views import envelope, event_view, withhold_data

router = APIRouter(prefix="/v1", dependencies=[*KNOWN_CALLER, KNOWN_PARAMETERS])

MOST_BRANCHES: Final = 50
"""Undeclared branches whose events are listed together: those that the newest came for."""

_POSITION: Final = re.compile(r"([sc])(\d{1,16}-\d{1,20})", re.ASCII)
_IN_BRANCH: Final = re.compile(r"(\d{1,16}-\d{1,20}) ([A-Za-z0-9._~%-]{1,4000})", re.ASCII)


class Wanted:
    """What a list of events is to have."""

    def __init__(self, name: str, after: str, before: str, cel: str) -> None:
        self.name = name
        self.after_ms = instant_ms(after, "received_after") or 0
        self.before_ms = instant_ms(before, "received_before")
        check_window("received_after", self.after_ms, "received_before", self.before_ms)
        self.filter: Filter | None = read_filter(cel, EVENT)
        self.digest = digest_of(name, after, before, cel)

    @property
    def before(self) -> str:
        """The entry before which all are."""
        return "" if self.before_ms is None else f"{self.before_ms}-0"


@router.get("/events", dependencies=[needs(SEE_EVENTS)])
async def list_events(
    core: CoreOf,
    caller: CallerOf,
    name: Annotated[
        str,
        Query(
            max_length=512,
            description="Only events of this name; without it all but the engine's own (`inngest/...`).",
        ),
    ] = "",
    received_after: InstantOf = "",
    received_before: InstantOf = "",
    cel: FilterOf = "",
    unknown_branch: Annotated[
        FlagOf,
        Query(description="Events of branches that no app declares: they are kept, and start nothing."),
    ] = False,
    limit: LimitOf = DEFAULT,
    cursor: CursorOf = "",
) -> Response:
    """The environment's events, newest first; `data` is null for who may not see payloads.

    `received_after` is the first moment that counts, `received_before` the first that does not; `cel` is over
    `event`. With `unknown_branch` the list has, together, what came for branches of the environment that no app
    declares, each event with its `branch`.
    """
    wanted = Wanted(name, received_after, received_before, cel)
    if wanted.filter is not None:
        await core.access.require(caller, SEE_PAYLOADS)
    payloads = await core.access.may(caller, SEE_PAYLOADS)
    env = caller.place.env
    digest = f"{'u' if unknown_branch else 'e'}{wanted.digest}"
    last = read_cursor(cursor, digest)
    async with core.filters.turn(env, filtered=wanted.filter is not None) as budget:
        if unknown_branch:
            return await _unknown(core, env, wanted, payloads, limit, last, digest, budget)
        found = await page_of(_events(core, env, wanted, last, limit, budget), limit)
    views = [_view(row, env, payloads) for row in found.items]
    return json_response(paged(views, found.position, limit, digest, core.clock.now_ms()))


@router.get("/event-types", dependencies=[needs(SEE_EVENTS)])
async def list_event_types(core: CoreOf, caller: CallerOf) -> Response:
    """The names that the environment's events have had, while events are kept: a thousand at most.

    `count_today` is since midnight UTC; `sample` is the newest event, null once it is not kept any more, and its `data`
    is null for who may not see payloads.
    """
    env = caller.place.env
    payloads = await core.access.may(caller, SEE_PAYLOADS)
    today = core.clock.now_ms() // 86_400_000
    async with core.in_time():
        types = [
            each for each in await Lists(core.store).event_types(env) if not each.name.startswith("inngest/")
        ]
        samples = await asyncio.gather(*(_sample(core, env, each.last_id, payloads) for each in types))
    views = [
        {
            "name": each.name,
            "last_received_at": rfc3339(each.last_ms),
            "count_today": each.today if each.last_ms // 86_400_000 == today else 0,
            "sample": sample,
        }
        for each, sample in zip(types, samples, strict=True)
    ]
    return json_response(envelope(views, core.clock.now_ms()))


async def _sample(core: Core, env: str, event_id: str, payloads: bool) -> dict[str, Any] | None:
    event = await core.store.event(env, event_id)
    if event is None:
        return None
    view = event_view(event, env)
    if not payloads or len(event.body) > _MOST_SAMPLE_BYTES:
        withhold_data(view)
    return view


_MOST_SAMPLE_BYTES: Final = 4_096
"""A sample shows what an event is like; a larger one is to be asked for by its id."""


# ---- pages


def _events(
    core: Core,
    env: str,
    wanted: Wanted,
    position: str,
    limit: int,
    budget: Budget | None,
    before: str = "",
) -> AsyncIterator[Seen[EventRow]]:
    """The events that are wanted, and where to go on after each."""
    lists = Lists(core.store)

    async def read(at: str) -> Rows[EventRow]:
        page = await lists.events(
            env,
            name=wanted.name,
            at=_position(at),
            after_ms=wanted.after_ms,
            before=before or wanted.before,
            limit=limit + 1,
            bodies=True,
        )
        return Rows(page.rows, [_written(row.after) for row in page.rows], _written(page.after))

    def wants(row: EventRow) -> tuple[bool, int]:
        if row.stored is None:
            return False, 1
        return (True, 1) if wanted.filter is None else wanted.filter.event(row.stored.body)

    return search(core, read, position, wants, budget)


def _view(row: EventRow, env: str, payloads: bool) -> dict[str, Any]:
    assert row.stored is not None, "only such are picked"
    view = event_view(row.stored, env)
    if not payloads:
        withhold_data(view)
    return view


def _written(position: EventPosition | None) -> str:
    return "" if position is None else f"{position.mode}{position.entry}"


def _position(text: str) -> EventPosition:
    if not text:
        return NEWEST
    match = _POSITION.fullmatch(text)
    if match is None:
        raise bad_cursor()
    return EventPosition(match[1], match[2])


# ---- undeclared branches


async def _unknown(
    core: Core,
    env: str,
    wanted: Wanted,
    payloads: bool,
    limit: int,
    last: str,
    digest: str,
    budget: Budget | None,
) -> Response:
    """The events of all of them by time: each list begins before the entry with which the page before ended."""
    parent = parent_name(env)
    last_entry, last_branch = _in_branch(last) if last else ("", "")
    declared = core.environments.by_name(parent)
    known = frozenset(declared.branches if declared is not None else ())
    async with core.in_time():
        branches = await Lists(core.store).branches(parent, 1_000)
    stray = [each for each in branches if shown_name(each) not in known][:MOST_BRANCHES]
    pages = await asyncio.gather(
        *(_of_branch(core, each, wanted, limit, last_entry, last_branch, budget) for each in stray)
    )
    found = [
        (_order(row.entry), each, row) for each, page in zip(stray, pages, strict=True) for row in page.items
    ]
    found.sort(key=lambda one: (one[0], one[1]), reverse=True)
    rows, position = _cut(found, stray, pages, limit)
    views = [_view(row, each, payloads) | {"branch": shown_name(each)} for _, each, row in rows]
    return json_response(paged(views, position, limit, digest, core.clock.now_ms()))


_Found = tuple[tuple[int, int], str, EventRow]


def _cut(
    found: list[_Found], stray: list[str], pages: list[Page[EventRow]], limit: int
) -> tuple[list[_Found], str]:
    """As many as a page has, and where to go on: none is older than what another branch may still have."""
    short = [
        (_order(page.position[1:]), branch, page.position)
        for branch, page in zip(stray, pages, strict=True)
        if page.position and len(page.items) < limit
    ]
    if short:
        (ms, n), branch, position = max(short)
        # That entry itself was the last that was looked at, or is the next one.
        is_next = position[0] == "c"
        end = ((ms, n), branch)
        rows = [one for one in found if one[:2] > end or (one[:2] == end and not is_next)]
        if len(rows) <= limit:
            return rows, f"{ms}-{n + 1 if is_next else n} {branch}"
        found = rows
    rows = found[:limit]
    more = len(found) > limit or any(page.position for page in pages)
    return rows, f"{rows[-1][2].entry} {rows[-1][1]}" if rows and more else ""


async def _of_branch(
    core: Core,
    branch: str,
    wanted: Wanted,
    limit: int,
    last_entry: str,
    last_branch: str,
    budget: Budget | None,
) -> Page[EventRow]:
    before = last_entry
    if last_entry and branch < last_branch:
        ms, n = _order(last_entry)
        before = f"{ms}-{n + 1}"
    return await page_of(_events(core, branch, wanted, "", limit, budget, before), limit)


def _in_branch(text: str) -> tuple[str, str]:
    match = _IN_BRANCH.fullmatch(text)
    if match is None:
        raise bad_cursor()
    return match[1], match[2]


def _order(entry: str) -> tuple[int, int]:
    ms, _, n = entry.partition("-")
    return int(ms), int(n)
