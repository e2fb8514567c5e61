"""Going through a list, a page of the store after the other, in search of the rows that are wanted."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from innkeeper_gateway.core import Core
from innkeeper_gateway.lists.filtering import Budget
from innkeeper_gateway.lists.paging import Seen

T = TypeVar("T")

MOST_ROUNDS: Final = 8
"""Scripts that one request runs at most."""


class Rows(NamedTuple, Generic[T]):
    """A page as the store has it."""

    rows: Sequence[T]
    positions: Sequence[str]
    """Where to go on after each row; empty: nothing is left."""
    position: str
    """Where to go on after all that was looked at; empty: nothing is left."""


async def search(
    core: Core,
    read: Callable[[str], Awaitable[Rows[T]]],
    position: str,
    wants: Callable[[T], tuple[bool, int]],
    budget: Budget | None,
) -> AsyncIterator[Seen[T]]:
    """What is looked at, from `position` on, and where to go on after each.

    `wants` says of a row whether it is wanted, and the steps that it took to know. Without a `budget` that costs
    nothing; with one it is done in the threads for filters, and the search ends where nothing more may be spent.
    """
    for _ in range(MOST_ROUNDS):
        async with core.in_time():
            page = await read(position)
        if budget is None:
            picked = [wants(row)[0] for row in page.rows]
        else:
            picked = await core.filters.picked(wants, page.rows, budget)
        for row, after, is_picked in zip(page.rows, page.positions, picked, strict=False):
            yield Seen(row if is_picked else None, after)
        if len(picked) < len(page.rows):
            return
        yield Seen(None, page.position)
        if not page.position or (budget is not None and budget.is_spent):
            return
        position = page.position
