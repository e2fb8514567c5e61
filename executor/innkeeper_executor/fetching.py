"""Makes the HTTP requests of `step.fetch` and `step.ai` in the app's place."""

from innkeeper_apps.classes import Routes, routes_of
from innkeeper_apps.egress import EgressPolicy
from innkeeper_apps.fetch import FetchOutcome, OutboundRequest, perform
from innkeeper_apps.transport import Transport
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.fetches import fetched
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.state import Lease
from innkeeper_executor.surroundings import Surroundings


class Fetcher:
    """Opens sealed requests, makes them, and says what came of it."""

    def __init__(self, surroundings: Surroundings, egress: EgressPolicy | Routes, timeout_s: float) -> None:
        self._surroundings = surroundings
        self._transport = Transport(routes_of(egress))
        self._timeout_s = timeout_s

    async def fetch(self, lease: Lease, context: Context, max_attempts: int) -> list[Effect]:
        """Make the request of a fetch item; returns the effects of what came back."""
        try:
            request = self._surroundings.unseal(lease.sealed, OutboundRequest)
        except ValueError as error:
            memo = context.canonical({"error": {"message": str(error), "name": "SealedRequestError"}})
            outcome = FetchOutcome(reason=str(error), error_memo=memo)
        else:
            outcome = await perform(
                request, self._transport, reach=context.registry.reach, timeout_s=self._timeout_s
            )
        attempts = max_attempts if outcome.retryable else 0
        return fetched(lease, outcome.memo, outcome.error_memo or b"", outcome.reason, attempts, context)

    async def close(self) -> None:
        """Close idle connections."""
        await self._transport.close()
