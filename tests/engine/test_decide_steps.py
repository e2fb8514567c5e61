"""What each operation of an answer asks for: sleeps, waits, invokes, signals, requests in the app's place."""

from typing import Any

import msgspec
import orjson
import pytest

from innkeeper_engine.cel import Bound
from innkeeper_engine.decide.respond import respond
from innkeeper_engine.decide.steps import TIMEOUT_ERROR, pause_id
from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.effects import Effect, Emit, Finish, Note, Plan, Save, Wait
from tests.engine.model_decide import DAY_MS, NOW_MS, context, function, kinds, lease, op, ops, without_notes

SLEEP, WAIT, INVOKE = OpKind.SLEEP, OpKind.WAIT_FOR_EVENT, OpKind.INVOKE_FUNCTION
SIGNAL, FETCH = OpKind.WAIT_FOR_SIGNAL, OpKind.GATEWAY
HOUR_MS = 3_600_000


def only(operation: Op, **surroundings: Any) -> Effect:
    """What a single operation asks for, but for notes."""
    effects = without_notes(respond(lease(), ops(operation), context(**surroundings)))
    assert len(effects) == 1
    return effects[0]


def wait_of(operation: Op, **surroundings: Any) -> Wait:
    """The pause that an operation asks for."""
    effect = only(operation, **surroundings)
    assert isinstance(effect, Wait)
    return effect


def error_of(operation: Op, **surroundings: Any) -> dict[str, Any]:
    """The error with which a step fails at once, for the function to catch."""
    effect = only(operation, **surroundings)
    assert isinstance(effect, Save)
    assert effect.go
    found: dict[str, Any] = orjson.loads(effect.result)["error"]
    return found


def failure_of(operation: Op) -> Finish:
    """The end of the run that an operation leads to."""
    effect = only(operation)
    assert isinstance(effect, Finish)
    return effect


# ---- time


@pytest.mark.parametrize(
    ("operation", "until_ms"),
    [
        (op(SLEEP, name="2s"), NOW_MS + 2_000),
        (op(SLEEP, name="ignored", opts={"duration": "1h30m"}), NOW_MS + 5_400_000),
        (op(SLEEP, name="2025-06-15T15:06:40.250Z"), NOW_MS + 250),
        (op(SLEEP, name="2020-01-01T00:00:00.000Z"), NOW_MS),
        (op(SLEEP, name=""), NOW_MS),
        (op(SLEEP, name="366d"), NOW_MS + 366 * DAY_MS),
    ],
    ids=["duration in the name", "duration as option", "date", "past date", "negative", "longest"],
)
def test_a_sleep_ends_when_it_was_asked_to(operation: Op, until_ms: int) -> None:
    """Its result is null."""
    pause = wait_of(operation)
    assert (pause.kind, pause.deadline_ms, pause.on_timeout) == ("sleep", until_ms, b"null")
    assert (pause.pause, pause.run, pause.step) == ("run.a", "run", "a")


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        (op(SLEEP, name="soon"), "the time to sleep 'soon'"),
        (op(SLEEP, name="367d"), "too long: at most 366 days"),
        (op(WAIT, name="y", opts={"timeout": "5 parsecs"}), "the timeout of waitForEvent '5 parsecs'"),
        (op(SIGNAL, name="s", opts={"timeout": "9999d"}), "the timeout of waitForSignal"),
        (op(WAIT, name="y", opts={"timeout": "367d"}), "too long: at most 366 days"),
        (op(INVOKE, opts={"function_id": "app-fn", "timeout": "367d"}), "too long: at most 366 days"),
        (op(INVOKE, opts={"function_id": "app-fn", "timeout": "x"}), "the timeout of invoke 'x'"),
    ],
)
def test_a_time_that_is_none_fails_the_step(operation: Op, what: str) -> None:
    """With a sentence that says which and why; the function may catch it."""
    found = error_of(operation)
    assert found["name"] == "InvalidDuration"
    assert what in found["message"]


@pytest.mark.parametrize("kind", [WAIT, SIGNAL])
def test_an_empty_timeout_fails_the_step(kind: OpKind) -> None:
    """It is what SDKs make of a text that they cannot read: a wait of "1h " must not end at once, unnoticed."""
    found = error_of(op(kind, name="y", opts={"timeout": ""}))
    assert found["name"] == "InvalidDuration"
    assert "is empty" in found["message"]


def test_a_sleep_of_nothing_is_over_at_once() -> None:
    """SDKs write 0 ms as an empty text."""
    assert wait_of(op(SLEEP, name="")).deadline_ms == NOW_MS


# ---- events


def test_a_wait_is_found_by_its_equality() -> None:
    """With the run's own event put in; the whole condition is kept for the candidates."""
    pause = wait_of(op(WAIT, name="y", opts={"timeout": "1h", "if": "event.data.id == async.data.id"}))
    assert (pause.kind, pause.name, pause.path, pause.value) == ("event", "y", "data.id", '"42"')
    assert (pause.deadline_ms, pause.on_timeout) == (NOW_MS + HOUR_MS, b"null")
    bound = Bound.load(msgspec.json.decode(pause.condition))
    assert bound.matches({"data": {"id": "42"}})
    assert not bound.matches({"data": {"id": "43"}})


def test_a_wait_without_a_condition_is_for_every_event_of_its_name() -> None:
    """The name may be an option."""
    pause = wait_of(op(WAIT, name="ignored", opts={"event": "y", "timeout": "1h"}))
    assert (pause.name, pause.path, pause.value, pause.condition) == ("y", "", "", b"")


def test_a_wait_that_can_never_match_sleeps() -> None:
    """Until its timeout; no event has to look at it."""
    pause = wait_of(
        op(WAIT, name="y", opts={"timeout": "1h", "if": "event.data.id == 'other' && async.data.ok"})
    )
    assert (pause.kind, pause.deadline_ms, pause.on_timeout) == ("sleep", NOW_MS + HOUR_MS, b"null")


def test_an_expression_that_is_none_fails_the_run() -> None:
    """Trying again would ask for the same."""
    done = failure_of(
        op(WAIT, name="y", display_name="approval", opts={"timeout": "1h", "if": "event.data.id =="})
    )
    message = orjson.loads(done.result)["message"]
    assert message.startswith("the expression of waitForEvent 'approval' is not valid: ")
    assert orjson.loads(done.error)["error"] == "InvalidExpression"


# ---- invokes


def invoked(operation: Op, **surroundings: Any) -> tuple[Wait, dict[str, Any]]:
    """The pause of an invoke, and the event that goes with it."""
    pause = wait_of(operation, **surroundings)
    emit = next(effect for effect in pause.then if isinstance(effect, Emit))
    assert (emit.env, emit.name) == ("env", "inngest/function.invoked")
    event: dict[str, Any] = orjson.loads(emit.body)
    assert event["id"] == emit.id
    return pause, event


def test_an_invoke_is_a_pause_and_an_event_in_one() -> None:
    """The event names the pause, so that the end of the run that it starts resolves it."""
    payload = {"data": {"n": 7, "_inngest": "mine"}, "user": {"u": 1}, "v": "2"}
    pause, event = invoked(
        op(INVOKE, display_name="call", opts={"function_id": "app-fn", "payload": payload, "timeout": "5m"})
    )
    assert (pause.kind, pause.name, pause.on_timeout) == ("invoke", "app-fn", TIMEOUT_ERROR)
    assert pause.deadline_ms == NOW_MS + 300_000
    own = {
        "correlation_id": pause_id("run", "a"),
        "expire": NOW_MS + 300_000,
        "fn_id": "app-fn",
        "name": "call",
    }
    assert event == {
        "data": {"n": 7, "_inngest": own},
        "id": event["id"],
        "name": "inngest/function.invoked",
        "ts": NOW_MS,
        "user": {"u": 1},
        "v": "2",
    }


@pytest.mark.parametrize("payload", [{}, {"data": None, "user": None, "v": None}, "text", {"data": [1]}])
def test_an_invoke_without_data_has_some(payload: object) -> None:
    """An event's data is an object."""
    pause, event = invoked(op(INVOKE, opts={"function_id": "app-fn", "payload": payload}))
    assert set(event["data"]) == {"_inngest"}
    assert event["user"] == {}
    assert "v" not in event
    assert pause.deadline_ms == NOW_MS + 365 * DAY_MS


def test_an_invoke_finds_its_function_by_uuid() -> None:
    """As some SDKs name it."""
    surroundings = context(function("app-fn"), function("app-other"))
    wanted = surroundings.registry.functions["app-other"].uuid
    effects = respond(lease(), ops(op(INVOKE, opts={"function_id": wanted})), surroundings)
    pause = next(effect for effect in effects if isinstance(effect, Wait))
    assert pause.name == "app-other"


def test_an_invoke_of_nothing_fails_the_step() -> None:
    """With the words that SDKs know."""
    found = error_of(op(INVOKE, opts={"function_id": "app-none"}))
    assert found == {"message": "could not find function with ID: app-none", "name": "Error"}


def test_an_event_that_is_too_large_invokes_nothing() -> None:
    """It is as large as any event can be allowed to be, and no larger; the function may catch it."""
    payload = {"data": {"text": "x" * (3 << 20)}}
    found = error_of(op(INVOKE, opts={"function_id": "app-fn", "payload": payload}))
    assert found["name"] == "EventTooLarge"
    assert "bytes: at most 3145728 are allowed" in found["message"]
    fits = {"data": {"text": "x" * ((3 << 20) - 1_000)}}
    pause, _ = invoked(op(INVOKE, opts={"function_id": "app-fn", "payload": fits}))
    assert pause.kind == "invoke"


# ---- signals


def test_a_signal_is_waited_for_by_name() -> None:
    """With the option before the name."""
    pause = wait_of(op(SIGNAL, name="no", opts={"signal": "go", "timeout": "20s", "conflict": "replace"}))
    assert (pause.kind, pause.name, pause.conflict) == ("signal", "go", None)
    assert pause.deadline_ms == NOW_MS + 20_000


def test_a_second_waiter_of_a_signal_fails_unless_it_replaces() -> None:
    """The store decides it, so the end comes along."""
    pause = wait_of(op(SIGNAL, opts={"signal": "go", "timeout": "20s"}))
    assert pause.conflict is not None
    done = without_notes(list(pause.conflict))[-1]
    assert isinstance(done, Finish)
    message = orjson.loads(done.result)["message"]
    assert message == "Signal conflict; signal wait already exists for another run: go"


# ---- requests in the app's place


@pytest.mark.parametrize("kind", [OpKind.GATEWAY, OpKind.AI_GATEWAY])
def test_a_fetch_is_an_item_with_its_sealed_request(kind: OpKind) -> None:
    """Its secrets are never in the store in the open."""
    seen: list[Op] = []

    def seal(operation: Op) -> bytes:
        seen.append(operation)
        return b"\x00sealed"

    operation = op(kind, opts={"url": "http://x"})
    assert only(operation, seal=seal) == Plan("run", "a", "f", b"\x00sealed")
    assert seen == [operation]


def test_a_fetch_that_cannot_be_made_fails_the_step() -> None:
    """It says why."""

    def refuse(operation: Op) -> bytes:
        raise ValueError("no url")

    assert error_of(op(FETCH), seal=refuse) == {"message": "no url", "name": "InvalidRequest"}


# ---- history


@pytest.mark.parametrize(
    "operation",
    [
        op(SLEEP, name="1s"),
        op(WAIT, name="y", opts={"timeout": "1h"}),
        op(INVOKE, opts={"function_id": "app-fn"}),
        op(SIGNAL, opts={"signal": "go", "timeout": "1h"}),
    ],
    ids=lambda operation: operation.kind.value,
)
def test_a_pause_is_noted_with_itself(operation: Op) -> None:
    """So that asking for it twice notes it once."""
    effects = respond(lease(), ops(operation), context())
    assert kinds(effects) == ["Wait"]
    pause = without_notes(effects)[0]
    assert isinstance(pause, Wait)
    notes = [orjson.loads(effect.text) for effect in pause.then if isinstance(effect, Note)]
    assert [(line["id"], line["status"], line["op"]) for line in notes] == [
        ("a", "Waiting", operation.kind.value)
    ]
    assert not [effect for effect in effects if isinstance(effect, Note)]
