"""Who asks, and whether RBAC lets them."""

from collections.abc import Iterable, Sequence

import msgspec

from tests.kube.errors import Obj


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a Role or ClusterRole, where it is bound."""

    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    """Empty: all names."""
    namespace: str = ""
    """Where it holds; "" for the whole cluster, cluster-wide kinds included."""

    def allows(self, asked: "Asked") -> bool:
        """Whether this rule lets it through."""
        resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        return (
            (not self.namespace or self.namespace == asked.namespace)
            and _matches(self.verbs, asked.verb)
            and _matches(self.api_groups, asked.group)
            and (_matches(self.resources, resource) or f"*/{asked.subresource}" in self.resources)
            and (not self.resource_names or asked.name in self.resource_names)
        )


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as RBAC sees it."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    user: str = ""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whose token it is."""

    user: str
    groups: tuple[str, ...] = ("system:authenticated",)
    rules: tuple[Rule, ...] | None = None
    """None: may do everything."""

    def may(self, asked: Asked) -> bool:
        """Whether RBAC lets them."""
        return self.rules is None or any(rule.allows(asked) for rule in self.rules)


def _matches(allowed: Sequence[str], value: str) -> bool:
    return value in allowed or "*" in allowed


def rules_bound_to(manifests: Iterable[Obj], namespace: str, service_account: str) -> list[Rule]:
    """What a ServiceAccount may do by the Roles, ClusterRoles and bindings among rendered manifests.

    Bindings to groups are not looked at, nor is the aggregation of ClusterRoles. Raises ValueError for a binding to a
    role that is not among the manifests.
    """
    roles: dict[tuple[str, str, str], Obj] = {}
    bindings: list[Obj] = []
    for manifest in manifests:
        kind, metadata = manifest.get("kind"), manifest.get("metadata") or {}
        if kind in {"Role", "ClusterRole"}:
            where = metadata.get("namespace", namespace) if kind == "Role" else ""
            roles[kind, where, metadata["name"]] = manifest
        elif kind in {"RoleBinding", "ClusterRoleBinding"}:
            bindings.append(manifest)
    found: list[Rule] = []
    for binding in bindings:
        where = ""
        if binding["kind"] == "RoleBinding":
            where = binding["metadata"].get("namespace", namespace)
        subjects = binding.get("subjects") or []
        if not any(_is_account(subject, namespace, service_account, where) for subject in subjects):
            continue
        ref = binding["roleRef"]
        role = roles.get((ref["kind"], where if ref["kind"] == "Role" else "", ref["name"]))
        if role is None:
            raise ValueError(
                f"{binding['kind']} {binding['metadata']['name']}: there is no {ref['kind']} {ref['name']}"
            )
        found += [_rule(rule, where) for rule in role.get("rules") or []]
    return found


def _is_account(subject: Obj, namespace: str, name: str, where: str) -> bool:
    return (
        subject.get("kind") == "ServiceAccount"
        and subject.get("name") == name
        and subject.get("namespace", where) == namespace
    )


def _rule(rule: Obj, namespace: str) -> Rule:
    return Rule(
        api_groups=tuple(rule.get("apiGroups") or ()),
        resources=tuple(rule.get("resources") or ()),
        verbs=tuple(rule.get("verbs") or ()),
        resource_names=tuple(rule.get("resourceNames") or ()),
        namespace=namespace,
    )
