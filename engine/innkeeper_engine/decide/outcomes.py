"""How a request has ended, as it is counted."""

from collections.abc import Iterable
from typing import Literal, TypeAlias

from innkeeper_engine.model.effects import Effect, Finish, Retry, Save

Outcome: TypeAlias = Literal["success", "errored", "failed"]


def outcome_of(effects: Iterable[Effect]) -> Outcome:
    """`errored`: the request comes again; `failed`: it does not, and its step or run has failed; else `success`."""
    outcome: Outcome = "success"
    for effect in effects:
        if isinstance(effect, Retry):
            return "errored"
        if isinstance(effect, Finish):
            if effect.status == "Failed":
                outcome = "failed"
        elif isinstance(effect, Save) and effect.result.startswith(b'{"error":'):
            outcome = "failed"
    return outcome
