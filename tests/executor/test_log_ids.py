"""What executors log says which run it is about, and nothing of what users sent."""

import io
import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog

from innkeeper_cli.logs import set_up
from tests.executor.house import ENV, House, function, output

SECRET = "what-the-user-sent"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """The log as JSON, at its most talkative."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    set_up("json", "debug", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], root.level = before, level


async def test_lines_of_a_request_carry_the_ids_of_its_run(house: House, lines: io.StringIO) -> None:
    """As fields, also where the one that logs knows nothing of runs. Two at once do not mix."""
    own = structlog.get_logger("innkeeper.test")

    def answer(call: object) -> object:
        own.info("an app was asked")
        return output(SECRET)

    await house.register(function("f"), function("g"))
    house.driver.scripts = {"f": answer, "g": answer}  # type: ignore[dict-item]
    await house.start_executor()
    runs = {}
    for slug in ("f", "g"):
        event = await house.send(f"test/{slug}", {"x": SECRET})
        runs[slug] = event
    await house.so_many_ended(2)
    entries = [orjson.loads(line) for line in lines.getvalue().splitlines()]
    asked = [entry for entry in entries if entry["event"] == "an app was asked"]
    expected = {(ENV, slug, (await house.started(event))[0]) for slug, event in runs.items()}
    assert {(entry["env"], entry["function"], entry["run"]) for entry in asked} == expected
    assert SECRET not in lines.getvalue()
