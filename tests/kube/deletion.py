"""How objects go: finalizers, grace, owners, namespaces, CRDs.

What an API server does at once is in `Deletion`; what its controllers do a moment later (garbage of owners, the
contents of namespaces, instances of CRDs) is in `Controllers`.
"""

from collections.abc import Callable

from tests.kube.errors import Obj
from tests.kube.store import Change, Key, Storage, Store

NAMESPACES: Storage = ("", "namespaces")
SECRETS: Storage = ("", "secrets")
PODS: Storage = ("", "pods")
CRDS: Storage = ("apiextensions.k8s.io", "customresourcedefinitions")
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
CRD_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_CONTENT_CONDITIONS = (
    (
        "NamespaceDeletionDiscoveryFailure",
        False,
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    ("NamespaceDeletionContentFailure", False, "ContentDeleted", "All content successfully deleted"),
)


class Deletion:
    """The deletion of single objects."""

    def __init__(self, store: Store, now: Callable[[], str]) -> None:
        self._store = store
        self._now = now

    def delete(self, key: Key, policy: str = "Background", grace_s: int | None = None) -> tuple[Obj, bool]:
        """Delete an object; returns it as it is now, and whether it is gone. Raises KeyError if it is not there."""
        entry = self._store.get(key)
        if entry is None:
            raise KeyError(key)
        obj = entry.copy()
        metadata = obj["metadata"]
        was_deleted = "deletionTimestamp" in metadata
        finalizers = list(metadata.get("finalizers") or [])
        for wanted, finalizer in (("Foreground", FOREGROUND), ("Orphan", ORPHAN)):
            if policy == wanted and finalizer not in finalizers:
                finalizers.append(finalizer)
        if key[0] == CRDS and CRD_CLEANUP not in finalizers and not was_deleted:
            finalizers.append(CRD_CLEANUP)
        scheduled = key[0] == PODS and (obj.get("spec") or {}).get("nodeName")
        waits = bool(scheduled) and grace_s != 0
        if not finalizers and not waits and key[0] != NAMESPACES:
            return self._store.remove(key).obj, True
        if was_deleted and finalizers == (metadata.get("finalizers") or []):
            return entry.obj, False
        if finalizers:
            metadata["finalizers"] = finalizers
        metadata.setdefault("deletionTimestamp", self._now())
        metadata["deletionGracePeriodSeconds"] = (grace_s if grace_s is not None else 30) if waits else 0
        if "generation" in metadata and not was_deleted:
            metadata["generation"] += 1
        if key[0] == NAMESPACES:
            del metadata["deletionGracePeriodSeconds"]
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        return self._store.put(key, obj).obj, False

    @staticmethod
    def is_over(key: Key, obj: Obj) -> bool:
        """Whether nothing holds an object that is being deleted any more."""
        metadata = obj["metadata"]
        if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
            return False
        if key[0] == PODS:
            return int(metadata.get("deletionGracePeriodSeconds", 0)) == 0
        return key[0] != NAMESPACES or not (obj.get("spec") or {}).get("finalizers")


class Controllers:
    """What the controller manager does: it acts a moment after each change, and not while it is paused."""

    def __init__(
        self, store: Store, deletion: Deletion, schedule: Callable[[Callable[[], None]], object]
    ) -> None:
        self._store = store
        self._deletion = deletion
        self._schedule = schedule
        self._pending: list[Change] = []
        self._scheduled = False
        self.paused = False

    def noted(self, change: Change) -> None:
        """Take notice of a change."""
        self._pending.append(change)
        self._wake()

    def resume(self) -> None:
        """Act again, on all that happened meanwhile."""
        self.paused = False
        self._wake()

    def _wake(self) -> None:
        if not self._scheduled and not self.paused and self._pending:
            self._scheduled = True
            self._schedule(self._run)

    def _run(self) -> None:
        self._scheduled = False
        while self._pending and not self.paused:
            changes, self._pending = self._pending, []
            for change in changes:
                self._act(change)

    def _act(self, change: Change) -> None:
        obj = change.entry.obj
        metadata = obj["metadata"]
        key = (change.storage, metadata.get("namespace", ""), metadata["name"])
        if change.type == "DELETED":
            for dependent in self._store.dependents(metadata["uid"]):
                self._consider(dependent)
            for owner in metadata.get("ownerReferences") or []:
                if found := self._store.by_uid(owner["uid"]):
                    self._finish(found)
        else:
            if metadata.get("ownerReferences"):
                self._consider(key)
            if metadata.get("deletionTimestamp"):
                self._finish(key)
        if namespace := metadata.get("namespace"):
            self._finish((NAMESPACES, "", namespace))
        group, plural = change.storage
        if group and change.type == "DELETED":
            self._finish((CRDS, "", f"{plural}.{group}"))

    def _consider(self, key: Key) -> None:
        """Remove a dependent whose owners are all gone, and references to owners that are."""
        entry = self._store.get(key)
        owners = (entry.obj["metadata"].get("ownerReferences") or []) if entry else []
        if entry is None or not owners:
            return
        present = [owner for owner in owners if self._owner(owner["uid"], key[1])]
        if not present:
            self._deletion.delete(key)
            return
        if len(present) < len(owners):
            obj = entry.copy()
            obj["metadata"]["ownerReferences"] = present
            self._store.put(key, obj)
            return
        for owner in present:
            found = self._owner(owner["uid"], key[1])
            if found and FOREGROUND in (found["metadata"].get("finalizers") or []):
                self._deletion.delete(key)
                return

    def _owner(self, uid: str, namespace: str) -> Obj | None:
        key = self._store.by_uid(uid)
        entry = self._store.get(key) if key and key[1] in {"", namespace} else None
        return entry.obj if entry else None

    def _finish(self, key: Key) -> None:
        """Go on with an object that is being deleted."""
        entry = self._store.get(key)
        if entry is None or "deletionTimestamp" not in entry.obj["metadata"]:
            return
        finalizers = entry.obj["metadata"].get("finalizers") or []
        if key[0] == NAMESPACES:
            self._finish_namespace(key)
        elif CRD_CLEANUP in finalizers:
            self._finish_crd(key)
        elif ORPHAN in finalizers:
            self._orphan(entry.obj["metadata"]["uid"])
            self._release(key, ORPHAN)
        elif FOREGROUND in finalizers:
            uid = entry.obj["metadata"]["uid"]
            for dependent in self._store.dependents(uid):
                self._consider(dependent)
            if not any(self._blocks(dependent, uid) for dependent in self._store.dependents(uid)):
                self._release(key, FOREGROUND)

    def _blocks(self, key: Key, uid: str) -> bool:
        entry = self._store.get(key)
        owners = (entry.obj["metadata"].get("ownerReferences") or []) if entry else []
        return any(owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in owners)

    def _orphan(self, uid: str) -> None:
        for key in self._store.dependents(uid):
            entry = self._store.get(key)
            assert entry is not None
            obj = entry.copy()
            metadata = obj["metadata"]
            metadata["ownerReferences"] = [o for o in metadata["ownerReferences"] if o["uid"] != uid]
            if not metadata["ownerReferences"]:
                del metadata["ownerReferences"]
            self._store.put(key, obj)

    def _release(self, key: Key, finalizer: str) -> None:
        entry = self._store.get(key)
        assert entry is not None
        obj = entry.copy()
        left = [value for value in obj["metadata"]["finalizers"] if value != finalizer]
        if left:
            obj["metadata"]["finalizers"] = left
        else:
            del obj["metadata"]["finalizers"]
        if self._deletion.is_over(key, obj):
            self._store.remove(key, obj)
        else:
            self._store.put(key, obj)

    def _finish_crd(self, key: Key) -> None:
        plural, _, group = key[2].partition(".")
        for entry in self._store.entries((group, plural)):
            metadata = entry.obj["metadata"]
            self._deletion.delete(((group, plural), metadata.get("namespace", ""), metadata["name"]))
        if not self._store.entries((group, plural)):
            self._release(key, CRD_CLEANUP)

    def _finish_namespace(self, key: Key) -> None:
        """Delete what is in a namespace, Secrets first: what lives longer has to manage without them."""
        for inner in sorted(self._store.in_namespace(key[2]), key=lambda k: (k[0] != SECRETS, k)):
            if self._store.get(inner):
                self._deletion.delete(inner, grace_s=0)
        left = [
            (inner, entry)
            for inner in self._store.in_namespace(key[2])
            if (entry := self._store.get(inner)) is not None
        ]
        entry = self._store.get(key)
        assert entry is not None
        obj = entry.copy()
        if left:
            resources: dict[str, int] = {}
            finalizers: dict[str, int] = {}
            for inner, held in left:
                resource = f"{inner[0][1]}.{inner[0][0]}" if inner[0][0] else f"{inner[0][1]}."
                resources[resource] = resources.get(resource, 0) + 1
                for finalizer in held.obj["metadata"].get("finalizers") or []:
                    finalizers[finalizer] = finalizers.get(finalizer, 0) + 1
            obj["status"] = {
                "phase": "Terminating",
                "conditions": _namespace_conditions(resources, finalizers),
            }
            if obj["status"] != entry.obj.get("status"):
                self._store.put(key, obj)
            return
        obj["spec"] = {}
        if self._deletion.is_over(key, obj):
            self._store.remove(key, obj)
        elif obj["spec"] != entry.obj.get("spec"):
            self._store.put(key, obj)


def _namespace_conditions(resources: dict[str, int], finalizers: dict[str, int]) -> list[Obj]:
    some = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(resources.items()))
    held = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
    told = [
        *_CONTENT_CONDITIONS,
        ("NamespaceContentRemaining", True, "SomeResourcesRemain", f"Some resources are remaining: {some}"),
    ]
    if held:
        message = f"Some content in the namespace has finalizers remaining: {held}"
        told.append(("NamespaceFinalizersRemaining", True, "SomeFinalizersRemain", message))
    return [
        {"type": name, "status": "True" if true else "False", "reason": reason, "message": message}
        for name, true, reason, message in told
    ]
