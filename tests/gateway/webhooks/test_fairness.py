"""Who goes next, and who stays outside."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.sandbox.fairness import FairQueue, FullError, Lane, Shares
from innkeeper_apps.sandbox.pool import SandboxLimits

SHARES = Shares(
    **{"running": 4, "running_of_env": 3, "running_of_webhook": 2},
    **{"waiting": 20, "waiting_of_env": 10, "waiting_of_webhook": 5},
    **{"bytes": 2_000, "bytes_of_env": 1_000, "bytes_of_webhook": 500},
)
A1, A2, B1 = Lane("a", "1"), Lane("a", "2"), Lane("b", "1")


class Ticket:
    """Something that waits; told from others by identity."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane


def waiting(queue: FairQueue[Ticket], *lanes: Lane, size: int = 1) -> list[Ticket]:
    tickets = [Ticket(lane) for lane in lanes]
    for ticket in tickets:
        queue.put(ticket.lane, ticket, size)
    return tickets


def taken(queue: FairQueue[Ticket]) -> list[Ticket]:
    found = []
    while (ticket := queue.take()) is not None:
        found.append(ticket)
    return found


def served(queue: FairQueue[Ticket]) -> list[Lane]:
    """All in the order in which they would go one at a time."""
    order = []
    while (ticket := queue.take()) is not None:
        order.append(ticket.lane)
        queue.end(ticket.lane)
    return order


def test_requests_of_a_webhook_go_as_they_came() -> None:
    queue: FairQueue[Ticket] = FairQueue(SHARES)
    first, second, third = waiting(queue, A1, A1, A1)
    assert taken(queue) == [first, second]
    queue.end(A1)
    assert taken(queue) == [third]


def test_webhooks_take_turns() -> None:
    queue: FairQueue[Ticket] = FairQueue(SHARES)
    waiting(queue, A1, A1, A1, A2, A2)
    assert served(queue) == [A1, A2, A1, A2, A1]


def test_environments_take_turns_however_many_webhooks_they_have() -> None:
    queue: FairQueue[Ticket] = FairQueue(SHARES)
    waiting(queue, A1, A1, A2, A2, B1, B1)
    assert served(queue) == [A1, B1, A2, B1, A1, A2]


def test_no_webhook_and_no_environment_has_all_places_to_run() -> None:
    queue: FairQueue[Ticket] = FairQueue(SHARES)
    waiting(queue, A1, A1, A1, A2, A2)
    assert [ticket.lane for ticket in taken(queue)] == [A1, A2, A1]
    waiting(queue, B1, B1)
    assert [ticket.lane for ticket in taken(queue)] == [B1]
    assert (queue.running, queue.waiting) == (4, 3)


def test_places_to_wait_are_bounded() -> None:
    queue: FairQueue[Ticket] = FairQueue(SHARES)
    waiting(queue, *[A1] * 5)
    with pytest.raises(FullError):
        waiting(queue, A1)
    waiting(queue, *[A2] * 5)
    with pytest.raises(FullError):
        waiting(queue, Lane("a", "3"))
    for n in range(10):
        waiting(queue, Lane(f"e{n}", "1"))
    with pytest.raises(FullError):
        waiting(queue, B1)


def test_what_waits_is_bounded_in_bytes_but_one_large_one_may_wait() -> None:
    queue: FairQueue[Ticket] = FairQueue(SHARES)
    waiting(queue, A1, size=400)
    with pytest.raises(FullError):
        waiting(queue, A1, size=200)
    other: FairQueue[Ticket] = FairQueue(SHARES)
    waiting(other, A1, size=5_000)
    with pytest.raises(FullError):
        waiting(other, B1, size=1)
    assert [ticket.lane for ticket in taken(other)] == [A1]
    waiting(other, B1, size=1)


def test_who_does_not_wait_any_more_has_no_turn() -> None:
    queue: FairQueue[Ticket] = FairQueue(SHARES)
    first, second = waiting(queue, A1, A1)
    queue.withdraw(A1, first)
    queue.withdraw(A1, first)
    assert taken(queue) == [second]
    queue.withdraw(A1, second)
    assert (queue.running, queue.waiting) == (1, 0)
    queue.end(A1)
    assert queue.running == 0


LANES = [Lane(env, webhook) for env in "abc" for webhook in "xyz"]


@given(
    st.lists(st.tuples(st.sampled_from(["put", "take", "end", "withdraw"]), st.integers(0, 8)), max_size=200)
)
def test_shares_hold_and_nobody_is_forgotten(moves: list[tuple[str, int]]) -> None:
    queue: FairQueue[Ticket] = FairQueue(SHARES)
    there: list[Ticket] = []
    running: list[Ticket] = []
    for move, n in moves:
        if move == "put":
            try:
                there += waiting(queue, LANES[n], size=n * 30)
            except FullError:
                continue
        elif move == "take":
            ticket = queue.take()
            if ticket is not None:
                there.remove(ticket)
                running.append(ticket)
        elif move == "end" and running:
            queue.end(running.pop(n % len(running)).lane)
        elif move == "withdraw" and there:
            ticket = there.pop(n % len(there))
            queue.withdraw(ticket.lane, ticket)
        webhooks = Counter(ticket.lane for ticket in running)
        envs = Counter(ticket.lane.env for ticket in running)
        assert (queue.running, queue.waiting) == (len(running), len(there))
        assert len(running) <= SHARES.running
        assert max(webhooks.values(), default=0) <= SHARES.running_of_webhook
        assert max(envs.values(), default=0) <= SHARES.running_of_env
    for ticket in running:
        queue.end(ticket.lane)
    assert Counter(served(queue)) == Counter(ticket.lane for ticket in there)
    assert (queue.running, queue.waiting) == (0, 0)
    assert not queue._webhooks
    assert not queue._envs
    assert not queue._turns


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 16])
def test_the_sandbox_s_shares_leave_room_for_others(workers: int) -> None:
    shares = SandboxLimits(workers=workers).shares()
    assert 1 <= shares.running_of_webhook <= shares.running_of_env <= shares.running
    assert workers == 1 or shares.running_of_env < workers
    assert workers < 3 or shares.running_of_webhook < shares.running_of_env
