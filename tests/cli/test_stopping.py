"""How a role ends: in good order when asked once, at once when asked twice, with an error when a part fails."""

import asyncio
import os
import signal

import pytest

from innkeeper_cli.stopping import Stop, StoppedEarlyError


async def forever() -> None:
    await asyncio.Event().wait()


async def test_the_first_signal_ends_in_good_order_and_the_second_at_once() -> None:
    said: list[str] = []
    codes: list[int] = []
    stop = Stop(lambda: said.append("ending"), at_once=codes.append)
    stop.listen()
    try:
        waiting = asyncio.create_task(stop.wait_or_fail(forever()))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(waiting, 5)
        assert (said, codes) == (["ending"], [])
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(5):
            while not codes:
                await asyncio.sleep(0)
        assert (said, codes) == (["ending"], [130])
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)


async def test_a_part_that_fails_ends_the_others_and_is_the_error() -> None:
    ended = asyncio.Event()

    async def other() -> None:
        try:
            await forever()
        finally:
            ended.set()

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("the store burnt down")

    with pytest.raises(ValueError, match="burnt down"):
        await asyncio.wait_for(Stop().wait_or_fail(other(), failing()), 5)
    assert ended.is_set()


async def test_a_part_may_come_to_its_end_without_ending_the_role() -> None:
    stop = Stop()

    async def short() -> None:
        return

    waiting = asyncio.create_task(stop.wait_or_fail(short(), forever()))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    stop.ask(signal.SIGTERM)
    await asyncio.wait_for(waiting, 5)


async def test_a_signal_while_starting_undoes_the_start() -> None:
    stop = Stop()
    undone = asyncio.Event()

    async def start() -> None:
        try:
            await forever()
        finally:
            undone.set()

    starting = asyncio.create_task(stop.unless(start()))
    await asyncio.sleep(0)
    stop.ask(signal.SIGTERM)
    with pytest.raises(StoppedEarlyError):
        await asyncio.wait_for(starting, 5)
    assert undone.is_set()


async def test_a_start_that_fails_is_the_error() -> None:
    async def start() -> None:
        raise ValueError("no such store")

    with pytest.raises(ValueError, match="no such store"):
        await Stop().unless(start())
