"""How much work each benchmark does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """The full sizes; `quick()` gives those of a smoke run."""

    stall_s: float = 90.0
    """A run counts as lost when no run has made progress for so long (longer than one retry's back-off)."""
    verify: int = 5000
    """At most so many runs of one measurement are asked for one by one afterwards."""
    latency_s: float = 30.0
    latency_rate: float = 10.0
    """Events per second."""
    noop_runs: int = 5000
    noop_senders: int = 16
    chain_in_flight: int = 64
    chain_short: int = 10
    """Steps of a short run."""
    chain_short_runs: int = 512
    chain_long: int = 100
    chain_long_runs: int = 128
    chain_alone_runs: int = 20
    """Runs with one in flight: short ones; a fifth of it: long ones."""
    fan_width: int = 1000
    ingest_senders: int = 16
    ingest_single: int = 10_000
    """Events sent one a body."""
    ingest_batched: int = 50_000
    """Events sent a hundred a body."""
    ingest_event_bytes: int = 500
    sleepers: int = 100_000
    sleepers_window_s: float = 120.0
    idle_s: float = 20.0
    waiters: int = 100_000
    waiters_rate: int = 2000
    """Events per second, of which one in ten resumes a run."""
    waiters_s: float = 30.0
    growth_small: int = 1000
    growth_large: int = 100_000
    growth_rounds: int = 7
    growth_runs: int = 256
    """Short runs in each round."""
    noisy_queued: int = 100_000
    """Runs of the tenant that fills its key."""
    noisy_s: float = 100.0
    noisy_rate: float = 1.0
    """Events per second of the other tenant."""
    keys: int = 100_000
    keys_rounds: int = 7
    keys_leases: int = 5000
    """At most so many in each round."""
    keys_in_flight: int = 16
    backlog_small: int = 1000
    backlog_large: int = 1_000_000
    backlog_rounds: int = 7
    backlog_leases: int = 1000
    """In each round."""
    backlog_in_flight: int = 16
    backlog_asleep: int = 20_000
    kept_runs: int = 2000
    kept_in_flight: int = 64
    """Sleeping runs, of which the memory is measured."""
    scripts_runs: int = 1000
    """In each round."""
    scripts_chains: int = 50
    scripts_steps: int = 10
    scripts_in_flight: int = 16
    scripts_rounds: int = 15
    bodies_kib: tuple[int, ...] = (32, 256, 2048)
    """Of the event, the result and the output of each run."""
    bodies_kib_each: int = 8192
    """Of all events of a round; two runs at least."""
    bodies_rounds: int = 5
    flood_rounds: int = 6
    """Of each kind of flood, and of none."""
    flood_s: float = 5.0
    flood_rate: float = 40.0
    """Events per second of the tenant that is measured."""
    flood_connections: int = 64
    transforms_connections: int = 1000
    transforms_ramp_s: float = 3.0
    transforms_settle_s: float = 6.0
    """After each flood: a little more than requests wait at most."""


def quick() -> Sizes:
    """A smoke run: shows that every benchmark works, measures nothing."""
    return Sizes(
        stall_s=30.0,
        verify=50,
        latency_s=1.0,
        noop_runs=100,
        chain_in_flight=8,
        chain_short_runs=8,
        chain_long_runs=2,
        chain_alone_runs=5,
        fan_width=100,
        ingest_single=200,
        ingest_batched=1000,
        sleepers=100,
        sleepers_window_s=1.0,
        idle_s=1.0,
        waiters=100,
        waiters_rate=200,
        waiters_s=1.0,
        growth_small=30,
        growth_large=150,
        growth_rounds=1,
        growth_runs=32,
        noisy_queued=200,
        noisy_s=1.0,
        noisy_rate=10.0,
        keys=200,
        keys_rounds=1,
        backlog_small=50,
        backlog_large=500,
        backlog_rounds=1,
        backlog_leases=50,
        backlog_asleep=200,
        scripts_runs=100,
        scripts_chains=8,
        scripts_steps=2,
        scripts_rounds=1,
        bodies_kib=(32,),
        bodies_kib_each=128,
        bodies_rounds=1,
        kept_runs=100,
        flood_rounds=1,
        flood_s=1.0,
        flood_connections=8,
        transforms_connections=20,
        transforms_ramp_s=0.1,
        transforms_settle_s=0.5,
    )
