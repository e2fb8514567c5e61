"""Functions with every option of flow control, on the Python SDK; ids, events and outputs as in ../ts/flow.mjs.

Events carry `token` (the test's own), `n` (which of its events), `key`, and `gated`: whether the body stays in its
request until the test opens the gate of `token` and `n`.
"""

import datetime
from collections.abc import Mapping
from typing import Any

import inngest
from functions import APP, STEP_IN_CONTEXT, caught, define, handler_of, on
from recorder import Recorder, gate

KEY = "event.data.key"
TOKEN = "event.data.token"
SAME = "event.data.token == async.data.token && event.data.n == async.data.n"
SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
HOUR = datetime.timedelta(hours=1)


def marks(ctx: Any) -> dict[str, Any]:
    """What a test finds a recorded body by."""
    data = ctx.event.data
    ns = [event.data.get("n") for event in ctx.events]
    return {"token": data.get("token"), "n": data.get("n"), "ns": ns}


async def gated(ctx: Any, step: Any, rec: Recorder) -> object:
    """One request, which lasts as long as the test wants."""
    rec("enter", **marks(ctx))
    await gate(ctx.event.data)
    rec("leave", **marks(ctx))
    return ctx.event.data.get("n")


async def waits(ctx: Any, step: Any, rec: Recorder) -> object:
    """Waits for an event, without a request."""

    async def before() -> None:
        rec("before", **marks(ctx))

    async def after() -> object:
        rec("after", **marks(ctx))
        return ctx.event.data["n"]

    await step.run("before", before)
    await step.wait_for_event("wake", event=f"{APP}/flow-wake", if_exp=SAME, timeout=MINUTE)
    return await step.run("after", after)


async def noted(ctx: Any, step: Any, rec: Recorder) -> object:
    """A failure handler."""
    rec("handler", token=ctx.event.data["event"]["data"]["token"])
    return "noted"


def limit(number: int, **more: Any) -> inngest.Concurrency:
    """One limit on requests at one instant."""
    return inngest.Concurrency(limit=number, **more)


# --- Concurrency ---

define("flow-number", concurrency=[limit(2)])(gated)
define("flow-key", concurrency=[limit(1, key=KEY)])(gated)
define("flow-two-limits", concurrency=[limit(1, key=KEY), limit(2)])(gated)
define("flow-env-low", concurrency=[limit(1, key=KEY, scope="env")])(gated)
define("flow-env-high", concurrency=[limit(2, key=KEY, scope="env")])(gated)
define("flow-account-low", concurrency=[limit(1, key='"openai"', scope="account")])(gated)
define("flow-account-high", concurrency=[limit(2, key='"openai"', scope="account")])(gated)
define("flow-waits", concurrency=[limit(1)])(waits)

# --- Starts ---

define("flow-throttle", throttle=inngest.Throttle(limit=2, period=SECOND))(gated)
define("flow-throttle-burst", throttle=inngest.Throttle(limit=1, period=SECOND, burst=3))(gated)
define("flow-throttle-key", throttle=inngest.Throttle(limit=1, period=SECOND, key=KEY))(gated)
define("flow-rate", rate_limit=inngest.RateLimit(limit=2, period=HOUR))(gated)
define("flow-rate-key", rate_limit=inngest.RateLimit(limit=1, period=HOUR, key=KEY))(gated)
define("flow-rate-soon", rate_limit=inngest.RateLimit(limit=1, period=SECOND, key=KEY))(gated)
define("flow-once", idempotency=KEY)(gated)
define("flow-names", trigger=[on("flow-left"), on("flow-right")])(gated)
define("flow-other", trigger=on("flow-right"))(gated)
define("flow-priority", concurrency=[limit(1)], priority=inngest.Priority(run="event.data.p"))(gated)

# --- Gathering ---

define("flow-debounce", debounce=inngest.Debounce(period=SECOND, key=KEY))(gated)
define("flow-debounce-ceiling", debounce=inngest.Debounce(period=MINUTE, timeout=SECOND, key=KEY))(gated)
define(
    "flow-batch",
    batch_events=inngest.Batch(max_size=3, timeout=MINUTE, key=KEY, if_exp="event.data.alone == false"),
)(gated)
define("flow-batch-soon", batch_events=inngest.Batch(max_size=10, timeout=SECOND, key=KEY))(gated)

# --- Cancelling ---


def cancel(**more: Any) -> list[inngest.Cancel]:
    """Cancelled by the event that says so of this very run."""
    return [inngest.Cancel(event=f"{APP}/flow-cancel-now", if_exp=SAME, **more)]


define("flow-cancel", cancel=cancel())(waits)


@define("flow-cancel-late", cancel=cancel(timeout=SECOND))
async def cancel_late(ctx: Any, step: Any, rec: Recorder) -> object:
    """Sleeps longer than its event may cancel it, and then waits."""
    await step.sleep("nap", 1500)
    return await waits(ctx, step, rec)


define("flow-abort", concurrency=[limit(1, key=TOKEN)], on_failure=handler_of("flow-abort-handler", noted))(
    gated
)


@define("flow-two-steps")
async def two_steps(ctx: Any, step: Any, rec: Recorder) -> object:
    """A step that lasts as long as the test wants, and one after it."""

    async def first() -> object:
        return await gated(ctx, step, rec)

    async def second() -> None:
        rec("second", **marks(ctx))

    await step.run("first", first)
    await step.run("second", second)
    return "done"


define("flow-bulk")(waits)
child = define("flow-child")(gated)


@define("flow-parent")
async def parent(ctx: Any, step: Any, rec: Recorder) -> object:
    """Invokes a function that does not end by itself."""
    try:
        return {"got": await step.invoke("call", function=child, data=dict(ctx.event.data))}
    except inngest.StepError as err:
        return caught(err)


@define(
    "flow-observe",
    trigger=inngest.TriggerEvent(
        event="inngest/function.cancelled", expression=f"event.data.function_id.startsWith('{APP}-flow-')"
    ),
)
async def observe(ctx: Any, step: Any, rec: Recorder) -> object:
    """What runs were cancelled."""
    rec("cancelled", cancelled=ctx.event.data["run_id"], event_id=ctx.event.id)
    return "seen"


# --- Combinations ---

define(
    "flow-mix",
    debounce=inngest.Debounce(period=SECOND, key=KEY),
    throttle=inngest.Throttle(limit=1, period=SECOND),
    concurrency=[limit(1, key=TOKEN)],
)(gated)
define(
    "flow-batch-one",
    batch_events=inngest.Batch(max_size=2, timeout=MINUTE, key=TOKEN),
    concurrency=[limit(1)],
)(gated)
define(
    "flow-batch-once",
    batch_events=inngest.Batch(max_size=2, timeout=MINUTE, key=TOKEN),
    idempotency=KEY,
)(gated)
define("flow-debounce-once", debounce=inngest.Debounce(period=SECOND, key=KEY), idempotency=KEY)(gated)
rated = define("flow-rate-callee", rate_limit=inngest.RateLimit(limit=1, period=HOUR, key=TOKEN))(gated)


@define("flow-rate-caller")
async def rate_caller(ctx: Any, step: Any, rec: Recorder) -> object:
    """Invokes a function once more than it may begin."""
    data = dict(ctx.event.data)
    first = await step.invoke("first", function=rated, data=data)
    try:
        return {"first": first, "second": await step.invoke("second", function=rated, data=data)}
    except inngest.StepError as err:
        return {"first": first, **caught(err)}


# --- Only where the SDK has it: 0.4 has neither singletons nor timeouts ---

if STEP_IN_CONTEXT:
    skip = inngest.Singleton(key=KEY, mode="skip")
    define("flow-single-skip", singleton=skip)(gated)
    define("flow-rights", singleton=skip, rate_limit=inngest.RateLimit(limit=2, period=HOUR, key=KEY))(gated)
    define("flow-single-cancel", singleton=inngest.Singleton(key=KEY, mode="cancel"))(gated)
    define("flow-single-debounce", singleton=skip, debounce=inngest.Debounce(period=SECOND, key=TOKEN))(gated)
    define("flow-start-timeout", concurrency=[limit(1, key=TOKEN)], timeouts=inngest.Timeouts(start=SECOND))(
        gated
    )

    @define("flow-finish-timeout", timeouts=inngest.Timeouts(finish=SECOND))
    async def finish_timeout(ctx: Any, step: Any, rec: Recorder) -> object:
        """Stays in a request, and naps after it where the event says so."""
        got = await gated(ctx, step, rec)
        if ctx.event.data.get("nap"):
            await step.sleep("nap", 60_000)
        return got


# --- Functions that change while the app runs ---

changing_client = inngest.Inngest(app_id=f"{APP}-changing")


def changing(options: Mapping[str, Any]) -> list[Any]:
    """The functions of the app `{APP}-changing`, as a test wants them: see `Changing` in ../flow.py."""
    own: dict[str, Any] = {}
    if "concurrency" in options:
        own["concurrency"] = [inngest.Concurrency(**entry) for entry in options["concurrency"]]
    if "throttle" in options:
        own["throttle"] = inngest.Throttle(limit=options["throttle"], period=HOUR)
    made = [define("flow-standing", using=changing_client)(gated)]
    if not options.get("removed"):
        made.append(define("flow-changing", using=changing_client, **own)(gated))
        made.append(define("flow-leaving", using=changing_client)(waits))
    if options.get("ticks"):
        ticking = define(
            "flow-ticking",
            using=changing_client,
            trigger=inngest.TriggerCron(cron="* * * * * *"),
            singleton=inngest.Singleton(mode="skip"),
        )
        made.append(ticking(ticks(str(options["ticks"]))))
    return made


def ticks(token: str) -> Any:
    """Stays in its first request until the test lets it go."""

    async def body(ctx: Any, step: Any, rec: Recorder) -> object:
        rec("enter", token=token, n=0)
        await gate({"token": token, "n": 0, "gated": True})
        return "ticked"

    return body
