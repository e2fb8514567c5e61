"""Environments and left registrations, on a real Valkey."""

import asyncio
import contextlib

import pytest

from innkeeper_engine.model.environments import Environment, EventKey, SigningKey, key_digest
from innkeeper_engine.store import registrations
from innkeeper_engine.store.bell import Bell
from innkeeper_engine.store.environments import CHANGED, EnvironmentStore
from innkeeper_engine.store.notices import Notices
from innkeeper_engine.store.registrations import REGISTRATIONS_BELL, InboxFullError, RegistrationInbox
from innkeeper_engine.store.store import Store

KEY = "a-key-that-nobody-may-read"
PROD = Environment(
    name="prod",
    namespaces=("prod", "prod-jobs"),
    branches=("feature/x",),
    event_keys=(EventKey(name="prod/innkeeper-keys", digest=key_digest(KEY), events=("shop/*",)),),
    signing_keys=(SigningKey(name="prod/innkeeper-keys", digests=(key_digest(KEY + "2"),)),),
    apps=("shop",),
)
TEST = Environment(name="test")


async def test_what_was_written_is_read(store: Store) -> None:
    """By name, all at once; what is equal changes nothing."""
    kept = EnvironmentStore(store)
    assert await kept.read() == (0, ())
    assert await kept.write(TEST)
    assert await kept.write(PROD)
    assert not await kept.write(PROD)
    snapshot = await kept.read()
    assert snapshot.environments == (PROD, TEST)
    assert await kept.read_if_not(snapshot.version) is None
    assert await kept.remove("test")
    assert not await kept.remove("test")
    later = await kept.read_if_not(snapshot.version)
    assert later is not None
    assert (later.environments, later.version > snapshot.version) == ((PROD,), True)


async def test_no_key_lies_in_the_store(store: Store) -> None:
    """Only digests."""
    await EnvironmentStore(store).write(PROD)
    assert KEY.encode() not in (await store.command("HGET", store.key("environs"), "prod"))


async def test_every_change_is_told_and_nothing_else(store: Store) -> None:
    """Once each."""
    kept, told, notices = EnvironmentStore(store), asyncio.Queue[None](), Notices(store)
    notices.tell(CHANGED, lambda: told.put_nowait(None))
    notices.listen()
    try:
        async with asyncio.timeout(5):
            await told.get()  # the subscription itself: what came before may have been missed
            assert notices.subscribed
            await kept.write(PROD)
            await told.get()
            await kept.write(PROD)
            await kept.remove("nobody")
            await kept.remove("prod")
            await told.get()
            assert told.empty()
    finally:
        await notices.close()
    assert not notices.subscribed


async def test_a_name_that_would_break_keys_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="'a/b' cannot be the name of an environment"):
        await EnvironmentStore(store).write(Environment(name="a/b"))


async def test_a_record_that_cannot_be_read_hides_no_other(store: Store) -> None:
    """Another version may write what this one does not know."""
    kept = EnvironmentStore(store)
    await kept.write(PROD)
    await store.command("HSET", store.key("environs"), "odd", b'{"name": 1}', "cut", b'{"na')
    await store.command("HSET", store.key("environs"), "later", b'{"name":"later","more":{}}')
    assert [each.name for each in (await kept.read()).environments] == ["later", "prod"]


# ---- registrations


async def test_a_registration_waits_until_it_is_done(store: Store) -> None:
    """The latest of each app in each environment."""
    inbox = RegistrationInbox(store)
    old = await inbox.leave_registration("prod", "shop: the / app", b"old", 1)
    new = await inbox.leave_registration("prod", "shop: the / app", b"new\nlines", 2)
    other = await inbox.leave_registration("prod~x", "shop: the / app", b"new\nlines", 2)
    left = await inbox.registrations_left()
    assert left == [
        ("prod", "shop: the / app", b"new\nlines", new),
        ("prod~x", "shop: the / app", b"new\nlines", other),
    ]
    assert not await inbox.registration_done("prod", "shop: the / app", old)
    assert len(await inbox.registrations_left()) == 2
    assert await inbox.registration_done("prod", "shop: the / app", new)
    assert not await inbox.registration_done("prod", "shop: the / app", new)
    assert await inbox.registration_done("prod~x", "shop: the / app", other)
    assert await inbox.registrations_left() == []
    assert await store.command("EXISTS", store.key("regbox"), store.key("regboxsize")) == 0


async def test_a_later_registration_is_never_taken_for_the_one_that_was_worked(store: Store) -> None:
    """Not even where it says the same."""
    inbox = RegistrationInbox(store)
    first = await inbox.leave_registration("prod", "shop", b"same", 1)
    second = await inbox.leave_registration("prod", "shop", b"same", 2)
    assert first != second
    assert not await inbox.registration_done("prod", "shop", first)
    assert not await inbox.registration_done("prod", "shop", second[:-1])
    assert await inbox.registration_done("prod", "shop", second)


async def test_the_bell_rings_for_what_was_left(store: Store) -> None:
    """Before or while the operator waits; one token for all."""
    inbox = RegistrationInbox(store)
    bell = Bell(store, store.address, REGISTRATIONS_BELL, name="operator")
    await bell.open()
    try:
        for app in ("a", "b", "c"):
            await inbox.leave_registration("prod", app, b"{}", 1)
        async with asyncio.timeout(5):
            assert await bell.wait(5) is not None
            assert await store.command("LLEN", store.key(REGISTRATIONS_BELL)) == 0
            waiting = asyncio.create_task(bell.wait(5))
            await asyncio.sleep(0)
            await inbox.leave_registration("prod", "a", b"{}", 2)
            assert await waiting is not None
    finally:
        await bell.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for eight registrations, or 4,000 bytes."""
    monkeypatch.setattr(registrations, "MOST_LEFT", 8)
    monkeypatch.setattr(registrations, "MOST_LEFT_BYTES", 4_000)


async def left(inbox: RegistrationInbox, env: str, app: str, body: bytes = b"{}") -> bool:
    """Whether there was room."""
    with contextlib.suppress(InboxFullError):
        await inbox.leave_registration(env, app, body, 1)
        return True
    return False


@pytest.mark.usefixtures("small")
async def test_one_environment_does_not_take_the_room_of_others(store: Store) -> None:
    """Nor by inventing branches; an app that is waiting may come again."""
    inbox = RegistrationInbox(store)
    assert [await left(inbox, env, "app") for env in ("a~1", "a~2", "a~3", "a")] == [True, True, False, False]
    assert await left(inbox, "a~1", "app", b"another")
    assert [await left(inbox, env, "app") for env in "bcde"] == [True] * 4
    assert [await left(inbox, env, "app2") for env in "bcde"] == [True, True, False, False]
    for each in await inbox.registrations_left():
        assert await inbox.registration_done(each.env, each.app_id, each.token)
    assert [await left(inbox, env, "app") for env in ("a~1", "a~2")] == [True, True]


@pytest.mark.usefixtures("small")
async def test_the_bytes_are_bounded_too(store: Store) -> None:
    """A single large one still has room, and may come again; the message says what to look at."""
    inbox = RegistrationInbox(store)
    assert await left(inbox, "a", "large", b"x" * 2_000)
    assert await left(inbox, "a", "large", b"y" * 2_500)
    assert not await left(inbox, "a", "other", b"y")
    assert not await left(inbox, "b", "large", b"x" * 1_500)
    assert await left(inbox, "b", "app", b"x" * 500)
    assert await left(inbox, "a", "large", b"x")
    assert await left(inbox, "a", "other", b"y")
    with pytest.raises(InboxFullError, match="is it running"):
        await inbox.leave_registration("a", "other", b"y" * 2_000, 1)
