"""What tests of jobs that begin, replay or cancel many runs have in common."""

from collections.abc import Awaitable, Callable, Sequence

from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.guards import Guard
from innkeeper_engine.model.state import Applied, Due
from innkeeper_executor.applying import Apply
from tests.executor.house import ENV, Hand, House


class DeadError(Exception):
    """An executor ends here."""


async def make_runs(house: House, hand: Hand, *numbers: int, name: str = "test/f") -> list[str]:
    """A run for each number."""
    events = [house.event(name, {"n": number}) for number in numbers]
    await house.store.append(ENV, events)
    await hand.route_all()
    found = [await house.started(event_id) for event_id, _, _ in events]
    return [run for runs in found for run in runs]


async def do_all(hand: Hand) -> int:
    """All chores that are due now; how many pages that were."""
    pages = 0
    while await hand.chores():
        pages += 1
    return pages


async def find_due(hand: Hand) -> Due:
    """What is due, found and not done."""
    await hand.due(0)
    assert hand.found_due is not None
    return hand.found_due


def interrupted(house: House, before: int, happens: Callable[[], Awaitable[object]]) -> Apply:
    """Commits as executors do; before the one with this number, the first is 1, something happens."""
    commits = 0

    async def apply(guard: Guard, effects: Sequence[Effect], *, registry: int | None = None) -> Applied:
        nonlocal commits
        commits += 1
        if commits == before:
            await happens()
        return await house.store.apply(guard, effects, registry=registry)

    return apply
