"""What a transform gets and gives, and how its failures are told."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import orjson
import psutil
import pytest

from innkeeper_apps.sandbox.failures import SandboxBusyError, TransformError
from innkeeper_apps.sandbox.fairness import Lane
from innkeeper_apps.sandbox.pool import Call, Sandbox
from tests.gateway.webhooks.conftest import LANE, LIMITS, Failure, MakeSandbox, limits

ECHO = "function transform(evt, headers, queryParams, raw) { return {evt, headers, queryParams, raw} }"
SPIN = "function transform() { return new Array(2 ** 32 - 2).join() }"
"""Calculates for hours, in a place where the engine does not look at the clock."""


async def run(sandbox: Sandbox, source: str, **given: str) -> object:
    out = await sandbox.transform(LANE, Call(source=source, **{"raw": "{}", **given}))  # type: ignore[arg-type]
    return None if out is None else orjson.loads(out)


async def test_a_transform_gets_body_headers_query_and_raw(sandbox: Sandbox) -> None:
    raw = '{ "a": [1, "é\\u0000"] }'
    assert await run(sandbox, ECHO, raw=raw, headers='{"X-A":"b"}', query='{"q":["1","2"]}') == {
        "evt": {"a": [1, "é\0"]},
        "headers": {"X-A": "b"},
        "queryParams": {"q": ["1", "2"]},
        "raw": raw,
    }


@pytest.mark.parametrize(
    "raw",
    [
        '"\\ud83d\\ude00 \\u0000"',
        '"😀 \x7f é \u2028 \uffff"',
        "  [1.0, 1e2, -0]\r\n\t",
        '\ufeff{"a": 1}',
        '{"__proto__": {"polluted": true}, "a": 1, "a": 2}',
        '"' + "x" * 500_000 + '"',
    ],
    ids=["escapes", "characters", "spaces", "byte order mark", "odd keys", "large"],
)
async def test_raw_is_the_body_character_by_character(sandbox: Sandbox, raw: str) -> None:
    assert await run(sandbox, "function transform(e, h, q, raw) { return [raw] }", raw=raw) == [raw]


async def test_keys_of_the_body_reach_no_prototype(sandbox: Sandbox) -> None:
    source = "function transform(evt) { return {polluted: ({}).polluted, own: Object.keys(evt)} }"
    assert await run(sandbox, source, raw='{"__proto__": {"polluted": 1}}') == {"own": ["__proto__"]}


@pytest.mark.parametrize("name", ["X-Github-Event", "x-github-event", "X-GITHUB-EVENT", "X-GitHub-Event"])
async def test_headers_are_found_in_any_case(sandbox: Sandbox, name: str) -> None:
    source = f"""function transform(e, headers) {{
        const name = {json.dumps(name)}
        const {{[name]: taken, ...rest}} = headers
        return [headers[name], name in headers, Object.hasOwn(headers, name), headers.hasOwnProperty(name),
                taken, headers.nope === undefined, "nope" in headers]
    }}"""
    assert await run(sandbox, source, headers='{"X-Github-Event":"push"}') == [
        *("push", True, True, True, "push", True, False)
    ]


async def test_headers_are_listed_as_senders_document_them(sandbox: Sandbox) -> None:
    source = (
        "function transform(e, headers) { return {keys: Object.keys(headers), all: {...headers}, headers} }"
    )
    headers = {"X-Github-Event": "push", "Constructor": "c", "__Proto__": "p"}
    found = await run(sandbox, source, headers=json.dumps(headers))
    assert found == {"keys": list(headers), "all": headers, "headers": headers}


async def test_a_transform_may_change_what_it_was_given(sandbox: Sandbox) -> None:
    source = """function transform(evt, headers) {
        headers["x-a"] = "changed"; headers.New = "n"; delete headers["X-B"]; evt.more = 1
        return {evt, a: headers["X-A"], new: headers.new, b: headers["x-b"]}
    }"""
    found = await run(sandbox, source, headers='{"X-A":"a","X-B":"b"}')
    assert found == {"evt": {"more": 1}, "a": "changed", "new": "n"}


@pytest.mark.parametrize(
    "source",
    [
        "const transform = (evt) => ({name: 'a'})",
        "let transform = function (evt) { return {name: 'a'} } // the end",
        "var transform; transform = () => ({name: 'a'})",
        "globalThis.transform = () => ({name: 'a'})",
        "'use strict'; function transform() { return {name: 'a'} }",
        "const name = () => 'a'; function transform({}, h = {}, q = {}, raw = '') { return {name: name()} }",
        "/* long */" + " " * 60_000 + "function transform() { return {name: 'a'} }",
        "#! hash\nfunction transform() { return {name: 'a'} }",
    ],
)
async def test_a_transform_may_be_written_in_several_ways(sandbox: Sandbox, source: str) -> None:
    assert await run(sandbox, source) == {"name": "a"}
    await sandbox.check_transform(source)


async def test_the_language_is_todays(sandbox: Sandbox) -> None:
    source = """function transform(evt) {
        const {a: {b = 2} = {}, ...rest} = evt
        const name = `x/${"  Y ".trim().toLowerCase().replace(/y/, "z")}`
        return {name, data: {b, rest, c: evt?.no?.where ?? 1, n: [3, 1].toSorted(), at: new Date(0).toISOString()}}
    }"""
    assert await run(sandbox, source, raw='{"z": 1}') == {
        "name": "x/z",
        "data": {"b": 2, "rest": {"z": 1}, "c": 1, "n": [1, 3], "at": "1970-01-01T00:00:00.000Z"},
    }


@pytest.mark.parametrize("body", ["", "return", "return null", "return undefined"])
async def test_a_transform_may_return_nothing(sandbox: Sandbox, body: str) -> None:
    assert await run(sandbox, f"function transform() {{ {body} }}") is None


async def test_a_large_result_comes_back_whole(sandbox: Sandbox) -> None:
    source = (
        "function transform() { return {name: 'a', data: {x: 'é'.repeat(3e5), y: 'a' + 'b'.repeat(3e5)}} }"
    )
    assert await run(sandbox, source) == {"name": "a", "data": {"x": "é" * 300_000, "y": "a" + "b" * 300_000}}


async def test_a_body_that_is_no_json_is_told_apart(sandbox: Sandbox, failure: Failure) -> None:
    assert (await failure(ECHO, raw="{no")).code == "body"
    assert (await failure(ECHO, raw="[" * 100_000)).code == "body"
    assert (await failure("syntax error", raw="{no")).code == "body"
    assert await run(sandbox, ECHO, raw="<xml/>", mode="any") == {
        **{"evt": None, "headers": {}, "queryParams": {}, "raw": "<xml/>"}
    }
    found = await run(sandbox, ECHO, raw="a=1", mode="given", given='{"a":"1"}')
    assert found == {"evt": {"a": "1"}, "headers": {}, "queryParams": {}, "raw": "a=1"}


# ---- what is wrong, and where


@pytest.mark.parametrize(
    ("source", "line", "column", "said"),
    [
        ("function transform(e) {\n  return e.a..b\n}", 2, 14, "field name"),
        ("function transform(e) {\n  return e.a", 2, 13, "unexpected token"),
        ("\n\n  const a = ;", 3, 13, "';'"),
        ("export default function transform() {}", 1, 1, "a script, not a module"),
        ("import x from 'y'\nfunction transform() {}", 1, 8, "a script, not a module"),
    ],
)
async def test_a_check_says_where_the_source_is_wrong(
    sandbox: Sandbox, source: str, line: int, column: int, said: str
) -> None:
    with pytest.raises(TransformError, match=said) as caught:
        await sandbox.check_transform(source)
    assert (caught.value.code, caught.value.line, caught.value.column) == ("syntax", line, column)
    assert f"line {line}, column {column}" in caught.value.message


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("", "missing", "function called transform"),
        ("function Transform() {}", "missing", "function called transform"),
        ("let transform = {}", "missing", "function called transform"),
        ("async function transform() {}", "async", "plain function"),
        ("const transform = async () => ({})", "async", "plain function"),
        ("function* transform() {}", "async", "plain function"),
        ("throw new TypeError('no')", "threw", "TypeError: no"),
        ("nowhere.at.all", "threw", "ReferenceError"),
        ("while (true) {}", "timeout", "60 ms of CPU time"),
        ("x".ljust(65_537), "source_size", "65537 characters: 65536 are the most"),
    ],
)
async def test_a_check_says_why_a_source_cannot_be_used(
    sandbox: Sandbox, source: str, code: str, said: str
) -> None:
    with pytest.raises(TransformError, match=said) as caught:
        await sandbox.check_transform(source)
    assert caught.value.code == code


async def test_a_check_does_not_call_the_transform(sandbox: Sandbox) -> None:
    await sandbox.check_transform("function transform() { throw new Error('called') }")


async def test_what_is_thrown_is_told_with_its_place(failure: Failure) -> None:
    error = await failure("function transform(evt) {\n  return evt.a.b.c\n}")
    assert (error.code, error.line, error.column) == ("threw", 2, 10)
    assert error.message == (
        "the transform threw TypeError: cannot read property 'b' of undefined (line 2, column 10)"
    )


@pytest.mark.parametrize(
    ("thrown", "said"),
    [
        ("'text'", "threw text"),
        ("42", "threw 42"),
        ("undefined", "threw undefined"),
        ("Symbol('s')", "threw Symbol\\(s\\)"),
        ("{code: 1}", "threw \\[object Object\\]"),
        ("new Error('m'.repeat(1e6))", "threw Error: m{2000} "),
        ("{get message() { throw 1 }}", "something that cannot be read"),
        ("new Proxy({}, {get() { throw 1 }})", "something that cannot be read"),
        ("{name: {}, message: 5, stack: null}", "threw \\[object Object\\]"),
    ],
)
async def test_anything_may_be_thrown(failure: Failure, thrown: str, said: str) -> None:
    source = f"function transform() {{ throw {thrown} }}"
    with pytest.raises(TransformError, match=said):
        raise await failure(source)


@pytest.mark.parametrize(
    ("returned", "code", "said"),
    [
        ("Promise.resolve({name: 'a'})", "async", "returned a promise"),
        ("(async () => ({name: 'a'}))()", "async", "returned a promise"),
        ("() => 1", "result", "a function"),
        ("Symbol()", "result", "a function"),
        ("1n", "result", "BigInt"),
        ("evt.self = evt", "result", "circular"),
        ("{get name() { throw new Error('got') }}", "result", "got"),
        ("{toJSON() { return undefined }}", "result", "a function"),
    ],
)
async def test_what_is_no_json_is_refused(failure: Failure, returned: str, code: str, said: str) -> None:
    error = await failure(f"function transform(evt) {{ return {returned} }}")
    assert error.code == code
    assert said in error.message


async def test_a_result_is_bounded(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(result_bytes=1_000))
    with pytest.raises(TransformError, match="1000 bytes") as caught:
        await sandbox.transform(
            LANE, Call(source="function transform() { return {name: 'x'.repeat(1000)} }", raw="{}")
        )
    assert caught.value.code == "result_size"


async def test_input_is_bounded(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(input_bytes=1_000))
    with pytest.raises(TransformError, match="1000 are the most") as caught:
        await sandbox.transform(LANE, Call(source=ECHO, raw="x" * 1_000))
    assert caught.value.code == "input_size"
    assert sandbox.worker_pids == frozenset()


# ---- workers


async def test_a_worker_serves_many_calls_and_is_replaced_in_time(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1, calls_per_worker=3))
    assert sandbox.worker_pids == frozenset()
    seen = []
    for _ in range(6):
        await run(sandbox, ECHO)
        seen.append(sandbox.worker_pids)
    assert seen[0] == seen[1] != seen[3] == seen[4]
    assert [len(pids) for pids in seen] == [1, 1, 0, 1, 1, 0]


async def test_a_worker_killed_in_the_middle_of_a_call_is_replaced(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(LIMITS)
    call = asyncio.create_task(sandbox.transform(LANE, Call(source=SPIN, raw="{}")))
    (pid,) = await until_busy(sandbox)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(TransformError, match="SIGKILL") as caught:
        await call
    assert caught.value.code == "crashed"
    assert await run(sandbox, "function transform() { return {name: 'a'} }") == {"name": "a"}
    assert pid not in sandbox.worker_pids


async def test_a_worker_killed_between_two_calls_is_replaced_unnoticed(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1))
    await run(sandbox, ECHO)
    (pid,) = sandbox.worker_pids
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while sandbox.worker_pids:
            await asyncio.sleep(0.005)
    await run(sandbox, ECHO)
    assert sandbox.worker_pids != {pid}


async def test_workers_are_forked_by_one_process_that_is_started_again(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1, calls_per_worker=2))
    workers, nurseries = [], []
    for _ in range(3):
        await run(sandbox, ECHO)
        workers += sandbox.worker_pids
        nurseries.append(nursery_of(workers[-1]))
        if len(nurseries) < 2:
            await run(sandbox, ECHO)
            continue
        await asyncio.to_thread(end, nurseries[-1])
        async with asyncio.timeout(60):
            while sandbox.worker_pids:
                await asyncio.sleep(0.005)
    assert len(set(workers)) == 3
    assert nurseries[0] == nurseries[1] != nurseries[2]


def nursery_of(worker: int) -> psutil.Process:
    """The process that has forked this one, which is the server's."""
    nursery = psutil.Process(worker).parent()
    assert nursery is not None
    assert nursery.parent() == psutil.Process()
    return nursery


def end(process: psutil.Process) -> None:
    """Kill it."""
    process.kill()
    process.wait(60)


async def test_a_call_goes_on_where_the_process_that_forks_has_ended(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1, cpu_ms=60_000))
    source = (
        "function transform(evt) { const until = Date.now() + 200; while (Date.now() < until); return evt }"
    )
    call = asyncio.create_task(sandbox.transform(LANE, Call(source=source, raw='{"name":"a"}')))
    (pid,) = await until_busy(sandbox)
    await asyncio.to_thread(end, nursery_of(pid))
    assert await call == b'{"name":"a"}'
    assert await run(sandbox, ECHO)


async def test_a_process_that_forks_no_more_is_replaced(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1, calls_per_worker=1, start_ms=500))
    await sandbox.transform(LANE, Call(source=ECHO, raw="{}"))
    # The newest child need not have the highest number: numbers begin anew.
    (stuck,) = (child for child in psutil.Process().children() if "nursery.py" in " ".join(child.cmdline()))
    stuck.suspend()
    with pytest.raises(SandboxBusyError, match="does not start"):
        await run(sandbox, ECHO)
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(SandboxBusyError):
                await run(sandbox, ECHO)
                break
    await asyncio.to_thread(stuck.wait, 60)


async def test_a_sandbox_whose_processes_are_stuck_can_be_closed(
    make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper_apps.sandbox.process._CLOSING_S", 0.1)
    sandbox = make_sandbox(limits(workers=1, cpu_ms=60_000, wall_ms=60_000))
    call = asyncio.create_task(sandbox.transform(LANE, Call(source=SPIN, raw="{}")))
    (pid,) = await until_busy(sandbox)
    nursery_of(pid).suspend()
    async with asyncio.timeout(60):
        await sandbox.close()
    with pytest.raises(SandboxBusyError, match="stopping"):
        await call
    os.kill(pid, signal.SIGKILL)


async def test_after_a_crash_workers_come_from_another_process(make_sandbox: MakeSandbox) -> None:
    """And calls that others have under way go on."""
    sandbox = make_sandbox(limits(workers=2, cpu_ms=60_000))
    source = (
        "function transform(evt) { const until = Date.now() + 500; while (Date.now() < until); return evt }"
    )
    other = asyncio.create_task(
        sandbox.transform(Lane("staging", "x"), Call(source=source, raw='{"name":"a"}'))
    )
    (kept,) = await until_busy(sandbox)
    call = asyncio.create_task(sandbox.transform(LANE, Call(source=SPIN, raw="{}")))
    async with asyncio.timeout(60):
        while len(sandbox.worker_pids) < 2:
            await asyncio.sleep(0.005)
    (pid,) = sandbox.worker_pids - {kept}
    before = nursery_of(pid)
    os.kill(pid, signal.SIGSEGV)
    with pytest.raises(TransformError, match="SIGSEGV"):
        await call
    assert await run(sandbox, ECHO)
    (pid,) = sandbox.worker_pids - {kept}
    assert nursery_of(pid) != before
    assert await other == b'{"name":"a"}'
    await asyncio.to_thread(before.wait, 60)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux says where a process may run")
async def test_workers_yield_the_cpu(sandbox: Sandbox) -> None:
    await run(sandbox, ECHO)
    (pid,) = sandbox.worker_pids
    assert psutil.Process(pid).nice() == 19
    ours = os.sched_getaffinity(0)
    assert len(os.sched_getaffinity(pid)) == max(1, len(ours) - 1)
    assert os.sched_getaffinity(pid) <= ours


@pytest.mark.parametrize(
    "source", [pytest.param(ECHO, id="idle"), pytest.param(SPIN, id="busy", marks=pytest.mark.slow)]
)
async def test_workers_do_not_outlive_a_server_that_is_killed(source: str) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, source, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    worker = psutil.Process(int(await server.stdout.readline()))
    assert worker.is_running()
    server.kill()
    await server.wait()
    async with asyncio.timeout(60):
        while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.02)


SERVER = """
import asyncio, sys
from innkeeper_apps.sandbox.fairness import Lane
from innkeeper_apps.sandbox.pool import Call, Sandbox, SandboxLimits

async def main():
    sandbox = Sandbox(SandboxLimits(cpu_ms=100, wall_ms=60_000))
    call = asyncio.create_task(sandbox.transform(Lane("", ""), Call(source=sys.argv[1], raw="{}")))
    while not sandbox.worker_pids:
        await asyncio.sleep(0.001)
    if "join" not in sys.argv[1]:
        await call
    print(*sandbox.worker_pids, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_call_too_long_by_the_clock_ends_with_its_worker(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1, cpu_ms=60_000, wall_ms=300))
    with pytest.raises(TransformError, match="within 300 ms") as caught:
        await sandbox.transform(LANE, Call(source=SPIN, raw="{}"))
    assert caught.value.code == "timeout"
    assert sandbox.worker_pids == frozenset()


async def test_the_kernel_ends_a_call_that_the_engine_does_not(sandbox: Sandbox, failure: Failure) -> None:
    # Long before the clock's limit: by the limit of CPU time that the kernel keeps.
    error = await failure(SPIN)
    assert (error.code, error.message) == ("timeout", "the transform used more than 60 ms of CPU time")
    assert sandbox.worker_pids == frozenset()


async def test_a_call_that_nobody_waits_for_ends_with_its_worker(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(LIMITS)
    call = asyncio.create_task(sandbox.transform(LANE, Call(source=SPIN, raw="{}")))
    await until_busy(sandbox)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (sandbox.running, sandbox.waiting, sandbox.worker_pids) == (0, 0, frozenset())


async def test_closing_ends_calls_and_workers(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1, cpu_ms=60_000, wall_ms=60_000))
    running = asyncio.create_task(sandbox.transform(LANE, Call(source=SPIN, raw="{}")))
    (pid,) = await until_busy(sandbox)
    waiting = asyncio.create_task(sandbox.transform(LANE, Call(source=ECHO, raw="{}")))
    await asyncio.sleep(0)
    assert sandbox.waiting == 1
    await sandbox.close()
    for call in (running, waiting):
        with pytest.raises(SandboxBusyError, match="stopping"):
            await call
    with pytest.raises(SandboxBusyError, match="stopping"):
        await run(sandbox, ECHO)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_worker_that_does_not_start_is_no_fault_of_the_transform(
    make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_engine.py").write_text("raise RuntimeError('not for this system')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("innkeeper_apps.sandbox.process._ENGINE", "broken_engine")
    sandbox = make_sandbox(LIMITS)
    with pytest.raises(SandboxBusyError, match="does not start"):
        await run(sandbox, ECHO)
    monkeypatch.setattr("innkeeper_apps.sandbox.process._ENGINE", "not_installed_here")
    with pytest.raises(SandboxBusyError, match="does not start"):
        await run(sandbox, ECHO)
    assert (sandbox.running, sandbox.worker_pids) == (0, frozenset())


# ---- the queue


async def test_too_many_waiting_calls_of_a_webhook_are_sent_away(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1, waiting=8, cpu_ms=60_000, wall_ms=60_000))
    calls = [asyncio.create_task(sandbox.transform(LANE, Call(source=SPIN, raw="{}"))) for _ in range(5)]
    (sent_away, *_), _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(SandboxBusyError, match="too many requests wait"):
        await sent_away
    assert sum(call.done() for call in calls) == 2
    assert sandbox.waiting == 2
    await sandbox.close()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_call_does_not_wait_for_ever(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1, waiting_ms=20, cpu_ms=60_000, wall_ms=60_000))
    first = asyncio.create_task(sandbox.transform(LANE, Call(source=SPIN, raw="{}")))
    await until_busy(sandbox)
    with pytest.raises(SandboxBusyError, match="waited too long"):
        await run(sandbox, ECHO)
    assert (sandbox.running, sandbox.waiting) == (1, 0)
    await sandbox.close()
    with pytest.raises(SandboxBusyError):
        await first


async def test_a_webhook_that_is_stuck_leaves_workers_to_others(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=2, cpu_ms=60_000, wall_ms=60_000, start_ms=60_000))
    stuck = [asyncio.create_task(sandbox.transform(LANE, Call(source=SPIN, raw="{}"))) for _ in range(10)]
    await until_busy(sandbox)
    other = Lane(LANE.env, "another of the same environment")
    assert await sandbox.transform(Lane("staging", "x"), Call(source=ECHO, raw="{}")) is not None
    assert sandbox.running == 1
    assert not any(call.done() for call in stuck)
    # An environment never has all of the workers: with two that leaves one for all of its webhooks.
    late = asyncio.create_task(sandbox.transform(other, Call(source=ECHO, raw="{}")))
    assert await sandbox.transform(Lane("staging", "x"), Call(source=ECHO, raw="{}")) is not None
    assert not late.done()
    await sandbox.close()
    await asyncio.gather(*stuck, late, return_exceptions=True)


async def until_busy(sandbox: Sandbox) -> frozenset[int]:
    """The workers, once there are any."""
    async with asyncio.timeout(60):
        while not sandbox.worker_pids:
            await asyncio.sleep(0.005)
    return sandbox.worker_pids
