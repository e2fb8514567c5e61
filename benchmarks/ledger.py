"""What the null app remembers about runs, keyed by the `mark` that the load generator put into the event.

The same book as `ledger.mjs` of the SDK apps: times are microseconds of CLOCK_MONOTONIC, 0 stands for never.
"""

from array import array
from collections.abc import Callable
from typing import Any, Literal

Column = Literal["first", "slept", "resumed", "finished"]
COLUMNS: tuple[Column, ...] = ("first", "slept", "resumed", "finished")
ANNOUNCED: dict[Column, bytes] = {"finished": b"f", "slept": b"s"}
"""Columns whose news are told at once, and the letter that begins such a line."""


class Ledger:
    """When each run was first called, put to sleep (or: when it is due), resumed and finished."""

    def __init__(self, announce: Callable[[], None]) -> None:
        """`announce` is called when there are news after none; `take_news` gives them."""
        self._announce = announce
        self._columns: dict[Column, array[float]] = {name: array("d") for name in COLUMNS}
        self._news: dict[Column, list[int]] = {name: [] for name in ANNOUNCED}
        self.requests = 0
        self.repeats = 0
        """Final answers given to a run that had one already: harmless, but worth seeing."""

    def note(self, name: Column, mark: int, at_us: float) -> None:
        """Write down that this happened to a run; the first time stays. A negative mark is no run of ours."""
        if mark < 0:
            return
        column = self._columns[name]
        if mark >= len(column):
            column.extend([0.0] * (mark + 1 - len(column) + 4096))
        if column[mark]:
            self.repeats += name == "finished"
            return
        column[mark] = at_us
        if name in ANNOUNCED:
            quiet = not any(self._news.values())
            self._news[name].append(mark)
            if quiet:
                self._announce()

    def take_news(self) -> bytes:
        """Lines like `f 17 18` and `s 4 5`: the marks since the last time."""
        lines = b"".join(
            letter + b" " + " ".join(map(str, self._news[name])).encode() + b"\n"
            for name, letter in ANNOUNCED.items()
            if self._news[name]
        )
        self._news = {name: [] for name in ANNOUNCED}
        return lines

    def stats(self, start: int, count: int) -> dict[str, Any]:
        """The answer to `GET /_stats?from=START&count=COUNT`: a list of times per column."""
        answer: dict[str, Any] = {"requests": self.requests, "repeats": self.repeats}
        for name, column in self._columns.items():
            known = list(column[start : start + count])
            answer[name] = known + [0.0] * (count - len(known))
        return answer
