"""Rights, word for word, in each way to install: nobody has more than what the code does."""

import pytest

from tests.chart.conftest import Render
from tests.chart.rendering import NAMESPACE, Json, Release

READ = ["get", "list", "watch"]
GROUP = "innkeeper.dev"


def rule(group: str, resources: list[str], verbs: list[str], names: list[str] | None = None) -> Json:
    """A rule as RBAC writes it."""
    made: Json = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return made if names is None else {**made, "resourceNames": names}


OPERATOR = [
    rule(GROUP, ["inngestapps"], [*READ, "patch"]),
    rule(GROUP, ["functions"], [*READ, "create", "patch", "delete"]),
    rule(GROUP, ["webhooks"], READ),
    rule(GROUP, ["inngestapps/status", "functions/status", "webhooks/status"], ["patch"]),
    rule(GROUP, ["inngestapps/finalizers"], ["update"]),
    rule("", ["services", "pods", "configmaps"], READ),
    rule("discovery.k8s.io", ["endpointslices"], READ),
    rule("events.k8s.io", ["events"], ["create"]),
]
LABELLED = [rule("", ["secrets"], [*READ, "create", "patch"])]
INTENTS = rule(GROUP, ["webhooks"], ["create"])
NAMESPACES = rule("", ["namespaces"], READ)
REVIEWS = [
    rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
    rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
]
ALL = ["inngestapps", "functions", "webhooks"]
VIEW = [
    rule(GROUP, ALL, READ),
    rule(GROUP, ["functions/runs"], ["get", "list"]),
    rule(GROUP, ["inngestapps/events"], ["list"]),
]
EDIT = [
    rule(GROUP, ALL, ["create", "update", "patch", "delete"]),
    rule(GROUP, ["functions/payload"], ["get"]),
    rule(GROUP, ["functions/cancel", "functions/rerun", "functions/invoke"], ["create"]),
    rule(GROUP, ["inngestapps/events"], ["create"]),
]


def lease(fullname: str) -> list[Json]:
    """What it takes to be the active one of several."""
    group = "coordination.k8s.io"
    return [
        rule(group, ["leases"], ["create"]),
        rule(group, ["leases"], ["get", "update"], [f"{fullname}-operator"]),
    ]


def roles(release: Release) -> dict[tuple[str, str, str], list[Json]]:
    """The rules of every Role and ClusterRole, by kind, namespace and name."""
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each["rules"]
        for kind in ("ClusterRole", "Role")
        for each in release.of(kind)
    }


def people(fullname: str) -> dict[tuple[str, str, str], list[Json]]:
    """The ClusterRoles for people."""
    return {
        ("ClusterRole", "", f"{fullname}-view.{NAMESPACE}"): VIEW,
        ("ClusterRole", "", f"{fullname}-edit.{NAMESPACE}"): EDIT,
    }


def test_an_operator_of_the_whole_cluster(default: Release) -> None:
    assert roles(default) == people("innkeeper") | {
        ("ClusterRole", "", f"innkeeper-operator.{NAMESPACE}"): [*OPERATOR, *LABELLED, NAMESPACES],
        ("ClusterRole", "", f"innkeeper-gateway.{NAMESPACE}"): REVIEWS,
        ("Role", NAMESPACE, "innkeeper-operator-lease"): lease("innkeeper"),
    }


def test_an_operator_of_some_namespaces_reads_named_secrets_there(releases: dict[str, Release]) -> None:
    """Nothing cluster-wide, no right to any other Secret, none to write one."""

    def of(namespace: str, secrets: list[str]) -> dict[tuple[str, str, str], list[Json]]:
        own_namespace = rule("", ["namespaces"], ["get"], [namespace])
        return {
            ("Role", namespace, f"durable-operator.{NAMESPACE}"): [*OPERATOR, own_namespace],
            ("Role", namespace, f"durable-operator-secrets.{NAMESPACE}"): [
                rule("", ["secrets"], READ, secrets)
            ],
        }

    assert roles(releases["namespaced"]) == people("durable") | of(
        "shop", ["innkeeper-keys", "shop-inngest"]
    ) | of("shop-eu", ["innkeeper-keys"]) | {
        ("ClusterRole", "", f"durable-gateway.{NAMESPACE}"): REVIEWS,
        ("Role", NAMESPACE, "durable-operator-lease"): lease("durable"),
    }


def test_a_single_namespace_needs_nothing_cluster_wide(releases: dict[str, Release]) -> None:
    """Who has all rights in the two namespaces can install it."""
    minimal = releases["minimal"]
    assert roles(minimal) == {
        ("Role", "shop", f"innkeeper-operator.{NAMESPACE}"): [
            *OPERATOR,
            *LABELLED,
            rule("", ["namespaces"], ["get"], ["shop"]),
        ],
        ("Role", NAMESPACE, "innkeeper-operator-lease"): lease("innkeeper"),
    }
    assert {each["metadata"].get("namespace") for each in minimal.objects} == {NAMESPACE, "shop"}


def test_named_secrets_go_with_an_operator_of_the_whole_cluster(render_chart: Render) -> None:
    release = render_chart({"secrets": {"mode": "Named", "named": {"prod": ["innkeeper-keys"]}}})
    found = roles(release)
    assert found["ClusterRole", "", f"innkeeper-operator.{NAMESPACE}"] == [*OPERATOR, NAMESPACES]
    assert found["Role", "prod", f"innkeeper-operator-secrets.{NAMESPACE}"] == [
        rule("", ["secrets"], READ, ["innkeeper-keys"])
    ]


def test_apps_are_created_only_where_they_may_register_themselves(releases: dict[str, Release]) -> None:
    found = roles(releases["everything"])["ClusterRole", "", f"innkeeper-operator.{NAMESPACE}"]
    assert found[0] == rule(GROUP, ["inngestapps"], [*READ, "patch", "create"])
    assert found[1:] == [*OPERATOR[1:], INTENTS, *LABELLED, NAMESPACES]


def test_nobody_may_do_everything(release: Release) -> None:
    escalating = {"*", "escalate", "bind", "impersonate", "deletecollection"}
    for rules in roles(release).values():
        for each in rules:
            assert "*" not in [*each["apiGroups"], *each["resources"]]
            assert not escalating & set(each["verbs"])
            assert "nonResourceURLs" not in each


def test_rights_go_to_the_accounts_of_the_pods(release: Release) -> None:
    accounts = {each["metadata"]["name"] for each in release.of("ServiceAccount")}
    components = {pod.component for pod in release.pods()} & {"gateway", "executor", "operator", "export"}
    assert {release.pod(each).spec["serviceAccountName"] for each in components} == accounts
    bound = set()
    for binding in [*release.of("RoleBinding"), *release.of("ClusterRoleBinding")]:
        (subject,) = binding["subjects"]
        assert subject["kind"] == "ServiceAccount"
        assert subject["namespace"] == release.namespace
        assert subject["name"] in accounts
        assert not subject["name"].endswith(("-executor", "-export")), "they ask the API server for nothing"
        role = binding["roleRef"]
        namespace = binding["metadata"].get("namespace", "")
        assert (role["kind"], namespace if role["kind"] == "Role" else "", role["name"]) in roles(release)
        assert subject["name"].endswith("-gateway") == ("-gateway." in role["name"])
        bound.add((role["kind"], namespace, role["name"]))
    granted = {
        each for each in roles(release) if not each[2].endswith((f"-view.{NAMESPACE}", f"-edit.{NAMESPACE}"))
    }
    assert bound == granted


def test_people_get_their_rights_through_the_roles_of_the_cluster(default: Release) -> None:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"

    def aggregated(suffix: str) -> set[str]:
        labels = default.one("ClusterRole", f"{suffix}.{NAMESPACE}")["metadata"]["labels"]
        return {
            name.removeprefix(prefix)
            for name, value in labels.items()
            if name.startswith(prefix) and value == "true"
        }

    assert aggregated("view") == {"view", "edit", "admin"}
    assert aggregated("edit") == {"edit", "admin"}
    assert aggregated("operator") == aggregated("gateway") == set()


def test_payloads_are_not_for_view() -> None:
    assert not any("functions/payload" in each["resources"] for each in VIEW)


@pytest.mark.parametrize("create", [True, False])
def test_rights_can_be_left_to_the_admin(render_chart: Render, create: bool) -> None:
    release = render_chart({"rbac": {"create": create, "aggregate": False}})
    assert bool(roles(release)) == create
    assert bool(release.of("ClusterRoleBinding")) == create
    assert len(release.of("ServiceAccount")) == 3


def test_a_gateway_without_token_reviews_has_no_rights(render_chart: Render) -> None:
    release = render_chart({"gateway": {"tokenReview": False}})
    assert not any("gateway" in name for _, _, name in roles(release))
    assert release.pod("gateway").spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize("wanted", [True, False])
def test_a_gateway_asks_the_api_server_where_it_may(render_chart: Render, wanted: bool) -> None:
    """The setting goes with the right."""
    container = render_chart({"gateway": {"tokenReview": wanted}}).pod("gateway").spec["containers"][0]
    assert {each["name"]: each.get("value") for each in container["env"]}["INNKEEPER_TOKEN_REVIEW"] == (
        "true" if wanted else "false"
    )


def test_an_operator_makes_webhooks_only_where_people_may_ask_for_them(render_chart: Render) -> None:
    name = ("ClusterRole", "", f"innkeeper-operator.{NAMESPACE}")
    assert INTENTS not in roles(render_chart({}))[name]
    assert INTENTS in roles(render_chart({"webhookIntents": {"enabled": True}}))[name]
