"""Asking the store until it answers: an outage costs only time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from innkeeper_engine.store.connection import StoreError, StoreUnavailableError

_PASSING = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "OOM",
    "BUSY",
)

_DELAY_S = (0.02, 1.0)

T = TypeVar("T")

log = structlog.get_logger("innkeeper.worker")


async def until_answered(ask: Callable[[], Awaitable[T]], what: str) -> T:
    """What the store says, asked again while it does not answer; `what` names it in the log.

    Only for what may be asked twice: a read, or a commit whose guard refuses it once it has taken effect.

    Raises:
        StoreError: the server refused, and not for now only.
    """
    delay_s, longest_s = _DELAY_S
    while True:
        try:
            return await ask()
        except StoreUnavailableError as error:
            log.warning("the store did not answer; it is asked again", what=what, reason=str(error))
        except StoreError as error:
            if not _passing(error):
                raise
            log.warning("the store refused for now; it is asked again", what=what, reason=str(error))
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, longest_s)


def _passing(error: StoreError) -> bool:
    """Whether the server refuses for now only (starting, failing over, without replicas, memory or disk)."""
    return str(error).startswith(_PASSING)
