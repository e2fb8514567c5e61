"""What holds for every answer, every retry, every request made in the app's place."""

from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.decide.fetches import fetched
from innkeeper_engine.decide.respond import respond
from innkeeper_engine.decide.retries import RetryPolicy
from innkeeper_engine.model.calls import Answer, OpKind
from innkeeper_engine.model.effects import Discover, Finish, Pending, Plan, Retry, Save, Wait
from tests.engine.model_decide import NOW_MS, context, lease, op, without_notes

BOOM = b'{"message":"boom","name":"TypeError"}'
RETRY_MS = NOW_MS + 15_000 + 15_000


# ---- fetches and the policy


def test_a_fetch_that_worked_is_a_result() -> None:
    """In the shape that the step expects."""
    effects = fetched(lease(kind="f", step="a"), b'{"data":{}}', b"", "", 5, context())
    assert without_notes(effects) == [Save("run", "a", b'{"data":{}}', True)]


def test_a_fetch_that_failed_is_tried_again_and_then_an_error() -> None:
    """Which the function may catch."""
    failed = b'{"error":{"message":"m","name":"N"}}'
    effects = fetched(lease(kind="f", step="a"), None, failed, "why", 2, context())
    assert without_notes(effects) == [Retry("run.0", 1, RETRY_MS)]
    effects = fetched(lease(kind="f", step="a", attempt=1), None, failed, "why", 2, context())
    assert without_notes(effects) == [Save("run", "a", failed, True)]


@given(st.integers(0, 20), st.floats(0, 1, exclude_max=True))
def test_retries_back_off_and_never_come_early(attempt: int, chance: float) -> None:
    """Up to 30 s more at random; the last pause repeats."""
    policy = RetryPolicy()
    base = policy.backoff_ms[min(attempt, len(policy.backoff_ms) - 1)]
    at_ms = policy.retry_at_ms(attempt, NOW_MS, chance, None)
    assert NOW_MS + base <= at_ms < NOW_MS + base + 30_000


def test_a_policy_without_pauses_tries_again_at_once() -> None:
    """For tests."""
    assert RetryPolicy(backoff_ms=(), jitter_ms=0).retry_at_ms(3, NOW_MS, 0.9, None) == NOW_MS


# ---- every answer

IDS = st.sampled_from(["a", "b", "c", "d", "e"])
OPTS = st.fixed_dictionaries(
    {},
    optional={
        "timeout": st.sampled_from(["", "1h", "never", "400d", "2020-01-01"]),
        "duration": st.sampled_from(["", "1s", "x"]),
        "if": st.sampled_from(["", "event.data.id == async.data.id", "1 +", "false", "async.data.n > 1"]),
        "event": st.sampled_from(["y", ""]),
        "signal": st.just("go"),
        "conflict": st.sampled_from(["replace", "fail"]),
        "function_id": st.sampled_from(["app-fn", "app-none", ""]),
        "payload": st.sampled_from([{}, {"data": {"n": 1}, "user": {}, "v": "1"}, "text"]),
        "parallelMode": st.sampled_from(["race", "wait"]),
    },
)
JSON = st.sampled_from([b"null", b"1", b"[]", b'{"a":1}'])
OPS = st.builds(
    op,
    st.sampled_from(list(OpKind)),
    IDS,
    name=st.sampled_from(["", "1s", "y"]),
    opts=OPTS,
    data=st.none() | JSON,
    error=st.none() | st.just(BOOM),
)
ANSWERS = st.builds(
    Answer,
    kind=st.sampled_from(["ops", "ops", "ops", "output", "error"]),
    ops=st.lists(OPS, max_size=5).map(tuple),
    output=st.none() | JSON,
    error=st.none() | JSON,
    reason=st.just("why"),
    no_retry=st.sampled_from([None, True, False]),
    retry_at_ms=st.none() | st.integers(NOW_MS - 5, NOW_MS + 5),
    version=st.sampled_from([None, 0, 1, 2]),
)
LEASES = st.builds(
    lease,
    attempt=st.integers(0, 5),
    version=st.sampled_from([-1, 1, 2]),
    plan_only=st.booleans(),
    stack=st.lists(IDS, unique=True, max_size=3).map(tuple),
)


@given(LEASES, ANSWERS)
def test_every_answer_is_followed_by_something(held: object, answer: Answer) -> None:
    """No answer leaves a run that nobody will call again; a group waits for what this answer asks for."""
    effects = respond(held, answer, context())  # type: ignore[arg-type]
    onward = [
        effect
        for effect in effects
        if isinstance(effect, Finish | Retry | Discover | Plan | Wait)
        or (isinstance(effect, Save) and effect.go)
    ]
    assert onward
    assert sum(isinstance(effect, Retry) for effect in effects) <= 1
    assert sum(isinstance(effect, Finish) for effect in effects) <= 1
    if any(isinstance(effect, Finish) for effect in effects):
        assert isinstance(without_notes(effects)[-1], Finish)
        return
    asked = {effect.step for effect in effects if isinstance(effect, Save | Plan | Wait)}
    for effect in effects:
        if isinstance(effect, Pending):
            assert set(effect.steps) <= asked
