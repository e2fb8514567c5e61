"""What events do: whom they cancel, resume and start, or do not start because it is paused."""

import hashlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.route import Arrival, batch_of, start_effects, waiter_effects, waiter_queries
from innkeeper_engine.decide.runs import CANCEL_TIMEOUT_MS
from innkeeper_engine.model.clock import derived_ulid, ulid_ms
from innkeeper_engine.model.effects import Cancel, Effect, Resolve, Resume, Skip, Start
from innkeeper_engine.model.functions import Cancel as CancelRule
from innkeeper_engine.model.functions import FunctionConfig, NewRuns, RunningRuns, Trigger
from innkeeper_engine.model.state import QueuedEvent, Waiter, WaiterQuery
from tests.engine.model_decide import NOW_MS, context, function, queued, registry


def on(name: str, expression: str | None = None) -> Trigger:
    """An event trigger."""
    return Trigger(event=name, expression=expression)


def started(functions: list[FunctionConfig], body: Any = None, name: str = "x") -> list[Start]:
    """The runs that an event starts."""
    effects = start_effects(Arrival(queued(name, body)), context(*functions))
    return [effect for effect in effects if isinstance(effect, Start)]


# ---- starting


def test_an_event_starts_every_function_with_its_name_once() -> None:
    """By exact name or pattern; the first trigger that holds counts."""
    functions = [
        function("app-exact", triggers=(on("a/b"), on("a/*"))),
        function("app-pattern", triggers=(on("a/*"),)),
        function("app-other", triggers=(on("b"),)),
    ]
    assert {start.fn for start in started(functions, name="a/b")} == {"env/app-exact", "env/app-pattern"}
    assert [start.fn for start in started(functions, name="a/c")].count("env/app-exact") == 1


def test_a_trigger_counts_where_its_expression_is_true() -> None:
    """Any other value, and an error, is no match; a later trigger of the function may be."""
    functions = [
        function("app-one", triggers=(on("x", "event.data.n > 1"),)),
        function("app-two", triggers=(on("x", "event.data.none.none == 1"), on("x", "event.data.n == 2"))),
        function("app-three", triggers=(on("x", "event.data.n"),)),
    ]
    assert [start.fn for start in started(functions, {"data": {"n": 2}})] == ["env/app-one", "env/app-two"]


def test_a_run_is_what_its_event_and_function_make_it() -> None:
    """Decided twice it is the same run; its id tells when the event came."""
    found = [started([function(triggers=(on("x"),))])[0] for _ in range(2)]
    assert found[0] == found[1]
    run = found[0]
    assert run.run == derived_ulid(NOW_MS, "event", queued().id, "env/app-fn")
    assert ulid_ms(run.run) == NOW_MS
    assert (run.env, run.fn, run.slug_json, run.app) == ("env", "env/app-fn", b'"app-fn"', "app")
    assert (run.start_partition, run.step_partition) == ("env/app-fn\x01s", "env/app-fn\x01t")
    assert (run.events, run.order, run.due_ms, run.parent, run.announces) == (
        ((queued().id, b""),),
        NOW_MS,
        0,
        "",
        True,
    )


def test_two_functions_of_an_event_have_two_runs() -> None:
    """With ids of their own."""
    found = started([function("app-a", triggers=(on("x"),)), function("app-b", triggers=(on("x"),))])
    assert len({start.run for start in found}) == 2


@pytest.mark.parametrize(
    ("body", "due_ms"),
    [
        ({"ts": NOW_MS + 1}, NOW_MS + 1),
        ({"ts": NOW_MS + 1.5}, NOW_MS + 1),
        ({"ts": NOW_MS}, 0),
        ({"ts": 1}, 0),
        ({"ts": "later"}, 0),
        ({}, 0),
    ],
)
def test_an_event_of_the_future_starts_then(body: dict[str, Any], due_ms: int) -> None:
    """The run exists at once."""
    assert started([function(triggers=(on("x"),))], body)[0].due_ms == due_ms


def test_an_id_of_the_sender_s_starts_a_function_once_in_a_day() -> None:
    """The id that the server gave does not count, it cannot come twice."""
    functions = [function("app-a", triggers=(on("x"),)), function("app-b", triggers=(on("x"),))]
    one, two = started(functions, {"id": "order-7"})
    digest = hashlib.sha256(b"order-7").hexdigest()[:32]
    assert (one.idempotency, two.idempotency) == (f"env/app-a:{digest}", f"env/app-b:{digest}")
    assert started(functions, {"id": queued().id})[0].idempotency == ""
    assert started(functions, {"id": 7})[0].idempotency == ""


@pytest.mark.parametrize(
    "name", ["inngest/function.finished", "inngest/function.failed", "inngest/function.cancelled"]
)
def test_a_handler_of_ends_does_not_announce_its_own(name: str) -> None:
    """It would start itself again for ever."""
    found = started([function(triggers=(on(name),))], {"name": name}, name)
    assert [start.announces for start in found] == [False]


def invoked(**own: Any) -> list[Effect]:
    """What an invoking event does."""
    body = {"data": {"_inngest": own}, "id": queued().id, "name": "inngest/function.invoked"}
    return start_effects(Arrival(queued("inngest/function.invoked", body)), context(function()))


def test_an_invoking_event_starts_its_function_alone() -> None:
    """Whose end resolves the pause that the event names."""
    found = invoked(fn_id="app-fn", correlation_id="run.step")
    assert [(start.fn, start.parent, start.idempotency) for start in found if isinstance(start, Start)] == [
        ("env/app-fn", "run.step", "")
    ]
    by_uuid = invoked(fn_id=registry().functions["app-fn"].uuid)
    assert [(start.fn, start.parent) for start in by_uuid if isinstance(start, Start)] == [("env/app-fn", "")]


def test_an_invoking_step_is_never_taken_for_a_repeated_event() -> None:
    """It would wait for a run that nobody makes. Whoever invokes from outside may choose an id, as for any event."""
    for correlation, is_once in (("run.step", False), ("", True)):
        own = {"fn_id": "app-fn", "correlation_id": correlation}
        body = {"data": {"_inngest": own}, "id": "mine", "name": "inngest/function.invoked"}
        (start,) = start_effects(Arrival(queued("inngest/function.invoked", body)), context(function()))
        assert isinstance(start, Start)
        assert bool(start.idempotency) is is_once


def test_an_invoke_of_a_function_that_is_gone_is_answered() -> None:
    """Its caller would wait for a year."""
    assert invoked(fn_id="app-gone", correlation_id="run.step") == [
        Resolve(
            "run.step", b'{"error":{"message":"could not find function with ID: app-gone","name":"Error"}}'
        )
    ]
    assert invoked(fn_id="app-gone") == []
    assert invoked() == []


@pytest.mark.parametrize("body", [b"", b"not json", b"[1]", b"null", b'{"data":'])
def test_no_event_stops_the_cursor(body: bytes) -> None:
    """One that expired meets nobody; one that is no object has no fields."""
    functions = [function(triggers=(on("x"), on("inngest/function.invoked")))]
    for name in ("x", "inngest/function.invoked"):
        arrival = Arrival(queued(name, body, paths=("", "data.id")))
        starts = start_effects(arrival, context(*functions))
        queries = waiter_queries(arrival)
        assert (
            waiter_effects(arrival, [Waiter("p", "run", "a", "event", b"")] if queries else [], context())
            or not body
        )
        if not body:
            assert (starts, queries) == ([], [])


# ---- cancellation rules of a run


def cancels_of(*rules: CancelRule, body: Any = None) -> tuple[Any, ...]:
    """The rules of a run of a function that has these."""
    return started([function(triggers=(on("x"),), cancel=rules)], body)[0].cancels


def test_a_rule_holds_for_events_after_the_run_s_own() -> None:
    """For a year, or as long as it says."""
    plain, timed = cancels_of(CancelRule(event="stop"), CancelRule(event="halt", timeout_ms=1_000))
    assert (plain.event, plain.after, plain.deadline_ms) == ("stop", 5, NOW_MS + CANCEL_TIMEOUT_MS)
    assert (plain.path, plain.value, plain.condition) == ("", "", b"")
    assert (timed.event, timed.deadline_ms) == ("halt", NOW_MS + 1_000)
    assert plain.pause != timed.pause


def test_a_rule_s_time_begins_when_the_run_does() -> None:
    """Not when an event of the future came."""
    rule = cancels_of(CancelRule(event="stop", timeout_ms=1_000), body={"ts": NOW_MS + 500})[0]
    assert rule.deadline_ms == NOW_MS + 1_500


def test_a_rule_is_bound_to_the_run_s_event() -> None:
    """What cannot match is left out."""
    expression = "event.data.id == async.data.id"
    rule = cancels_of(CancelRule(event="stop", expression=expression), body={"data": {"id": "7"}})[0]
    assert (rule.path, rule.value) == ("data.id", '"7"')
    waiter = Waiter(rule.pause, "run", "", "cancel", rule.condition)
    for value, hit in (("7", True), ("8", False)):
        arrival = Arrival(queued("stop", {"data": {"id": value}}))
        assert bool(waiter_effects(arrival, [waiter], context())) is hit
    never = CancelRule(event="stop", expression="event.data.id == 'other' && async.data.ok")
    assert cancels_of(never, body={"data": {"id": "7"}}) == ()


# ---- who waits


def test_an_event_asks_for_those_who_wait_for_what_it_has() -> None:
    """By every path that somebody waits at, where it has a value; the empty path is for all."""
    arrival = Arrival(queued("y", {"data": {"id": "7"}}, paths=("data.id", "data.none", "")))
    assert waiter_queries(arrival) == [WaiterQuery("y", "", "", 5), WaiterQuery("y", "data.id", '"7"', 5)]
    assert waiter_queries(Arrival(queued("y"))) == []


def test_an_event_cancels_before_it_resumes() -> None:
    """A run that both waits for it and is cancelled by it ends."""
    waiters = [Waiter("r1.w", "r1", "w", "event", b""), Waiter("r1.c0", "r1", "", "cancel", b"")]
    found = waiter_effects(Arrival(queued("y")), waiters, context())
    assert [type(effect) for effect in found] == [Cancel, Resume]
    cancel, resume = found
    assert isinstance(cancel, Cancel)
    assert (cancel.run, cancel.pause) == ("r1", "r1.c0")
    assert orjson.loads(cancel.note)["why"] == "event"
    assert resume == Resume("r1.w", "env", queued().id)


# ---- batches


def batch(names: list[str], *functions: FunctionConfig) -> int:
    """How many of these events go together."""
    return batch_of([Arrival(queued(name, seq=n)) for n, name in enumerate(names)], registry(*functions))


def test_a_batch_ends_before_what_cancels_a_run_of_it() -> None:
    """The run's rule is in the store only when the batch is."""
    cancelled = function("app-a", triggers=(on("start"),), cancel=(CancelRule(event="stop"),))
    assert batch(["start", "y", "stop", "start"], cancelled) == 2
    assert batch(["stop", "start", "start"], cancelled) == 3
    assert batch(["y"] * 5, cancelled) == 5
    assert batch([], cancelled) == 0


def test_a_batch_ends_before_what_cancels_an_invoked_run() -> None:
    """Which function is invoked is not in the name."""
    cancelled = function("app-a", cancel=(CancelRule(event="stop"),))
    assert batch(["inngest/function.invoked", "stop"], cancelled) == 1


NAMES = st.sampled_from(["a", "b", "c", "inngest/function.invoked"])


@given(
    st.lists(NAMES, max_size=12),
    st.lists(st.tuples(NAMES, st.lists(st.sampled_from("abc"), max_size=2)), min_size=1, max_size=3),
)
def test_a_batch_is_as_long_as_it_may_be(names: list[str], rules: list[tuple[str, list[str]]]) -> None:
    """No event in it cancels a run that one before it may start; the next one would, and there is always progress."""
    functions = [
        function(f"app-{n}", triggers=(on(name),), cancel=tuple(CancelRule(event=event) for event in cancels))
        for n, (name, cancels) in enumerate(rules)
    ]

    def cancelling(name: str) -> set[str]:
        invoked = name == "inngest/function.invoked"
        return {event for trigger, cancels in rules if trigger == name or invoked for event in cancels}

    length = batch(names, *functions)
    clashes = [any(names[n] in cancelling(before) for before in names[:n]) for n in range(len(names))]
    assert not any(clashes[:length])
    assert length == len(names) or clashes[length]
    assert length > 0 or not names


# ---- pauses, and apps that go


def paused(new_runs: NewRuns, running: RunningRuns = "Continue") -> FunctionConfig:
    """A paused function with a trigger and a cancellation rule."""
    return function(
        triggers=(on("x"),),
        cancel=(CancelRule(event="stop"),),
        paused=True,
        new_runs=new_runs,
        running=running,
    )


def effects_of(event: QueuedEvent, config: FunctionConfig, **app: Any) -> list[Effect]:
    """What an event starts where the function's app is as told."""
    return start_effects(Arrival(event), context(registry=registry(config, **app)))


def test_a_run_of_a_paused_function_is_skipped() -> None:
    """It is recorded under the id that it would have had; the repeated event of a sender stays one."""
    event = queued("x", {"data": {}, "id": "mine", "name": "x"})
    (start,) = effects_of(event, function(triggers=(on("x"),)))
    (skip,) = effects_of(event, paused("Skip"))
    assert isinstance(start, Start)
    assert isinstance(skip, Skip)
    assert (skip.run, skip.env, skip.fn, skip.app) == (start.run, start.env, start.fn, start.app)
    assert skip.events == (event.id,)
    assert skip.idempotency == start.idempotency != ""
    assert orjson.loads(skip.note) == {"t": NOW_MS, "type": "skipped", "why": "paused"}
    assert (skip.parent, skip.cron) == ("", "")


@pytest.mark.parametrize("running", ["Continue", "Hold"])
def test_a_run_of_a_paused_function_waits_where_that_is_wanted(running: RunningRuns) -> None:
    """It begins as ever: its queue is held."""
    (start,) = effects_of(queued("x"), paused("Queue", running))
    assert isinstance(start, Start)
    assert start.cancels != ()


@pytest.mark.parametrize("new_runs", ["Skip", "Queue"])
def test_in_a_paused_app_everything_waits(new_runs: NewRuns) -> None:
    """Also what its functions would skip: nobody wanted these runs away."""
    (start,) = effects_of(queued("x"), paused(new_runs), paused=True)
    assert isinstance(start, Start)


def invoking(correlation: str = "") -> QueuedEvent:
    """An event that invokes `app-fn`."""
    own = {"fn_id": "app-fn", **({"correlation_id": correlation} if correlation else {})}
    return queued("inngest/function.invoked", {"data": {"_inngest": own}, "name": "inngest/function.invoked"})


def test_who_invokes_a_paused_function_gets_an_error() -> None:
    """With the record of the skipped run, so that a run that began before the pause never answers twice."""
    (skip,) = effects_of(invoking("parent.step"), paused("Skip"))
    assert isinstance(skip, Skip)
    assert skip.parent == "parent.step"
    assert orjson.loads(skip.reply) == {"error": {"message": "invoked function is paused", "name": "Error"}}
    (alone,) = effects_of(invoking(), paused("Skip"))
    assert isinstance(alone, Skip)
    assert alone.parent == ""


@pytest.mark.parametrize("app", [{}, {"paused": True}])
def test_nothing_starts_in_an_app_that_is_about_to_go(app: dict[str, bool]) -> None:
    """Who invokes one of its functions is told what he is told of a function that does not exist."""
    config = function(triggers=(on("x"), Trigger(cron="* * * * *")), cancel=(CancelRule(event="stop"),))
    assert effects_of(queued("x"), config, draining=True, **app) == []
    assert effects_of(invoking(), config, draining=True, **app) == []
    (resolve,) = effects_of(invoking("parent.step"), config, draining=True, **app)
    assert isinstance(resolve, Resolve)
    assert orjson.loads(resolve.result)["error"]["message"] == "could not find function with ID: app-fn"


def test_an_app_that_is_about_to_go_still_has_its_functions() -> None:
    """They are called for the runs that go on, and cancelled by events; its triggers and crons are gone."""
    ended = Trigger(event="inngest/function.failed")
    cancel = CancelRule(event="inngest/function.cancelled")
    config = function(triggers=(ended, Trigger(cron="* * * * *")), cancel=(cancel,))
    found = registry(config, draining=True)
    assert list(found.functions) == ["app-fn"]
    assert found.crons == {}
    assert found.triggered_by("inngest/function.failed") == []
    assert found.heard() == ["inngest/function.cancelled"]
    assert found.invocable("app-fn") is found.invocable(found.functions["app-fn"].uuid) is None
    there = registry(config)
    assert there.invocable("app-fn") is there.invocable(there.functions["app-fn"].uuid) is not None


# ---- the registry


def test_what_does_not_compile_any_more_never_fires() -> None:
    """Another version wrote it; the rest of the function goes on."""
    broken = function(
        triggers=(on("x", "event.data.n >"), on("y"), Trigger(cron="61 * * * *"), Trigger(cron="* * * * *")),
        cancel=(CancelRule(event="stop", expression="1 +"), CancelRule(event="halt")),
    )
    assert started([broken]) == []
    found = started([broken], name="y")
    assert [rule.event for rule in found[0].cancels] == ["halt"]
    assert list(registry(broken).crons) == ["env/app-fn#* * * * *"]


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("inngest/function.failed", ["inngest/function.failed"]),
        ("inngest/*", [f"inngest/function.{end}" for end in ("finished", "failed", "cancelled", "invoked")]),
        ("order/paid", []),
    ],
)
def test_the_engine_knows_which_of_its_events_are_heard(pattern: str, heard: list[str]) -> None:
    """Others need not be sent."""
    assert registry(function(triggers=(on(pattern),))).heard() == heard


def test_names_from_outside_do_not_fill_the_memory() -> None:
    """What was found for a name is forgotten when there are many."""
    found = Registry("env", 1, [])
    for n in range(25_000):
        assert found.triggered_by(f"name-{n}") == []
    assert len(found._by_name) <= 10_001
