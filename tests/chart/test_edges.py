"""Who reaches which pod: NetworkPolicies, Services, Ingresses and HTTPRoutes."""

from typing import Any

import pytest

from innkeeper_gateway import events_route
from tests.chart.conftest import Render
from tests.chart.rendering import COMPONENT, INSTANCE, ROLES, Json, Release, matches

PUBLIC = ["/e/", "/w/", "/intent/"]


def policies(release: Release) -> dict[str, Json]:
    """The specs of all NetworkPolicies by the component that they are for."""
    return {
        each["spec"]["podSelector"]["matchLabels"][COMPONENT]: each["spec"]
        for each in release.of("NetworkPolicy")
    }


def admitted(release: Release, component: str, sender: dict[str, str]) -> set[int]:
    """The ports at which a pod with these labels, of the release's namespace, reaches a component."""
    ports = set[int]()
    for entry in policies(release)[component]["ingress"]:
        peers = entry.get("from")
        if peers is None or any(
            "namespaceSelector" not in peer and matches(peer["podSelector"], sender) for peer in peers
        ):
            ports |= {port["port"] for port in entry["ports"]}
    return ports


def test_every_pod_has_its_policy(release: Release) -> None:
    found = policies(release)
    for pod in release.pods() if found else ():
        selected = [each for each, spec in found.items() if matches(spec["podSelector"], pod.labels)]
        assert selected == [pod.component]


def test_policies_can_be_switched_off(releases: dict[str, Release]) -> None:
    assert not releases["minimal"].of("NetworkPolicy")


def test_everybody_reaches_the_gateway_and_nobody_else(default: Release) -> None:
    stranger = {"app": "shop"}
    assert admitted(default, "gateway", stranger) == {8288}
    for component in ("executor", "operator", "valkey", "uninstall", "test"):
        assert admitted(default, component, stranger) == set()
    assert all("Ingress" in spec["policyTypes"] for spec in policies(default).values())


def test_valkey_is_for_the_roles_of_its_release(default: Release, render_chart: Render) -> None:
    for role in ROLES:
        assert admitted(default, "valkey", default.pod(role).labels) == {6379}
    other = render_chart(name="other")
    for pod in [*other.pods(), default.pod("test"), default.pod("uninstall")]:
        assert admitted(default, "valkey", pod.labels) == set()


def test_valkey_goes_nowhere(default: Release) -> None:
    spec = policies(default)["valkey"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == []


def test_pods_may_go_everywhere_by_default(default: Release) -> None:
    """Executors must reach every app, wherever it is."""
    for role in ROLES:
        assert "Egress" not in policies(default)[role]["policyTypes"]


def test_policies_admit_at_the_ports_where_pods_listen(releases: dict[str, Release]) -> None:
    everything = releases["everything"]
    for component, spec in policies(everything).items():
        wanted = {port["port"] for entry in spec["ingress"] for port in entry["ports"]}
        listens = {port["containerPort"] for port in everything.pod(component).container.get("ports", ())}
        assert wanted <= listens


def test_the_gateway_can_be_kept_to_some(releases: dict[str, Release]) -> None:
    everything = releases["everything"]
    assert admitted(everything, "gateway", {"app": "shop"}) == set()
    assert admitted(everything, "gateway", everything.pod("test").labels) == {8288}, "helm test"
    entry = policies(everything)["gateway"]["ingress"][0]
    assert {"namespaceSelector": {"matchLabels": {"innkeeper": "client"}}} in entry["from"]


def test_metrics_are_for_whom_the_values_name(releases: dict[str, Release], render_chart: Render) -> None:
    found = policies(releases["everything"])
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    anyone = render_chart({"metrics": {"serviceMonitor": {"enabled": True}}})
    for role, port in (("gateway", 9090), ("executor", 8289), ("operator", 8290)):
        assert found[role]["ingress"][-1] == {"ports": [{"port": port}], "from": [monitoring]}
        assert port in admitted(anyone, role, {})
    nobody = render_chart({})
    assert admitted(nobody, "gateway", {}) == {8288}
    assert admitted(nobody, "executor", {}) == set()


DNS = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}


def test_where_pods_go_can_be_limited(releases: dict[str, Release]) -> None:
    everything = releases["everything"]
    found = {component: spec["egress"] for component, spec in policies(everything).items()}
    labels = everything.pod("valkey").labels
    for role in ROLES:
        assert found[role][0] == DNS
        (peer,) = found[role][1]["to"]
        assert found[role][1]["ports"] == [{"port": 6379}]
        assert matches(peer["podSelector"], labels)
    api_server = {"ports": [{"port": 443}, {"port": 6443}]}
    collector = {"ports": [{"port": 4318}]}
    assert found["gateway"][2:] == [api_server, collector]
    assert found["executor"][3:] == [collector]
    apps = found["executor"][2]
    assert apps.keys() == {"to"}, "apps are at any port"
    assert {"namespaceSelector": {}} in apps["to"]
    blocks = [peer["ipBlock"] for peer in apps["to"] if "ipBlock" in peer]
    assert {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]} in blocks
    assert found["operator"][2:] == [api_server, apps]
    assert found["uninstall"] == [DNS, api_server]
    assert matches(found["test"][1]["to"][0]["podSelector"], everything.pod("gateway").labels)


@pytest.mark.parametrize(
    ("endpoint", "given", "ports"),
    [
        ("http://collector:4318", [], [4318]),
        ("https://otlp.example.com", [], [443]),
        ("http://[fd00::1]:9000/base", [], [9000]),
        ("http://collector", [], [80]),
        ("http://collector:4318", [4317, 5317], [4317, 5317]),
    ],
)
def test_the_collector_is_reached_where_its_endpoint_says(
    render_chart: Render, endpoint: str, given: list[int], ports: list[int]
) -> None:
    egress = {"enabled": True, "collector": {"ports": given}}
    release = render_chart({"traces": {"endpoint": endpoint}, "networkPolicy": {"egress": egress}})
    for role in ("gateway", "executor"):
        assert policies(release)[role]["egress"][-1] == {"ports": [{"port": port} for port in ports]}


def test_an_external_redis_and_the_api_server_can_be_named(releases: dict[str, Release]) -> None:
    found = policies(releases["external-redis"])
    assert "valkey" not in found
    redis = {"ports": [{"port": 6380}], "to": [{"ipBlock": {"cidr": "10.20.0.0/24"}}]}
    api_server = {"ports": [{"port": 443}, {"port": 6443}], "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}
    assert found["gateway"]["egress"] == [DNS, redis, api_server]
    assert found["executor"]["egress"][1] == redis
    assert api_server not in found["executor"]["egress"]


# ---- Services


def test_services_lead_to_pods_that_listen(release: Release) -> None:
    for service in release.of("Service"):
        (pod,) = (
            each for each in release.pods() if service["spec"]["selector"].items() <= each.labels.items()
        )
        names = {port["name"] for port in pod.container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
        assert service["spec"]["type"] == "ClusterIP", (
            "what is reached from outside has an Ingress or an HTTPRoute"
        )
        assert service["spec"]["selector"][INSTANCE] == release.name


@pytest.mark.parametrize("port", [80, 8288])
def test_apps_are_told_the_gateways_service(render_chart: Render, port: int) -> None:
    release = render_chart({"gateway": {"service": {"port": port}}}, name="blue", namespace="platform")
    service = release.one("Service", "gateway")
    url = f"http://{service['metadata']['name']}.platform.svc:{port}"
    assert release.pod("operator").env["INNKEEPER_BASE_URL"] == url
    assert url in release.notes


# ---- Ingress, HTTPRoute


def test_nothing_is_reached_from_outside_by_default(default: Release) -> None:
    assert not default.of("Ingress")
    assert not default.of("HTTPRoute")


def test_the_public_ingress_is_for_events_and_webhooks_only(releases: dict[str, Release]) -> None:
    everything = releases["everything"]
    public = everything.one("Ingress", "events")["spec"]
    assert [entry["host"] for entry in public["rules"]] == ["events.example.com", "hooks.example.com"]
    for entry in public["rules"]:
        assert [path["path"] for path in entry["http"]["paths"]] == PUBLIC
        assert {path["pathType"] for path in entry["http"]["paths"]} == {"Prefix"}
    assert public["ingressClassName"] == "nginx"
    assert public["tls"][0]["secretName"] == "events-tls"
    assert events_route.PREFIX in PUBLIC


def test_without_intents_nobody_outside_reaches_their_page(render_chart: Render) -> None:
    events = {"enabled": True, "hosts": ["a.example.com"]}
    public = render_chart({"ingress": {"events": events}}).one("Ingress", "events")["spec"]
    assert [path["path"] for path in public["rules"][0]["http"]["paths"]] == PUBLIC[:2]


def test_the_api_has_hosts_of_its_own(releases: dict[str, Release]) -> None:
    api = releases["everything"].one("Ingress", "api")["spec"]
    assert [entry["host"] for entry in api["rules"]] == ["innkeeper.example.com"]
    assert [path["path"] for path in api["rules"][0]["http"]["paths"]] == ["/"]


def test_http_routes_are_the_same(releases: dict[str, Release]) -> None:
    def paths(suffix: str) -> list[str]:
        (entry,) = releases["everything"].one("HTTPRoute", suffix)["spec"]["rules"]
        return [match["path"]["value"] for match in entry["matches"]]

    assert paths("events") == PUBLIC
    assert paths("api") == ["/"]
    spec = releases["everything"].one("HTTPRoute", "events")["spec"]
    assert spec["hostnames"] == ["events.example.org"]
    assert spec["parentRefs"] == [{"name": "public", "namespace": "gateways", "sectionName": "https"}]


def backends(release: Release) -> set[tuple[str, Any]]:
    """Names and ports of all Services that an Ingress or an HTTPRoute leads to."""
    services = [
        path["backend"]["service"]
        for each in release.of("Ingress")
        for entry in each["spec"]["rules"]
        for path in entry["http"]["paths"]
    ]
    routes = [
        backend
        for each in release.of("HTTPRoute")
        for entry in each["spec"]["rules"]
        for backend in entry["backendRefs"]
    ]
    return {(each["name"], each["port"]["name"]) for each in services} | {
        (each["name"], each["port"]) for each in routes
    }


def test_both_lead_to_the_gateway(releases: dict[str, Release]) -> None:
    service = releases["everything"].one("Service", "gateway")
    name = service["metadata"]["name"]
    (port,) = service["spec"]["ports"]
    assert backends(releases["everything"]) == {(name, port["name"]), (name, port["port"])}
