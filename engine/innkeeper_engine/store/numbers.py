"""Reads what the shard counts (`m:`, `mi:`, `mf:`, `me`, `mg`), and what there is now."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from innkeeper_engine.model.environments import BRANCH_MARK
from innkeeper_engine.model.numbers import EnvironmentNumbers, FunctionNumbers, ShardNumbers
from innkeeper_engine.model.times import DAY_MS, date_of
from innkeeper_engine.store.connection import Reply
from innkeeper_engine.store.store import Store

FUNCTIONS_AT_ONCE = 200
"""How many functions one script looks at."""

TOGETHER = {"x": "sq", "y": "br0C", "z": "qr0"}
"""What the scripts count as one number (see `11_counters.lua`)."""

MOST_ENVIRONMENTS: Final = 1_000
"""Environments that are read, those that are no branches first, then by name; of the others it is told how many."""


async def read_shard_numbers(store: Store, now_ms: int) -> ShardNumbers:
    """All that counts: environments of which something was counted lately, that have something to do or to route.

    A round trip for the shard; then, one after another, scripts for about 200 functions each.
    """
    (of_shard, *_), memory, *names = await asyncio.gather(
        _gauges(store, shard=True),
        store.command("INFO", "memory"),
        store.command("SMEMBERS", store.key("me")),
        store.command("ZRANGE", store.key("routes"), 0, -1),
    )
    known = sorted({name.decode() for found in names for name in found}, key=lambda e: (BRANCH_MARK in e, e))
    environments = await _read_environments(store, known[:MOST_ENVIRONMENTS], now_ms)
    ready, parked, timers, leases, expired, waiting, lost, runs_shed, events_shed = of_shard
    used = _memory(memory)
    return ShardNumbers(
        now_ms=now_ms,
        environments=environments,
        environments_left_out=max(0, len(known) - MOST_ENVIRONMENTS),
        lanes_ready=ready,
        # Versions that do not count may have parked what this one lets out.
        lanes_parked=max(0, parked),
        timers=timers,
        leases=leases,
        leases_expired=expired,
        notes_waiting=waiting,
        notes_lost=lost,
        runs_shed=runs_shed,
        events_shed=events_shed,
        memory_bytes=used.get("used_memory", 0),
        memory_max_bytes=used.get("maxmemory", 0),
    )


async def _read_environments(store: Store, names: Sequence[str], now_ms: int) -> list[EnvironmentNumbers]:
    days = _days(now_ms)
    found: list[EnvironmentNumbers] = []
    while len(found) < len(names):
        *_, replies = await _gauges(store, environments=names[len(found) :], days=days)
        for reply in replies:
            name = names[len(found)]
            if len(reply) == 1:
                found.append(await read_environment_numbers(store, name, now_ms))
                continue
            of_env, slugs, counted, gauges = reply
            functions = _functions(slugs, days, counted)
            _set_gauges(functions, [slug.decode() for slug in slugs], gauges)
            found.append(_environment(name, functions, of_env))
    return found


async def read_environment_numbers(store: Store, env: str, now_ms: int) -> EnvironmentNumbers:
    """One environment's: those of today and yesterday (UTC). Two round trips."""
    days = _days(now_ms)
    slugs, *counted = await asyncio.gather(
        store.command("SMEMBERS", store.key(f"mf:{env}")),
        *(store.command("HGETALL", store.key(f"m:{env}:{day}")) for day in days),
    )
    functions = _functions(sorted(slugs), days, counted)
    known = list(functions)
    chunks = [known[first : first + FUNCTIONS_AT_ONCE] for first in range(0, len(known), FUNCTIONS_AT_ONCE)]
    replies = await asyncio.gather(
        _gauges(store, env=env),
        *(
            _gauges(store, [(f"{env}/{slug}", bool(functions[slug].counts)) for slug in chunk])
            for chunk in chunks
        ),
    )
    for chunk, (_, _, gauges, _) in zip(chunks, replies[1:], strict=True):
        _set_gauges(functions, chunk, gauges)
    return _environment(env, functions, replies[0][1])


async def _gauges(
    store: Store, functions: Sequence[tuple[str, bool]] = (), *, shard: bool = False, **more: Any
) -> tuple[list[int], list[Any], list[list[Any]], list[list[Any]]]:
    """What there is now of the shard, of an environment, of functions and of environments: see the script."""
    of_shard, of_env, *others = await store.ask("gauges", {"functions": functions, "shard": shard, **more})
    of_functions, of_environments = others
    return of_shard, of_env, of_functions, of_environments


def _days(now_ms: int) -> tuple[int, int]:
    return now_ms // DAY_MS - 1, now_ms // DAY_MS


def _functions(
    slugs: Iterable[bytes], days: Iterable[int], counted: Iterable[list[bytes]]
) -> dict[str, FunctionNumbers]:
    functions = {slug.decode(): FunctionNumbers() for slug in slugs}
    for day, flat in zip(days, counted, strict=True):
        for code, slug, n in _counts(flat):
            of_day = functions.setdefault(slug, FunctionNumbers()).counts.setdefault(
                date_of(day * DAY_MS), {}
            )
            for each in TOGETHER.get(code, code):
                of_day[each] = of_day.get(each, 0) + n
    return functions


def _environment(
    name: str, functions: dict[str, FunctionNumbers], of_env: Sequence[Any]
) -> EnvironmentNumbers:
    waiting, stuck, letters, oldest = of_env
    return EnvironmentNumbers(
        name=name,
        functions=functions,
        events_waiting=waiting,
        oldest_event_ms=float(oldest) if oldest else None,
        stuck=stuck,
        dead_letters=letters,
    )


def _set_gauges(functions: dict[str, FunctionNumbers], slugs: Iterable[str], gauges: Iterable[Reply]) -> None:
    for slug, (queued, running, items, leased, held, oldest) in zip(slugs, gauges, strict=True):
        function = functions[slug]
        function.queued, function.running, function.held_lanes = queued, running, held
        function.steps_running = leased
        # Each that has not begun has one, whatever versions have counted that do not count all.
        function.steps_scheduled = max(queued, items - leased)
        function.oldest_ms = float(oldest) if oldest else None


def _counts(flat: list[bytes]) -> Iterable[tuple[str, str, int]]:
    for name, n in zip(flat[::2], flat[1::2], strict=True):
        text = name.decode()
        yield text[0], text[1:], int(n)


def _memory(info: bytes) -> dict[str, int]:
    """The numbers of a section of `INFO`."""
    pairs = (line.partition(":") for line in info.decode().splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}
