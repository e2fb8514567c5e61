"""Alerts and the dashboard ask for metrics that are there, in PromQL that parses, and each alert has its page."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

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
    "innkeeper_environments_left_out",
    "innkeeper_events_oldest_age_seconds",
    "innkeeper_events_shed_total",
    "innkeeper_events_waiting",
    "innkeeper_history_lag_notes",
    "innkeeper_history_lost_notes_total",
    "innkeeper_leases",
    "innkeeper_leases_expired_total",
    "innkeeper_queue_lanes",
    "innkeeper_queue_oldest_age_seconds",
    "innkeeper_redis_memory_bytes",
    "innkeeper_redis_memory_max_bytes",
    "innkeeper_redis_up",
    "innkeeper_runs_queued",
    "innkeeper_runs_running",
    "innkeeper_runs_shed_total",
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


def of_the_dashboard() -> Iterator[str]:
    """The PromQL of the dashboard, Grafana's variables replaced by what they may stand for."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield without_variables(target["expr"])
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])
            assert asked is not None
            yield without_variables(asked[1])


def without_variables(query: str) -> str:
    """With something in the place of each of Grafana's variables."""
    for name, value in {
        "__rate_interval": "1m",
        "env": ".*",
        "fn": ".*",
        "job": ".*",
        "namespace": "a",
    }.items():
        query = query.replace(f"${name}", value)
    return query


def queries() -> Iterator[str]:
    """All PromQL of the chart."""
    for rule in rules():
        yield rule["expr"].replace("SCOPE", 'namespace="a"')
    yield from of_the_dashboard()


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
                around = re.findall(r"(max|min|count|sum|topk|label_values)[ (]", before)
                assert not around or {"max", "min", "count"} & set(around), query


def test_every_alert_has_its_page_and_every_page_its_alert(render_chart: Render) -> None:
    """The page says what the alert asks; the chart links to it."""
    release: Release = render_chart({"metrics": {"rules": {"enabled": True}}})
    (made,) = release.of("PrometheusRule")
    (group,) = made["spec"]["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [rule["alert"] for rule in rules()]
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert {rule["alert"] for rule in group["rules"]} == pages
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    for rule, written in zip(group["rules"], rules(), strict=True):
        url = rule["annotations"]["runbook_url"]
        assert url.endswith(f"/docs/runbooks/{rule['alert']}.md")
        assert "RUNBOOKS" not in url
        page = (RUNBOOKS / f"{rule['alert']}.md").read_text(encoding="utf-8")
        # What tells the release from others is left out there: it is another one in each installation.
        assert written["expr"].replace("{SCOPE}", "").replace("SCOPE,", "") in page
        assert "```sh" in page, "a command to begin with"
        assert "kubectl" in page
        assert len(set(blocks := re.findall(r"```.*?```", page, re.DOTALL))) == len(blocks)
        assert f"[{rule['alert']}]" in index
        assert "{{" in rule["annotations"]["summary"] or "$" not in rule["annotations"]["summary"]


def test_commands_of_runbooks_name_what_there_is(default: Release) -> None:
    """Objects of a release called innkeeper, and routes of the API."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(RUNBOOKS.glob("*.md")))
    kinds = {"svc": "Service", "deploy": "Deployment", "statefulset": "StatefulSet"}
    named = set(re.findall(r"\b(svc|deploy|statefulset)/([a-z-]+)", text))
    assert {kind for kind, _ in named} == set(kinds)
    there = {(each["kind"], each["metadata"]["name"]) for each in default.objects}
    assert {(kinds[kind], name) for kind, name in named} <= there
    assert set(re.findall(r"component=(\w+)", text)) <= {pod.component for pod in default.pods()}
    document = json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text(encoding="utf-8"))
    routes = [re.sub(r"\{\w+\}", "[^/]+", path) for path in document["paths"]]
    asked = re.findall(r"http://127\.0\.0\.1:8288(/[^?\"]*)", text)
    assert len(asked) >= 5
    for path in asked:
        assert any(re.fullmatch(route, path) for route in routes), path


def test_every_selector_is_of_one_release(render_chart: Render) -> None:
    """Another release in the same Prometheus neither sets off nor hides an alert, nor does it show in panels."""
    chosen = {"metrics": {"rules": {"enabled": True}}}
    (made,) = render_chart(chosen, name="blue", namespace="platform").of("PrometheusRule")
    (group,) = made["spec"]["groups"]
    own = 'namespace="platform",job=~"blue-innkeeper-(metrics|executor|operator)"'
    for rule in group["rules"]:
        for labels in selectors(rule["expr"]):
            assert own in labels
        assert (rule["labels"]["namespace"], rule["labels"]["release"]) == ("platform", "blue")
        promql_parser.parse(rule["expr"])
    chosen["metrics"]["rules"]["selector"] = 'job="innkeeper"'
    (made,) = render_chart(chosen).of("PrometheusRule")
    assert selectors(made["spec"]["groups"][0]["rules"][0]["expr"]) == ['job="innkeeper"']
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            for labels in selectors(target["expr"]):
                assert labels.startswith('namespace="$namespace",job=~"$job"')


def selectors(query: str) -> list[str]:
    """The label matchers of each of our metrics."""
    found = re.findall(r"\b(?:innkeeper|inngest)_\w+(\{[^}]*\})?", query)
    assert all(found), query
    return [each.strip("{}") for each in found]


PROMTOOL = shutil.which("promtool")
OWN = 'namespace="innkeeper-system",job="innkeeper-executor"'
OTHER = 'namespace="other",job="innkeeper-executor"'
ENDED = "inngest_function_run_ended_total"
UP = {f"innkeeper_redis_up{{{OWN}}}": "1x200"}


def ended(status: str, date: str = "2026-02-12") -> str:
    """A series of ended runs."""
    return f'{ENDED}{{{OWN},date="{date}",env="shop",fn="shop-order",status="{status}"}}'


SCENARIOS: dict[str, tuple[str, dict[str, str], int, bool]] = {
    # What Prometheus sees first as 20 has not increased.
    "a function fails from its first run on": (
        "InnkeeperRunsFail",
        UP | {ended("Failed"): "_x40 20x100"},
        60,
        True,
    ),
    "a function fails over midnight": (
        "InnkeeperRunsFail",
        UP
        | {
            ended("Failed"): "0+1x60 60x100",
            ended("Failed", "2026-02-13"): "_x60 1+1x100",
            # The day before yesterday is shown no more.
            ended("Completed", "2026-02-11"): "10000x60 _x100",
        },
        75,
        True,
    ),
    "most runs complete": (
        "InnkeeperRunsFail",
        UP | {ended("Failed"): "0+1x100", ended("Completed"): "0+2x100"},
        90,
        False,
    ),
    "few runs fail": ("InnkeeperRunsFail", UP | {ended("Failed"): "_x20 9x100"}, 45, False),
    "what failed before Prometheus came is not news": (
        "InnkeeperRunsFail",
        UP | {ended("Failed"): "500x100"},
        25,
        False,
    ),
    "nor what failed while Redis could not be read": (
        "InnkeeperRunsFail",
        {f"innkeeper_redis_up{{{OWN}}}": "1x20 0x40 1x100", ended("Failed"): "500x20 _x40 500x100"},
        85,
        False,
    ),
    "the operator is gone": ("InnkeeperOperatorNotLeading", {}, 10, True),
    "no operator leads": (
        "InnkeeperOperatorNotLeading",
        {f"innkeeper_operator_leading{{{OWN}}}": "0x20"},
        10,
        True,
    ),
    "that of another release leads": (
        "InnkeeperOperatorNotLeading",
        {f"innkeeper_operator_leading{{{OTHER}}}": "1x20"},
        10,
        True,
    ),
    "an operator leads": (
        "InnkeeperOperatorNotLeading",
        {f"innkeeper_operator_leading{{{OWN}}}": "1x20"},
        10,
        False,
    ),
    "executors are gone": (
        "InnkeeperExecutorsDown",
        {
            f"innkeeper_executor_capacity{{{OWN}}}": "256x3 stale",
            f"innkeeper_executor_capacity{{{OTHER}}}": "256x20",
        },
        10,
        True,
    ),
    "an executor is there": (
        "InnkeeperExecutorsDown",
        {f"innkeeper_executor_capacity{{{OWN}}}": "256x20"},
        10,
        False,
    ),
    "one process cannot reach Redis": (
        "InnkeeperRedisDown",
        {f'innkeeper_redis_up{{{OWN},pod="a"}}': "1x20", f'innkeeper_redis_up{{{OWN},pod="b"}}': "0x20"},
        10,
        True,
    ),
    "few events wait long": (
        "InnkeeperEventsNotRouted",
        {f'innkeeper_events_oldest_age_seconds{{{OWN},env="shop"}}': "0+60x20"},
        10,
        True,
    ),
    "runs are shed": ("InnkeeperRunsShed", {f"innkeeper_runs_shed_total{{{OWN}}}": "0x5 40x20"}, 10, True),
    "events are shed, and no runs": (
        "InnkeeperRunsShed",
        {
            f"innkeeper_runs_shed_total{{{OWN}}}": "7x20",
            f"innkeeper_events_shed_total{{{OWN}}}": "0x5 40x20",
        },
        10,
        True,
    ),
    "nothing is shed any more": (
        "InnkeeperRunsShed",
        {f"innkeeper_runs_shed_total{{{OWN}}}": "7x20", f"innkeeper_events_shed_total{{{OWN}}}": "40x20"},
        10,
        False,
    ),
    "an app declares what cannot be taken": (
        "InnkeeperSyncsFail",
        {f'innkeeper_syncs_total{{{OWN},outcome="Refused"}}': "0+1x60"},
        30,
        True,
    ),
    "an app does not answer, again and again": (
        "InnkeeperSyncsFail",
        {
            f'innkeeper_operator_asks_total{{{OWN},why="Retry",result="Failed"}}': "_x5 1x4 2x4 3x4 4x4 5x4 6x40"
        },
        30,
        True,
    ),
    "an app fails once": (
        "InnkeeperSyncsFail",
        {
            f'innkeeper_syncs_total{{{OWN},outcome="Refused"}}': "0x5 1x60",
            f'innkeeper_operator_asks_total{{{OWN},why="Retry",result="Failed"}}': "0x5 1x60",
        },
        21,
        False,
    ),
    # They are asked in each interval, and counted as Failed, but not once more.
    "apps register themselves": (
        "InnkeeperSyncsFail",
        {
            f'innkeeper_syncs_total{{{OWN},outcome="Failed"}}': "0+1x60",
            f'innkeeper_operator_asks_total{{{OWN},why="Interval",result="Failed"}}': "0+1x60",
        },
        45,
        False,
    ),
    "a transform fails once": (
        "InnkeeperDeadLetters",
        {f'innkeeper_webhook_requests_total{{{OWN},outcome="failed"}}': "0x5 1x20"},
        10,
        True,
    ),
    "webhooks are taken": (
        "InnkeeperDeadLetters",
        {
            f'innkeeper_webhook_requests_total{{{OWN},outcome="failed"}}': "7x20",
            f'innkeeper_webhook_requests_total{{{OWN},outcome="taken"}}': "0+9x20",
        },
        10,
        False,
    ),
}
"""Series at one sample a minute, in promtool's notation: which alert, what there is, after how many minutes, whether."""


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there: apt-get install prometheus")
def test_alerts_fire_when_they_should(render_chart: Render, tmp_path: Path) -> None:
    """By Prometheus' own evaluation."""
    assert PROMTOOL is not None
    (made,) = render_chart({"metrics": {"rules": {"enabled": True}}}).of("PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(made["spec"]), encoding="utf-8")
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in inputs.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                    "eval_time": f"{minutes}m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
            ],
        }
        for name, (alert, inputs, minutes, fires) in SCENARIOS.items()
    ]
    (tmp_path / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}),
        encoding="utf-8",
    )
    ran = subprocess.run(
        [PROMTOOL, "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


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


def test_every_metric_is_in_the_documentation() -> None:
    """metrics.md says what there is, and which role shows it."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in OF_THE_SHARD | of_processes()}
    assert [name for name in sorted(names) if not re.search(rf"`{name}[`{{]", text)] == []
