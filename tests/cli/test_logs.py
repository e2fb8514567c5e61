"""What a log shows whatever its level."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from innkeeper_cli import logs
from innkeeper_gateway.access.callers import Caller, audit
from innkeeper_gateway.places import Place


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The tests' own logging afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_changes_are_told_whatever_the_level(level: logs.LogLevel) -> None:
    lines = io.StringIO()
    logs.set_up("json", level, lines)
    structlog.get_logger("innkeeper_gateway").info("something else")
    audit(Caller(kind="person", name="ann", place=Place(env="prod")), "pause app", app="shop")
    assert '"action": "pause app"' in lines.getvalue()
    assert ("something else" in lines.getvalue()) == (level == "info")
