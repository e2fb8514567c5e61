"""A request as a transform sees it: `evt`, `headers`, `queryParams` and `raw`. Pure.

- `raw` is the body as text: UTF-8; where it is not UTF-8 and need not be, each character stands for one byte.
- `evt` is the body's JSON, whatever the content type says (many senders call it something else). A form
  (`application/x-www-form-urlencoded`) becomes an object of its fields, an empty body an empty object; of any other
  declared type that holds no JSON, such as XML, `evt` is null and `raw` has it all.
- A field of a form or of the query that comes once is a text, one that comes several times an array of them.
- `headers` is an object of texts with names spelt `Like-This`; a name that comes several times has its values joined
  (RFC 9110, section 5.3).
"""

import re
from collections.abc import Iterable
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec
import orjson

from innkeeper_gateway.bodies import Header

MOST_FIELDS: Final = 1_000
"""In a form or a query."""

_FORM: Final = "application/x-www-form-urlencoded"
_JSON_TYPE: Final = re.compile(r"(?:[^/]+/(?:[^/]+\+)?json)?")
_CODINGS: Final = frozenset({"content-encoding", "transfer-encoding", "content-length", "connection"})
"""Headers that speak of the body on its way; what a transform gets is unpacked."""


class PayloadError(Exception):
    """A request that cannot be read; says what would be right."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A body, read as far as that can be done without running anything."""

    mode: Literal["json", "any", "given"]
    """Where `evt` is found: see `pool.Call`."""
    raw: str
    given: str = ""
    """JSON; of mode `given`."""


def read_payload(content_type: str, body: bytes) -> Payload:
    """A body in the form that a transform gets.

    Raises:
        PayloadError: it should be JSON but is not UTF-8, or is a form with too many fields.
    """
    kind = content_type.partition(";")[0].strip().lower()
    start = body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    try:
        raw = body.decode()
    except UnicodeDecodeError as error:
        if _JSON_TYPE.fullmatch(kind):
            raise PayloadError(f"the request's body is not JSON: byte {error.start} is not UTF-8") from None
        raw = body.decode("latin-1")
    if not raw.strip():
        return Payload(mode="given", raw=raw, given="{}")
    if kind == _FORM and (start not in (b"{", b"[") or not _is_json(raw.lstrip("\ufeff"))):
        return Payload(mode="given", raw=raw, given=_fields_json(raw, "form"))
    return Payload(mode="json" if kind == _FORM or _JSON_TYPE.fullmatch(kind) else "any", raw=raw)


def query_json(query: str) -> str:
    """The fields of a URL's query as a JSON object.

    Raises:
        PayloadError: it has too many.
    """
    return _fields_json(query, "query") if query else "{}"


def kept_headers(headers: Iterable[Header], *, without: str = "") -> tuple[tuple[str, str], ...]:
    """The headers that tell something of the request, names in lower case; `without` is left out."""
    return tuple(
        (name, value.decode("latin-1"))
        for raw, value in headers
        if (name := raw.decode("latin-1").lower()) not in _CODINGS and name != without
    )


def headers_json(headers: Iterable[tuple[str, str]]) -> str:
    """Headers as a JSON object."""
    joined: dict[str, str] = {}
    for name, value in headers:
        spelt = "-".join(word.capitalize() for word in name.split("-"))
        # RFC 9113, section 8.2.3: what a cookie header was split into is joined by a semicolon.
        between = "; " if spelt == "Cookie" else ", "
        joined[spelt] = f"{joined[spelt]}{between}{value}" if spelt in joined else value
    return orjson.dumps(joined).decode()


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _fields_json(text: str, what: str) -> str:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="replace")
    except ValueError:
        raise PayloadError(f"the {what} has more than {MOST_FIELDS} fields") from None
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key not in fields:
            fields[key] = value
        elif isinstance(fields[key], list):
            fields[key].append(value)
        else:
            fields[key] = [fields[key], value]
    return orjson.dumps(fields).decode()
