"""What a transform may try, and that nothing but the transform itself comes to harm."""

import asyncio
import os
import resource
from pathlib import Path

import orjson
import psutil
import pytest

from innkeeper_apps.sandbox import worker
from innkeeper_apps.sandbox.failures import SandboxBusyError, TransformError
from innkeeper_apps.sandbox.fairness import Lane
from innkeeper_apps.sandbox.pool import Call, Sandbox
from tests.gateway.webhooks.conftest import LANE, Failure, MakeSandbox, limits

GOOD = Call(source="function transform(evt) { return {name: 'good', data: evt} }", raw='{"a":1}')
LOOP = Call(source="function transform() { while (true) {} }", raw="{}")


async def still_good(sandbox: Sandbox) -> None:
    """Assert that the sandbox works as if nothing had been."""
    assert await sandbox.transform(LANE, GOOD) == b'{"name":"good","data":{"a":1}}'


@pytest.mark.parametrize(
    "body",
    [
        "while (true) {}",
        "try { while (true) {} } catch { return {name: 'caught'} }",
        "try { while (true) {} } finally { return {name: 'finally'} }",
        "/^(a+)+$/.test('a'.repeat(50) + 'b')",
        "'x'.repeat(30).replace(/(x+x+)+y/, '')",
        "return {name: 'a', toJSON() { while (true) {} }}",
        "return {get name() { while (true) {} }}",
        "throw {get message() { while (true) {} }}",
        "return new Proxy({}, {ownKeys() { while (true) {} }})",
        "[1, 2].sort(() => { while (true) {} })",
        "try { transform() } catch { transform() }",
        "(function* () { while (true) yield 1 })().toArray()",
        "for (;;) try { 'x'.repeat(1e8) } catch {}",
        "new Promise(() => { while (true) {} })",
    ],
)
async def test_a_loop_ends_with_its_cpu_time(sandbox: Sandbox, failure: Failure, body: str) -> None:
    error = await failure(f"function transform() {{ {body} }}")
    assert (error.code, error.message) == ("timeout", "the transform used more than 60 ms of CPU time")
    await still_good(sandbox)


async def test_a_loop_outside_of_the_function_ends_too(sandbox: Sandbox, failure: Failure) -> None:
    assert (await failure("while (true) {}")).code == "timeout"
    await still_good(sandbox)


@pytest.mark.parametrize(
    "body",
    [
        "const all = []; for (;;) all.push(new Array(100000).fill(1))",
        "let text = 'x'; for (;;) text += text.repeat(2)",
        "return {name: 'x'.repeat(2 ** 29)}",
        "new ArrayBuffer(2 ** 30)",
        "new SharedArrayBuffer(2 ** 30)",
        "return new Uint8Array(1e9)",
        "const one = {}; let all = one; for (let i = 0; i < 1e7; i++) all = {all}; return all",
    ],
)
async def test_memory_ends_at_its_limit(make_sandbox: MakeSandbox, body: str) -> None:
    # Filling memory takes longer where the machine has other things to do.
    sandbox = make_sandbox(limits(workers=1, cpu_ms=20_000, wall_ms=60_000, memory_bytes=16 * 2**20))
    with pytest.raises(TransformError, match="needed more than 16 MiB"):
        await sandbox.transform(LANE, Call(source=f"function transform() {{ {body} }}", raw="{}"))
    await still_good(sandbox)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return transform()", "Maximum call stack size exceeded"),
        ("const a = []; a.toString = () => `${a}`; return `${a}`", "Maximum call stack size exceeded"),
        ("let a = []; for (let i = 0; i < 20000; i++) a = [a]; return a", "Maximum call stack size exceeded"),
        ("return JSON.parse('['.repeat(50000))", "Maximum call stack size exceeded"),
        ("new RegExp('('.repeat(30000) + ')'.repeat(30000))", "threw"),
        ("eval('('.repeat(30000))", "threw"),
    ],
)
async def test_deep_recursion_is_an_error_like_others(
    sandbox: Sandbox, failure: Failure, body: str, said: str
) -> None:
    error = await failure(f"function transform() {{ {body} }}")
    assert error.code in {"threw", "result"}
    assert said in error.message
    await still_good(sandbox)


@pytest.mark.parametrize(("mib", "worn"), [(10, False), (47, False), (49, True)])
def test_a_worker_that_has_grown_says_so(tmp_path: Path, mib: int, worn: bool) -> None:
    """proc(5): the second number of statm is the resident set, in pages."""
    (tmp_path / "statm").write_text(f"99999999 {mib * 2**20 // resource.getpagesize()} 1 1 0 1 0\n")
    with (tmp_path / "statm").open() as file:
        assert worker._is_worn(file.fileno()) is worn
    assert not worker._is_worn(None)


async def test_a_small_worker_is_kept(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1))
    await still_good(sandbox)
    (pid,) = sandbox.worker_pids
    assert psutil.Process(pid).memory_info().rss < 30 * 2**20
    await still_good(sandbox)
    assert sandbox.worker_pids == {pid}


async def test_each_call_begins_anew(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(workers=1))
    spoil = """
        Object.prototype.toJSON = () => 'spoilt'; Object.prototype.polluted = 1; Array.prototype.push = null
        JSON.stringify = JSON.parse = () => { throw 1 }; globalThis.left = 1; Reflect.get = Reflect.ownKeys = null
        String.prototype.toLowerCase = String.prototype.slice = Function.prototype.call = () => 'spoilt'
        Object.freeze(Object.prototype); Proxy = Promise = Error = TypeError = Symbol = undefined
        function transform(evt, headers) { return {toJSON: 1, name: headers['X-A'] + evt.a} }"""
    call = Call(source=spoil, raw='{"a":1}', headers='{"X-A":"b"}')
    assert await sandbox.transform(LANE, call) == b'{"toJSON":1,"name":"b1"}'
    look = """function transform(evt) {
        return {name: 'a', data: evt, seen: [({}).polluted, ({}).toJSON, typeof left, typeof [].push, typeof Proxy]} }"""
    first = sandbox.worker_pids
    out = await sandbox.transform(LANE, Call(source=look, raw="{}"))
    assert orjson.loads(out or b"")["seen"] == [None, None, "undefined", "function", "function"]
    assert sandbox.worker_pids == first


async def test_whoever_spoils_how_results_are_written_fools_nobody(sandbox: Sandbox) -> None:
    source = """Object.prototype.toJSON = function () { return '!{"code":"memory"}' }
        function transform() { return {name: 'a'} }"""
    assert await sandbox.transform(LANE, Call(source=source, raw="{}")) == b'"!{\\"code\\":\\"memory\\"}"'
    source = "Array.prototype.join = () => '~'; function transform() { throw new Error('x') }"
    with pytest.raises(TransformError, match="threw"):
        await sandbox.transform(LANE, Call(source=source, raw="{}"))


async def test_nothing_of_the_world_is_within_reach(sandbox: Sandbox) -> None:
    source = """function transform() {
        const names = Object.getOwnPropertyNames(globalThis)
        const gone = ['std', 'os', 'process', 'require', 'fetch', 'console', 'print', 'setTimeout', 'Deno', 'load',
                      'WebAssembly', 'Worker', 'XMLHttpRequest', 'scriptArgs', 'python', 'run']
        return {found: gone.filter((name) => names.includes(name)), self: typeof this.transform}
    }"""
    out = await sandbox.transform(LANE, Call(source=source, raw="{}"))
    assert orjson.loads(out or b"") == {"found": [], "self": "function"}


@pytest.mark.parametrize("module", ["/etc/passwd", "std", "os", "qjs:os", "file:///etc/passwd"])
async def test_nothing_can_be_imported(failure: Failure, module: str) -> None:
    error = await failure(f"function transform() {{ return import({module!r}) }}")
    assert error.code == "async"
    source = (
        f"let got = {{}}; import({module!r}).then((m) => got.m = m); function transform() {{ throw got.m }}"
    )
    assert "undefined" in (await failure(source)).message


async def test_blocking_is_refused(failure: Failure) -> None:
    source = "function transform() { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) }"
    assert "cannot block" in (await failure(source)).message


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="limits are read where Linux shows them")
async def test_a_worker_has_nothing_of_the_servers(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNKEEPER_SECRET_OF_THIS_TEST", "value")
    await still_good(sandbox)
    (pid,) = sandbox.worker_pids
    process = Path(f"/proc/{pid}")
    assert process.joinpath("environ").read_bytes() == b""
    limits = {
        line[:26].strip(): line[26:].split()[0]
        for line in process.joinpath("limits").read_text().splitlines()[1:]
    }
    assert limits["Max open files"] == "3"
    assert limits["Max processes"] == "0"
    assert limits["Max file size"] == "0"
    assert limits["Max core file size"] == "0"
    assert 0 < int(limits["Max address space"]) < 2**28
    assert limits["Max cpu time"] != "unlimited"
    opened = {fd.name: str(fd.readlink()).partition(":")[0] for fd in (process / "fd").iterdir()}
    assert opened.pop("4") == f"/proc/{pid}/statm"
    assert opened == {"0": "socket", "1": "socket", "2": os.devnull}
    assert psutil.Process(pid).nice() > psutil.Process().nice()
    assert psutil.Process(pid).num_threads() == 1


async def flood(make_sandbox: MakeSandbox, bad: int) -> None:
    """Assert that calls of one webhook go on and succeed while `bad` ones of others loop, bomb and throw."""
    sandbox = make_sandbox(limits(workers=4, cpu_ms=60, wall_ms=60_000, start_ms=60_000, waiting_ms=600_000))
    sources = (
        LOOP.source,
        "function transform() { /^(a+)+$/.test('a'.repeat(50) + 'b') }",
        "function transform() { throw new Error('bad') }",
        "function transform() { const a = []; for (;;) a.push(new Array(100000).fill(1)) }",
        "function transform() { return transform() }",
    )

    async def misbehave(n: int) -> str:
        call = Call(source=sources[n % len(sources)], raw="{}")
        try:
            await sandbox.transform(Lane("bad", f"webhook-{n % 10}"), call)
        except TransformError as error:
            return error.code
        except SandboxBusyError:
            return "busy"
        return "good"

    flooding = asyncio.gather(*(misbehave(n) for n in range(bad)))
    await asyncio.sleep(0)
    good = 0
    while not flooding.done():
        await still_good(sandbox)
        good += 1
    outcomes = await flooding
    assert {"timeout", "threw"} <= set(outcomes) <= {"timeout", "threw", "memory", "busy", "suspended"}
    assert good > 20
    assert (sandbox.running, sandbox.waiting) == (0, 0)


async def test_bad_transforms_do_not_starve_good_ones(make_sandbox: MakeSandbox) -> None:
    await flood(make_sandbox, bad=15)


@pytest.mark.slow
async def test_a_thousand_bad_transforms_do_not_starve_good_ones(make_sandbox: MakeSandbox) -> None:
    await flood(make_sandbox, bad=1_000)
