"""Values: what is misspelt or does not fit together is refused, with a sentence that says what would be right."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from helm_python import Chart, HelmRenderError, HelmValuesError

from tests.chart.conftest import Render
from tests.chart.rendering import CHART, ROOT, Json, read_yaml, values_of

ON = {"enabled": True}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gatway": {}}, "additional properties 'gatway' not allowed"),
        ({"gateway": {"replcas": 3}}, "at '/gateway': additional properties 'replcas' not allowed"),
        (
            {"valkey": {"persistence": {"storageClass": "x"}}},
            "additional properties 'storageClass' not allowed",
        ),
        ({"gateway": {"replicas": "3"}}, "at '/gateway/replicas': got string, want integer"),
        ({"autoRegister": "existing"}, "value must be one of 'Never', 'Existing', 'Always'"),
        ({"secrets": {"mode": "ByName"}}, "value must be one of 'Labelled', 'Named'"),
        ({"runAsUser": 0}, "at '/runAsUser': minimum: got 0, want 1"),
        ({"watch": {"namespaces": ["Prod"]}}, "at '/watch/namespaces/0'"),
        ({"watch": {"namespaces": ["a", "a"]}}, "items at 0 and 1 are equal"),
        ({"executor": {"capacity": 0}}, "at '/executor/capacity'"),
        ({"image": {"digest": "sha256:abc"}}, "at '/image/digest'"),
        ({"valkey": {"maxMemory": "1 GB"}}, "at '/valkey/maxMemory'"),
        ({"baseUrl": "innkeeper.example.com"}, "at '/baseUrl'"),
        ({"fullnameOverride": "Innkeeper"}, "at '/fullnameOverride'"),
        ({"gateway": {"podDisruptionBudget": {"maxUnavailable": 0}}}, "minimum: got 0, want 1"),
        ({"networkPolicy": {"gatewayFrom": [{"podSelectors": {}}]}}, "'podSelectors' not allowed"),
        ({"ingress": {"events": {"hosts": ["https://example.com"]}}}, "at '/ingress/events/hosts/0'"),
        ({"secrets": {"named": {"prod": []}}}, "at '/secrets/named/prod'"),
        ({"egress": {"allow": ["10.0.0.0/33"]}}, "at '/egress/allow/0'"),
        ({"egress": {"allow": ["10.0.0.256"]}}, "at '/egress/allow/0'"),
        ({"egress": {"apps": ["fd00::/129"]}}, "at '/egress/apps/0'"),
        ({"egress": {"allow": ["http://billing.internal"]}}, "at '/egress/allow/0'"),
        ({"watch": {"policies": {"shop": {"retention": "7d"}}}}, "'retention' not allowed"),
        ({"watch": {"policies": {"shop": {"egressAllow": ["10.0.0.0/33"]}}}}, "egressAllow/0'"),
        ({"watch": {"policies": {"shop": {"eventsPerSecond": 0}}}}, "eventsPerSecond'"),
    ],
)
def test_the_schema_refuses(chart: Chart, values: Json, said: str) -> None:
    with pytest.raises(HelmValuesError, match=re.escape(said)):
        chart.validate_schema(values)
    with pytest.raises(HelmValuesError, match=re.escape(said)):
        chart.render(values, name="x", namespace="y")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"redis": {"existingSecret": "r"}}, "Set valkey.enabled=false to use your own Redis"),
        (
            {"valkey": {"enabled": False}},
            "name a Secret with the URL of your Redis or Valkey, or set valkey.enabled=true",
        ),
        (
            {"watch": {"environments": {"a": "b"}}},
            "kubectl annotate namespace <name> innkeeper.dev/environment=",
        ),
        (
            {"watch": {"namespaces": ["a"], "environments": {"b": "c"}}},
            "names b, which watch.namespaces does not list",
        ),
        (
            {"watch": {"policies": {"a": {}}}},
            "kubectl annotate namespace <name> innkeeper.dev/retention-runs=",
        ),
        (
            {"watch": {"namespaces": ["a"], "policies": {"b": {}}}},
            "watch.policies names b, which watch.namespaces does not list",
        ),
        (
            {"watch": {"namespaces": ["a"], "policies": {"a": {"retentionEvents": "59m"}}}},
            'watch.policies.a.retentionEvents is "59m": it must be 1h or more',
        ),
        ({"retention": {"events": "0.5 h"}}, 'retention.events is "0.5 h": it must be 1h or more'),
        ({"retention": {"runs": "59s"}}, 'retention.runs is "59s": it must be 1m or more'),
        ({"webhookRedirects": ["a.b"]}, "set webhookIntents.enabled=true"),
        (
            {"webhookIntents": ON, "secrets": {"mode": "Named", "named": {"a": ["b"]}}},
            "webhookIntents.enabled is for secrets.mode=Labelled",
        ),
        (
            {"limits": {"eventBytes": 3145728, "requestBytes": 1048576}},
            "limits.eventBytes (3145728) is more than limits.requestBytes (1048576)",
        ),
        (
            {"traces": {"endpoint": "http://collector:4318/v1/traces"}},
            "/v1/traces is put behind it: write http://collector:4318\n",
        ),
        (
            {"valkey": {"maxMemory": "1536mb"}},
            "valkey.maxMemory (1536mb) must be less than valkey.resources.limits.memory (1536Mi)",
        ),
        (
            {"valkey": {"maxMemory": "2g", "resources": {"limits": {"memory": "1.5Gi"}}}},
            "valkey.maxMemory (2g) must be less",
        ),
        (
            {"gateway": {"webhookWorkers": 6}},
            "raise gateway.resources.limits.memory (1Gi) to 1052Mi or more, or have fewer workers",
        ),
        ({"secrets": {"mode": "Named"}}, "List Secrets by namespace"),
        ({"secrets": {"named": {"a": ["b"]}}}, "secrets.named is for secrets.mode=Named"),
        (
            {"watch": {"namespaces": ["a"]}, "secrets": {"mode": "Named", "named": {"b": ["c"]}}},
            "secrets.named names b, which watch.namespaces does not list",
        ),
        (
            {"executor": {"beatSeconds": 11}},
            "executor.beatSeconds (11) must be at most a third of leaseSeconds (30)",
        ),
        (
            {"gateway": {"autoscaling": {**ON, "maxReplicas": 1}}},
            "minReplicas (2) is more than maxReplicas (1)",
        ),
        ({"ingress": {"events": ON}}, "list its host names in ingress.events.hosts"),
        (
            {"httpRoute": {"api": {**ON, "hostnames": ["a.b"]}}},
            "name its Gateway in httpRoute.api.parentRefs",
        ),
        (
            {"ingress": {"events": {**ON, "hosts": ["a.b", "c.d"]}, "api": {**ON, "hosts": ["c.d"]}}},
            "c.d is a host of events and of the API",
        ),
        (
            {
                "ingress": {"events": {**ON, "hosts": ["a.b"]}},
                "httpRoute": {"api": {**ON, "parentRefs": [{"name": "g"}], "hostnames": ["a.b"]}},
            },
            "a.b is a host of events and of the API",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(render_chart: Render, values: Json, said: str) -> None:
    with pytest.raises(HelmRenderError, match=re.escape(said)):
        render_chart(values)


@pytest.mark.parametrize(
    "values",
    [
        {"runAsUser": None},
        {"global": {"imageRegistry": "of another chart"}},
        {"executor": {"beatSeconds": 0.5}},
        {
            "egress": {
                "allow": ["10.0.0.0/8", "192.0.2.1", "fd00::/8", "::1/128", "*.svc", "billing.internal"]
            }
        },
        {"egress": {"apps": ["2001:db8::1", "x_y.internal."]}},
        {"valkey": {"maxMemory": "1gb", "resources": {"limits": {"memory": "1500M"}}}},
        {"valkey": {"maxMemory": "9gb", "resources": {"limits": {"memory": None}}}},
        {"retention": {"events": "1h", "runs": "1m", "deadLetters": "1 week 2 days"}},
        {"gateway": {"webhookWorkers": 5}},
        {"traces": {"endpoint": "https://otlp.example.com/base"}},
    ],
)
def test_what_fits_is_taken(chart: Chart, render_chart: Render, values: Json) -> None:
    chart.validate_schema(values)
    render_chart(values)


# ---- values.yaml and its schema say the same


def paths(schema: Json, definitions: Json, at: str = "") -> Iterator[tuple[str, Json]]:
    """Every property of a schema of closed objects, by its path."""
    for name, found in schema.get("properties", {}).items():
        path = f"{at}.{name}" if at else name
        yield path, found
        target = definitions[found["$ref"].rpartition("/")[2]] if "$ref" in found else found
        if target.get("additionalProperties") is False and path.count(".") < 4:
            yield from paths(target, definitions, path)


def leaves(values: Any, at: str = "") -> Iterator[str]:
    """Every path in values.yaml."""
    if isinstance(values, dict):
        for name, value in values.items():
            path = f"{at}.{name}" if at else name
            yield path
            yield from leaves(value, path)


def test_the_schema_knows_every_value_and_no_other(chart: Chart) -> None:
    schema = chart.schema
    assert schema is not None
    known = {path for path, _ in paths(schema, schema["definitions"])}
    # What Kubernetes says of resources is not repeated in values.yaml.
    known = {path for path in known if ".resources." not in path} - {"global"}
    given = {path for path in leaves(read_yaml(CHART / "values.yaml")) if ".resources." not in path}
    assert known == given


def test_every_value_is_described(chart: Chart) -> None:
    schema = chart.schema
    assert schema is not None
    missing = [path for path, found in paths(schema, schema["definitions"]) if not found.get("description")]
    assert [path for path in missing if ".resources." not in path] == []


def test_every_object_of_the_schema_is_closed(chart: Chart) -> None:
    """But for what is passed on to Kubernetes as it is."""
    schema = chart.schema
    assert schema is not None
    open_objects = {
        path
        for path, found in paths(schema, schema["definitions"])
        if found.get("type") == "object" and "additionalProperties" not in found
    }
    assert {path.rpartition(".")[2] for path in open_objects} <= {
        "global",
        "affinity",
        "behavior",
        "requests",
        "limits",
    }


def test_no_value_is_without_effect() -> None:
    """Each name in values.yaml is read by a template."""
    templates = "".join(
        path.read_text(encoding="utf-8") for path in (CHART / "templates").rglob("*") if path.is_file()
    )
    # Read as a whole, by toYaml.
    whole = (".resources.", ".requests.", ".limits.")
    for path in leaves(read_yaml(CHART / "values.yaml")):
        if not any(each in path for each in whole):
            assert re.search(rf"[.\"]{path.rpartition('.')[2]}\b", templates), path


def test_the_default_values_are_those_of_the_file(chart: Chart) -> None:
    assert chart.merge_values({}) == read_yaml(CHART / "values.yaml")


def test_values_in_the_documentation_are_values() -> None:
    """In install.md, every `name.of.a.value` and every --set is one."""
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    known = set(leaves(read_yaml(CHART / "values.yaml")))
    tops = {path for path in known if "." not in path}
    quoted = re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)+)(?:[:=][^`]*)?`", text)
    named = {each for each in quoted if each.partition(".")[0] in tops}
    named |= set(re.findall(r"--set(?:-string)? ([a-zA-Z.]+)=", text))
    assert len(named) > 20
    assert named <= known


def test_values_files_in_the_documentation_are_taken(render_chart: Render) -> None:
    """Every YAML block in install.md that is not of Kubernetes is values."""
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    blocks = [
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]
    values = [block for block in blocks if "apiVersion" not in block]
    assert len(values) >= 3
    for each in values:
        render_chart(each)


# ---- notes


def test_the_notes_say_the_next_command(render_chart: Render) -> None:
    notes = render_chart(name="blue", namespace="platform").notes
    assert "kubectl -n platform rollout status deployment/blue-innkeeper-operator" in notes
    assert "helm -n platform test blue" in notes
    assert "kubectl -n default get iapp,ifn" in notes
    assert "secretRef: {name: shop-inngest-env}" in notes
    assert "get secret blue-innkeeper-encryption-key -o yaml" in notes


def test_the_app_in_the_notes_is_one(render_chart: Render) -> None:
    """What they would have people apply is in a watched namespace and what the CRD takes."""
    release = render_chart({"watch": {"namespaces": ["shop"]}})
    block = re.search(r"<<EOF\n(.*?)^  EOF$", release.notes, re.MULTILINE | re.DOTALL)
    assert block is not None
    app = yaml.safe_load(block[1])
    assert app["metadata"] == {"name": "shop", "namespace": "shop"}
    (crd,) = (
        each
        for each in release.of("CustomResourceDefinition")
        if each["spec"]["names"]["kind"] == app["kind"]
    )
    (version,) = crd["spec"]["versions"]
    assert app["apiVersion"] == f"{crd['spec']['group']}/{version['name']}"
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert set(spec.get("required", ())) <= app["spec"].keys() <= spec["properties"].keys()
    assert app["spec"]["endpoint"].keys() <= spec["properties"]["endpoint"]["properties"].keys()


def test_the_notes_say_what_is_left_to_do(render_chart: Render) -> None:
    notes = render_chart({**values_of("namespaced"), "rbac": {"create": False}}).notes
    assert "you make innkeeper-keys and <app>-inngest-env yourself" in notes
    assert "crds.install is false" in notes
    assert "rbac.create is false" in notes
    assert "innkeeper.dev/app: shop" in render_chart({"injection": {"enabled": True}}).notes
