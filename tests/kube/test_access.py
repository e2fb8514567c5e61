"""Who may what, what was asked, and what was written."""

from collections.abc import Iterator

import pytest

from tests.kube.access import Asked, Identity, Rule, rules_bound_to
from tests.kube.cluster import Cluster
from tests.kube.connection import connection_from
from tests.kube.emulator import KubeEmulator
from tests.kube.errors import Obj
from tests.kube.fixtures import emulated, refused
from tests.kube.samples import cake, config_map, crd

_SECRETS = Rule(
    api_groups=("",),
    resources=("secrets",),
    verbs=("get", "list", "watch"),
    resource_names=("shop",),
    namespace="prod",
)


@pytest.fixture
def admin(emulator: KubeEmulator) -> Iterator[Cluster]:
    """The emulator with Cakes and a namespace `prod`, as somebody who may do everything."""
    emulator.install_crds([crd()])
    emulator.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}})
    made = emulated(emulator)
    yield made
    made.close()


def limited(emulator: KubeEmulator, *rules: Rule) -> Cluster:
    """The emulator as `ann`, who may do what the rules say."""
    token = emulator.add_token("ann", rules)
    return Cluster(connection_from(emulator.config(token)), real=False, controllers=True)


def test_a_request_needs_a_known_token(emulator: KubeEmulator) -> None:
    """401 Unauthorized otherwise."""
    for token in ("", "wrong"):
        connection = connection_from(emulator.config())
        connection.token = token
        stranger = Cluster(connection, real=False, controllers=True)
        with refused(401, "Unauthorized"):
            stranger.list("pods")
        stranger.close()


def test_what_no_rule_allows_is_forbidden(emulator: KubeEmulator, admin: Cluster) -> None:
    """The message says who may not do what, where."""
    ann = limited(emulator)
    with refused(403, "Forbidden") as answer:
        ann.list("secrets", "prod")
    assert answer.value.message == (
        'secrets is forbidden: User "ann" cannot list resource "secrets" in API group "" in the namespace "prod"'
    )
    with refused(403, "Forbidden") as answer:
        ann.list("cakes")
    assert answer.value.message == (
        'cakes.test.dev is forbidden: User "ann" cannot list resource "cakes" in API group "test.dev" '
        "at the cluster scope"
    )
    with refused(403, "Forbidden") as answer:
        ann.patch("cakes", "prod", "a", {"status": {}}, "status")
    assert answer.value.message == (
        'cakes.test.dev "a" is forbidden: User "ann" cannot patch resource "cakes/status" in API group "test.dev" '
        'in the namespace "prod"'
    )
    assert ann.request("GET", "/apis").status_code == 200, "discovery is for everybody"
    ann.close()


def test_rules_may_name_objects(emulator: KubeEmulator, admin: Cluster) -> None:
    """Lists and watches of those go by a field selector on the name, and by no other."""
    ann = limited(emulator, _SECRETS)
    for name in ("shop", "other"):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "prod"}}
        emulator.put(secret | {"metadata": {"name": name, "namespace": "prod", "labels": {"l": "x"}}})
    assert ann.get("secrets", "prod", "shop") is not None
    found = ann.list("secrets", "prod", field_selector="metadata.name=shop")
    assert [item["metadata"]["name"] for item in found] == ["shop"]
    assert ann.wait_for("secrets", "prod", "shop", bool) is not None
    for selectors in ({}, {"label_selector": "l=x"}, {"field_selector": "metadata.name=other"}):
        with refused(403, "Forbidden"):
            ann.list("secrets", "prod", **selectors)
    with refused(403, "Forbidden"):
        ann.get("secrets", "default", "shop")
    ann.close()


def test_applying_what_is_not_there_needs_create(emulator: KubeEmulator, admin: Cluster) -> None:
    """And what is there, only patch."""
    rule = Rule(api_groups=("test.dev",), resources=("cakes",), verbs=("patch",))
    ann = limited(emulator, rule)
    with refused(403, "Forbidden") as answer:
        ann.apply(cake(), "m")
    assert "cannot create resource" in answer.value.message
    emulator.put(cake())
    ann.apply(cake(layers=2), "m", force=True)
    ann.close()


def test_subresources_and_wildcards(emulator: KubeEmulator) -> None:
    """A right to an object is none to its status, nor the other way round; stars match all."""

    def may(asked: Asked, **rule: tuple[str, ...]) -> bool:
        return Identity(user="x", rules=(Rule(**rule),)).may(asked)  # type: ignore[arg-type]

    status = Asked(verb="patch", group="test.dev", resource="cakes", subresource="status", name="a")
    whole = Asked(verb="patch", group="test.dev", resource="cakes", name="a")
    base = {"api_groups": ("test.dev",), "verbs": ("patch",)}
    assert not may(status, resources=("cakes",), **base)
    assert may(status, resources=("cakes/status",), **base)
    assert may(status, resources=("*/status",), **base)
    assert may(status, resources=("*",), **base)
    assert not may(whole, resources=("cakes/status",), **base)
    assert may(whole, resources=("*",), api_groups=("*",), verbs=("*",))
    assert not may(whole, resources=("*",), api_groups=("",), verbs=("*",))


def _role(kind: str, name: str, namespace: str = "", *rules: Obj) -> Obj:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"kind": kind, "metadata": metadata, "rules": list(rules)}


def _binding(kind: str, role: str, role_kind: str, namespace: str = "", account: str = "operator") -> Obj:
    metadata = {"name": role} | ({"namespace": namespace} if namespace else {})
    return {
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"kind": role_kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "system"}],
    }


def test_rules_can_be_read_from_manifests() -> None:
    """What a chart binds to a ServiceAccount, and to nobody else."""
    leases: Obj = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"]}
    pods: Obj = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"], "resourceNames": ["p"]}
    manifests = [
        _role("Role", "leases", "system", leases),
        _binding("RoleBinding", "leases", "Role", "system"),
        _role("ClusterRole", "pods", "", pods),
        _binding("RoleBinding", "pods", "ClusterRole", "prod"),
        _binding("ClusterRoleBinding", "pods", "ClusterRole", account="other"),
    ]
    assert rules_bound_to(manifests, "system", "operator") == [
        Rule(api_groups=("coordination.k8s.io",), resources=("leases",), verbs=("get",), namespace="system"),
        Rule(api_groups=("",), resources=("pods",), verbs=("list",), resource_names=("p",), namespace="prod"),
    ]
    assert rules_bound_to(manifests, "system", "other")[0].namespace == ""
    with pytest.raises(ValueError, match="there is no ClusterRole pods"):
        rules_bound_to(manifests[3:], "system", "operator")


def test_requests_are_noted_as_rbac_sees_them(emulator: KubeEmulator, admin: Cluster) -> None:
    """So that a Role can be compared with what was needed."""
    emulator.reset()
    admin.list("cakes", "prod", field_selector="metadata.name=x")
    admin.apply(cake(), "m")
    admin.patch("cakes", "default", "a", {"status": {"phase": "x"}}, "status")
    about = {"group": "test.dev", "resource": "cakes", "user": "admin"}
    here = about | {"namespace": "default", "name": "a"}
    assert emulator.requests == [
        Asked(verb="list", namespace="prod", name="x", **about),
        Asked(verb="patch", **here),
        Asked(verb="create", **here),
        Asked(verb="patch", subresource="status", **here),
    ]


def test_writes_are_noted_and_needless_ones_are_none(emulator: KubeEmulator, admin: Cluster) -> None:
    """By verb, resource, name and manager."""
    emulator.reset()
    for _ in range(2):
        admin.apply(cake(), "m")
        admin.patch("cakes", "default", "a", {"status": {"phase": "x"}}, "status", "n")
    admin.create(config_map("c"), manager="o")
    admin.delete("cakes", "default", "a")
    told = [(w.verb, w.resource, w.subresource, w.name, w.manager) for w in emulator.writes]
    assert told == [
        ("apply", "cakes", "", "a", "m"),
        ("patch", "cakes", "status", "a", "n"),
        ("create", "configmaps", "", "c", "o"),
        ("delete", "cakes", "", "a", "tests"),
    ]
    emulator.reset()
    assert emulator.writes == []


def _review(kind: str, group: str, **spec: object) -> Obj:
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {}, "spec": spec}


def test_tokens_are_reviewed(emulator: KubeEmulator, admin: Cluster) -> None:
    """From the tokens that there are, or as a test says."""
    token = emulator.add_token("ann", [], groups=["tenants"])
    group = "authentication.k8s.io"
    status = admin.create(_review("TokenReview", group, token=token))["status"]
    assert status["authenticated"] is True
    assert (status["user"]["username"], status["user"]["groups"]) == ("ann", ["tenants"])
    status = admin.create(_review("TokenReview", group, token="wrong"))["status"]
    assert not status.get("authenticated")
    emulator.reviewer.on_token = lambda spec: {
        "authenticated": True,
        "user": {"username": spec["token"].upper()},
    }
    status = admin.create(_review("TokenReview", group, token="eve"))["status"]
    assert status["user"]["username"] == "EVE"


def test_access_is_reviewed(emulator: KubeEmulator, admin: Cluster) -> None:
    """By the rules of a known user, or as a test says; strangers may nothing."""
    emulator.add_token("ann", [_SECRETS])
    group = "authorization.k8s.io"

    def allowed(user: str, verb: str) -> bool:
        asked = {"verb": verb, "resource": "secrets", "namespace": "prod", "name": "shop"}
        review = _review("SubjectAccessReview", group, user=user, resourceAttributes=asked)
        return bool(admin.create(review)["status"]["allowed"])

    assert allowed("ann", "get")
    assert not allowed("ann", "delete")
    assert not allowed("stranger", "get")
    emulator.reviewer.on_access = lambda spec: {"allowed": spec["user"] == "stranger"}
    assert allowed("stranger", "get")
    own = _review("SelfSubjectAccessReview", group, resourceAttributes={"verb": "get", "resource": "pods"})
    assert admin.create(own)["status"]["allowed"] is True
