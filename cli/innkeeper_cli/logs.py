"""The log: structlog, as JSON lines or for people, on stderr. Never an event's body, never a secret."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from innkeeper_cli.settings import LogFormat, LogLevel

HIDDEN = frozenset(
    {
        "authorization",
        "body",
        "data",
        "encryption_key",
        "event_key",
        "events",
        "output",
        "password",
        "payload",
        "redis_url",
        "signing_key",
        "signing_key_fallback",
        "steps",
        "webhook_key",
    }
)
"""Keys whose values are what users wrote, or what opens a door: a slip in a log call must not show them."""

TERMINAL_LOGGER = "innkeeper.dev"
"""What `innkeeper dev` tells programs in place of a person: news, shown whatever the level of the log."""

AUDIT_LOGGER = "innkeeper.audit"
"""Who changed what (`innkeeper_gateway.access.callers`): shown whatever the level of the log."""

_QUIET = ("httpx", "httpcore", "uvicorn.access", "asyncio")
"""Libraries that log every request, with its URL: an event key is a part of one."""


def hide(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that replaces the values of `HIDDEN` keys."""
    for key in HIDDEN & entry.keys():
        entry[key] = "(hidden)"
    return entry


def set_up(log_format: LogFormat, level: LogLevel, stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's logging the same way: one line per entry to `stream` (stderr)."""
    out = sys.stderr if stream is None else stream
    always: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if log_format == "json":
        last: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Plain tracebacks: the pretty ones print local variables, and those hold events and keys.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*always, structlog.stdlib.ExtraAdder(), hide],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in (TERMINAL_LOGGER, AUDIT_LOGGER):
        logging.getLogger(name).setLevel(logging.INFO)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *always,
            hide,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
