"""The ceiling: the app alone, driven by a server that only answers and decides nothing.

It posts the requests that a server would send, in the recorded shape and in the same order, with the same
number of runs in flight, and answers what the app sends (registration, checkpoints) with an empty 200. What
is left is the cost of the app and of HTTP: no server is faster than this with the same client library.

Started as a process of its own, `python -m benchmarks.ceiling PORT`; reads one plan (JSON) a line from stdin
and answers each with one line, `{"seconds": …, "requests": …}`.
"""

import asyncio
import hashlib
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal, cast

import msgspec
import uvloop
from pyreqwest.client import Client

from benchmarks.load import http_client, spread

Shape = Literal["single", "chain", "checkpointed", "fan"]

EMPTY_200 = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
RUN_ID = "01M81CTARKW5SKMYZB787D66VA"
FN_ID = "a4dd85f5-e0fc-5e04-bba3-9d5a6f15dc0e"


class Plan(msgspec.Struct, kw_only=True):
    """What to drive the app with."""

    app_url: str
    slug: str
    event: str
    shape: Shape
    steps: int = 0
    runs: int
    in_flight: int
    first_mark: int
    warm_up: int = 0
    """So many runs before the clock starts."""


class Result(msgspec.Struct):
    """What a plan took."""

    seconds: float
    requests: int


def step_hash(n: int) -> str:
    """The hashed id of the n-th step, `s{n}` in every benchmark app."""
    return hashlib.sha1(f"s{n}".encode(), usedforsecurity=False).hexdigest()


def call_body(plan: Plan, mark: int, done: int, step_id: str = "step") -> bytes:
    """A call request in its recorded shape, with the first `done` steps memoised."""
    ids = [step_hash(n) for n in range(done)]
    stack = ",".join(f'"{step}"' for step in ids)
    steps = ",".join(f'"{step}":{{"data":{n}}}' for n, step in enumerate(ids))
    size = f'"length":{plan.steps},' if plan.shape in {"chain", "checkpointed"} else ""
    width = f',"width":{plan.steps}' if plan.shape == "fan" else ""
    event = (
        f'{{"data":{{{size}"mark":{mark}{width}}},"id":"{RUN_ID}","name":"{plan.event}",'
        '"ts":1795343330026,"user":{}}'
    )
    ctx = (
        f'{{"attempt":0,"disable_immediate_execution":false,"env":"","fn_id":"{FN_ID}","generation_id":1,'
        f'"job_id":"2or0ase0sazgm","max_attempts":5,"qi_id":"Mm9yMGFzZTBzYXpnbTo6ZGVmYXVsdA==",'
        f'"request_id":"{RUN_ID}","run_id":"{RUN_ID}","stack":{{"current":{done},"stack":[{stack}]}},'
        f'"step_id":"{step_id}","use_api":false}}'
    )
    version = 2 if done else -1
    return (
        f'{{"ctx":{ctx},"defers":{{}},"event":{event},"events":[{event}],"steps":{{{steps}}},'
        f'"use_api":false,"version":{version}}}'
    ).encode()


class Answering(asyncio.Protocol):
    """Answers every HTTP/1.1 request with an empty 200."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._buffer += data
        while self._take():
            assert self._transport is not None
            self._transport.write(EMPTY_200)

    def _take(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return False
        self._buffer = self._buffer[end + 4 + length :]
        return True


class Driver:
    """Drives one app by one plan."""

    def __init__(self, client: Client, plan: Plan) -> None:
        self._client = client
        self._plan = plan
        self.requests = 0
        # Bodies differ only in the mark: made once per step and cut around it, so that they cost nothing.
        self._parts: dict[tuple[int, str], list[bytes]] = {}

    async def post(self, mark: int, done: int, step_id: str = "step") -> None:
        """Send one call and read its answer.

        Raises:
            RuntimeError: the app answered neither 200 nor 206.
        """
        key = (done, step_id)
        if key not in self._parts:
            self._parts[key] = call_body(self._plan, 987654321, done, step_id).split(b"987654321")
        body = str(mark).encode().join(self._parts[key])
        url = f"{self._plan.app_url}?fnId={self._plan.slug}&stepId={step_id}"
        headers = {
            "Content-Type": "application/json",
            "X-Inngest-Req-Version": "2" if done else "-1",
            "X-Inngest-Step-Id": step_id,
            "X-Request-Id": RUN_ID,
            "X-Run-Id": RUN_ID,
        }
        response = await self._client.post(url).headers(headers).body_bytes(body).build().send()
        self.requests += 1
        if response.status not in {200, 206}:
            raise RuntimeError(f"the app answered {response.status}: {(await response.text())[:300]}")
        await response.bytes()

    async def one_run(self, mark: int) -> None:
        """All requests of one run, one after the other."""
        last = self._plan.steps if self._plan.shape == "chain" else 0
        for done in range(last + 1):
            await self.post(mark, done)

    async def one_fan(self, mark: int) -> None:
        """Plan, every step with `in_flight` requests at once, and the end."""

        async def one_step(n: int) -> None:
            await self.post(mark, 0, step_hash(n))

        await self.post(mark, 0)
        await spread(range(self._plan.steps), self._plan.in_flight, one_step)
        await self.post(mark, self._plan.steps)

    async def drive(self) -> Result:
        """Carry out the plan."""
        plan = self._plan
        marks = iter(range(plan.first_mark, plan.first_mark + plan.warm_up + plan.runs))
        await self._spread(marks, plan.warm_up)
        self.requests = 0
        start = time.monotonic()
        await self._spread(marks, plan.runs)
        return Result(time.monotonic() - start, self.requests)

    async def _spread(self, marks: Iterator[int], count: int) -> None:
        job: Callable[[int], Awaitable[None]] = self.one_fan if self._plan.shape == "fan" else self.one_run
        workers = 1 if self._plan.shape == "fan" else self._plan.in_flight
        await spread([next(marks) for _ in range(count)], workers, job)


async def main(port: int) -> None:
    """Serve and drive until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", port)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    async with server, http_client() as client:
        while line := await reader.readline():
            plan = msgspec.json.decode(line, type=Plan)
            result = await Driver(client, plan).drive()
            sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
