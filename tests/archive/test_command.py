"""`innkeeper export`, as it is called."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from innkeeper_cli import exporting
from innkeeper_cli.main import main
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store
from tests.archive.archives import lines_in, parquet_in
from tests.archive.test_export_store import fold
from tests.conftest import ValkeyProcess
from tests.engine.model_runs import ENV, do, event_id, finish, route_all, start

HOUR = 3_600_000

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture
def url(private_valkey: Callable[..., ValkeyProcess], monkeypatch: pytest.MonkeyPatch) -> str:
    """A server of the test's own, which INNKEEPER_REDIS_URL leads to."""
    found = f"unix://{private_valkey().path}"
    monkeypatch.setenv("INNKEEPER_REDIS_URL", found)
    return found


def run(*argv: str) -> Result:
    """What the command says."""
    return CliRunner().invoke(main, ["export", *argv])


async def fill(url: str, count: int, spread: int) -> None:
    """An environment with an app, events, and runs that ended in the last hours, on the server's own clock."""
    store = Store(Address.parse(url))
    await store.open()
    await store.configure(ENV, app="app", blob=b"{}")
    await store.append(ENV, [(event_id(n), "a", b'{"data":{"n":%d},"name":"a"}' % n) for n in range(count)])
    await route_all(store)
    for n in range(count):
        await do(store, start(f"r{n:05}", event=n), finish(f"r{n:05}"))
    await fold(store)
    ended = store.key(f"ended:{ENV}")
    at = {
        run.id: run.ended_ms for run in await store.ended_runs(ENV, from_ms=0, until_ms=10**15, limit=count)
    }
    for n in range(count):
        run_id = f"r{n:05}"
        # As if they had ended hours ago: windows are over then.
        await store.command("ZADD", ended, "XX", at[run_id] - (1 + n % spread) * HOUR, run_id)
    await store.close()


def test_it_writes_what_is_over(url: str, tmp_path: Path) -> None:
    """Parquet, of all environments; called again, nothing more."""
    asyncio.run(fill(url, 30, 3))
    first = run("--to", str(tmp_path))
    assert first.exit_code == 0, first.output
    assert f"runs of {ENV}: 30 in 3 files, through " in first.output
    assert {row[0] for row in parquet_in(tmp_path, "runs", "run_id")} == {f"r{n:05}" for n in range(30)}
    again = run("--to", str(tmp_path), "--from", "2020-01-01", "-e", ENV, "--only", "runs")
    assert f"runs of {ENV}: 0 in 0 files" in again.output
    assert "events" not in again.output


def test_wrong_orders_are_told(url: str, tmp_path: Path) -> None:
    """Before anything is written where that can be."""
    for argv, why in (
        (["--from", "yesterday"], "write 2026-11-23"),
        (["--expiring-within", "soon"], "soon"),
        (["--expiring-within", "0s"], "no time ahead"),
        (["--window", "7m"], "no length of a window"),
        (["--window", "x"], "'x'"),
    ):
        result = run("--to", str(tmp_path / "a"), *argv)
        assert (result.exit_code, why in result.output) == (2, True), result.output
    assert not (tmp_path / "a").exists()
    result = run("--to", str(tmp_path / "a"), "-e", "nowhere")
    assert (result.exit_code, "there is no environment 'nowhere'" in result.output) == (1, True)
    assert run("--to", "ftp://x").exit_code == 1


def test_a_missing_library_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""

    class Refuser:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "obstore":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.delitem(sys.modules, "obstore", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refuser, *sys.meta_path])
    result = run("--to", "s3://bucket")
    assert (result.exit_code, "pip install 'innkeeper-server[export]'" in result.output) == (1, True), (
        result.output
    )


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-02", 86_400_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01.5Z", 1500),
        ("1970-01-01 00:01", 60_000),
    ],
)
def test_times_as_people_write_them(text: str, at_ms: int) -> None:
    assert exporting.parse_moment_ms(text) == at_ms


@pytest.mark.slow
def test_it_may_be_killed_whenever(url: str, tmp_path: Path) -> None:
    """By SIGKILL, at random moments: in the end the files have each run once."""
    asyncio.run(fill(url, 3_000, 60))
    argv = [sys.executable, "-m", "innkeeper_cli.main", "export", "--to", str(tmp_path), "--format", "ndjson"]
    argv += ["--window", "5m", "--only", "runs"]
    dice, killed = random.Random(7), 0
    for _ in range(14):
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        assert process.stdout is not None
        # Some files, and then a moment of the next.
        for _ in range(dice.randrange(1, 4)):
            process.stdout.readline()
        process.kill()
        killed += process.wait() != 0
        process.stdout.close()
    assert killed > 5
    assert subprocess.run(argv, check=False, env=dict(os.environ), capture_output=True).returncode == 0
    found = [row["run_id"] for row in lines_in(tmp_path, "runs")]
    assert sorted(found) == [f"r{n:05}" for n in range(3_000)]
