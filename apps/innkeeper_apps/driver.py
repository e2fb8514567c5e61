"""The one seam through which apps are called."""

from typing import Protocol

from innkeeper_engine.model.calls import Answer, Call, Target


class Driver(Protocol):
    """Carries calls to apps."""

    async def call(self, call: Call, target: Target, *, timeout_s: float) -> Answer:
        """Send one call and read its answer.

        Never raises for what the app or the network did: that comes back as an `Answer` of kind `error`.
        Cancelling the task aborts the request.
        """
        ...

    async def close(self) -> None:
        """Close idle connections."""
        ...
