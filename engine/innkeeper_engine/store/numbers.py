"""Reads what the shard counts (`m:`, `mi:`, `mf:`, `me`, `mg`), and what there is now."""

import asyncio
from collections.abc import Iterable

from innkeeper_engine.model.numbers import EnvironmentNumbers, FunctionNumbers, ShardNumbers
from innkeeper_engine.model.times import DAY_MS, date_of
from innkeeper_engine.store.connection import Reply
from innkeeper_engine.store.store import Store

FUNCTIONS_AT_ONCE = 200
"""How many functions one script looks at."""

TOGETHER = {"x": "sq", "y": "br0C", "z": "qr0"}
"""What the scripts count as one number (see `11_counters.lua`)."""


async def read_shard_numbers(store: Store, now_ms: int) -> ShardNumbers:
    """All there is: a round trip for the shard, two for all environments together."""
    (of_shard, _, _), memory, *names = await asyncio.gather(
        store.gauges(shard=True),
        store.command("INFO", "memory"),
        store.command("SMEMBERS", store.key("me")),
        store.command("SMEMBERS", store.key("envs")),
        store.command("ZRANGE", store.key("routes"), 0, -1),
    )
    known = sorted({name.decode() for found in names for name in found})
    environments = await asyncio.gather(*(read_environment_numbers(store, env, now_ms) for env in known))
    ready, parked, timers, leases, expired, waiting, lost, shed = of_shard
    used = _memory(memory)
    return ShardNumbers(
        now_ms=now_ms,
        environments=list(environments),
        lanes_ready=ready,
        # Versions that do not count may have parked what this one lets out.
        lanes_parked=max(0, parked),
        timers=timers,
        leases=max(0, leases),
        leases_expired=expired,
        notes_waiting=waiting,
        notes_lost=lost,
        runs_shed=shed,
        memory_bytes=used.get("used_memory", 0),
        memory_max_bytes=used.get("maxmemory", 0),
    )


async def read_environment_numbers(store: Store, env: str, now_ms: int) -> EnvironmentNumbers:
    """One environment's: those of today and yesterday (UTC). Two round trips."""
    days = (now_ms // DAY_MS - 1, now_ms // DAY_MS)
    slugs, *counted = await asyncio.gather(
        store.command("SMEMBERS", store.key(f"mf:{env}")),
        *(store.command("HGETALL", store.key(f"m:{env}:{day}")) for day in days),
    )
    functions = {slug: FunctionNumbers() for slug in sorted(name.decode() for name in slugs)}
    for day, flat in zip(days, counted, strict=True):
        for code, slug, n in _counts(flat):
            of_day = functions.setdefault(slug, FunctionNumbers()).counts.setdefault(
                date_of(day * DAY_MS), {}
            )
            for each in TOGETHER.get(code, code):
                of_day[each] = of_day.get(each, 0) + n
    known = list(functions)
    chunks = [known[first : first + FUNCTIONS_AT_ONCE] for first in range(0, len(known), FUNCTIONS_AT_ONCE)]
    replies = await asyncio.gather(
        store.gauges(env=env),
        *(
            store.gauges([(f"{env}/{slug}", bool(functions[slug].counts)) for slug in chunk])
            for chunk in chunks
        ),
    )
    waiting, stuck, letters, oldest = replies[0][1]
    for chunk, (_, _, gauges) in zip(chunks, replies[1:], strict=True):
        for slug, gauge in zip(chunk, gauges, strict=True):
            _set_gauges(functions[slug], gauge)
    return EnvironmentNumbers(
        name=env,
        functions=functions,
        events_waiting=waiting,
        oldest_event_ms=float(oldest) if oldest else None,
        stuck=stuck,
        dead_letters=letters,
    )


def _set_gauges(function: FunctionNumbers, gauge: Reply) -> None:
    queued, running, items, leased, held, oldest = gauge
    function.queued, function.running, function.held_lanes = queued, running, held
    function.steps_running = leased
    function.steps_scheduled = max(0, items - leased)
    function.oldest_ms = float(oldest) if oldest else None


def _counts(flat: list[bytes]) -> Iterable[tuple[str, str, int]]:
    for name, n in zip(flat[::2], flat[1::2], strict=True):
        text = name.decode()
        yield text[0], text[1:], int(n)


def _memory(info: bytes) -> dict[str, int]:
    """The numbers of a section of `INFO`."""
    pairs = (line.partition(":") for line in info.decode().splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}
