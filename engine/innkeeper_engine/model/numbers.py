"""What the shard counts, the same whoever asks, as plain data."""

import msgspec


class FunctionNumbers(msgspec.Struct, kw_only=True):
    """Of one function, or of several together."""

    counts: dict[str, dict[str, int]] = {}
    """Day (`2025-02-12`, UTC) -> what was counted -> how many. See the store's scripts for the codes."""
    queued: int = 0
    """Runs that have not begun."""
    running: int = 0
    """Runs that have begun and not ended."""
    steps_running: int = 0
    """Items that are leased."""
    steps_scheduled: int = 0
    """Items that are not."""
    held_lanes: int = 0
    oldest_ms: float | None = None
    """Since when the oldest run that has not begun is due; None where none is."""

    def add(self, other: "FunctionNumbers") -> None:
        """Take another function's in."""
        for day, counts in other.counts.items():
            known = self.counts.setdefault(day, {})
            for code, n in counts.items():
                known[code] = known.get(code, 0) + n
        self.queued += other.queued
        self.running += other.running
        self.steps_running += other.steps_running
        self.steps_scheduled += other.steps_scheduled
        self.held_lanes += other.held_lanes
        if other.oldest_ms is not None:
            self.oldest_ms = min(other.oldest_ms, self.oldest_ms or other.oldest_ms)


class EnvironmentNumbers(msgspec.Struct, kw_only=True):
    """Of one environment."""

    name: str
    functions: dict[str, FunctionNumbers] = {}
    """By slug."""
    events_waiting: int = 0
    """Events that are not routed yet."""
    oldest_event_ms: float | None = None
    """When the oldest of these came; None where there is none."""
    stuck: int = 0
    dead_letters: int = 0


class ShardNumbers(msgspec.Struct, kw_only=True):
    """Of the whole shard."""

    now_ms: int
    """The time of the process that has read them."""
    environments: list[EnvironmentNumbers]
    environments_left_out: int = 0
    """More than are read at once."""
    lanes_ready: int = 0
    lanes_parked: int = 0
    timers: int = 0
    leases: int = 0
    leases_expired: int = 0
    notes_waiting: int = 0
    notes_lost: int = 0
    runs_shed: int = 0
    """Ended runs whose payloads and history went before their time, for memory was short."""
    events_shed: int = 0
    """Events that went before their time, for memory was short: of such runs, or by themselves."""
    memory_bytes: int = 0
    memory_max_bytes: int = 0
    """0: no limit is set."""
