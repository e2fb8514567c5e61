"""Pods: Pod Security `restricted`, settings that the roles know, probes that are answered, time to drain."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from innkeeper_cli import settings
from innkeeper_cli.main import main
from innkeeper_engine import probes
from innkeeper_engine.retention import parse_retention_s
from innkeeper_gateway import health
from tests.chart.conftest import Render
from tests.chart.rendering import COMPONENT, ROLES, Json, Pod, Release, decoded, values_of

MODELS = {"gateway": "GatewayRole", "executor": "ExecutorRole", "operator": "OperatorRole"}
KEYS = {
    "gateway": {"webhook_key"},
    "executor": {"encryption_key"},
    "operator": {"encryption_key", "webhook_key"},
}
"""Which keys a role has."""
SECRETS_AT = "/run/innkeeper/secrets"


def role_pods(release: Release) -> list[Pod]:
    """The pods that run a role."""
    return [release.pod(role) for role in ROLES]


def model_of(role: str) -> type[settings.Role]:
    """The settings model of a role."""
    found: type[settings.Role] = getattr(settings, MODELS[role])
    return found


# ---- security


def test_every_pod_is_restricted(release: Release) -> None:
    """What the Pod Security Standard `restricted` asks for, and a file system that nobody writes to."""
    pods = list(release.pods())
    assert {pod.component for pod in pods} >= {*ROLES, "test"}
    for pod in pods:
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security.get("runAsUser") != 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for field in ("hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"):
            assert field not in pod.spec
        assert pod.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert all("hostPort" not in port for port in pod.container.get("ports", ()))
        for volume in pod.spec.get("volumes", ()):
            assert volume.keys() & {"configMap", "emptyDir", "projected", "secret"}, volume["name"]


def test_users_are_numbers_that_are_not_root(default: Release) -> None:
    """So that the kubelet can tell without asking the image."""
    users = {pod.component: pod.spec["securityContext"]["runAsUser"] for pod in default.pods()}
    assert users == dict.fromkeys((*ROLES, "uninstall", "test"), 65532) | {"valkey": 999}


def test_users_can_be_left_to_the_platform(releases: dict[str, Release]) -> None:
    for pod in role_pods(releases["minimal"]):
        assert not pod.spec["securityContext"].keys() & {"runAsUser", "runAsGroup", "fsGroup"}


def test_only_operator_and_gateway_hold_a_token(default: Release, releases: dict[str, Release]) -> None:
    def holders(release: Release) -> set[str]:
        assert all(each["automountServiceAccountToken"] is False for each in release.of("ServiceAccount"))
        return {pod.component for pod in release.pods() if pod.spec["automountServiceAccountToken"]}

    # The hook before the uninstallation does the operator's work, as the operator.
    assert holders(default) == {"operator", "gateway", "uninstall"}
    assert default.pod("uninstall").spec["serviceAccountName"] == "innkeeper-operator"
    assert holders(releases["minimal"]) == {"operator"}


def test_no_variables_of_services_come_in(release: Release) -> None:
    """A Service called "innkeeper" would set INNKEEPER_PORT to tcp://..."""
    assert all(pod.spec["enableServiceLinks"] is False for pod in release.pods())


def test_what_is_written_to_is_a_volume(release: Release) -> None:
    for pod in role_pods(release):
        mounts = {mount["mountPath"]: mount for mount in pod.container["volumeMounts"]}
        assert mounts["/tmp"].get("readOnly") is not True
        assert mounts[SECRETS_AT]["readOnly"] is True


def test_every_container_says_what_it_needs(release: Release) -> None:
    for pod in release.pods():
        resources = pod.container["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert "memory" in resources["limits"]


# ---- settings


def test_every_variable_is_a_setting_of_its_role(release: Release) -> None:
    for pod in role_pods(release):
        known = model_of(pod.component).model_fields
        for variable in pod.env:
            if not variable.startswith(settings.PREFIX):
                continue
            name = variable.removeprefix(settings.PREFIX).lower()
            if name.endswith("_file"):
                name = name.removesuffix("_file")
                assert name in settings.Role.SECRETS, variable
            assert name in known, f"{variable} is no setting of {pod.component}"


@pytest.fixture
def files(tmp_path: Path, default: Release) -> Path:
    """The files that a pod of the default release finds under /run/innkeeper/secrets."""
    sources = default.pod("operator").spec["volumes"][0]["projected"]["sources"]
    (tmp_path / "admin-token").write_text("a" * 24, encoding="utf-8")
    secrets = {each["metadata"]["name"]: decoded(each) for each in default.of("Secret")}
    for source in (each["secret"] for each in sources):
        for item in source["items"]:
            (tmp_path / item["path"]).write_text(secrets[source["name"]][item["key"]], encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["default", "everything", "namespaced", "minimal", "external-redis"])
@pytest.mark.parametrize("role", ROLES)
def test_a_role_starts_with_what_its_pod_gives_it(
    releases: dict[str, Release], files: Path, monkeypatch: pytest.MonkeyPatch, name: str, role: str
) -> None:
    pod = releases[name].pod(role)
    for variable, value in pod.env.items():
        monkeypatch.setenv(variable, value.replace(SECRETS_AT, str(files)))
    found = settings.load(model_of(role)).model_dump()
    port = pod.container["ports"][0]["containerPort"]
    assert found["port"] == port
    assert found["redis_url"].get_secret_value().endswith("@innkeeper-valkey.innkeeper-system.svc:6379/0")
    keys = {each for each in ("encryption_key", "webhook_key") if found.get(each) is not None}
    assert keys == KEYS[role]
    for each in keys:
        assert len(found[each].get_secret_value()) == 32
    if role != "operator":
        assert found["managed"] is True


@pytest.mark.parametrize("name", ["default", "everything", "external-redis"])
@pytest.mark.parametrize("role", ROLES)
def test_metrics_are_scraped_where_the_process_listens(
    render_chart: Render, files: Path, monkeypatch: pytest.MonkeyPatch, name: str, role: str
) -> None:
    """From the ServiceMonitor over Service, port and NetworkPolicy to what the role makes of its variables."""
    release = render_chart(values_of(name) | {"metrics": {"serviceMonitor": {"enabled": True}}})
    pod = release.pod(role)
    for variable, value in pod.env.items():
        monkeypatch.setenv(variable, value.replace(SECRETS_AT, str(files)))
    listens = settings.load(model_of(role)).shows_at  # type: ignore[attr-defined]
    (monitor,) = (
        each for each in release.of("ServiceMonitor") if each["metadata"]["labels"][COMPONENT] == role
    )
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = (
        port
        for service in release.of("Service")
        if monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        for port in service["spec"]["ports"]
        if port["name"] == endpoint["port"]
    )
    ports = {port["name"]: port["containerPort"] for port in pod.container["ports"]}
    assert ports[port["targetPort"]] in listens
    assert port["port"] in listens
    (policy,) = (
        each for each in release.of("NetworkPolicy") if each["metadata"]["name"].endswith(f"-{role}")
    )
    admitted = {port["port"] for entry in policy["spec"]["ingress"] for port in entry["ports"]}
    assert admitted & set(listens)


def test_an_admin_token_is_for_gateways_alone(default: Release, releases: dict[str, Release]) -> None:
    told = {role: releases["external-redis"].pod(role).env for role in ROLES}
    assert [role for role in ROLES if "INNKEEPER_ADMIN_TOKEN_FILE" in told[role]] == ["gateway"]
    (volume,) = (
        each
        for each in releases["external-redis"].pod("gateway").spec["volumes"]
        if each["name"] == "secrets"
    )
    found = [source["secret"] for source in volume["projected"]["sources"]]
    assert {"name": "innkeeper-admin", "items": [{"key": "token", "path": "admin-token"}]} in found
    assert "admin" not in json.dumps(default.pod("gateway").owner)


def test_the_values_reach_the_settings(
    releases: dict[str, Release], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in releases["everything"].pod("executor").env.items():
        monkeypatch.setenv(variable, value.replace(SECRETS_AT, str(files)))
    found = settings.load(settings.ExecutorRole)
    assert found.capacity == 100_000
    assert found.beat_s == 12.5
    assert found.lease_s == 60
    assert (found.retention_events, found.retention_runs) == (43_200, 7 * 86_400)
    assert found.retention_dead_letters == 36 * 3_600
    assert found.retry_backoff_s == (0.5, 1, 30)
    assert found.retry_jitter_s == 0
    assert found.grace_s == 7200
    assert found.egress_allow == ("10.1.0.0/16", "billing.internal")
    assert found.host == "::"
    assert (found.log_level, found.log_format) == ("debug", "console")


def test_the_gateway_is_told_what_the_values_say(releases: dict[str, Release]) -> None:
    everything = releases["everything"].pod("gateway").env
    assert everything["INNKEEPER_WEBHOOK_WORKERS"] == "2"
    assert everything["INNKEEPER_TRUSTED_PROXIES"] == "10.0.0.0/8,fd00::/8"


def test_the_operator_is_told_what_the_values_say(releases: dict[str, Release]) -> None:
    everything = releases["everything"].pod("operator").env
    assert everything["INNKEEPER_BASE_URL"] == "https://innkeeper.example.com/in"
    assert everything["INNKEEPER_AUTO_REGISTER"] == "Always"
    assert everything["INNKEEPER_DEFAULT_ACCOUNT"] == "acme"
    assert everything["INNKEEPER_KEYS_GENERATE"] == "true"
    assert everything["INNKEEPER_SECRET_MODE"] == "Labelled"
    for role in ("operator", "executor"):
        told = releases["everything"].pod(role).env
        assert told["INNKEEPER_EGRESS_ALLOW"] == "10.1.0.0/16,billing.internal"
        assert told["INNKEEPER_APPS_ALLOW"] == "*.apps.internal"
    assert "INNKEEPER_WATCH_NAMESPACES" not in everything, "all of them"
    namespaced = releases["namespaced"].pod("operator").env
    assert namespaced["INNKEEPER_WATCH_NAMESPACES"] == "shop,shop-eu"
    assert namespaced["INNKEEPER_ENVIRONMENTS"] == "shop-eu=shop"
    assert json.loads(namespaced["INNKEEPER_POLICIES"]) == {
        "shop": {
            "retentionRuns": "7d",
            "egressAllow": ["10.1.0.0/16", "fd00:1::/32", "*.billing.internal"],
            "eventsPerSecond": 1_000_000,
            "webhookRedirects": ["app.example.com"],
        }
    }
    assert namespaced["INNKEEPER_SECRET_MODE"] == "Named"
    assert namespaced["INNKEEPER_KEYS_GENERATE"] == "false", "it could not write them"
    assert namespaced["INNKEEPER_LEASE_NAMESPACE"] == "innkeeper-system"
    assert namespaced["INNKEEPER_LEASE_NAME"] == "durable-operator"
    assert namespaced["INNKEEPER_BASE_URL"] == "http://durable-gateway.innkeeper-system.svc:8288"
    assert releases["minimal"].pod("operator").env["INNKEEPER_STATUS_COUNTERS"] == "false"


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, None),
        ({"webhooksUrl": "https://hooks.example.com/in"}, "https://hooks.example.com/in"),
        ({"ingress": {"events": {"enabled": True, "hosts": ["a.example"]}}}, None),
        ({"ingress": {"events": {"hosts": ["a.example"], "tls": [{"hosts": ["a.example"]}]}}}, None),
        (
            {
                "ingress": {
                    "events": {
                        "enabled": True,
                        "hosts": ["a.example", "b.example"],
                        "tls": [{"secretName": "b"}, {"secretName": "a", "hosts": ["a.example"]}],
                    }
                }
            },
            "https://a.example",
        ),
        (
            {
                "webhooksUrl": "https://own.example",
                "ingress": {
                    "events": {"enabled": True, "hosts": ["a.example"], "tls": [{"hosts": ["a.example"]}]}
                },
            },
            "https://own.example",
        ),
        (
            {
                "ingress": {
                    "events": {"enabled": True, "hosts": ["*.example"], "tls": [{"hosts": ["*.example"]}]}
                }
            },
            None,
        ),
    ],
)
def test_operator_and_gateways_are_told_where_providers_reach_webhooks(
    render_chart: Render, values: Json, wanted: str | None
) -> None:
    """The host of the Ingress, where it is known to be served with TLS."""
    release = render_chart(values)
    for role in ("operator", "gateway"):
        assert release.pod(role).env.get("INNKEEPER_WEBHOOKS_URL") == wanted


def test_gateways_are_told_how_much_a_key_may_send(render_chart: Render) -> None:
    assert render_chart({}).pod("gateway").env["INNKEEPER_EVENTS_PER_S"] == "5000"
    rates = {"eventsPerSecond": 0, "requestsPerSecond": 50, "refusalsPerSecond": 5}
    env = render_chart({"gateway": rates}).pod("gateway").env
    names = ("EVENTS", "REQUESTS", "REFUSALS")
    assert [env[f"INNKEEPER_{name}_PER_S"] for name in names] == ["0", "50", "5"]


def test_gateways_are_told_which_sites_may_ask_for_webhooks(render_chart: Render) -> None:
    intents = {"webhookIntents": {"enabled": True}, "webhookRedirects": ["api.example.com", "*.example.net"]}
    env = render_chart(intents).pod("gateway").env
    assert env["INNKEEPER_WEBHOOK_INTENTS"] == "true"
    assert "INNKEEPER_WEBHOOK_INTENTS" not in render_chart({}).pod("gateway").env
    assert env["INNKEEPER_WEBHOOK_REDIRECTS"] == "api.example.com,*.example.net"


def test_the_uninstall_hook_needs_neither_redis_nor_a_key(release: Release) -> None:
    """It is told where to look and which Lease is the operator's, and works when the Secrets have gone already."""
    operator = release.pod("operator")
    for hook in (pod for pod in release.pods() if pod.component == "uninstall"):
        assert hook.env.items() <= operator.env.items()
        scope = {name for name in operator.env if "_LEASE_" in name or "_LOG_" in name or "_WATCH_" in name}
        assert hook.env.keys() == scope
        assert [volume["name"] for volume in hook.spec["volumes"]] == ["tmp"]


@pytest.mark.parametrize("leases", [(30, 10), (31, 10.3)])
def test_defaults_are_those_of_the_program(
    default: Release, render_chart: Render, leases: tuple[float, float]
) -> None:
    """What the values say by default is what a role without settings does (but for the longer drain)."""
    env = default.pod("executor").env
    model = settings.ExecutorRole.model_fields
    for name in (
        "capacity",
        "beat_s",
        "retry_jitter_s",
        "lease_s",
        "log_level",
        "log_format",
        "host",
        "max_event_bytes",
        "max_request_bytes",
        "max_steps",
        "compress_over_bytes",
    ):
        assert env[f"INNKEEPER_{name.upper()}"] == format(
            model[name].default, "g" if name.endswith("_s") else ""
        )
    for name in ("retention_events", "retention_runs", "retention_dead_letters"):
        assert parse_retention_s(env[f"INNKEEPER_{name.upper()}"]) == model[name].default
    assert default.pod("operator").env["INNKEEPER_HOST"] == "0.0.0.0"
    lease, beat = leases
    other = render_chart({"leaseSeconds": lease, "executor": {"beatSeconds": beat}}).pod("executor").env
    assert (other["INNKEEPER_LEASE_S"], other["INNKEEPER_BEAT_S"]) == (f"{lease:g}", f"{beat:g}")


def test_gateway_and_executor_agree_on_retentions(releases: dict[str, Release]) -> None:
    for release in releases.values():
        gateway, executor = (release.pod(role).env for role in ("gateway", "executor"))
        kept = {name: value for name, value in executor.items() if "_RETENTION_" in name}
        assert len(kept) == 3
        assert kept.items() <= gateway.items()


@pytest.mark.parametrize(
    "name", ["LEASE_S", "MAX_EVENT_BYTES", "MAX_REQUEST_BYTES", "MAX_STEPS", "COMPRESS_OVER_BYTES"]
)
def test_gateway_and_executor_agree(release: Release, name: str) -> None:
    told = {release.pod(role).env[f"INNKEEPER_{name}"] for role in ("gateway", "executor")}
    assert len(told) == 1


# ---- secrets


def test_no_secret_is_outside_of_a_secret(default: Release) -> None:
    """Neither as a variable nor in a ConfigMap, an argument or a note."""
    secrets = [value for each in default.of("Secret") for value in decoded(each).values()]
    assert len(secrets) == 4
    text = default.notes + json.dumps([each for each in default.objects if each["kind"] != "Secret"])
    for secret in secrets:
        assert secret not in text


def test_secret_settings_come_from_files(release: Release) -> None:
    for pod in role_pods(release):
        for name in settings.Role.SECRETS:
            assert f"INNKEEPER_{name.upper()}" not in {item["name"] for item in pod.container["env"]}
        told = {value for name, value in pod.env.items() if name.endswith("_FILE") and "SSL" not in name}
        (volume,) = (each["projected"] for each in pod.spec["volumes"] if each["name"] == "secrets")
        mounted = {item["path"] for source in volume["sources"] for item in source["secret"]["items"]}
        assert told == {f"{SECRETS_AT}/{path}" for path in mounted}
        assert volume["defaultMode"] == 0o440


def test_gateways_do_not_get_the_encryption_key(release: Release) -> None:
    """It opens the keys that sign requests to apps."""
    assert "encryption" not in json.dumps(release.pod("gateway").owner)


def test_executors_do_not_get_the_key_of_webhooks(release: Release) -> None:
    assert "webhook" not in json.dumps(release.pod("executor").owner).lower()


def test_the_two_keys_are_two(default: Release) -> None:
    made = {each["metadata"]["name"]: decoded(each) for each in default.of("Secret")}
    sealing, hooks = made["innkeeper-encryption-key"], made["innkeeper-webhooks"]
    assert sealing["encryption-key"] != hooks["webhook-key"]


def test_a_gateway_has_room_for_the_transforms_of_its_webhooks(default: Release) -> None:
    """What a worker takes at most: the JavaScript's 64 MiB, and the process around it."""
    pod = default.pod("gateway")
    limit = pod.container["resources"]["limits"]["memory"]
    assert limit.endswith("Gi")
    assert int(limit[:-2]) * 1024 >= 512 + 90 * int(pod.env["INNKEEPER_WEBHOOK_WORKERS"])


# ---- probes, commands, ends


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_runs_a_command_that_there_is(default: Release, role: str) -> None:
    args = default.pod(role).container["args"]
    assert args == [role]
    assert "command" not in default.pod(role).container, "the image's entry point is innkeeper"
    assert CliRunner().invoke(main, [*args, "--help"]).exit_code == 0


def test_the_uninstall_hook_runs_a_command_that_there_is(default: Release) -> None:
    args = default.pod("uninstall").container["args"]
    assert args == ["operator", "release"]
    answer = CliRunner().invoke(main, [*args, "--help"])
    assert answer.exit_code == 0, answer.output
    assert "finalizer" in answer.output
    assert isinstance(main, click.Group)


def paths_of(pod: Pod) -> dict[str, str]:
    container = pod.container
    return {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")
    }


@pytest.mark.parametrize("role", ROLES)
def test_probes_ask_the_port_where_the_role_listens(release: Release, role: str) -> None:
    pod = release.pod(role)
    assert paths_of(pod) == {"startup": "/live", "liveness": "/live", "readiness": "/ready"}
    port = pod.container["ports"][0]
    assert pod.env["INNKEEPER_PORT"] == str(port["containerPort"])
    for kind in ("startup", "liveness", "readiness"):
        assert pod.container[f"{kind}Probe"]["httpGet"]["port"] == port["name"]


async def test_the_probed_paths_are_answered(default: Release) -> None:
    at_the_gateway = {getattr(route, "path", "") for route in health.router.routes}
    for path in paths_of(default.pod("gateway")).values():
        assert path in at_the_gateway
    for role in ("executor", "operator"):
        for path in paths_of(default.pod(role)).values():
            assert (await probes.answer(f"GET {path} HTTP/1.1", lambda: {"all": "ok"}, None))[0] == 200


def test_a_pod_has_time_to_drain(release: Release) -> None:
    """The wait before the end, the grace, and what executors need to hand back the rest (10 s at most)."""
    for role in ROLES:
        pod = release.pod(role)
        before = pod.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needs = before + float(pod.env["INNKEEPER_GRACE_S"]) + 10
        assert pod.spec["terminationGracePeriodSeconds"] >= needs


def test_only_the_gateway_waits_before_its_end(default: Release) -> None:
    """Load balancers go on sending for a while; to the others nobody sends anything."""
    assert default.pod("gateway").container["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    for role in ("executor", "operator"):
        assert "lifecycle" not in default.pod(role).container


def test_the_chart_alone_starts_no_pod_anew(default: Release) -> None:
    """Labels of a pod do not change with the chart's version; Valkey least of all should."""
    for pod in default.pods():
        if pod.component != "test":
            assert set(pod.labels) == {
                "app.kubernetes.io/name",
                "app.kubernetes.io/instance",
                COMPONENT,
                "app.kubernetes.io/part-of",
            }


# ---- scaling


def test_replicas_are_left_to_the_autoscaler(releases: dict[str, Release]) -> None:
    everything = releases["everything"]
    for role in ("gateway", "executor"):
        assert "replicas" not in everything.one("Deployment", role)["spec"]
        scaler = everything.one("HorizontalPodAutoscaler", role)["spec"]
        assert scaler["scaleTargetRef"]["name"] == everything.one("Deployment", role)["metadata"]["name"]
    assert everything.one("Deployment", "operator")["spec"]["replicas"] == 2
    assert releases["default"].one("Deployment", "gateway")["spec"]["replicas"] == 2


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "Deployment"])
def test_selectors_select_the_role(release: Release, kind: str) -> None:
    for found in release.of(kind):
        labels = found["spec"]["selector"]["matchLabels"]
        selected = [pod for pod in release.pods() if labels.items() <= pod.labels.items()]
        assert [found["metadata"]["name"].endswith(f"-{pod.component}") for pod in selected] == [True]


def test_replicas_are_spread(default: Release, releases: dict[str, Release]) -> None:
    for role in ROLES:
        spread = default.pod(role).spec["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in spread] == [
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        ]
        for each in spread:
            assert each["labelSelector"]["matchLabels"][COMPONENT] == role
        assert "topologySpreadConstraints" not in releases["minimal"].pod(role).spec


def test_a_role_can_be_placed_and_extended(releases: dict[str, Release]) -> None:
    values: Json = values_of("everything")
    gateway = releases["everything"].pod("gateway")
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert gateway.spec[name] == values["gateway"][name]
    assert gateway.labels["example.com/c"] == "d"
    assert gateway.env["SSL_CERT_FILE"] == "/etc/ca/ca.pem"
    assert {"name": "ca", "configMap": {"name": "ca"}} in gateway.spec["volumes"]
