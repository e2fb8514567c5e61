"""What is done in rounds for as long as the operator is active: a round that fails is followed by the next one."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_operator.errors import ApiError

_log = structlog.get_logger(__name__)


async def in_rounds(go_round: Callable[[], Awaitable[object]], interval_s: float, failed: str) -> None:
    """Wait and go, again and again, until cancelled. `failed`: what to log of a round that ended with an error."""
    while True:
        await asyncio.sleep(interval_s)
        try:
            await go_round()
        except (ApiError, StoreError, StoreUnavailableError) as error:
            _log.warning(failed, error=str(error))
        except Exception:
            _log.exception(failed)
