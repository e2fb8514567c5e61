"""Random functions with flow control, and what their settings ask for, read a second time: without CEL, without names
of limits."""

import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from innkeeper_engine.model.functions import (
    App,
    Batch,
    Concurrency,
    Debounce,
    FunctionConfig,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    Trigger,
)
from tests.engine.flow_records import Grouping, Needs, Rating, Rights, Throttling

Data = Mapping[str, Any]
"""An event's data: `a`, `b` texts, `n` a number; each may be missing, null or something else."""

EVERYONE = "everyone"
"""An event that starts every function."""

LONG_MS = 600_000
"""The store lets some of its keys expire by the server's own clock, which a fake one leaves behind."""


class Key(NamedTuple):
    """An expression, and what it says in Python. Two of one `meaning` say the same."""

    text: str
    meaning: str
    value: Callable[[Data], str | None]


def _text(name: str) -> Callable[[Data], str | None]:
    def value(data: Data) -> str | None:
        found = data.get(name)
        return None if found is None else str(found)

    return value


def _both(data: Data) -> str | None:
    a, b = data.get("a"), data.get("b")
    return f"{a}-{b}" if isinstance(a, str) and isinstance(b, str) else None


KEYS = {
    key.text: key
    for key in (
        Key("event.data.a", "a", _text("a")),
        Key("event.data.b", "b", _text("b")),
        Key("( event.data.b )", "b", _text("b")),
        Key("event.data.a + '-' + event.data.b", "a-b", _both),
        Key("'all'", "all", lambda data: "all"),
        Key('"all"', "all", lambda data: "all"),
    )
}

PRIORITIES: dict[str, Callable[[Data], int | None]] = {
    "event.data.n": lambda data: int(data["n"]) if isinstance(data.get("n"), int | float) else None,
    "event.data.n * -10": lambda data: (
        int(data["n"] * -10) if isinstance(data.get("n"), int | float) else None
    ),
    "5": lambda data: 5,
}


def random_data(choice: random.Random) -> dict[str, Any]:
    """An event's data. Now and then a field is missing, or not what the keys expect."""
    fields: dict[str, list[Any]] = {
        "a": ["p", "p", "q", "r", "7", 7, None],
        "b": ["u", "u", "v"],
        "n": [0, 0, 1, 5, -5, 700, -700, 2.5, "no"],
    }
    return {name: choice.choice(values) for name, values in fields.items() if choice.random() < 0.92}


# ---- functions


class Wanted(NamedTuple):
    """Which options the functions of a workload may have."""

    concurrency: bool = True
    throttle: bool = True
    priority: bool = True
    rights: bool = True
    gather: bool = True
    timeouts: bool = True
    rekey: bool = True
    """Whether keys change, so that what is queued is keyed again."""


def random_function(choice: random.Random, slug: str, wanted: Wanted) -> FunctionConfig:
    """A function with some of the options, any of them beside any other that a registration allows."""

    def perhaps(chance: float, allowed: bool = True) -> bool:
        return choice.random() < chance and allowed

    batch = perhaps(0.2, wanted.gather)
    debounce = perhaps(0.2, wanted.gather) and not batch
    singleton = perhaps(0.25, wanted.rights) and not batch
    return FunctionConfig(
        slug=slug,
        name=slug,
        url="http://app/",
        triggers=(Trigger(event=slug), Trigger(event=EVERYONE)),
        concurrency=random_concurrency(choice) if perhaps(0.8, wanted.concurrency) else (),
        throttle=random_throttle(choice) if perhaps(0.35, wanted.throttle) else None,
        priority=choice.choice(list(PRIORITIES)) if perhaps(0.35, wanted.priority) and not batch else None,
        rate_limit=RateLimit(limit=choice.choice([1, 2, 5]), period_ms=LONG_MS, key=_maybe_key(choice))
        if perhaps(0.25, wanted.rights)
        else None,
        singleton=Singleton(mode=choice.choice(["skip", "cancel"]), key=_maybe_key(choice))
        if singleton
        else None,
        idempotency=choice.choice(list(KEYS)[:4]) if perhaps(0.15, wanted.rights) else None,
        debounce=Debounce(period_ms=2_000, timeout_ms=choice.choice([None, 2_500]), key=_maybe_key(choice))
        if debounce
        else None,
        batch=Batch(max_size=choice.choice([2, 3, 5]), timeout_ms=2_000, key=_maybe_key(choice))
        if batch
        else None,
        timeouts=Timeouts(start_ms=choice.choice([None, 5_000]), finish_ms=choice.choice([None, 3_000]))
        if perhaps(0.2, wanted.timeouts)
        else None,
    )


def random_concurrency(choice: random.Random) -> tuple[Concurrency, ...]:
    """One or two entries; those of an environment or an account have keys."""
    entries = []
    for _ in range(choice.choice([1, 1, 2])):
        scope = choice.choice(["fn", "fn", "env", "account"])
        key = _maybe_key(choice) if scope == "fn" else choice.choice(list(KEYS))
        entries.append(Concurrency(limit=choice.choice([1, 1, 2, 3]), key=key, scope=scope))  # type: ignore[arg-type]
    return tuple(entries)


def random_throttle(choice: random.Random) -> Throttle:
    """Some starts a second."""
    return Throttle(
        limit=choice.choice([1, 2, 3]),
        period_ms=choice.choice([1_000, 1_000, 7_000]),
        burst=choice.choice([1, 1, 2, 4]),
        key=_maybe_key(choice),
    )


def _maybe_key(choice: random.Random) -> str | None:
    return choice.choice([None, *KEYS])


def changed(choice: random.Random, config: FunctionConfig, *, keys: bool) -> FunctionConfig:
    """Another setting of one option. `keys`: what is queued may have to be keyed again."""
    replace = msgspec.structs.replace
    if not keys:
        entries = tuple(replace(entry, limit=choice.choice([1, 2, 3])) for entry in config.concurrency)
        throttle = config.throttle and replace(config.throttle, limit=choice.choice([1, 2, 3]))
        return replace(config, concurrency=entries, throttle=throttle)
    match choice.choice(["concurrency", "concurrency", "throttle", "priority", "none"]):
        case "concurrency":
            return replace(config, concurrency=random_concurrency(choice))
        case "throttle":
            return replace(config, throttle=choice.choice([None, random_throttle(choice)]))
        case "priority" if config.batch is None:
            return replace(config, priority=choice.choice([None, *PRIORITIES]))
        case _:
            return replace(config, concurrency=(), throttle=None, priority=None)


# ---- what the settings ask for


def needs_of(app: App, config: FunctionConfig, data: Data, *, begun: bool) -> Needs:
    """What a request of a run with this event needs to go out."""
    caps: dict[str, int | None] = {config.slug: None}
    for entry in config.concurrency:
        counter = config.slug
        if entry.key is not None:
            owner = config.slug if entry.scope == "fn" else entry.scope
            counter = f"{owner} {KEYS[entry.key].meaning}={_value(entry.key, data)}"
        caps[counter] = min(entry.limit, caps.get(counter) or entry.limit)
    throttle = throttling_of(config) if not begun else None
    if throttle is not None and config.throttle is not None and (key := config.throttle.key) is not None:
        throttle = throttle._replace(counter=f"{config.slug} {KEYS[key].meaning}={_value(key, data)}")
    return Needs(tuple(caps.items()), throttle, is_held(app, config, begun=begun))


def throttling_of(config: FunctionConfig) -> Throttling | None:
    """A function's throttle, whatever its key."""
    if (throttle := config.throttle) is None:
        return None
    return Throttling(config.slug, throttle.limit, throttle.period_ms, throttle.burst)


def is_held(app: App, config: FunctionConfig, *, begun: bool) -> bool:
    """Whether requests wait because of a pause."""
    if app.paused:
        return True
    return config.paused and (config.running == "Hold" if begun else config.new_runs == "Queue")


def boost_of(config: FunctionConfig, data: Data) -> int:
    """By how many ms a run is taken to be older than it is."""
    seconds = PRIORITIES[config.priority](data) if config.priority is not None else None
    return max(-600, min(600, seconds or 0)) * 1_000


def rights_of(app: App, config: FunctionConfig, data: Data, sender_id: str) -> Rights:
    """What a run with this event needs to begin. `sender_id`: chosen by the event's sender, or empty."""
    slug = config.slug
    rate = single = None
    if config.rate_limit is not None and config.idempotency is None:
        value = _part(config.rate_limit.key, data)
        if value is not None:
            limit = config.rate_limit
            rate = Rating(f"{slug} {value}", limit.limit, limit.period_ms)
    if config.singleton is not None:
        single = _part(config.singleton.key, data)
    once = KEYS[config.idempotency].value(data) if config.idempotency is not None else None
    return Rights(
        repeat=f"{slug} {sender_id}" if sender_id else "",
        once="" if once is None else f"{slug} once {once}",
        rate=rate,
        single="" if single is None else f"{slug} {single}",
        replaces=config.singleton is not None and config.singleton.mode == "cancel",
        paused=config.paused and config.new_runs == "Skip" and not app.paused,
    )


def grouping_of(config: FunctionConfig, data: Data) -> Grouping | None:
    """What the event is gathered to; None: it starts a run of its own."""
    if config.batch is not None:
        value = _value(config.batch.key, data) if config.batch.key is not None else ""
        return Grouping(f"{config.slug} batch {value}", config.batch.timeout_ms, 0, config.batch.max_size)
    if config.debounce is not None:
        shown = _part(config.debounce.key, data)
        if shown is not None:
            debounce = config.debounce
            return Grouping(f"{config.slug} debounce {shown}", debounce.period_ms, debounce.timeout_ms or 0)
    return None


def _value(key: str, data: Data) -> str | None:
    """None, where the event has none, is a value like any other: such events share a counter."""
    return KEYS[key].value(data)


def _part(key: str | None, data: Data) -> str | None:
    """The value of a key that is not applied where the event has none."""
    if key is None:
        return ""
    value = KEYS[key].value(data)
    return None if value is None else f"={value}"
