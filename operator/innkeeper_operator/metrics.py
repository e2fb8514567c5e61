"""What the operator counts, for Prometheus. No label holds what tenants write."""

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from innkeeper_engine.metrics import Metrics as ProcessMetrics

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The operator's metrics, beside those of every process."""

    def __init__(self, process: ProcessMetrics | None = None) -> None:
        """`process`: what every role counts; its registry holds the operator's own, too."""
        self.process = process or ProcessMetrics()
        self.registry = registry = self.process.registry
        self.reconciles = Counter(
            "innkeeper_operator_reconciles",
            "Looks at an app or environment",
            ["kind", "result"],
            registry=registry,
        )
        self.seconds = Histogram(
            "innkeeper_operator_reconcile_seconds",
            "How long a look took",
            ["kind"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.asks = Counter(
            "innkeeper_operator_asks",
            "Requests to apps for their functions",
            ["why", "result"],
            registry=registry,
        )
        self.queue_depth = Gauge(
            "innkeeper_operator_queue_depth", "Looks that are due or going on", registry=registry
        )
        self.failing = Gauge(
            "innkeeper_operator_failing", "Apps and environments whose last look failed", registry=registry
        )
        self.writes = Counter(
            "innkeeper_operator_writes", "Changes sent to the API server", ["verb", "kind"], registry=registry
        )
        self.status_writes = Counter(
            "innkeeper_operator_status_writes", "Statuses written", ["kind"], registry=registry
        )
        self.counter_writes = Counter(
            "innkeeper_operator_counter_writes", "Statuses written for run counters alone", registry=registry
        )
        self.watch_restarts = Counter(
            "innkeeper_operator_watch_restarts", "Watches that had to list anew", ["kind"], registry=registry
        )
        self.leading = Gauge(
            "innkeeper_operator_leading", "1 in the one operator that is active", registry=registry
        )
        self.registrations = Counter(
            "innkeeper_operator_registrations",
            "Registrations that apps sent by themselves",
            ["result"],
            registry=registry,
        )

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
