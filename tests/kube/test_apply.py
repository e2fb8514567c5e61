"""Server-side apply: who owns what, conflicts, and what goes when it is applied no longer."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kube.cluster import Cluster
from tests.kube.errors import Obj
from tests.kube.fields import PRESENT, from_tree, leaves_of, to_tree
from tests.kube.fixtures import refused
from tests.kube.managers import Manager, Managers, after_update, apply
from tests.kube.samples import cake, config_map, crd


def owners(obj: Obj) -> dict[tuple[str, str], Any]:
    """What each manager owns, by name and operation."""
    return {
        (entry["manager"], entry["operation"]): entry["fieldsV1"]
        for entry in obj["metadata"]["managedFields"]
    }


def test_applying_creates_and_owns_what_was_sent(cluster: Cluster, namespace: str) -> None:
    """Not the defaults, nor what the server writes."""
    made = cluster.apply(cake(namespace=namespace, metadata={"labels": {"a": "b"}}), "git")
    assert made["spec"] == {"flavour": "plum", "layers": 1}
    [entry] = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("git", "Apply", "test.dev/v1")
    assert entry["fieldsType"] == "FieldsV1"
    assert entry["fieldsV1"] == {"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:flavour": {}}}


def test_applying_the_same_again_writes_nothing(cluster: Cluster, namespace: str) -> None:
    """Not even a time in managedFields."""
    made = cluster.apply(cake(namespace=namespace), "git")
    assert cluster.apply(cake(namespace=namespace), "git") == made


def test_what_somebody_else_owns_is_not_overwritten(cluster: Cluster, namespace: str) -> None:
    """409 with field and manager, as the message and as a cause; `force` takes the field."""
    cluster.apply(cake(namespace=namespace), "git")
    cluster.patch("cakes", namespace, "a", {"spec": {"flavour": "nut"}}, manager="kubectl-patch")
    with refused(409, "Conflict") as answer:
        cluster.apply(cake(namespace=namespace), "git")
    told = 'conflict with "kubectl-patch" using test.dev/v1'
    assert answer.value.message == f"Apply failed with 1 conflict: {told}: .spec.flavour"
    [cause] = answer.value.details["causes"]
    assert cause == {"reason": "FieldManagerConflict", "message": told, "field": ".spec.flavour"}
    after = cluster.apply(cake(namespace=namespace), "git", force=True)
    assert after["spec"]["flavour"] == "plum"
    assert set(owners(after)) == {("git", "Apply")}


def test_all_conflicts_are_told_at_once(cluster: Cluster, namespace: str) -> None:
    """One cause each; a manager that applies is named without a version."""
    cluster.apply(cake(namespace=namespace, layers=2), "one")
    with refused(409, "Conflict") as answer:
        cluster.apply(cake(namespace=namespace, flavour="nut", layers=3), "two")
    causes = answer.value.details["causes"]
    assert {cause["field"] for cause in causes} == {".spec.flavour", ".spec.layers"}
    assert {cause["message"] for cause in causes} == {'conflict with "one"'}
    assert answer.value.message.startswith("Apply failed with 2 conflicts: ")


def test_equal_values_are_owned_together(cluster: Cluster, namespace: str) -> None:
    """And stay until the last of their owners lets go."""
    cluster.apply(cake(namespace=namespace, layers=2), "one")
    both = cluster.apply(cake(namespace=namespace, layers=2), "two")
    assert owners(both)["one", "Apply"] == owners(both)["two", "Apply"]
    less = cluster.apply(cake(namespace=namespace), "one")
    assert less["spec"]["layers"] == 2
    least = cluster.apply(cake(namespace=namespace), "two")
    assert least["spec"]["layers"] == 1, "the default again"


def test_what_is_applied_no_longer_goes(cluster: Cluster, namespace: str) -> None:
    """Labels, owner references and fields of the operator's; a person's stay."""
    reference = {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": _uid(cluster, namespace)}
    full = cake(
        namespace=namespace,
        metadata={"labels": {"managed": "yes"}, "ownerReferences": [reference]},
        note="from code",
    )
    cluster.apply(full, "operator")
    cluster.patch("cakes", namespace, "a", {"metadata": {"labels": {"team": "x"}}, "spec": {"layers": 4}})
    after = cluster.apply(cake(namespace=namespace), "operator")
    assert after["metadata"]["labels"] == {"team": "x"}
    assert "ownerReferences" not in after["metadata"]
    assert after["spec"] == {"flavour": "plum", "layers": 4}


def _uid(cluster: Cluster, namespace: str) -> str:
    found = cluster.get("namespaces", "", namespace)
    assert found is not None
    uid: str = found["metadata"]["uid"]
    return uid


def test_finalizers_and_owner_references_are_owned_one_by_one(cluster: Cluster, namespace: str) -> None:
    """Two managers' finalizers stand side by side, and each takes away its own."""
    for who in ("one", "two"):
        cluster.apply(config_map("m", namespace, finalizers=[f"test.dev/{who}"]), who)
    found = cluster.get("configmaps", namespace, "m")
    assert found is not None
    assert found["metadata"]["finalizers"] == ["test.dev/one", "test.dev/two"]
    assert owners(found)["one", "Apply"]["f:metadata"] == {"f:finalizers": {'v:"test.dev/one"': {}}}
    after = cluster.apply(config_map("m", namespace), "one")
    assert after["metadata"]["finalizers"] == ["test.dev/two"]
    cluster.apply(config_map("m", namespace), "two")


def test_ordinary_writes_take_what_they_change(cluster: Cluster, namespace: str) -> None:
    """From whoever owned it; the name is the request's `fieldManager`, or the client's."""
    cluster.apply(cake(namespace=namespace, layers=2, note="x"), "git")
    cluster.patch("cakes", namespace, "a", {"spec": {"layers": 3}}, manager="hand")
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes/a"
    merge = "application/merge-patch+json"
    after = cluster.request("PATCH", path, {"spec": {"note": "y"}}, None, merge).json()
    assert owners(after) == {
        ("git", "Apply"): {"f:spec": {"f:flavour": {}}},
        ("hand", "Update"): {"f:spec": {"f:layers": {}}},
        ("tests", "Update"): {"f:spec": {"f:note": {}}},
    }


def test_the_same_name_by_another_operation_is_somebody_else(cluster: Cluster, namespace: str) -> None:
    """A manager conflicts with its own ordinary writes."""
    cluster.patch("cakes", namespace, cluster.create(cake(namespace=namespace))["metadata"]["name"], {})
    cluster.patch("cakes", namespace, "a", {"spec": {"flavour": "nut"}}, manager="me")
    with refused(409, "Conflict"):
        cluster.apply(cake(namespace=namespace), "me")


def test_status_is_applied_and_owned_through_its_subresource(cluster: Cluster, namespace: str) -> None:
    """On the object's URL it is neither; conditions are owned by type."""
    made = cluster.apply(cake(namespace=namespace) | {"status": {"phase": "Sent"}}, "git")
    assert "status" not in made
    assert "f:status" not in owners(made)["git", "Apply"]

    def applied(manager: str, status: Obj) -> Obj:
        body = {"apiVersion": "test.dev/v1", "kind": "Cake", "metadata": {"name": "a"}, "status": status}
        path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes/a/status"
        params = {"fieldManager": manager, "force": "true"}
        answer = cluster.request("PATCH", path, body, params, "application/apply-patch+yaml")
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    applied("one", {"conditions": [{"type": "A", "status": "True"}]})
    applied("two", {"conditions": [{"type": "B", "status": "True"}]})
    after = applied("one", {"conditions": [{"type": "A", "status": "False"}], "phase": "Done"})
    assert after["status"] == {
        "phase": "Done",
        "conditions": [{"type": "A", "status": "False"}, {"type": "B", "status": "True"}],
    }
    [one] = [entry for entry in after["metadata"]["managedFields"] if entry["manager"] == "one"]
    assert one["subresource"] == "status"
    assert applied("one", {"phase": "Done"})["status"]["conditions"] == [{"type": "B", "status": "True"}]


def test_an_apply_must_say_who_and_what(cluster: Cluster, namespace: str) -> None:
    """422 without a field manager, 400 without a kind or with managedFields, an error for unknown fields."""
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes/a"
    kind = "application/apply-patch+yaml"
    assert cluster.request("PATCH", path, cake(namespace=namespace), None, kind).status_code == 422
    me = {"fieldManager": "me"}
    assert cluster.request("PATCH", path, {"spec": {}}, me, kind).status_code == 400
    managed = {"managedFields": [{"manager": "me", "operation": "Apply"}]}
    answer = cluster.request("PATCH", path, cake(namespace=namespace, metadata=managed), me, kind)
    assert answer.status_code == 400
    answer = cluster.request("PATCH", path, cake(namespace=namespace, flavr="x"), me, kind)
    assert answer.status_code == 500
    assert ".spec.flavr: field not declared in schema" in answer.json()["message"]
    answer = cluster.request("PATCH", path, {"spec": {}}, {"force": "true"}, "application/merge-patch+json")
    assert answer.status_code == 422


def test_an_apply_may_be_written_in_yaml(cluster: Cluster, namespace: str) -> None:
    """The content type says so; a new object is 201, a changed one 200."""
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes/a"
    text = "apiVersion: test.dev/v1\nkind: Cake\nmetadata: {name: a}\nspec: {flavour: nut}\n"
    headers = {"Content-Type": "application/apply-patch+yaml"}
    for status in (201, 200):
        answer = cluster.http.patch(path, content=text, headers=headers, params={"fieldManager": "m"})
        assert (answer.status_code, answer.json()["spec"]["flavour"]) == (status, "nut")


def test_an_apply_may_be_bound_to_one_object(cluster: Cluster, namespace: str) -> None:
    """By uid and by resourceVersion."""
    made = cluster.apply(cake(namespace=namespace), "m")
    for metadata in ({"uid": "other"}, {"resourceVersion": "1"}):
        with refused(409, "Conflict"):
            cluster.apply(cake(namespace=namespace, layers=2, metadata=metadata), "m")
    known = {field: made["metadata"][field] for field in ("uid", "resourceVersion")}
    assert cluster.apply(cake(namespace=namespace, layers=2, metadata=known), "m")["spec"]["layers"] == 2
    with refused(409, "Conflict"):
        cluster.apply(cake("b", namespace, {"uid": known["uid"]}), "m")


def test_managed_fields_can_be_reset(cluster: Cluster, namespace: str) -> None:
    """By a list of one empty entry."""
    cluster.apply(cake(namespace=namespace), "m")
    after = cluster.patch("cakes", namespace, "a", {"metadata": {"managedFields": [{}]}})
    assert not after["metadata"].get("managedFields")


def test_fields_of_objects_are_owned_apart_unless_the_schema_says_atomic(
    cluster: Cluster, namespace: str
) -> None:
    """Objects are open by default, lists are not."""
    cluster.apply(cake(namespace=namespace, oven={"heat": 180}, guests=[{"name": "ann"}]), "one")
    after = cluster.apply(cake(namespace=namespace, oven={"fan": True}), "two")
    assert after["spec"]["oven"] == {"heat": 180, "fan": True}
    with refused(409, "Conflict") as answer:
        cluster.apply(cake(namespace=namespace, guests=[{"name": "bob"}]), "two")
    assert [cause["field"] for cause in answer.value.details["causes"]] == [".spec.guests"]


# The rules without a server

_SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
_NAMES = st.sampled_from("abcd")
_SPECS = st.fixed_dictionaries(
    {},
    optional={
        "flavour": st.sampled_from(["plum", "nut"]),
        "layers": st.integers(1, 3),
        "oven": st.fixed_dictionaries({}, optional={"heat": st.integers(1, 3), "fan": st.booleans()}),
        "prices": st.dictionaries(_NAMES, st.integers(1, 3)),
        "guests": st.lists(st.fixed_dictionaries({"name": _NAMES}), max_size=2),
    },
)
_CONDITIONS = st.lists(
    st.fixed_dictionaries({"type": _NAMES, "status": st.sampled_from(["True", "False"])}),
    unique_by=lambda condition: condition["type"],
)
_OBJECTS = st.builds(
    lambda labels, finalizers, spec, conditions: {
        "metadata": {"labels": labels, "finalizers": finalizers},
        "spec": spec,
        "status": {"conditions": conditions},
    },
    st.dictionaries(_NAMES, _NAMES, max_size=3),
    st.lists(_NAMES, unique=True, max_size=3),
    _SPECS,
    _CONDITIONS,
)
_STAMP = ("v1", "2026-01-01T00:00:00Z")


def _who(name: str) -> Manager:
    return Manager(name, "Apply", "")


@settings(max_examples=60)
@given(_OBJECTS)
def test_paths_survive_their_written_form(obj: Obj) -> None:
    """FieldsV1 says the same as the paths it was made of."""
    paths = set(leaves_of(obj, _SCHEMA))
    assert from_tree(to_tree(paths)) == paths


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), _OBJECTS), min_size=1, max_size=6))
def test_forced_applies_leave_what_was_applied_last_and_nothing_else(steps: list[tuple[str, Obj]]) -> None:
    """Each manager's last word holds where the other has not spoken since; what nobody applies is gone."""
    live: Obj = {"metadata": {}}
    managers: Managers = {}
    wanted: dict[str, Any] = {"one": {}, "two": {}}
    for who, obj in steps:
        managers = apply(live, obj, _SCHEMA, managers, _who(who), _STAMP, force=True)
        other = "two" if who == "one" else "one"
        wanted[who] = leaves_of(obj, _SCHEMA)
        wanted[other] = {
            path: value
            for path, value in wanted[other].items()
            if path not in wanted[who] or wanted[who][path] == value
        }
        assert managers.keys() == {_who(name) for name, leaves in wanted.items() if leaves}
        for name, leaves in wanted.items():
            owned = managers.get(_who(name))
            assert (owned.paths if owned else set()) == leaves.keys()
    found, expected = leaves_of(live, _SCHEMA), wanted["one"] | wanted["two"]
    assert {path: value for path, value in found.items() if value is not PRESENT} == {
        path: value for path, value in expected.items() if value is not PRESENT
    }


@settings(max_examples=60)
@given(_OBJECTS, _OBJECTS)
def test_an_ordinary_write_owns_what_it_changed(before: Obj, after: Obj) -> None:
    """And nobody owns a field twice with two values, or one that is not there."""
    one, two = Manager("one", "Update", "v1"), Manager("two", "Update", "v1")
    old, new = leaves_of(before, _SCHEMA), leaves_of(after, _SCHEMA)
    managers = after_update({}, one, {}, old, _STAMP)
    managers = after_update(managers, two, old, new, _STAMP)
    mine = managers[two].paths if two in managers else frozenset()
    theirs = managers[one].paths if one in managers else frozenset()
    assert mine == {p for p, value in new.items() if p not in old or old[p] != value}
    assert theirs == {p for p, value in old.items() if p in new and new[p] == value}


@pytest.mark.parametrize("value", [{}, {"labels": None}])
def test_empty_metadata_has_no_leaves(value: Obj) -> None:
    """What is not there is owned by nobody."""
    assert (
        leaves_of({"metadata": {"name": "x", "uid": "1"} | {k: v for k, v in value.items() if v}}, {}) == {}
    )
