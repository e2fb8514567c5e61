"""A call as an HTTP request: its address, its canonical body, its headers.

The body is joined from the pieces that are stored in canonical form, so nothing is parsed again, and what is
joined is itself canonical: it can be signed as it is.
"""

import base64
import binascii
from functools import lru_cache
from urllib.parse import quote, unquote_plus

import orjson

from innkeeper_apps.wire.keys import sign
from innkeeper_engine.model.calls import DISCOVER, Call

MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""Beyond this a request goes out with `use_api`, and the SDK fetches the state."""

USER_AGENT = "Inngest"
"""What SDKs, and the firewalls before them, know as the caller."""

_QUEUE = "::default"
_URL_SAFE = "%/:?[]@!$&'()*+,;=~-._"
_EVENT_TWICE_BYTES = MAX_REQUEST_BYTES // 2 - 64 * 1024
"""Largest first event that is sent twice (`event`, `events`) when the rest is left to the API."""


def call_url(call: Call) -> str:
    """The function's registered URL with the call's step id in its query; `fnId` is added where missing."""
    before, after = _around_step_id(call.url, call.slug)
    return f"{before}{quote(call.step_id, safe='')}{after}"


@lru_cache(maxsize=4096)
def _around_step_id(url: str, slug: str) -> tuple[str, str]:
    base, _, query = url.partition("#")[0].partition("?")
    before: list[str] = []
    after: list[str] = []
    part = before
    names = set()
    for pair in filter(None, query.split("&")):
        name = unquote_plus(pair.partition("=")[0])
        names.add(name)
        if name == "stepId":
            part = after
        else:
            part.append(quote(pair, safe=_URL_SAFE))
    if "fnId" not in names:
        before.append(f"fnId={quote(slug, safe='')}")
    before.append("stepId=")
    return f"{quote(base, safe=_URL_SAFE)}?{'&'.join(before)}", "".join(f"&{pair}" for pair in after)


def call_size(call: Call) -> int:
    """About how many bytes the body would have with all its state in it."""
    steps = sum(len(id_) + len(data) + 4 for id_, data in call.steps.items())
    events = sum(len(event) + 1 for event in call.events) + len(call.events[0])
    return steps + events + 43 * len(call.stack) + 1024


def needs_api(call: Call) -> bool:
    """Whether the state is too large to send, so that the call has to go out with `use_api`."""
    return call_size(call) > MAX_REQUEST_BYTES


def call_body(call: Call) -> bytes:
    """The canonical body of the call.

    `events` and `steps` must be canonical JSON, each event with its `user` object. With `use_api` the steps
    stay out, and of the events only the first is sent.
    """
    first = call.events[0]
    events: tuple[bytes, ...] = call.events
    if call.use_api:
        events = (first,) if len(first) <= _EVENT_TWICE_BYTES else ()
    return b"".join(
        (
            b'{"ctx":',
            _context(call),
            b',"defers":{},"event":',
            first,
            b',"events":[',
            b",".join(events),
            b'],"steps":{',
            b"" if call.use_api else _steps(call.steps),
            b'},"use_api":',
            b"true" if call.use_api else b"false",
            b',"version":%d}' % call.version,
        )
    )


def _context(call: Call) -> bytes:
    # In the order of RFC 8785: no sorting needed.
    return orjson.dumps(
        {
            "attempt": call.attempt,
            "disable_immediate_execution": call.plan_only,
            "env": call.env,
            "fn_id": call.fn_uuid,
            "generation_id": call.generation,
            "job_id": call.item_id,
            "max_attempts": call.max_attempts,
            "qi_id": encode_item_id(call.item_id),
            "request_id": call.request_id,
            "run_id": call.run_id,
            "stack": {"current": len(call.stack), "stack": call.stack},
            "step_id": DISCOVER,  # here always; which step is asked for is in the query and the header
            "use_api": call.use_api,
        }
    )


def _steps(steps: dict[str, bytes]) -> bytes:
    ids = sorted(steps)
    if not all(id_.isascii() for id_ in ids):
        ids.sort(key=lambda id_: id_.encode("utf-16-be"))
    return b",".join([b"%b:%b" % (orjson.dumps(id_), steps[id_]) for id_ in ids])


def call_headers(call: Call, body: bytes, signing_key: str | None, now_s: int) -> dict[str, str]:
    """The request's headers; signed at `now_s` (Unix seconds) if there is a key."""
    headers = {
        "User-Agent": USER_AGENT,
        "Content-Type": "application/json",
        "Accept-Encoding": "gzip",
        "X-Inngest-Generation-Id": str(call.generation),
        "X-Inngest-Job-Id": call.item_id,
        "X-Inngest-Req-Version": str(call.version),
        "X-Inngest-Step-Id": call.step_id,
        "X-Request-Id": call.request_id,
        "X-Run-Id": call.run_id,
    }
    if call.traceparent:
        headers["Traceparent"] = call.traceparent
    if signing_key:
        headers["X-Inngest-Signature"] = sign(body, signing_key, now_s)
    return headers


def encode_item_id(item_id: str) -> str:
    """The queue item id as SDKs see it (`qi_id`): opaque to them, returned with checkpoints."""
    return base64.b64encode((item_id + _QUEUE).encode()).decode()


def decode_item_id(qi_id: str) -> str:
    """The queue item of a `qi_id`.

    Raises:
        ValueError: it is none that `encode_item_id` made.
    """
    try:
        text = base64.b64decode(qi_id, validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    item_id = text.removesuffix(_QUEUE)
    if not item_id or item_id == text:
        raise ValueError("qi_id is not one that this server gave")
    return item_id
