"""The documents by which clients find out what an API server serves."""

from collections.abc import Iterable

from tests.kube.errors import Obj
from tests.kube.kinds import Kind

VERSION: Obj = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0+emulator",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}


def document(path: tuple[str, ...], kinds: Iterable[Kind]) -> Obj | None:
    """The discovery document at a path such as `("apis", "innkeeper.dev")`; None where there is none."""
    match path:
        case ("version",):
            return VERSION
        case ("api",):
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ("api", version):
            return _resources("", version, kinds)
        case ("apis",):
            groups = _groups(kinds)
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(groups.values())}
        case ("apis", group):
            found = _groups(kinds).get(group)
            return {"kind": "APIGroup", "apiVersion": "v1", **found} if found else None
        case ("apis", group, version):
            return _resources(group, version, kinds)
    return None


def _groups(kinds: Iterable[Kind]) -> dict[str, Obj]:
    groups: dict[str, Obj] = {}
    for kind in kinds:
        if not kind.group:
            continue
        version = {"groupVersion": kind.api_version, "version": kind.version}
        group = groups.setdefault(
            kind.group, {"name": kind.group, "versions": [], "preferredVersion": version}
        )
        if version not in group["versions"]:
            group["versions"].append(version)
    return groups


def _resources(group: str, version: str, kinds: Iterable[Kind]) -> Obj | None:
    resources: list[Obj] = []
    for kind in kinds:
        if (kind.group, kind.version) != (group, version):
            continue
        entry: Obj = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs),
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        resources.append(entry)
        if kind.has_status:
            resources.append(
                {
                    "name": f"{kind.plural}/status",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    "kind": kind.kind,
                    "verbs": ["get", "patch", "update"],
                }
            )
    if not resources:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }
