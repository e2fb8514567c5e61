"""Instants as the API server wants them."""

from innkeeper_engine.model.times import rfc3339


def micro_time(at_ms: int) -> str:
    """An instant in ms since the epoch as a MicroTime, which must have six digits after the second."""
    return rfc3339(at_ms).removesuffix("Z") + "000Z"
