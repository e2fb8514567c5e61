"""Alerts and the dashboard ask for metrics that are there, in PromQL that parses, and each alert has its page."""

import json
import re
from collections.abc import Iterator

import promql_parser
import pytest
import yaml

from innkeeper_engine.metrics import Metrics
from innkeeper_operator.metrics import Metrics as OperatorMetrics
from tests.chart.conftest import Render
from tests.chart.rendering import CHART, ROOT, Json, Release

FILES = CHART / "files" / "monitoring"
RUNBOOKS = ROOT / "docs" / "runbooks"
OF_THE_SHARD = {
    *(f"inngest_function_run_{what}_total" for what in ("ended", "scheduled", "started")),
    *(f"inngest_sdk_req_{what}_total" for what in ("ended", "scheduled", "started")),
    "inngest_step_output_bytes_total",
    "inngest_steps_running",
    "inngest_steps_scheduled",
    "innkeeper_dead_letters",
    "innkeeper_events_waiting",
    "innkeeper_history_lag_notes",
    "innkeeper_history_lost_notes_total",
    "innkeeper_leases",
    "innkeeper_leases_expired_total",
    "innkeeper_queue_lanes",
    "innkeeper_queue_oldest_age_seconds",
    "innkeeper_redis_memory_bytes",
    "innkeeper_redis_memory_max_bytes",
    "innkeeper_runs_queued",
    "innkeeper_runs_running",
    "innkeeper_runs_stuck",
    "innkeeper_timers",
}
"""What every replica shows alike, read from Redis."""


def of_processes() -> set[str]:
    """Every name that a process shows of its own."""
    names: set[str] = set()
    for registry in (Metrics().registry, OperatorMetrics().registry):
        for family in registry.collect():
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(
                family.type, [""]
            )
            names |= {f"{family.name}{suffix}" for suffix in suffixes}
    return names


def rules() -> list[Json]:
    """The alerts as they lie in the chart."""
    (group,) = yaml.safe_load((FILES / "rules.yaml").read_text(encoding="utf-8"))["groups"]
    found: list[Json] = group["rules"]
    return found


def dashboard() -> Json:
    """The dashboard as it lies in the chart."""
    found: Json = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
    return found


def queries() -> Iterator[str]:
    """All PromQL of the chart, Grafana's variables replaced by what they stand for."""
    for rule in rules():
        yield rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m").replace("$env", ".*").replace("$fn", ".*")
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])
            assert asked is not None
            yield asked[1].replace("$env", ".*")


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_every_query_parses_and_asks_for_what_is_there(query: str) -> None:
    """By a parser of PromQL's own grammar."""
    promql_parser.parse(query)
    # Names in label matchers, groupings and texts are none of metrics.
    bare = re.sub(r'\{[^}]*\}|\b(?:by|without) \([^)]*\)|"[^"]*"', "", query)
    asked = set(re.findall(r"\b(?:innkeeper|inngest)_\w+", bare))
    assert asked, "asks for none of our metrics"
    assert asked <= OF_THE_SHARD | of_processes()


def test_what_all_replicas_show_alike_is_not_added_up() -> None:
    """Two gateways that both say 5 do not mean 10: max comes before any sum."""
    for query in queries():
        for name in OF_THE_SHARD:
            for found in re.finditer(rf"\b{name}\b", query):
                before = query[: found.start()]
                around = re.findall(r"(max|sum|topk|label_values)[ (]", before)
                assert not around or "max" in around, query


def test_every_alert_has_its_page_and_every_page_its_alert(render_chart: Render) -> None:
    """The page says what the alert asks; the chart links to it."""
    release: Release = render_chart({"metrics": {"rules": {"enabled": True}}})
    (made,) = release.of("PrometheusRule")
    (group,) = made["spec"]["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [rule["alert"] for rule in rules()]
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert {rule["alert"] for rule in group["rules"]} == pages
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    for rule in group["rules"]:
        url = rule["annotations"]["runbook_url"]
        assert url.endswith(f"/docs/runbooks/{rule['alert']}.md")
        assert "RUNBOOKS" not in url
        page = (RUNBOOKS / f"{rule['alert']}.md").read_text(encoding="utf-8")
        assert rule["expr"] in page
        assert f"[{rule['alert']}]" in index
        assert "{{" in rule["annotations"]["summary"] or "$" not in rule["annotations"]["summary"]


def test_the_dashboard_is_what_grafana_reads(releases: dict[str, Release], render_chart: Render) -> None:
    """Unchanged, under the labels that its sidecar looks for."""
    made = releases["everything"].one("ConfigMap", "dashboard")
    assert json.loads(made["data"]["innkeeper.json"]) == dashboard()
    assert made["metadata"]["annotations"] == {"grafana_folder": "Innkeeper"}
    plain = render_chart({"grafana": {"dashboards": {"enabled": True}}}).one("ConfigMap", "dashboard")
    assert plain["metadata"]["labels"]["grafana_dashboard"] == "1"
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))


def test_traces_are_sent_where_the_values_say(releases: dict[str, Release], default: Release) -> None:
    """By gateways and executors alone, which have something to tell."""
    for role in ("gateway", "executor"):
        env = releases["everything"].pod(role).env
        assert env["INNKEEPER_OTLP_ENDPOINT"] == "http://collector.observability:4318"
        assert env["INNKEEPER_TRACE_RATIO"] == "0.1"
        assert "INNKEEPER_OTLP_ENDPOINT" not in default.pod(role).env
    assert "INNKEEPER_OTLP_ENDPOINT" not in releases["everything"].pod("operator").env
