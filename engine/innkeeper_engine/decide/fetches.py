"""What the outcome of a request made in the app's place means."""

import orjson

from innkeeper_engine.decide.context import Context
from innkeeper_engine.model.effects import Effect, Note, Retry, Save
from innkeeper_engine.model.state import Lease


def fetched(
    lease: Lease, memo: bytes | None, error_memo: bytes, reason: str, max_attempts: int, context: Context
) -> list[Effect]:
    """The effects of a fetch: `memo` is the step's result when it worked, `error_memo` when it has failed for good."""
    line = {"t": context.now_ms, "type": "step", "id": lease.step, "attempt": lease.attempt}
    if memo is not None:
        note = orjson.dumps({**line, "status": "Completed"})
        return [Save(lease.run, lease.step, memo, True), Note(lease.run, note)]
    error = {"name": "Error", "message": reason}
    if lease.attempt + 1 < max_attempts:
        at_ms = context.policy.retry_at_ms(lease.attempt, context.now_ms, context.chance, None)
        note = orjson.dumps({**line, "status": "Retrying", "error": error})
        return [Note(lease.run, note), Retry(lease.item, lease.attempt + 1, at_ms)]
    note = orjson.dumps({**line, "status": "Failed", "error": error})
    return [Save(lease.run, lease.step, error_memo, True), Note(lease.run, note)]
