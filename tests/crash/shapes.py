"""The functions of the storm: every way in which a run can wait, go on, branch and end."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tests.crash.app import APP_ID, Body, Call, hashed

CHAIN = tuple(f"s{n}" for n in range(5))
GROUP = tuple(f"p{n}" for n in range(4))
REPORTED = tuple(f"c{n}" for n in range(5))
KEY = "event.data.key"
"""Another one in each event."""
SAME_KEY = "event.data.key == async.data.key"
SHARED = {"limit": 16, "key": "'storm'", "scope": "env"}
"""One counter for several functions."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A function, and what its runs must have done when all is over."""

    body: Body
    event: str = ""
    """What starts it; empty: another function does."""
    status: str = "Completed"
    bodies: tuple[str, ...] = ()
    """Steps with a body, all of which must have a result; where the run is cancelled, those that it may have."""
    others: tuple[str, ...] = ()
    """Sleeps, waits and invocations, likewise."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def steps(self) -> set[str]:
        """Hashed ids of all steps."""
        return {hashed(name) for name in (*self.bodies, *self.others)}


async def _chain(call: Call) -> Any:
    return {name: await call.step(name) for name in CHAIN}


async def _echo(call: Call) -> Any:
    return {"key": call.data["key"]}


async def _group(call: Call) -> Any:
    results = dict(zip(GROUP, await call.group(*GROUP), strict=True))
    return results | {"join": await call.step("join")}


async def _nap(call: Call) -> Any:
    before = await call.step("before")
    call.sleep("nap", "1s")
    return {"before": before, "after": await call.step("after")}


async def _wait(call: Call) -> Any:
    before = await call.step("before")
    event = call.wait("wait", "crash/resume", SAME_KEY, call.data["key"])
    return {"before": before, "after": await call.step("after"), "resumed": event["data"]["key"]}


async def _caller(call: Call) -> Any:
    before = await call.step("before")
    called = call.invoke("invoke", "callee", {"key": call.data["key"]})
    return {"before": before, "called": called, "after": await call.step("after")}


async def _callee(call: Call) -> Any:
    return {"x": await call.step("x"), "y": await call.step("y")}


async def _flaky(call: Call) -> Any:
    return {"before": await call.step("before"), "flaky": await call.step("flaky", fails_first=True)}


async def _reported(call: Call) -> Any:
    return {name: await call.checkpointed(name) for name in REPORTED}


async def _failing(call: Call) -> Any:
    await call.step("before")
    call.give_up()


async def _failing_handler(call: Call) -> Any:
    return {"told": await call.step("told"), "run": call.data["run_id"]}


async def _stopped(call: Call) -> Any:
    await call.step("before")
    call.sleep("long", "10m")
    return {"after": await call.step("after")}


async def _once(call: Call) -> Any:
    return {"only": await call.step("only")}


SHAPES: dict[str, Shape] = {
    "chain": Shape(
        _chain, "crash/chain", bodies=CHAIN, options={"concurrency": [SHARED], "priority": {"run": "30"}}
    ),
    "echo": Shape(_echo, "crash/chain"),
    "group": Shape(_group, "crash/group", bodies=(*GROUP, "join"), options={"concurrency": [{"limit": 8}]}),
    "nap": Shape(
        _nap, "crash/nap", bodies=("before", "after"), others=("nap",), options={"concurrency": [SHARED]}
    ),
    "wait": Shape(
        _wait,
        "crash/wait",
        bodies=("before", "after"),
        others=("wait",),
        options={"timeouts": {"start": "30m", "finish": "1h"}, "singleton": {"key": KEY, "mode": "skip"}},
    ),
    "caller": Shape(_caller, "crash/caller", bodies=("before", "after"), others=("invoke",)),
    "callee": Shape(_callee, bodies=("x", "y"), options={"concurrency": [{"limit": 3}]}),
    "flaky": Shape(
        _flaky,
        "crash/flaky",
        bodies=("before", "flaky"),
        options={"throttle": {"limit": 500, "period": "1s", "burst": 20}},
    ),
    "reported": Shape(_reported, "crash/reported", bodies=REPORTED),
    "failing": Shape(_failing, "crash/failing", status="Failed", bodies=("before",)),
    "failing-failure": Shape(
        _failing_handler,
        bodies=("told",),
        options={
            "triggers": [
                {
                    "event": "inngest/function.failed",
                    "expression": f"event.data.function_id == '{APP_ID}-failing'",
                }
            ]
        },
    ),
    "stopped": Shape(
        _stopped,
        "crash/stopped",
        status="Cancelled",
        bodies=("before",),
        others=("long",),
        options={"cancel": [{"event": "crash/stop", "if": SAME_KEY}]},
    ),
    "once": Shape(_once, "crash/once", bodies=("only",), options={"idempotency": KEY}),
}

EVENTS = sorted({shape.event for shape in SHAPES.values() if shape.event})


def declared() -> dict[str, dict[str, Any]]:
    """What the app registers."""
    return {
        name: {"triggers": [{"event": shape.event}] if shape.event else []} | dict(shape.options)
        for name, shape in SHAPES.items()
    }


def started_by(event: str) -> set[str]:
    """The functions that an event starts."""
    return {name for name, shape in SHAPES.items() if shape.event == event}
