"""Folds the shard's stream of notes into the history of each run. The engine never reads it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from innkeeper_engine.decide.notes import is_cancelled, why_skipped
from innkeeper_engine.model.effects import Fold
from innkeeper_engine.model.guards import HistoryGuard
from innkeeper_engine.store.connection import Address, Connection
from innkeeper_engine.store.store import Store

NOTES_AT_ONCE = 1_000

GATHER_S = 0.03
"""History may be late by so much, so that notes are folded in batches."""


class Recorder:
    """Reads notes behind its own cursor, which moves with what it writes: each note is folded once."""

    def __init__(
        self,
        store: Store,
        address: Address,
        on_ended: Callable[[Mapping[str, str]], Awaitable[None]] | None = None,
    ) -> None:
        """`on_ended` is told the runs that were cancelled or skipped, after their histories say so.

        With the reason for each that was skipped, else with an empty one.
        """
        self._store = store
        self._on_ended = on_ended
        self._connection = Connection(address, name="innkeeper-recorder")

    async def open(self) -> None:
        """Connect."""
        await self._connection.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    async def record_once(self, wait_ms: int) -> int:
        """Fold the notes that are there, waiting up to `wait_ms` for the first; returns how many."""
        cursor = (await self._store.command("GET", self._store.key("histcur")) or b"0-0").decode()
        stream = self._store.key("hist")
        reply = await self._connection.call(
            "XREAD", "COUNT", NOTES_AT_ONCE, "BLOCK", wait_ms, "STREAMS", stream, cursor
        )
        if not reply:
            return 0
        entries = reply[0][1]
        by_run: dict[str, list[bytes]] = {}
        at, batch = cursor, 0
        for entry_id, fields in entries:
            by_run.setdefault(fields[1].decode(), []).append(fields[3])
            batch += 1
            if len(by_run) >= 200:
                at = await self._fold(at, entry_id.decode(), by_run)
                by_run = {}
        if by_run:
            await self._fold(at, entries[-1][0].decode(), by_run)
        if batch < NOTES_AT_ONCE:
            # Notes come one by one: folding each by itself would cost as much as the steps that they tell of.
            await asyncio.sleep(GATHER_S)
        return batch

    async def _fold(self, at: str, then: str, by_run: dict[str, list[bytes]]) -> str:
        effects = [Fold(run, tuple(notes)) for run, notes in by_run.items()]
        applied = await self._store.apply(HistoryGuard(at, then), effects)
        if self._on_ended is not None and applied.status == "ok":
            ended = {}
            for run, notes in by_run.items():
                skipped = next((why for why in map(why_skipped, notes) if why is not None), None)
                if skipped is not None or any(is_cancelled(note) for note in notes):
                    ended[run] = skipped or ""
            if ended:
                await self._on_ended(ended)
        return then
