"""What the verbs of the API do to stored objects. Plain functions of a request: no HTTP, no waiting."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from tests.kube import builtin, errors, metadata, patches, schemas, validation
from tests.kube.calls import (
    JSON_PATCH,
    MERGE_PATCH,
    PATCH_TYPES,
    STRATEGIC_PATCH,
    Call,
    Write,
    bad_option,
    check_applied,
    check_preconditions,
    check_version,
    prune,
    read_object,
    written_part,
)
from tests.kube.deletion import CRDS, NAMESPACES, Deletion
from tests.kube.errors import Cause, Obj, bad_request, invalid
from tests.kube.fields import leaves_of
from tests.kube.kinds import Kind, Kinds
from tests.kube.managers import (
    Managers,
    after_update,
    apply,
    parse_managers,
    same_owners,
    written_managers,
)
from tests.kube.store import Entry, Store

Validator = Callable[[Obj, Obj, Obj | None], list[str]]
"""`(crd, new, old) -> ["spec.id: Invalid value: ...", ...]`: the CEL rules of a CRD, which are not evaluated here."""

_UPDATED_ONLY_WITH_VERSION = {"Lease", "CustomResourceDefinition"}
_MAX_OBJECT_BYTES = 1_572_864


class Api:
    """The verbs, on one store."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        self.store = store
        self.kinds = kinds
        self.validator: Validator | None = None
        self.writes: list[Write] = []
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
        obj = read_object(call)
        known = obj["metadata"]
        if not known.get("name") and known.get("generateName"):
            # The server's own alphabet leaves out what could make words; any five characters do here.
            known["name"] = known["generateName"] + uuid.uuid4().hex[:5]
        if known.get("resourceVersion"):
            raise errors.plain("resourceVersion should not be set on objects to be created")
        call.name = known.get("name", "")
        return self._insert(call, obj, None)

    def _insert(self, call: Call, obj: Obj, managers: Managers | None) -> Obj:
        """Store a new object; `managers` are its owners after an apply, None for other writes."""
        kind, known = call.kind, obj["metadata"]
        self._check_place(call)
        if kind.namespaced:
            known["namespace"] = call.namespace
        for field in (*metadata.SYSTEM_FIELDS, "selfLink", "resourceVersion", "managedFields"):
            known.pop(field, None)
        prune(call, obj)
        if kind.has_status:
            obj.pop("status", None)
        self._complete(call, obj)
        known["uid"] = str(uuid.uuid4())
        known["creationTimestamp"] = self.now()
        if kind.has_generation:
            known["generation"] = 1
        self._check(call, obj, None)
        if self.store.get(call.key):
            raise errors.already_exists(kind.group, kind.plural, call.name)
        builtin.created(kind, obj)
        if managers is None:
            managers = after_update({}, call.writer, {}, leaves_of(obj, kind.shape), self._stamp(call))
        known["managedFields"] = written_managers(managers)
        self._store(call, obj, None)
        return obj

    def _check_place(self, call: Call) -> None:
        """Raise unless there can be new objects of this kind in this namespace."""
        kind = call.kind
        crd = self.store.get((CRDS, "", kind.crd)) if kind.crd else None
        if crd is not None and crd.obj["metadata"].get("deletionTimestamp"):
            raise errors.method_not_allowed(kind.group, kind.plural)
        if not kind.namespaced:
            return
        namespace = self.store.get((NAMESPACES, "", call.namespace))
        if namespace is None:
            raise errors.not_found("", "namespaces", call.namespace)
        if namespace.obj["metadata"].get("deletionTimestamp"):
            raise errors.terminating(kind.group, kind.plural, call.name, call.namespace)

    # Changing

    def replace(self, call: Call) -> Obj:
        """PUT."""
        kind, obj, entry = call.kind, read_object(call), self.live(call)
        version = obj["metadata"].get("resourceVersion")
        if not version and (kind.schema is not None or kind.kind in _UPDATED_ONLY_WITH_VERSION):
            told = "Invalid value: 0: must be specified for an update"
            cause = Cause("FieldValueInvalid", "metadata.resourceVersion", told)
            raise invalid(kind.group, kind.kind, call.name, [cause])
        check_version(call, entry, obj["metadata"].get("uid"), version)
        return self._change(call, entry, obj, None)

    def patch(self, call: Call) -> tuple[Obj, bool]:
        """PATCH of any type; returns the object and whether it is new. Raises 415 for a type that the kind has not."""
        kind = call.kind
        if call.content_type not in PATCH_TYPES:
            raise errors.unsupported_media_type(PATCH_TYPES)
        if call.applies:
            return self._apply(call)
        if "force" in call.query:
            told = "Forbidden: may not be specified for non-apply patch"
            raise bad_option("force", "FieldValueForbidden", told)
        if kind.schema is not None and call.content_type == STRATEGIC_PATCH:
            raise errors.unsupported_media_type([t for t in PATCH_TYPES if t != STRATEGIC_PATCH])
        entry = self.live(call)
        current = builtin.from_storage(kind, entry.copy())
        if call.content_type == JSON_PATCH:
            call.body = patches.json_patch(current, call.body)
        elif not isinstance(call.body, dict):
            raise bad_request("error decoding patch: a merge patch is an object")
        elif call.content_type == MERGE_PATCH:
            call.body = patches.merge_patch(current, call.body)
        else:
            call.body = patches.strategic_merge_patch(current, call.body)
        obj = read_object(call)
        check_version(call, entry, None, obj["metadata"].get("resourceVersion"))
        uid = obj["metadata"].get("uid", entry.obj["metadata"]["uid"])
        if uid != entry.obj["metadata"]["uid"]:
            cause = Cause("FieldValueInvalid", "metadata.uid", f'Invalid value: "{uid}": field is immutable')
            raise invalid(kind.group, kind.kind, call.name, [cause])
        return self._change(call, entry, obj, None), False

    def _apply(self, call: Call) -> tuple[Obj, bool]:
        kind, applied = call.kind, read_object(call)
        check_applied(call, applied)
        version, uid = (applied["metadata"].pop(field, None) for field in ("resourceVersion", "uid"))
        force = call.query.get("force") in {"true", "1"}
        mine, stamp, entry = written_part(call, applied), self._stamp(call), self.store.get(call.key)
        if entry is not None:
            check_version(call, entry, uid, version)
            managers = parse_managers(entry.obj["metadata"].get("managedFields"))
            merged = entry.copy()
            managers = apply(merged, mine, kind.shape, managers, call.writer, stamp, force=force)
            return self._change(call, entry, merged, managers), False
        if call.subresource:
            raise errors.not_found(kind.group, kind.plural, call.name)
        if uid:
            told = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise errors.conflict(kind.group, kind.plural, call.name, told)
        call.may("create")
        new = {"apiVersion": applied["apiVersion"], "kind": kind.kind, "metadata": {"name": call.name}}
        managers = apply(new, mine, kind.shape, {}, call.writer, stamp, force=force)
        return self._insert(call, new, managers), True

    def _change(self, call: Call, entry: Entry, obj: Obj, managers: Managers | None) -> Obj:
        """Store what a request made of an object; `managers` are its owners after an apply, None for other writes."""
        kind, old = call.kind, entry.obj
        given = obj["metadata"].pop("managedFields", None)
        prune(call, obj)
        obj = _isolated(call, entry, obj)
        known = obj["metadata"]
        self._complete(call, obj)
        self._check(call, obj, old)
        if kind.has_generation and _counted(kind, obj) != _counted(kind, old):
            known["generation"] = old["metadata"].get("generation", 0) + 1
        before = parse_managers(old["metadata"].get("managedFields"))
        if managers is None:
            base = {} if given == [{}] else parse_managers(given) or before
            mine, theirs = leaves_of(obj, kind.shape), leaves_of(old, kind.shape)
            managers = after_update(base, call.writer, theirs, mine, self._stamp(call))
        bare = {**old, "metadata": {k: v for k, v in old["metadata"].items() if k != "managedFields"}}
        if obj == bare and same_owners(before, managers):
            return old
        if managers:
            known["managedFields"] = written_managers(managers)
        self._store(call, obj, entry)
        return obj

    # Deleting

    def delete(self, call: Call, entry: Entry | None = None) -> tuple[Obj, bool]:
        """DELETE of one object; returns it as it is now, and whether it is gone."""
        entry = entry or self.live(call)
        options = call.body if isinstance(call.body, dict) else {}
        check_preconditions(call, entry, options.get("preconditions") or {})
        policy = options.get("propagationPolicy") or call.query.get("propagationPolicy") or "Background"
        if policy not in {"Background", "Foreground", "Orphan"}:
            raise bad_request(f"invalid propagationPolicy {policy!r}: Background, Foreground or Orphan")
        grace = options.get("gracePeriodSeconds", call.query.get("gracePeriodSeconds"))
        if call.dry_run or options.get("dryRun") == ["All"]:
            return entry.obj, True
        obj, gone = self.deletion.delete(call.key, policy, None if grace is None else int(grace))
        if obj is not entry.obj:
            self._note(call, "delete")
        return obj, gone

    # What all share

    def _complete(self, call: Call, obj: Obj) -> None:
        if call.kind.schema is not None:
            schemas.complete(obj, call.kind.schema)
        else:
            builtin.complete(call.kind, obj)

    def _check(self, call: Call, obj: Obj, old: Obj | None) -> None:
        kind = call.kind
        causes = metadata.check(kind.kind, obj)
        if old is not None:
            causes += metadata.check_finalizers(old, obj)
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

    def _stamp(self, call: Call) -> tuple[str, str]:
        """Version and time, as they are noted for what somebody owns."""
        return call.kind.api_version, self.now()

    def _store(self, call: Call, obj: Obj, entry: Entry | None) -> None:
        if len(patches.encoded(obj)) > _MAX_OBJECT_BYTES:
            raise errors.plain("etcdserver: request is too large")
        if call.kind.storage == CRDS:
            self.kinds.check(obj)
        if call.dry_run:
            return
        if call.kind.storage == CRDS:
            self.kinds.install(obj)
        if entry is not None and self.deletion.is_over(call.key, obj):
            self.store.remove(call.key, obj)
        else:
            self.store.put(call.key, obj)
        self._note(call, "apply" if call.applies else call.verb)

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


def _isolated(call: Call, entry: Entry, obj: Obj) -> Obj:
    """What a write may change of an object, on top of what it may not."""
    # A copy, because what is stored never changes, and what is written may still be completed.
    old = entry.copy()
    if call.subresource == "status":
        sent, obj = obj, entry.copy()
        obj.pop("status", None)
        if sent.get("status") is not None:
            obj["status"] = sent["status"]
    elif call.kind.has_status:
        obj.pop("status", None)
        if "status" in old:
            obj["status"] = old["status"]
    known = obj["metadata"]
    for field in (*metadata.SYSTEM_FIELDS, "resourceVersion", "name", "namespace"):
        known.pop(field, None)
        if field in old["metadata"]:
            known[field] = old["metadata"][field]
    known.pop("managedFields", None)
    obj["apiVersion"] = old["apiVersion"]
    return obj


def _counted(kind: Kind, obj: Obj) -> Obj:
    """What `generation` counts the changes of."""
    return {k: v for k, v in obj.items() if k != "metadata" and not (k == "status" and kind.has_status)}
