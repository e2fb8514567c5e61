"""What the operator counts."""

from innkeeper_engine.metrics import Metrics as ProcessMetrics
from innkeeper_operator.metrics import Metrics


def test_the_operators_metrics_are_shown_with_those_of_every_process() -> None:
    process = ProcessMetrics()
    metrics = Metrics(process)
    metrics.asks.labels("First", "Answered").inc()
    process.syncs.add("Answered")

    text = metrics.text().decode()
    assert 'innkeeper_operator_asks_total{result="Answered",why="First"} 1.0' in text
    assert 'innkeeper_syncs_total{outcome="Answered"} 1.0' in text
