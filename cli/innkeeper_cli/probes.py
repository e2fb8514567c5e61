"""`/live` and `/ready` for a role that serves nothing else: what a Kubernetes probe asks, and nothing more of HTTP."""

import asyncio
import json
from collections.abc import Callable, Mapping

from innkeeper_cli.errors import RoleError

_READ_TIMEOUT_S = 5.0
_MAX_HEAD_BYTES = 8192

Checks = Mapping[str, str]
"""Name -> `ok`, or what is wrong."""


def answer(request_line: str, checks: Callable[[], Checks]) -> tuple[int, dict[str, object]]:
    """Status and body for a request line. `/live` is 200 while the process answers, `/ready` while all is `ok`."""
    method, _, rest = request_line.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if path not in ("/live", "/ready"):
        return 404, {"status": 404, "error": "only /live and /ready are served here"}
    if method not in ("GET", "HEAD"):
        return 405, {"status": 405, "error": f"{path} is read with GET"}
    if path == "/live":
        return 200, {"status": 200, "message": "OK"}
    found = dict(checks())
    status = 200 if all(state == "ok" for state in found.values()) else 503
    return status, {"status": status, "checks": found}


class Probes:
    """A server for `answer`."""

    def __init__(self, checks: Callable[[], Checks], *, host: str, port: int) -> None:
        """`port` 0 takes a free one; see `port` after `start`."""
        self._checks = checks
        self._host = host
        self._server: asyncio.Server | None = None
        self.port = port

    async def start(self) -> None:
        """Listen.

        Raises:
            RoleError: the address is taken, or not this machine's.
        """
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self.port, limit=_MAX_HEAD_BYTES
            )
        except OSError as error:
            why = error.strerror or str(error)
            raise RoleError(
                f"cannot listen on {self._host}:{self.port} for probes: {why}; choose another with --port or --host"
            ) from error
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
                line = head.partition(b"\r\n")[0].decode("latin-1")
                status, body = answer(line, self._checks)
                text = json.dumps(body).encode()
                writer.write(
                    f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()
                    + (b"" if line.startswith("HEAD ") else text)
                )
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever asked has gone, or does not speak HTTP: there is nobody to answer.
            writer.transport.abort()
        finally:
            writer.close()


_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
