"""The gateway as a server: uvicorn in the running event loop, started and stopped by whoever owns that loop."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Iterator
from typing import Any, cast

import structlog
import uvicorn

from innkeeper_gateway.app import GatewayApp
from innkeeper_gateway.protocol import BoundedProtocol, ConnectionLimits

_KEEP_ALIVE_S = 75
"""Longer than load balancers keep an idle connection, so that it is they who close it."""
_BACKLOG = 2048
MOST_CONNECTIONS = 10_000
"""Beyond so many, requests are answered 503."""

_log = structlog.get_logger(__name__)


class GatewayStartError(Exception):
    """The gateway cannot listen where it should."""


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves signals to its owner and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class GatewayServer:
    """Serves one gateway app over HTTP.

    >>> server = GatewayServer(app, host="127.0.0.1", port=8288)
    >>> await server.start()
    >>> await server.stop(grace_s=10)
    """

    def __init__(
        self, app: GatewayApp, *, host: str, port: int, limits: ConnectionLimits | None = None
    ) -> None:
        """`port` 0 takes a free one; see `port` after `start`. `limits`: what each connection may do."""
        self._limits = limits or ConnectionLimits()
        self._app = app
        self._host = host
        self._wanted_port = port
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = port

    async def start(self) -> None:
        """Listen; returns when requests are answered.

        Raises:
            GatewayStartError: the address is taken, or is none of this machine's.
        """
        listener = self._listen()
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http=cast(Any, functools.partial(BoundedProtocol, limits=self._limits)),
            limit_concurrency=MOST_CONNECTIONS,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve([listener]), name="gateway")
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self._task, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not self._server.listening.is_set():
            listening.cancel()
            await self._task
            raise GatewayStartError(f"the server on {self._host}:{self.port} ended before it listened")
        _log.info("gateway listens", host=self._host, port=self.port)

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """Answer what has been asked, for `grace_s` at most, and end. What then still runs is cancelled."""
        if self._server is None or self._task is None:
            return
        self._app.drain()
        # Whoever waits for news of a run gets what is known now.
        await self._app.close()
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        await self._task
        await self._app.finish()
        self._server = self._task = None
        _log.info("gateway has stopped", host=self._host, port=self.port)

    async def wait(self) -> None:
        """Until the server has ended."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def _listen(self) -> socket.socket:
        try:
            family = socket.getaddrinfo(self._host, self._wanted_port, type=socket.SOCK_STREAM)[0][0]
            # By name: asyncio does without Nagle's algorithm (RFC 896) only where it sees that this is TCP. With it the
            # body of an answer waits 40 ms for the other side to acknowledge its head.
            listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((self._host, self._wanted_port))
                listener.setblocking(False)
            except OSError:
                listener.close()
                raise
        except OSError as error:
            where = f"{self._host}:{self._wanted_port}"
            raise GatewayStartError(f"cannot listen on {where}: {error.strerror or error}") from error
        return listener
