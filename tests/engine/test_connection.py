"""The connection to Redis: replies to their callers, whatever breaks, and back again by itself."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.store.connection import Address, Connection, StoreError, StoreUnavailableError
from innkeeper_engine.store.store import Store
from tests.conftest import ValkeyProcess

Command = list[bytes]
Answer = Callable[[Command, int], bytes | None]
"""The reply to a command of the n-th connection; None says nothing."""


class FakeServer:
    """A server that says what a test wants, and remembers what it was told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Answer = lambda command, number: b"+OK\r\n"
        self.told: list[tuple[int, Command]] = []
        self.changed = asyncio.Condition()
        self.reading = asyncio.Event()
        self.reading.set()
        self.greeting = b""
        self.connections: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> Address:
        return Address(path=str(self.path))

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        self.drop()
        self.reading.set()
        for task in list(self._tasks):
            await task

    def drop(self) -> None:
        """Close the connections that there are."""
        for writer in self.connections:
            writer.transport.abort()

    def say(self, raw: bytes) -> None:
        """Send something on the latest connection."""
        self.connections[-1].write(raw)

    def commands(self, number: int) -> list[bytes]:
        """The names of what the n-th connection was told."""
        return [command[0] for connection, command in self.told if connection == number]

    async def until_told(self, count: int) -> None:
        """Until so many commands have come in all."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.told) >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number = len(self.connections)
        self.connections.append(writer)
        parser = hiredis.Reader()
        writer.write(self.greeting)
        try:
            while True:
                await self.reading.wait()
                data = await reader.read(1 << 16)
                if not data:
                    break
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    self.told.append((number, command))
                    async with self.changed:
                        self.changed.notify_all()
                    reply = self.answer(command, number)
                    if reply is not None:
                        writer.write(reply)
        except ConnectionError:
            pass
        finally:
            writer.close()
            self._tasks.discard(task)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="ik-") as name:
        yield Path(name)


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[FakeServer]:
    """A fake server that listens."""
    fake = FakeServer(folder / "s")
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def connect(server: FakeServer) -> AsyncIterator[Callable[..., Awaitable[Connection]]]:
    """Opens connections to the fake server."""
    opened: list[Connection] = []

    async def one(**options: object) -> Connection:
        connection = Connection(server.address, **options)  # type: ignore[arg-type]
        opened.append(connection)
        await connection.open()
        return connection

    yield one
    for connection in opened:
        await connection.close()


Connect = Callable[..., Awaitable[Connection]]


def numbered(command: Command, number: int) -> bytes | None:
    """Answers `ECHO n` with n."""
    return b":%b\r\n" % command[1] if command[0] == b"ECHO" else b"+OK\r\n"


# ---- addresses


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address()),
        ("redis://h", Address(host="h")),
        ("redis://h:1/2", Address(host="h", port=1, database=2)),
        ("redis://:p%40ss@h", Address(host="h", password="p@ss")),
        ("redis://u:p@h:1/", Address(host="h", port=1, username="u", password="p")),
        ("rediss://h", Address(host="h", tls=True)),
        ("redis://[::1]:7", Address(host="::1", port=7)),
        ("unix:///run/v.sock", Address(path="/run/v.sock")),
        ("unix://u:p@/run/v.sock", Address(path="/run/v.sock", username="u", password="p")),
    ],
)
def test_urls_are_read(url: str, address: Address) -> None:
    """As redis-cli writes them."""
    assert Address.parse(url) == address


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h", "begins with redis://"),
        ("localhost:6379", "begins with redis://"),
        ("redis://h/one", "number of a database"),
        ("redis://h:99999", "up to 65535"),
        ("redis://h:port", "up to 65535"),
        ("redis://[h", "cannot be read"),
        ("redis://h/0?ssl_cert_reqs=none", "parameters after"),
        ("unix://", "path of a socket"),
    ],
)
def test_a_url_that_is_none_is_refused_with_what_would_be_right(url: str, why: str) -> None:
    """Before anything is tried."""
    with pytest.raises(ValueError, match=why):
        Address.parse(url)


@given(st.text("ab/?#@:%[]12", min_size=1), st.sampled_from(["redis", "rediss", "unix"]))
def test_no_message_holds_a_piece_of_a_password(middle: str, scheme: str) -> None:
    """Also where it was not percent-encoded, so that pieces of it seem to be host, port or path."""
    password = f"secret{middle}hidden"
    message = ""
    try:
        Address.parse(f"{scheme}://user:{password}@host:6379/0")
    except ValueError as error:
        message = str(error)
    assert "secret" not in message
    assert "hidden" not in message


def test_an_address_shows_no_login() -> None:
    """It goes into logs."""
    assert str(Address.parse("redis://user:secret@h:1/2")) == "h:1"
    assert str(Address.parse("unix://user:secret@/run/v.sock")) == "/run/v.sock"


# ---- replies


async def test_replies_go_to_their_callers(server: FakeServer, connect: Connect) -> None:
    """However many are under way."""
    server.answer = numbered
    connection = await connect()
    assert await asyncio.gather(*(connection.call("ECHO", n) for n in range(500))) == list(range(500))


async def test_a_caller_that_gives_up_does_not_shift_the_replies(
    server: FakeServer, connect: Connect
) -> None:
    """Its reply is taken off the wire all the same."""
    held: list[Command] = []

    def hold(command: Command, number: int) -> bytes | None:
        if command[0] == b"ECHO":
            held.append(command)
            return None
        return b"+OK\r\n"

    server.answer = hold
    connection = await connect()
    calls = [asyncio.create_task(connection.call("ECHO", n)) for n in range(3)]
    await server.until_told(4)
    calls[1].cancel()
    await asyncio.gather(calls[1], return_exceptions=True)
    server.say(b"".join(b":%b\r\n" % command[1] for command in held))
    assert [await calls[0], await calls[2]] == [0, 2]


async def test_an_error_of_the_server_is_the_caller_s(server: FakeServer, connect: Connect) -> None:
    """With the server's words; the connection goes on."""
    server.answer = lambda command, number: b"-ERR no\r\n" if command[0] == b"BAD" else b"+OK\r\n"
    connection = await connect()
    with pytest.raises(StoreError, match="ERR no"):
        await connection.call("BAD")
    assert await connection.call("GOOD") == b"OK"
    assert len(server.connections) == 1


async def test_commands_of_one_turn_leave_together(server: FakeServer, connect: Connect) -> None:
    """In order, in one write."""
    server.answer = numbered
    connection = await connect()
    server.reading.clear()
    calls = [asyncio.create_task(connection.call("ECHO", n)) for n in range(100)]
    await asyncio.sleep(0)
    server.reading.set()
    await asyncio.gather(*calls)
    assert [int(command[1]) for _, command in server.told if command[0] == b"ECHO"] == list(range(100))


# ---- breaking and coming back


async def test_what_is_under_way_when_it_breaks_fails(server: FakeServer, connect: Connect) -> None:
    """Nobody can know whether it took effect; what comes after it goes to the next connection."""
    server.answer = lambda command, number: None if command[0] == b"INCR" else b"+OK\r\n"
    connection = await connect()
    calls = [asyncio.create_task(connection.call("INCR", "k")) for _ in range(3)]
    await server.until_told(4)
    server.drop()
    assert [type(error) for error in await asyncio.gather(*calls, return_exceptions=True)] == [
        StoreUnavailableError
    ] * 3
    assert await connection.call("PING") == b"OK"
    assert server.commands(1) == [b"CLIENT", b"PING"]


async def test_what_waits_for_a_connection_goes_after_the_greeting(
    server: FakeServer, connect: Connect
) -> None:
    """An executor says hello before anything that could bring it work."""

    async def greet(fresh: Connection) -> None:
        await fresh.call("HELLO-OF-OURS")

    connection = await connect(greeting=greet)
    server.reading.clear()
    server.drop()
    while connection.connected:
        await asyncio.sleep(0)
    calls = [asyncio.create_task(connection.call("WAITING", n)) for n in range(2)]
    server.reading.set()
    await asyncio.gather(*calls)
    assert server.commands(1) == [b"CLIENT", b"HELLO-OF-OURS", b"WAITING", b"WAITING"]


@pytest.mark.parametrize("how", ["refused", "raises"])
async def test_a_greeting_that_fails_is_tried_again(server: FakeServer, connect: Connect, how: str) -> None:
    """On a fresh connection; the old one is closed, the reason can be asked for meanwhile."""
    reasons: list[str] = []

    async def greet(fresh: Connection) -> None:
        if len(server.connections) > 2:
            reasons.append(connection.last_error)
            return
        if how == "raises":
            raise RuntimeError("no greeting today")
        await fresh.call("BAD")

    server.answer = lambda command, number: b"-LOADING not yet\r\n" if command[0] == b"BAD" else b"+OK\r\n"
    connection = Connection(server.address, greeting=greet)
    await connection.open()
    try:
        assert reasons == ["LOADING not yet" if how == "refused" else "no greeting today"]
        assert await connection.call("PING") == b"OK"
        async with asyncio.timeout(5):
            while not all(writer.is_closing() for writer in server.connections[:2]):
                await asyncio.sleep(0)
    finally:
        await connection.close()


@pytest.mark.parametrize("raw", [b"?what is this\r\n", b"+unasked\r\n"], ids=["no protocol", "not asked"])
async def test_a_server_that_talks_nonsense_is_called_again(
    server: FakeServer, connect: Connect, raw: bytes
) -> None:
    """The connection cannot be trusted any more; what was under way on it fails."""
    connection = await connect()
    server.say(raw)
    while connection.connected:
        await asyncio.sleep(0)
    assert await connection.call("PING") == b"OK"
    assert len(server.connections) == 2


async def test_too_many_clients_is_no_crash(server: FakeServer) -> None:
    """A server that refuses says so before it was asked anything, and closes."""
    server.greeting = b"-ERR max number of clients reached\r\n"
    connection = Connection(server.address)
    with pytest.raises(StoreUnavailableError, match="max number of clients"):
        await connection.open(0.2)


async def test_no_server_is_an_error_with_the_address(folder: Path) -> None:
    """And the reason, without the login."""
    address = Address.parse(f"unix://user:secret@{folder}/none")
    why = r"no Redis or Valkey at .*/none within 0.05 s: .*No such file"
    with pytest.raises(StoreUnavailableError, match=why) as found:
        await Connection(address).open(0.05)
    assert "secret" not in str(found.value)


async def test_closing_ends_every_call(server: FakeServer, connect: Connect) -> None:
    """Those under way, those that wait, and those that come later: none hangs."""
    server.answer = lambda command, number: None if command[0] == b"HOLD" else b"+OK\r\n"
    connection = await connect()
    under_way = asyncio.create_task(connection.call("HOLD"))
    await server.until_told(2)
    await server.stop()
    with pytest.raises(StoreUnavailableError):
        await under_way
    waiting = asyncio.create_task(connection.call("PING"))
    await asyncio.sleep(0)
    await connection.close()
    for call in (waiting, connection.call("PING")):
        with pytest.raises(StoreUnavailableError, match="closed"):
            await call
    assert not connection.connected


async def test_a_call_under_way_fails_when_the_connection_is_closed(
    server: FakeServer, connect: Connect
) -> None:
    """Its outcome is not known."""
    server.answer = lambda command, number: None if command[0] == b"HOLD" else b"+OK\r\n"
    connection = await connect()
    under_way = asyncio.create_task(connection.call("HOLD"))
    await server.until_told(2)
    await connection.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await under_way


# ---- back-pressure


async def test_a_slow_server_holds_its_callers_back(server: FakeServer, connect: Connect) -> None:
    """Beyond some megabytes nothing more is written until it reads again; all is answered in the end."""
    connection = await connect()
    server.reading.clear()
    big = b"x" * (1 << 20)
    calls = []
    for _ in range(24):
        calls.append(asyncio.create_task(connection.call("SET", "k", big)))
        await asyncio.sleep(0.001)
    assert connection._protocol is not None
    transport = connection._protocol._transport
    assert transport is not None
    assert transport.get_write_buffer_size() < 12 << 20
    assert not connection._protocol.writable.is_set()
    server.reading.set()
    assert await asyncio.gather(*calls) == [b"OK"] * 24


async def test_what_was_held_back_when_it_broke_goes_to_the_next_connection(
    server: FakeServer, connect: Connect
) -> None:
    """It was never sent, so its outcome is known; what was written fails."""
    connection = await connect()
    server.reading.clear()
    big = b"x" * (10 << 20)
    written = asyncio.create_task(connection.call("SET", "k", big))
    await asyncio.sleep(0.01)
    held_back = asyncio.create_task(connection.call("GET", "k"))
    await asyncio.sleep(0)
    server.drop()
    server.reading.set()
    with pytest.raises(StoreUnavailableError):
        await written
    assert await held_back == b"OK"
    assert server.commands(1) == [b"CLIENT", b"GET"]


# ---- a real server


async def until_unavailable(store: Store) -> None:
    """Until the store has noticed that its server is gone."""
    while store.connected:
        await asyncio.sleep(0.001)


async def test_scripts_that_the_server_forgot_are_loaded_again(store: Store) -> None:
    """A restart or SCRIPT FLUSH empties its cache."""
    await store.due()
    await store.command("SCRIPT", "FLUSH")
    assert (await store.due()).leases == []


async def test_login_and_database(private_valkey: Callable[..., ValkeyProcess]) -> None:
    """A wrong password is the reason that is given; the right one and the database are used."""
    address = private_valkey("--requirepass", "right").address

    def with_login(password: str) -> Address:
        return Address(path=address.path, password=password, database=3)

    with pytest.raises(StoreUnavailableError, match=r"WRONGPASS|invalid password"):
        await Connection(with_login("wrong")).open(0.2)
    connection = Connection(with_login("right"), name="tester")
    await connection.open()
    try:
        async with asyncio.timeout(5):
            # Connections that were refused are closed.
            while len(clients := (await connection.call("CLIENT", "LIST")).splitlines()) > 1:
                await asyncio.sleep(0.01)
        assert b" db=3 " in clients[0]
        assert b" name=tester " in clients[0]
    finally:
        await connection.close()


async def test_a_store_lives_through_a_restart_of_its_server(
    private_valkey: Callable[..., ValkeyProcess],
) -> None:
    """Scripts are loaded and hello is said before anything else."""
    first = private_valkey()
    said: list[str] = []

    async def greet(greeter: object) -> None:
        said.append("hello")

    store = Store(first.address, greeting=greet)
    await store.open()
    try:
        await store.append("env", [("E" * 26, "x", b"{}")])
        first.stop()
        await until_unavailable(store)
        again = ValkeyProcess(first.path.parent)
        try:
            assert await store.peek(1) is None
            assert said == ["hello", "hello"]
        finally:
            again.stop()
    finally:
        await store.close()
