"""Reading what an SDK declared, field by field, and noting everything that is wrong with it.

SDKs differ in how they spell keys (`appName`, `appname`, `deploy_type`) and in whether they send an
absent value as `null`. Keys are therefore compared without case and underscores, of two that are equal so
the last one counts, null is the same as absent, and keys that nobody asks for are ignored.

Nothing here raises for what an SDK sent: a value of the wrong kind is a `Problem` at its field, and reads
as absent.
"""

from typing import Any

import msgspec

from innkeeper_engine.durations import DurationError, format_duration, parse_duration_ms

_LARGEST = 2**53 - 1
"""Larger numbers lose digits in JavaScript, and where a script of the store calculates with doubles."""


class Problem(msgspec.Struct, frozen=True):
    """Something wrong, or odd, in what an app declared."""

    function: str | None
    """The function's slug; None where it has none, or for the app itself."""
    field: str
    """Where, in the keys of the wire (`triggers[0].cron`); `body` for the request as a whole."""
    message: str
    """What is wrong and what would be right."""

    def __str__(self) -> str:
        where = f"{self.function}: {self.field}" if self.function else self.field
        return f"{where}: {self.message}"


class Findings:
    """Everything found so far, about one function or the app itself; `of` shares the lists."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._function: str | None = None

    def of(self, function: str | None) -> "Findings":
        """The same findings, where what is noted from here is about `function`."""
        about = Findings()
        about.problems, about.warnings, about._function = self.problems, self.warnings, function
        return about

    def problem(self, field: str, message: str) -> None:
        """Note what makes the registration be refused."""
        self.problems.append(Problem(self._function, field, message))

    def warn(self, field: str, message: str) -> None:
        """Note what is accepted but probably not meant."""
        self.warnings.append(Problem(self._function, field, message))


class Fields:
    """One JSON object of a declaration."""

    def __init__(self, value: dict[str, Any], findings: Findings, path: str = "") -> None:
        """`path` is where the object stands in its function, "" for the function or the body itself."""
        self.findings = findings
        self.path = path
        self._values = {fold(key): item for key, item in value.items() if item is not None}

    def at(self, key: str) -> str:
        """The path of one of its fields."""
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str) -> Any:
        """The decoded value; None where it is absent or null."""
        return self._values.get(fold(key))

    def problem(self, key: str, message: str) -> None:
        """Note a problem at one of the fields."""
        self.findings.problem(self.at(key), message)

    def warn(self, key: str, message: str) -> None:
        """Note a warning at one of the fields."""
        self.findings.warn(self.at(key), message)

    def text(self, key: str) -> str | None:
        """A text; None where it is absent or empty."""
        value = self.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self.problem(key, f"is {kind(value)}, a text is wanted")
            return None
        if not is_unicode(value):
            self.problem(key, "holds half a character (a lone surrogate)")
            return None
        return value

    def identity(self, key: str, missing: str, longest: int = 255) -> str | None:
        """A text that names something, and must be there; `missing` says what to write."""
        before = len(self.findings.problems)
        value = self.text(key)
        if value is None or not value.strip():
            if len(self.findings.problems) == before:
                self.problem(key, f"is missing: {missing}")
            return None
        if len(value) > longest:
            self.problem(key, f"has {len(value)} characters, {longest} is the most")
            return None
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
            self.problem(key, "holds a control character, such as a line break")
            return None
        return value

    def integer(self, key: str, low: int, high: int | None = None) -> int | None:
        """A whole number from `low` to `high` (None: any); None where it is absent or not one."""
        value = self.get(key)
        if value is None:
            return None
        return whole_number(value, self.at(key), self.findings, low, high)

    def duration(self, key: str, low_ms: int, high_ms: int) -> int | None:
        """A duration in ms within bounds; None where it is absent, the empty text, or not one."""
        value = self.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self.problem(key, f'is {kind(value)}, a duration is a text such as "10s"')
            return None
        try:
            length_ms = parse_duration_ms(value)
        except DurationError as error:
            self.problem(key, str(error))
            return None
        if not low_ms <= length_ms <= high_ms:
            bounds = f"{format_duration(low_ms)} to {format_duration(high_ms)}"
            self.problem(key, f"{value!r} is too {'short' if length_ms < low_ms else 'long'}: write {bounds}")
            return None
        return length_ms

    def required_duration(self, key: str, low_ms: int, high_ms: int) -> int | None:
        """Like `duration`, where an absent one is a problem."""
        if self.get(key) in (None, ""):
            self.problem(key, 'is missing: write a duration, for example "10s"')
            return None
        return self.duration(key, low_ms, high_ms)

    def nested(self, key: str) -> "Fields | None":
        """An object; None where it is absent or not one."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.problem(key, f"is {kind(value)}, an object is wanted")
            return None
        return Fields(value, self.findings, self.at(key))

    def items(self, key: str) -> list[Any]:
        """The entries of a list; empty where it is absent or not one."""
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.problem(key, f"is {kind(value)}, a list is wanted")
            return []
        return value

    def objects(self, key: str) -> list["Fields"]:
        """The objects of a list; entries that are none are problems, and left out."""
        found = []
        for index, entry in enumerate(self.items(key)):
            path = f"{self.at(key)}[{index}]"
            if isinstance(entry, dict):
                found.append(Fields(entry, self.findings, path))
            else:
                self.findings.problem(path, f"is {kind(entry)}, an object is wanted")
        return found


def whole_number(value: Any, field: str, findings: Findings, low: int, high: int | None) -> int | None:
    """A whole number within bounds; None, and a problem at `field`, where it is not one."""
    if not isinstance(value, int) or isinstance(value, bool):
        findings.problem(field, f"is {kind(value)}, a whole number is wanted")
        return None
    most = _LARGEST if high is None else high
    if not low <= value <= most:
        wanted = f"{low} to {most}" if high is not None or value > most else f"{low} or more"
        findings.problem(field, f"{value} is too {'small' if value < low else 'large'}: write {wanted}")
        return None
    return value


def fold(key: str) -> str:
    """What is left of a key when case and underscores do not count."""
    return key.replace("_", "").lower()


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded; one decoded from `"\\ud800"` cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return "a text"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number with too many digits"
