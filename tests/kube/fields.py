"""Which fields an object has, as field managers count them, and their `FieldsV1` form.

A path is a tuple of FieldsV1 elements: `f:<field>`, `k:{"key":"value"}` for the item of a list that is a map, and
`v:<value>` for the item of a list that is a set. What is atomic (lists by default, maps marked so) is one leaf.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

from tests.kube.errors import Obj

Path = tuple[str, ...]
Leaves = dict[Path, Any]
"""Each leaf's value; `PRESENT` for what is owned apart from what is in it: items of lists that are maps, empty maps."""

PRESENT = object()

_ATOMIC: Obj = {"x-kubernetes-map-type": "atomic"}
_MAP: Obj = {"type": "object", "additionalProperties": _ATOMIC}
_METADATA: Obj = {
    "type": "object",
    "properties": {
        "labels": _MAP,
        "annotations": _MAP,
        "finalizers": {"x-kubernetes-list-type": "set"},
        "ownerReferences": {
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "items": _ATOMIC,
        },
    },
}
BUILTIN: Obj = {"type": "object", "properties": dict.fromkeys(("spec", "data", "status"), _MAP)}
"""Built-in kinds: each top-level field of `spec`, `data` and `status` is one leaf, and so is any other field."""

_UNMANAGED = frozenset(
    {
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    }
)


def leaves_of(obj: Obj, schema: Obj) -> Leaves:
    """The managed leaves of an object; `schema` is its kind's (`BUILTIN` for those that have none here)."""
    found: Leaves = {}
    metadata = {k: v for k, v in (obj.get("metadata") or {}).items() if k not in _UNMANAGED}
    if metadata:
        _collect(metadata, _METADATA, ("f:metadata",), found)
    properties = schema.get("properties") or {}
    for name, value in obj.items():
        if name not in {"apiVersion", "kind", "metadata"}:
            _collect(value, _property(schema, properties, name), (f"f:{name}",), found)
    return found


def _property(schema: Obj, properties: Obj, name: str) -> Obj:
    if name in properties:
        return properties[name]  # type: ignore[no-any-return]
    further = schema.get("additionalProperties")
    return further if isinstance(further, dict) else {}


def _collect(value: Any, schema: Obj, path: Path, found: Leaves) -> None:
    if isinstance(value, dict) and schema.get("x-kubernetes-map-type") != "atomic":
        if not value:
            found[path] = PRESENT
        properties = schema.get("properties") or {}
        for name, inner in value.items():
            _collect(inner, _property(schema, properties, name), (*path, f"f:{name}"), found)
        return
    if isinstance(value, list):
        list_type = schema.get("x-kubernetes-list-type")
        if list_type == "set":
            for item in value:
                found[*path, f"v:{_text(item)}"] = item
            return
        if list_type == "map":
            for item in value:
                _collect_item(item, schema, path, found)
            return
    found[path] = value


def _collect_item(item: Obj, schema: Obj, path: Path, found: Leaves) -> None:
    keys = schema["x-kubernetes-list-map-keys"]
    at = (*path, f"k:{_text({key: item.get(key) for key in keys})}")
    items = schema.get("items") or {}
    if items.get("x-kubernetes-map-type") == "atomic":
        found[at] = item
        return
    found[at] = PRESENT
    if isinstance(item, dict):
        _collect(item, items, at, found)


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def put(obj: Obj, path: Path, value: Any) -> None:
    """Set one leaf, making what is above it."""
    here: Any = obj
    for at, element in enumerate(path):
        last = at == len(path) - 1
        if element.startswith("f:"):
            name = element[2:]
            if last and value is not PRESENT:
                here[name] = value
            elif last:
                here[name] = here.get(name) or {}
            else:
                empty: Any = {} if path[at + 1].startswith("f:") else []
                if not isinstance(here.get(name), type(empty)):
                    here[name] = empty
                here = here[name]
        elif element.startswith("v:"):
            if value not in here:
                here.append(value)
        else:
            here = _put_item(here, orjson.loads(element[2:]), value if last else PRESENT)


def _put_item(items: list[Any], key: Obj, value: Any) -> Any:
    for at, item in enumerate(items):
        if _has_key(item, key):
            if value is not PRESENT:
                items[at] = value
            return items[at]
    items.append(value if value is not PRESENT else {k: v for k, v in key.items() if v is not None})
    return items[-1]


def _has_key(item: Any, key: Obj) -> bool:
    return isinstance(item, dict) and all(item.get(k) == v for k, v in key.items())


def remove(obj: Obj, path: Path, held: Collection[Path] = ()) -> None:
    """Take one leaf (or item) away, and what is left empty above it, up to the top-level field or what is held."""
    parents: list[Any] = [obj]
    for element in path[:-1]:
        parents.append(_step(parents[-1], element))
        if parents[-1] is None:
            return
    _drop(parents[-1], path[-1])
    for depth in range(len(path) - 1, 1, -1):
        if parents[depth] or path[:depth] in held:
            return
        _drop(parents[depth - 1], path[depth - 1])


def _step(container: Any, element: str) -> Any:
    if element.startswith("f:"):
        return container.get(element[2:]) if isinstance(container, dict) else None
    if element.startswith("v:") or not isinstance(container, list):
        return None
    key = orjson.loads(element[2:])
    return next((item for item in container if _has_key(item, key)), None)


def _drop(container: Any, element: str) -> None:
    if element.startswith("f:"):
        if isinstance(container, dict):
            container.pop(element[2:], None)
    elif isinstance(container, list):
        value = orjson.loads(element[2:])
        container[:] = [
            item
            for item in container
            if not (item == value if element.startswith("v:") else _has_key(item, value))
        ]


def to_tree(paths: Iterable[Path]) -> Obj:
    """The FieldsV1 object of a set of paths."""
    known = set(paths)
    root: Obj = {}
    for path in sorted(known):
        node = root
        for at, element in enumerate(path):
            node = node.setdefault(element, {})
            if at < len(path) - 1 and path[: at + 1] in known:
                node.setdefault(".", {})
    return root


def from_tree(tree: Mapping[str, Any]) -> set[Path]:
    """The set of paths of a FieldsV1 object."""
    found: set[Path] = set()
    pending: list[tuple[Path, Mapping[str, Any]]] = [((), tree)]
    while pending:
        path, node = pending.pop()
        if path and (not node or "." in node):
            found.add(path)
        pending.extend(((*path, element), inner) for element, inner in node.items() if element != ".")
    return found


def printed(path: Path) -> str:
    """A path as conflicts name it: `.spec.triggers`, `.metadata.ownerReferences[uid="1"]`."""
    told = ""
    for element in path:
        if element.startswith("f:"):
            told += f".{element[2:]}"
        elif element.startswith("v:"):
            told += f"[={element[2:]}]"
        else:
            key = orjson.loads(element[2:])
            told += "[" + ",".join(f"{name}={_text(value)}" for name, value in sorted(key.items())) + "]"
    return told
