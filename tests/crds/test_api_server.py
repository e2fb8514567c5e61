"""An API server takes the definitions, and says to each case what the rules say without one.

On the emulator this holds its hook for rules together with its own reading of the schemas; where a real API server is
given, the same cases run on that, and it is the judge.
"""

import itertools
from collections.abc import Callable

import pytest

from tests.crds.cases import DURATIONS, NOT_DURATIONS, Case, manifest
from tests.crds.cases_of_apps import APPS
from tests.crds.cases_of_functions import FUNCTIONS
from tests.crds.cases_of_webhooks import WEBHOOKS
from tests.crds.rules import Json, cel_validator, load_crds
from tests.kube.cluster import Cluster
from tests.kube.errors import ApiError

Apply = Callable[..., Json]
"""`apply(kind, spec, name)`: the stored object; without a name it is a new one."""

each_case = pytest.mark.parametrize(
    "case", [*APPS, *FUNCTIONS, *WEBHOOKS], ids=lambda case: f"{case.kind}-{case.id}"
)


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, module_cluster: Cluster) -> Cluster:
    """A cluster that serves the definitions of this repository."""
    if not module_cluster.real:
        request.getfixturevalue("module_emulator").set_validator(cel_validator)
    # An API server that finds a rule too expensive, or a schema not structural, refuses them here.
    module_cluster.install_crds(list(load_crds().values()))
    return module_cluster


@pytest.fixture(scope="module")
def apply(served: Cluster) -> Apply:
    """Apply objects in a namespace of their own."""
    namespace = served.create_namespace("crds")
    numbers = itertools.count()

    def applied(kind: str, spec: Json, name: str = "") -> Json:
        obj = manifest(kind, spec, name or f"case-{next(numbers)}")
        obj["metadata"]["namespace"] = namespace
        return served.apply(obj)

    return applied


def _before(apply: Apply, case: Case) -> str:
    """The name of the object that a case changes; empty where it makes a new one."""
    if case.old is None:
        return ""
    name: str = apply(case.kind, case.old)["metadata"]["name"]
    return name


def _refusal(apply: Apply, kind: str, spec: Json, name: str = "") -> dict[str, str]:
    """What an API server has against an object: messages by field."""
    with pytest.raises(ApiError) as refused:
        apply(kind, spec, name)
    assert refused.value.code == 422
    messages: dict[str, str] = {}
    for cause in (refused.value.details or {})["causes"]:
        messages[cause["field"]] = messages.get(cause["field"], "") + cause["message"]
    return messages


@each_case
def test_an_api_server_accepts_what_a_rule_accepts(apply: Apply, case: Case) -> None:
    stored = apply(case.kind, case.accepted, _before(apply, case))
    assert case.accepted.keys() <= stored["spec"].keys()


@each_case
def test_an_api_server_refuses_what_a_rule_refuses(apply: Apply, case: Case) -> None:
    messages = _refusal(apply, case.kind, case.refused, _before(apply, case))
    assert case.message in messages[case.at or case.place]


@pytest.mark.parametrize("text", DURATIONS)
def test_an_api_server_accepts_durations_as_people_write_them(apply: Apply, text: str) -> None:
    stored = apply("Function", {"timeouts": {"finish": text}})
    assert stored["spec"]["timeouts"] == {"finish": text}


@pytest.mark.parametrize("text", NOT_DURATIONS)
def test_an_api_server_refuses_durations_that_it_would_misread(apply: Apply, text: str) -> None:
    messages = _refusal(apply, "Function", {"timeouts": {"finish": text}})
    assert "should match" in messages["spec.timeouts.finish"]


def test_an_api_server_fills_in_defaults_and_leaves_functions_bare(apply: Apply) -> None:
    app = apply("InngestApp", {"endpoint": {"service": {"name": "shop", "port": "http"}}})
    assert app["spec"] == {
        "endpoint": {"service": {"name": "shop", "port": "http", "path": "/api/inngest", "scheme": "http"}},
        "sync": {"onRollout": True, "interval": "1h"},
        "deletionPolicy": "Drain",
        "drainTimeout": "10m",
    }
    function = apply("Function", {})
    assert function["spec"] == {"appRef": {"name": "shop"}, "id": "process-order"}


@pytest.mark.real_api
@pytest.mark.parametrize("kind", load_crds())
def test_an_api_server_has_nothing_against_a_definition(served: Cluster, kind: str) -> None:
    crd = served.get("customresourcedefinitions", "", load_crds()[kind]["metadata"]["name"])
    assert crd is not None
    conditions = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
