"""An app that speaks the SDK protocol itself, so that it can write down every request and every body that it ran.

Each body of a step returns a nonce that no other execution returns: whoever shows a step's result says which
execution it came from. What functions there are is in `shapes.py`.
"""

import asyncio
import base64
import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn

import httpx
import orjson

from tests.crash.ledger import Checkpoint, Execution, Ledger, Request
from tests.crash.server import HttpServer, Incoming, Outgoing

APP_ID = "crash"
SDK = "js:v4.24.0"
HEADERS = {
    "Content-Type": "application/json",
    "x-inngest-sdk": f"inngest-{SDK}",
    "x-inngest-req-version": "2",
    "x-inngest-sdk-handled": "true",
}
CHECKPOINT_WAITS_S = (0.1, 0.2, 0.45, 0.8)
"""Between the tries of a checkpoint, as the TypeScript SDK does it; after the last one the step is returned."""


class Answered(Exception):  # noqa: N818 - not an error: how a function's body is left, as in an SDK
    """The call is answered with these operations, or with this error."""

    def __init__(self, ops: Sequence[dict[str, Any]] = (), error: dict[str, Any] | None = None) -> None:
        self.ops = list(ops)
        self.error = error


Body = Callable[["Call"], Awaitable[Any]]
Hook = Callable[["Call", str], Awaitable[None]]
"""`await hook(call, step name)`: while a step's body runs."""


def hashed(name: str) -> str:
    """A step's id on the wire."""
    return hashlib.sha1(name.encode()).hexdigest()


def operation(kind: str, name: str, /, **fields: Any) -> dict[str, Any]:
    """An operation of a step."""
    own = {"id": hashed(name), "op": kind, "displayName": name, "opts": {}, "userland": {"id": name}}
    return own | {"name": name} | fields


class Call:
    """One request under way: what an SDK's `step` object does, by hand."""

    def __init__(self, app: "CrashApp", request: Request, ctx: dict[str, Any]) -> None:
        self.app = app
        self.request = request
        self.ctx = ctx

    @property
    def data(self) -> dict[str, Any]:
        """The data of the run's event."""
        data: dict[str, Any] = self.request.event["data"]
        return data

    async def step(self, name: str, *, fails_first: bool = False) -> str:
        """One step by itself; its result. With `fails_first` its first attempt fails after the side effect."""
        if hashed(name) in self.request.steps:
            return self._nonce(name)
        self._must_be_due([name])
        if self.ctx["disable_immediate_execution"] and self.request.target == "step":
            raise Answered([operation("StepPlanned", name)])
        nonce = await self._run(name)
        if fails_first and self.request.attempt == 0:
            error = {"name": "Error", "message": "fails at first"}
            raise Answered([operation("StepError", name, error=error)])
        raise Answered([operation("StepRun", name, data=nonce)])

    async def group(self, *names: str) -> list[str]:
        """Parallel steps; their results."""
        missing = [name for name in names if hashed(name) not in self.request.steps]
        if not missing:
            return [self._nonce(name) for name in names]
        self._must_be_due(missing)
        for name in missing:
            if self.request.target == hashed(name):
                raise Answered([operation("StepRun", name, data=await self._run(name))])
        raise Answered([operation("StepPlanned", name) for name in missing])

    async def checkpointed(self, name: str) -> str:
        """A step whose result is reported while the call goes on, as the TypeScript SDK does it."""
        if hashed(name) in self.request.steps:
            return self._nonce(name)
        self._must_be_due([name])
        nonce = await self._run(name)
        op = operation("StepRun", name, data=nonce)
        if self.request.attempt > 0 or not await self._report(op):
            raise Answered([op])
        self.app.ledger.checkpoints.append(
            Checkpoint(self.app.ledger.next(), self.request.run, hashed(name), nonce, self.request.request_id)
        )
        return nonce

    def sleep(self, name: str, duration: str) -> None:
        """A sleep."""
        if hashed(name) not in self.request.steps:
            self._must_be_due([name])
            raise Answered([operation("Sleep", name, name=duration)])

    def wait(self, name: str, event: str, condition: str, key: str) -> dict[str, Any]:
        """A wait for an event; the event. The app's `waiting` tells whoever is to send it."""
        if hashed(name) in self.request.steps:
            found: dict[str, Any] = self.request.steps[hashed(name)]
            return found
        self._must_be_due([name])
        self.app.waiting(self.request.run, hashed(name), key)
        raise Answered([operation("WaitForEvent", name, name=event, opts={"timeout": "1h", "if": condition})])

    def invoke(self, name: str, function: str, data: dict[str, Any]) -> Any:
        """An invocation of another function; its result."""
        if hashed(name) in self.request.steps:
            return self._result(name)
        self._must_be_due([name])
        opts = {"function_id": f"{APP_ID}-{function}", "payload": {"data": data}, "timeout": "1h"}
        raise Answered([operation("InvokeFunction", name, opts=opts)])

    def give_up(self) -> NoReturn:
        """Fail, and say that trying again is of no use."""
        raise Answered(error={"name": "NonRetriableError", "message": "is meant to fail"})

    def _nonce(self, name: str) -> str:
        return str(self._result(name))

    def _result(self, name: str) -> Any:
        memo = self.request.steps[hashed(name)]
        if not isinstance(memo, dict) or "data" not in memo:
            self.app.ledger.oddities.append(f"run {self.request.run}: the memo of {name} is {memo!r}")
            self.give_up()
        return memo["data"]

    def _must_be_due(self, names: Sequence[str]) -> None:
        """A call for one step names the next one that has no result."""
        target = self.request.target
        if target != "step" and target not in map(hashed, names):
            self.app.ledger.oddities.append(
                f"run {self.request.run}: called for {target}, due is {names}, known {self.request.stack}"
            )
            self.give_up()

    async def _run(self, name: str) -> str:
        app, request = self.app, self.request
        nonce = f"{name}-{app.draw.randbytes(8).hex()}"
        app.ledger.executions.append(
            Execution(app.ledger.next(), request.run, hashed(name), name, nonce, request.request_id)
        )
        await app.while_running(self, name)
        return nonce

    async def _report(self, op: dict[str, Any]) -> bool:
        ctx, run = self.ctx, self.request.run
        told = {key: ctx[key] for key in ("run_id", "fn_id", "qi_id", "request_id", "generation_id")}
        body = orjson.dumps({**told, "request_started_at": 1, "ts": 1, "steps": [op]})
        server = self.app.draw.choice(self.app.servers)
        for wait_s in (*CHECKPOINT_WAITS_S, 0.0):
            try:
                reply = await self.app.http.post(f"{server}/v1/checkpoint/{run}/async", content=body)
            except httpx.TransportError:
                reply = None
            if reply is not None and reply.status_code == 200:
                return True
            if reply is not None and reply.status_code == 409:
                self.app.ledger.refused_checkpoints += 1
                raise Answered(error={"name": "NonRetriableError", "message": "checkpoint refused"})
            if reply is not None and reply.status_code < 500:
                self.app.ledger.oddities.append(f"run {run}: checkpoint: {reply.status_code} {reply.text}")
            await asyncio.sleep(wait_s)
        return False


async def _at_once(_call: Call, _name: str) -> None:
    """A body that takes no time."""


class CrashApp:
    """Serves functions given as `{function id: body}`."""

    def __init__(
        self,
        functions: Mapping[str, Body],
        *,
        servers: Sequence[str],
        signing_key: str,
        seed: int = 0,
        while_running: Hook = _at_once,
        waiting: Callable[[str, str, str], None] = lambda run, step, key: None,
    ) -> None:
        self.functions = functions
        self.servers = list(servers)
        self.ledger = Ledger()
        self.draw = random.Random(seed)
        self.while_running = while_running
        self.waiting = waiting
        self.http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {signing_key}"}, timeout=10, trust_env=False
        )
        self._server = HttpServer(self._answer)
        self.url = ""

    async def start(self, port: int = 0) -> "CrashApp":
        """Serve; nothing is registered yet."""
        self.url = f"http://127.0.0.1:{await self._server.start(port)}/api/inngest"
        return self

    async def register(self, declared: Mapping[str, Mapping[str, Any]]) -> None:
        """Register the functions with the first server; `declared`: their triggers and options by id."""
        functions = [
            {
                "id": f"{APP_ID}-{name}",
                "name": name,
                "steps": {
                    "step": {
                        "id": "step",
                        "name": "step",
                        "runtime": {"type": "http", "url": f"{self.url}?fnId={APP_ID}-{name}&stepId=step"},
                    }
                },
                "triggers": [],
                **options,
            }
            for name, options in declared.items()
        ]
        body: dict[str, Any] = {
            "url": self.url,
            "deployType": "ping",
            "framework": "crash",
            "appName": APP_ID,
        }
        body |= {"functions": functions, "sdk": SDK, "v": "0.1"}
        reply = await self.http.post(f"{self.servers[0]}/fn/register", json=body)
        assert reply.status_code == 200, f"{reply.status_code} {reply.text}"

    async def close(self) -> None:
        """Stop serving."""
        await self._server.close()
        await self.http.aclose()

    async def _answer(self, incoming: Incoming) -> Outgoing:
        body = orjson.loads(incoming.body)
        ctx = body["ctx"]
        slug = incoming.query["fnId"]
        request = Request(
            at=self.ledger.next(),
            slug=slug,
            run=ctx["run_id"],
            target=incoming.query["stepId"],
            item=base64.b64decode(ctx["qi_id"]).decode().rpartition("::")[0],
            generation=ctx["generation_id"],
            request_id=ctx["request_id"],
            attempt=ctx["attempt"],
            steps=body["steps"],
            stack=tuple(ctx["stack"]["stack"]),
            event=body["event"],
        )
        self.ledger.requests.append(request)
        call = Call(self, request, ctx)
        status, content, extra = await self._perform(call, slug.removeprefix(f"{APP_ID}-"))
        request.answer = f"{status} {','.join(op['op'] for op in content)}" if status == 206 else str(status)
        return Outgoing(status, orjson.dumps(content), HEADERS | extra)

    async def _perform(self, call: Call, name: str) -> tuple[int, Any, dict[str, str]]:
        try:
            output = await self.functions[name](call)
        except Answered as answered:
            if answered.error is not None:
                return 400, answered.error, {"x-inngest-no-retry": "true"}
            return 206, answered.ops, {}
        except Exception as error:
            self.ledger.oddities.append(f"the test's own app failed in {name}: {error!r}")
            return 500, {"name": "Error", "message": repr(error)}, {}
        return 206, [operation("RunComplete", "complete", data=output)], {}
