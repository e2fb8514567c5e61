"""What the scheduler calls a function's limits, lanes and partitions, and their caps.

    lane      = <fn> \\1 s|t<signature> [\\1 <limit>]*     s starts, t further steps; limits whose keys are constants
    partition = <lane> [\\2 <limit>]*                     limits whose keys depend on the event
    limit     = <def>|<owner>/<digest of the key's value>

`def` names the cap in the function's own settings. It is made of the scope and of what the key *says*: two functions
of one environment (or account) that write the same key share its counter, each below its own cap. The signature is
made of all of this and of the priority: what is queued under another one is keyed again before it is called.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from innkeeper_engine.cel import Expression, ExpressionError, compile_expression
from innkeeper_engine.cel.nodes import Const, Index, Node, Select
from innkeeper_engine.cel.unparse import unparse
from innkeeper_engine.model.functions import Concurrency, FunctionConfig, Scope, Throttle

MOST_PRIORITY_S = 600
"""A run is taken to be so much older, or younger, than it is at most."""

FALLBACK = "-"
"""Stands for the value of a key that the event has none for: such runs share one counter."""

_DEFS: dict[Scope, str] = {"fn": "c", "env": "e", "account": "a"}


class KeyedLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit with a key, compiled."""

    definition: str
    option: str
    """What its writer calls it: `concurrency[0].key`, `throttle.key`."""
    owner: str
    """Whose counter it is: a function, an environment, an account."""
    key: Expression
    cap: int | str


class Queueing(msgspec.Struct, frozen=True, kw_only=True):
    """How a function's runs queue: all of it that does not depend on an event."""

    start_lane: str
    step_lane: str
    start_keys: tuple[KeyedLimit, ...]
    """Limits of a first request whose keys depend on the event: those of all requests, then the throttle's."""
    step_keys: tuple[KeyedLimit, ...]
    priority: Expression | None
    caps: tuple[str | int, ...]
    """`(def, cap, ...)`, as the scheduler keeps them. `c`: the function's own concurrency, `t`: its own throttle."""
    signature: str


class Queued(NamedTuple):
    """Where one run queues."""

    start_partition: str
    step_partition: str
    boost_ms: int
    failed: tuple[str, ...]
    """Options whose expression gave nothing for the event: `FALLBACK` stands in, or no priority."""


def digest(value: str) -> str:
    """What stands for a key's value in the store's names: 80 bits of BLAKE2b, whatever the value's length."""
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def compile_queueing(config: FunctionConfig, env: str, account: str) -> Queueing:
    """The lanes, limits and caps of a function; a key that does not compile (of another version) is left out."""
    fn = f"{env}/{config.slug}"
    owners = {"fn": fn, "env": env, "account": account}
    own: list[int] = []
    keyed: list[KeyedLimit] = []
    for n, entry in enumerate(config.concurrency):
        if entry.limit <= 0:
            continue
        if entry.key is None:
            own.append(entry.limit)
        elif (limit := _concurrency(entry, f"concurrency[{n}].key", owners[entry.scope])) is not None:
            _add(keyed, limit)
    throttle = _throttle(config.throttle, fn)
    limits = [*keyed, throttle] if throttle is not None else keyed
    priority = _compiled(config.priority)
    signature = _signature(limits, priority)
    constants = [_limit(limit, {}) for limit in keyed if limit.key.is_constant]
    constant_throttle = [_limit(throttle, {})] if throttle is not None and throttle.key.is_constant else []
    step_keys = tuple(limit for limit in keyed if not limit.key.is_constant)
    start_keys = (*step_keys, *((throttle,) if throttle is not None and not constant_throttle else ()))
    caps: list[str | int] = ["c", min(own)] if own else []
    if config.throttle is not None and config.throttle.key is None:
        caps += ["t", throttle_cap(config.throttle)]
    for limit in limits:
        caps += [limit.definition, limit.cap]
    return Queueing(
        start_lane="\x01".join([fn, f"s{signature}", *constants, *constant_throttle]),
        step_lane="\x01".join([fn, f"t{signature}", *constants]),
        start_keys=start_keys,
        step_keys=step_keys,
        priority=priority,
        caps=tuple(caps),
        signature=signature,
    )


def queued(queueing: Queueing, event: Mapping[str, Any]) -> Queued:
    """Where a run with this first event queues."""
    if not queueing.start_keys and queueing.priority is None:
        return Queued(queueing.start_lane, queueing.step_lane, 0, ())
    variables = {"event": event}
    failed: list[str] = []
    values = [_limit(limit, variables, failed) for limit in queueing.start_keys]
    boost_ms = 0
    if queueing.priority is not None:
        seconds = queueing.priority.integer(variables)
        if seconds is None:
            failed.append("priority.run")
        else:
            boost_ms = max(-MOST_PRIORITY_S, min(MOST_PRIORITY_S, seconds)) * 1000
    return Queued(
        "\x02".join([queueing.start_lane, *values]),
        "\x02".join([queueing.step_lane, *values[: len(queueing.step_keys)]]),
        boost_ms,
        tuple(failed),
    )


def throttle_cap(throttle: Throttle) -> str:
    """A throttle as the scheduler keeps it: `<ms between two starts>,<starts at once>`."""
    return f"{throttle.period_ms / max(1, throttle.limit)!r},{max(1, throttle.burst)}"


def _add(limits: list[KeyedLimit], limit: KeyedLimit) -> None:
    """One more limit; where two have one key, the lower one counts."""
    for n, other in enumerate(limits):
        if other.definition == limit.definition:
            limits[n] = min(other, limit, key=lambda each: int(each.cap))
            return
    limits.append(limit)


def _concurrency(entry: Concurrency, option: str, owner: str) -> KeyedLimit | None:
    key = _compiled(entry.key)
    if key is None:
        return None
    definition = f"{_DEFS[entry.scope]}:{_meaning(key)}"
    return KeyedLimit(definition=definition, option=option, owner=owner, key=key, cap=entry.limit)


def _throttle(throttle: Throttle | None, fn: str) -> KeyedLimit | None:
    key = _compiled(throttle.key) if throttle is not None else None
    if throttle is None or key is None:
        return None
    return KeyedLimit(
        definition=f"t:{_meaning(key)}", option="throttle.key", owner=fn, key=key, cap=throttle_cap(throttle)
    )


def _limit(limit: KeyedLimit, variables: Mapping[str, Any], failed: list[str] | None = None) -> str:
    value = limit.key.key(variables)
    if value is None and failed is not None:
        failed.append(limit.option)
    shown = FALLBACK if value is None else digest(value)
    return f"{limit.definition}|{limit.owner}/{shown}"


def _meaning(key: Expression) -> str:
    """The same for keys that are written differently and say the same."""
    value = key.key({}) if key.is_constant else None
    return digest(unparse(_plain(key.node)) if value is None else f"={value}")[:8]


def _plain(node: Node) -> Node:
    """With fields by their names: `event.data["user"]` is `event.data.user`."""
    node = node.with_parts(tuple(map(_plain, node.parts())))
    if isinstance(node, Index) and isinstance(node.key, Const):
        name = node.key.value
        if isinstance(name, str) and name.isidentifier():
            return Select(node.operand, name)
    return node


def _signature(limits: list[KeyedLimit], priority: Expression | None) -> str:
    """Empty where there are neither keys nor a priority; begins with p where there is one."""
    text = "\n".join(limit.definition for limit in limits)
    if priority is not None:
        return "p" + digest(f"{text}\n{unparse(priority.node)}")[:8]
    return digest(text)[:8] if text else ""


def _compiled(text: str | None) -> Expression | None:
    if not text:
        return None
    try:
        return compile_expression(text)
    except ExpressionError:
        return None
