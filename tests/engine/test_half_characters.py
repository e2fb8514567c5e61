"""Texts cut through an emoji: JavaScript and Python send half a character, which no UTF-8 can hold."""

from typing import Any

import msgpack
import orjson
import pytest

from innkeeper_apps.wire.canonical import canonical
from innkeeper_apps.wire.response import read_answer
from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.respond import respond
from innkeeper_engine.decide.route import Arrival, start_effects, waiter_queries
from innkeeper_engine.model.clock import RandomIds
from innkeeper_engine.model.decoding import decoded, shown
from innkeeper_engine.model.effects import Effect, Finish, Note, Retry, Save, Start, Wait
from innkeeper_engine.model.functions import App, FunctionConfig, Trigger
from innkeeper_engine.model.state import QueuedEvent
from innkeeper_engine.store.wire import encode_effect
from tests.engine.model_decide import lease

NOW_MS = 1_800_000_000_000
STEP = "a" * 40
HALF = rb"\ud83d"
PAYLOAD = {"e:0": b'{"data":{"x":"\\ud83d"},"name":"go"}'}


def context(*functions: FunctionConfig) -> Context:
    ids = RandomIds()
    app = App(id="app", url="http://app/", functions=functions)
    return Context(
        now_ms=NOW_MS,
        chance=0.0,
        new_id=lambda: ids.ulid(NOW_MS),
        canonical=canonical,
        seal=lambda op: b"sealed",
        registry=Registry("default", 1, [app]),
    )


def answered(status: int, body: bytes, attempt: int = 0) -> list[Effect]:
    """The effects of a response, each such that it can be written and sent to the store."""
    effects = respond(
        lease(attempt=attempt, payload=PAYLOAD),
        read_answer(status, {"x-inngest-sdk": "js:v4"}, body, NOW_MS),
        context(),
    )
    for effect in effects:
        if isinstance(effect, Note):
            orjson.loads(effect.text)
        msgpack.packb(encode_effect(effect), use_bin_type=False)
    return effects


@pytest.mark.parametrize("attempt", [0, 4])
def test_an_error_with_half_a_character_is_an_error_like_others(attempt: int) -> None:
    effects = answered(500, b'{"name":"Error","message":"cut \\ud83d"}', attempt)
    assert any(isinstance(effect, Retry if attempt == 0 else Finish) for effect in effects)


@pytest.mark.parametrize("attempt", [0, 4])
def test_a_failed_step_with_half_a_character_is_retried_then_kept(attempt: int) -> None:
    body = b'[{"id":"%b","op":"StepError","error":{"name":"E","message":"cut \\ud83d"}}]' % STEP.encode()
    effects = answered(206, body, attempt)
    assert any(isinstance(effect, Retry if attempt == 0 else Save) for effect in effects)


def test_a_result_keeps_its_half_character() -> None:
    body = b'[{"id":"%b","op":"StepRun","displayName":"cut \\ud83d","data":"\\ud83d"}]' % STEP.encode()
    (save,) = (effect for effect in answered(206, body) if isinstance(effect, Save))
    assert save.result == b'{"data":"%b"}' % HALF


@pytest.mark.parametrize(
    "op",
    [
        b'"op":"WaitForEvent","name":"cut \\ud83d","opts":{"timeout":"1m"}',
        b'"op":"WaitForEvent","name":"n","opts":{"timeout":"1m","if":"async.data.x == \'\\ud83d\'"}',
        b'"op":"WaitForEvent","name":"n","opts":{"timeout":"1m","if":"event.data.x == async.data.x"}',
        b'"op":"WaitForSignal","opts":{"signal":"\\ud83d","timeout":"1m"}',
    ],
)
def test_waits_for_names_and_values_with_half_a_character(op: bytes) -> None:
    effects = answered(206, b'[{"id":"%b",%b}]' % (STEP.encode(), op))
    (wait,) = (effect for effect in effects if isinstance(effect, Wait))
    f"{wait.name}{wait.path}{wait.value}".encode()


def test_an_event_with_half_a_character_starts_what_it_should() -> None:
    """Also with a condition, with an id of the sender's, and at the time that it names."""
    body = b'{"data":{"x":"\\ud83d"},"id":"mine","name":"go","ts":%d,"user":{}}' % (NOW_MS + 60_000)
    arrival = Arrival(QueuedEvent("0" * 26, "go", 1, NOW_MS, body, ("async.data.x",)))
    function = FunctionConfig(
        slug="app-fn",
        name="fn",
        url="http://app/",
        triggers=(Trigger(event="go", expression="event.data.x != 'no'"),),
    )
    (start,) = start_effects(arrival, context(function))
    assert isinstance(start, Start)
    assert start.due_ms == NOW_MS + 60_000
    assert start.idempotency
    for query in waiter_queries(arrival):
        query.value.encode()


def test_decoded_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        decoded(b"{")


def test_notes_hold_the_beginning_of_a_long_message() -> None:
    """A message may have megabytes; the whole of it is in the payload, not in each line of the history."""
    error: dict[str, Any] = {"name": "N" * 10_000, "message": "m" * 1_000_000}
    notes = [effect for effect in answered(500, orjson.dumps(error)) if isinstance(effect, Note)]
    assert notes
    assert all(len(note.text) < 5_000 for note in notes)
    assert shown("a\ud83db", 2) == "a?"
