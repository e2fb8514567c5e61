"""The `innkeeper` command from outside: help, errors, exit codes, and whole processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from click.testing import CliRunner, Result

from innkeeper_cli.main import main
from tests.conftest import ValkeyProcess

BIN = Path(sys.executable).parent / "innkeeper"
KEY = "ab" * 32

pytestmark = pytest.mark.usefixtures("restored_logging")


def run(*args: str, **env: str) -> Result:
    cleared = {name: "" for name in os.environ if name.startswith("INNKEEPER_")}
    return CliRunner().invoke(main, args, env=cleared | env)


# ---- words


def test_help_names_the_commands() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in ("dev", "gateway", "executor", "version"):
        assert f"\n  {command} " in result.output


def test_the_help_of_dev_names_every_option_and_its_default() -> None:
    text = run("dev", "--help").output
    for option in (
        "-u, --sdk-url URL",
        "--no-discovery",
        "--no-poll",
        "--poll-interval SECONDS",
        "--port",
        "--host",
        "--redis URL",
        "--data DIR",
        "--memory",
        "--log-format [json|console]",
    ):
        assert option in text
    for default in ("5.0", "8288", "127.0.0.1"):
        assert default in text


def test_the_version_is_one_line() -> None:
    assert run("version").output.count("\n") == 1
    assert run("version").output.strip() in run("--version").output


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["dev", "-u", "ftp://x"], "such as http://localhost:3000/api/inngest"),
        (["dev", "--memory", "--data", "x"], "choose one"),
        (["dev", "--memory", "--redis", "redis://localhost"], "choose one"),
        (["dev", "--port", "99999"], "not in the range"),
        (["dev", "--poll-interval", "0"], "not in the range"),
        (["dev", "--redis", "http://localhost"], "INNKEEPER_REDIS_URL: a Redis URL begins with"),
        (["dev", "--log-format", "xml"], "not one of 'json', 'console'"),
        (["serve"], "No such command"),
    ],
)
def test_a_wrong_command_line_is_said_to_be_and_exits_with_2(args: list[str], says: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize(
    ("role", "needed"),
    [
        ("gateway", ["INNKEEPER_REDIS_URL", "INNKEEPER_EVENT_KEY", "INNKEEPER_SIGNING_KEY"]),
        ("executor", ["INNKEEPER_REDIS_URL", "INNKEEPER_SIGNING_KEY", "INNKEEPER_ENCRYPTION_KEY"]),
    ],
)
def test_a_role_without_keys_does_not_start_and_names_them(role: str, needed: list[str]) -> None:
    result = run(role)
    assert result.exit_code == 2
    for name in needed:
        assert f"{name} (or {name}_FILE) is not set" in result.stderr
    assert "openssl rand -hex 32" in result.stderr


def test_an_error_in_a_setting_never_shows_what_it_holds() -> None:
    result = run("executor", INNKEEPER_SIGNING_KEY="hunter2", INNKEEPER_ENCRYPTION_KEY="hunter2")
    assert result.exit_code == 2
    assert "hunter2" not in result.output + result.stderr


# ---- processes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """A process of the command, its stdout read as it comes."""

    def __init__(self, *args: str, **env: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("INNKEEPER_")}
        self.lines: list[str] = []
        self._more = threading.Condition()
        self.process = subprocess.Popen(
            [str(BIN), *args],
            env=kept | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.rstrip())
                self._more.notify_all()

    def until(self, text: str, timeout_s: float = 20.0) -> str:
        """The first line with `text`, once it is there."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        with self._more:
            if not self._more.wait_for(found, timeout_s):
                raise AssertionError(f"no line with {text!r} in:\n" + "\n".join(self.lines))
            line = found()
            assert line is not None
            return line

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def start() -> Iterator[Any]:
    started: list[Running] = []

    def make(*args: str, **env: str) -> Running:
        started.append(Running(*args, **env))
        return started[-1]

    yield make
    for running in started:
        running.close()


def valkey_of(running: Running) -> psutil.Process:
    (child,) = psutil.Process(running.process.pid).children()
    return child


def test_a_dev_server_keeps_what_it_answered_through_a_kill_and_leaves_nothing_running(
    start: Any, tmp_path: Path
) -> None:
    port = free_port()
    args = ("dev", "--port", str(port), "--data", str(tmp_path / "data"), "--no-discovery")
    first = start(*args)
    first.until("Durability")
    assert "fsync" in first.until("Durability")
    assert str(tmp_path / "data") in first.until("Data ")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert client.get("/ready").json()["durability"] == "fsync"
        sent = client.post("/e/any", json={"name": "test/kept", "data": {"n": 1}}).json()
        valkey = valkey_of(first)
        first.process.kill()
        first.wait()
        # Started at once: it waits for the last bytes of the server that was left behind.
        second = start(*args)
        second.until("Durability")
        psutil.wait_procs([valkey], timeout=5)
        assert not valkey.is_running()
        assert client.get(f"/v1/events/{sent['ids'][0]}").json()["data"]["name"] == "test/kept"
    valkey = valkey_of(second)
    assert second.end(signal.SIGINT) == 0
    assert not valkey.is_running()
    assert (tmp_path / "data" / "encryption.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data" / "valkey.log").exists()


def test_a_dev_server_in_memory_leaves_nothing_behind(start: Any, tmp_path: Path) -> None:
    running = start(
        *("dev", "--port", str(free_port()), "--memory", "--no-discovery", "--log-format", "json"),
        TMPDIR=str(tmp_path),
        XDG_STATE_HOME=str(tmp_path / "state"),
    )
    ready = json.loads(running.until('"ready"'))
    assert (ready["durability"], ready["directory"]) == ("memory", "")
    assert running.end() == 0
    assert list(tmp_path.iterdir()) == []


def test_two_dev_servers_never_share_a_directory_nor_a_port(start: Any, tmp_path: Path) -> None:
    port = free_port()
    first = start("dev", "--port", str(port), "--data", str(tmp_path / "a"), "--no-discovery")
    first.until("Durability")
    same_data = start("dev", "--port", str(free_port()), "--data", str(tmp_path / "a"), "--no-discovery")
    same_port = start("dev", "--port", str(port), "--data", str(tmp_path / "b"), "--no-discovery")
    assert (same_data.wait(), same_port.wait()) == (1, 1)
    assert len(same_data.lines) == 1
    assert f"in use by another innkeeper dev (pid {first.process.pid})" in same_data.lines[0]
    assert f"cannot listen on 127.0.0.1:{port}" in same_port.until("innkeeper dev: ")
    assert httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False).status_code == 200
    assert first.end() == 0


@pytest.mark.slow
def test_a_dev_server_whose_memory_store_died_ends_and_says_why(start: Any) -> None:
    running = start("dev", "--port", str(free_port()), "--memory", "--no-discovery")
    running.until("Durability")
    valkey_of(running).kill()
    assert running.wait() == 1
    assert "all runs went with it" in running.until("innkeeper dev: ")


def test_the_roles_of_a_cluster_run_apart_and_end_in_good_order(
    start: Any, private_valkey: Callable[..., ValkeyProcess], tmp_path: Path
) -> None:
    redis = f"unix://{private_valkey().path}"
    file = tmp_path / "signing-key"
    file.write_text(KEY + "\n")
    env = {
        "INNKEEPER_REDIS_URL": redis,
        "INNKEEPER_EVENT_KEY": KEY,
        "INNKEEPER_SIGNING_KEY_FILE": str(file),
        "INNKEEPER_ENCRYPTION_KEY": KEY,
        "INNKEEPER_HOST": "127.0.0.1",
    }
    ports = {role: free_port() for role in ("gateway", "executor")}
    running = {role: start(role, "--port", str(port), **env) for role, port in ports.items()}
    running["gateway"].until("gateway listens")
    running["executor"].until("executor takes work")
    for role, port in ports.items():
        assert httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False).status_code == 200, role
    url = f"http://127.0.0.1:{ports['gateway']}/e"
    assert httpx.post(f"{url}/wrong", json={"name": "a"}, trust_env=False).status_code == 401
    assert httpx.post(f"{url}/{KEY}", json={"name": "a"}, trust_env=False).status_code == 200
    for role in running.values():
        assert role.end() == 0
        entries = [json.loads(line) for line in role.lines]
        assert entries
        assert KEY not in "\n".join(role.lines)


@pytest.mark.slow
def test_a_role_without_its_store_ends_with_the_reason(start: Any, tmp_path: Path) -> None:
    env = {
        "INNKEEPER_REDIS_URL": f"unix://:hunter2@{tmp_path}/none.sock",
        "INNKEEPER_SIGNING_KEY": KEY,
        "INNKEEPER_ENCRYPTION_KEY": KEY,
    }
    running = start("executor", **env)
    assert running.wait() == 1
    assert "no Redis or Valkey at" in running.until("innkeeper executor: ")
    assert "hunter2" not in "\n".join(running.lines)
