"""`/v0/runs`: state that was too large for a request, fetched by the SDK itself."""

from fastapi import APIRouter
from starlette.responses import Response

from innkeeper_engine.decide.payloads import input_to_send, is_result
from innkeeper_engine.model.clock import is_ulid
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.places import Place
from innkeeper_gateway.requests import AUTHENTICATED, CoreOf, PlaceOf

router = APIRouter(prefix="/v0", dependencies=AUTHENTICATED)


@router.get("/runs/{run_id}/actions")
async def get_actions(run_id: str, core: CoreOf, place: PlaceOf) -> Response:
    """The results of a run's steps so far, by hashed step id, each as the SDK memoises it."""
    state = await _state(core, place, run_id)
    known = input_to_send(state) | {field: value for field, value in state.items() if is_result(field)}
    steps = (b'"%b":%b' % (field.encode(), value) for field, value in known.items())
    return Response(b"{" + b",".join(steps) + b"}", media_type="application/json")


@router.get("/runs/{run_id}/batch")
async def get_batch(run_id: str, core: CoreOf, place: PlaceOf) -> Response:
    """The events that started a run, in order."""
    state = await _state(core, place, run_id)
    events: list[bytes] = []
    while (event := state.get(f"e:{len(events)}")) is not None:
        events.append(event)
    return Response(b"[" + b",".join(events) + b"]", media_type="application/json")


async def _state(core: Core, place: Place, run_id: str) -> dict[str, bytes]:
    if not run_id.isascii() or not is_ulid(run_id):
        raise ApiError(400, "The run ID specified is invalid")
    run_id = run_id.upper()
    async with core.in_time():
        run = await core.store.run(run_id)
        if run is None or not place.covers(run.env):
            raise ApiError(404, f"no run has the ID {run_id}")
        if not await core.store.is_live(run_id):
            raise ApiError(410, f"runtime state is no longer available for runID: {run_id}")
        return await core.store.run_state(run_id)
