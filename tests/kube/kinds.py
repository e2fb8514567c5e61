"""The kinds that an API server serves: the built-in ones that tests need, and those of installed CRDs."""

from collections.abc import Iterable, Iterator

import msgspec

from tests.kube.errors import Cause, Obj, invalid, qualified
from tests.kube.fields import BUILTIN

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_META_FIELDS = {"metadata.name": "string"}


class Kind(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One kind in one version."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str = ""
    list_kind: str = ""
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    has_status: bool = False
    """Whether `status` is a subresource: then the object's own URL does not write it."""
    has_generation: bool = False
    selectable: dict[str, str] = msgspec.field(default_factory=dict)
    """Fields that field selectors may name, with their types."""
    storage: tuple[str, str]
    """Where its objects are: shared by the versions of a kind, and by both kinds of Event."""
    schema: Obj | None = None
    """A custom kind's `openAPIV3Schema`; None for built-in ones."""
    crd: str = ""
    """The name of the CustomResourceDefinition."""
    shape: Obj
    """What field managers know of its structure."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        return qualified(self.group, self.plural)


def _builtin(group: str, version: str, kind: str, plural: str, **more: object) -> Kind:
    namespaced = more.get("namespaced", True)
    selectable = dict(_META_FIELDS)
    if namespaced:
        selectable["metadata.namespace"] = "string"
    selectable.update(more.pop("fields", {}))  # type: ignore[call-overload]
    return Kind(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        list_kind=f"{kind}List",
        selectable=selectable,
        storage=("", "events") if plural == "events" else (group, plural),
        shape=BUILTIN,
        **more,  # type: ignore[arg-type]
    )


_EVENT_FIELDS = {"reason": "string", "type": "string"}
_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_INVOLVED = {f"involvedObject.{field}": "string" for field in _REFERENCE}
_REGARDING = {f"regarding.{field}": "string" for field in _REFERENCE}
_CREATE_ONLY: dict[str, object] = {"namespaced": False, "verbs": ("create",)}

BUILTIN_KINDS: tuple[Kind, ...] = (
    _builtin(
        "", "v1", "Namespace", "namespaces", namespaced=False, short_names=("ns",), has_status=True,
        fields={"status.phase": "string"},
    ),
    _builtin("", "v1", "Secret", "secrets", fields={"type": "string"}),
    _builtin("", "v1", "ConfigMap", "configmaps", short_names=("cm",)),
    _builtin("", "v1", "Service", "services", short_names=("svc",), has_status=True, categories=("all",)),
    _builtin("", "v1", "ServiceAccount", "serviceaccounts", short_names=("sa",)),
    _builtin(
        "", "v1", "Pod", "pods", short_names=("po",), has_status=True, categories=("all",),
        fields={"spec.nodeName": "string", "status.phase": "string", "status.podIP": "string"},
    ),
    _builtin("", "v1", "Event", "events", short_names=("ev",), fields=_EVENT_FIELDS | _INVOLVED),
    _builtin("events.k8s.io", "v1", "Event", "events", short_names=("ev",), fields=_EVENT_FIELDS | _REGARDING),
    _builtin("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", has_generation=True),
    _builtin("coordination.k8s.io", "v1", "Lease", "leases"),
    _builtin(
        "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False,
        short_names=("crd", "crds"), has_status=True, has_generation=True,
    ),
    _builtin("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", **_CREATE_ONLY),
    _builtin("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", **_CREATE_ONLY),
    _builtin("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", **_CREATE_ONLY),
    _builtin("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", **_CREATE_ONLY),
)  # fmt: skip


def kinds_of_crd(crd: Obj) -> list[Kind]:
    """The kinds that a CustomResourceDefinition serves, one per served version. Raises 422 if it is none."""
    name = crd["metadata"].get("name", "")
    spec = crd.get("spec") or {}
    names, group, versions = spec.get("names") or {}, spec.get("group", ""), spec.get("versions") or []
    causes = _crd_faults(name, spec, names, versions)
    if causes:
        raise invalid("apiextensions.k8s.io", "CustomResourceDefinition", name, causes)
    found = []
    for version in versions:
        if not version.get("served"):
            continue
        schema = version["schema"]["openAPIV3Schema"]
        has_status = "status" in (version.get("subresources") or {})
        namespaced = spec["scope"] == "Namespaced"
        selectable = dict(_META_FIELDS) | ({"metadata.namespace": "string"} if namespaced else {})
        for field in version.get("selectableFields") or []:
            path = field["jsonPath"].removeprefix(".")
            selectable[path] = _type_at(schema, path)
        found.append(
            Kind(
                group=group,
                version=version["name"],
                kind=names["kind"],
                plural=names["plural"],
                singular=names.get("singular") or names["kind"].lower(),
                list_kind=names.get("listKind") or f"{names['kind']}List",
                namespaced=namespaced,
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                has_status=has_status,
                has_generation=True,
                selectable=selectable,
                storage=(group, names["plural"]),
                schema=schema,
                crd=name,
                shape=schema,
            )
        )
    return found


def _crd_faults(name: str, spec: Obj, names: Obj, versions: list[Obj]) -> list[Cause]:
    causes = [
        Cause("FieldValueRequired", f"spec.{field}", "Required value")
        for field, value in (
            ("group", spec.get("group")),
            ("scope", spec.get("scope")),
            ("names.plural", names.get("plural")),
            ("names.kind", names.get("kind")),
            ("versions", versions),
        )
        if not value
    ]
    if name != f"{names.get('plural')}.{spec.get('group')}":
        causes.append(
            Cause(
                "FieldValueInvalid",
                "metadata.name",
                f'Invalid value: "{name}": must be spec.names.plural+"."+spec.group',
            )
        )
    if versions and sum(bool(version.get("storage")) for version in versions) != 1:
        told = "Invalid value: must have exactly one version marked as storage version"
        causes.append(Cause("FieldValueInvalid", "spec.versions", told))
    for at, version in enumerate(versions):
        path = f"spec.versions[{at}]"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if not isinstance(schema, dict):
            told = "Required value: schemas are required"
            causes.append(Cause("FieldValueRequired", f"{path}.schema.openAPIV3Schema", told))
            continue
        for place, field in enumerate(version.get("selectableFields") or []):
            if not _type_at(schema, str(field.get("jsonPath", "")).removeprefix(".")):
                told = (
                    f'Invalid value: "{field.get("jsonPath")}": must point to a field of the schema '
                    "of type string, boolean or integer"
                )
                causes.append(Cause("FieldValueInvalid", f"{path}.selectableFields[{place}].jsonPath", told))
    return causes


def _type_at(schema: Obj, path: str) -> str:
    for name in path.split("."):
        schema = (schema.get("properties") or {}).get(name) or {}
    kind = schema.get("type", "")
    return kind if kind in {"string", "boolean", "integer"} else ""


class Kinds:
    """What is served now."""

    def __init__(self, builtin: Iterable[Kind] = BUILTIN_KINDS) -> None:
        self._builtin = {(kind.group, kind.version, kind.plural): kind for kind in builtin}
        self._custom: dict[str, list[Kind]] = {}
        self._known = dict(self._builtin)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._known.values())

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind at a URL."""
        return self._known.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Kind | None:
        """The kind that an object says it is of."""
        return next((k for k in self if k.api_version == api_version and k.kind == kind), None)

    def named(self, name: str) -> Kind:
        """The kind that a person calls `Function`, `functions`, `ifn` or `functions.innkeeper.dev`. Raises KeyError."""
        wanted = name.lower()
        for kind in self:
            if wanted in {kind.kind.lower(), kind.plural, kind.resource, *kind.short_names}:
                return kind
        raise KeyError(f"no kind is called {name!r}; there are {sorted({kind.resource for kind in self})}")

    @staticmethod
    def check(crd: Obj) -> None:
        """Raise 422 for a CRD that defines nothing that could be served."""
        kinds_of_crd(crd)

    def install(self, crd: Obj) -> None:
        """Serve (or serve anew) what a CRD defines. Raises 422."""
        self._custom[crd["metadata"]["name"]] = kinds_of_crd(crd)
        self._refresh()

    def uninstall(self, crd_name: str) -> None:
        """Serve what a CRD defined no longer."""
        self._custom.pop(crd_name, None)
        self._refresh()

    def of_crd(self, crd_name: str) -> list[Kind]:
        """The kinds that an installed CRD defines."""
        return self._custom.get(crd_name, [])

    def _refresh(self) -> None:
        self._known = dict(self._builtin)
        for kinds in self._custom.values():
            self._known.update({(kind.group, kind.version, kind.plural): kind for kind in kinds})
