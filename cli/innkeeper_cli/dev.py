"""`innkeeper dev`: the store, the gateway, the executor and the search for apps, in one process and one event loop."""

import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from innkeeper_apps.egress import Resolver
from innkeeper_apps.sync import Syncer
from innkeeper_apps.transport import Transport
from innkeeper_cli import datadir
from innkeeper_cli.declared import Declared, DeclaredRegistrar
from innkeeper_cli.declared_webhooks import DeclaredWebhooks, webhook_key
from innkeeper_cli.discovery import Keeper, Scanner, candidates, where
from innkeeper_cli.egress import dev_policy
from innkeeper_cli.embedded import EmbeddedValkey
from innkeeper_cli.executor_role import make_executor
from innkeeper_cli.gateway_role import (
    listen,
    make_app,
    request_limits,
    reveal,
    sandbox_limits,
    store_settings,
    until_it_ends,
)
from innkeeper_cli.settings import DevRole
from innkeeper_cli.stopping import Stop
from innkeeper_cli.syncing import AppSync
from innkeeper_cli.telemetry import telemetry_of
from innkeeper_cli.terminal import Banner, Console, Lines, Terminal
from innkeeper_cli.version import VERSION
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.store import durability
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_executor.service import Executor
from innkeeper_gateway.app import GatewayApp
from innkeeper_gateway.registrars import DirectRegistrar, Registrar
from innkeeper_gateway.server import GatewayServer
from innkeeper_gateway.settings import GatewaySettings

GATEWAY_GRACE_S = 2.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says beyond the settings."""

    urls: tuple[str, ...] = ()
    discovery: bool = True
    poll: bool = True
    poll_interval_s: float = 5.0
    data: Path | None = None
    """None: a folder for this project in the user's state directory."""
    memory: bool = False
    manifests: Path | None = None
    """A folder of custom resources that hold here too."""


async def serve(role: DevRole, options: Options) -> None:
    """Run a dev server until a signal ends it.

    Raises:
        RoleError: it cannot start, or cannot go on.
        StoreUnavailableError: the given Redis is not there.
        StoppedEarlyError: told to end before it was ready.
    """
    terminal: Terminal = Lines() if role.log_format == "json" else Console()
    stop = Stop(lambda: terminal.say("ending (again to end at once) …"))
    stop.listen()
    server = DevServer(role, options, terminal)
    try:
        async with AsyncExitStack() as stack:
            await stop.unless(server.start(stack))
            await stop.wait_or_fail(*server.parts())
    finally:
        terminal.close()


class DevServer:
    """The parts of a dev server and the order of their lives."""

    def __init__(self, role: DevRole, options: Options, terminal: Terminal) -> None:
        self._role = role
        self._options = options
        self._terminal = terminal
        self._valkey: EmbeddedValkey | None = None
        self._gateway: GatewayServer | None = None
        self._keeper: Keeper | None = None
        self._webhooks: DeclaredWebhooks | None = None

    async def start(self, stack: AsyncExitStack) -> None:
        """Start everything and tell the terminal; `stack` undoes it, in order."""
        declared = self._declared()
        directory = await stack.enter_async_context(_directory(self._options))
        key = self._encryption_key(directory)
        address, description = await self._open_store(stack, directory)
        store = Store(address, store_settings(self._role), name="innkeeper-dev")
        await store.open()
        stack.push_async_callback(store.close)
        measured = await durability.measure(store)
        registrar = DeclaredRegistrar(store, declared) if declared else DirectRegistrar(store)
        transport = Transport(Resolver(dev_policy(self._role)))
        stack.push_async_callback(transport.close)
        syncer = Syncer(transport, SystemClock(), server_kind="dev")
        telemetry = telemetry_of(self._role, "innkeeper-dev", os.environ)
        stack.push_async_callback(telemetry.close)
        app = make_app(
            _gateway_settings(self._role, key), store, registrar, syncer=syncer, tracer=telemetry.tracer
        )
        gateway = GatewayServer(app, host=self._role.host, port=self._role.port)
        executor = make_executor(
            self._role,
            address,
            encryption_key=key,
            apps=dev_policy(self._role),
            requests=dev_policy(self._role),
            on_run=self._terminal.run,
            tracer=telemetry.tracer,
        )
        await executor.start()
        stack.push_async_callback(_end, app, gateway, executor)
        await listen(gateway)
        self._gateway = gateway
        urls = _once((*self._options.urls, *(declared.urls if declared else ())))
        self._keeper = self._make_keeper(transport, syncer, registrar, urls)
        url = f"http://{_shown_host(self._role.host)}:{gateway.port}"
        self._terminal.banner(
            Banner(
                version=VERSION,
                url=url,
                store=description,
                data="" if self._options.memory else str(directory),
                durability=measured,
                apps=urls,
                discovery=self._options.discovery,
                poll_interval_s=self._options.poll_interval_s if self._options.poll else None,
            )
        )
        if declared:
            self._webhooks = DeclaredWebhooks(
                declared,
                WebhookStore(store),
                app.core.sandbox,
                SystemClock(),
                env=app.core.own.name,
                encryption_key=key,
                base_url=url,
            )

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """What runs until the end."""
        assert self._gateway is not None
        assert self._keeper is not None
        parts = [until_it_ends(self._gateway), self._keeper.run()]
        if self._valkey is not None:
            parts.append(self._valkey.supervise())
        if self._webhooks is not None:
            parts.append(self._webhooks.run())
        return parts

    def _encryption_key(self, directory: Path) -> bytes:
        given = self._role.encryption_key
        if given is not None:
            return given.get_secret_value()
        return (
            secrets.token_bytes(datadir.KEY_BYTES)
            if self._options.memory
            else datadir.encryption_key(directory)
        )

    async def _open_store(self, stack: AsyncExitStack, directory: Path) -> tuple[Address, str]:
        """Where runs are kept, and how to call that in one line."""
        if self._role.redis_url is not None:
            address = Address.parse(self._role.redis_url.get_secret_value())
            return address, f"Redis or Valkey at {address}"
        valkey = EmbeddedValkey(directory, durable=not self._options.memory)
        stack.push_async_callback(valkey.stop)
        await valkey.start()
        self._valkey = valkey
        return valkey.address, f"{valkey.version}, brought along (pid {valkey.pid})"

    def _declared(self) -> Declared | None:
        folder = self._options.manifests
        return None if folder is None else Declared(folder, self._terminal.say)

    def _make_keeper(
        self, transport: Transport, syncer: Syncer, registrar: Registrar, urls: tuple[str, ...]
    ) -> Keeper:
        role, options = self._role, self._options
        keys = [key for key in (reveal(role.signing_key), reveal(role.signing_key_fallback)) if key]
        sync = AppSync(registrar, syncer, keys)
        scanner = Scanner(transport, candidates(own_port=role.port)) if options.discovery else None
        return Keeper(
            urls,
            sync,
            self._terminal.app,
            interval_s=options.poll_interval_s,
            poll=options.poll,
            scanner=scanner,
        )


def _once(urls: Iterable[str]) -> tuple[str, ...]:
    """Each app once, under the first of its URLs."""
    return tuple({where(url): url for url in reversed(tuple(urls))}.values())[::-1]


async def _end(app: GatewayApp, gateway: GatewayServer, executor: Executor) -> None:
    """The executor first: what its last requests ask of the gateway is still answered."""
    app.drain()
    await executor.drain()
    await gateway.stop(grace_s=GATEWAY_GRACE_S)


@asynccontextmanager
async def _directory(options: Options) -> AsyncIterator[Path]:
    """The data directory; with `memory` one that goes when the server ends."""
    if not options.memory:
        chosen = options.data or datadir.default_directory(Path.cwd(), os.environ)
        yield datadir.make(chosen.absolute())
        return
    directory = Path(tempfile.mkdtemp(prefix="innkeeper-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _gateway_settings(role: DevRole, encryption_key: bytes) -> GatewaySettings:
    return GatewaySettings(
        # One process has both keys anyway, so there is one to keep.
        webhook_key=webhook_key(encryption_key),
        sandbox=sandbox_limits(role),
        limits=request_limits(role),
        dev=True,
        dev_hosts=role.dev_hosts,
        event_keys=tuple(key.get_secret_value() for key in role.event_key or ()),
        signing_key=reveal(role.signing_key),
        signing_key_fallback=reveal(role.signing_key_fallback),
        version=VERSION,
    )


def _shown_host(host: str) -> str:
    """What a browser on this machine takes."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not listened on
        return "localhost"
    return f"[{host}]" if ":" in host else host
