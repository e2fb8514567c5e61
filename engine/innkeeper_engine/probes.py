"""`/live`, `/ready` and `/metrics` of a role: what Kubernetes and Prometheus ask, and nothing more of HTTP."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from innkeeper_engine.metrics import CONTENT_TYPE

Checks = Mapping[str, str]
"""Name -> `ok`, or what is wrong."""

MetricsText = Callable[[], Awaitable[bytes]]

_READ_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 15.0
_MAX_HEAD_BYTES = 8192
_JSON = "application/json"


class ProbesStartError(Exception):
    """The address is taken, or not this machine's."""


async def answer(
    request_line: str, ready: Callable[[], Checks], metrics: MetricsText | None
) -> tuple[int, str, bytes]:
    """Status, content type and body for a request line.

    `/live` is 200 while the process answers, `/ready` while all checks are `ok`. Without `metrics` there are none.
    """
    method, _, rest = request_line.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    served = ("/live", "/ready") if metrics is None else ("/live", "/ready", "/metrics")
    if path not in served:
        listed = f"{', '.join(served[:-1])} and {served[-1]}"
        return 404, _JSON, _json({"status": 404, "error": f"only {listed} are served here"})
    if method not in ("GET", "HEAD"):
        return 405, _JSON, _json({"status": 405, "error": f"{path} is read with GET"})
    if path == "/live":
        return 200, _JSON, _json({"status": 200, "message": "OK"})
    if path == "/metrics" and metrics is not None:
        return 200, CONTENT_TYPE, await metrics()
    found = dict(ready())
    status = 200 if all(state == "ok" for state in found.values()) else 503
    return status, _JSON, _json({"status": status, "checks": found})


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


class Probes:
    """A server for `answer`."""

    def __init__(
        self,
        ready: Callable[[], Checks],
        metrics: MetricsText | None = None,
        *,
        host: str,
        port: int,
    ) -> None:
        """`port` 0 takes a free one; see `port` after `start`."""
        self._ready = ready
        self._metrics = metrics
        self._host = host
        self._server: asyncio.Server | None = None
        self.port = port

    async def start(self) -> None:
        """Listen.

        Raises:
            ProbesStartError: the address is taken, or not this machine's.
        """
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self.port, limit=_MAX_HEAD_BYTES
            )
        except OSError as error:
            what = "probes" if self._metrics is None else "probes and metrics"
            why = error.strerror or str(error)
            raise ProbesStartError(f"cannot listen on {self._host}:{self.port} for {what}: {why}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                line = head.partition(b"\r\n")[0].decode("latin-1")
                status, content_type, body = await answer(line, self._ready, self._metrics)
                writer.write(
                    f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                    + (b"" if line.startswith("HEAD ") else body)
                )
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever asked has gone, or does not speak HTTP: there is nobody to answer.
            writer.transport.abort()
        finally:
            writer.close()
