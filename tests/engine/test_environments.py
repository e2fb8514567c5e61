"""Which key opens which environment: known without asking, and never wrong for long."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from innkeeper_engine import copies
from innkeeper_engine.environments import Environments
from innkeeper_engine.model.environments import Environment, EventKey, SigningKey, key_digest
from innkeeper_engine.store.connection import StoreUnavailableError
from innkeeper_engine.store.environments import EnvironmentStore, Snapshot
from innkeeper_engine.store.notices import Notices
from innkeeper_engine.store.store import Store
from tests.conftest import OpenStore, ValkeyProcess


def environment(name: str, *keys: str, **fields: Any) -> Environment:
    """An environment that these keys open, for events and as a bearer."""
    return Environment(
        name=name,
        event_keys=tuple(EventKey(name=f"{name}/{key}", digest=key_digest(key)) for key in keys),
        signing_keys=tuple(
            SigningKey(name=f"{name}/{key}", digests=(key_digest(f"s-{key}"),)) for key in keys
        ),
        **fields,
    )


class CountingStore(EnvironmentStore):
    """Counts the reads, and holds or breaks them when told to."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.reads = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failure: Exception | None = None

    async def read_if_not(self, version: int) -> Snapshot | None:
        self.reads += 1
        read = await super().read_if_not(version)
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return read


class Door:
    """A copy on a store, as a gateway has it."""

    def __init__(self, store: Store, *fixed: Environment, timeout_s: float = 5.0) -> None:
        self.kept = CountingStore(store)
        self.notices = Notices(store)
        self.known = Environments(self.kept, self.notices, fixed=fixed, timeout_s=timeout_s)

    async def opens(self, key: str) -> str | None:
        """The environment of an event key."""
        found = await self.known.by_event_key(key)
        return None if found is None else found[0].name

    async def subscribed(self) -> None:
        """Until notices arrive and what was missed has been read."""
        await until(lambda: self.notices.subscribed)
        await self.known.refresh()

    async def close(self) -> None:
        await self.notices.close()
        await self.known.close()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Until it holds; what a test waits for must come."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
async def door(store: Store) -> AsyncIterator[Door]:
    made = Door(store)
    yield made
    await made.close()


async def test_a_known_key_asks_nobody(door: Door) -> None:
    """Neither for events nor as a bearer."""
    await door.kept.write(environment("prod", "k"))
    assert await door.opens("k") == "prod"
    await door.subscribed()
    reads = door.kept.reads
    for _ in range(100):
        assert await door.opens("k") == "prod"
        found = await door.known.by_signing_key(key_digest("s-k"))
        assert found is not None
        assert found.name == "prod"
    assert door.kept.reads == reads
    record = door.known.by_name("prod")
    assert record is not None
    assert record.event_keys[0].name == "prod/k"
    assert door.known.by_name("nobody") is None


async def test_an_event_key_is_no_bearer(door: Door) -> None:
    """Nor the other way round."""
    await door.kept.write(environment("prod", "k"))
    assert await door.opens("s-k") is None
    assert await door.known.by_signing_key(key_digest("k")) is None


async def test_a_new_key_is_never_refused(door: Door) -> None:
    """It counts from the moment at which it was written: the notice need not have come."""
    await door.kept.write(environment("prod", "old"))
    assert await door.opens("old") == "prod"
    await door.notices.close()
    for n in range(3):
        await door.kept.write(environment("prod", "old", f"new-{n}"))
        assert await door.opens(f"new-{n}") == "prod"


async def test_a_key_that_is_written_while_a_read_is_under_way_is_found(door: Door) -> None:
    """That read began too early to have seen it; another one begins."""
    door.kept.may_answer.clear()
    early = asyncio.create_task(door.opens("new"))
    await until(lambda: door.kept.reads == 1)
    await door.kept.write(environment("prod", "new"))
    late = asyncio.create_task(door.opens("new"))
    await asyncio.sleep(0)
    door.kept.may_answer.set()
    assert await early is None
    assert await late == "prod"


async def test_unknown_keys_share_their_reads(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come: guessing costs the store ten reads a second."""
    monkeypatch.setattr(copies, "READ_EVERY_S", 0.05)
    began = time.monotonic()
    for n in range(4):
        wrong = await asyncio.gather(*(door.opens(f"{n}-{m}") for m in range(200)))
        assert wrong == [None] * 200
    # A read for each turn; the subscription asks for another one.
    assert 4 <= door.kept.reads <= 6
    assert time.monotonic() - began >= 3 * 0.05


async def test_a_crowd_of_unknown_keys_does_not_pile_up(door: Door) -> None:
    """Beyond a thousand they are refused on what is known; keys that are known are not touched."""
    await door.kept.write(environment("prod", "k"))
    assert await door.opens("k") == "prod"
    door.kept.may_answer.clear()
    crowd = [asyncio.create_task(door.opens(f"{n}")) for n in range(copies.MOST_WAITING)]
    await asyncio.sleep(0)
    assert await door.opens("one-more") is None
    assert await door.opens("k") == "prod"
    assert not any(task.done() for task in crowd)
    door.kept.may_answer.set()
    assert set(await asyncio.gather(*crowd)) == {None}


async def test_a_revoked_key_is_refused_when_the_notice_has_come(door: Door) -> None:
    """Without anybody asking, and within a second."""
    await door.kept.write(environment("prod", "k"))
    await door.kept.write(environment("test", "t"))
    assert await door.opens("k") == "prod"
    await door.subscribed()
    await door.kept.write(environment("prod", "other"))
    await door.kept.remove("test")
    began = time.monotonic()
    await until(lambda: door.known.by_name("test") is None)
    assert time.monotonic() - began < 1
    assert [await door.opens(key) for key in ("k", "t", "other")] == [None, None, "prod"]


async def test_what_changed_while_nobody_listened_is_noticed_afterwards(
    private_valkey: Callable[..., ValkeyProcess], open_store: OpenStore
) -> None:
    """The subscription broke; keys revoked meanwhile are refused once it is back."""
    store = await open_store(address=private_valkey().address)
    door = Door(store)
    try:
        await door.kept.write(environment("prod", "k"))
        assert await door.opens("k") == "prod"
        await door.subscribed()
        assert await store.command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        await door.kept.write(environment("prod", "other"))
        await until(lambda: "prod/k" not in str(door.known.by_name("prod")))
        assert await door.opens("k") is None
    finally:
        await door.close()


async def test_without_notices_known_keys_are_looked_at_again(door: Door) -> None:
    """A subscription that cannot be had must not keep a revoked key alive."""
    await door.kept.write(environment("prod", "k"))
    assert await door.opens("k") == "prod"
    await door.notices.close()
    await door.kept.remove("prod")
    async with asyncio.timeout(5):
        while await door.opens("k"):
            await asyncio.sleep(0.01)


async def test_a_store_that_is_away_is_no_reason_to_refuse_a_key(door: Door) -> None:
    """An unknown key is an error then, not a wrong key; what is known goes on; afterwards all is as it was."""
    await door.kept.write(environment("prod", "k"))
    assert await door.opens("k") == "prod"
    await door.subscribed()
    door.kept.failure = StoreUnavailableError("away")
    with pytest.raises(StoreUnavailableError):
        await door.opens("new")
    assert await door.opens("k") == "prod"
    # A change that cannot be read is read as soon as it can be.
    await door.kept.write(environment("prod", "new"))
    reads = door.kept.reads
    await until(lambda: door.kept.reads > reads)
    assert await door.opens("k") == "prod"
    door.kept.failure = None
    await until(lambda: "prod/new" in str(door.known.by_name("prod")))
    assert [await door.opens(key) for key in ("k", "new")] == [None, "prod"]


async def test_a_read_that_takes_too_long_is_given_up(store: Store) -> None:
    """By who waits; the read itself goes on, for whoever comes next."""
    door = Door(store, timeout_s=0.05)
    try:
        await door.kept.write(environment("prod", "k"))
        door.kept.may_answer.clear()
        with pytest.raises(TimeoutError):
            await door.opens("k")
        door.kept.may_answer.set()
        await until(lambda: door.known.by_name("prod") is not None)
        assert await door.opens("k") == "prod"
    finally:
        await door.close()


async def test_a_key_of_two_environments_opens_the_first(store: Store) -> None:
    """What the settings say goes first, then the names' order: the same in every gateway."""
    door = Door(store, environment("own", "mine"))
    try:
        await door.kept.write(environment("b", "shared", "mine"))
        await door.kept.write(environment("a", "shared"))
        assert [await door.opens(key) for key in ("shared", "mine")] == ["a", "own"]
    finally:
        await door.close()


async def test_fixed_environments_need_no_store() -> None:
    """As where there is no operator."""
    known = Environments(fixed=[environment("default", "k")])
    found = await known.by_event_key("k")
    assert found is not None
    assert found[0].name == "default"
    assert await known.by_event_key("other") is None
    await known.refresh()
    await known.close()


async def test_the_end_leaves_nothing_behind(store: Store) -> None:
    """Not even a read that hangs."""
    door = Door(store)
    door.kept.may_answer.clear()
    waiting = asyncio.create_task(door.opens("k"))
    await until(lambda: door.kept.reads == 1)
    await door.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
