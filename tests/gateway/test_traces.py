"""The gateway's part in traces."""

from typing import Any

import pytest

from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.state import RunSummary
from innkeeper_engine.store.connection import StoreUnavailableError
from innkeeper_engine.tracing import Span, Tracer, derived_span_id
from innkeeper_gateway.tracing import CheckpointTraces, current_trace
from tests.gateway.world import World, function

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SECOND_NS = 1_000_000_000


@pytest.fixture
def told(world: World) -> list[Span]:
    """Spans that the gateway tells of; without a sender's trace it samples none."""
    spans: list[Span] = []
    world.app.core.tracer = Tracer(spans.append, ratio=0.0)
    return spans


async def stored_trace(world: World, event_id: str) -> str:
    """What lies with an event."""
    value = bytes(await world.store.command("GET", world.store.key(f"ev:default:{event_id}")))
    head = value.partition(b"\n")[0].split(b" ")
    return head[2].decode() if len(head) > 2 else ""


async def post(world: World, traceparent: str | None, path: str = "/e/secret-key", **body: Any) -> str:
    """Send one event; its id."""
    headers = {} if traceparent is None else {"traceparent": traceparent}
    reply = await world.http.post(path, json={"name": "test/go", **body}, headers=headers)
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    return str(answer["ids"][0] if "ids" in answer else answer["id"])


async def test_a_sampled_send_is_a_span_and_what_it_starts_is_under_it(
    world: World, told: list[Span]
) -> None:
    """Neither its key nor its body is in the span."""
    event = await post(world, f"00-{TRACE}-{SPAN}-01", data={"x": "payload"})
    (span,) = told
    assert (span.trace_id, span.parent_id, span.name, span.kind) == (TRACE, SPAN, "POST /e/{key}", "server")
    assert span.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/e/{key}",
    }
    assert await stored_trace(world, event) == f"00-{TRACE}-{span.span_id}-01"
    assert "secret-key" not in repr(span)
    assert "payload" not in repr(span)
    assert current_trace() == ""


async def test_what_is_not_sampled_costs_nothing_in_the_store(world: World, told: list[Span]) -> None:
    """Unless the sender said so: then its app is told the same."""
    silent = await post(world, None)
    invalid = await post(world, "00-what")
    unsampled = await post(world, f"00-{TRACE}-{SPAN}-00")
    assert [await stored_trace(world, event) for event in (silent, invalid, unsampled)] == [
        "",
        "",
        f"00-{TRACE}-{SPAN}-00",
    ]
    assert told == []


async def test_a_trace_may_begin_here(world: World, told: list[Span]) -> None:
    """With a span of the gateway's own as its first."""
    world.app.core.tracer = Tracer(told.append, ratio=1.0)
    event = await post(world, None)
    (span,) = told
    assert span.parent_id == ""
    assert await stored_trace(world, event) == f"00-{span.trace_id}-{span.span_id}-01"


async def test_invokes_are_in_traces_and_requests_that_read_are_not(world: World, told: list[Span]) -> None:
    """The name is the route's template: an id in it would be one more name for each."""
    await world.register(function("app-f"))
    told.clear()
    event = await post(world, f"00-{TRACE}-{SPAN}-01", "/invoke/app-f", data={})
    assert (await stored_trace(world, event))[:35] == f"00-{TRACE}"
    await world.http.get("/v1/events", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    assert [span.name for span in told] == ["POST /invoke/{slug:path}"]


class _Runs:
    """A store that knows one run, or is away."""

    def __init__(self, run: RunSummary | None) -> None:
        self.run_known, self.asked, self.away = run, 0, False

    async def run(self, run_id: str) -> RunSummary | None:
        """The run."""
        self.asked += 1
        if self.away:
            raise StoreUnavailableError("away")
        return self.run_known


def _run(trace: str) -> RunSummary:
    return RunSummary(
        id="R",
        env="default",
        slug="f",
        app="app",
        status="Running",
        queued_ms=1,
        started_ms=2,
        ended_ms=None,
        event_ids=(),
        cron="",
        trace=trace,
    )


async def test_checkpointed_steps_are_spans_of_their_request() -> None:
    """With the times that the SDK gives, unless they cannot be. The run is asked for its trace once."""
    spans: list[Span] = []
    tracer = Tracer(spans.append, now_ns=lambda: 100 * SECOND_NS)
    runs = _Runs(_run(f"00-{TRACE}-{SPAN}-01"))
    traces = CheckpointTraces(tracer, runs)  # type: ignore[arg-type]
    timed = Op(id="a" * 40, kind=OpKind.STEP_RUN, name="a", timing=(90 * SECOND_NS, 5 * SECOND_NS))
    ahead = Op(id="b" * 40, kind=OpKind.STEP_RUN, name="b", timing=(200 * SECOND_NS, 5 * SECOND_NS))
    planned = Op(id="c" * 40, kind=OpKind.STEP_PLANNED, name="c")
    await traces.took("R", "T", [timed, ahead, planned])
    await traces.took("R", "T", [])
    assert [(span.name, span.start_ns // SECOND_NS, span.end_ns // SECOND_NS) for span in spans] == [
        ("step a", 90, 95),
        ("step b", 100, 100),
    ]
    assert {span.parent_id for span in spans} == {derived_span_id("T")}
    assert runs.asked == 1


@pytest.mark.parametrize("trace", ["", f"00-{TRACE}-{SPAN}-00"])
async def test_nothing_is_told_of_checkpoints_of_other_runs(trace: str) -> None:
    """Nor is anything asked where nothing is told at all, and a store that is away costs the sender nothing."""
    spans: list[Span] = []
    runs = _Runs(_run(trace))
    step = Op(id="a" * 40, kind=OpKind.STEP_RUN, name="a")
    await CheckpointTraces(None, runs).took("R", "T", [step])  # type: ignore[arg-type]
    assert runs.asked == 0
    traces = CheckpointTraces(Tracer(spans.append), runs)  # type: ignore[arg-type]
    runs.away = True
    await traces.took("R", "T", [step])
    runs.away = False
    await traces.took("R", "T", [step])
    assert (spans, runs.asked) == ([], 2)
