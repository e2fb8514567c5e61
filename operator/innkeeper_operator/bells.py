"""Looking into the store whenever somebody has left something there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from innkeeper_engine.store.bell import MAX_WAIT_S, Bell
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.store import Store
from innkeeper_operator.errors import ApiError

_RETRY_S: Final = (0.5, 30.0)

_log = structlog.get_logger(__name__)


async def answer_bell(store: Store, key: str, look: Callable[[], Awaitable[None]], what: str) -> NoReturn:
    """`look` at the start and whenever the bell `key` rings, until cancelled; what fails is tried again.

    `what` is left there, for the log.
    """
    wait_s, longest_s = _RETRY_S
    while True:
        bell = Bell(store, store.address, key, name=f"innkeeper-operator-{key}")
        try:
            await bell.open()
            # Some may have been left while nobody listened, or while a bell was broken.
            await look()
            wait_s = _RETRY_S[0]
            while True:
                if await bell.wait(2 * MAX_WAIT_S) is not None:
                    await look()
        except (ApiError, StoreError, StoreUnavailableError) as error:
            _log.warning(f"{what} wait in the store", error=str(error), retry_s=wait_s)
        except Exception:
            _log.exception(f"{what} wait in the store", retry_s=wait_s)
        finally:
            await bell.close()
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, longest_s)
