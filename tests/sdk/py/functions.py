"""The scenario functions on the Python SDK, 0.5 and 0.4; ids, events and outputs as in ../ts/functions.mjs.

Every body takes `(ctx, step, rec)`: `define` adapts it to the signature of the installed version (0.4 passes
the steps as a second argument, 0.5 as `ctx.step`). `rec("name")` notes that a body really ran.
"""

import asyncio
import datetime
import importlib.metadata
import os
from collections.abc import Awaitable, Callable
from typing import Any

import inngest
from recorder import Recorder

VERSION = tuple(int(part) for part in importlib.metadata.version("inngest").split(".")[:2])
STEP_IN_CONTEXT = VERSION >= (0, 5)

APP = os.environ["APP_ID"]
SELF = os.environ["SELF_URL"]
MIB = 1024 * 1024
AI_KEY = "sk-innkeeper-secret"

client = inngest.Inngest(app_id=APP)
functions: list[Any] = []

Body = Callable[[Any, Any, Recorder], Awaitable[object]]


def handler_of(fn_id: str, body: Body) -> Any:
    """The body in the signature that the installed SDK calls."""

    async def with_context(ctx: Any) -> object:
        return await body(ctx, ctx.step, Recorder(fn_id, ctx))

    async def with_step(ctx: Any, step: Any) -> object:
        return await body(ctx, step, Recorder(fn_id, ctx))

    return with_context if STEP_IN_CONTEXT else with_step


def on(event: str, expression: str | None = None) -> inngest.TriggerEvent:
    """A trigger on one of the app's own events."""
    return inngest.TriggerEvent(event=f"{APP}/{event}", expression=expression)


def define(fn_id: str, *, trigger: Any = None, using: inngest.Inngest = client, **options: Any) -> Any:
    """Declare a function; by default the event `{app}/{fn_id}` starts it."""

    def declare(body: Body) -> Any:
        create = using.create_function(fn_id=fn_id, trigger=trigger or on(fn_id), **options)
        function = create(handler_of(fn_id, body))
        if using is client:
            functions.append(function)
        return function

    return declare


class BoomError(Exception):
    """The failure that scenarios raise on purpose."""


# --- Results ---


@define("no-step")
async def no_step(ctx: Any, step: Any, rec: Recorder) -> object:
    rec("body")
    return {"hello": ctx.event.data.get("name"), "event": ctx.event.name, "events": len(ctx.events)}


@define("event-fields")
async def event_fields(ctx: Any, step: Any, rec: Recorder) -> object:
    return {"id": ctx.event.id, "name": ctx.event.name, "ts": ctx.event.ts, "data": ctx.event.data}


@define("echo")
async def echo(ctx: Any, step: Any, rec: Recorder) -> object:
    async def keep() -> object:
        return ctx.event.data

    return {"through_step": await step.run("keep", keep), "direct": ctx.event.data}


@define("null-values")
async def null_values(ctx: Any, step: Any, rec: Recorder) -> object:
    async def nothing() -> None:
        rec("nothing")

    assert await step.run("nothing", nothing) is None
    return None


# --- Steps ---


@define("single-step")
async def single_step(ctx: Any, step: Any, rec: Recorder) -> object:
    async def a() -> object:
        rec("a")
        return {"v": 1}

    return await step.run("a", a)


async def add_up(ctx: Any, step: Any, rec: Recorder) -> object:
    async def a() -> int:
        rec("a")
        return 20

    async def b() -> int:
        rec("b")
        return first + 22

    first = await step.run("a", a)
    return {"sum": await step.run("b", b)}


define("two-step")(add_up)


@define("loop")
async def loop(ctx: Any, step: Any, rec: Recorder) -> object:
    results = []
    for i in range(3):

        async def again(i: int = i) -> int:
            rec("again", i=i)
            return i

        results.append(await step.run("again", again))
    return results


def named(rec: Recorder, name: str, wait_s: float = 0.0) -> Callable[[], Awaitable[str]]:
    """A step body that records its name and returns it in capitals."""

    async def body() -> str:
        rec(name)
        await asyncio.sleep(wait_s)
        return name.upper()

    return body


@define("parallel")
async def parallel(ctx: Any, step: Any, rec: Recorder) -> object:
    parts = await ctx.group.parallel(
        (
            lambda: step.run("a", named(rec, "a", 0.1)),
            lambda: step.run("b", named(rec, "b", 0.1)),
            lambda: step.run("c", named(rec, "c", 0.1)),
        )
    )

    async def join() -> str:
        rec("join")
        return "".join(parts)

    return await step.run("join", join)


@define("parallel-chains")
async def parallel_chains(ctx: Any, step: Any, rec: Recorder) -> object:
    async def chain(name: str) -> str:
        first = await step.run(f"{name}1", named(rec, f"{name}1"))
        second = await step.run(f"{name}2", named(rec, f"{name}2"))
        return str(first + second)

    return list(await ctx.group.parallel((lambda: chain("a"), lambda: chain("b"))))


@define("race")
async def race(ctx: Any, step: Any, rec: Recorder) -> object:
    mode = {"parallel_mode": inngest.ParallelMode.RACE} if STEP_IN_CONTEXT else {}
    parts = await ctx.group.parallel(
        (
            lambda: step.run("fast", named(rec, "fast")),
            lambda: step.run("slow", named(rec, "slow", 0.3)),
        ),
        **mode,
    )
    return {"parts": list(parts)}


@define("nested", retries=0)
async def nested(ctx: Any, step: Any, rec: Recorder) -> object:
    async def outer() -> object:
        return await step.run("inner", named(rec, "inner"))

    return await step.run("outer", outer)


# --- Time ---


@define("sleep")
async def sleep(ctx: Any, step: Any, rec: Recorder) -> object:
    await step.run("before", named(rec, "before"))
    await step.sleep("nap", 1000)
    return await step.run("after", named(rec, "after"))


@define("sleep-until-past")
async def sleep_until_past(ctx: Any, step: Any, rec: Recorder) -> object:
    await step.sleep_until("long-ago", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
    return await step.run("after", named(rec, "after"))


@define("restart")
async def restart(ctx: Any, step: Any, rec: Recorder) -> object:
    await step.run("before", named(rec, "before"))
    await step.sleep("nap", 4000)
    return await step.run("after", named(rec, "after"))


@define("future")
async def future(ctx: Any, step: Any, rec: Recorder) -> object:
    rec("body")
    return {"ts": ctx.event.ts}


@define("cron-mix", trigger=[inngest.TriggerCron(cron="* * * * *"), on("cron-mix")])
async def cron_mix(ctx: Any, step: Any, rec: Recorder) -> object:
    rec("body", event=ctx.event.name, data=ctx.event.data, ts=ctx.event.ts)
    return {"event": ctx.event.name}


# --- Waiting for events ---


def awaited(event: Any) -> object:
    """What a wait brought, in the form that all SDKs report."""
    if event is None:
        return {"timed_out": True}
    return {"name": event.name, "data": event.data, "has_id": bool(event.id), "has_ts": event.ts > 0}


@define("wait-if")
async def wait_if(ctx: Any, step: Any, rec: Recorder) -> object:
    found = await step.wait_for_event(
        "answer",
        event=f"{APP}/answer",
        if_exp="event.data.key == async.data.key && async.data.ok == true",
        timeout=30_000,
    )
    return awaited(found)


@define("wait-any")
async def wait_any(ctx: Any, step: Any, rec: Recorder) -> object:
    found = await step.wait_for_event("answer", event=f"{APP}/{ctx.event.data['listen']}", timeout=30_000)
    return awaited(found)


@define("wait-timeout")
async def wait_timeout(ctx: Any, step: Any, rec: Recorder) -> object:
    found = await step.wait_for_event("answer", event=f"{APP}/never", timeout=1000)
    await step.run("after", named(rec, "after"))
    return awaited(found)


@define("wait-and-send")
async def wait_and_send(ctx: Any, step: Any, rec: Recorder) -> object:
    key = ctx.event.data["key"]
    found, _ = await ctx.group.parallel(
        (
            lambda: step.wait_for_event(
                "pong", event=f"{APP}/pong", if_exp="event.data.key == async.data.key", timeout=10_000
            ),
            lambda: step.send_event("ping", inngest.Event(name=f"{APP}/pong", data={"key": key})),
        )
    )
    return awaited(found)


# --- Invoking ---


@define("callee")
async def callee(ctx: Any, step: Any, rec: Recorder) -> object:
    rec("body", event=ctx.event.name, data=ctx.event.data)
    return {"double": ctx.event.data["n"] * 2}


@define("callee-fails")
async def callee_fails(ctx: Any, step: Any, rec: Recorder) -> object:
    raise inngest.NonRetriableError("callee boom")


@define("callee-slow")
async def callee_slow(ctx: Any, step: Any, rec: Recorder) -> object:
    await step.sleep("nap", 3000)
    rec("late", data=ctx.event.data)
    return "late"


def caught(err: Any) -> object:
    """A caught step error in the form that all SDKs report."""
    return {"caught": {"name": err.name, "message": err.message}}


@define("invoke-ok")
async def invoke_ok(ctx: Any, step: Any, rec: Recorder) -> object:
    return {"got": await step.invoke("call", function=callee, data={"n": 21})}


@define("invoke-fail")
async def invoke_fail(ctx: Any, step: Any, rec: Recorder) -> object:
    return await step.invoke("call", function=callee_fails, data={})


@define("invoke-fail-caught")
async def invoke_fail_caught(ctx: Any, step: Any, rec: Recorder) -> object:
    try:
        return await step.invoke("call", function=callee_fails, data={})
    except inngest.StepError as err:
        return caught(err)


@define("invoke-timeout")
async def invoke_timeout(ctx: Any, step: Any, rec: Recorder) -> object:
    try:
        return await step.invoke("call", function=callee_slow, data={}, timeout=1000)
    except inngest.StepError as err:
        return caught(err)


@define("invoke-by-id")
async def invoke_by_id(ctx: Any, step: Any, rec: Recorder) -> object:
    return {"got": await step.invoke_by_id("call", function_id="callee", data={"n": 4})}


@define("invoke-cross")
async def invoke_cross(ctx: Any, step: Any, rec: Recorder) -> object:
    app_id = ctx.event.data["app"]
    return {"got": await step.invoke_by_id("call", app_id=app_id, function_id="callee", data={"n": 5})}


@define("invoke-unknown")
async def invoke_unknown(ctx: Any, step: Any, rec: Recorder) -> object:
    try:
        return await step.invoke_by_id("call", function_id="nobody", data={})
    except inngest.StepError as err:
        return caught(err)


# --- Sending ---


@define("send-event")
async def send_event(ctx: Any, step: Any, rec: Recorder) -> object:
    events = [inngest.Event(name=f"{APP}/received", data={"i": i, "from": ctx.run_id}) for i in range(2)]
    return {"ids": await step.send_event("emit", events)}


@define("received")
async def received(ctx: Any, step: Any, rec: Recorder) -> object:
    rec("body", data=ctx.event.data)
    return ctx.event.data


# --- Errors ---


@define("flaky-step", retries=3)
async def flaky_step(ctx: Any, step: Any, rec: Recorder) -> object:
    async def flaky() -> object:
        before = rec("flaky")
        if before < 2:
            raise BoomError(f"not yet ({before})")
        return {"tries": before + 1}

    result = await step.run("flaky", flaky)
    await step.run("after", named(rec, "after"))
    return result


async def fail(rec: Recorder, name: str) -> None:
    rec(name)
    raise BoomError("step boom")


@define("step-fails", retries=1)
async def step_fails(ctx: Any, step: Any, rec: Recorder) -> object:
    return await step.run("bad", lambda: fail(rec, "bad"))


@define("step-fails-caught", retries=1)
async def step_fails_caught(ctx: Any, step: Any, rec: Recorder) -> object:
    try:
        await step.run("bad", lambda: fail(rec, "bad"))
    except inngest.StepError as err:
        undone = await step.run("rollback", named(rec, "rollback"))
        return {"undone": undone, "message": err.message}
    return "not reached"


@define("fn-retry", retries=3)
async def fn_retry(ctx: Any, step: Any, rec: Recorder) -> object:
    if rec("body") < 2:
        raise BoomError("fn boom")
    return {"attempt": ctx.attempt}


@define("fn-fails", retries=1)
async def fn_fails(ctx: Any, step: Any, rec: Recorder) -> object:
    rec("body")
    raise BoomError("fn boom")


@define("non-retriable-fn", retries=3)
async def non_retriable_fn(ctx: Any, step: Any, rec: Recorder) -> object:
    rec("body")
    raise inngest.NonRetriableError("final boom")


@define("non-retriable-step", retries=3)
async def non_retriable_step(ctx: Any, step: Any, rec: Recorder) -> object:
    async def bad() -> None:
        rec("bad")
        raise inngest.NonRetriableError("final boom")

    return await step.run("bad", bad)


@define("retry-after-fn", retries=2)
async def retry_after_fn(ctx: Any, step: Any, rec: Recorder) -> object:
    if rec("body") == 0:
        raise inngest.RetryAfterError("later", 2000)
    return "done"


@define("retry-after-step", retries=2)
async def retry_after_step(ctx: Any, step: Any, rec: Recorder) -> object:
    async def limited() -> str:
        if rec("limited") == 0:
            raise inngest.RetryAfterError("later", 2000)
        return "done"

    return await step.run("limited", limited)


@define("attempts", retries=2)
async def attempts(ctx: Any, step: Any, rec: Recorder) -> object:
    async def first() -> str:
        if rec("first", seen=ctx.attempt) < 1:
            raise BoomError("once")
        return "ok"

    async def second() -> int:
        rec("second", seen=ctx.attempt)
        return int(ctx.attempt)

    await step.run("first", first)
    return {"second": await step.run("second", second)}


async def note_failure(ctx: Any, step: Any, rec: Recorder) -> object:
    async def note() -> str:
        rec("handler", event=ctx.event.name, data=ctx.event.data, event_id=ctx.event.id)
        return "noted"

    return await step.run("note", note)


@define("with-handler", retries=0, on_failure=handler_of("with-handler-handler", note_failure))
async def with_handler(ctx: Any, step: Any, rec: Recorder) -> object:
    await step.run("good", named(rec, "good"))
    return await step.run("bad", lambda: fail(rec, "bad"))


@define("patient", retries=20)
async def patient(ctx: Any, step: Any, rec: Recorder) -> object:
    rec("body")
    return "served"


# --- Cancelling, internal events ---


@define(
    "cancel-on",
    cancel=[inngest.Cancel(event=f"{APP}/cancel", if_exp="event.data.key == async.data.key")],
)
async def cancel_on(ctx: Any, step: Any, rec: Recorder) -> object:
    await step.run("before", named(rec, "before"))
    await step.sleep("nap", 60_000)
    return await step.run("after", named(rec, "after"))


OBSERVED = " || ".join(
    f"event.data.function_id == '{APP}-{fn}'" for fn in ("two-step", "fn-fails", "cancel-on", "callee")
)


@define(
    "observe",
    trigger=[
        inngest.TriggerEvent(event=f"inngest/function.{end}", expression=OBSERVED)
        for end in ("finished", "failed", "cancelled")
    ],
)
async def observe(ctx: Any, step: Any, rec: Recorder) -> object:
    rec("seen", event=ctx.event.name, data=ctx.event.data, event_id=ctx.event.id)
    return "seen"


# --- Triggers ---


@define("wild", trigger=on("wild/*"))
async def wild(ctx: Any, step: Any, rec: Recorder) -> object:
    return {"event": ctx.event.name}


@define("wild-dot", trigger=on("post.*"))
async def wild_dot(ctx: Any, step: Any, rec: Recorder) -> object:
    return {"event": ctx.event.name}


@define("trigger-if", trigger=on("trigger-if", "event.data.total > 100"))
async def trigger_if(ctx: Any, step: Any, rec: Recorder) -> object:
    return {"total": ctx.event.data["total"]}


@define("two-triggers", trigger=[on("left"), on("right", "event.data.go == true")])
async def two_triggers(ctx: Any, step: Any, rec: Recorder) -> object:
    return {"event": ctx.event.name}


@define("fan-a", trigger=on("fan"))
async def fan_a(ctx: Any, step: Any, rec: Recorder) -> object:
    return "a"


@define("fan-b", trigger=on("fan"))
async def fan_b(ctx: Any, step: Any, rec: Recorder) -> object:
    return "b"


# --- Size, limits, options ---


@define("large-state")
async def large_state(ctx: Any, step: Any, rec: Recorder) -> object:
    chunks = []
    for i in range(5):

        async def chunk(i: int = i) -> str:
            rec(f"chunk-{i}")
            return str(i) * MIB

        chunks.append(await step.run(f"chunk-{i}", chunk))
    await step.sleep("nap", 1000)

    async def count() -> object:
        rec("count")
        return {"length": sum(len(c) for c in chunks), "letters": "".join(c[0] for c in chunks)}

    return await step.run("count", count)


@define("one-at-a-time", concurrency=[inngest.Concurrency(limit=1)])
async def one_at_a_time(ctx: Any, step: Any, rec: Recorder) -> object:
    rec("enter", batch=ctx.event.data["batch"])
    await asyncio.sleep(0.2)
    rec("leave", batch=ctx.event.data["batch"])
    return "done"


@define(
    "options-warn",
    throttle=inngest.Throttle(limit=100, period=datetime.timedelta(seconds=60)),
    priority=inngest.Priority(run="event.data.p"),
    idempotency="event.data.id",
)
async def options_warn(ctx: Any, step: Any, rec: Recorder) -> object:
    return "ran"


if bad_cron := os.environ.get("BAD_CRON"):

    @define("bad-cron", trigger=inngest.TriggerCron(cron=bad_cron))
    async def bad_cron_function(ctx: Any, step: Any, rec: Recorder) -> object:
        return "never"


# --- Only where the SDK has it ---

if STEP_IN_CONTEXT:
    # 0.4 has no step.ai.
    from inngest.experimental.ai.openai import Adapter

    async def infer(ctx: Any, step: Any, model: str) -> Any:
        return await step.ai.infer(
            "infer",
            adapter=Adapter(auth_key=AI_KEY, base_url=f"{SELF}/v1", model=model),
            body={"messages": [{"role": "user", "content": ctx.event.data["token"]}]},
        )

    @define("ai-infer")
    async def ai_infer(ctx: Any, step: Any, rec: Recorder) -> object:
        reply = await infer(ctx, step, "good")
        return {"text": reply["choices"][0]["message"]["content"], "auth_ok": reply["auth_ok"]}

    @define("ai-fails", retries=1)
    async def ai_fails(ctx: Any, step: Any, rec: Recorder) -> object:
        try:
            return await infer(ctx, step, "fail")
        except inngest.StepError as err:
            return caught(err)


def _sync_body(ctx: Any, step: Any) -> object:
    rec = Recorder("sync-handler", ctx)

    def a() -> int:
        rec("a")
        return 1

    def b() -> int:
        rec("b")
        return int(first) + 1

    first = step.run("a", a)
    return {"sum": step.run("b", b)}


def _sync_with_context(ctx: Any) -> object:
    return _sync_body(ctx, ctx.step)


functions.append(
    client.create_function(fn_id="sync-handler", trigger=on("sync-handler"))(
        _sync_with_context if STEP_IN_CONTEXT else _sync_body
    )
)

stream_client = inngest.Inngest(app_id=f"{APP}-stream")


async def always_fails(ctx: Any, step: Any, rec: Recorder) -> object:
    raise BoomError("fn boom")


stream_functions = [
    define("streamed", using=stream_client)(add_up),
    define("streamed-fails", using=stream_client, retries=0)(always_fails),
]
