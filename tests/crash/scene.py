"""A fleet with an app in front of it, for tests of one loss each."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.crash.app import Body, CrashApp
from tests.crash.checks import Run, check_checkpoints, check_leases, check_results
from tests.crash.fleet import Fleet
from tests.crash.ledger import Request
from tests.crash.sender import Sender
from tests.crash.shard import wait_until_quiet
from tests.crash.storm import read_runs

T = TypeVar("T")


class Scene:
    """The processes, the app, a sender and a look into the shard."""

    def __init__(
        self,
        folder: Path,
        functions: Mapping[str, Body],
        *,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        start: tuple[str, ...] = (),
        **fleet: Any,
    ) -> None:
        """Each function is started by the event `crash/<its id>`; `options`: more of its declaration, by id.

        `start`: the processes to start with, all where none is named.
        """
        self.fleet = Fleet(folder, **fleet)
        self.store = self.fleet.inspector()
        self.sender = Sender(self.fleet.urls, self.fleet.event_key, random.Random(1))
        self.app = CrashApp(functions, servers=self.fleet.urls, signing_key=self.fleet.signing_key)
        self._declared = {
            name: {"triggers": [{"event": f"crash/{name}"}], **(options or {}).get(name, {})}
            for name in functions
        }
        self._start = start

    async def open(self) -> None:
        """Start all and register the app."""
        await asyncio.to_thread(self.fleet.start, *self._start)
        await self.store.open()
        await self.app.start()
        await self.app.register(self._declared)

    async def close(self) -> None:
        """End all."""
        await self.app.close()
        await self.sender.close()
        await self.store.close()
        await asyncio.to_thread(self.fleet.stop)

    async def must_be_clean(self) -> None:
        """What holds after every loss, once all has ended.

        Raises:
            AssertionError: something is left over, was logged as an error, or happened twice.
        """
        left = await wait_until_quiet(self.store, 20)
        assert not left, f"left in the shard: {left}"
        complaints = self.fleet.complaints()
        assert not complaints, complaints
        ledger = self.app.ledger
        oddities = ledger.oddities + self.sender.oddities
        assert not oddities, oddities
        breaches = check_leases(ledger) + check_results(ledger) + check_checkpoints(ledger)
        assert not breaches, breaches

    async def send(self, function: str, **data: Any) -> str:
        """Start one run; the id of its event."""
        return (await self.sender.send([{"name": f"crash/{function}", "data": data}]))[0]

    async def until(self, check: Callable[[], T | None], what: str, timeout_s: float = 20.0) -> T:
        """Call `check` until it answers something true, and return that.

        Raises:
            AssertionError: `timeout_s` passed.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not (found := check()):
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not within {timeout_s:g} s: {what}; requests: {self.calls()}")
            await asyncio.sleep(0.01)
        return found

    async def request(self, number: int, timeout_s: float = 20.0) -> Request:
        """The request with this number, from 0, once it has come."""
        requests = self.app.ledger.requests
        return await self.until(
            lambda: requests[number] if len(requests) > number else None, f"request {number}", timeout_s
        )

    def calls(self) -> list[tuple[str, int, int, str]]:
        """Item, generation, attempt and answer of each request, for messages."""
        return [(r.item, r.generation, r.attempt, r.answer) for r in self.app.ledger.requests]

    async def ended(self, count: int, timeout_s: float = 20.0) -> list[Run]:
        """All runs, oldest first, once there are `count` and all have ended.

        Raises:
            AssertionError: `timeout_s` passed.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            runs = await read_runs(self.store)
            if len(runs) >= count and all(
                run.status not in ("Scheduled", "Running") for run in runs.values()
            ):
                assert len(runs) == count, runs
                return [runs[run_id] for run_id in sorted(runs)]
            assert asyncio.get_running_loop().time() < deadline, (
                f"not within {timeout_s:g} s: {count} runs ended; {runs}; requests: {self.calls()}"
            )
            await asyncio.sleep(0.02)

    async def ended_all_of(self, event_ids: Sequence[str], timeout_s: float = 20.0) -> list[Run]:
        """The one run of each of these events, once all runs have ended.

        Raises:
            AssertionError: an event has none or several, or `timeout_s` passed.
        """
        left = await wait_until_quiet(self.store, timeout_s)
        assert not left, f"left in the shard: {left}"
        runs = await read_runs(self.store)
        by_event = {event_id: run for run in runs.values() for event_id in run.event_ids}
        assert len(by_event) == len(runs), "an event has several runs"
        missing = [event_id for event_id in event_ids if event_id not in by_event]
        assert not missing, f"events without a run: {missing}"
        return [by_event[event_id] for event_id in event_ids]
