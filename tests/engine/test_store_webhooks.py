"""Webhooks and dead letters, on a real Valkey."""

import asyncio

import pytest

from innkeeper_engine.model.clock import RandomIds
from innkeeper_engine.model.webhooks import DeadLetter, Proof, Webhook
from innkeeper_engine.store import letters, webhooks
from innkeeper_engine.store.letters import LetterStore
from innkeeper_engine.store.notices import Notices
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import CHANGED, WebhookStore

HOOK = Webhook(
    name="shop/github",
    env="prod",
    digest="d" * 64,
    transform="function transform() {}",
    proof=Proof(kind="github", secrets=(b"\x01sealed\xff",)),
    cidrs=("10.0.0.0/8",),
)
OTHER = Webhook(name="shop/github", env="test", digest="e" * 64, transform="")
DAY_S = 86_400


def letter(*, env: str = "prod", webhook: str = "shop/github", body: bytes = b"{}") -> DeadLetter:
    return DeadLetter(
        webhook=webhook, env=env, received_ms=5, body=body, code="threw", message="said 4242", line=3
    )


def ids(count: int) -> list[str]:
    """Ids in the order of time."""
    made = RandomIds()
    return [made.ulid(1_000_000 + number) for number in range(count)]


# ---- webhooks


async def test_what_was_written_is_read(store: Store) -> None:
    """By environment and name, all at once; what is equal changes nothing."""
    kept = WebhookStore(store)
    assert await kept.read() == (0, ())
    assert await kept.write(OTHER)
    assert await kept.write(HOOK)
    assert not await kept.write(HOOK)
    snapshot = await kept.read()
    assert snapshot.webhooks == (HOOK, OTHER)
    assert await kept.read_if_not(snapshot.version) is None
    assert await kept.remove("test", "shop/github")
    assert not await kept.remove("test", "shop/github")
    later = await kept.read_if_not(snapshot.version)
    assert later is not None
    assert (later.webhooks, later.version > snapshot.version) == ((HOOK,), True)


async def test_every_change_is_told_and_nothing_else(store: Store) -> None:
    kept, told, notices = WebhookStore(store), asyncio.Queue[None](), Notices(store)
    notices.tell(CHANGED, lambda: told.put_nowait(None))
    notices.listen()
    try:
        async with asyncio.timeout(5):
            await told.get()  # the subscription itself
            await kept.write(HOOK)
            await told.get()
            await kept.write(HOOK)
            await kept.remove("prod", "nobody")
            await kept.remove("prod", "shop/github")
            await told.get()
            assert told.empty()
    finally:
        await notices.close()


async def test_a_name_that_cannot_be_one_is_refused(store: Store) -> None:
    kept = WebhookStore(store)
    with pytest.raises(ValueError, match="cannot be the name of an environment"):
        await kept.remove("a/b", "c")
    with pytest.raises(ValueError, match="cannot be a webhook's name"):
        await kept.remove("a", "")


async def test_a_record_that_cannot_be_read_hides_no_other(store: Store) -> None:
    kept = WebhookStore(store)
    await kept.write(HOOK)
    await store.command("HSET", store.key("webhooks"), "prod/odd", b'{"name": 1}')
    assert (await kept.read()).webhooks == (HOOK,)


# ---- when they took requests

PROD, TEST = ("prod", "shop/github"), ("test", "shop/github")


async def server_ms(store: Store) -> int:
    """The server's clock, in ms since the epoch."""
    seconds, micros = await store.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def test_of_two_gateways_times_the_newest_counts(store: Store) -> None:
    """In whichever order they are written; each webhook has its own."""
    kept = WebhookStore(store)
    await kept.write(HOOK)
    await kept.write(OTHER)
    assert await kept.last_taken() == {}
    before_ms = await server_ms(store)
    await kept.note_taken({PROD: 5_000, TEST: 90_000})
    after_ms = await server_ms(store)
    first = await kept.last_taken()
    assert before_ms - 5_000 <= first[PROD] <= after_ms - 5_000
    assert before_ms - 90_000 <= first[TEST] <= after_ms - 90_000
    await kept.note_taken({PROD: 3_600_000})
    assert await kept.last_taken() == first
    await kept.note_taken({PROD: 0})
    second = await kept.last_taken()
    assert second[PROD] >= before_ms
    assert second[TEST] == first[TEST]


async def test_what_is_noted_is_no_change_of_a_webhook(store: Store) -> None:
    kept = WebhookStore(store)
    await kept.write(HOOK)
    version = (await kept.read()).version
    await kept.note_taken({PROD: 0})
    assert await kept.read_if_not(version) is None
    noted = await kept.last_taken()
    await kept.write(Webhook(name=HOOK.name, env=HOOK.env, digest=HOOK.digest, transform="another"))
    assert await kept.last_taken() == noted


async def test_a_time_goes_with_its_webhook_and_does_not_come_back(store: Store) -> None:
    """Not even where a gateway writes it afterwards, which has not heard yet that the webhook has gone."""
    kept = WebhookStore(store)
    await kept.write(HOOK)
    await kept.write(OTHER)
    await kept.note_taken({PROD: 0, TEST: 0})
    await kept.remove(*PROD)
    assert set(await kept.last_taken()) == {TEST}
    await kept.note_taken({PROD: 0, ("prod", "never/was"): 0})
    assert set(await kept.last_taken()) == {TEST}


async def test_more_webhooks_than_one_script_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_AT_ONCE", 2)
    kept, names = WebhookStore(store), [f"shop/{n}" for n in range(5)]
    for name in names:
        await kept.write(Webhook(name=name, env="prod", digest=name, transform=""))
    await kept.note_taken({("prod", name): 0 for name in names})
    assert set(await kept.last_taken()) == {("prod", name) for name in names}
    await kept.note_taken({})


# ---- dead letters


async def test_letters_are_listed_newest_first_in_pages_and_without_payload(store: Store) -> None:
    kept, made = LetterStore(store), ids(5)
    for each in made:
        assert await kept.keep_letter(letter(body=b"secret"), each, DAY_S) == 0
    first = await kept.letters("prod", 3)
    assert [each.id for each in first.letters] == made[:1:-1]
    assert (first.letters[0].code, first.letters[0].line, first.letters[0].body_bytes) == ("threw", 3, 6)
    second = await kept.letters("prod", 3, first.cursor)
    assert ([each.id for each in second.letters], second.cursor) == ([made[1], made[0]], "")
    assert (await kept.letters("prod", 5)).cursor == ""
    assert (await kept.letters("test", 5)).letters == ()


async def test_a_letter_is_found_and_forgotten(store: Store) -> None:
    kept, (one, two) = LetterStore(store), ids(2)
    await kept.keep_letter(letter(body=b"\xff"), one, DAY_S)
    await kept.keep_letter(letter(env="prod~x"), two, DAY_S)
    assert await kept.letter("prod", one) == letter(body=b"\xff")
    assert await kept.letter("prod", two) == letter(env="prod~x")
    assert await kept.letter("test", one) is None
    assert [each.id for each in (await kept.letters("prod~x", 9)).letters] == [two]
    assert not await kept.drop_letter("test", one)
    assert await kept.drop_letter("prod", one)
    assert not await kept.drop_letter("prod", one)
    assert await kept.drop_letter("prod~x", two)
    assert (await kept.letters("prod", 9)).letters == ()
    assert await store.command("HGETALL", store.key("dlm:prod")) == [b"*bytes", b"0"]
    left = await store.command("EXISTS", *(store.key(f"{each}:prod") for each in ("dlq", "dle")))
    assert left == 0


async def test_a_letter_kept_again_takes_the_place_of_itself(store: Store) -> None:
    kept, (one,) = LetterStore(store), ids(1)
    await kept.keep_letter(letter(body=b"a" * 100), one, DAY_S)
    bytes_then = await store.command("HGET", store.key("dlm:prod"), "*bytes")
    await kept.keep_letter(letter(body=b"b" * 100), one, DAY_S)
    assert await store.command("HGET", store.key("dlm:prod"), "*bytes") == bytes_then
    assert await kept.letter("prod", one) == letter(body=b"b" * 100)


async def test_a_webhook_with_too_many_letters_loses_its_oldest_and_nobody_elses(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "MOST_LETTERS", 2)
    kept, made = LetterStore(store), ids(4)
    await kept.keep_letter(letter(webhook="shop/other"), made[0], DAY_S)
    dropped = [await kept.keep_letter(letter(env="prod~x"), each, DAY_S) for each in made[1:]]
    assert dropped == [0, 0, 1]
    assert [each.id for each in (await kept.letters("prod", 9)).letters] == [made[0]]
    page = await kept.letters("prod~x", 9)
    assert ([each.id for each in page.letters], page.dropped) == ([made[3], made[2]], 1)


async def test_an_environment_with_too_much_loses_its_oldest_whatever_the_branch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "MOST_BYTES", 40_000)
    kept, made = LetterStore(store), ids(4)
    await kept.keep_letter(letter(env="test", body=b"x" * 30_000), made[0], DAY_S)
    for each, env in zip(made[:3], ("prod~a", "prod~b", "prod"), strict=True):
        await kept.keep_letter(letter(env=env, body=b"x" * 10_000), each, DAY_S)
    assert await kept.keep_letter(letter(body=b"x" * 20_000), made[3], DAY_S) == 2
    assert await kept.letter("prod", made[0]) is None
    assert await kept.letter("prod", made[1]) is None
    assert await kept.letter("prod", made[2]) is not None
    assert await kept.letter("test", made[0]) is not None
    assert (await kept.letters("prod", 9)).dropped == 2


async def test_letters_expire_and_leave_nothing_behind(store: Store) -> None:
    """The server forgets them; the next one that is kept clears the lists."""
    kept, made = LetterStore(store), ids(3)
    for each in made[:2]:
        await kept.keep_letter(letter(body=b"x" * 500), each, DAY_S)
        key = store.key(f"dl:prod:{each}")
        assert 0 < await store.command("TTL", key) <= DAY_S
        await store.command("PEXPIREAT", key, 1)
    assert (await kept.letters("prod", 9)).letters == ()
    assert await kept.keep_letter(letter(), made[2], DAY_S) == 0
    assert [each.decode() for each in await store.command("ZRANGE", store.key("dlq:prod"), 0, -1)] == [
        made[2]
    ]
    assert [each.id for each in (await kept.letters("prod", 9)).letters] == [made[2]]
    assert (await kept.letters("prod", 9)).dropped == 0
    for name in ("dlq:prod", "dlm:prod", "dle:prod", "dlw:prod:shop/github"):
        assert 0 < await store.command("TTL", store.key(name)) <= DAY_S


async def test_a_shorter_retention_takes_no_letter_off_the_list(store: Store) -> None:
    """Each goes when its own time is over."""
    kept, (one, two) = LetterStore(store), ids(2)
    await kept.keep_letter(letter(), one, DAY_S)
    await kept.keep_letter(letter(), two, 60)
    for key in ("dlq:prod", "dle:prod", "dlw:prod:shop/github", "dlm:prod", f"dl:prod:{one}"):
        assert await store.command("TTL", store.key(key)) > 60, key
    assert 0 < await store.command("TTL", store.key(f"dl:prod:{two}")) <= 60
