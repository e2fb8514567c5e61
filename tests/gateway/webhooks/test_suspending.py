"""A transform that costs its process again and again is not run for a while; nobody else notices."""

import asyncio

import pytest

from innkeeper_apps.sandbox import pool
from innkeeper_apps.sandbox.failures import TransformError
from innkeeper_apps.sandbox.fairness import Lane
from innkeeper_apps.sandbox.pool import Call, Sandbox
from innkeeper_apps.sandbox.suspending import FOR_S, IN_A_ROW, MOST_KNOWN, Suspensions
from tests.gateway.webhooks.conftest import LANE, Failure, MakeSandbox, limits

OTHER = Lane("production", "other")
LOOP = "function transform(evt) { if (evt.loop) while (true) {} return {name: 'a'} }"


class Time:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_after_some_in_a_row_nothing_is_run_until_the_time_is_over() -> None:
    time = Time()
    known = Suspensions(time)
    for _ in range(IN_A_ROW):
        assert known.wait_s(LANE) == 0
        known.failed(LANE)
    assert known.wait_s(LANE) == FOR_S
    assert known.wait_s(OTHER) == 0
    assert not known.try_again(LANE)
    time.now_s += FOR_S
    assert known.wait_s(LANE) == 0
    known.failed(LANE)
    assert known.wait_s(LANE) == FOR_S
    time.now_s += FOR_S
    known.went_well(LANE)
    known.failed(LANE)
    assert known.wait_s(LANE) == 0


def test_one_call_is_tried_while_the_others_are_kept_out() -> None:
    time = Time()
    known = Suspensions(time)
    assert not known.try_again(LANE), "nothing is known about it"
    for _ in range(IN_A_ROW):
        known.failed(LANE)
    time.now_s += FOR_S
    assert known.try_again(LANE)
    assert not known.try_again(LANE)
    assert known.wait_s(LANE) == FOR_S
    time.now_s += FOR_S
    assert known.try_again(LANE), "the one before it never came to its end"
    known.went_well(LANE)
    assert known.wait_s(LANE) == 0


def test_only_so_many_webhooks_are_remembered() -> None:
    known = Suspensions(Time())
    for _ in range(IN_A_ROW):
        known.failed(LANE)
    for n in range(MOST_KNOWN):
        known.failed(Lane("e", f"{n}"))
    assert known.wait_s(LANE) == 0


async def test_a_transform_that_loops_is_run_a_few_times_and_then_kept_out(
    sandbox: Sandbox, failure: Failure
) -> None:
    for _ in range(IN_A_ROW):
        assert (await failure(LOOP, raw='{"loop":true}')).code == "timeout"
    out = await failure(LOOP, raw='{"loop":false}')
    assert out.code == "suspended"
    assert "many times in a row" in out.message
    assert await sandbox.transform(OTHER, Call(source=LOOP, raw="{}")) == b'{"name":"a"}'


async def test_when_the_time_is_over_one_call_of_many_is_run(
    sandbox: Sandbox, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    monkeypatch.setattr(sandbox, "_suspensions", Suspensions(time))
    for _ in range(IN_A_ROW):
        assert (await failure(LOOP, raw='{"loop":true}')).code == "timeout"
    time.now_s += FOR_S
    codes = [
        out.code for out in await asyncio.gather(*(failure(LOOP, raw='{"loop":true}') for _ in range(10)))
    ]
    assert sorted(codes) == ["suspended"] * 9 + ["timeout"]
    time.now_s += FOR_S
    for _ in range(2):
        assert await sandbox.transform(LANE, Call(source=LOOP, raw="{}")) == b'{"name":"a"}'


async def test_what_throws_is_run_as_often_as_it_comes(sandbox: Sandbox) -> None:
    """It costs no process."""
    source = "function transform(evt) { throw new Error('no') }"
    for _ in range(2 * IN_A_ROW):
        with pytest.raises(TransformError, match="no"):
            await sandbox.transform(LANE, Call(source=source, raw="{}"))


async def test_what_fails_after_much_work_is_kept_out_too(
    make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it leaves its process as it was."""
    monkeypatch.setattr(pool, "COSTLY_SHARE", 0.0)
    sandbox = make_sandbox(limits(workers=1))
    codes = []
    for _ in range(IN_A_ROW + 1):
        with pytest.raises(TransformError) as caught:
            await sandbox.transform(
                LANE, Call(source="function transform() { throw new Error('no') }", raw="{}")
            )
        codes.append(caught.value.code)
    assert codes == ["threw"] * IN_A_ROW + ["suspended"]
    assert len(sandbox.worker_pids) == 1


async def test_what_is_no_json_keeps_nobody_out(
    make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transform was not run."""
    monkeypatch.setattr(pool, "COSTLY_SHARE", 0.0)
    sandbox = make_sandbox(limits(workers=1))
    for _ in range(IN_A_ROW + 1):
        with pytest.raises(TransformError) as caught:
            await sandbox.transform(LANE, Call(source=LOOP, raw="[1,"))
        assert caught.value.code == "body"
    assert await sandbox.transform(LANE, Call(source=LOOP, raw="{}")) == b'{"name":"a"}'


async def test_checks_of_sources_are_never_kept_out(sandbox: Sandbox) -> None:
    for _ in range(IN_A_ROW + 1):
        with pytest.raises(TransformError) as caught:
            await sandbox.check_transform("while (true) {}")
        assert caught.value.code == "timeout"
