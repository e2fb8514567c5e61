"""When memory is short: payloads and history of finished runs go before their time, so that runs can go on."""

import structlog

from innkeeper_engine.store.store import Store

log = structlog.get_logger("innkeeper.executor")


class Shedding:
    """Makes room in the store, a chunk after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_helpless = False

    async def shed_some(self) -> None:
        """Take from ended runs, of the environments with most first, until there is room or nothing is left to take.

        Raises:
            StoreError, StoreUnavailableError: the store does not answer; what went has gone.
        """
        runs = notes = 0
        while True:
            shed = await self._store.shed()
            runs, notes = runs + shed.runs, notes + shed.notes
            if not shed.full or not shed.runs:
                break
        if runs:
            log.warning(
                "memory is short: finished runs have lost payloads and history", runs=runs, notes=notes
            )
        if shed.full and not self._is_helpless:
            log.error(
                "memory is short, and no finished run has anything left to take: give Redis more memory, or let "
                "events and runs be kept for a shorter time"
            )
        self._is_helpless = shed.full
