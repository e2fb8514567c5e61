"""Runs once more: which SDKs take edited input, what history says, which runs a replay means."""

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.wire.canonical import canonical
from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.payloads import edited_input, input_to_send, is_result
from innkeeper_engine.decide.replaying import read_replay, replay_effects, waits_for
from innkeeper_engine.decide.rerunning import Earlier, FromStep, rerun, takes_input
from innkeeper_engine.model.effects import Start
from innkeeper_engine.model.functions import App, FunctionConfig, Trigger
from innkeeper_engine.model.replays import Again, FoundRun, Replay

EVENT = b'{"data":{"n":1},"id":"e","name":"go","ts":1,"user":{}}'


def context(*, paused: bool = False) -> Context:
    """Surroundings in which the function `f` is registered."""
    config = FunctionConfig(
        slug="f", name="f", url="http://a/", triggers=(Trigger(event="go"),), paused=paused
    )
    registry = Registry("default", 1, [App(id="app", url="http://a/", functions=(config,))])
    return Context(
        now_ms=1_000,
        chance=0.0,
        new_id=lambda: "id",
        canonical=canonical,
        seal=lambda op: b"",
        registry=registry,
    )


def again(from_step: FromStep | None) -> Again:
    """What a rerun says of itself."""
    surroundings = context()
    entry = surroundings.registry.functions["f"]
    *_, last = rerun(
        entry, "old", "new", [("e", EVENT)], seq=0, cron="", context=surroundings, from_step=from_step
    )
    assert isinstance(last, Again)
    return last


@pytest.mark.parametrize(
    ("language", "version", "takes"),
    [
        ("js", "v4.24.0", True),
        ("js", "3.26.1", True),
        ("js", "3.27", True),
        ("js", "v4.0.0-beta.2", True),
        ("js", "3.26.0", False),
        ("js", "v3.9.9", False),
        ("js", "", False),
        ("js", "next", False),
        ("py", "9.0.0", False),
        ("", "4.0.0", False),
    ],
)
def test_only_an_sdk_that_knows_edited_input_is_sent_any(language: str, version: str, takes: bool) -> None:
    """Others would take it for a result."""
    assert takes_input(App(id="a", url="http://a/", sdk_language=language, sdk_version=version)) is takes


def test_the_first_request_is_for_the_step_only_where_the_app_runs_it_with_input() -> None:
    """Otherwise the function is called from the top."""
    earlier = (Earlier("a", "A", "StepRun"),)
    plain = again(FromStep("s", earlier))
    run = again(FromStep("s", earlier, "StepRun", [{"b": 1, "a": 2}]))
    model = again(FromStep("s", earlier, "AIGateway", {"b": 1}))
    assert [(each.results, each.target) for each in (plain, run, model)] == [(1, ""), (1, "s"), (1, "")]
    assert (plain.edited, input_to_send({":i": run.edited})) == (b"", {"s": b'{"input":[{"a":2,"b":1}]}'})
    assert input_to_send({":i": model.edited}) == input_to_send({}) == {}
    edited = edited_input({":i": model.edited})
    assert edited is not None
    assert (edited.step, bytes(edited.input)) == ("s", b'{"b":1}')


@given(st.integers(min_value=0, max_value=1_000))
def test_history_names_everything_that_was_taken_over_once(count: int) -> None:
    """However many steps: in notes of which none is long."""
    made = again(FromStep("s", tuple(Earlier(str(n), "", "Sleep") for n in range(count))))
    lines = [orjson.loads(note) for note in made.notes]
    assert [line["type"] for line in lines[:1]] == ["rerun"]
    names = [step[0] for line in lines[1:] for step in line["steps"]]
    assert names == [str(n) for n in range(count)]
    assert all(0 < len(line["steps"]) <= 200 for line in lines[1:])


@pytest.mark.parametrize("field", ["o", "x", ":k", ":i", "e:0", "e:12"])
def test_what_lies_beside_results_is_none(field: str) -> None:
    """No step has such an id."""
    assert not is_result(field)
    assert is_result("0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33")


def replay(**fields: object) -> bytes:
    """A replay as it is written."""
    config = {"id": "R", "slug": "f", "app_id": "app", "function_id": "f", "until_ms": 9, "created_ms": 10}
    return msgspec.json.encode({**config, "statuses": ["Failed"], **fields})


def test_a_replay_makes_the_same_runs_whoever_decides() -> None:
    """Other ones than another replay does; none of what its condition spares or has no event."""
    surroundings = context()
    entry = surroundings.registry.functions["f"]
    runs = [FoundRun(name, "", (("e", EVENT),), 1, 1) for name in ("a", "b")] + [FoundRun("c", "", (), 1, 1)]

    def made(**fields: object) -> tuple[list[str], int, int]:
        compiled = read_replay(replay(**fields))
        assert compiled is not None
        portion = replay_effects(compiled, entry, runs, seq=0, context=surroundings)
        starts = [effect.run for effect in portion.effects if isinstance(effect, Start)]
        return starts, portion.replayed, portion.unavailable

    first = made()
    assert (len(set(first[0])), first[1:]) == (2, (2, 1))
    assert made() == first
    assert not set(made(id="S")[0]) & set(first[0])
    assert made(expression="event.data.n == 2") == ([], 0, 1)
    assert made(expression="event.data.nothing > 1") == ([], 0, 1)


def test_a_replay_that_cannot_be_read_is_no_replay() -> None:
    """Of a later version: its condition, or its shape."""
    assert read_replay(b"{}") is None
    assert read_replay(replay(expression="(")) is None


def test_a_replay_waits_while_nothing_starts() -> None:
    """Gone or paused."""
    assert waits_for(context().registry, "f") == ""
    assert waits_for(context().registry, "g") == "gone"
    assert waits_for(context(paused=True).registry, "f") == "paused"


def test_a_replay_is_written_as_it_is_read() -> None:
    """What is empty is left out."""
    config = msgspec.json.decode(replay(total=3), type=Replay)
    compiled = read_replay(msgspec.json.encode(config))
    assert compiled is not None
    assert compiled.config == config
