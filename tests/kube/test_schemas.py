"""What CRDs make of objects: pruning, defaults, validation."""

from typing import Any

import pytest

from tests.kube.cluster import Cluster
from tests.kube.emulator import KubeEmulator
from tests.kube.errors import Obj
from tests.kube.fixtures import emulated, refused
from tests.kube.samples import cake, crd


def test_unknown_fields_are_pruned(cluster: Cluster, namespace: str) -> None:
    """With a warning; not where the schema preserves them."""
    sent = cake(namespace=namespace, flavr="x", guests=[{"name": "ann", "hat": "red"}], extra={"any": [1]})
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes"
    answer = cluster.request("POST", path, sent)
    assert answer.json()["spec"] == {
        "flavour": "plum",
        "layers": 1,
        "guests": [{"name": "ann"}],
        "extra": {"any": [1]},
    }
    warnings = answer.headers.get_list("Warning")
    assert warnings == [
        '299 - "unknown field \\"spec.flavr\\""',
        '299 - "unknown field \\"spec.guests[0].hat\\""',
    ]
    assert "Warning" not in cluster.request("PUT", f"{path}/a", answer.json()).headers


def test_unknown_fields_are_refused_if_one_is_strict(cluster: Cluster, namespace: str) -> None:
    """400 for a whole object, 422 for a patch; nothing is said with `Ignore`."""
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes"
    strict = {"fieldValidation": "Strict"}
    answer = cluster.request("POST", path, cake(namespace=namespace, flavr="x"), strict)
    assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")
    assert 'strict decoding error: unknown field "spec.flavr"' in answer.json()["message"]
    cluster.create(cake(namespace=namespace))
    merge = "application/merge-patch+json"
    answer = cluster.request("PATCH", f"{path}/a", {"spec": {"flavr": "x"}}, strict, merge)
    assert answer.status_code == 422
    assert 'unknown field "spec.flavr"' in answer.json()["message"]
    ignored = {"fieldValidation": "Ignore"}
    answer = cluster.request("PATCH", f"{path}/a", {"spec": {"flavr": "x"}}, ignored, merge)
    assert (answer.status_code, answer.headers.get("Warning")) == (200, None)


def test_defaults_fill_in_what_is_absent(cluster: Cluster, namespace: str) -> None:
    """At every depth that is there; nulls are dropped unless nullable."""
    made = cluster.create(cake(namespace=namespace, oven={}, layers=None, eaten=None, note=None))
    assert made["spec"] == {"flavour": "plum", "layers": 1, "oven": {"fan": False}, "note": None}
    after = cluster.patch("cakes", namespace, "a", {"spec": {"layers": None}})
    assert after["spec"]["layers"] == 1


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        ({"flavour": "mud"}, "FieldValueNotSupported", "spec.flavour"),
        ({"flavour": 1}, "FieldValueTypeInvalid", "spec.flavour"),
        ({"flavour": None}, "FieldValueRequired", "spec.flavour"),
        ({"layers": 0}, "FieldValueInvalid", "spec.layers"),
        ({"layers": 10}, "FieldValueInvalid", "spec.layers"),
        ({"layers": "2"}, "FieldValueTypeInvalid", "spec.layers"),
        ({"layers": 2.5}, "FieldValueTypeInvalid", "spec.layers"),
        ({"eaten": "yes"}, "FieldValueTypeInvalid", "spec.eaten"),
        ({"note": "No Capitals"}, "FieldValueInvalid", "spec.note"),
        ({"bakedFor": "long"}, "FieldValueInvalid", "spec.bakedFor"),
        ({"port": 1.5}, "FieldValueTypeInvalid", "spec.port"),
        ({"oven": []}, "FieldValueTypeInvalid", "spec.oven"),
        ({"oven": {"heat": "x"}}, "FieldValueTypeInvalid", "spec.oven.heat"),
        ({"guests": {}}, "FieldValueTypeInvalid", "spec.guests"),
        ({"guests": [{"name": "x"}] * 4}, "FieldValueTooMany", "spec.guests"),
        ({"guests": [{"name": "x"}, {"age": 1}]}, "FieldValueRequired", "spec.guests[1].name"),
        ({"prices": {"a": "b"}}, "FieldValueTypeInvalid", "spec.prices.a"),
        ({"prices": {"a": 1, "b": 2, "c": 3}}, "FieldValueTooMany", "spec.prices"),
    ],
)
def test_values_are_validated(cluster: Cluster, namespace: str, spec: Obj, reason: str, field: str) -> None:
    """422 with a cause for the field."""
    with refused(422, "Invalid") as answer:
        cluster.create(cake(namespace=namespace, **spec))
    causes = {(cause["reason"], cause["field"]) for cause in answer.value.details["causes"]}
    assert (reason, field) in causes


@pytest.mark.parametrize(
    "spec",
    [
        {"bakedFor": text}
        for text in ("1h30m", "1min", "4 hours", "7d", "2.5d", "1w", "P1D", "-5s", "1h garbage")
    ]
    + [{"port": 80}, {"port": "http"}, {"layers": 9}, {"note": None}, {"layers": 2.0}],
)
def test_values_that_pass(cluster: Cluster, namespace: str, spec: Obj) -> None:
    """`format: duration` alone accepts more than durations."""
    cluster.create(cake(namespace=namespace, **spec))


def test_all_faults_are_told_at_once(cluster: Cluster, namespace: str) -> None:
    """In the message and as causes, with the object's kind."""
    with refused(422, "Invalid") as answer:
        cluster.create(cake(namespace=namespace, flavour="mud", layers=11))
    details = answer.value.details
    assert (details["kind"], details["group"], details["name"]) == ("Cake", "test.dev", "a")
    assert {cause["field"] for cause in details["causes"]} == {"spec.flavour", "spec.layers"}
    assert answer.value.message.startswith('Cake.test.dev "a" is invalid: [')
    assert 'Unsupported value: "mud": supported values: ' in answer.value.message


def test_status_is_validated_too(cluster: Cluster, namespace: str) -> None:
    """With its lists: two conditions of one type are a duplicate."""
    cluster.create(cake(namespace=namespace))
    condition = {"type": "Ready", "status": "True"}
    with refused(422, "Invalid") as answer:
        cluster.patch("cakes", namespace, "a", {"status": {"conditions": [condition, condition]}}, "status")
    assert "FieldValueDuplicate" in {cause["reason"] for cause in answer.value.details["causes"]}


@pytest.mark.parametrize(
    ("inner", "good", "bad"),
    [
        ({"anyOf": [{"minimum": 10}, {"maximum": 1}]}, 11, 5),
        ({"allOf": [{"minimum": 10}, {"multipleOf": 5}]}, 15, 11),
        ({"oneOf": [{"minimum": 10}, {"multipleOf": 5}]}, 5, 15),
        ({"not": {"minimum": 10}}, 5, 15),
        ({"exclusiveMinimum": True, "minimum": 10}, 11, 10),
        ({"exclusiveMaximum": True, "maximum": 10}, 9, 10),
        ({"format": "int32"}, 2**31 - 1, 2**31),
    ],
)
def test_rules_for_numbers(emulator: KubeEmulator, inner: Obj, good: int, bad: int) -> None:
    """Combined and single."""
    _check(emulator, {"type": "integer"} | inner, good, bad)


@pytest.mark.parametrize(
    ("inner", "good", "bad"),
    [
        ({"minLength": 2}, "ab", "a"),
        ({"maxLength": 2}, "ab", "abc"),
        ({"format": "date-time"}, "2026-01-01T00:00:00Z", "2026-01-01"),
        ({"format": "ipv4"}, "192.0.2.1", "192.0.2"),
        ({"format": "ipv6"}, "::1", "192.0.2.1"),
        ({"format": "cidr"}, "192.0.2.0/24", "192.0.2.0"),
    ],
)
def test_rules_for_texts(emulator: KubeEmulator, inner: Obj, good: str, bad: str) -> None:
    """Lengths and formats."""
    _check(emulator, {"type": "string"} | inner, good, bad)


@pytest.mark.parametrize(
    ("inner", "good", "bad"),
    [
        ({"type": "array", "minItems": 1, "items": {"type": "string"}}, ["a"], []),
        (
            {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            ["a"],
            ["a", "a"],
        ),
        ({"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}, {"a": ""}, {}),
        (
            {"type": "object", "additionalProperties": {"type": "string"}, "anyOf": [{"required": ["a"]}]},
            {"a": ""},
            {"b": ""},
        ),
    ],
)
def test_rules_for_lists_and_objects(emulator: KubeEmulator, inner: Obj, good: Any, bad: Any) -> None:
    """Sizes, duplicates, and required fields within alternatives."""
    _check(emulator, inner, good, bad)


def _check(emulator: KubeEmulator, inner: Obj, good: Any, bad: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"x": inner}}},
    }
    emulator.install_crds([crd(schema={"openAPIV3Schema": schema}, selectableFields=[])])
    obj = cake()
    obj["spec"] = {"x": good}
    assert emulator.put(obj)["spec"] == {"x": good}
    obj["spec"] = {"x": bad}
    with refused(422, "Invalid") as answer:
        emulator.put(obj)
    assert all(cause["field"].startswith("spec.x") for cause in answer.value.details["causes"])


def test_further_rules_can_be_given(emulator: KubeEmulator) -> None:
    """They see the CRD, the new and the old object, once the schema accepts it; their words are the causes."""
    emulator.install_crds([crd()])
    seen: list[tuple[str, Any, Any]] = []

    def check(definition: Obj, new: Obj, old: Obj | None) -> list[str]:
        layers = (new["spec"]["layers"], old["spec"]["layers"] if old else None)
        seen.append((definition["metadata"]["name"], *layers))
        shrunk = old is not None and new["spec"]["layers"] < old["spec"]["layers"]
        return ["spec.layers: Invalid value: 1: layers cannot be taken away"] if shrunk else []

    emulator.set_validator(check)
    cluster = emulated(emulator)
    cluster.create(cake(layers=2))
    with refused(422, "Invalid") as answer:
        cluster.patch("cakes", "default", "a", {"spec": {"layers": 1}})
    assert answer.value.details["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": "Invalid value: 1: layers cannot be taken away",
            "field": "spec.layers",
        }
    ]
    with refused(422, "Invalid"):
        cluster.patch("cakes", "default", "a", {"spec": {"layers": 99}})
    assert seen == [("cakes.test.dev", 2, None), ("cakes.test.dev", 1, 2)]
    cluster.close()


def test_definitions_are_checked(cluster: Cluster) -> None:
    """A name that does not fit, no storage version, no schema, a selectable field that is not there."""
    wrong = crd()
    wrong["metadata"]["name"] = "cake.test.dev"
    for bad in (
        wrong,
        crd(storage=False),
        crd(schema={}),
        crd(selectableFields=[{"jsonPath": ".spec.none"}]),
    ):
        with refused(422, "Invalid"):
            cluster.create(bad)


def test_a_definition_says_that_it_is_served(cluster: Cluster) -> None:
    """`Established`, which clients wait for; an update of it counts at once."""
    cluster.install_crds([crd()])
    found = cluster.get("crd", "", "cakes.test.dev")
    assert found is not None
    conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert found["status"]["storedVersions"] == ["v1"]


def test_versions_of_a_kind_share_their_objects(emulator: KubeEmulator) -> None:
    """Converted by name alone."""
    both = crd()
    newer = {**both["spec"]["versions"][0], "name": "v2", "storage": False}
    both["spec"]["versions"].append(newer)
    emulator.install_crds([both])
    cluster = emulated(emulator)
    cluster.create(cake())
    path = "/apis/test.dev/v2/namespaces/default/cakes"
    assert cluster.request("GET", f"{path}/a").json()["apiVersion"] == "test.dev/v2"
    [item] = cluster.request("GET", path).json()["items"]
    assert item["apiVersion"] == "test.dev/v2"
    made = cluster.apply(cake("b") | {"apiVersion": "test.dev/v2"}, "m")
    assert made["apiVersion"] == "test.dev/v2"
    again = cluster.apply(cake("b", layers=2), "m")
    assert (again["apiVersion"], again["spec"]["layers"]) == ("test.dev/v1", 2)
    assert len(again["metadata"]["managedFields"]) == 1
    cluster.close()
