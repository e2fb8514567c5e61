"""`/v1/deadletters`: requests of providers that a webhook's transform made no events of.

Looked at, replayed once the transform is mended, or thrown away. A letter is somebody's request: what came in it is for
those who may see payloads.
"""

import base64
import hashlib
from typing import Any

import structlog
from fastapi import APIRouter
from starlette.responses import Response

from innkeeper_engine.model.clock import is_ulid
from innkeeper_engine.model.environments import parent_name, shown_name
from innkeeper_engine.model.times import rfc3339
from innkeeper_engine.model.webhooks import DeadLetter
from innkeeper_engine.store.letters import ShortLetter
from innkeeper_gateway.access.callers import Caller, audit
from innkeeper_gateway.access.permissions import SEE_EVENTS, SEE_PAYLOADS, SEND_EVENTS
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError, json_response
from innkeeper_gateway.ingest import Seed
from innkeeper_gateway.lists.paging import DEFAULT, CursorOf, LimitOf, bad_cursor
from innkeeper_gateway.requests import KNOWN_CALLER, KNOWN_PARAMETERS, CallerOf, CoreOf, checked_ulid, needs
from innkeeper_gateway.tracing import current_trace
from innkeeper_gateway.views import envelope
from innkeeper_gateway.webhooks.handling import Busy, Failed, Refused, Taken, replay

router = APIRouter(prefix="/v1", dependencies=[*KNOWN_CALLER, KNOWN_PARAMETERS])

_log = structlog.get_logger(__name__)


@router.get("/deadletters", dependencies=[needs(SEE_EVENTS)])
async def list_letters(
    core: CoreOf, caller: CallerOf, limit: LimitOf = DEFAULT, cursor: CursorOf = ""
) -> Response:
    """The environment's letters, newest first, without what came in them.

    `cursor` is the `before` of the next page, null on the last; a page may be shorter than `limit`. `dropped` is how
    many had to go before their time, because there were too many.
    """
    if cursor and not (cursor.isascii() and is_ulid(cursor)):
        raise bad_cursor()
    before = cursor.upper()
    async with core.in_time():
        page = await core.letter_store.letters(caller.place.env, limit, before)
    reply = envelope([_short_view(each) for each in page.letters], core.clock.now_ms())
    reply["page"] = {
        "cursor": page.cursor or None,
        "has_more": bool(page.cursor),
        "limit": limit,
        "dropped": page.dropped,
    }
    return json_response(reply)


@router.get("/deadletters/{letter_id}", dependencies=[needs(SEE_EVENTS)])
async def get_letter(letter_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """A letter.

    `request` (headers, query, body) and `message` are null for who may not see payloads: what was thrown may quote the
    body. A body that is no UTF-8 comes as `{"base64": text}`.
    """
    letter_id, letter = await _known(core, caller, letter_id)
    payloads = await core.access.may(caller, SEE_PAYLOADS)
    return json_response(envelope(_view(letter_id, letter, payloads), core.clock.now_ms()))


@router.post("/deadletters/{letter_id}/replay", dependencies=[needs(SEND_EVENTS)])
async def replay_letter(letter_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """Run the webhook's transform, as it is now, on the request once more; replies `{"data": {"ids": [...]}}`.

    The letter goes when the events are stored, and stays with the new failure otherwise (422). A replay that is sent
    twice, because its answer was lost, stores its events once.
    """
    letter_id, letter = await _known(core, caller, letter_id)
    webhook = await core.webhooks.by_name(parent_name(letter.env), letter.webhook)
    if webhook is None:
        raise ApiError(
            409, f"the webhook {letter.webhook} is not there any more: nothing can be made of the letter"
        )
    outcome = await replay(webhook, letter, core.sandbox, core.settings.limits, _seed(letter_id, letter))
    about = {"letter": letter_id, "webhook": letter.webhook}
    match outcome:
        case Taken(events):
            async with core.in_time():
                if events:
                    await core.store.append(letter.env, events, seeded=True, trace=current_trace())
                # Before the letter goes: where that fails the events are there all the same.
                audit(caller, "replay dead letter", letter.env, **about, events=len(events))
                await core.letter_store.drop_letter(letter.env, letter_id)
            return json_response(
                envelope({"ids": [event_id for event_id, _, _ in events]}, core.clock.now_ms())
            )
        case Failed(again):
            async with core.in_time():
                await core.letters.keep_as(letter_id, again)
            audit(caller, "replay dead letter", letter.env, **about, failed=again.code)
            payloads = await core.access.may(caller, SEE_PAYLOADS)
            raise ApiError(
                422,
                f"the transform failed again ({again.code}{_place(again)}); the letter is kept",
                data=_view(letter_id, again, payloads)["failure"],
            )
        case Refused(status, _, message):
            raise ApiError(status, f"{message}; the letter is kept")
        case Busy(message, retry_after_s):
            raise ApiError(503, f"{message}; try again", headers={"Retry-After": str(retry_after_s)})
        case _:
            raise AssertionError(f"a replay cannot end in {type(outcome).__name__}")


@router.delete("/deadletters/{letter_id}", dependencies=[needs(SEND_EVENTS)])
async def delete_letter(letter_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """Throw a letter away: 200 with an empty body."""
    letter_id, letter = await _known(core, caller, letter_id)
    async with core.in_time():
        await core.letter_store.drop_letter(letter.env, letter_id)
    audit(caller, "delete dead letter", letter.env, letter=letter_id, webhook=letter.webhook)
    return Response(media_type="application/json")


async def _known(core: Core, caller: Caller, letter_id: str) -> tuple[str, DeadLetter]:
    """A letter that can be reached from where the caller works, and its id as it is stored."""
    letter_id = checked_ulid(letter_id, "dead letter")
    async with core.in_time():
        letter = await core.letter_store.letter(caller.place.env, letter_id)
    if letter is None or not caller.place.covers(letter.env):
        raise ApiError(404, f"Dead letter not found: {letter_id}")
    return letter_id, letter


def _seed(letter_id: str, letter: DeadLetter) -> Seed:
    """The same for each replay of a letter: what was stored already is not stored again."""
    return Seed(letter.received_ms, hashlib.sha256(b"replay " + letter_id.encode()).digest()[:10])


def _place(letter: DeadLetter) -> str:
    return f" at line {letter.line}, column {letter.column}" if letter.line else ""


def _short_view(letter: ShortLetter) -> dict[str, Any]:
    failure = {"code": letter.code, "line": letter.line or None, "column": letter.column or None}
    return {
        "id": letter.id,
        "webhook": letter.webhook,
        "environment": shown_name(letter.env),
        "received_at": rfc3339(letter.received_ms),
        "failure": failure,
        "body_bytes": letter.body_bytes,
    }


def _view(letter_id: str, letter: DeadLetter, payloads: bool) -> dict[str, Any]:
    view = _short_view(ShortLetter.of(letter_id, letter))
    view["failure"]["message"] = letter.message if payloads else None
    view["request"] = (
        {"headers": letter.headers, "query": letter.query, "body": _text(letter.body)} if payloads else None
    )
    return view


def _text(body: bytes) -> Any:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}
