"""A gateway and an executor on a store of their own, managed, with two environments: B works, A does what it likes."""

import asyncio
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import orjson
import psutil
import redis.asyncio as aioredis

from benchmarks.flooder import Order
from benchmarks.load import Load, http_client
from benchmarks.null_app import registration
from benchmarks.processes import (
    HERE,
    NULL_APP,
    App,
    BenchmarkError,
    NotApplicable,
    Server,
    end,
    free_port,
)
from benchmarks.processes import Store as StoreProcess
from benchmarks.session import Bench, Session
from innkeeper_apps.wire.keys import bearer_hash, signing_key_digests
from innkeeper_apps.wire.register import parse_registration
from innkeeper_cli.embedded import EmbeddedValkey
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.model.environments import Environment, EventKey, Policy, SigningKey, key_digest
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.registering import register_app
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store, StoreSettings
from innkeeper_engine.store.webhooks import WebhookStore


@dataclass(frozen=True)
class Tenant:
    """An environment, as those know it who have its keys."""

    name: str
    policy: Policy = field(default_factory=Policy)
    event_key: str = field(default_factory=lambda: secrets.token_hex(16))
    signing_key: str = field(default_factory=lambda: f"signkey-bench-{secrets.token_hex(32)}")

    @property
    def bearer(self) -> str:
        """What its people show to the API."""
        return f"Bearer signkey-bench-{bearer_hash(self.signing_key)}"

    def record(self) -> Environment:
        """The environment as an operator writes it."""
        return Environment(
            name=self.name,
            policy=self.policy,
            event_keys=(EventKey(name="bench", digest=key_digest(self.event_key)),),
            signing_keys=(SigningKey(name="bench", digests=signing_key_digests(self.signing_key)),),
        )


class Flooder:
    """The process that floods (flooder.py)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def begin(self, requests: Sequence[bytes], connections: int) -> None:
        """Send these in turns, from so many connections, until `end`."""
        await self._tell(msgspec.json.encode(Order(tuple(requests), connections)))

    async def end(self) -> dict[str, int]:
        """Stop; how often what was answered, by status, and `cut` for connections that ended without an answer.

        Raises:
            BenchmarkError: the process ended.
        """
        await self._tell(b"")
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise BenchmarkError("the flooder ended (see its error above)")
        return msgspec.json.decode(line, type=dict[str, int])

    async def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()


@dataclass(frozen=True)
class House:
    """All of it."""

    session: Session
    """Of tenant B, whose app is there."""
    flooder: Flooder
    a: Tenant
    port: int
    """Of the gateway."""
    gateway: psutil.Process


@asynccontextmanager
async def house(bench: Bench, policy: Policy, webhooks: Sequence[Webhook] = ()) -> AsyncIterator[House]:
    """`policy`: that of A. `webhooks`: of A too.

    Raises:
        NotApplicable: the target is a server that runs already.
        BenchmarkError: something did not come up.
    """
    if bench.target == "peer":
        raise NotApplicable("it needs two environments, which nobody makes in a peer")
    a, b = Tenant("a", policy), Tenant("b")
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="innkeeper-bench-", dir=bench.settings.scratch)
            )
        )
        valkey = EmbeddedValkey(folder, durable=bench.target == "fsync")
        await valkey.start()
        stack.push_async_callback(valkey.stop)
        port = free_port()
        app = await App.start(NULL_APP, f"http://127.0.0.1:{port}", bench.settings.modules)
        stack.push_async_callback(app.stop)
        await _furnish(valkey, (a, b), app, webhooks)
        server, executor = await _roles(bench, folder, valkey.url, port)
        stack.push_async_callback(server.stop)
        stack.push_async_callback(end, executor)
        server.store = StoreProcess(
            psutil.Process(valkey.pid), aioredis.Redis.from_url(valkey.url), valkey.url
        )
        bench.store = await server.store.describe()
        client = await stack.enter_async_context(http_client(authorization=b.bearer))
        load = Load(client, server.url, b.event_key)
        await load.await_healthy(server.check_alive)
        assert server._process is not None
        try:
            yield House(
                Session(bench.sizes, server, app, load),
                await stack.enter_async_context(_flooder(port)),
                a,
                port,
                psutil.Process(server._process.pid),
            )
        except BenchmarkError as error:
            raise type(error)(f"{error}\ngateway's log:\n{server.log_tail()}") from error


async def _furnish(
    valkey: EmbeddedValkey, tenants: Sequence[Tenant], app: App, webhooks: Sequence[Webhook]
) -> None:
    store = Store(valkey.address, StoreSettings())
    await store.open()
    try:
        told = parse_registration(orjson.dumps(registration(app.url)))
        now_ms = SystemClock().now_ms()
        for tenant in tenants:
            await EnvironmentStore(store).write(tenant.record())
            await register_app(store, tenant.name, told.as_app(now_ms, 1), now_ms=now_ms)
        for webhook in webhooks:
            await WebhookStore(store).write(webhook)
    finally:
        await store.close()


async def _roles(
    bench: Bench, folder: Path, url: str, port: int
) -> tuple[Server, asyncio.subprocess.Process]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("INNKEEPER_")}
    env |= {
        "INNKEEPER_REDIS_URL": url,
        "INNKEEPER_MANAGED": "1",
        "INNKEEPER_ENCRYPTION_KEY": secrets.token_hex(32),
        "INNKEEPER_HOST": "127.0.0.1",
        "INNKEEPER_EGRESS_ALLOW": "127.0.0.0/8",
    }
    made: list[asyncio.subprocess.Process] = []
    for role, own in (("gateway", {"INNKEEPER_PORT": str(port)}), ("executor", {})):
        with (folder / f"{role}.log").open("wb") as out:
            try:
                made.append(
                    await asyncio.create_subprocess_exec(
                        *bench.settings.innkeeper,
                        role,
                        env=env | own,
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=out,
                        stderr=out,
                    )
                )
            except OSError as error:
                for process in made:
                    await end(process)
                raise BenchmarkError(
                    f"cannot start {bench.settings.innkeeper[0]}: {error.strerror}"
                ) from error
    gateway, executor = made
    server = Server(f"http://127.0.0.1:{port}", gateway, gateway.pid)
    server.log = folder / "gateway.log"
    return server, executor


@asynccontextmanager
async def _flooder(port: int) -> AsyncIterator[Flooder]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.flooder", str(port)),
        cwd=HERE.parent,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Flooder(process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
