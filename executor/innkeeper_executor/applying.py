"""Making true what was decided on a registry, as long as it is the current one."""

from collections.abc import Callable, Sequence
from typing import Protocol

from innkeeper_engine.decide.context import Context
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.guards import Guard
from innkeeper_engine.model.state import Applied
from innkeeper_executor.surroundings import Surroundings


class Apply(Protocol):
    """Applies effects and takes whatever work the answer leases."""

    async def __call__(
        self, guard: Guard, effects: Sequence[Effect], *, registry: int | None = None
    ) -> Applied:
        """As `Store.apply`."""
        ...


async def apply_decided(
    surroundings: Surroundings,
    apply: Apply,
    env: str,
    guard: Guard,
    decide: Callable[[Context], Sequence[Effect] | None],
) -> Applied | None:
    """Decide and apply, again where the registry has changed in between; None where there is nothing to decide.

    So a pause, a limit or a cancellation that was written before a run starts counts for it.

    Raises:
        StoreError, StoreUnavailableError: it was not applied, or nobody knows.
    """
    while True:
        context = await surroundings.context(env)
        effects = decide(context)
        if effects is None:
            return None
        version = context.registry.version
        applied = await apply(guard, effects, registry=version)
        if not surroundings.outdated(version, applied):
            return applied
