"""What the chart renders is what API servers take, under names that never meet."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python.chart as helm
import kubernetes_validate
import pytest
import yaml
from helm_python import Chart
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.chart.conftest import Render
from tests.chart.rendering import CHART, NAMESPACE, ROOT, Json, Release, read_yaml, render, values_of

KUBERNETES = "1.37"
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
CLUSTER_KINDS = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
}


def closed(properties: Json, *, required: tuple[str, ...] = ()) -> Json:
    """A schema of an object with these properties and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT: Json = {"type": "string", "minLength": 1}
TEXTS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA = closed(
    {"name": TEXT, "namespace": TEXT, "labels": TEXTS, "annotations": TEXTS}, required=("name", "namespace")
)
# Kinds of other projects' API groups: the fields of their published schemas that the chart may use.
FOREIGN: dict[tuple[str, str], Json] = {
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): closed(
        {
            "parentRefs": {
                "type": "array",
                "minItems": 1,
                "items": closed(
                    {"name": TEXT, "namespace": TEXT, "sectionName": TEXT, "port": {"type": "integer"}},
                    required=("name",),
                ),
            },
            "hostnames": {"type": "array", "items": TEXT},
            "rules": {
                "type": "array",
                "items": closed(
                    {
                        "matches": {
                            "type": "array",
                            "items": closed(
                                {
                                    "path": closed(
                                        {
                                            "type": {"enum": ["Exact", "PathPrefix"]},
                                            "value": {"pattern": "^/"},
                                        },
                                        required=("type", "value"),
                                    )
                                }
                            ),
                        },
                        "backendRefs": {
                            "type": "array",
                            "items": closed(
                                {"name": TEXT, "port": {"type": "integer"}}, required=("name", "port")
                            ),
                        },
                    }
                ),
            },
        },
        required=("parentRefs", "rules"),
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): closed(
        {
            "groups": {
                "type": "array",
                "items": closed(
                    {
                        "name": TEXT,
                        "rules": {
                            "type": "array",
                            "minItems": 1,
                            "items": closed(
                                {
                                    "alert": TEXT,
                                    "expr": TEXT,
                                    "for": {"pattern": "^[0-9]+[smh]$"},
                                    "labels": TEXTS,
                                    "annotations": TEXTS,
                                },
                                required=("alert", "expr"),
                            ),
                        },
                    },
                    required=("name", "rules"),
                ),
            }
        },
        required=("groups",),
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): closed(
        {
            "selector": closed({"matchLabels": TEXTS}),
            "namespaceSelector": closed({"matchNames": {"type": "array", "items": TEXT}}),
            "endpoints": {
                "type": "array",
                "items": closed({"port": TEXT, "path": TEXT, "interval": TEXT}, required=("port",)),
            },
        },
        required=("selector", "endpoints"),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """The validator reads its 1.8 MB of definitions anew for every object otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        utils = kubernetes_validate.utils
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


def check_object(found: Json) -> None:
    """Hold an object against the schema of its kind; a kind without one is an error."""
    foreign = FOREIGN.get((found["apiVersion"], found["kind"]))
    if foreign is None:
        kubernetes_validate.validate(found, KUBERNETES, strict=True)
        return
    schema = closed(
        {"apiVersion": TEXT, "kind": TEXT, "metadata": METADATA, "spec": foreign},
        required=("metadata", "spec"),
    )
    Draft202012Validator(schema).validate(found)


def test_every_object_is_one_that_kubernetes_knows(release: Release) -> None:
    for found in release.objects:
        check_object(found)


@pytest.mark.parametrize("kind", ["Deployment", "HTTPRoute", "ServiceMonitor", "CustomResourceDefinition"])
def test_a_misspelt_field_would_be_noticed(releases: dict[str, Release], kind: str) -> None:
    found = releases["everything"].of(kind)[0]
    check_object(found)
    with pytest.raises(Exception, match="speling"):
        check_object({**found, "spec": {**found["spec"], "speling": 1}})


def test_an_object_of_an_unknown_kind_would_be_noticed(default: Release) -> None:
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        check_object({**default.of("Service")[0], "kind": "Servise"})


def test_the_values_files_leave_no_template_without_an_object(
    chart: Chart, releases: dict[str, Release]
) -> None:
    templates = {path.name for path in (CHART / "templates").rglob("*.yaml")} - {"validate.yaml"}
    rendered = set[str]()
    for name in releases:
        for path, text in chart.render(values_of(name), name="x", namespace="y").items():
            if path.endswith(".yaml") and any(yaml.load_all(text, yaml.CSafeLoader)):
                rendered.add(Path(path).name)
    assert rendered == templates


def test_an_object_appears_once(release: Release) -> None:
    seen = [identity(each) for each in release.objects]
    assert len(seen) == len(set(seen))


def test_namespaced_objects_name_their_namespace(release: Release) -> None:
    """`helm template | kubectl apply` puts them there too; Roles of other namespaces go into those."""
    for found in release.objects:
        namespace = found["metadata"].get("namespace")
        if found["kind"] in CLUSTER_KINDS:
            assert namespace is None, found["metadata"]["name"]
        elif found["kind"] not in ("Role", "RoleBinding"):
            assert namespace == release.namespace, found["metadata"]["name"]
        else:
            assert namespace


def test_the_crds_are_those_of_the_repository(default: Release) -> None:
    """As they are, with a label of the release and the wish to stay when it goes."""
    documents = {each["metadata"]["name"]: each for each in map(read_yaml, (ROOT / "crds").glob("*.yaml"))}
    rendered = {each["metadata"]["name"]: each for each in default.of("CustomResourceDefinition")}
    assert (
        rendered.keys()
        == documents.keys()
        == {
            "functions.innkeeper.dev",
            "inngestapps.innkeeper.dev",
            "webhooks.innkeeper.dev",
        }
    )
    for name, document in documents.items():
        found = rendered[name]
        assert found["spec"] == document["spec"]
        assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def test_a_packaged_chart_carries_the_crds(tmp_path: Path, default: Release) -> None:
    """In the checkout they are a link to the repository's own; in the archive they are files."""
    archive = helm.package(CHART, destination=tmp_path)
    with Chart.load(archive) as packaged:
        found = render(packaged).of("CustomResourceDefinition")
        names = [each["name"] for each in packaged.files]
    assert found == default.of("CustomResourceDefinition")
    assert not [name for name in names if name.startswith("ci/")]


def test_crds_can_be_left_to_another_release(render_chart: Render) -> None:
    assert not render_chart({"crds": {"install": False}}).of("CustomResourceDefinition")


# ---- names


def identity(found: Json) -> tuple[str, str, str]:
    """What makes an object itself."""
    return found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]


def identities(release: Release) -> set[tuple[str, str, str]]:
    return {identity(each) for each in release.objects if each["kind"] != "CustomResourceDefinition"}


@pytest.mark.parametrize("values", ["default", "everything", "namespaced"])
def test_two_releases_share_no_object(render_chart: Render, values: str) -> None:
    """Neither two names in a namespace, nor one name in two namespaces. (One of them installs the CRDs.)"""
    given_values = {**values_of(values), "fullnameOverride": ""}
    several = [
        identities(render_chart(given_values, name=name, namespace=namespace))
        for name, namespace in (("blue", "one"), ("green", "one"), ("blue", "two"), ("blue-innkeeper", "one"))
    ]
    assert len(set().union(*several)) == sum(map(len, several))


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        ("innkeeper", "123"),
        ("a", "n" * 63),
        ("x" * 53, "n" * 63),
        ("1st", "one"),
        ("team.prod", "one"),
        ("9" * 53, "9" * 63),
        ("a.b-" * 13 + "c", "one"),
        ("on", "null"),
    ],
)
def test_any_release_name_gives_valid_objects(render_chart: Render, name: str, namespace: str) -> None:
    """Names of digits, which YAML would read as numbers, too."""
    values = {**values_of("everything"), "crds": {"install": False}}
    release = render_chart(values, name=name, namespace=namespace)
    for found in release.objects:
        check_object(found)
        check_name(found["kind"], found["metadata"]["name"])
        for labels in labels_in(found):
            for value in labels.values():
                assert isinstance(value, str)
                assert len(value) <= 63
                assert LABEL_VALUE.fullmatch(value), value


def check_name(kind: str, name: str) -> None:
    """Kubernetes' rule for names of that kind."""
    if kind == "CustomResourceDefinition" or kind in CLUSTER_KINDS or kind in ("Role", "RoleBinding"):
        assert SUBDOMAIN.fullmatch(name), name
        assert len(name) <= 253
    elif kind == "Service":
        assert SERVICE.fullmatch(name), name
        assert len(name) <= 63
    else:
        assert LABEL.fullmatch(name), name
        # A StatefulSet's revision is its name, a dash and ten characters, and a label's value.
        assert len(name) <= (52 if kind == "StatefulSet" else 63), name


def labels_in(found: Any) -> Iterator[dict[str, str]]:
    """Every map of labels in an object."""
    if isinstance(found, dict):
        for key, value in found.items():
            if key in ("labels", "matchLabels") and isinstance(value, dict):
                yield value
            else:
                yield from labels_in(value)
    elif isinstance(found, list):
        for each in found:
            yield from labels_in(each)


@pytest.fixture(scope="module")
def names_only(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """A chart that renders nothing but the name of all objects, by this chart's rule."""
    made = tmp_path_factory.mktemp("charts") / "innkeeper"
    (made / "templates").mkdir(parents=True)
    (made / "Chart.yaml").write_text((CHART / "Chart.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (made / "values.yaml").write_text('fullnameOverride: ""\n', encoding="utf-8")
    helpers = (CHART / "templates" / "_names.tpl").read_text(encoding="utf-8")
    (made / "templates" / "_names.tpl").write_text(helpers, encoding="utf-8")
    name = 'name: {{ include "innkeeper.fullname" . | quote }}\n'
    (made / "templates" / "name.yaml").write_text(name, encoding="utf-8")
    return Chart.load(made)


RELEASE_NAMES = st.from_regex(
    r"\A[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?){0,2}\Z"
).filter(lambda name: len(name) <= 53)


@settings(max_examples=40)
@example(one="a.b", other="a-b")
@example(one="shop", other="shop-innkeeper")
@example(one="1", other="r-1")
@example(one="x" * 53, other="x" * 52)
@given(one=RELEASE_NAMES, other=RELEASE_NAMES)
def test_no_two_release_names_give_one_name(names_only: Chart, one: str, other: str) -> None:
    def fullname(release: str) -> str:
        rendered = names_only.render({}, name=release, namespace=NAMESPACE)
        return str(yaml.safe_load(rendered["innkeeper/templates/name.yaml"])["name"])

    for name in (fullname(one), fullname(other)):
        assert SERVICE.fullmatch(name)
        assert len(name) <= 40
    assert (fullname(one) == fullname(other)) == (one == other)


# ---- the chart's own papers


def test_lint_finds_nothing() -> None:
    report = helm.lint(CHART, {}, strict=True)
    assert not report["errors"]
    assert [each for each in report["messages"] if each["severity"] > 1] == []


def test_the_chart_says_the_version_of_the_application(chart: Chart) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert found is not None
    assert chart.metadata["appVersion"] == found[1]


def test_no_registry_is_named(default: Release) -> None:
    """Images come from wherever the container runtime looks by default, or from `image.registry`."""
    images = {pod.container["image"] for pod in default.pods()}
    assert images == {"innkeeper/innkeeper:0.1.0", "valkey/valkey:9.1.2"}


def test_a_registry_and_a_digest_can_be_given(releases: dict[str, Release]) -> None:
    image = releases["everything"].pod("executor").container["image"]
    digest = values_of("everything")["image"]["digest"]
    assert image == f"registry.example.com:5000/innkeeper/innkeeper@{digest}"
    assert releases["everything"].pod("executor").spec["imagePullSecrets"] == [{"name": "pull"}]
