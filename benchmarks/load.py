"""The load generator: sends events over the HTTP API and asks the same API what became of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import orjson
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from benchmarks.processes import BenchmarkError, RunsLost

EVENT_KEY = "bench"
REQUEST_TIMEOUT_S = 60.0

T = TypeVar("T")


def now_us() -> float:
    """Microseconds of CLOCK_MONOTONIC, the clock that the apps note their times on."""
    return time.monotonic_ns() / 1000


@dataclass(frozen=True)
class Accepted:
    """One body of events that the server answered 200."""

    sent_us: float
    accepted_us: float
    reply: bytes

    def ids(self) -> list[str]:
        """The internal ids of the events, in their order."""
        return [str(event_id) for event_id in orjson.loads(self.reply)["ids"]]


def event(name: str, **data: Any) -> bytes:
    """One event as JSON."""
    return orjson.dumps({"name": name, "data": data})


def bodies(events: Sequence[bytes], size: int) -> Iterator[bytes]:
    """The events in arrays of at most `size`, a single one as an object."""
    if size == 1:
        yield from events
        return
    for start in range(0, len(events), size):
        yield b"[" + b",".join(events[start : start + size]) + b"]"


@asynccontextmanager
async def http_client(**headers: str) -> AsyncIterator[Client]:
    """A client that keeps its connections and sends these headers; a proxy of the environment is not for the loopback."""
    builder = (
        ClientBuilder().no_proxy().timeout(timedelta(seconds=REQUEST_TIMEOUT_S)).default_headers(headers)
    )
    async with builder.build() as client:
        yield client


class Load:
    """Sends to one server."""

    def __init__(self, client: Client, server_url: str, event_key: str = EVENT_KEY) -> None:
        self._client = client
        self._url = server_url.rstrip("/")
        self._events = f"{self._url}/e/{event_key}"

    async def send(self, body: bytes) -> Accepted:
        """Send one body of events.

        Raises:
            BenchmarkError: the server did not answer 200.
        """
        sent = now_us()
        request = self._client.post(self._events).body_bytes(body).header("Content-Type", "application/json")
        try:
            response = await request.build().send()
            reply = bytes(await response.bytes())
        except PyreqwestError as error:
            raise BenchmarkError(f"sending events to {self._events} failed: {error}") from error
        accepted = now_us()
        if response.status != 200:
            raise BenchmarkError(f"{self._events} answered {response.status}: {reply[:300]!r}")
        return Accepted(sent, accepted, reply)

    async def send_all(self, all_bodies: Iterable[bytes], senders: int) -> list[Accepted]:
        """Send every body, `senders` at a time; the answers in order of the bodies."""
        answers: dict[int, Accepted] = {}

        async def one(item: tuple[int, bytes]) -> None:
            answers[item[0]] = await self.send(item[1])

        await spread(enumerate(all_bodies), senders, one)
        return [answers[index] for index in range(len(answers))]

    async def send_paced(self, all_bodies: Sequence[bytes], per_second: float) -> list[Accepted]:
        """Send at a fixed rate whatever the server does: no answer is waited for before the next is sent."""
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            tasks = []
            for index, body in enumerate(all_bodies):
                delay = start + index / per_second - time.monotonic()
                if delay > 0:
                    await asyncio.sleep(delay)
                tasks.append(group.create_task(self.send(body)))
        return [task.result() for task in tasks]

    async def runs_of(self, event_id: str) -> list[dict[str, Any]] | None:
        """What `GET /v1/events/{id}/runs` says; None where it does not answer 200."""
        response = await self._client.get(f"{self._url}/v1/events/{event_id}/runs").build().send()
        reply = orjson.loads(bytes(await response.bytes()) or b"null")
        if response.status != 200 or not isinstance(reply, dict) or not isinstance(reply.get("data"), list):
            return None
        return list(reply["data"])

    async def await_routed(self, event_id: str, stall_s: float) -> None:
        """Wait until the server answers which runs an event started.

        Raises:
            BenchmarkError: it does not within `stall_s`.
        """
        deadline = time.monotonic() + stall_s
        while await self.runs_of(event_id) is None:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"GET /v1/events/{event_id}/runs gave no list of runs in {stall_s:g} s")
            await asyncio.sleep(0.01)

    async def await_run(self, event_id: str, stall_s: float) -> None:
        """Wait until an event has started a run.

        Raises:
            BenchmarkError: it has not within `stall_s`.
        """
        deadline = time.monotonic() + stall_s
        # The server answers after some seconds even where the event is not routed yet.
        while not await self.runs_of(event_id):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"event {event_id} started no run in {stall_s:g} s")
            await asyncio.sleep(0.01)

    async def verify_completed(self, event_ids: Sequence[str], limit: int, stall_s: float) -> None:
        """Ask the API for the run of each event (of about `limit` spread evenly, where there are more).

        Raises:
            RunsLost: an event has not exactly one run, or its run is not Completed within `stall_s`.
        """
        stride = max(1, len(event_ids) // limit)
        deadline = time.monotonic() + stall_s

        async def one(event_id: str) -> None:
            while True:
                runs = await self.runs_of(event_id) or []
                statuses = [str(run.get("status", "")).lower() for run in runs]
                if statuses == ["completed"]:
                    return
                if time.monotonic() > deadline:
                    raise RunsLost(f"event {event_id}: one Completed run expected, the API shows {statuses}")
                await asyncio.sleep(0.1)

        await spread(event_ids[::stride], 16, one)

    async def await_healthy(self, check: Callable[[], None], timeout_s: float = 30.0) -> None:
        """Wait until `GET /health` answers 200; `check` may raise to give up earlier.

        Raises:
            BenchmarkError: it did not within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            check()
            try:
                response = await self._client.get(f"{self._url}/health").build().send()
                if response.status == 200:
                    return
            except PyreqwestError:
                pass  # not listening yet
            if time.monotonic() > deadline:
                raise BenchmarkError(f"GET {self._url}/health did not answer 200 within {timeout_s:g} s")
            await asyncio.sleep(0.02)

    async def sync(self, app_url: str, timeout_s: float = 30.0) -> None:
        """Have the app register itself with the server.

        Raises:
            BenchmarkError: it could not within `timeout_s`, with what was answered last.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            response = await self._client.put(app_url).body_json({"url": app_url}).build().send()
            if response.status == 200:
                return
            if time.monotonic() > deadline:
                text = await response.text()
                raise BenchmarkError(f"the app could not register: {response.status} {text[:300]}")
            await asyncio.sleep(0.1)

    async def stats(self, app_origin: str, marks: range) -> dict[str, Any]:
        """What the app's ledger holds on these runs: a list per column, in microseconds, 0 for never."""
        url = f"{app_origin}/_stats?from={marks.start}&count={len(marks)}"
        response = await self._client.get(url).build().send()
        answer: dict[str, Any] = orjson.loads(bytes(await response.bytes()))
        return answer


async def spread(items: Iterable[T], workers: int, job: Callable[[T], Awaitable[None]]) -> None:
    """Do `job` for every item, `workers` at a time. The first failure ends all of them and is raised."""
    source = iter(items)

    async def work() -> None:
        for item in source:
            await job(item)

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
