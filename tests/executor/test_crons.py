"""Crons fire once per slot, whatever restarts, and stay armed without anybody's help."""

import asyncio
from datetime import UTC, datetime

import orjson

from innkeeper_engine.model.effects import Arm
from innkeeper_engine.model.guards import NoGuard
from tests.executor.house import ENV, House, function, output, soon
from tests.executor.proxy import Fate, Proxy, Sent

YEARLY = "0 0 1 1 *"
CRON_ID = f"{ENV}/yearly#{YEARLY}"


def new_year(year: int) -> int:
    """A slot of the yearly cron, in ms since the epoch."""
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000)


async def arm(house: House, slot_ms: int, cron: str = CRON_ID) -> None:
    """Make a slot due now."""
    await house.store.apply(NoGuard(), [Arm(cron, slot_ms, house.clock.now_ms())])


async def armed(house: House, cron: str = CRON_ID) -> int:
    """The slot that a cron is armed for."""
    return int(await house.store.command("HGET", house.store.key(f"cron:{cron}"), "slot"))


def this_year() -> int:
    """The year, by the clock that everybody uses here."""
    return datetime.now(UTC).year


async def test_a_missed_cron_makes_up_for_the_latest_slot_alone(house: House) -> None:
    """Nothing ran for years: one run, for the last of the slots, and the next one is armed."""
    await house.register(function("yearly", crons=[YEARLY]))
    await arm(house, new_year(2020))
    await house.start_executor()
    request = await house.driver.arrival()
    data = orjson.loads(request.call.events[0])["data"]
    assert data["cron"] == YEARLY
    assert data["scheduledAt"] == f"{this_year()}-01-01T00:00:00.000Z"
    request.answer(output())
    await house.run_ended(request.call.run_id)
    assert await armed(house) == new_year(this_year() + 1)
    assert await house.store.recent_runs(ENV, 10) == [request.call.run_id]


async def test_a_slot_that_is_decided_again_and_again_starts_one_run(house: House, proxy: Proxy) -> None:
    """Two executors; the slot comes up five times, as if each decision's reply had been lost."""
    await house.register(function("yearly", crons=[YEARLY]))
    decided: asyncio.Queue[None] = asyncio.Queue()

    def watch(sent: Sent) -> Fate:
        if sent.guard == "cron":
            decided.put_nowait(None)
        return Fate.PASS

    proxy.rule = watch
    for _ in range(2):
        await house.start_executor(proxy.address)
    for _ in range(5):
        await arm(house, new_year(2020))
        await soon(decided.get())
    (await house.driver.arrival()).answer(output())
    await house.so_many_ended(1)
    assert len(await house.store.recent_runs(ENV, 10)) == 1


async def test_two_executors_fire_every_slot_once(house: House) -> None:
    """A cron of every second, on the real clock."""
    await house.register(function("tick", crons=["* * * * * *"]))
    for _ in range(2):
        await house.start_executor()
    slots = []
    for _ in range(2):
        request = await house.driver.arrival()
        slots.append(orjson.loads(request.call.events[0])["data"]["scheduledAt"])
        request.answer(output())
    first, second = (datetime.fromisoformat(slot) for slot in slots)
    assert (second - first).total_seconds() == 1


async def test_a_cron_stays_armed_over_a_restart_without_any_call_of_the_app(house: House) -> None:
    """What is armed is in the store; the next executor finds it."""
    await house.register(function("yearly", crons=[YEARLY]))
    executor = await house.start_executor()
    await house.drain(executor)
    assert await armed(house) == new_year(this_year() + 1)
    await arm(house, new_year(this_year()))
    await house.start_executor()
    (await house.driver.arrival()).answer(output())
    await house.so_many_ended(1)


async def test_a_cron_whose_executor_died_deciding_comes_up_again(house: House) -> None:
    """It was taken out as due, and nobody armed the next slot: five seconds later it is due again."""
    await house.register(function("yearly", crons=[YEARLY]))
    await arm(house, new_year(2020))
    taken = await house.store.due()
    assert taken.crons == [(CRON_ID, new_year(2020))]
    score = await house.store.command("ZSCORE", house.store.key("timers"), f"C{CRON_ID}")
    assert 4_000 < float(score) - house.clock.now_ms() <= 5_000
    assert await armed(house) == new_year(2020)


async def test_a_cron_that_nobody_knows_does_not_stop_others(house: House) -> None:
    """Armed by a registration that this executor cannot read."""
    await house.register(function("yearly", crons=[YEARLY]))
    await arm(house, new_year(2020), f"{ENV}/unknown#{YEARLY}")
    await arm(house, new_year(2020))
    await house.start_executor()
    (await house.driver.arrival()).answer(output())
    await house.so_many_ended(1)


async def test_a_sync_neither_skips_nor_repeats_a_slot(house: House) -> None:
    """Registering again keeps what is armed; a cron that is gone fires no more."""
    await house.register(function("yearly", crons=[YEARLY]))
    await arm(house, new_year(2020))
    await house.register(function("yearly", crons=[YEARLY]), function("g"))
    assert await armed(house) == new_year(2020)
    await house.register(function("g"))
    assert (await house.store.due()).crons == []
