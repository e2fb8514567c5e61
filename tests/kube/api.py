"""What the verbs of the API do to stored objects. Plain functions of a request: no HTTP, no waiting."""

import uuid
from collections.abc import Callable, Mapping, MutableSequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from tests.kube import builtin, errors, patches, schemas, validation
from tests.kube import metadata as meta
from tests.kube.access import Identity
from tests.kube.deletion import CRDS, NAMESPACES, Deletion
from tests.kube.errors import Cause, Obj, bad_request, invalid
from tests.kube.fields import leaves_of
from tests.kube.kinds import Kind, Kinds
from tests.kube.managers import (
    Manager,
    Managers,
    after_update,
    apply,
    parse_managers,
    same_owners,
    written_managers,
)
from tests.kube.store import Entry, Key, Store

APPLY = "application/apply-patch+yaml"
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY,
)
Validator = Callable[[Obj, Obj, Obj | None], list[str]]
"""`(crd, new, old) -> ["spec.id: Invalid value: ...", ...]`: the CEL rules of a CRD, which are not evaluated here."""

_UPDATED_ONLY_WITH_VERSION = {"Lease", "CustomResourceDefinition"}
_MAX_OBJECT_BYTES = 1_572_864


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
    may: Callable[[str], None]
    """Raises 403 unless the sender may use a further verb on this object."""
    warnings: list[str] = msgspec.field(default_factory=list)

    @property
    def key(self) -> Key:
        return self.kind.storage, self.namespace, self.name

    @property
    def dry_run(self) -> bool:
        return self.query.get("dryRun") == "All"


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


class Api:
    """The verbs, on one store."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        self.store = store
        self.kinds = kinds
        self.validator: Validator | None = None
        self.writes: MutableSequence[Write] = []
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.deletion = Deletion(store, self.now)

    def now(self) -> str:
        """The time as objects have it."""
        return self.clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    def live(self, call: Call) -> Entry:
        """The object that a request names. Raises 404."""
        entry = self.store.get(call.key)
        if entry is None:
            raise errors.not_found(call.kind.group, call.kind.plural, call.name)
        return entry

    # Creating

    def create(self, call: Call) -> Obj:
        """POST."""
        obj = self._read_body(call)
        name = obj["metadata"].get("name")
        if not name and obj["metadata"].get("generateName"):
            # The server's own alphabet leaves out what could make words; any five characters do here.
            obj["metadata"]["name"] = name = obj["metadata"]["generateName"] + uuid.uuid4().hex[:5]
        if obj["metadata"].get("resourceVersion"):
            raise errors.plain("resourceVersion should not be set on objects to be created")
        call.name = str(name or "")
        return self._insert(call, obj, None)

    def _insert(self, call: Call, obj: Obj, managers: Managers | None) -> Obj:
        kind = call.kind
        self._check_place(call)
        metadata = obj["metadata"]
        if kind.namespaced:
            metadata["namespace"] = call.namespace
        for field in (*meta.SYSTEM_FIELDS, "selfLink", "resourceVersion", "managedFields"):
            metadata.pop(field, None)
        self._prune(call, obj)
        if kind.has_status:
            obj.pop("status", None)
        self._complete(call, obj)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = self.now()
        if kind.has_generation:
            metadata["generation"] = 1
        self._check(call, obj, None)
        if self.store.get(call.key):
            raise errors.already_exists(kind.group, kind.plural, call.name)
        builtin.created(kind, obj)
        if managers is None:
            managers = after_update({}, self._me(call), {}, leaves_of(obj, kind.shape), self.now())
        metadata["managedFields"] = written_managers(managers)
        self._store(call, obj, None)
        return obj

    def _check_place(self, call: Call) -> None:
        if not call.kind.namespaced:
            return
        entry = self.store.get((NAMESPACES, "", call.namespace))
        if entry is None:
            raise errors.not_found("", "namespaces", call.namespace)
        if entry.obj["metadata"].get("deletionTimestamp"):
            raise errors.terminating(call.kind.group, call.kind.plural, call.name, call.namespace)

    # Changing

    def replace(self, call: Call) -> Obj:
        """PUT."""
        obj = self._read_body(call)
        entry = self.live(call)
        version = obj["metadata"].get("resourceVersion")
        if not version and (call.kind.schema is not None or call.kind.kind in _UPDATED_ONLY_WITH_VERSION):
            told = "Invalid value: 0: must be specified for an update"
            cause = Cause("FieldValueInvalid", "metadata.resourceVersion", told)
            raise invalid(call.kind.group, call.kind.kind, call.name, [cause])
        self._check_preconditions(call, entry, obj["metadata"].get("uid"), version)
        return self._change(call, entry, obj, None)

    def patch(self, call: Call) -> tuple[Obj, bool]:
        """PATCH of any kind; returns the object and whether it is new. Raises 415 for a patch that a kind has not."""
        kind = call.kind
        if call.content_type not in PATCH_TYPES:
            raise errors.unsupported_media_type(PATCH_TYPES)
        if call.content_type == APPLY:
            return self._apply(call)
        if "force" in call.query:
            raise _bad_option(
                "force", "FieldValueForbidden", "Forbidden: may not be specified for non-apply patch"
            )
        if kind.schema is not None and "strategic" in call.content_type:
            raise errors.unsupported_media_type([t for t in PATCH_TYPES if "strategic" not in t])
        entry = self.live(call)
        current = builtin.from_storage(kind, entry.copy())
        if call.content_type == PATCH_TYPES[0]:
            obj = patches.json_patch(current, call.body)
        elif not isinstance(call.body, dict):
            raise bad_request("error decoding patch: a merge patch is an object")
        elif call.content_type == PATCH_TYPES[1]:
            obj = patches.merge_patch(current, call.body)
        else:
            obj = patches.strategic_merge_patch(current, call.body)
        call.body = obj
        obj = self._read_body(call)
        self._check_preconditions(call, entry, None, obj["metadata"].get("resourceVersion"))
        if obj["metadata"].get("uid", entry.obj["metadata"]["uid"]) != entry.obj["metadata"]["uid"]:
            told = f'Invalid value: "{obj["metadata"]["uid"]}": field is immutable'
            raise invalid(
                kind.group, kind.kind, call.name, [Cause("FieldValueInvalid", "metadata.uid", told)]
            )
        return self._change(call, entry, obj, None), False

    def _apply(self, call: Call) -> tuple[Obj, bool]:
        kind = call.kind
        if not call.query.get("fieldManager"):
            raise _bad_option(
                "fieldManager", "FieldValueRequired", "Required value: is required for apply patch"
            )
        applied = self._read_body(call)
        if applied["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if kind.schema is not None and (unknown := schemas.prune(applied, kind.schema)):
            told = "; ".join(f".{path}: field not declared in schema" for path in unknown)
            where = f"{call.namespace}/{call.name}; {kind.api_version}, Kind={kind.kind}"
            raise errors.plain(f"failed to create typed patch object ({where}): {told}")
        entry = self.store.get(call.key)
        mine = {k: v for k, v in applied.items() if _is_written_by(kind, call.subresource, k)}
        version, uid = (applied["metadata"].pop(field, None) for field in ("resourceVersion", "uid"))
        force = call.query.get("force") in {"true", "1"}
        if entry is not None:
            self._check_preconditions(call, entry, uid, version)
            managers = parse_managers(entry.obj["metadata"].get("managedFields"))
            merged, managers = apply(
                entry.copy(), mine, kind.shape, managers, self._me(call), force=force, now=self.now()
            )
            return self._change(call, entry, merged, managers), False
        if call.subresource:
            raise errors.not_found(kind.group, kind.plural, call.name)
        if uid:
            told = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise errors.conflict(kind.group, kind.plural, call.name, told)
        call.may("create")
        new = {"apiVersion": applied["apiVersion"], "kind": kind.kind, "metadata": {"name": call.name}}
        merged, managers = apply(new, mine, kind.shape, {}, self._me(call), force=force, now=self.now())
        return self._insert(call, merged, managers), True

    def _change(self, call: Call, entry: Entry, obj: Obj, managers: Managers | None) -> Obj:
        """Store what a request made of an object; `managers` are the owners after an apply, None for other writes."""
        kind, old = call.kind, entry.obj
        given = obj["metadata"].pop("managedFields", None)
        self._prune(call, obj)
        if call.subresource == "status":
            status = obj.get("status")
            obj = entry.copy()
            obj.pop("status", None)
            if status is not None:
                obj["status"] = status
        elif kind.has_status:
            obj.pop("status", None)
            if "status" in old:
                obj["status"] = old["status"]
        metadata = obj["metadata"]
        for field in (*meta.SYSTEM_FIELDS, "resourceVersion", "name", "namespace"):
            metadata.pop(field, None)
            if field in old["metadata"]:
                metadata[field] = old["metadata"][field]
        metadata.pop("managedFields", None)
        obj["apiVersion"] = old["apiVersion"]
        self._complete(call, obj)
        self._check(call, obj, old)
        if kind.has_generation and _counts(kind, obj) != _counts(kind, old):
            metadata["generation"] = old["metadata"].get("generation", 0) + 1
        before = parse_managers(old["metadata"].get("managedFields"))
        if managers is None:
            base = {} if given == [{}] else parse_managers(given) or before
            mine, theirs = leaves_of(obj, kind.shape), leaves_of(old, kind.shape)
            managers = after_update(base, self._me(call), theirs, mine, self.now())
        bare = {**old, "metadata": {k: v for k, v in old["metadata"].items() if k != "managedFields"}}
        if obj == bare and same_owners(before, managers):
            return old
        if managers:
            metadata["managedFields"] = written_managers(managers)
        self._store(call, obj, entry)
        return obj

    # Deleting

    def delete(self, call: Call, entry: Entry | None = None) -> tuple[Obj, bool]:
        """DELETE of one object; returns it as it is now, and whether it is gone."""
        entry = entry or self.live(call)
        options = call.body if isinstance(call.body, dict) else {}
        preconditions = options.get("preconditions") or {}
        self._check_preconditions(
            call, entry, preconditions.get("uid"), preconditions.get("resourceVersion"), precondition=True
        )
        policy = options.get("propagationPolicy") or call.query.get("propagationPolicy") or "Background"
        grace = options.get("gracePeriodSeconds", call.query.get("gracePeriodSeconds"))
        if call.dry_run or options.get("dryRun") == ["All"]:
            return entry.obj, True
        obj, gone = self.deletion.delete(call.key, policy, None if grace is None else int(grace))
        if obj is not entry.obj:
            self._note(call, "delete")
        return obj, gone

    # What all share

    def _read_body(self, call: Call) -> Obj:
        kind, obj = call.kind, call.body
        if not isinstance(obj, dict):
            raise bad_request("the object provided is unrecognized (must be an object)")
        applying = call.content_type == APPLY
        if applying and not (obj.get("kind") and obj.get("apiVersion")):
            raise bad_request("Object 'Kind' or 'apiVersion' is missing")
        if obj.setdefault("kind", kind.kind) != kind.kind:
            raise bad_request(f"{obj['kind']} in version {kind.version!r} cannot be handled as a {kind.kind}")
        if obj.setdefault("apiVersion", kind.api_version) != kind.api_version:
            raise bad_request(
                f"the API version in the data ({obj['apiVersion']}) does not match the expected API version "
                f"({kind.api_version})"
            )
        obj = builtin.to_storage(kind, obj)
        if obj.get("metadata") is None:
            obj["metadata"] = {}
        meta.checked_types(obj)
        metadata = obj["metadata"]
        if call.name:
            name = metadata.setdefault("name", call.name)
            if name != call.name:
                raise bad_request(
                    f"the name of the object ({name}) does not match the name on the URL ({call.name})"
                )
        if kind.namespaced and metadata.setdefault("namespace", call.namespace) != call.namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        return obj

    def _check_preconditions(
        self, call: Call, entry: Entry, uid: object, version: object, *, precondition: bool = False
    ) -> None:
        kind, known = call.kind, entry.obj["metadata"]
        if uid and uid != known["uid"]:
            told = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {known['uid']}"
            raise errors.conflict(kind.group, kind.plural, call.name, told)
        if version and str(version) != known["resourceVersion"]:
            if precondition:
                told = (
                    f"Precondition failed: ResourceVersion in precondition: {version}, "
                    f"ResourceVersion in object meta: {known['resourceVersion']}"
                )
                raise errors.conflict(kind.group, kind.plural, call.name, told)
            raise errors.stale(kind.group, kind.plural, call.name)

    def _prune(self, call: Call, obj: Obj) -> None:
        kind = call.kind
        unknown = schemas.prune(obj, kind.schema) if kind.schema is not None else []
        mode = call.query.get("fieldValidation", "Warn")
        if not unknown or mode == "Ignore":
            return
        told = [f'unknown field "{path}"' for path in unknown]
        if mode == "Warn":
            call.warnings += told
        elif call.verb == "patch":
            message = f"Invalid value: the patch: strict decoding error: {', '.join(told)}"
            raise invalid("", "", "", [Cause("FieldValueInvalid", "patch", message)])
        else:
            raise bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                f"strict decoding error: {', '.join(told)}"
            )

    def _complete(self, call: Call, obj: Obj) -> None:
        if call.kind.schema is not None:
            schemas.complete(obj, call.kind.schema)
        else:
            builtin.complete(call.kind, obj)

    def _check(self, call: Call, obj: Obj, old: Obj | None) -> None:
        kind = call.kind
        causes = meta.check(kind.kind, obj)
        if old is not None:
            causes += meta.check_finalizers(old, obj)
        if kind.schema is None:
            causes += builtin.check(kind, obj, old)
        else:
            causes += validation.validate(obj, kind.schema)
            if not causes and self.validator is not None:
                crd = self.store.get((CRDS, "", kind.crd))
                assert crd is not None
                for told in self.validator(crd.obj, obj, old):
                    field, _, message = told.partition(": ")
                    causes.append(Cause("FieldValueInvalid", field, message))
        if causes:
            raise invalid(kind.group, kind.kind, call.name, causes)

    def _store(self, call: Call, obj: Obj, entry: Entry | None) -> None:
        if len(msgspec.json.encode(obj)) > _MAX_OBJECT_BYTES:
            raise errors.plain("etcdserver: request is too large")
        if call.dry_run:
            return
        if call.kind.storage == CRDS:
            self.kinds.install(obj)
        if entry is not None and self.deletion.is_over(call.key, obj):
            self.store.remove(call.key, obj)
        else:
            self.store.put(call.key, obj)
        self._note(call, "apply" if call.content_type == APPLY else call.verb)

    def _note(self, call: Call, verb: str) -> None:
        self.writes.append(
            Write(
                verb=verb,
                group=call.kind.group,
                resource=call.kind.plural,
                subresource=call.subresource,
                namespace=call.namespace,
                name=call.name,
                manager=call.manager,
            )
        )

    def _me(self, call: Call) -> Manager:
        operation = "Apply" if call.content_type == APPLY else "Update"
        return Manager(call.manager, operation, call.kind.api_version, call.subresource)


def _bad_option(field: str, reason: str, told: str) -> errors.ApiError:
    return invalid("meta.k8s.io", "PatchOptions", "", [Cause(reason, field, told)])


def _is_written_by(kind: Kind, subresource: str, field: str) -> bool:
    """Whether a write to the object (or to a subresource of it) reaches a top-level field."""
    if field in {"apiVersion", "kind"}:
        return True
    if subresource == "status":
        return field == "status"
    return field != "status" or not kind.has_status


def _counts(kind: Kind, obj: Obj) -> Obj:
    """What `generation` counts the changes of."""
    return {k: v for k, v in obj.items() if k != "metadata" and not (k == "status" and kind.has_status)}
