"""What an app's answer means, row by row."""

import pytest
import rfc8785

from innkeeper_engine.decide.context import Limits
from innkeeper_engine.decide.respond import attempts_of, respond
from innkeeper_engine.model.calls import Answer, Op, OpKind
from innkeeper_engine.model.effects import Discover, Effect, Finish, Mode, Pending, Plan, Retry, Save
from tests.engine.model_decide import NOW_MS, context, error, function, kinds, lease, op, ops, without_notes

RUN, PLANNED, ERROR, FAILED = OpKind.STEP_RUN, OpKind.STEP_PLANNED, OpKind.STEP_ERROR, OpKind.STEP_FAILED
SLEEP, WAIT, COMPLETE = OpKind.SLEEP, OpKind.WAIT_FOR_EVENT, OpKind.RUN_COMPLETE
BOOM = b'{"message":"boom","name":"TypeError"}'
RETRY_MS = NOW_MS + 15_000 + 15_000
"""The first retry: 15 s, and half of the 30 s of jitter."""


def finish_of(effects: list[Effect]) -> Finish:
    """The end of the run, which must be the last thing that happens."""
    last = without_notes(effects)[-1]
    assert isinstance(last, Finish)
    return last


# ---- whole answers


def test_an_output_completes_the_run() -> None:
    """Whoever invoked it gets it as data."""
    done = finish_of(respond(lease(), Answer(kind="output", output=b'{"n":[]}', status=200), context()))
    assert (done.status, done.output, done.reply) == ("Completed", b'{"n":[]}', b'{"data":{"n":[]}}')
    assert (done.error, done.result) == (b"", b"")
    assert len(set(done.ids)) == 2


def test_no_output_is_null() -> None:
    """A function that returns nothing."""
    assert finish_of(respond(lease(), Answer(kind="output", status=200), context())).output == b"null"


@pytest.mark.parametrize("no_retry", [None, False])
def test_an_error_is_tried_again(no_retry: bool | None) -> None:
    """The same item, one attempt later, after the backoff."""
    effects = respond(lease(attempt=0), error(no_retry=no_retry), context())
    assert without_notes(effects) == [Retry("run.0", 1, RETRY_MS)]


def test_an_error_that_asks_for_a_time_gets_it() -> None:
    """Retry-After wins over the backoff; the past is now."""
    assert without_notes(respond(lease(), error(retry_at_ms=NOW_MS + 7), context())) == [
        Retry("run.0", 1, NOW_MS + 7)
    ]
    assert without_notes(respond(lease(), error(retry_at_ms=NOW_MS - 7), context())) == [
        Retry("run.0", 1, NOW_MS)
    ]


@pytest.mark.parametrize(
    ("answer", "attempt", "reason"),
    [
        (error(no_retry=True), 0, "NonRetriableError"),
        (error(), 4, "invalid status code: 500"),
        (error(retry_at_ms=NOW_MS + 7), 4, "invalid status code: 500"),
        (Answer(kind="output", output=BOOM, no_retry=True, status=200), 0, "NonRetriableError"),
    ],
    ids=["no retry", "last attempt", "last attempt asks for more", "output with no retry"],
)
def test_an_error_that_is_final_fails_the_run(answer: Answer, attempt: int, reason: str) -> None:
    """Events and invokers get the server's reason beside the SDK's error; the header wins over the status."""
    done = finish_of(respond(lease(attempt=attempt), answer, context()))
    told = rfc8785.dumps({"__serialized": True, "error": reason, "message": "boom", "name": "TypeError"})
    assert (done.status, done.error, done.result) == ("Failed", told, BOOM)
    assert done.reply == b'{"error":%b}' % told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"name": "E", "message": "m", "stack": "s", "code": "c", "__serialized": True}, {"stack": "s"}),
        (
            {"name": "E", "message": "m", "data": [1], "cause": {"name": "C"}},
            {"data": [1], "cause": {"name": "C"}},
        ),
        ({"name": "E", "message": "m", "stack": None}, {}),
    ],
)
def test_of_an_error_others_see_five_keys(raw: dict[str, object], told: dict[str, object]) -> None:
    """The run itself keeps all of what the SDK sent."""
    done = finish_of(respond(lease(), error(raw=raw, no_retry=True), context()))
    expected: dict[str, object] = {
        "__serialized": True,
        "error": "NonRetriableError",
        "message": "m",
        "name": "E",
    }
    assert done.error == rfc8785.dumps(expected | told)  # type: ignore[arg-type]
    assert done.result == rfc8785.dumps(raw)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "name", "message"),
    [
        ("just text", "Error", "just text"),
        (7, "Error", "why"),
        ({}, "Error", "why"),
        ({"name": "E"}, "E", "why"),
    ],
)
def test_an_error_has_a_name_and_a_message(raw: object, name: str, message: str) -> None:
    """Whatever the SDK sent."""
    done = finish_of(respond(lease(), error("why", raw=raw, no_retry=True), context()))
    assert done.result == rfc8785.dumps({"message": message, "name": name})


def test_attempts_are_those_of_the_registration() -> None:
    """Of the run's start where the function is gone."""
    assert attempts_of(lease(retries=4), context(function(retries=1))) == 2
    assert attempts_of(lease(slug="gone", retries=7), context()) == 8
    final = respond(lease(attempt=1), error(), context(function(retries=1)))
    assert finish_of(final).status == "Failed"


# ---- single operations


def test_a_step_s_result_goes_on() -> None:
    """The next discovery comes with it."""
    assert without_notes(respond(lease(), ops(op(RUN, data=b"[]")), context())) == [
        Save("run", "a", b'{"data":[]}', True)
    ]


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        (op(RUN, data=b"null"), b'{"data":null}'),
        (op(RUN), b'{"data":null}'),
        (op(OpKind.STEP, data=b'{"data":1}'), b'{"data":1}'),
        (op(FAILED, error=BOOM), b'{"error":%b}' % BOOM),
        (op(FAILED), b'{"error":{"message":"the step failed","name":"Error"}}'),
    ],
)
def test_results_are_kept_as_they_are_sent(operation: Op, result: bytes) -> None:
    """Wrapped, but for the legacy operation that is wrapped already."""
    assert without_notes(respond(lease(), ops(operation), context())) == [Save("run", "a", result, True)]


def test_a_step_that_failed_is_tried_again() -> None:
    """With the request that ran it; Retry-After counts here, too."""
    effects = respond(lease(attempt=1), ops(op(ERROR, error=BOOM)), context())
    assert without_notes(effects) == [Retry("run.0", 2, NOW_MS + 30_000 + 15_000)]
    effects = respond(lease(), ops(op(ERROR, error=BOOM), retry_at_ms=NOW_MS + 5), context())
    assert without_notes(effects) == [Retry("run.0", 1, NOW_MS + 5)]


@pytest.mark.parametrize(
    ("answer", "attempt"),
    [
        (ops(op(ERROR, error=BOOM), no_retry=True), 0),
        (ops(op(ERROR, error=BOOM)), 4),
        (ops(op(FAILED, error=BOOM), no_retry=False), 0),
    ],
    ids=["no retry", "last attempt", "failed, whatever the header"],
)
def test_a_step_that_failed_for_good_can_be_caught(answer: Answer, attempt: int) -> None:
    """Its error is its result; the run goes on."""
    effects = respond(lease(attempt=attempt), answer, context())
    assert without_notes(effects) == [Save("run", "a", b'{"error":%b}' % BOOM, True)]


def test_results_beside_a_failed_step_are_kept_for_the_retry() -> None:
    """They do not call the function: the same request comes again."""
    answer = ops(
        op(RUN, "a", data=b"1"), op(PLANNED, "b"), op(ERROR, "c", error=BOOM), op(ERROR, "d", error=BOOM)
    )
    effects = without_notes(respond(lease(plan_only=True), answer, context()))
    assert effects == [
        Pending("run", ("b",)),
        Save("run", "a", b'{"data":1}', False),
        Plan("run", "b"),
        Retry("run.0", 1, RETRY_MS),
    ]


def test_a_run_that_ends_beside_a_failed_step_is_not_retried() -> None:
    """An expression that is wrong is wrong next time as well."""
    bad = op(WAIT, "w", name="y", opts={"timeout": "1h", "if": "1 +"})
    effects = respond(lease(), ops(op(ERROR, error=BOOM), bad, op(RUN, "z", data=b"1")), context())
    assert kinds(effects) == ["Mode", "Finish"]


@pytest.mark.parametrize(
    "answer", [ops(), ops(Op(id="", kind=OpKind.NONE)), ops(op(OpKind.DISCOVERY_REQUEST))]
)
def test_an_answer_that_asks_for_nothing_is_followed_by_a_call(answer: Answer) -> None:
    """One discovery."""
    assert without_notes(respond(lease(), answer, context())) == [Discover("run")]


def test_a_run_completes_by_operation() -> None:
    """After the results that came before it."""
    effects = without_notes(
        respond(lease(), ops(op(RUN, data=b"1"), op(COMPLETE, "c", data=b'"done"')), context())
    )
    assert effects[0] == Save("run", "a", b'{"data":1}', False)
    assert finish_of(effects).output == b'"done"'
    assert len(effects) == 2


def test_nothing_comes_after_the_end() -> None:
    """What an SDK still lists behind it is of a run that is over."""
    effects = respond(lease(), ops(op(COMPLETE, "c"), op(PLANNED, "a"), op(RUN, "b")), context())
    assert kinds(effects)[-1] == "Finish"
    assert not {"Plan", "Save"} & set(kinds(effects))


# ---- parallel


def test_the_version_is_stored_with_the_first_operations() -> None:
    """Once."""
    assert without_notes(respond(lease(version=-1), ops(op(PLANNED)), context())) == [
        Mode("run", 2),
        Plan("run", "a"),
    ]
    assert kinds(respond(lease(version=-1), ops(op(PLANNED), version=None), context())) == ["Plan"]
    assert kinds(respond(lease(version=-1), error(version=2), context())) == ["Retry"]


def test_several_operations_make_the_run_plan_only() -> None:
    """Also where the version is known already."""
    effects = without_notes(respond(lease(), ops(op(PLANNED, "a"), op(PLANNED, "b")), context()))
    assert effects == [Mode("run", 2, "1"), Pending("run", ("a", "b")), Plan("run", "a"), Plan("run", "b")]
    assert kinds(respond(lease(plan_only=True), ops(op(PLANNED, "a"), op(PLANNED, "b")), context())) == [
        "Pending",
        "Plan",
        "Plan",
    ]


def test_before_version_2_every_step_calls_the_function() -> None:
    """There is no group."""
    effects = without_notes(
        respond(lease(version=1), ops(op(PLANNED, "a"), op(PLANNED, "b"), version=1), context())
    )
    assert effects == [Mode("run", 1, "1"), Plan("run", "a"), Plan("run", "b")]


def test_steps_of_a_race_call_the_function_each() -> None:
    """They are no part of the group."""
    racing = {"parallelMode": "race"}
    answer = ops(op(PLANNED, "a", opts=racing), op(PLANNED, "b", opts=racing), op(PLANNED, "c"))
    assert Pending("run", ("c",)) in respond(lease(), answer, context())
    all_racing = ops(op(PLANNED, "a", opts=racing), op(PLANNED, "b", opts=racing))
    assert "Pending" not in kinds(respond(lease(), all_racing, context()))


def test_a_group_needs_a_planned_step() -> None:
    """Two sleeps: each of them goes on by itself."""
    answer = ops(op(SLEEP, "a", name="1s"), op(SLEEP, "b", name="2s"))
    assert kinds(respond(lease(), answer, context())) == ["Mode", "Wait", "Wait"]


def test_waits_and_sleeps_are_members_of_a_group() -> None:
    """Results are not: they are there."""
    answer = ops(
        op(RUN, "r", data=b"1"),
        op(PLANNED, "a"),
        op(SLEEP, "s", name="1s"),
        op(WAIT, "w", opts={"timeout": "1s"}),
    )
    effects = respond(lease(), answer, context())
    pending = next(effect for effect in effects if isinstance(effect, Pending))
    assert set(pending.steps) == {"a", "s", "w"}


def test_a_wait_is_there_before_its_siblings() -> None:
    """One of them may send the event that it waits for."""
    answer = ops(op(PLANNED, "a"), op(WAIT, "w", name="y", opts={"timeout": "1h"}))
    assert kinds(respond(lease(plan_only=True), answer, context())) == ["Pending", "Wait", "Plan"]


def test_several_results_are_followed_by_one_call() -> None:
    """When all of them are results."""
    effects = without_notes(respond(lease(), ops(op(RUN, "a"), op(FAILED, "b", error=BOOM)), context()))
    assert [getattr(effect, "go", None) for effect in effects] == [None, False, False, None]
    assert effects[-1] == Discover("run")


# ---- limits


def test_a_run_has_a_thousand_steps() -> None:
    """The thousandth is fine, the next fails the run, however many come in one answer."""
    known = tuple(f"s{n}" for n in range(999))
    assert kinds(respond(lease(stack=known), ops(op(RUN, "one")), context())) == ["Save"]
    for answer in (
        ops(op(RUN, "one"), op(RUN, "two")),
        ops(op(PLANNED, "one"), op(SLEEP, "x2", name="1s", display_name="two")),
    ):
        done = finish_of(respond(lease(stack=known), answer, context()))
        assert b"InngestErrFunctionOverflowed" in done.error
        assert (
            b"step 'two' would be step 1001 of the run; a run has at most 1000 (INNKEEPER_MAX_STEPS"
            in done.result
        )


def test_steps_that_are_known_are_not_counted_again() -> None:
    """A second discovery lists what is done."""
    known = tuple(f"s{n}" for n in range(1_000))
    assert kinds(respond(lease(stack=known), ops(op(RUN, "s7")), context())) == ["Save"]
    assert kinds(respond(lease(stack=known), ops(op(COMPLETE, "c")), context())) == ["Finish"]
    assert kinds(respond(lease(stack=known), ops(), context())) == ["Discover"]


def test_a_run_has_so_much_state() -> None:
    """Up to the byte, and together: two results of one answer do not slip through."""
    fitting = lease(state_bytes=32 * 1024 * 1024 - len(b'{"data":"xx"}'))
    assert kinds(respond(fitting, ops(op(RUN, data=b'"xx"')), context())) == ["Save"]
    for answer in (ops(op(RUN, data=b'"xxx"')), ops(op(RUN, "a", data=b"1"), op(RUN, "b", data=b"2"))):
        done = finish_of(respond(fitting, answer, context()))
        assert b"InngestErrStateOverflowed" in done.error


def test_an_error_that_is_tried_again_is_no_state() -> None:
    """Only what is kept counts."""
    full = lease(state_bytes=99)
    effects = respond(full, ops(op(ERROR, error=BOOM)), context(limits=Limits(state_bytes=100)))
    assert kinds(effects) == ["Retry"]


@pytest.mark.parametrize("bad", ["", "step", "o", "x", "e:0", 'a"b', "a\x01b", "é", "a" * 129])
def test_an_id_that_is_none_is_an_error_of_the_app(bad: str) -> None:
    """It would become part of keys and of events; the request is tried again, then the run fails."""
    answer = ops(op(RUN, "fine"), op(PLANNED, bad))
    assert kinds(respond(lease(), answer, context())) == ["Retry"]
    done = finish_of(respond(lease(attempt=4), answer, context()))
    assert b"a step's id has 1 to 128 letters" in done.result
