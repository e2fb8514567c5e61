"""Which triggers an event's name reaches.

A trigger names an event, or with a `*` at its end all events below a prefix. Instead of trying every
trigger on every event, the few patterns that a name can match are made from the name: an index from
pattern to functions then answers with as many look-ups as the name has parts.

Events that the server makes itself (`inngest/function.failed` and so on) do not match the bare `*`: who
asks for all events means all that are sent, and a function that ran for its own end would never stop
running. They are matched by their name or by a pattern that begins with `inngest/`.
"""

from typing import Final

MAX_EVENT_NAME: Final = 255
"""Characters of an event name in a trigger or a cancellation."""

INTERNAL_PREFIX: Final = "inngest/"
"""Names that only the server may send."""

ANY_EVENT: Final = "*"


def patterns_for(name: str) -> tuple[str, ...]:
    """Everything a trigger may be called that an event with this name starts, each once.

    The name itself, then for each `/` and each `.` in it the part before with `*` after it, then `*`:
    `app/user.created` gives `app/user.created`, `app/*`, `app/user.*` and `*`.
    """
    patterns = {name: None}
    for position, letter in enumerate(name):
        if letter in "/.":
            patterns[f"{name[: position + 1]}*"] = None
    if not is_internal(name):
        patterns[ANY_EVENT] = None
    return tuple(patterns)


def is_pattern(name: str) -> bool:
    """Whether a trigger's event name stands for several: `*`, `prefix/*` or `prefix.*`."""
    return name == ANY_EVENT or name.endswith(("/*", ".*"))


def is_internal(name: str) -> bool:
    """Whether only the server may send events of this name."""
    return name.lower().startswith(INTERNAL_PREFIX)


def matches(trigger: str, name: str) -> bool:
    """Whether an event called `name` reaches a trigger that names `trigger`."""
    return trigger in patterns_for(name)


def event_name_problem(name: str) -> str | None:
    """Why a trigger cannot have this event name, as a sentence; None where it can."""
    if not name.strip():
        return "the event name is empty: write the name of an event, for example app/user.created"
    if len(name) > MAX_EVENT_NAME:
        return f"the event name has {len(name)} characters: {MAX_EVENT_NAME} is the most"
    return None


def event_name_warning(name: str) -> str | None:
    """Why a trigger with this event name probably does not do what was meant; None where nothing looks odd.

    Such names are accepted, since an event may be called so; they match exactly as they are written.
    """
    if name != name.strip():
        return f"{name!r} begins or ends with a space, and matches only events that are sent with it"
    if "*" in (name[:-1] if is_pattern(name) else name):
        return (
            f"{name!r} is taken as it stands: a * is a wildcard only alone or at the end, after / or . "
            "(app/*, app/user.*)"
        )
    return None
