"""What is left in the shard: when every run has ended, only what is kept on purpose."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import orjson

from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.store import Store

KEPT_FAMILIES = (
    "run:",
    "pl:",
    "h:",
    "ev:",
    "er:",
    "esq:",
    "ec:",
    "runs:",
    "ended:",
    "reg:",
    "f:",
    "lis:",
    "once:",
    "rl:",
    "rn:",
    "tat:",
    "inbox:",
    "lead:",
    "idem:",
    "rc:",
    "rs:",
    "fns:",
    "ei:",
    "en:",
    "eb:",
    "m:",
    "mf:",
)
"""Summaries, payloads, history, events and their numbers, registrations, messages to executors, leaderships, counts,
lists."""
KEPT = frozenset(
    {
        "clock",
        "regver",
        "regid",
        "envs",
        "hist",
        "histcur",
        "wake",
        "rwake",
        "me",
        "mg",
        "xs",
        "forget",
        "kept",
        "lost",
        "eis",
        "eiat",
    }
)
WATCH = b"K"
"""The timer of the look-out for stuck runs, which is always set."""


def left_over(names: Iterable[str]) -> list[str]:
    """Keys that must be gone when all is quiet: slots, queues, nodes, timers, leases, items, pauses, states."""
    return sorted(name for name in names if name not in KEPT and not name.startswith(KEPT_FAMILIES))


async def _is_the_watch(store: Store, name: str) -> bool:
    """Whether these are the timers, and nothing but that of the look-out is left of them."""
    if name != "timers2":
        return False
    return all(member.startswith(WATCH) for member in await store.command("ZRANGE", store.key(name), 0, -1))


async def key_names(store: Store) -> list[str]:
    """All keys of the shard without their prefix."""
    names: set[str] = set()
    cursor = "0"
    while True:
        following, found = await store.command(
            "SCAN", cursor, "MATCH", f"{store.settings.prefix}*", "COUNT", 2000
        )
        names.update(key.decode().removeprefix(store.settings.prefix) for key in found)
        cursor = following.decode()
        if cursor == "0":
            return sorted(names)


async def unfolded(store: Store) -> int:
    """Notes that the recorder has not folded into the histories yet."""
    cursor = (await store.command("GET", store.key("histcur")) or b"0-0").decode()
    return len(await store.command("XRANGE", store.key("hist"), f"({cursor}", "+", "COUNT", 1000))


async def wait_until_quiet(
    store: Store, timeout_s: float, say: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Until nothing is left over and every note is folded; what still is after `timeout_s`, empty if nothing."""
    started = tell_at = asyncio.get_running_loop().time()
    while True:
        try:
            left = [
                name for name in left_over(await key_names(store)) if not await _is_the_watch(store, name)
            ]
            if not left and not await unfolded(store):
                return []
        except (StoreUnavailableError, StoreError) as error:
            left = [f"the store does not answer: {error}"]
        now = asyncio.get_running_loop().time()
        if now > started + timeout_s:
            return left or ["notes that are not folded"]
        if now >= tell_at:
            tell_at = now + 2
            families = Counter(name.partition(":")[0] for name in left)
            say(f"after {now - started:.1f} s, keys that are still there: {dict(families) or 'notes only'}")
        await asyncio.sleep(0.2)


async def notes_written_and_folded(store: Store) -> tuple[int, int]:
    """How many notes were ever written, and how many lines the histories of all runs have that were notes."""
    info = await store.command("XINFO", "STREAM", store.key("hist"))
    facts = dict(zip(info[::2], info[1::2], strict=True))
    folded = 0
    for name in await key_names(store):
        if name.startswith("h:"):
            lines = await store.command("LRANGE", store.key(name), 0, -1)
            folded += sum(orjson.loads(line).get("by") != "script" for line in lines)
    return facts[b"entries-added"], folded


async def wait_for_pause(store: Store, pause: str, timeout_s: float = 60.0) -> bool:
    """Until a pause is there; False where it did not come in time.

    In mode `fsync` nobody is answered before the disk has what the answer shows, so what is seen here stays.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while asyncio.get_running_loop().time() < deadline:
        try:
            if await store.command("EXISTS", store.key(f"w:{pause}")):
                return True
        except (StoreUnavailableError, StoreError):
            pass  # the server is away, as it shall be from time to time
        await asyncio.sleep(0.05)
    return False
