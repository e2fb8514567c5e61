"""What a process counts of its own doing, for Prometheus: all names, help texts, labels and buckets.

Plain dictionaries behind `prometheus_client.CollectorRegistry`: what is counted several times for each step must cost
next to nothing, and prometheus_client's own counters take locks and search for their buckets. One event loop counts and
shows them. What the shard counts, the same in each process, is in `innkeeper_engine.exposition`.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What the text is sent as (Prometheus, "Exposition formats")."""

OTHER: Final = "_other"
"""What stands for all that would be one label too many."""

MOST_SERIES: Final = 1_000
"""Combinations of labels that one metric has at most; what comes later is counted under `_other`."""

FAST_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets for what is over in no time, in seconds."""

SLOW_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    3600.0,
)
"""Buckets for what may take hours, in seconds."""

WEBHOOK_OUTCOMES: Final = (
    "busy",
    "challenged",
    "failed",
    "limited",
    "refused",
    "sealed",
    "store",
    "taken",
    "unknown",
)
"""What may become of a request to a webhook: `failed` is kept as a dead letter, `unknown` is sent to none."""

SYNC_OUTCOMES: Final = ("Answered", "Broken", "Failed", "Refused")
"""What may become of a request for functions: `Failed` also where the app is to register itself."""


class Counted(Collector):
    """A counter with labels."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        known: Iterable[str] = (),
    ) -> None:
        """`name` without `_total`; `known`: values of its only label, each shown from the beginning.

        What is shown first as 1 has not increased for Prometheus: what alerts ask for must have been 0 before.
        """
        self.name, self.labels = name, labels
        self._text = text
        self._values: dict[tuple[str, ...], int] = {}
        if not labels:
            self._values[()] = 0
        self._values |= {(label,): 0 for label in known}
        registry.register(self)

    def add(self, *labels: str, amount: int = 1) -> None:
        """Count `amount` more, with a value for each label."""
        values = self._values
        known = values.get(labels)
        if known is None:
            labels = _bounded(labels, len(values))
            known = values.get(labels, 0)
        values[labels] = known + amount

    def value(self, *labels: str) -> int:
        """How much has been counted with these labels."""
        return self._values.get(labels, 0)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client wants it."""
        family = CounterMetricFamily(self.name, self._text, labels=self.labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


class Told(Collector):
    """A gauge of what a part of the process knows; without a value where there is no such part."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str) -> None:
        self.name = name
        self._text = text
        self.tell: Callable[[], float] | None = None
        """Says how much it is now."""
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client wants it."""
        family = GaugeMetricFamily(self.name, self._text)
        if self.tell is not None:
            family.add_metric((), self.tell())
        yield family


class _Series:
    __slots__ = ("buckets", "seconds")

    def __init__(self, count: int) -> None:
        self.buckets = [0] * count
        self.seconds = 0.0


class Timed(Collector):
    """A histogram of seconds with labels."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        *,
        buckets: tuple[float, ...] = FAST_S,
        total: tuple[str, str] | None = None,
    ) -> None:
        """`total`: name (without `_total`) and text of a counter that says how many there were."""
        self.name, self.labels = name, labels
        self._text = text
        self._bounds = buckets
        self._total = total
        self._series: dict[tuple[str, ...], _Series] = {}
        if not labels:
            self._series[()] = _Series(len(buckets) + 1)
        registry.register(self)

    def add(self, seconds: float, *labels: str) -> None:
        """Count one that took so long, with a value for each label."""
        series = self._series.get(labels)
        if series is None:
            series = self._series.setdefault(
                _bounded(labels, len(self._series)), _Series(len(self._bounds) + 1)
            )
        series.buckets[bisect_left(self._bounds, seconds)] += 1
        series.seconds += seconds

    def count(self, *labels: str) -> int:
        """How many were counted with these labels."""
        series = self._series.get(labels)
        return 0 if series is None else sum(series.buckets)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client wants it."""
        family = HistogramMetricFamily(self.name, self._text, labels=self.labels)
        names = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        counts: list[tuple[tuple[str, ...], int]] = []
        for labels, series in self._series.items():
            cumulative = list(_running_sums(series.buckets))
            family.add_metric(labels, list(zip(names, cumulative, strict=True)), series.seconds)
            counts.append((labels, cumulative[-1]))
        if self._total is not None:
            total = CounterMetricFamily(*self._total, labels=self.labels)
            for labels, value in counts:
                total.add_metric(labels, value)
            yield total
        yield family


def _bounded(labels: tuple[str, ...], known: int) -> tuple[str, ...]:
    return (OTHER,) * len(labels) if labels and known >= MOST_SERIES else labels


def _running_sums(counts: Iterable[int]) -> Iterator[int]:
    total = 0
    for count in counts:
        total += count
        yield total


class Metrics:
    """What one process counts, whatever its role: what a role does not do stays empty.

    Labels hold what is bounded by nature (templates of routes, words of this code base) or names of environments;
    never an id, a key, or a text that somebody sends.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """`registry`: where they are shown; one of their own where it is not given."""
        registry = registry or CollectorRegistry()
        self.registry = registry
        self._serving(registry)
        self._working(registry)

    def _serving(self, registry: CollectorRegistry) -> None:
        self.http_requests = Counted(
            registry, "innkeeper_http_requests", "Requests answered", ("route", "method", "status")
        )
        self.http_seconds = Timed(
            registry,
            "innkeeper_http_request_seconds",
            "From a request's first byte to the end of its answer",
            ("route",),
            buckets=SLOW_S,
        )
        self.events_accepted = Counted(
            registry, "innkeeper_events_accepted", "Events stored for senders", ("env",)
        )
        self.events_refused = Counted(
            registry, "innkeeper_events_refused", "Sends of events that were refused", ("reason",)
        )
        self.rate_limited = Counted(
            registry, "innkeeper_rate_limited", "Requests answered 429 by a rate limit", ("env",)
        )
        self.webhook_requests = Counted(
            registry,
            "innkeeper_webhook_requests",
            "Requests of webhook providers",
            ("outcome",),
            WEBHOOK_OUTCOMES,
        )
        self.webhook_transform_seconds = Timed(
            registry,
            "innkeeper_webhook_transform_seconds",
            "How long a webhook's transform took, with its wait for the sandbox",
        )

    def _working(self, registry: CollectorRegistry) -> None:
        self.redis_seconds = Timed(
            registry,
            "innkeeper_redis_round_trip_seconds",
            "From a command to its reply",
            ("verb",),
            total=("innkeeper_redis_round_trips", "Commands sent to Redis, and scripts by their verb"),
        )
        self.app_seconds = Timed(
            registry,
            "innkeeper_app_request_seconds",
            "From a request to an app to the end of its answer",
            ("outcome",),
            buckets=SLOW_S,
            total=("innkeeper_app_requests", "Requests to apps"),
        )
        self.executor_capacity = Told(
            registry,
            "innkeeper_executor_capacity",
            "Requests to apps that this executor makes at the same time",
        )
        self.executor_working = Told(
            registry, "innkeeper_executor_working", "Items that this executor works on: leases of its own"
        )
        self.queue_wait_seconds = Timed(
            registry,
            "innkeeper_queue_wait_seconds",
            "How long runs waited for their first request",
            buckets=SLOW_S,
        )
        self.cron_lateness_seconds = Timed(
            registry,
            "innkeeper_cron_lateness_seconds",
            "How much later than its time a cron was fired",
            buckets=SLOW_S,
        )
        self.syncs = Counted(
            registry,
            "innkeeper_syncs",
            "Requests to apps for their functions",
            ("outcome",),
            SYNC_OUTCOMES,
        )
        self.spans_dropped = Counted(
            registry, "innkeeper_spans_dropped", "Spans that were not exported, for there were too many"
        )

    def text(self) -> bytes:
        """All of the registry, as Prometheus reads it."""
        return generate_latest(self.registry)
