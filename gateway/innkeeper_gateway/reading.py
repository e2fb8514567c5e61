"""What routes about a run read first: the run itself, and where the history stands.

That is how far notes are written, and how far the recorder has folded them.
"""

from innkeeper_engine.model.state import RunSummary
from innkeeper_engine.store.store import Store
from innkeeper_gateway.access.callers import Caller
from innkeeper_gateway.access.permissions import Permission
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.requests import checked_ulid
from innkeeper_gateway.views import object_name

Position = tuple[int, int]
"""Of an entry in the history stream: its time in ms, its number within that."""


def position(entry_id: str) -> Position:
    """The position that a stream id `<ms>-<n>` says."""
    ms, _, n = entry_id.partition("-")
    return int(ms), int(n or 0)


async def history_end(store: Store) -> str | None:
    """The id of the newest note; None where there are none."""
    newest = await store.command("XREVRANGE", store.key("hist"), "+", "-", "COUNT", 1)
    return newest[0][0].decode() if newest else None


async def folded_so_far(store: Store) -> Position:
    """The position of the last note that the recorder has folded."""
    at = await store.command("GET", store.key("histcur"))
    return position((at or b"0-0").decode())


async def until_folded(core: Core) -> None:
    """Until the recorder has folded what is noted now, `folded_wait_s` at most."""
    async with core.in_time():
        end = await history_end(core.store)
    if end is not None:

        async def folded() -> bool:
            return await folded_so_far(core.store) >= position(end)

        await core.notices.wait("hw", folded, core.settings.folded_wait_s)


async def known_run(core: Core, caller: Caller, run_id: str, permission: Permission) -> RunSummary:
    """A run that the caller may do this to. Who may not look at any run learns of none."""
    run_id = checked_ulid(run_id, "run")
    async with core.in_time():
        run = await core.store.run(run_id)
    known = run is not None and caller.place.covers(run.env)
    name = object_name(await core.registry(run.env), run.slug) if run is not None and known else ""
    await core.access.require(caller, permission, name)
    if run is None or not known:
        raise ApiError(404, f"Run not found: {run_id}")
    return run
