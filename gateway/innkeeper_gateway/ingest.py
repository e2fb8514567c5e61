"""Events as senders write them, checked and brought into the form in which they are stored. Pure.

What is taken is one JSON object or an array of them, whatever the content type says. All or nothing: one bad event
refuses the whole request, and the message says which one. Kept of an event are the fields that the protocol knows:
`name`, `data`, `user`, `id`, `ts`, `v` and `meta`; null is the same as absent, other keys are dropped.

Internal ids are ULIDs counted up from a *seed*. SDKs send one with every send
(`x-inngest-event-id-seed: <ms>,<base64 of 10 bytes>`), so that a repeated send gives the same ids and is recognised;
without one, or with one that cannot be read, the server draws its own: the events are taken all the same, and a
repeated send counts as another one.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from innkeeper_apps.wire.canonical import NotJsonError, canonical_parsed, parse
from innkeeper_engine.model.clock import encode_ulid
from innkeeper_engine.store.store import NewEvent
from innkeeper_gateway.settings import MAX_EVENT_BYTES, Limits

EARLIEST_MS: Final = 315_532_800_000
"""1980-01-01: a `ts` before this one is not in milliseconds."""
LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01."""

RESERVED_PREFIX: Final = "inngest/"

_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_SEED: Final = re.compile(r"\s*(\d{1,15})\s*,\s*([A-Za-z0-9+/]{14}={0,2})\s*", re.ASCII)
_ENTROPY_BYTES: Final = 10
_NO_EVENTS: Final = "Request body must contain an event object or an array of event objects"
_EMPTY: Final[dict[str, Any]] = {}


class IngestError(Exception):
    """A body that is refused as a whole."""

    def __init__(self, message: str, *, status: int = 400, index: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        """What is wrong, where, and what would be right."""
        self.status = status
        """The HTTP status to refuse it with."""
        self.index = index
        """Which event of an array, from 0; None where it is not about one of them."""


class Seed(NamedTuple):
    """Where the ids of one request's events come from."""

    ms: int
    """The timestamp of every id, ms since the epoch."""
    entropy: bytes
    """10 bytes; the last four, big-endian, are counted up by the event's place in the request, from 1."""


def read_seed(header: str | None) -> Seed | None:
    """The seed that a sender gave; None where it gave none that can be read (see the module's docstring)."""
    match = _SEED.fullmatch(header or "")
    if match is None:
        return None
    ms = int(match[1])
    try:
        entropy = base64.b64decode(match[2].rstrip("=") + "==", validate=True)
    except binascii.Error:
        return None
    if not EARLIEST_MS <= ms <= LATEST_MS or len(entropy) != _ENTROPY_BYTES:
        return None
    return Seed(ms, entropy)


def event_ids(seed: Seed, count: int) -> Iterator[str]:
    """The ids of a request's events, in order."""
    high = int.from_bytes(seed.entropy[:6], "big") << 32
    low = int.from_bytes(seed.entropy[6:], "big")
    block, prefix = -1, ""
    for n in range(1, count + 1):
        at = (low + n) & 0xFFFFFFFF
        if at >> 10 != block:
            # Two letters hold ten bits: only they change from one event to the next.
            block = at >> 10
            prefix = encode_ulid(seed.ms, high | at)[:24]
        yield prefix + _LETTER_PAIRS[at & 1023]


_LETTER_PAIRS: Final = tuple(encode_ulid(0, n)[24:] for n in range(1024))


def parse_events(body: bytes, content_type: str, limits: Limits, now_ms: int, seed: Seed) -> list[NewEvent]:
    """The events in a request's body, ready to be stored; none for an empty body or an empty array.

    Args:
        content_type: only looked at to explain a body that is no JSON.
        now_ms: the time of an event that has none, ms since the epoch.
        seed: the sender's, or one drawn for this request.

    Raises:
        IngestError: the body or one event in it cannot be taken.
    """
    try:
        parsed = parse(body)
    except NotJsonError as error:
        if not body.strip():
            return []
        raise IngestError(f"{_NO_EVENTS}: {error}{_form_hint(content_type)}") from None
    if isinstance(parsed, list):
        if len(parsed) > limits.events:
            raise IngestError(f"{len(parsed)} events in one request: at most {limits.events} are allowed")
        return _read_all(parsed, limits, now_ms, seed, in_array=True)
    if isinstance(parsed, dict):
        return _read_all([parsed], limits, now_ms, seed, in_array=False)
    raise IngestError(_NO_EVENTS)


def _form_hint(content_type: str) -> str:
    if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
        return " (form bodies are not read: send JSON)"
    return ""


def over_size(size: int, limits: Limits) -> str:
    """Why an event of so many bytes is refused."""
    return (
        f"Event is over the max size: Max {limits.event_bytes} bytes / Size {size} bytes "
        f"(INNKEEPER_MAX_EVENT_BYTES of the gateway, {MAX_EVENT_BYTES} at most)"
    )


def _read_all(
    parsed: list[Any], limits: Limits, now_ms: int, seed: Seed, *, in_array: bool
) -> list[NewEvent]:
    events: list[NewEvent] = []
    for index, (raw, event_id) in enumerate(zip(parsed, event_ids(seed, len(parsed)), strict=True)):
        try:
            if not isinstance(raw, dict):
                raise IngestError(f"{_NO_EVENTS}: this is {_kind(raw)}")
            name = _name(raw.get("name"), limits.name_bytes)
            stored = canonical_parsed(normalise(raw, name, event_id, now_ms))
            if len(stored) > limits.event_bytes:
                raise IngestError(over_size(len(stored), limits))
        except (IngestError, NotJsonError) as error:
            if not in_array:
                raise IngestError(str(error)) from None
            raise IngestError(f"events[{index}]: {error}", index=index) from None
        events.append((event_id, name, stored))
    return events


def normalise(raw: dict[str, Any], name: str, event_id: str, now_ms: int) -> dict[str, Any]:
    """An event's fields in the form in which it is stored, under its checked `name`.

    `raw` comes from `canonical.parse`. `id` is the sender's own, else `event_id`; `data._inngest`, which is the
    engine's, is taken away.

    Raises:
        IngestError: a field is not what it must be.
    """
    get = raw.get
    data = get("data")
    if data is None:
        data = _EMPTY
    elif type(data) is not dict:
        raise IngestError(f"event data is {_kind(data)}: it must be an object")
    elif "_inngest" in data:
        data = {key: value for key, value in data.items() if key != "_inngest"}
    user = get("user")
    if user is None:
        user = _EMPTY
    elif type(user) is not dict:
        raise IngestError(f"event user is {_kind(user)}: it must be an object")
    event = {"data": data, "id": event_id, "name": name, "ts": _ts(get("ts"), now_ms), "user": user}
    own_id = get("id")
    if own_id is not None and own_id != "":
        event["id"] = _text(own_id, "id")
    version = get("v")
    if version is not None:
        event["v"] = _text(version, "v")
    meta = get("meta")
    if meta is not None:
        if type(meta) is not dict:
            raise IngestError(f"event meta is {_kind(meta)}: it must be an object")
        event["meta"] = meta
    return event


def _name(name: Any, longest: int) -> str:
    if name is None or name == "":
        raise IngestError("event name is empty")
    if type(name) is not str:
        raise IngestError(f"event name is {_kind(name)}: it must be a text")
    if name[:8].lower() == RESERVED_PREFIX:
        raise IngestError(f"event name is reserved for internal use: {_shown(name)}")
    if 4 * len(name) > longest or not name.isascii():
        size = len(_text(name, "name").encode())
        if size > longest:
            raise IngestError(f"event name has {size} bytes: at most {longest} are allowed")
    if _CONTROL.search(name) is not None:
        raise IngestError("event name holds a control character, such as a line break")
    return name


def _ts(ts: Any, now_ms: int) -> int:
    if ts is None or (ts == 0 and type(ts) is int):
        return now_ms
    if type(ts) is not int:
        raise IngestError(f"event ts is {_kind(ts)}: it must be a whole number of milliseconds since 1970")
    if ts < EARLIEST_MS:
        raise IngestError("timestamp is before Jan 1, 1980")
    if ts > LATEST_MS:
        raise IngestError("timestamp is after Jan 1, 2100")
    return ts


def _text(value: Any, field: str) -> str:
    if type(value) is not str:
        raise IngestError(f"event {field} is {_kind(value)}: it must be a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise IngestError(f"event {field} holds half a character (a lone surrogate)") from None
    return value


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return "a text"
        case list():
            return "an array"
        case dict():
            return "an object"
        case _:
            return "a number"


def _shown(name: str) -> str:
    return name[:100].encode("ascii", "replace").decode()
