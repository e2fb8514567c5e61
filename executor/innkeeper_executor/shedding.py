"""When memory is short: payloads and history of finished runs, and events, go before their time."""

import structlog

from innkeeper_engine.store.store import Store

log = structlog.get_logger("innkeeper.executor")


class Shedding:
    """Makes room in the store, a chunk after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_helpless = False

    async def shed_some(self) -> None:
        """Take from ended runs, then events, until there is room or nothing is left to take.

        Of the environments with most first, their oldest first.

        Raises:
            StoreError, StoreUnavailableError: the store does not answer; what went has gone.
        """
        runs = notes = events = 0
        while True:
            shed = await self._store.shed()
            runs, notes, events = runs + shed.runs, notes + shed.notes, events + shed.events
            if not shed.full or not shed.more:
                break
        if runs or events:
            log.warning(
                "memory is short: finished runs have lost payloads and history, and events have gone",
                runs=runs,
                notes=notes,
                events=events,
            )
        if shed.full and not self._is_helpless:
            log.error(
                "memory is short, and no finished run and no event is left to take from: give Redis more memory, or "
                "let events and runs be kept for a shorter time"
            )
        self._is_helpless = shed.full
