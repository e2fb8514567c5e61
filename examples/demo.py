"""`make demo`: start an app and a server, place an order, and print its steps as they happen.

Exit code 0 when the order went through, 1 when anything did not. Both processes are ended again.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
ORDER = {"id": "1001", "cents": 4200, "email": "ada@example.com"}
ENDED = ("Completed", "Failed", "Cancelled")
READY_TIMEOUT_S = 30.0
RUN_TIMEOUT_S = 30.0

# The machine's proxy settings are not for what runs on the machine itself.
_opener = build_opener(ProxyHandler({}))

T = TypeVar("T")


class DemoError(Exception):
    """What did not work, for a person."""


def main() -> int:
    """Run the demo; returns the exit code."""
    app_port, server_port = _free_port(), _free_port()
    app_url, server_url = (f"http://127.0.0.1:{port}" for port in (app_port, server_port))
    with tempfile.TemporaryDirectory(prefix="innkeeper-demo-") as folder:
        serve = [str(BIN / "uvicorn"), "main:app", "--port", str(app_port), "--log-level", "warning"]
        dev = [str(BIN / "innkeeper"), "dev", "--port", str(server_port), "--data", f"{folder}/data"]
        dev += ["--no-discovery", "-u", f"{app_url}/api/inngest"]
        try:
            with (
                _process("app", serve, HERE / "python-quickstart", Path(folder), server_url) as app,
                _process("server", dev, Path(folder), Path(folder), server_url) as server,
            ):
                _say(f"app     {app_url}/api/inngest (examples/python-quickstart/main.py)")
                _say(f"server  {server_url} (innkeeper dev)")
                app.until("answers", lambda: _answers(f"{app_url}/api/inngest"))
                server.until("is ready", lambda: _answers(f"{server_url}/ready"))
                server.until("knows the function", lambda: _knows(server_url, "shop-process-order"))
                return _place_order(server_url)
        except DemoError as error:
            _say(f"\n✗ {error}")
            return 1


def _place_order(server_url: str) -> int:
    event = {"name": "shop/order.placed", "data": ORDER}
    _say(f"\n→ event {event['name']} {json.dumps(ORDER)}")
    event_id = _fetch(f"{server_url}/e/demo", event)["ids"][0]
    runs = _wait(
        "the event starts a run",
        lambda: _fetch(f"{server_url}/v1/events/{event_id}/runs")["data"],
        READY_TIMEOUT_S,
    )
    run_id = runs[0]["run_id"]
    _say(f"  run {run_id}")
    started, shown = time.monotonic(), set[tuple[str, str]]()

    def ended() -> dict[str, Any] | None:
        run: dict[str, Any] = _fetch(f"{server_url}/v1/runs/{run_id}")["data"]
        for step in run.get("steps") or []:
            if (key := (step["id"], step["status"])) not in shown:
                shown.add(key)
                _say(_line(time.monotonic() - started, step))
        # Steps are history, which may be written a moment after the end of the run.
        complete = all(step["status"] in ENDED for step in run.get("steps") or [{"status": ""}])
        return run if run["status"] in ENDED and complete else None

    run = _wait("the run ends", ended, RUN_TIMEOUT_S)
    good = run["status"] == "Completed"
    _say(f"{'✓' if good else '✗'} {run['status']} {json.dumps(run.get('output'), ensure_ascii=False)}")
    return 0 if good else 1


def _line(after_s: float, step: dict[str, Any]) -> str:
    result = step.get("output", step.get("error"))
    shown = "" if result is None else json.dumps(result, ensure_ascii=False)
    return f"  {after_s:5.2f} s  {step['name']:<14} {step['status']:<10} {shown}".rstrip()


class _Process:
    """A child whose output goes to a file and is shown only when something is wrong."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._name, self._popen, self._log = name, popen, log

    def until(self, what: str, check: Callable[[], bool]) -> None:
        def alive_and_checked() -> bool:
            if self._popen.poll() is not None:
                raise DemoError(f"the {self._name} ended with {self._popen.returncode}:\n{self._said()}")
            return check()

        try:
            _wait(f"the {self._name} {what}", alive_and_checked, READY_TIMEOUT_S)
        except TimeoutError as error:
            raise DemoError(f"{error}:\n{self._said()}") from None

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]


@contextlib.contextmanager
def _process(name: str, argv: Sequence[str], cwd: Path, logs: Path, server_url: str) -> Iterator[_Process]:
    env = os.environ | {"INNGEST_DEV": server_url, "PYTHONUNBUFFERED": "1"}
    log = logs / f"{name}.log"
    with log.open("wb") as out:
        try:
            popen = subprocess.Popen(argv, cwd=cwd, env=env, stdout=out, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            raise DemoError(f"{argv[0]} is missing: install the project with its dev extra first") from None
        try:
            yield _Process(name, popen, log)
        finally:
            popen.terminate()
            try:
                popen.wait(15)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()


def _wait(what: str, check: Callable[[], T | None], timeout_s: float) -> T:
    """Ask until the answer is true.

    Raises:
        TimeoutError: it was not in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if result := check():
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.05)


def _fetch(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data=data, headers={"Content-Type": "application/json"})
    with _opener.open(request, timeout=10) as reply:
        return json.loads(reply.read())


def _answers(url: str) -> bool:
    try:
        with _opener.open(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (HTTPError, URLError, OSError):
        return False


def _knows(server_url: str, slug: str) -> bool:
    return slug in json.dumps(_fetch(f"{server_url}/dev"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TimeoutError as error:
        _say(f"\n✗ {error}")
        sys.exit(1)
