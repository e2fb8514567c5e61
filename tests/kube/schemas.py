"""What a CRD's schema does to an object before it is validated: unknown fields go, nulls go, defaults come."""

from typing import Any

from tests.kube.errors import Obj
from tests.kube.patches import copied

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_OBJECT_META = frozenset(
    {
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


def prune(obj: Obj, schema: Obj) -> list[str]:
    """Take the fields away that the schema does not know; returns their paths, such as `spec.triggers[0].iff`."""
    gone: list[str] = []
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        for name in [name for name in metadata if name not in _OBJECT_META]:
            del metadata[name]
            gone.append(f"metadata.{name}")
    _prune_object(obj, schema, "", gone, kept=frozenset({"apiVersion", "kind", "metadata"}))
    return gone


def _prune(value: Any, schema: Obj, path: str, gone: list[str]) -> None:
    if isinstance(value, dict):
        embedded = schema.get("x-kubernetes-embedded-resource")
        kept = frozenset({"apiVersion", "kind", "metadata"}) if embedded else frozenset[str]()
        _prune_object(value, schema, path, gone, kept)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for at, item in enumerate(value):
            _prune(item, schema["items"], f"{path}[{at}]", gone)


def _prune_object(value: Obj, schema: Obj, path: str, gone: list[str], kept: frozenset[str]) -> None:
    properties = schema.get("properties") or {}
    further = schema.get("additionalProperties")
    for name in list(value):
        if name in kept:
            continue
        at = f"{path}.{name}" if path else name
        if name in properties:
            _prune(value[name], properties[name], at, gone)
        elif isinstance(further, dict):
            _prune(value[name], further, at, gone)
        elif not schema.get(_PRESERVE) and further is not True:
            del value[name]
            gone.append(at)


def complete(value: Any, schema: Obj) -> None:
    """Drop nulls of fields that are not nullable, and fill in defaults, at every depth."""
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        further = schema.get("additionalProperties")
        for name in list(value):
            inner = properties.get(name) or (further if isinstance(further, dict) else None)
            if value[name] is None and inner is not None and not inner.get("nullable"):
                del value[name]
        for name, inner in properties.items():
            if name not in value and "default" in inner:
                value[name] = copied(inner["default"])
        for name, held in value.items():
            inner = properties.get(name) or (further if isinstance(further, dict) else None)
            if inner is not None:
                complete(held, inner)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            complete(item, schema["items"])
