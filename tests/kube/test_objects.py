"""Objects through the API: created, read, listed, changed, deleted."""

import pytest

from tests.kube.cluster import Cluster
from tests.kube.errors import ApiError, Obj
from tests.kube.fixtures import refused
from tests.kube.samples import cake, config_map


def test_a_new_object_gets_what_only_the_server_writes(cluster: Cluster, namespace: str) -> None:
    """Identity, versions and times are the server's, whatever is sent."""
    sent = cake(namespace=namespace, metadata={"uid": "mine", "generation": 7, "creationTimestamp": None})
    made = cluster.create(sent)
    metadata = made["metadata"]
    assert metadata["uid"] != "mine"
    assert metadata["generation"] == 1
    assert metadata["creationTimestamp"].endswith("Z")
    assert int(metadata["resourceVersion"]) > 0
    assert made["spec"] == {"flavour": "plum", "layers": 1}
    assert cluster.get("cakes", namespace, "a") == made


def test_names_can_be_generated(cluster: Cluster, namespace: str) -> None:
    """`generateName` is a prefix; two objects get two names."""
    sent = cake(namespace=namespace, metadata={"generateName": "cake-"})
    del sent["metadata"]["name"]
    names = {cluster.create(sent)["metadata"]["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("cake-") for name in names)


def test_a_name_is_taken_once(cluster: Cluster, namespace: str) -> None:
    """The second object of a name is 409 AlreadyExists."""
    cluster.create(cake(namespace=namespace))
    with refused(409, "AlreadyExists") as answer:
        cluster.create(cake(namespace=namespace))
    assert answer.value.message == 'cakes.test.dev "a" already exists'
    assert answer.value.details == {"name": "a", "group": "test.dev", "kind": "cakes"}


def test_what_is_not_there_is_not_found(cluster: Cluster, namespace: str) -> None:
    """404 tells the resource and the name; a namespace that is not there is what is not found."""
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes/none"
    status = cluster.request("GET", path).json()
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 404, "NotFound")
    assert status["message"] == 'cakes.test.dev "none" not found'
    with refused(404, "NotFound") as answer:
        cluster.create(cake(namespace="nowhere"))
    assert answer.value.message == 'namespaces "nowhere" not found'
    assert cluster.get("cakes", namespace, "none") is None
    assert cluster.request("GET", "/apis/none.dev/v1/nones").status_code == 404


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"name": "Not_A_Name"}, "metadata.name"),
        ({"labels": {"a": "no/slash"}}, "metadata.labels"),
        ({"labels": {"a": "x" * 64}}, "metadata.labels"),
        ({"labels": {"/a": "b"}}, "metadata.labels"),
        ({"annotations": {"a b": "c"}}, "metadata.annotations"),
        ({"annotations": {"a": "x" * 300_000}}, "metadata.annotations"),
        ({"finalizers": ["a b"]}, "metadata.finalizers"),
        (
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]},
            "metadata.ownerReferences[0].uid",
        ),
    ],
)
def test_metadata_is_validated(cluster: Cluster, namespace: str, metadata: Obj, field: str) -> None:
    """422 names the field."""
    with refused(422, "Invalid") as answer:
        cluster.create(cake(namespace=namespace, metadata=metadata))
    assert [cause["field"] for cause in answer.value.details["causes"]] == [field]


def test_labels_are_texts(cluster: Cluster, namespace: str) -> None:
    """A label that is no string is 400."""
    with refused(400, "BadRequest"):
        cluster.create(cake(namespace=namespace, metadata={"labels": {"a": 1}}))


def test_an_object_must_be_what_its_url_says(cluster: Cluster, namespace: str) -> None:
    """400 for another kind, version, name or namespace."""
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes"
    for wrong in (
        cake(namespace=namespace) | {"kind": "Pie"},
        cake(namespace=namespace) | {"apiVersion": "test.dev/v2"},
        cake(namespace="default"),
    ):
        assert cluster.request("POST", path, wrong).status_code == 400
    made = cluster.create(cake(namespace=namespace))
    made["metadata"]["name"] = "b"
    assert cluster.request("PUT", f"{path}/a", made).status_code == 400


def test_a_replacement_must_know_the_latest_version(cluster: Cluster, namespace: str) -> None:
    """409 Conflict for a stale one, 422 for a custom object without any."""
    old = cluster.create(cake(namespace=namespace))
    new = cluster.replace(old | {"spec": {"flavour": "nut", "layers": 2}})
    assert new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]
    with refused(409, "Conflict") as answer:
        cluster.replace(old)
    assert (
        "the object has been modified; please apply your changes to the latest version"
        in answer.value.message
    )
    del new["metadata"]["resourceVersion"]
    with refused(422, "Invalid"):
        cluster.replace(new)


def test_built_in_objects_can_be_replaced_unseen(cluster: Cluster, namespace: str) -> None:
    """A ConfigMap without a resourceVersion overwrites."""
    cluster.create(config_map("m", namespace))
    assert cluster.replace(config_map("m", namespace) | {"data": {"b": "2"}})["data"] == {"b": "2"}


def test_a_patch_may_ask_for_a_version(cluster: Cluster, namespace: str) -> None:
    """A resourceVersion in a patch is a condition; without one a patch meets whatever there is."""
    old = cluster.create(cake(namespace=namespace))
    version = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}}
    cluster.patch("cakes", namespace, "a", version | {"spec": {"layers": 2}})
    with refused(409, "Conflict"):
        cluster.patch("cakes", namespace, "a", version | {"spec": {"layers": 3}})
    assert cluster.patch("cakes", namespace, "a", {"spec": {"layers": 3}})["spec"]["layers"] == 3


def test_a_write_that_changes_nothing_is_none(cluster: Cluster, namespace: str) -> None:
    """Neither the version nor the generation moves, whichever verb it was."""
    made = cluster.create(cake(namespace=namespace), manager="m")
    assert cluster.replace(made, manager="m") == made
    assert cluster.patch("cakes", namespace, "a", {"spec": {"flavour": "plum"}}) == made
    test = {"op": "test", "path": "/spec/flavour", "value": "plum"}
    assert cluster.patch("cakes", namespace, "a", [test]) == made


def test_generation_counts_changes_of_the_spec(cluster: Cluster, namespace: str) -> None:
    """Labels and status do not count, the beginning of a deletion does."""
    cluster.create(cake(namespace=namespace))

    def patched(patch: Obj, subresource: str = "") -> int:
        made = cluster.patch("cakes", namespace, "a", patch, subresource)
        return int(made["metadata"]["generation"])

    assert patched({"spec": {"layers": 2}}) == 2
    assert patched({"metadata": {"labels": {"a": "b"}, "finalizers": ["test.dev/x"]}}) == 2
    assert patched({"status": {"phase": "Baked"}}, "status") == 2
    cluster.delete("cakes", namespace, "a")
    found = cluster.get("cakes", namespace, "a")
    assert found is not None
    assert found["metadata"]["generation"] == 3
    assert patched({"metadata": {"finalizers": None}}) >= 3


def test_status_is_written_through_its_subresource_alone(cluster: Cluster, namespace: str) -> None:
    """The object's URL ignores status, and the subresource ignores everything else."""
    made = cluster.create(cake(namespace=namespace) | {"status": {"phase": "Sent"}})
    assert "status" not in made
    both: Obj = {"metadata": {"labels": {"a": "b"}}, "spec": {"layers": 5}, "status": {"phase": "Patched"}}
    after = cluster.patch("cakes", namespace, "a", both, "status")
    assert after["status"] == {"phase": "Patched"}
    assert (after["spec"]["layers"], after["metadata"].get("labels")) == (1, None)
    both["status"]["phase"] = "Ignored"
    after = cluster.patch("cakes", namespace, "a", both)
    assert after["status"] == {"phase": "Patched"}
    assert (after["spec"]["layers"], after["metadata"]["labels"]) == (5, {"a": "b"})
    after = cluster.replace(after | {"status": {"phase": "Replaced"}, "spec": {"flavour": "nut"}}, "status")
    assert after["status"] == {"phase": "Replaced"}
    assert after["spec"]["flavour"] == "plum"


def test_json_patches(cluster: Cluster, namespace: str) -> None:
    """They are applied whole or not at all."""
    cluster.create(cake(namespace=namespace, guests=[{"name": "ann"}]))
    after = cluster.patch(
        "cakes",
        namespace,
        "a",
        [
            {"op": "add", "path": "/spec/guests/-", "value": {"name": "bob"}},
            {"op": "replace", "path": "/spec/guests/0/name", "value": "eve"},
            {"op": "add", "path": "/metadata/annotations", "value": {"test.dev/x": "1"}},
            {"op": "copy", "from": "/spec/flavour", "path": "/metadata/annotations/test.dev~1y"},
            {"op": "move", "from": "/spec/guests/1", "path": "/spec/guests/0"},
        ],
    )
    assert after["spec"]["guests"] == [{"name": "bob"}, {"name": "eve"}]
    assert after["metadata"]["annotations"] == {"test.dev/x": "1", "test.dev/y": "plum"}
    with refused(422, "Invalid"):
        cluster.patch(
            "cakes",
            namespace,
            "a",
            [
                {"op": "remove", "path": "/spec/guests"},
                {"op": "test", "path": "/spec/flavour", "value": "nut"},
            ],
        )
    assert cluster.get("cakes", namespace, "a") == after


def test_custom_objects_have_no_strategic_merge(cluster: Cluster, namespace: str) -> None:
    """415 for them; lists of built-in ones are merged by their keys."""
    strategic = "application/strategic-merge-patch+json"
    cluster.create(cake(namespace=namespace))
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes/a"
    assert cluster.request("PATCH", path, {"spec": {"layers": 2}}, None, strategic).status_code == 415
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"}
    made = cluster.create(config_map("m", namespace, finalizers=["test.dev/a"]))
    path = f"/api/v1/namespaces/{namespace}/configmaps/m"
    patch = {"metadata": {"finalizers": ["test.dev/b"]}, "data": {"a": None, "b": "2"}}
    answer = cluster.request("PATCH", path, patch, None, strategic)
    assert answer.status_code == 200, answer.text
    after = answer.json()
    assert after["metadata"]["finalizers"] == ["test.dev/a", "test.dev/b"]
    assert after["data"] == {"b": "2"}
    assert after["metadata"]["uid"] == made["metadata"]["uid"]
    assert owner not in after["metadata"].get("ownerReferences", [])


def test_lists_are_ordered_and_selected(cluster: Cluster, namespace: str) -> None:
    """Labels by every operator, and the fields that the CRD makes selectable."""
    for name, labels, more in (
        ("c", {"tier": "low"}, {"flavour": "nut"}),
        ("a", {"tier": "high", "new": ""}, {"eaten": True}),
        ("b", {}, {"eaten": False}),
    ):
        cluster.create(cake(name, namespace, {"labels": labels}, **more))

    def labelled(selector: str) -> list[str]:
        found = cluster.list("cakes", namespace, label_selector=selector)
        return [item["metadata"]["name"] for item in found]

    def with_field(selector: str) -> list[str]:
        found = cluster.list("cakes", namespace, field_selector=selector)
        return [item["metadata"]["name"] for item in found]

    assert labelled("") == ["a", "b", "c"]
    assert labelled("tier=high") == labelled("tier == high") == ["a"]
    assert labelled("tier!=high") == ["b", "c"]
    assert labelled("tier in (high, low)") == ["a", "c"]
    assert labelled("tier notin (high)") == ["b", "c"]
    assert labelled("tier") == ["a", "c"]
    assert labelled("!tier") == ["b"]
    assert labelled("tier,!new") == ["c"]
    assert with_field("metadata.name=b") == ["b"]
    assert with_field(f"metadata.namespace={namespace},metadata.name!=b") == ["a", "c"]
    assert with_field("spec.flavour=nut") == ["c"]
    assert with_field("spec.eaten=true") == ["a"]
    assert with_field("spec.eaten=false") == ["b", "c"]
    with refused(400, "BadRequest"):
        with_field("spec.layers=1")
    with refused(400, "BadRequest"):
        labelled("a b")


def test_long_lists_come_in_pages_of_one_moment(cluster: Cluster, namespace: str) -> None:
    """What changes between two pages is not in the later one."""
    for name in "abcde":
        cluster.create(cake(name, namespace))
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes"
    names: list[str] = []
    params = {"limit": "2"}
    versions = set()
    while True:
        page = cluster.request("GET", path, params=params).json()
        assert page["kind"] == "CakeList"
        names += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue")
        if not token:
            break
        params["continue"] = token
        cluster.delete("cakes", namespace, "e")
    assert names == ["a", "b", "c", "d", "e"]
    assert len(versions) == 1


def test_items_of_built_in_lists_do_not_say_what_they_are(cluster: Cluster, namespace: str) -> None:
    """Custom ones do: clients must get on with both."""
    cluster.create(config_map("m", namespace))
    cluster.create(cake(namespace=namespace))
    [plain] = cluster.list("configmaps", namespace, field_selector="metadata.name=m")
    [custom] = cluster.list("cakes", namespace)
    assert "kind" not in plain
    assert custom["kind"] == "Cake"


def test_metadata_alone_can_be_asked_for(cluster: Cluster, namespace: str) -> None:
    """As controllers do for kinds of which they need no more."""
    cluster.create(cake(namespace=namespace))
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes"
    listed = cluster.http.get(path, headers=accept).json()
    assert listed["kind"] == "PartialObjectMetadataList"
    [item] = listed["items"]
    assert set(item) == {"kind", "apiVersion", "metadata"}
    assert item["kind"] == "PartialObjectMetadata"


def test_a_trial_is_checked_and_not_stored(cluster: Cluster, namespace: str) -> None:
    """`dryRun=All` answers as if."""
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes"
    assert cluster.request("POST", path, cake(namespace=namespace), {"dryRun": "All"}).status_code == 201
    bad = cake(namespace=namespace, flavour="mud")
    assert cluster.request("POST", path, bad, {"dryRun": "All"}).status_code == 422
    assert cluster.list("cakes", namespace) == []


def test_an_object_can_be_too_large(cluster: Cluster, namespace: str) -> None:
    """More than 1.5 MiB is not stored."""
    with pytest.raises(ApiError):
        cluster.create(cake(namespace=namespace, extra={"x": "y" * 1_600_000}))
    assert cluster.get("cakes", namespace, "a") is None


def test_verbs_that_a_resource_does_not_have(cluster: Cluster, namespace: str) -> None:
    """405 MethodNotAllowed."""
    answer = cluster.request("GET", "/apis/authentication.k8s.io/v1/tokenreviews")
    assert answer.status_code == 405
    assert cluster.request("POST", "/apis/test.dev/v1/cakes", cake(namespace=namespace)).status_code == 405


def test_discovery_tells_everything_that_clients_build_urls_from(cluster: Cluster, namespace: str) -> None:
    """Groups, versions, resources with short names, categories, verbs and subresources."""
    assert cluster.request("GET", "/version").json()["major"] == "1"
    assert "v1" in cluster.request("GET", "/api").json()["versions"]
    group = cluster.request("GET", "/apis/test.dev").json()
    assert group["preferredVersion"] == {"groupVersion": "test.dev/v1", "version": "v1"}
    resources = cluster.request("GET", "/apis/test.dev/v1").json()["resources"]
    cakes, status = (next(r for r in resources if r["name"] == name) for name in ("cakes", "cakes/status"))
    assert cakes["shortNames"] == ["ck"]
    assert cakes["categories"] == ["food"]
    assert {"get", "list", "watch", "patch", "delete", "deletecollection"} <= set(cakes["verbs"])
    assert set(status["verbs"]) == {"get", "patch", "update"}
