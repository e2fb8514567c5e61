"""Who holds the Lease: one at a time, also when clocks differ and the API server does not answer."""

import asyncio
from typing import Any

import pytest

from innkeeper_operator.election import (
    Election,
    Held,
    LeaseLostError,
    Seen,
    Timing,
    decide,
    lease_spec,
    read_lease,
    see,
)
from innkeeper_operator.errors import ApiError

Json = dict[str, Any]


class ManualClock:
    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms


class LeaseServer:
    """One Lease, with versions as the API server keeps them."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.down = False
        self.version = 0

    async def request(
        self, method: str, path: str, *, body: Json | None = None, timeout_s: float = 30.0
    ) -> Json:
        await asyncio.sleep(0)
        if self.down:
            raise ApiError(0, "Unreachable", "no answer")
        if method == "GET":
            if self.lease is None:
                raise ApiError(404, "NotFound", "there is none")
            return self.lease
        assert body is not None
        if method == "POST" and self.lease is not None:
            raise ApiError(409, "AlreadyExists", "there is one")
        if method == "PUT":
            assert self.lease is not None
            if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", "another version")
        self.version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return self.lease

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


FAST = Timing(lease_ms=15_000, renew_ms=10_000, retry_ms=1)


def elector(server: LeaseServer, clock: ManualClock, me: str) -> Election:
    return Election(
        server, clock, namespace="innkeeper", name="op", me=me, timing=FAST, monotonic_ms=clock.now_ms
    )


def held(holder: str = "a", version: str = "1", lease_ms: int = 15_000) -> Held:
    return Held(holder, lease_ms, "", "", 0, version)


def test_nobody_holds_what_is_not_there() -> None:
    assert decide(None, "a", 0) == "create"


def test_a_lease_of_another_is_waited_for_until_it_has_not_changed_for_its_length() -> None:
    seen = Seen(held("b"), 1000)
    assert decide(seen, "a", 16_000) == "wait"
    assert decide(seen, "a", 16_001) == "take"


def test_a_lease_that_was_given_up_is_taken_at_once() -> None:
    assert decide(Seen(held(""), 1000), "a", 1000) == "take"


def test_ones_own_lease_is_renewed_also_after_a_restart_under_the_same_name() -> None:
    assert decide(Seen(held("a"), 0), "a", 1_000_000) == "renew"


def test_the_time_counts_from_the_last_change_that_this_process_saw() -> None:
    first = see(None, held("b", "1"), 1000)
    assert see(first, held("b", "1"), 9000) == first
    assert see(first, held("b", "2"), 9000).at_ms == 9000


def test_a_new_holder_counts_as_a_transition_and_a_renewal_does_not() -> None:
    seen = Seen(Held("b", 15_000, "2026-01-01T00:00:00.000000Z", "", 3, "1"), 0)
    assert lease_spec(seen, "a", 0, FAST)["leaseTransitions"] == 4
    renewed = lease_spec(seen, "b", 60_000, FAST)
    assert renewed["leaseTransitions"] == 3
    assert renewed["acquireTime"] == "2026-01-01T00:00:00.000000Z"
    assert renewed["renewTime"] == "1970-01-01T00:01:00.000000Z"


def test_a_lease_without_a_spec_is_nobodys() -> None:
    assert decide(see(None, read_lease({"metadata": {"resourceVersion": "1"}}), 0), "a", 0) == "take"


async def test_the_first_one_leads_and_the_second_one_waits_until_it_is_given_up() -> None:
    server, clock = LeaseServer(), ManualClock()
    first, second = elector(server, clock, "a"), elector(server, clock, "b")
    await first.acquire()
    assert first.leading
    waiting = asyncio.create_task(second.acquire())
    while second.holder != "a":
        await asyncio.sleep(0.001)
    assert not waiting.done()
    await first.release()
    await asyncio.wait_for(waiting, 30)
    assert server.holder == "b"
    assert second.leading
    assert not first.leading


async def test_a_lease_can_be_seized_and_its_holder_ends_its_work() -> None:
    server, clock = LeaseServer(), ManualClock()
    first, uninstall = elector(server, clock, "a"), elector(server, clock, "release")
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    await uninstall.seize(120_000)
    assert server.holder == "release"
    with pytest.raises(LeaseLostError, match="release holds it"):
        await asyncio.wait_for(keeping, 30)
    assert not first.leading


async def test_a_lease_that_is_not_renewed_is_taken_over() -> None:
    server, clock = LeaseServer(), ManualClock()
    await elector(server, clock, "a").acquire()
    second = elector(server, clock, "b")
    waiting = asyncio.create_task(second.acquire())
    while second.holder != "a":
        await asyncio.sleep(0.001)
    clock.ms += 15_001
    await asyncio.wait_for(waiting, 30)
    assert server.holder == "b"


async def test_the_holder_stops_when_another_holds_the_lease() -> None:
    server, clock = LeaseServer(), ManualClock()
    first = elector(server, clock, "a")
    await first.acquire()
    assert server.lease is not None
    server.lease["spec"]["holderIdentity"] = "b"
    with pytest.raises(LeaseLostError, match="b holds it"):
        await asyncio.wait_for(first.keep(), 30)
    assert not first.leading


async def test_the_holder_stops_before_the_lease_may_be_anothers_when_the_server_is_away() -> None:
    server, clock = LeaseServer(), ManualClock()
    first = elector(server, clock, "a")
    await first.acquire()
    server.down = True
    keeping = asyncio.create_task(first.keep())
    for _ in range(5):
        await asyncio.sleep(0.002)
    assert not keeping.done()
    clock.ms += FAST.renew_ms
    with pytest.raises(LeaseLostError, match="not renewed for 10 s"):
        await asyncio.wait_for(keeping, 30)


async def test_a_server_that_is_away_for_a_moment_costs_nothing() -> None:
    server, clock = LeaseServer(), ManualClock()
    first = elector(server, clock, "a")
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    server.down = True
    await asyncio.sleep(0.01)
    server.down = False
    before = server.version
    while server.version < before + 3:
        await asyncio.sleep(0.001)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_of_two_that_write_at_once_one_leads() -> None:
    server, clock = LeaseServer(), ManualClock()
    electors = [elector(server, clock, name) for name in "abcde"]
    tasks = [asyncio.create_task(each.acquire()) for each in electors]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for _ in range(20):
        await asyncio.sleep(0.002)
    pending = [task for task in tasks if not task.done()]
    assert len(pending) == len(tasks) - 1
    assert [each.leading for each in electors].count(True) == 1
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


async def test_a_lease_is_given_up_also_while_a_renewal_is_under_way() -> None:
    server, clock = LeaseServer(), ManualClock()
    first = elector(server, clock, "a")
    await first.acquire()
    assert server.lease is not None
    server.version += 1
    server.lease["metadata"]["resourceVersion"] = str(server.version)
    await first.release()
    assert server.holder == ""


async def test_nothing_is_given_up_that_is_not_held() -> None:
    server, clock = LeaseServer(), ManualClock()
    await elector(server, clock, "a").acquire()
    await elector(server, clock, "b").release()
    assert server.holder == "a"
