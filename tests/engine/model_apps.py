"""Small functions as an app would serve them: an SDK in a few lines, answering calls from what it is sent."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import orjson
import rfc8785

from innkeeper_engine.model.calls import Answer, Op, OpKind
from innkeeper_engine.model.functions import App, Cancel, Concurrency, FunctionConfig, Trigger
from innkeeper_engine.model.state import PLANNED, Lease


class Run(NamedTuple):
    """`step.run`, which fails for its first `fails` attempts."""

    id: str
    fails: int = 0


class Sleep(NamedTuple):
    """`step.sleep`."""

    id: str
    ms: int


class Wait(NamedTuple):
    """`step.waitForEvent`, without a condition."""

    id: str
    event: str
    ms: int


class Invoke(NamedTuple):
    """`step.invoke`."""

    id: str
    slug: str


Step: TypeAlias = Run | Sleep | Wait | Invoke


class Function(NamedTuple):
    """Groups of parallel steps, one after the other; a group of one is a step of its own."""

    groups: Sequence[Sequence[Step]]
    version: int = 2
    fails: int = 0
    """How many attempts of a call fail as a whole."""
    retries: int = 4
    cap: int = 0
    trigger: str = ""
    condition: str | None = None

    @property
    def ends_well(self) -> bool:
        """Whether a run that nobody cancels completes."""
        return self.fails <= self.retries


FUNCTIONS = {
    "app-chain": Function([[Run("a")], [Run("b")], [Run("c")]], cap=1),
    "app-group": Function([[Run("a"), Run("b"), Sleep("z", 700)], [Run("c")]], cap=2),
    "app-group1": Function([[Run("a"), Run("b", fails=1), Sleep("z", 700)], [Run("c")]], version=1),
    "app-race": Function([[Sleep("y", 300), Invoke("i", "app-chain"), Wait("w", "ping", 600)], [Run("c")]]),
    "app-wait": Function([[Wait("w", "ping", 5_000)], [Run("a")]]),
    "app-parent": Function([[Invoke("i", "app-chain")], [Run("a")]]),
    "app-flaky": Function([[Run("a", fails=2)], [Run("b", fails=9)]], cap=1),
    "app-slow": Function([[Sleep("z", 2_000)], [Run("a")]]),
    "app-late": Function([[Run("a")]], fails=2),
    "app-fails": Function([[Run("a")]], fails=9, retries=1),
    "app-after": Function(
        [[Run("a")]], trigger="inngest/function.failed", condition="event.data.function_id == 'app-fails'"
    ),
}


def app() -> App:
    """The functions as registered: each starts by an event of its name, and is cancelled by `stop`."""
    return App(
        id="app",
        url="http://app/",
        functions=tuple(
            FunctionConfig(
                slug=slug,
                name=slug,
                url="http://app/",
                retries=function.retries,
                triggers=(Trigger(event=function.trigger or slug, expression=function.condition),),
                cancel=(Cancel(event="stop"),),
                concurrency=(Concurrency(limit=function.cap),) if function.cap else (),
            )
            for slug, function in FUNCTIONS.items()
        ),
    )


class Sdk:
    """Answers calls. Every run of a step gives another result, so that which one counted can be told."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def answer(self, lease: Lease) -> Answer:
        """What the app says to the call that this lease is for."""
        function = FUNCTIONS[lease.slug]
        assert lease.payload is not None
        memo = {step: lease.payload[step] for step in lease.stack}
        if lease.attempt < function.fails:
            error = rfc8785.dumps({"message": "not yet", "name": "Error"})
            return Answer(kind="error", error=error, reason="invalid status code: 500", status=500)
        if lease.kind == PLANNED:
            steps = {step.id: step for group in function.groups for step in group}
            return self._ops(function, [self._run(steps[lease.step], lease)])
        for group in function.groups:
            missing = [step for step in group if step.id not in memo]
            if missing:
                alone = len(group) == 1 and not lease.plan_only
                return self._ops(function, [self._ask(step, lease, alone) for step in missing])
        done = Op(id="done", kind=OpKind.RUN_COMPLETE, data=output_of(memo))
        return self._ops(function, [done])

    def _ops(self, function: Function, ops: list[Op]) -> Answer:
        return Answer(kind="ops", ops=tuple(ops), version=function.version, status=206)

    def _ask(self, step: Step, lease: Lease, alone: bool) -> Op:
        match step:
            case Run():
                return self._run(step, lease) if alone else Op(id=step.id, kind=OpKind.STEP_PLANNED)
            case Sleep():
                return Op(id=step.id, kind=OpKind.SLEEP, name=f"{step.ms}ms")
            case Wait():
                return Op(
                    id=step.id, kind=OpKind.WAIT_FOR_EVENT, name=step.event, opts={"timeout": f"{step.ms}ms"}
                )
            case Invoke():
                return Op(id=step.id, kind=OpKind.INVOKE_FUNCTION, opts={"function_id": step.slug})

    def _run(self, step: Step, lease: Lease) -> Op:
        assert isinstance(step, Run)
        if lease.attempt < step.fails:
            error = rfc8785.dumps({"message": f"attempt {lease.attempt}", "name": "Error"})
            return Op(id=step.id, kind=OpKind.STEP_ERROR, error=error)
        return Op(id=step.id, kind=OpKind.STEP_RUN, data=b"%d" % next(self._numbers))


def output_of(memo: dict[str, bytes]) -> bytes:
    """What a function returns: all that it knows."""
    return rfc8785.dumps({step: orjson.loads(result) for step, result in memo.items()})
