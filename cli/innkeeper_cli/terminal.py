"""What `innkeeper dev` tells the person in front of it: a banner, a line for each run that ended, news of apps."""

import re
import sys
import threading
from typing import Literal, Protocol, TextIO

import msgspec
import structlog

from innkeeper_cli.discovery import News
from innkeeper_cli.logs import TERMINAL_LOGGER
from innkeeper_engine.store.durability import Durability

MOST_PROBLEMS = 10
"""Lines that one refusal of an app takes at most, besides its first and its last."""

BUSY_LINES = 200
"""Lines that wait for a slow terminal at most; more are counted instead of shown."""

Colour = Literal["green", "red", "yellow", "cyan", "dim", "bold", ""]

_CODES: dict[Colour, str] = {
    "green": "32",
    "red": "31",
    "yellow": "33",
    "cyan": "36",
    "dim": "2",
    "bold": "1",
}
_STATUS_COLOURS: dict[str, Colour] = {
    "Completed": "green",
    "Failed": "red",
    "Cancelled": "yellow",
    "Skipped": "dim",
}
_NEWS: dict[str, tuple[str, Colour]] = {
    "found": ("found an app at {url}", "cyan"),
    "synced": ("app registered: {url}", "green"),
    "changed": ("app changed and registered again: {url}", "green"),
    "failing": ("app not registered: {text}", "yellow"),
    "gone": ("app gone: {url}", "dim"),
}


_PROBLEMS = re.compile(
    r"(?P<summary>.*?(?:At least one function is invalid|Invalid request):) (?P<problems>.*)", re.DOTALL
)
_BETWEEN_PROBLEMS = re.compile(
    r"; (?=[^;:]{1,255}-[^;:]{0,255}: [A-Za-z_][\w.\[\]]*: |(?:url|functions)[\w.\[\]]*: |and \d+ more$)"
)
_MORE = re.compile(r"and (\d{1,9}) more")


class EndedRun(Protocol):
    """A run that ended, as the executor tells it."""

    @property
    def run(self) -> str:
        """Its id."""
        ...

    @property
    def slug(self) -> str:
        """Its function."""
        ...

    @property
    def status(self) -> str:
        """How it ended."""
        ...

    @property
    def queued_ms(self) -> int:
        """When it was accepted, ms since the epoch."""
        ...

    @property
    def ended_ms(self) -> int:
        """When it ended, ms since the epoch."""
        ...

    @property
    def why(self) -> str:
        """Why it was skipped; empty for any other end."""
        ...


class Banner(msgspec.Struct, frozen=True, kw_only=True):
    """What is true when the server is ready."""

    version: str
    url: str
    store: str
    """Which server keeps the runs, without its login."""
    data: str
    """The data directory; empty where nothing is kept."""
    durability: Durability
    apps: tuple[str, ...] = ()
    discovery: bool = True
    poll_interval_s: float | None = None
    """None: apps that have registered are not asked again."""


class Terminal(Protocol):
    """Where the news goes."""

    def banner(self, banner: Banner) -> None:
        """The server is ready."""
        ...

    def run(self, line: EndedRun) -> None:
        """A run ended."""
        ...

    def app(self, news: News) -> None:
        """Something about an app."""
        ...

    def say(self, text: str) -> None:
        """One sentence."""
        ...

    def close(self) -> None:
        """Write what waits."""
        ...


def duration(ms: int) -> str:
    """`7 ms`, `1.25 s`, `3 min 7 s`, `2 h 5 min`, `3 d 4 h`: what fits in a column."""
    if ms < 1000:
        return f"{max(ms, 0)} ms"
    seconds = ms / 1000
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    for size, unit, smaller, smaller_unit in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {smaller_unit}"
    raise AssertionError("a minute or more has one of these units")


def listed(text: str) -> list[str]:
    """The lines of a sentence that may end in the problems of a registration, each in one, some of many.

    Problems are written `<function>: <field>: <message>; ...; and 3 more`. Where there is one or none, it is one line.
    """
    match = _PROBLEMS.match(text)
    problems = _BETWEEN_PROBLEMS.split(match["problems"]) if match else []
    if match is None or len(problems) < 2:
        return [text]
    more = _MORE.fullmatch(problems[-1])
    left_out = int(more[1]) if more else 0
    if more:
        del problems[-1]
    left_out += len(problems[MOST_PROBLEMS:])
    rest = [f"  and {left_out} more"] if left_out else []
    return [match["summary"], *(f"  {problem}" for problem in problems[:MOST_PROBLEMS]), *rest]


class Console:
    """For people; coloured where it is a terminal.

    Lines are written by a thread: a terminal whose output somebody has stopped must not stop the server.
    """

    def __init__(self, out: TextIO | None = None, *, colours: bool | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._colours = self._out.isatty() if colours is None else colours
        self._waiting: list[str] = []
        self._left_out = 0
        self._changed = threading.Condition()
        self._closed = False
        self._writer = threading.Thread(target=self._write_lines, name="terminal", daemon=True)
        self._writer.start()

    def banner(self, banner: Banner) -> None:
        """Everything one needs to know to begin, aligned."""
        kept = banner.data or "nothing (--memory): all of it is gone when this ends"
        rows = [
            ("URL", banner.url),
            ("Apps", _apps(banner)),
            ("Data", kept),
            ("Store", banner.store),
            ("Durability", f"{banner.durability.mode} ({banner.durability.reason})"),
        ]
        self._line(f"\n  {self._paint('Innkeeper', 'bold')} {banner.version} is ready\n")
        for name, value in rows:
            self._line(f"  {self._paint(f'{name:<11}', 'dim')} {value}")
        self._line("")

    def run(self, line: EndedRun) -> None:
        """Status, duration, function, id; of a run that was skipped the reason instead of a duration."""
        status = self._paint(f"{line.status:<9}", _STATUS_COLOURS.get(line.status, ""))
        took = "" if line.why else duration(line.ended_ms - line.queued_ms)
        why = f"  {_printable(line.why)}" if line.why else ""
        self._line(f"{status} {took:>10}  {_printable(line.slug)}  {self._paint(line.run, 'dim')}{why}")

    def app(self, news: News) -> None:
        """One sentence, with what to do where something is wrong; each of several problems in a line of its own."""
        text, colour = _NEWS[news.kind]
        for line in listed(text.format(url=_printable(news.url), text=_printable(news.text))):
            self._line(self._paint(line, colour))

    def say(self, text: str) -> None:
        """One sentence."""
        self._line(text)

    def close(self) -> None:
        """Write what waits, for a second at most."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._writer.join(1.0)

    def _paint(self, text: str, colour: Colour) -> str:
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._colours and colour else text

    def _line(self, text: str) -> None:
        with self._changed:
            if len(self._waiting) < BUSY_LINES:
                self._waiting.append(text)
            else:
                self._left_out += 1
            self._changed.notify()

    def _write_lines(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                lines, self._waiting = self._waiting, []
                left_out, self._left_out = self._left_out, 0
                closed = self._closed
            if left_out:
                lines.append(f"… and {left_out} more lines, too many to show")
            if lines:
                self._out.write("\n".join(lines) + "\n")
                self._out.flush()
            if closed and not lines:
                return


class Lines:
    """For programs: the same news as entries of the log."""

    def __init__(self) -> None:
        self._log = structlog.stdlib.get_logger(TERMINAL_LOGGER)

    def banner(self, banner: Banner) -> None:
        """One entry."""
        self._log.info(
            "ready",
            version=banner.version,
            url=banner.url,
            store=banner.store,
            directory=banner.data,
            durability=banner.durability.mode,
            why=banner.durability.reason,
            apps=banner.apps,
            discovery=banner.discovery,
            poll_interval_s=banner.poll_interval_s,
        )

    def run(self, line: EndedRun) -> None:
        """One entry."""
        took_ms = line.ended_ms - line.queued_ms
        why = {"why": line.why} if line.why else {}
        self._log.info("run ended", function=line.slug, status=line.status, ms=took_ms, run=line.run, **why)

    def app(self, news: News) -> None:
        """One entry."""
        self._log.info(f"app {news.kind}", url=news.url, why=news.text)

    def say(self, text: str) -> None:
        """One entry."""
        self._log.info(text)

    def close(self) -> None:
        """Nothing waits."""


def _printable(text: str) -> str:
    """What apps say goes to a terminal, but their control characters must not."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _apps(banner: Banner) -> str:
    parts = [*banner.apps]
    if banner.discovery:
        parts.append("looking for more on this machine" if parts else "looking for them on this machine")
    if not parts:
        return "none: give their URL with -u, or leave out --no-discovery"
    if banner.poll_interval_s is not None:
        parts[-1] += f" (asked every {banner.poll_interval_s:g} s)"
    return f"\n{'':14}".join(parts)
