"""Dead letters of webhooks, on their way into the store."""

from collections.abc import Callable

import structlog

from innkeeper_engine.model.clock import Clock, Ids
from innkeeper_engine.model.webhooks import DeadLetter
from innkeeper_engine.store.letters import LetterStore

_log = structlog.get_logger(__name__)


class StoredLetters:
    """Keeps letters under new ids, as long as their environment does."""

    def __init__(self, store: LetterStore, clock: Clock, ids: Ids, retention_s: Callable[[str], int]) -> None:
        """`retention_s`: how long the letters of an environment are kept."""
        self._store = store
        self._clock = clock
        self._ids = ids
        self._retention_s = retention_s

    async def keep(self, letter: DeadLetter) -> None:
        """See `Letters`."""
        await self.keep_as(self._ids.ulid(self._clock.now_ms()), letter)

    async def keep_as(self, letter_id: str, letter: DeadLetter) -> None:
        """Keep a letter in place of the one that has this id.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: it is not kept.
        """
        dropped = await self._store.keep_letter(letter, letter_id, self._retention_s(letter.env))
        if dropped:
            _log.warning(
                "there were too many dead letters: the oldest are gone",
                webhook=letter.webhook,
                env=letter.env,
                count=dropped,
            )
