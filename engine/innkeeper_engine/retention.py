"""How long what is over may be kept, as people write it."""

from typing import Final

from innkeeper_engine.durations import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    format_duration,
    parse_duration_ms,
)

DEFAULT_S: Final = 3 * DAY_MS // SECOND_MS
LEAST_S: Final = MINUTE_MS // SECOND_MS
LEAST_EVENTS_S: Final = HOUR_MS // SECOND_MS
"""An event that is sent again must be found for so long, or it would count twice. The store's scripts hold that too."""
MOST_S: Final = 3_650 * DAY_MS // SECOND_MS


def parse_retention_s(text: str, least_s: int = LEAST_S) -> int:
    """A retention in whole seconds, from a duration such as `7d`.

    Raises:
        DurationError: it is no duration.
        ValueError: it is shorter than `least_s`, or longer than `MOST_S`.
    """
    seconds = parse_duration_ms(text) // SECOND_MS
    if not least_s <= seconds <= MOST_S:
        raise ValueError(
            f"{text!r} is out of bounds: write {format_duration(least_s * SECOND_MS)} or more, up to "
            f"{format_duration(MOST_S * SECOND_MS)}, for example 7d"
        )
    return seconds
