"""The CronJob that exports: with no more than Redis and its archive to reach."""

import pytest
from click.testing import CliRunner
from helm_python import Chart

from innkeeper_cli.main import main
from innkeeper_cli.settings import ExportRole
from tests.chart.conftest import Render
from tests.chart.rendering import Release, matches, render


@pytest.fixture
def everything(releases: dict[str, Release]) -> Release:
    """With all that can be on."""
    return releases["everything"]


def test_there_is_none_by_default(default: Release) -> None:
    assert default.of("CronJob") == []
    assert all("export" not in each["metadata"]["name"] for each in default.objects)


def test_it_says_what_the_values_say(everything: Release) -> None:
    """In words that the command knows; one at a time."""
    (job,) = everything.of("CronJob")
    assert (job["spec"]["schedule"], job["spec"]["timeZone"]) == ("*/10 * * * *", "Europe/Berlin")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    args = everything.pod("export").container["args"]
    assert args[1:] == [
        "--to=s3://archive/innkeeper",
        "--format=ndjson",
        "--window=5m",
        "--environment=shop",
        "--environment=billing",
        "--expiring-within=6h",
    ]
    # The command is refused for its settings only: it knows all of these.
    answer = CliRunner().invoke(main, args, env={"INNKEEPER_REDIS_URL": ""})
    assert "INNKEEPER_REDIS_URL" in answer.output
    assert "No such option" not in answer.output


def test_it_knows_redis_and_the_credentials_of_the_archive_alone(everything: Release) -> None:
    """No key of Innkeeper's, no token, no right."""
    pod = everything.pod("export")
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.spec["serviceAccountName"] == "innkeeper-export"
    secrets = next(each for each in pod.spec["volumes"] if each["name"] == "secrets")
    ((source,),) = [secrets["projected"]["sources"]]
    assert [item["path"] for item in source["secret"]["items"]] == ["redis-url"]
    assert pod.container["envFrom"] == [{"secretRef": {"name": "archive-credentials"}}]
    bound = [*everything.of("RoleBinding"), *everything.of("ClusterRoleBinding")]
    assert all(each["subjects"][0]["name"] != "innkeeper-export" for each in bound)


def test_it_keeps_things_for_as_long_as_executors_do(everything: Release) -> None:
    export, executor = everything.pod("export").env, everything.pod("executor").env
    names = {name for name in executor if name.startswith("INNKEEPER_RETENTION_")}
    assert {name: export.get(name) for name in names} == {name: executor[name] for name in names}
    known = {f"INNKEEPER_{name.upper()}" for name in ExportRole.model_fields}
    assert {name.removesuffix("_FILE") for name in export if name.startswith("INNKEEPER_")} <= known


def test_it_reaches_redis_and_the_archive(everything: Release) -> None:
    found = everything.one("NetworkPolicy", "export")["spec"]
    assert found["ingress"] == []
    assert [[port["port"] for port in rule["ports"]] for rule in found["egress"]] == [[53, 53], [6379], [443]]
    valkey = everything.one("NetworkPolicy", "valkey")["spec"]["ingress"][0]["from"][0]["podSelector"]
    assert matches(valkey, everything.pod("export").labels)


def test_it_must_be_told_where(chart: Chart) -> None:
    with pytest.raises(Exception, match=r"export\.to"):
        render(chart, {"export": {"enabled": True}})


def test_a_volume_will_do(render_chart: Render) -> None:
    volume = {"name": "archive", "persistentVolumeClaim": {"claimName": "archive"}}
    mount = {"name": "archive", "mountPath": "/archive"}
    values = {"enabled": True, "to": "/archive", "extraVolumes": [volume], "extraVolumeMounts": [mount]}
    pod = render_chart({"export": values}).pod("export")
    assert "--to=/archive" in pod.container["args"]
    assert "envFrom" not in pod.container
    assert mount in pod.container["volumeMounts"]
