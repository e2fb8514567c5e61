"""`GET /v1/runs`, `GET /v1/runs/{id}/trace`."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from innkeeper_engine.compiled import Registry, function_uuid
from innkeeper_engine.model.state import RunStatus
from innkeeper_engine.store.lists import Lists, RunRow
from innkeeper_gateway.access.permissions import SEE_PAYLOADS, SEE_RUN, SEE_RUNS
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError, json_response
from innkeeper_gateway.lists.filtering import Budget
from innkeeper_gateway.lists.filters import EVENT_AND_OUTPUT, Filter, read_filter
from innkeeper_gateway.lists.paging import (
    DEFAULT,
    CursorOf,
    FilterOf,
    InstantOf,
    LimitOf,
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
from innkeeper_gateway.lists.traces import fold_trace, invoked_events, trace_view
from innkeeper_gateway.reading import known_run, until_folded
from innkeeper_gateway.requests import KNOWN_CALLER, KNOWN_PARAMETERS, CallerOf, CoreOf, needs
from innkeeper_gateway.views import envelope, object_name, output_of, run_view

router = APIRouter(prefix="/v1", dependencies=[*KNOWN_CALLER, KNOWN_PARAMETERS])

_SCORE: Final = re.compile(r"\d{1,16}(?:\.\d{1,20})?", re.ASCII)


@router.get("/runs", dependencies=[needs(SEE_RUNS)])
async def list_runs(
    core: CoreOf,
    caller: CallerOf,
    status: Annotated[
        list[RunStatus] | None,
        Query(description="Only runs with this status now; may be given several times.", max_length=6),
    ] = None,
    function_id: Annotated[
        str,
        Query(
            max_length=512,
            description="Only runs of this function: its slug `<app id>-<function id>`, its UUID or, with `app_id`, "
            "its own id.",
        ),
    ] = "",
    app_id: Annotated[str, Query(max_length=512, description="Only runs of this app's functions.")] = "",
    from_: Annotated[
        str, Query(alias="from", max_length=64, description="The first moment that counts: an RFC 3339 date.")
    ] = "",
    until: InstantOf = "",
    cel: FilterOf = "",
    limit: LimitOf = DEFAULT,
    cursor: CursorOf = "",
) -> Response:
    """The environment's runs by when they were made (`queued_at`), newest first, without their outputs.

    `until` is the first moment that does not count. `cel` is over `event`, the run's first event, and `output`: what the
    function returned or, of a run that failed or was cancelled, its error; null before its end.
    """
    env = caller.place.env
    chosen = read_filter(cel, EVENT_AND_OUTPUT)
    if chosen is not None:
        await core.access.require(caller, SEE_PAYLOADS)
    after_ms, until_ms = instant_ms(from_, "from") or 0, instant_ms(until, "until")
    check_window("from", after_ms, "until", until_ms)
    digest = f"r{digest_of(status, function_id, app_id, from_, until, cel)}"
    before = read_cursor(cursor, digest)
    if before and _SCORE.fullmatch(before) is None:
        raise bad_cursor()
    before = before or ("" if until_ms is None else str(until_ms))
    registry = await core.registry(env)
    async with core.in_time():
        slugs = await slugs_of(core, registry, app_id, function_id, wanted=bool(status))
    async with core.filters.turn(env, filtered=chosen is not None) as budget:
        seen = _runs(core, env, slugs, status or (), before, after_ms, limit, chosen, budget)
        found = await page_of(seen, limit)
    views = [run_view(row.run, registry, None) for row in found.items]
    return json_response(paged(views, found.position, limit, digest, core.clock.now_ms()))


@router.get("/runs/{run_id}/trace")
async def get_trace(run_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """A run as a tree of what took time: the run, its steps, the attempts of each, and the runs that steps invoked.

    Every node has `kind` (`run`, `step`, `attempt`), `status`, `started_at`, `ended_at`, `duration_ms` (null while it
    goes on) and `children`. Attempts are those that failed and were made again, of a step or of a request as a whole; an
    invoked run has its `run_id`, by which its own trace is asked for. Outputs and errors are left out for who may not see
    payloads. What had happened when the request came is in the answer: the recorder is waited for, for a second at most.
    """
    run = await known_run(core, caller, run_id, SEE_RUN)
    await until_folded(core)
    async with core.in_time():
        history = await core.store.history(run.id)
        steps, attempts = fold_trace(history)
        ids = list(steps)
        output, error, *results = await core.store.run_payload(run.id, "o", "x", *ids)
        invoked = invoked_events(steps.values())
        started = await asyncio.gather(*(core.store.event_runs(run.env, each) for each in invoked.values()))
        # One that was run again was not invoked once more.
        runs = [[each for each in some if not each.of] for some in started]
        registry = await core.registries.current(run.env)
    payloads = await core.access.may(caller, SEE_PAYLOADS, object_name(registry, run.slug))
    view = trace_view(
        run,
        steps.values(),
        attempts,
        dict(zip(ids, results, strict=True)),
        dict(zip(invoked, runs, strict=True)),
        output_of(run.status, output, error),
        payloads=payloads,
    )
    return json_response(envelope(view, core.clock.now_ms()))


async def slugs_of(
    core: Core, registry: Registry, app_id: str, function_id: str, *, wanted: bool
) -> list[str] | None:
    """The functions that a query names, those that are gone included; None: all of them, and nobody need know which.

    Raises:
        ApiError: 404, it names none that is known or ever had runs: a name that is written wrong is not one without work.
    """
    if not app_id and not function_id and not wanted:
        return None
    env = registry.env
    if function_id and not app_id and function_id in registry.functions:
        return [function_id]
    known = {*registry.functions, *await Lists(core.store).slugs(env)}
    if app_id:
        known = {slug for slug in known if _is_of(registry, slug, app_id)}
    if function_id:
        names = {function_id, f"{app_id}-{function_id}"} if app_id else {function_id}
        uuid_text = function_id.lower()
        known = {slug for slug in known if slug in names or function_uuid(env, slug) == uuid_text}
    if not known and (function_id or (app_id and not await is_known_app(core, registry, app_id))):
        what = f"function {function_id[:200]!r}" if function_id else f"app {app_id[:200]!r}"
        of_app = f" of the app {app_id[:200]!r}" if function_id and app_id else ""
        raise ApiError(
            404,
            f"no {what}{of_app} is registered, and none had runs that are kept; `GET /v1/functions` has those that are",
        )
    return sorted(known)


async def is_known_app(core: Core, registry: Registry, app_id: str) -> bool:
    """Whether an app is registered, or an operator says that it will be."""
    return app_id in registry.apps or await core.declares(registry.env, app_id)


def _is_of(registry: Registry, slug: str, app_id: str) -> bool:
    entry = registry.functions.get(slug)
    return slug.startswith(f"{app_id}-") if entry is None else entry.app.id == app_id


def _runs(
    core: Core,
    env: str,
    slugs: Sequence[str] | None,
    statuses: Sequence[RunStatus],
    before: str,
    after_ms: int,
    limit: int,
    chosen: Filter | None,
    budget: Budget | None,
) -> AsyncIterator[Seen[RunRow]]:
    """The runs that are wanted, and where to go on after each."""
    lists = Lists(core.store)

    async def read(at: str) -> Rows[RunRow]:
        page = await lists.runs(
            env,
            slugs=slugs,
            statuses=statuses,
            before=at,
            after_ms=after_ms,
            limit=limit + 1,
            bodies=chosen is not None,
        )
        return Rows(page.rows, [row.score for row in page.rows], page.after)

    def wants(row: RunRow) -> tuple[bool, int]:
        if chosen is None:
            return True, 1
        return chosen.run(row.event, output_of(row.run.status, row.output, row.error))

    return search(core, read, before, wants, budget)
