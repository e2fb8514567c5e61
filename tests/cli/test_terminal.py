"""What a person in front of `innkeeper dev` reads."""

import io
import json
import logging
import threading

import msgspec
import pytest
import structlog

from innkeeper_apps.wire.fields import Problem
from innkeeper_apps.wire.register import RegistrationError
from innkeeper_cli import logs
from innkeeper_cli.discovery import News
from innkeeper_cli.terminal import BUSY_LINES, Banner, Console, Lines, duration, listed
from innkeeper_engine.store.durability import Durability


class Ended(msgspec.Struct):
    run: str = "01J0000000000000000000RUN1"
    slug: str = "shop-process-order"
    status: str = "Completed"
    queued_ms: int = 1_000
    ended_ms: int = 1_042
    why: str = ""


BANNER = Banner(
    version="1.2.3",
    url="http://127.0.0.1:8288",
    store="valkey 9.1.2, brought along (pid 7)",
    data="/home/ann/.local/state/innkeeper/shop-1",
    durability=Durability("fsync", "appendonly yes, appendfsync always"),
    apps=("http://localhost:3000/api/inngest",),
    discovery=True,
    poll_interval_s=5.0,
)


def shown(*, colours: bool, slug: str = "shop-process-order") -> str:
    out = io.StringIO()
    console = Console(out, colours=colours)
    console.banner(BANNER)
    console.run(Ended(slug=slug))
    console.app(News("failing", "http://localhost:3000/api/inngest", "connection refused by localhost:3000"))
    console.close()
    return out.getvalue()


def test_the_banner_says_where_what_and_how_durable() -> None:
    text = shown(colours=False)
    for fact in (
        "Innkeeper 1.2.3 is ready",
        "http://127.0.0.1:8288",
        "/home/ann/.local/state/innkeeper/shop-1",
        "fsync (appendonly yes, appendfsync always)",
        "http://localhost:3000/api/inngest",
        "looking for more on this machine (asked every 5 s)",
    ):
        assert fact in text


@pytest.mark.parametrize(
    ("apps", "discovery", "says"),
    [
        ((), True, "looking for them on this machine"),
        ((), False, "none: give their URL with -u"),
        (("http://localhost:3000/x",), False, "http://localhost:3000/x (asked every 5 s)"),
    ],
)
def test_the_banner_says_which_apps_are_asked(apps: tuple[str, ...], discovery: bool, says: str) -> None:
    out = io.StringIO()
    console = Console(out, colours=False)
    console.banner(msgspec.structs.replace(BANNER, apps=apps, discovery=discovery, data=""))
    console.close()
    assert says in out.getvalue()
    assert "--memory" in out.getvalue()


def test_a_run_is_one_line_with_function_status_duration_and_id() -> None:
    (line,) = [line for line in shown(colours=False).splitlines() if "RUN1" in line]
    assert line.split() == ["Completed", "42", "ms", "shop-process-order", "01J0000000000000000000RUN1"]


def test_a_run_that_was_skipped_is_one_line_with_the_reason() -> None:
    out = io.StringIO()
    console = Console(out, colours=False)
    console.run(Ended())
    console.run(Ended(status="Skipped", ended_ms=1_000, why="rateLimit"))
    console.close()
    completed, skipped = out.getvalue().splitlines()
    assert skipped.split() == ["Skipped", "shop-process-order", "01J0000000000000000000RUN1", "rateLimit"]
    assert skipped.index("shop") == completed.index("shop")


def refusal(count: int) -> RegistrationError:
    """A registration with so many problems."""
    message = "is no duration: write 1s; minutes: 1m; or 2d"
    problems = [Problem(f"shop-f{n}", f"cancel[{n}].timeout", message) for n in range(count)]
    return RegistrationError(problems, "At least one function is invalid")


@pytest.mark.parametrize(("count", "shown", "left_out"), [(2, 2, 0), (10, 10, 0), (11, 10, 1), (50, 10, 40)])
def test_the_problems_of_an_app_stand_in_a_line_each(count: int, shown: int, left_out: int) -> None:
    """Ten of them, and how many more there are."""
    first, *lines = listed(f"app not registered: the app at http://a/ did not register: {refusal(count)}")
    assert first == (
        "app not registered: the app at http://a/ did not register: At least one function is invalid:"
    )
    assert lines[shown:] == ([f"  and {left_out} more"] if left_out else [])
    assert lines[:shown] == [f"  {problem}" for problem in refusal(count).problems[:shown]]


@pytest.mark.parametrize(
    "text",
    [
        f"app not registered: {refusal(1)}",
        "app not registered: connection refused; is it running: no; and 3 more",
        "app registered: http://a/",
    ],
)
def test_one_problem_is_one_line(text: str) -> None:
    assert listed(text) == [text]


def test_the_lines_of_problems_are_written_to_the_terminal() -> None:
    out = io.StringIO()
    console = Console(out, colours=False)
    console.app(News("failing", "http://a/", f"http://a/: {refusal(2)}"))
    console.close()
    assert out.getvalue().splitlines() == listed(f"app not registered: http://a/: {refusal(2)}")


def test_only_a_terminal_gets_colours() -> None:
    assert "\x1b[" in shown(colours=True)
    assert "\x1b[" not in shown(colours=False)
    out = io.StringIO()
    console = Console(out)
    console.say("hello")
    console.close()
    assert out.getvalue() == "hello\n"


def test_an_app_cannot_send_control_characters_to_the_terminal() -> None:
    text = shown(colours=False, slug="evil\x1b[2J\nCompleted\x07")
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "evil�[2J�Completed�" in text


def test_a_terminal_that_is_stopped_stops_nobody_and_loses_count_of_nothing() -> None:
    go, blocked = threading.Event(), threading.Event()

    class Stopped(io.StringIO):
        def write(self, text: str) -> int:
            blocked.set()
            assert go.wait(10)
            return super().write(text)

    out = Stopped()
    console = Console(out, colours=False)
    console.say("first")
    assert blocked.wait(5)
    for n in range(BUSY_LINES + 50):
        console.say(f"line {n}")
    go.set()
    console.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "first"
    assert lines[-2:] == [f"line {BUSY_LINES - 1}", "… and 50 more lines, too many to show"]


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0 ms"),
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1.00 s"),
        (59_994, "59.99 s"),
        (59_996, "1 min 0 s"),
        (187_000, "3 min 7 s"),
        (7_500_000, "2 h 5 min"),
        (273_600_000, "3 d 4 h"),
    ],
)
def test_durations_read_well(ms: int, text: str) -> None:
    assert duration(ms) == text


@pytest.mark.usefixtures("restored_logging")
def test_programs_get_the_same_news_as_json_lines_whatever_the_level() -> None:
    out = io.StringIO()
    logs.set_up("json", "error", out)
    lines = Lines()
    lines.banner(BANNER)
    lines.run(Ended(status="Failed"))
    lines.run(Ended(status="Skipped", why="singleton"))
    lines.app(News("synced", "http://localhost:3000/api/inngest"))
    entries = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [entry["event"] for entry in entries] == ["ready", "run ended", "run ended", "app synced"]
    assert entries[0]["durability"] == "fsync"
    assert entries[0]["url"] == BANNER.url
    assert (entries[1]["function"], entries[1]["status"], entries[1]["ms"]) == (
        "shop-process-order",
        "Failed",
        42,
    )
    assert ("why" in entries[1], entries[2]["status"], entries[2]["why"]) == (False, "Skipped", "singleton")


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_the_log_shows_no_secret_and_no_body_from_either_way_of_logging(log_format: logs.LogFormat) -> None:
    out = io.StringIO()
    logs.set_up(log_format, "debug", out)
    local = "hunter2-in-a-local"
    structlog.get_logger("a").info("one", signing_key="hunter2", data={"card": "hunter2"}, run="r1")
    logging.getLogger("b").warning("two", extra={"authorization": "Bearer hunter2", "app": "shop"})
    logging.getLogger("httpx").info("HTTP Request: POST /e/hunter2")
    try:
        raise RuntimeError(f"broke with {len(local)}")
    except RuntimeError:
        structlog.get_logger("a").exception("three")
    text = out.getvalue()
    assert "hunter2" not in text
    for kept in ("one", "r1", "two", "shop", "three", "broke with 18"):
        assert kept in text


@pytest.mark.usefixtures("restored_logging")
def test_entries_below_the_level_are_left_out() -> None:
    out = io.StringIO()
    logs.set_up("json", "warning", out)
    structlog.get_logger("a").info("quiet")
    structlog.get_logger("a").warning("loud %s", "enough", n=1)
    (entry,) = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (entry["event"], entry["n"], entry["level"], entry["logger"]) == ("loud enough", 1, "warning", "a")
