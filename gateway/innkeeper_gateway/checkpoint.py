"""`POST /v1/checkpoint/{run}/async`: an SDK reports step results while its call goes on.

The results are stored under the call's own lease, which is extended: a call that was given up, or sent again, is told
so with 409, on which SDKs stop. Nothing is queued, because the call goes on by itself.
"""

import re
from typing import Final

from starlette.responses import Response
from structlog.contextvars import bind_contextvars

from innkeeper_apps.wire.response import Checkpoint, CheckpointError, read_checkpoint
from innkeeper_engine.decide.context import STEPS_SETTING
from innkeeper_engine.decide.notes import request_began_ms, step_line
from innkeeper_engine.decide.steps import unusable_id
from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.clock import ULID_LENGTH
from innkeeper_engine.model.effects import MAX_EFFECTS, Effect, Save, Touch
from innkeeper_engine.model.guards import KeepGuard
from innkeeper_engine.model.state import Applied
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_gateway.bodies import BodyError, ClientGoneError, Header, Receive, read_body
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError, error_response, store_trouble, trouble_response
from innkeeper_gateway.places import Place
from innkeeper_gateway.settings import Limits
from innkeeper_gateway.tracing import CheckpointTraces

_PATH: Final = re.compile(r"/v1/checkpoint/([^/]+)/async")
_STEPS_AT_ONCE: Final = (MAX_EFFECTS - 1) // 2
"""A step is two effects, its result and its note; the touch is one more."""
_KNOWN_RUNS: Final = 10_000
_NOT_FOUND: Final = "run not found in state store"


def run_of(path: str) -> str | None:
    """The run that a checkpoint's path names; None for any other path."""
    match = _PATH.fullmatch(path)
    return match[1] if match else None


class CheckpointRoute:
    """Takes checkpoints. Beside the framework: SDKs that checkpoint send one request for every step."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._envs: dict[str, str] = {}
        self._traces = CheckpointTraces(core.tracer, core.store)

    async def answer(
        self, run_id: str, method: str, headers: list[Header], query: bytes, receive: Receive
    ) -> Response | None:
        """Store the results of steps; 200 with an empty body once they are durable. None: nobody is there any more.

        400: not a checkpoint, an operation that cannot be checkpointed, or a run that is not known. 401: no key. 409:
        the call is not the run's current one any more (it was sent again, or the run has ended). 413: a result of
        more than 4 MiB, or more steps or state than a run may have. 503: the store is away.
        """
        try:
            place = await self._core.admit(headers, query)
            bind_contextvars(env=place.env, run=run_id[:ULID_LENGTH])
            if method != "POST":
                raise ApiError(405, "checkpoints are sent with POST", headers={"Allow": "POST"})
            body = await read_body(headers, receive, self._core.settings.limits.checkpoint_bytes)
            await self._take(place, run_id, body)
        except ClientGoneError:
            return None
        except (ApiError, BodyError) as error:
            data = error.data if isinstance(error, ApiError) else None
            more = error.headers if isinstance(error, ApiError) else None
            return error_response(error.status, error.message, more, data)
        except (StoreError, StoreUnavailableError, TimeoutError) as error:
            trouble = store_trouble(error)
            if trouble is None:
                raise
            return trouble_response(trouble)
        return Response(media_type="application/json")

    async def _take(self, place: Place, run_id: str, body: bytes) -> None:
        core = self._core
        try:
            given = read_checkpoint(body)
            _check_names(run_id, given)
        except CheckpointError as error:
            raise ApiError(error.status, str(error), data={"run_id": run_id}) from None
        lease_ms = core.store.settings.lease_ms
        guard = KeepGuard(given.item_id, given.request_id, lease_ms, given.generation_id)
        limits = core.settings.limits
        most = (limits.steps, limits.state_bytes)
        async with core.in_time():
            if not place.covers(await self._env_of(run_id, place)):
                raise ApiError(400, _NOT_FOUND, data={"run_id": run_id})
            for effects in _chunks(given, core.clock.now_ms()):
                applied = await core.store.apply(guard, effects, most=most)
                if applied.status == "full":
                    raise _too_much(run_id, applied, limits)
                if applied.status != "ok":
                    raise await _refusal(core, run_id, applied.status)
            await self._traces.took(run_id, given.request_id, given.steps)

    async def _env_of(self, run_id: str, place: Place) -> str:
        """The environment of a run, which never changes: asked for at its first checkpoint only.

        Where all keys open the same environment, there is nothing to ask.
        """
        if not self._core.settings.managed:
            return place.env
        env = self._envs.get(run_id)
        if env is None:
            store = self._core.store
            stored = await store.command("HGET", store.key(f"run:{run_id}"), "e")
            if stored is None:
                raise ApiError(400, _NOT_FOUND, data={"run_id": run_id})
            if len(self._envs) >= _KNOWN_RUNS:
                self._envs.clear()
            env = self._envs[run_id] = stored.decode()
        return env


def _check_names(run_id: str, given: Checkpoint) -> None:
    if given.run_id != run_id:
        raise CheckpointError(f"checkpoint: `run_id` is not the run of the address, {run_id[:40]}")
    # An item is named after its run. The guard only knows the item: results must not end up in another run.
    if not given.item_id.startswith((f"{run_id}.", f"{run_id}:")):
        raise CheckpointError("checkpoint: `qi_id` belongs to another run")
    bad_id = unusable_id(given.steps)
    if bad_id is not None:
        raise CheckpointError(f"checkpoint: {bad_id[:100]!r} is no id of a step: write 40 hex digits")


def _chunks(given: Checkpoint, now_ms: int) -> list[list[Effect]]:
    """The effects in portions of one script each. Every portion is whole: repeated, it changes nothing."""
    chunks: list[list[Effect]] = []
    began_ms = request_began_ms(given.request_id)
    for first in range(0, max(len(given.steps), 1), _STEPS_AT_ONCE):
        effects: list[Effect] = []
        for op in given.steps[first : first + _STEPS_AT_ONCE]:
            if op.kind in (OpKind.STEP_RUN, OpKind.STEP):
                effects.append(Save(given.run_id, op.id, _result(op), False))
            status = "Waiting" if op.kind is OpKind.STEP_PLANNED else "Completed"
            effects.append(step_line(given.run_id, op, status, now_ms, asked_ms=began_ms))
        effects.append(Touch(given.item_id))
        chunks.append(effects)
    return chunks


def _result(op: Op) -> bytes:
    data = op.data if op.data is not None else b"null"
    return data if op.kind is OpKind.STEP else b'{"data":%b}' % data


def _too_much(run_id: str, applied: Applied, limits: Limits) -> ApiError:
    if applied.step_count > limits.steps:
        what = f"the run would have {applied.step_count} steps: at most {limits.steps} are allowed ({STEPS_SETTING})"
    else:
        what = f"the run's state would have {applied.state_bytes} bytes: at most {limits.state_bytes} are allowed"
    return ApiError(413, what, data={"run_id": run_id})


async def _refusal(core: Core, run_id: str, status: str) -> ApiError:
    data = {"run_id": run_id}
    if await core.store.run(run_id) is None:
        return ApiError(400, _NOT_FOUND, data=data)
    if status == "ended":
        return ApiError(409, "the run has ended", data=data)
    return ApiError(
        409, "this request is not the run's current one: it was sent again or given up", data=data
    )
