"""What processes count of themselves."""

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from innkeeper_engine.metrics import MOST_SERIES, Counted, Metrics, Timed

NAMES = {
    "innkeeper_http_requests": "counter",
    "innkeeper_http_request_seconds": "histogram",
    "innkeeper_events_accepted": "counter",
    "innkeeper_events_refused": "counter",
    "innkeeper_redis_round_trips": "counter",
    "innkeeper_redis_round_trip_seconds": "histogram",
    "innkeeper_app_requests": "counter",
    "innkeeper_app_request_seconds": "histogram",
    "innkeeper_queue_wait_seconds": "histogram",
    "innkeeper_cron_lateness_seconds": "histogram",
    "innkeeper_syncs": "counter",
    "innkeeper_webhook_requests": "counter",
    "innkeeper_webhook_transform_seconds": "histogram",
    "innkeeper_rate_limited": "counter",
    "innkeeper_spans_dropped": "counter",
    "innkeeper_executor_capacity": "gauge",
    "innkeeper_executor_working": "gauge",
}


def test_every_metric_of_a_process_has_its_name_and_type() -> None:
    families = text_string_to_metric_families(Metrics().text().decode())

    assert {family.name: family.type for family in families} == NAMES


def test_a_counter_counts_by_its_labels() -> None:
    metrics = Metrics()

    metrics.http_requests.add("/e/{key}", "POST", "200")
    metrics.http_requests.add("/e/{key}", "POST", "200", amount=2)
    metrics.spans_dropped.add()

    text = metrics.text().decode()
    assert 'innkeeper_http_requests_total{method="POST",route="/e/{key}",status="200"} 3.0' in text
    assert "innkeeper_spans_dropped_total 1.0" in text
    assert metrics.http_requests.value("/e/{key}", "POST", "200") == 3


def test_what_alerts_ask_of_webhooks_is_there_before_it_happens() -> None:
    """A series that begins at 1 has not increased, as Prometheus sees it."""
    text = Metrics().text().decode()

    assert 'innkeeper_webhook_requests_total{outcome="failed"} 0.0' in text


def test_a_gauge_has_a_value_where_somebody_tells_it() -> None:
    """`absent()` must see that no executor is there: other roles show none."""
    metrics = Metrics()
    assert "\ninnkeeper_executor_capacity " not in metrics.text().decode()
    metrics.executor_capacity.tell = lambda: 256

    assert "\ninnkeeper_executor_capacity 256.0" in metrics.text().decode()


def test_a_histogram_counts_what_is_no_longer_than_a_bound_and_how_many_there_were() -> None:
    registry = CollectorRegistry()
    timed = Timed(
        registry, "took_seconds", "How long", ("of",), buckets=(0.1, 1.0), total=("took", "How many")
    )

    for seconds in (0.05, 0.1, 0.5, 7.0):
        timed.add(seconds, "x")

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert sample("took_seconds_bucket", of="x", le="0.1") == 2
    assert sample("took_seconds_bucket", of="x", le="1") == 3
    assert sample("took_seconds_bucket", of="x", le="+Inf") == 4
    assert sample("took_seconds_count", of="x") == 4
    assert sample("took_seconds_sum", of="x") == 7.65
    assert sample("took_total", of="x") == 4


def test_labels_beyond_the_bound_are_counted_together() -> None:
    registry = CollectorRegistry()
    counted = Counted(registry, "things", "Things", ("env",))
    timed = Timed(registry, "things_seconds", "Things", ("env",))

    for n in range(MOST_SERIES + 50):
        counted.add(f"env-{n}")
        timed.add(0.1, f"env-{n}")

    (family, histogram) = registry.collect()
    assert len(family.samples) == MOST_SERIES + 1
    assert counted.value("_other") == timed.count("_other") == 50
    assert {s.labels["env"] for s in histogram.samples} == {s.labels["env"] for s in family.samples}
