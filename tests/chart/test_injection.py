"""The optional policy that gives a pod its INNGEST_* variables for a label, evaluated and applied as API servers do."""

import copy
import re
from typing import Any

import pytest

from tests.chart.rendering import Json, Release

cel = pytest.importorskip("cel_expr_python.cel", reason="no wheel of cel-expr-python for this platform")

LABEL = "innkeeper.dev/app"


def policy(release: Release) -> Json:
    (found,) = release.of("MutatingAdmissionPolicy")
    spec: Json = found["spec"]
    return spec


def evaluate(expression: str, **variables: Any) -> Any:
    """The value of a CEL expression over plain data. `JSONPatch{op: ...}` is read as a map."""
    plain = re.sub(
        r"JSONPatch\{op: (.*?), path: (.*?), value: ", r'{"op": \1, "path": \2, "value": ', expression
    )
    types = dict.fromkeys(variables, cel.Type.DYN)
    return cel.NewEnv(variables=types).compile(plain).eval(data=variables).plain_value()


def add(pod: Json, path: str, value: Any) -> None:
    """The operation `add` of a JSON patch (RFC 6902): into a list before the index, into an object by name."""
    *parents, last = path.removeprefix("/").split("/")
    target: Any = pod
    for name in parents:
        target = target[int(name)] if isinstance(target, list) else target[name]
    if isinstance(target, list):
        target.insert(int(last), value)
    else:
        target[last] = value


def inject(release: Release, pod: Json) -> Json:
    """The pod after the policy."""
    spec = policy(release)
    (variable,) = spec["variables"]
    values = {variable["name"]: evaluate(variable["expression"], object=pod)}
    (mutation,) = spec["mutations"]
    assert mutation["patchType"] == "JSONPatch"
    patch = evaluate(mutation["jsonPatch"]["expression"], object=pod, variables=values)
    changed = copy.deepcopy(pod)
    for operation in patch:
        assert operation["op"] == "add"
        add(changed, operation["path"], copy.deepcopy(operation["value"]))
    return changed


def a_pod(*containers: Json) -> Json:
    return {"metadata": {"labels": {LABEL: "shop"}}, "spec": {"containers": list(containers)}}


ENV = {"secretRef": {"name": "shop-inngest-env"}}


@pytest.fixture
def namespaced(releases: dict[str, Release]) -> Release:
    return releases["namespaced"]


def test_every_container_gets_the_secret_of_the_app(namespaced: Release) -> None:
    pod = inject(namespaced, a_pod({"name": "one"}, {"name": "two"}))
    assert [each["envFrom"] for each in pod["spec"]["containers"]] == [[ENV], [ENV]]


def test_what_the_pod_says_itself_comes_later_and_wins(namespaced: Release) -> None:
    own = {"configMapRef": {"name": "own"}}
    pod = inject(namespaced, a_pod({"name": "one", "envFrom": [own]}, {"name": "two"}))
    assert [each["envFrom"] for each in pod["spec"]["containers"]] == [[ENV, own], [ENV]]


def test_ten_containers_are_enough(namespaced: Release) -> None:
    pod = inject(namespaced, a_pod(*({"name": f"c{number}"} for number in range(10))))
    assert all(each["envFrom"] == [ENV] for each in pod["spec"]["containers"])


def test_only_new_pods_with_the_label_are_touched(namespaced: Release) -> None:
    """So an error may refuse them: others never meet the policy."""
    spec = policy(namespaced)
    assert spec["matchConstraints"] == {
        "objectSelector": {"matchExpressions": [{"key": LABEL, "operator": "Exists"}]},
        "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        ],
    }
    assert spec["failurePolicy"] == "Fail"
    assert spec["reinvocationPolicy"] == "Never"


def test_it_is_bound_where_the_operator_looks(releases: dict[str, Release], namespaced: Release) -> None:
    """Two releases with namespaces of their own do not both inject."""
    (binding,) = namespaced.of("MutatingAdmissionPolicyBinding")
    (found,) = namespaced.of("MutatingAdmissionPolicy")
    assert binding["spec"]["policyName"] == found["metadata"]["name"]
    (expression,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert expression == {
        "key": "kubernetes.io/metadata.name",
        "operator": "In",
        "values": ["shop", "shop-eu"],
    }
    (everywhere,) = releases["everything"].of("MutatingAdmissionPolicyBinding")
    assert everywhere["spec"] == {"policyName": everywhere["metadata"]["name"]}
    assert everywhere["apiVersion"] == "admissionregistration.k8s.io/v1beta1"


def test_it_is_off_by_default(default: Release) -> None:
    assert not default.of("MutatingAdmissionPolicy")
    assert not default.of("MutatingAdmissionPolicyBinding")
