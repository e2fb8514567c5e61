"""Requests as the API sees them, and what is checked of them before anything is done."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tests.kube import builtin, errors, metadata, schemas
from tests.kube.access import Identity
from tests.kube.errors import Cause, Obj, bad_request, invalid
from tests.kube.kinds import Kind
from tests.kube.managers import Manager
from tests.kube.store import Entry, Key

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY)


class Call(msgspec.Struct, kw_only=True):
    """One request, read."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    verb: str = ""
    query: Mapping[str, str] = {}
    body: Any = None
    content_type: str = "application/json"
    manager: str = "unknown"
    identity: Identity
    may: Callable[[str], None] = lambda verb: None
    """Raises 403 unless the sender may use a further verb on this object."""
    warnings: list[str] = msgspec.field(default_factory=list)
    """What the answer warns of."""

    @property
    def key(self) -> Key:
        return self.kind.storage, self.namespace, self.name

    @property
    def dry_run(self) -> bool:
        return self.query.get("dryRun") == "All"

    @property
    def applies(self) -> bool:
        return self.content_type == APPLY

    @property
    def writer(self) -> Manager:
        """Who writes, to managers of fields; those who apply are the same in every version of a kind."""
        if self.applies:
            return Manager(self.manager, "Apply", "", self.subresource)
        return Manager(self.manager, "Update", self.kind.api_version, self.subresource)


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One change that a client made; requests that changed nothing are none."""

    verb: str
    """create, update, patch, apply, delete."""
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    manager: str


def read_object(call: Call) -> Obj:
    """The object in a request's body, as it is stored. Raises 400 where it is not what the URL says."""
    kind, obj = call.kind, call.body
    if not isinstance(obj, dict):
        raise bad_request("the object provided is unrecognized (must be an object)")
    if call.applies and not (obj.get("kind") and obj.get("apiVersion")):
        raise bad_request("Object 'Kind' or 'apiVersion' is missing")
    if obj.setdefault("kind", kind.kind) != kind.kind:
        raise bad_request(f'{obj["kind"]} in version "{kind.version}" cannot be handled as a {kind.kind}')
    if obj.setdefault("apiVersion", kind.api_version) != kind.api_version:
        raise bad_request(
            f"the API version in the data ({obj['apiVersion']}) does not match the expected API version "
            f"({kind.api_version})"
        )
    obj = builtin.to_storage(kind, obj)
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    metadata.checked_types(obj)
    known = obj["metadata"]
    if call.name and known.setdefault("name", call.name) != call.name:
        raise bad_request(
            f"the name of the object ({known['name']}) does not match the name on the URL ({call.name})"
        )
    if kind.namespaced and known.setdefault("namespace", call.namespace) != call.namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    return obj


def check_version(call: Call, entry: Entry, uid: object, version: object) -> None:
    """Raise 409 if a write is meant for another object, or for another version of it, than is stored."""
    _check_uid(call, entry, uid)
    if version and str(version) != entry.obj["metadata"]["resourceVersion"]:
        raise errors.stale(call.kind.group, call.kind.plural, call.name)


def check_preconditions(call: Call, entry: Entry, preconditions: Obj) -> None:
    """Raise 409 if a deletion is meant for another object, or version of it, than is stored."""
    _check_uid(call, entry, preconditions.get("uid"))
    version, known = preconditions.get("resourceVersion"), entry.obj["metadata"]["resourceVersion"]
    if version and version != known:
        told = (
            f"Precondition failed: ResourceVersion in precondition: {version}, "
            f"ResourceVersion in object meta: {known}"
        )
        raise errors.conflict(call.kind.group, call.kind.plural, call.name, told)


def _check_uid(call: Call, entry: Entry, uid: object) -> None:
    known = entry.obj["metadata"]["uid"]
    if uid and uid != known:
        told = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {known}"
        raise errors.conflict(call.kind.group, call.kind.plural, call.name, told)


def prune(call: Call, obj: Obj) -> None:
    """Take unknown fields away; `fieldValidation` says whether that is an error, a warning (by default) or nothing."""
    kind = call.kind
    unknown = schemas.prune(obj, kind.schema) if kind.schema is not None else []
    mode = call.query.get("fieldValidation", "Warn")
    if not unknown or mode == "Ignore":
        return
    told = [f'unknown field "{path}"' for path in unknown]
    if mode == "Warn":
        call.warnings += told
        return
    message = f"strict decoding error: {', '.join(told)}"
    if call.verb == "patch":
        raise invalid("", "", "", [Cause("FieldValueInvalid", "patch", f"Invalid value: {message}")])
    raise bad_request(
        f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {message}'
    )


def check_applied(call: Call, applied: Obj) -> None:
    """Raise what server-side apply says to options and fields that it cannot take."""
    kind = call.kind
    if not call.query.get("fieldManager"):
        told = "Required value: is required for apply patch"
        raise bad_option("fieldManager", "FieldValueRequired", told)
    if applied["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    if kind.schema is not None and (unknown := schemas.prune(applied, kind.schema)):
        told = "; ".join(f".{path}: field not declared in schema" for path in unknown)
        where = f"{call.namespace}/{call.name}; {kind.api_version}, Kind={kind.kind}"
        raise errors.plain(f"failed to create typed patch object ({where}): {told}")


def bad_option(field: str, reason: str, told: str) -> errors.ApiError:
    """422 for an option of a patch."""
    return invalid("meta.k8s.io", "PatchOptions", "", [Cause(reason, field, told)])


def written_part(call: Call, obj: Obj) -> Obj:
    """What a write reaches of an object: only `status` through that subresource, all but `status` otherwise."""
    if call.subresource == "status":
        return {k: v for k, v in obj.items() if k in {"apiVersion", "kind", "status"}}
    return {k: v for k, v in obj.items() if k != "status" or not call.kind.has_status}
