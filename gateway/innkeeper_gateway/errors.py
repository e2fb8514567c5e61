"""Errors as the API answers them: `{"error": sentence, "data": null, "status": n}` with the same HTTP status."""

from typing import Any

import orjson
from starlette.responses import Response

from innkeeper_engine.store.connection import StoreError, StoreUnavailableError

RETRY_AFTER_S = 2
"""What a client is told to wait when Redis is away or full."""

_NOT_NOW = {
    "OOM": "Redis has too little memory left",
    "LOADING": "Redis is loading its data",
    "BUSY": "Redis is busy with a script",
    "READONLY": "Redis is a replica now: a failover is under way",
    "MASTERDOWN": "Redis has lost its primary",
    "CLUSTERDOWN": "the Redis cluster is down",
    "TRYAGAIN": "the Redis cluster is moving keys",
    "NOREPLICAS": "Redis has too few replicas to write",
    "MISCONF": "Redis cannot save to disk",
}
"""How Redis begins an error that passes by itself or by an operator's hand; the request was right."""


class ApiError(Exception):
    """A request that is refused; becomes the answer."""

    def __init__(
        self, status: int, message: str, *, headers: dict[str, str] | None = None, data: Any = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        """One sentence: what is wrong, where, and what would be right."""
        self.headers = headers or {}
        self.data = data


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer. `content` may hold `orjson.Fragment`s: payloads that are passed on unread."""
    return Response(orjson.dumps(content), status, headers, "application/json")


def error_response(
    status: int, message: str, headers: dict[str, str] | None = None, data: Any = None
) -> Response:
    """An error in the API's form.

    A message quotes what somebody sent: `?` stands for half a character (a lone surrogate) in it.
    """
    said = message.encode(errors="replace").decode()
    return json_response({"error": said, "data": data, "status": status}, status, headers)


def store_trouble(error: Exception) -> str | None:
    """Why the store cannot serve a request now, in words; None where the error is of another kind (a bug)."""
    if isinstance(error, StoreUnavailableError | TimeoutError):
        return "Redis cannot be reached"
    if isinstance(error, StoreError):
        return _NOT_NOW.get(str(error).partition(" ")[0])
    return None


def close_unless(stays: bool) -> tuple[tuple[bytes, bytes], ...]:
    """The header that ends the connection, unless it stays."""
    return () if stays else ((b"connection", b"close"),)


def trouble_response(trouble: str) -> Response:
    """503 with the wait after which a client may try again."""
    return error_response(503, f"{trouble}; try again", {"Retry-After": str(RETRY_AFTER_S)})
