"""`POST /invoke/{slug}`: start one function, whatever its triggers."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from innkeeper_apps.wire.canonical import NotJsonError, canonical_parsed
from innkeeper_gateway.access.callers import audit
from innkeeper_gateway.access.permissions import INVOKE
from innkeeper_gateway.errors import ApiError, json_response
from innkeeper_gateway.ingest import IngestError, normalise, over_size
from innkeeper_gateway.requests import KNOWN_CALLER, CallerOf, CoreOf, json_of
from innkeeper_gateway.tracing import current_trace

INVOKED = "inngest/function.invoked"

router = APIRouter(dependencies=KNOWN_CALLER)


@router.post("/invoke/{slug:path}")
async def invoke(slug: str, request: Request, core: CoreOf, caller: CallerOf) -> Response:
    """Emit the event that starts one run of the function `slug` (`{app id}-{function id}`, also with `/`).

    The body is an event without a name: `{"data": {...}, "user"?, "id"?, "ts"?, "v"?}`, or empty. Replies
    `{"id": <event id>, "status": 200}`; the run is found with `GET /v1/events/{id}/runs`.

    Where Inngest's own server answers 200 for a function that nobody has registered, and nothing ever runs, this one
    answers 404: nobody can have relied on an event that starts nothing.
    """
    limits = core.settings.limits
    entry = (await core.registry(caller.place.env)).invocable(slug)
    await core.access.require(caller, INVOKE, entry.config.object_name if entry is not None else "")
    raw = await json_of(request, limits.request_bytes, "Unable to read post data request")
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ApiError(400, 'Unable to read post data request: write an object, {"data": {...}}')
    if entry is None:
        raise ApiError(
            404, f"no function {slug!r} is registered; its slug is the app id, a dash, the function id"
        )
    now_ms = core.clock.now_ms()
    event_id = core.ids.ulid(now_ms)
    try:
        event = normalise(raw, INVOKED, event_id, now_ms)
        event["data"] = {**event["data"], "_inngest": {"fn_id": slug}}
        body = canonical_parsed(event)
    except (IngestError, NotJsonError) as error:
        raise ApiError(400, str(error)) from None
    if len(body) > limits.event_bytes:
        raise ApiError(413, over_size(len(body), limits))
    async with core.in_time():
        await core.store.append(caller.place.env, [(event_id, INVOKED, body)], trace=current_trace())
    audit(caller, "invoke", function=slug, event_id=event_id)
    return json_response({"id": event_id, "status": 200})
