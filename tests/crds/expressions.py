"""The CEL rules of CustomResourceDefinitions, evaluated by cel-python as an API server evaluates them.

Two things are the API server's and not the language's: how values look to a rule (a string of `format: duration` is a
duration, a field whose name is reserved is escaped, what the schema does not declare is not there), and functions such
as `isURL`.
"""

import datetime
import functools
import ipaddress
import re
import sys
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError

from innkeeper_engine.durations import DurationError, parse_duration_ms
from tests.crds.schemas import Json

_RESERVED: Final = re.compile(
    "true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return|var|"
    "void|while"
)
_ESCAPES: Final = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_URI: Final = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:.")
_PREFIX: Final = re.compile(r"(?P<address>[0-9A-Fa-f:.]+)/(0|[1-9][0-9]{0,2})")
_MAX_DURATION_MS: Final = celtypes.DurationType.MaxSeconds * 1000


class RuleError(Exception):
    """A rule could not be evaluated: it is no CEL, or reads what is not there."""


def holds(rule: str, schema: Json, value: Any, old: Any = None) -> bool:
    """Whether a rule holds for a value at the place of `schema`.

    Args:
        rule: CEL over `self` and, if it is about a transition, `oldSelf`.
        schema: The structural schema of that place.
        value: The value at that place, with defaults.
        old: The value before, for a rule about a transition.

    Raises:
        RuleError: it cannot be evaluated.
    """
    context = {"self": to_cel(schema, value)}
    if is_transition(rule):
        context["oldSelf"] = to_cel(schema, old)
    try:
        verdict = _program(rule).evaluate(context)
    except CELEvalError as error:
        raise RuleError(f"{error.args[0]} evaluating rule: {rule}") from error
    if not isinstance(verdict, celtypes.BoolType):
        raise RuleError(f"is {verdict!r}, true or false is wanted, evaluating rule: {rule}")
    return bool(verdict)


def is_transition(rule: str) -> bool:
    """Whether a rule is about a change: it reads `oldSelf`, and is not evaluated when there is none."""
    return re.search(r"\boldSelf\b", rule) is not None


def to_cel(schema: Json, value: Any) -> Any:
    """A value as a rule sees it."""
    match value:
        case dict():
            properties = schema.get("properties", {})
            return celtypes.MapType(
                {
                    celtypes.StringType(escaped(name)): to_cel(properties[name], item)
                    for name, item in value.items()
                    if name in properties
                }
            )
        case list():
            return celtypes.ListType([to_cel(schema.get("items", {}), item) for item in value])
        case str() if schema.get("format") == "duration":
            return _duration(value)
        case str() if schema.get("format") == "date-time":
            return celtypes.TimestampType(value)
        case int() if schema.get("type") == "number" and not isinstance(value, bool):
            return celtypes.DoubleType(value)
        case _:
            return json_to_cel(value)


def escaped(name: str) -> str:
    """How a field is called in CEL: `if` is `__if__`."""
    if _RESERVED.fullmatch(name):
        return f"__{name}__"
    return re.sub(r"__|[./-]", lambda part: _ESCAPES[part[0]], name)


def _duration(text: str) -> Any:
    try:
        milliseconds = parse_duration_ms(text)
    except DurationError:
        # Left as it is: a rule that compares it fails, as it does on an API server.
        return celtypes.StringType(text)
    return celtypes.DurationType(datetime.timedelta(milliseconds=min(milliseconds, _MAX_DURATION_MS)))


@functools.cache
def _program(rule: str) -> celpy.Runner:
    limit = sys.getrecursionlimit()
    try:
        # cel-python's parser is one for the whole process, made for one class of runner: always this one.
        environment = celpy.Environment(runner_class=celpy.InterpretedRunner)
        return environment.program(environment.compile(rule), functions=_FUNCTIONS)
    except CELParseError as error:
        raise RuleError(f"{error.args[0]} in rule: {rule}") from error
    finally:
        sys.setrecursionlimit(limit)  # the environment raises it for everybody


def _is_url(text: str) -> Any:
    """An absolute URI, or an absolute path."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text) or not _URI.match(text):
        return celtypes.BoolType(False)
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return celtypes.BoolType(False)
    return celtypes.BoolType(" " not in parts.netloc and re.search(r"%(?![0-9A-Fa-f]{2})", text) is None)


def _url(text: str) -> Any:
    return text if _is_url(text) else CELEvalError(f"{text!r} is no URL")


def _query(url: str) -> Any:
    found = parse_qs(urlsplit(url).query, keep_blank_values=True)
    return json_to_cel(found)


def _is_cidr(text: str) -> Any:
    match = _PREFIX.fullmatch(text)
    if match is None:
        return celtypes.BoolType(False)
    try:
        network = ipaddress.ip_network(text, strict=False)
        address = ipaddress.ip_address(match["address"])
    except ValueError:
        return celtypes.BoolType(False)
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
    return celtypes.BoolType(network.prefixlen >= 0 and not mapped)


_FUNCTIONS: Final[dict[str, Any]] = {
    "trim": lambda text: celtypes.StringType(text.strip()),
    "isURL": _is_url,
    "url": _url,
    "getScheme": lambda url: celtypes.StringType(urlsplit(url).scheme),
    "getHostname": lambda url: celtypes.StringType(urlsplit(url).hostname or ""),
    "getQuery": _query,
    "isCIDR": _is_cidr,
}
"""What API servers add to CEL, as far as the rules use it."""
