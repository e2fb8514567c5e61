"""One loss at a time: what each of them may cost, and what it may not."""

import asyncio
import json
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash.app import Call, hashed
from tests.crash.conftest import OpenScene
from tests.crash.fleet import LEASE_S, VALKEY
from tests.sdk.harness import Proc, clean_env, free_port

pytestmark = pytest.mark.slow

LONG_LEASES = {"INNKEEPER_LEASE_S": "30", "INNKEEPER_BEAT_S": "10"}
"""With these, nothing of what a test sees comes from a lease that ran out."""


class Gate:
    """Holds bodies until it is opened."""

    def __init__(self) -> None:
        self._open = asyncio.Event()

    def open(self) -> None:
        """Let everybody through, from now on."""
        self._open.set()

    async def wait(self) -> None:
        """Until it is open."""
        await self._open.wait()


async def test_an_executor_told_to_end_finishes_what_is_short_and_hands_the_rest_back(
    open_scene: OpenScene,
) -> None:
    short_done, long_done = Gate(), Gate()

    async def short(call: Call) -> Any:
        return {"a": await call.step("a")}

    async def long(call: Call) -> Any:
        return {"b": await call.step("b")}

    async def hold(call: Call, name: str) -> None:
        if call.request.generation == 1:
            await (short_done if name == "a" else long_done).wait()

    scene = await open_scene(
        {"short": short, "long": long},
        settings=LONG_LEASES | {"INNKEEPER_GRACE_S": "2"},
        start=(VALKEY, "gateway-0", "gateway-1", "executor-0"),
    )
    scene.app.while_running = hold
    await scene.send("short")
    await scene.send("long")
    await scene.request(1)
    await asyncio.to_thread(scene.fleet.start, "executor-1")

    told_at = time.monotonic()
    scene.fleet.signal("executor-0", signal.SIGTERM)
    # What comes now goes to the other one only, or the grace would never end.
    await scene.send("short")
    await scene.until(lambda: len(scene.app.ledger.requests) >= 3 or None, "work goes on elsewhere")
    short_done.open()
    old = scene.fleet.procs["executor-0"]
    code = await scene.until(old.ended, "the executor has ended")
    took_s = time.monotonic() - told_at
    assert code == (0,), old.tail()
    assert 2.0 <= took_s < 6.0

    runs = await scene.ended(3, timeout_s=10)
    assert [run.status for run in runs] == ["Completed"] * 3
    calls = {(r.slug, r.generation, r.attempt) for r in scene.app.ledger.requests}
    assert {("crash-short", 1, 0), ("crash-long", 1, 0), ("crash-long", 2, 0)} == calls
    assert len(scene.app.ledger.executions_of(runs[0].id)) == 1
    long_done.open()


async def test_an_app_that_dies_in_a_request_is_asked_again_as_the_next_attempt(
    open_scene: OpenScene, tmp_path: Path
) -> None:
    async def unused(_call: Call) -> Any:
        raise AssertionError("the app of this test is a process of its own")

    scene = await open_scene({"dies": unused}, executors=1)
    port, record = free_port(), tmp_path / "requests.jsonl"
    argv = [sys.executable, "-m", "tests.crash.mortal_app", str(port), str(record)]
    app = Proc("mortal-app", argv, env=clean_env(), log=tmp_path / "app.log")

    def recorded() -> list[dict[str, Any]]:
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    scene.app.url = f"http://127.0.0.1:{port}/api/inngest"
    await scene.app.register({"dies": {"triggers": [{"event": "crash/dies"}]}})
    app.start()
    try:
        await scene.until(listens, "the app listens")
        await scene.send("dies")
        await scene.until(lambda: len(recorded()) == 1, "the first request")
        app.kill()
        app.start()
        (run,) = await scene.ended(1)
    finally:
        app.stop()
    assert run.status == "Completed"
    requests = recorded()
    assert requests[0]["attempt"] == 0
    # Attempts that met nobody, while the app was starting again, are in no record of its own.
    attempts = [r["attempt"] for r in requests]
    assert attempts == sorted(set(attempts))
    assert len(requests) >= 2
    assert run.output == {"attempt": requests[-1]["attempt"]}
    assert len({r["request_id"] for r in requests}) == len(requests)


async def test_no_checkpointed_step_runs_again_when_the_executor_dies_before_the_answer(
    open_scene: OpenScene,
) -> None:
    first_call_goes_on = Gate()

    async def reported(call: Call) -> Any:
        return {name: await call.checkpointed(name) for name in ("c0", "c1", "c2", "c3")}

    async def hold(call: Call, name: str) -> None:
        if name == "c3" and call.request.generation == 1:
            await first_call_goes_on.wait()

    # The checkpoints come through gateways that take leases for longer than the executor's are.
    scene = await open_scene(
        {"reported": reported}, executors=1, gateway_settings={"INNKEEPER_LEASE_S": "60"}
    )
    scene.app.while_running = hold
    ledger = scene.app.ledger
    await scene.send("reported")
    await scene.until(
        lambda: ledger.executions[3] if len(ledger.executions) > 3 else None, "three checkpoints"
    )
    killed_at = time.monotonic()
    await asyncio.to_thread(scene.fleet.kill, "executor-0")
    await asyncio.to_thread(scene.fleet.start, "executor-0")
    again = await scene.request(1)
    assert time.monotonic() - killed_at < LEASE_S + 4
    assert (again.generation, again.attempt) == (2, 0)
    (run,) = await scene.ended(1)
    first_call_goes_on.open()
    await scene.until(lambda: ledger.refused_checkpoints == 1, "the abandoned call is told to stop")
    assert [e.name for e in ledger.executions] == ["c0", "c1", "c2", "c3", "c3"]
    assert run.output == {e.name: e.nonce for e in [*ledger.executions[:3], ledger.executions[4]]}
    assert set(again.steps) == {hashed("c0"), hashed("c1"), hashed("c2")}


async def test_a_lease_that_runs_out_three_times_is_an_attempt(open_scene: OpenScene) -> None:
    never = Gate()

    async def deadly(call: Call) -> Any:
        return {"a": await call.step("a")}

    async def hold(call: Call, _name: str) -> None:
        if call.request.attempt == 0:
            await never.wait()

    scene = await open_scene({"deadly": deadly}, executors=1)
    scene.app.while_running = hold
    await scene.send("deadly")
    for lost in range(3):
        request = await scene.request(lost)
        assert (request.generation, request.attempt) == (lost + 1, 0)
        await asyncio.to_thread(scene.fleet.restart, "executor-0")
    after = await scene.request(3)
    # The fourth lease called nobody: it was the attempt's end.
    assert (after.generation, after.attempt) == (5, 1)
    (run,) = await scene.ended(1)
    assert run.status == "Completed"
    never.open()


async def test_a_lease_that_runs_out_three_times_ends_a_run_without_retries(open_scene: OpenScene) -> None:
    never = Gate()

    async def deadly(call: Call) -> Any:
        await never.wait()
        call.give_up()

    scene = await open_scene({"deadly": deadly}, executors=1, options={"deadly": {"retries": 0}})
    await scene.send("deadly")
    for lost in range(3):
        await scene.request(lost)
        await asyncio.to_thread(scene.fleet.restart, "executor-0")
    (run,) = await scene.ended(1)
    assert run.status == "Failed"
    assert len(scene.app.ledger.requests) == 3
    error = (await scene.store.run_payload(run.id, "x"))[0]
    assert error is not None
    assert b"lost 3 times in a row" in error
    never.open()


@pytest.mark.parametrize("away_s", [3.0, 7.0])
async def test_events_are_refused_while_redis_is_away_and_nothing_acknowledged_is_lost(
    open_scene: OpenScene, away_s: float
) -> None:
    async def plain(call: Call) -> Any:
        return {"a": await call.step("a")}

    scene = await open_scene({"plain": plain})
    acknowledged: list[str] = []
    slowest_s = 0.0

    async def send_for_ever() -> None:
        while True:
            acknowledged.append(await scene.send("plain"))

    async def probe(path: str, statuses: set[int]) -> None:
        nonlocal slowest_s
        while True:
            started = time.monotonic()
            reply = await scene.app.http.get(f"{scene.fleet.urls[0]}{path}")
            slowest_s = max(slowest_s, time.monotonic() - started)
            statuses.add(reply.status_code)
            await asyncio.sleep(0.1)

    ready: set[int] = set()
    live: set[int] = set()
    work = [asyncio.create_task(send_for_ever()) for _ in range(4)]
    work += [asyncio.create_task(probe("/ready", ready)), asyncio.create_task(probe("/live", live))]
    try:
        await scene.until(lambda: len(acknowledged) > 20, "events before")
        await asyncio.to_thread(scene.fleet.kill, VALKEY)
        await asyncio.sleep(away_s)
        assert 503 in ready
        # Commands that were under way, and those that have waited long enough, are refused; Sender checks Retry-After.
        refused = scene.sender.replies["503"]
        before = len(acknowledged)
        await asyncio.to_thread(scene.fleet.start, VALKEY)
        await scene.until(lambda: len(acknowledged) > before + 20, "events afterwards")
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    if away_s > 5.0:
        assert refused > 0
    assert set(scene.sender.replies) <= {"200", "503"}
    assert ready == {200, 503}
    assert live == {200}
    assert slowest_s < 3.0
    # A send that was cancelled above may have been taken all the same.
    runs = await scene.ended_all_of(acknowledged)
    assert {run.status for run in runs} == {"Completed"}


async def test_a_repeated_send_starts_one_run_whatever_died_in_between(open_scene: OpenScene) -> None:
    async def plain(call: Call) -> Any:
        return {"a": await call.step("a")}

    scene = await open_scene({"plain": plain})
    fleet, sender = scene.fleet, scene.sender
    events = [{"name": "crash/plain", "data": {"n": n}} for n in range(3)]
    seed = sender.seed()
    first = await sender.send(events, seed)
    answers = [first, await sender.send(events, seed)]
    for victim in (VALKEY, "gateway-0", "gateway-1", "executor-0"):
        await asyncio.to_thread(fleet.kill, victim)
        sends = [asyncio.create_task(sender.send(events, seed)) for _ in range(4)]
        await asyncio.to_thread(fleet.start, victim)
        answers += await asyncio.gather(*sends)
    assert all(ids == first for ids in answers)
    runs = await scene.ended(3)
    assert sorted(event_id for run in runs for event_id in run.event_ids) == sorted(first)


async def test_a_lost_group_member_comes_back_and_the_join_runs_once(open_scene: OpenScene) -> None:
    members = ("p0", "p1", "p2")
    gate = Gate()

    async def group(call: Call) -> Any:
        results = await call.group(*members)
        return {"members": results, "join": await call.step("join")}

    async def hold(call: Call, name: str) -> None:
        if name == "p1" and call.request.generation == 1:
            await gate.wait()

    scene = await open_scene({"group": group}, executors=1)
    scene.app.while_running = hold
    await scene.send("group")
    ledger = scene.app.ledger
    await scene.until(lambda: {e.name for e in ledger.executions} == set(members), "all members run")
    await scene.until(
        lambda: sum(r.answer == "206 StepRun" for r in ledger.requests) == 2, "two have answered"
    )
    await asyncio.to_thread(scene.fleet.restart, "executor-0")
    (run,) = await scene.ended(1)
    assert len(ledger.executions_of(run.id, "join")) == 1
    gate.open()


async def test_an_executor_that_was_frozen_cannot_write_what_has_become_anothers(
    open_scene: OpenScene,
) -> None:
    held = Gate()

    async def plain(call: Call) -> Any:
        return {"a": await call.step("a")}

    async def hold(call: Call, _name: str) -> None:
        if call.request.generation == 1:
            await held.wait()

    scene = await open_scene({"plain": plain}, start=(VALKEY, "gateway-0", "gateway-1", "executor-0"))
    scene.app.while_running = hold
    await scene.send("plain")
    await scene.request(0)
    await asyncio.to_thread(scene.fleet.start, "executor-1")
    scene.fleet.signal("executor-0", signal.SIGSTOP)
    second = await scene.request(1)
    assert (second.generation, second.attempt) == (2, 0)
    (run,) = await scene.ended(1)
    # The frozen one has its answer waiting when it wakes.
    held.open()
    await scene.until(lambda: scene.app.ledger.requests[0].answer, "the first request is answered")
    scene.fleet.signal("executor-0", signal.SIGCONT)
    # It goes on with work of its own, and what it came back with has changed nothing.
    await asyncio.to_thread(scene.fleet.kill, "executor-1")
    await scene.send("plain")
    first, _ = await scene.ended(2)
    assert first == run
    assert run.output == {"a": scene.app.ledger.executions[1].nonce}
