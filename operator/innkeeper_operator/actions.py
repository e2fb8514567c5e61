"""What a plan asks of the cluster, as data. `cluster.py` does it; each action is safe to repeat."""

from typing import Any, Literal, TypeAlias

import msgspec

from innkeeper_operator.objects import Meta

Json = dict[str, Any]
StatusKind: TypeAlias = Literal["InngestApp", "Function", "Webhook"]
Level: TypeAlias = Literal["Normal", "Warning"]


class Apply(msgspec.Struct, frozen=True, kw_only=True):
    """Server-side apply of an object of the operator's own (field manager `innkeeper-operator`)."""

    manifest: Json
    force: bool = True

    def __repr__(self) -> str:
        """What is applied, without its content: it may be a Secret."""
        return f"Apply({_named(self.manifest)}, force={self.force})"


class Create(msgspec.Struct, frozen=True, kw_only=True):
    """Create an object; one that has the name already stays as it is, and that is fine."""

    manifest: Json

    def __repr__(self) -> str:
        """What is created, without its content: it may be a Secret."""
        return f"Create({_named(self.manifest)})"


class Delete(msgspec.Struct, frozen=True, kw_only=True):
    """Delete this very object; gone already is fine."""

    kind: str
    namespace: str
    name: str
    uid: str


class SetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Make `status` so (the whole of it). Only sent where it differs from what is there."""

    kind: StatusKind
    namespace: str
    name: str
    uid: str
    status: Json


class SetFinalizer(msgspec.Struct, frozen=True, kw_only=True):
    """Put the operator's finalizer on an InngestApp, or take it off; other finalizers stay."""

    namespace: str
    name: str
    uid: str
    present: bool


class Tell(msgspec.Struct, frozen=True, kw_only=True):
    """A Kubernetes Event about an object."""

    kind: str
    namespace: str
    name: str
    uid: str
    type: Level
    reason: str
    message: str


def set_status(kind: StatusKind, meta: Meta, status: Json) -> SetStatus:
    """Make the status of the object with this metadata so."""
    return SetStatus(kind=kind, namespace=meta.namespace, name=meta.name, uid=meta.uid, status=status)


def tell(kind: str, meta: Meta, level: Level, reason: str, message: str) -> Tell:
    """Tell of the object with this metadata; of a namespace, in the namespace itself."""
    return Tell(
        kind=kind,
        namespace=meta.namespace or meta.name,
        name=meta.name,
        uid=meta.uid,
        type=level,
        reason=reason,
        message=message,
    )


def _named(manifest: Json) -> str:
    meta = manifest.get("metadata") or {}
    return f"{manifest.get('kind')} {meta.get('namespace')}/{meta.get('name')}"


Action: TypeAlias = Apply | Create | Delete | SetStatus | SetFinalizer | Tell
