"""Where the history stands: how far notes are written, how far the recorder has folded them."""

from innkeeper_engine.store.store import Store
from innkeeper_gateway.core import Core

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
