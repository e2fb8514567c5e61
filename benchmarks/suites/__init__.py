"""One module per benchmark: a `run(bench)` that yields the figures of one run."""

from collections.abc import Awaitable, Callable

from benchmarks.figures import Figure
from benchmarks.session import Bench
from benchmarks.suites import (
    backlog,
    bodies,
    chain,
    fan,
    flood,
    growth,
    ingest,
    kept,
    keys,
    latency,
    noisy,
    noop,
    scripts,
    timers,
    transforms,
    waiters,
)

Suite = Callable[[Bench], Awaitable[list[Figure]]]

SUITES: dict[str, Suite] = {
    "latency": latency.run,
    "noop": noop.run,
    "chain": chain.run,
    "fan": fan.run,
    "ingest": ingest.run,
    "timers": timers.run,
    "waiters": waiters.run,
    "growth": growth.run,
    "noisy": noisy.run,
    "keys": keys.run,
    "backlog": backlog.run,
    "scripts": scripts.run,
    "bodies": bodies.run,
    "kept": kept.run,
    "flood": flood.run,
    "transforms": transforms.run,
}
