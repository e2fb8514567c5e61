"""The shard's numbers as Prometheus reads them (text format 0.0.4). Pure.

Names, help texts and labels of the nine metrics `inngest_*` are those of Inngest's Prometheus export
(https://www.inngest.com/docs/platform/monitor/prometheus-metrics-export-integration). One environment's are shown
without the label `env`, all of them with it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from innkeeper_engine.metrics import OTHER
from innkeeper_engine.model.environments import shown_name
from innkeeper_engine.model.numbers import EnvironmentNumbers, FunctionNumbers, ShardNumbers

MOST_FUNCTIONS: Final = 1_000
"""Functions of one environment that are shown by name: the first of them by name, the others together as `_other`."""

MOST_FUNCTIONS_IN_ALL: Final = 10_000
"""Functions of all environments together, as above."""

MOST_ENVIRONMENTS: Final = 1_000
"""Environments that are shown by name; the others together as `_other`."""

_SAME: Final = ". Every replica shows the same: aggregate with max"

Labels = tuple[tuple[str, str], ...]


class _Family(NamedTuple):
    name: str
    kind: str
    text: str


class _Count(NamedTuple):
    family: _Family
    statuses: tuple[tuple[str, str], ...]
    """(code, what the label `status` says); without a status one with an empty text."""


def _counter(name: str, text: str, *statuses: tuple[str, str]) -> _Count:
    return _Count(_Family(name, "counter", text), statuses)


COUNTS: Final = (
    _counter(
        "inngest_function_run_ended_total",
        "The total number of function runs ended",
        ("X", "Cancelled"),
        ("C", "Completed"),
        ("F", "Failed"),
    ),
    _counter(
        "inngest_function_run_scheduled_total", "The total number of function runs scheduled", ("s", "")
    ),
    _counter("inngest_function_run_started_total", "The total number of function runs started", ("b", "")),
    _counter(
        "inngest_sdk_req_ended_total",
        "The total number of SDK invocation/step execution ended",
        ("1", "errored"),
        ("2", "failed"),
        ("0", "success"),
    ),
    _counter(
        "inngest_sdk_req_scheduled_total",
        "The total number of SDK invocation/step execution scheduled",
        ("q", ""),
    ),
    _counter(
        "inngest_sdk_req_started_total",
        "The total number of SDK invocation/step execution started",
        ("r", ""),
    ),
    _counter("inngest_step_output_bytes_total", "The total number of bytes used by step outputs", ("o", "")),
)
"""What is counted by day, with the codes of the store's scripts."""


class _Gauge(NamedTuple):
    family: _Family
    value: Callable[[FunctionNumbers, int], float]


GAUGES: Final = (
    _Gauge(
        _Family("inngest_steps_running", "gauge", "The number of steps currently running"),
        lambda f, _: f.steps_running,
    ),
    _Gauge(
        _Family("inngest_steps_scheduled", "gauge", "The number of steps scheduled"),
        lambda f, _: f.steps_scheduled,
    ),
)

OWN_GAUGES: Final = (
    _Gauge(
        _Family("innkeeper_runs_queued", "gauge", "Runs that have not begun" + _SAME), lambda f, _: f.queued
    ),
    _Gauge(
        _Family("innkeeper_runs_running", "gauge", "Runs that have begun and not ended" + _SAME),
        lambda f, _: f.running,
    ),
    _Gauge(
        _Family(
            "innkeeper_queue_oldest_age_seconds",
            "gauge",
            "For how long the oldest run that has not begun is due" + _SAME,
        ),
        lambda f, now_ms: _age_s(f.oldest_ms, now_ms),
    ),
)


def _age_s(at_ms: float | None, now_ms: int) -> float:
    """How long ago that was; never less than nothing, for clocks differ."""
    return 0 if at_ms is None else max(0.0, (now_ms - at_ms) / 1000)


class _OfShard(NamedTuple):
    family: _Family
    values: Callable[[ShardNumbers], Iterable[tuple[Labels, float]]]


def _plain(name: str, kind: str, text: str, value: Callable[[ShardNumbers], float]) -> _OfShard:
    return _OfShard(_Family(name, kind, text + _SAME), lambda shard: [((), value(shard))])


def _by_env(name: str, text: str, value: Callable[[EnvironmentNumbers], float]) -> _OfShard:
    return _OfShard(
        _Family(name, "gauge", text + _SAME),
        lambda shard: [((("env", shown(env.name)),), value(env)) for env in shard.environments],
    )


OF_SHARD: Final = (
    _OfShard(
        _Family("innkeeper_queue_lanes", "gauge", "Lanes of the queue, by what keeps them" + _SAME),
        lambda shard: [
            (
                (("state", "held"),),
                sum(f.held_lanes for e in shard.environments for f in e.functions.values()),
            ),
            ((("state", "parked"),), shard.lanes_parked),
            ((("state", "ready"),), shard.lanes_ready),
        ],
    ),
    _plain(
        "innkeeper_environments_left_out",
        "gauge",
        "Environments that are in none of these numbers: there are too many",
        lambda shard: shard.environments_left_out,
    ),
    _plain("innkeeper_timers", "gauge", "Timers that are set", lambda shard: shard.timers),
    _plain("innkeeper_leases", "gauge", "Items that executors work on", lambda shard: shard.leases),
    _plain(
        "innkeeper_leases_expired_total",
        "counter",
        "Leases that ran out: their executors are gone or hang",
        lambda shard: shard.leases_expired,
    ),
    _by_env("innkeeper_runs_stuck", "Runs that have nothing to go on by", lambda env: env.stuck),
    _by_env("innkeeper_events_waiting", "Events that are not routed yet", lambda env: env.events_waiting),
    _OfShard(
        _Family(
            "innkeeper_events_oldest_age_seconds",
            "gauge",
            "Age of the oldest event that is not routed yet" + _SAME,
        ),
        lambda shard: [
            ((("env", shown(env.name)),), _age_s(env.oldest_event_ms, shard.now_ms))
            for env in shard.environments
        ],
    ),
    _plain(
        "innkeeper_history_lag_notes",
        "gauge",
        "Lines of history that wait for the recorder",
        lambda shard: shard.notes_waiting,
    ),
    _plain(
        "innkeeper_history_lost_notes_total",
        "counter",
        "Lines of history that went before the recorder saw them",
        lambda shard: shard.notes_lost,
    ),
    _plain(
        "innkeeper_runs_shed_total",
        "counter",
        "Ended runs whose payloads and history went before their time, for memory was short",
        lambda shard: shard.runs_shed,
    ),
    _plain(
        "innkeeper_events_shed_total",
        "counter",
        "Events that went before their time, for memory was short",
        lambda shard: shard.events_shed,
    ),
    _by_env("innkeeper_dead_letters", "Dead letters of webhooks on the list", lambda env: env.dead_letters),
    _plain(
        "innkeeper_redis_memory_bytes", "gauge", "Memory that Redis uses", lambda shard: shard.memory_bytes
    ),
    _plain(
        "innkeeper_redis_memory_max_bytes",
        "gauge",
        "Memory that Redis may use; 0: no limit is set",
        lambda shard: shard.memory_max_bytes,
    ),
)


def shown(env: str) -> str:
    """What an environment is called in the label `env`: a branch as `<environment>/<branch>`."""
    parent, mark, _ = env.partition("~")
    return f"{parent}/{shown_name(env)}" if mark else parent


def environment_text(env: EnvironmentNumbers) -> bytes:
    """The nine metrics of one environment."""
    bounded = _bounded(env, MOST_FUNCTIONS)
    return "".join(_of_functions([((), bounded)], GAUGES, 0)).encode()


def shard_text(shard: ShardNumbers) -> bytes:
    """All metrics that are the same in each process, of all environments."""
    shard = bounded_shard(shard)
    named = [((("env", shown(env.name)),), env) for env in shard.environments]
    lines = list(_of_functions(named, (*GAUGES, *OWN_GAUGES), shard.now_ms))
    for family, values in OF_SHARD:
        lines.append(_head(family))
        lines += [_line(family.name, labels, value) for labels, value in values(shard)]
    return "".join(lines).encode()


def bounded_shard(shard: ShardNumbers) -> ShardNumbers:
    """No more environments and functions by name than are shown."""
    left = MOST_FUNCTIONS_IN_ALL
    environments = []
    for env in shard.environments[:MOST_ENVIRONMENTS]:
        bounded = _bounded(env, min(MOST_FUNCTIONS, left))
        left -= len(bounded.functions) - (OTHER in bounded.functions)
        environments.append(bounded)
    rest = shard.environments[MOST_ENVIRONMENTS:]
    if rest:
        together = EnvironmentNumbers(name=OTHER, functions={OTHER: FunctionNumbers()})
        for env in rest:
            together.events_waiting += env.events_waiting
            together.stuck += env.stuck
            together.dead_letters += env.dead_letters
            ages = (together.oldest_event_ms, env.oldest_event_ms)
            together.oldest_event_ms = min((at for at in ages if at is not None), default=None)
            for function in env.functions.values():
                together.functions[OTHER].add(function)
        environments.append(together)
    return ShardNumbers(
        **{name: getattr(shard, name) for name in shard.__struct_fields__ if name != "environments"},
        environments=environments,
    )


def _bounded(env: EnvironmentNumbers, most: int) -> EnvironmentNumbers:
    names = sorted(name for name in env.functions if name != OTHER)
    if len(names) <= most:
        return env
    functions = {name: env.functions[name] for name in names[:most]}
    other = functions[OTHER] = FunctionNumbers()
    for name in (*names[most:], OTHER):
        if name in env.functions:
            other.add(env.functions[name])
    return EnvironmentNumbers(
        name=env.name,
        functions=functions,
        events_waiting=env.events_waiting,
        oldest_event_ms=env.oldest_event_ms,
        stuck=env.stuck,
        dead_letters=env.dead_letters,
    )


def _of_functions(
    environments: Sequence[tuple[Labels, EnvironmentNumbers]], gauges: Iterable[_Gauge], now_ms: int
) -> Iterator[str]:
    for family, statuses in COUNTS:
        yield _head(family)
        for labels, env in environments:
            for slug, function in env.functions.items():
                for day, counts in sorted(function.counts.items()):
                    for code, status in statuses:
                        if code in counts:
                            more = (("status", status),) if status else ()
                            own = (("date", day), *labels, ("fn", slug), *more)
                            yield _line(family.name, own, counts[code])
    for family, value in gauges:
        yield _head(family)
        for labels, env in environments:
            for slug, function in env.functions.items():
                yield _line(family.name, (*labels, ("fn", slug)), value(function, now_ms))


def _head(family: _Family) -> str:
    return f"# HELP {family.name} {family.text}\n# TYPE {family.name} {family.kind}\n"


def _line(name: str, labels: Labels, value: float) -> str:
    shown_labels = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"{name}{{{shown_labels}}} {value:.15g}\n" if labels else f"{name} {value:.15g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
