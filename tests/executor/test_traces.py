"""What executors tell of runs in traces."""

import asyncio
from collections.abc import Callable

import orjson
import pytest

from innkeeper_engine.model.calls import Call, Op, OpKind
from innkeeper_engine.model.effects import Note, Start
from innkeeper_engine.model.state import RunSummary
from innkeeper_engine.store.store import Store
from innkeeper_engine.tracing import Span, Tracer, derived_span_id, in_run
from innkeeper_executor.tracing import RunTraces
from tests.executor.house import ENV, House, failure, function, ops, output, soon

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
SECRET = "what-the-user-sent"


class Told:
    """Spans as they are told."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._more = asyncio.Event()
        self.tracer = Tracer(self._take)

    def _take(self, span: Span) -> None:
        self.spans.append(span)
        self._more.set()

    async def until(self, name: str, seconds: float = 5.0) -> Span:
        """The first span of this name."""

        async def wait() -> Span:
            while True:
                for span in self.spans:
                    if span.name == name:
                        return span
                self._more.clear()
                await self._more.wait()

        return await soon(wait(), seconds)


@pytest.fixture
def told(house: House) -> Told:
    """What executors of the house tell."""
    made = Told()
    house.tracer = made.tracer
    return made


async def send(house: House, name: str, trace: str) -> str:
    """Send an event within a trace; its id."""
    event = house.event(name, {"x": SECRET})
    await house.store.append(ENV, [event], trace=trace)
    return event[0]


def two_requests(step: Op) -> Callable[[Call], object]:
    """An app whose function runs one step, then returns."""
    return lambda call: output(SECRET) if step.id in call.steps else ops(step)


async def test_a_run_its_requests_and_its_steps_are_spans_of_the_senders_trace(
    house: House, told: Told
) -> None:
    """The app hears of its request's span; what users sent and got is in none of them."""
    await house.register(function("f"))
    step = Op(
        id="a" * 40,
        kind=OpKind.STEP_RUN,
        name="a",
        display_name="charge",
        data=orjson.dumps({"data": SECRET}),
    )
    house.driver.scripts["f"] = two_requests(step)  # type: ignore[assignment]
    await house.start_executor()
    event = await send(house, "test/f", SAMPLED)
    run = await told.until("run f")
    (run_id,) = await house.started(event)
    calls = [span for span in told.spans if span.name == "call f"]
    (charge,) = [span for span in told.spans if span.name == "step charge"]
    assert {span.trace_id for span in told.spans} == {TRACE}
    assert (run.parent_id, run.span_id, run.error) == (SPAN, derived_span_id(run_id), False)
    assert run.attributes["innkeeper.run"] == run_id
    assert run.attributes["innkeeper.run.status"] == "Completed"
    assert [span.parent_id for span in calls] == [run.span_id] * 2
    assert [span.attributes["http.response.status_code"] for span in calls] == [206, 200]
    assert [call.traceparent for call in house.driver.calls] == [
        f"00-{TRACE}-{span.span_id}-01" for span in calls
    ]
    assert (charge.parent_id, charge.attributes["innkeeper.op"]) == (calls[0].span_id, "StepRun")
    assert calls[0].start_ns <= charge.start_ns <= charge.end_ns <= calls[0].end_ns
    assert SECRET not in repr(told.spans)


async def test_of_what_the_sender_did_not_sample_only_the_app_hears(house: House, told: Told) -> None:
    """Parent-based: its decision holds here and is passed on."""
    await house.register(function("f"))
    house.driver.scripts["f"] = lambda _: output()
    await house.start_executor()
    (run,) = [await send(house, "test/f", UNSAMPLED)]
    await house.so_many_ended(1)
    assert [call.traceparent for call in house.driver.calls] == [UNSAMPLED]
    await house.send("test/f")
    await house.so_many_ended(2)
    assert house.driver.calls[-1].traceparent == ""
    assert told.spans == []
    assert run


async def test_a_cancelled_run_has_its_span(house: House, told: Told) -> None:
    """Whoever ended it: the recorder knows."""
    await house.register(function("f"))
    await house.start_executor()
    await send(house, "test/f", SAMPLED)
    request = await house.driver.arrival()
    await house.cancel(request.call.run_id, orjson.dumps({"t": 1, "type": "cancelled", "why": "api"}))
    run = await told.until("run f")
    assert run.attributes["innkeeper.run.status"] == "Cancelled"
    assert run.span_id == derived_span_id(request.call.run_id)


async def test_failed_requests_and_runs_say_so_by_the_name_of_the_error_alone(
    house: House, told: Told
) -> None:
    """Its message may hold anything. The event of the failure is under the run's span, by the same derivation."""
    await house.register(function("f", retries=0))
    house.driver.scripts["f"] = lambda _: failure(SECRET)
    await house.start_executor()
    event = await send(house, "test/f", SAMPLED)
    run = await told.until("run f")
    (call,) = [span for span in told.spans if span.name == "call f"]
    assert (run.error, call.error, call.attributes["error.type"]) == (True, True, "Error")
    assert SECRET not in repr(told.spans)
    (run_id,) = await house.started(event)
    summary = await house.store.run(run_id)
    assert summary is not None
    assert summary.trace == SAMPLED
    head = [
        value
        for key in await house.store.command("KEYS", house.store.key(f"ev:{ENV}:*"))
        for value in [bytes(await house.store.command("GET", key)).partition(b"\n")]
        if b"inngest/function.failed" in value[2]
    ]
    assert [each[0].split(b" ")[2].decode() for each in head] == [in_run(SAMPLED, run_id)]


async def test_an_invoked_function_runs_under_the_run_that_invoked_it(house: House, told: Told) -> None:
    """Across the event that lies between them."""
    await house.register(function("f"), function("g"))
    invoke = Op(id="b" * 40, kind=OpKind.INVOKE_FUNCTION, name="g", opts={"function_id": "g", "payload": {}})
    house.driver.scripts["f"] = two_requests(invoke)  # type: ignore[assignment]
    house.driver.scripts["g"] = lambda _: output(1)
    await house.start_executor()
    await send(house, "test/f", SAMPLED)
    inner, outer = await told.until("run g"), await told.until("run f")
    assert inner.parent_id == outer.span_id
    assert {span.trace_id for span in told.spans} == {TRACE}


def test_a_run_that_begins_by_itself_begins_a_trace() -> None:
    """As that of a cron; other effects stay as they are."""
    start = Start("r", "e", "e/f", b'"f"', "app", (), "p", "p", 1.0, 0)
    note = Note("r", b"{}")
    traced, same = RunTraces(Tracer(lambda _: None, ratio=1.0)).rooted([start, note])
    assert isinstance(traced, Start)
    assert traced.trace.endswith(f"-{'0' * 16}-01")
    assert same is note
    unsampled = RunTraces(Tracer(lambda _: None, ratio=0.0)).rooted([start])
    assert unsampled == [start]
    assert RunTraces(None).rooted([start]) == [start]


async def test_of_what_is_cancelled_only_sampled_runs_are_read_and_told(
    house: House, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing else asks for each run's end."""
    await house.register(function("f"))
    hand = house.hand()
    events = [await send(house, "test/f", trace) for trace in (UNSAMPLED, SAMPLED)]
    await hand.route_all()
    runs = [run for event_id in events for run in await house.started(event_id)]
    for run in runs:
        await house.cancel(run, orjson.dumps({"t": 1, "type": "cancelled", "why": "api"}))
    executor = house.executor(on_run=False)
    read: list[str] = []

    async def reading(run_id: str) -> RunSummary | None:
        read.append(run_id)
        return await Store.run(executor.store, run_id)

    monkeypatch.setattr(executor.store, "run", reading)
    await executor.start()
    span = await told.until("run f")
    assert span.span_id == derived_span_id(runs[1])
    assert read == [runs[1]]
    assert len(told.spans) == 1
