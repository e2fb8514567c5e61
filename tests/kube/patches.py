"""The three kinds of patches that are applied without field managers: JSON merge, JSON, and strategic merge."""

from typing import Any

import orjson

from tests.kube.errors import ApiError, Obj, bad_request

_MERGE_KEYS = {
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "ports": ("port", "containerPort"),
    "secrets": ("name",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""Lists of built-in kinds that strategic merge patches merge by a key; the first key that an item has counts."""
_MERGED_SETS = {"finalizers"}


def encoded(value: Any) -> bytes:
    """JSON as it is stored."""
    return orjson.dumps(value)


def copied(value: Any) -> Any:
    """A deep copy of JSON."""
    return orjson.loads(orjson.dumps(value))


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396; `target` is not changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def _unprocessable(why: str) -> ApiError:
    return ApiError(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
        {"causes": [{"reason": "UnexpectedServerResponse", "message": why}]},
    )


def _pointer(text: str) -> list[str]:
    if text == "":
        return []
    if not text.startswith("/"):
        raise _unprocessable(f"invalid JSON pointer {text!r}: it must begin with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _index(container: list[Any], part: str, *, adding: bool) -> int:
    if part == "-" and adding:
        return len(container)
    if not part.isdigit() or int(part) >= len(container) + adding:
        raise _unprocessable(f"jsonpatch: invalid index {part!r}")
    return int(part)


def _resolve(document: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(document, dict):
            if part not in document:
                raise _unprocessable(f"jsonpatch: doc is missing path: /{'/'.join(parts)}: missing value")
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(document, part, adding=False)]
        else:
            raise _unprocessable(f"jsonpatch: doc is missing path: /{'/'.join(parts)}: missing value")
    return document


def _add(document: Any, parts: list[str], value: Any) -> None:
    container = _resolve(document, parts[:-1])
    if isinstance(container, dict):
        container[parts[-1]] = value
    elif isinstance(container, list):
        container.insert(_index(container, parts[-1], adding=True), value)
    else:
        raise _unprocessable(
            f"jsonpatch add operation does not apply: doc is missing path: /{'/'.join(parts)}"
        )


def _remove(document: Any, parts: list[str]) -> Any:
    value = _resolve(document, parts)
    container = _resolve(document, parts[:-1])
    if isinstance(container, dict):
        del container[parts[-1]]
    else:
        del container[_index(container, parts[-1], adding=False)]
    return value


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902 on a copy of `target`. Raises 400 for what is no patch, 422 for one that does not apply."""
    if not isinstance(operations, list) or not all(isinstance(op, dict) for op in operations):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    document = copied(target)
    for op in operations:
        name, parts = op.get("op"), _pointer(str(op.get("path", "")))
        if not parts:
            raise _unprocessable("jsonpatch: the whole document cannot be replaced")
        if name in {"add", "replace", "test"} and "value" not in op:
            raise _unprocessable(f"jsonpatch {name} operation does not apply: it has no value")
        match name:
            case "add":
                _add(document, parts, copied(op["value"]))
            case "remove":
                _remove(document, parts)
            case "replace":
                _remove(document, parts)
                _add(document, parts, copied(op["value"]))
            case "move":
                _add(document, parts, _remove(document, _pointer(str(op.get("from", "")))))
            case "copy":
                _add(document, parts, copied(_resolve(document, _pointer(str(op.get("from", ""))))))
            case "test":
                if _resolve(document, parts) != op["value"]:
                    raise _unprocessable(f"testing value {op['path']} failed")
            case _:
                raise _unprocessable(f"Unexpected kind: {name}")
    return document


def strategic_merge_patch(target: Any, patch: Any, field: str = "") -> Any:
    """A strategic merge patch for built-in kinds: lists with a known key are merged, the others replaced.

    `$patch: replace|delete` and `$deleteFromPrimitiveList` are honoured; `$setElementOrder` and `$retainKeys` only
    order and tidy, and are dropped.
    """
    if isinstance(patch, list):
        return _merged_list(target if isinstance(target, list) else [], patch, field)
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    result: Obj = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            listed = name.partition("/")[2]
            result[listed] = [item for item in result.get(listed) or [] if item not in value]
        elif name.startswith("$"):
            continue
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = strategic_merge_patch(result.get(name), value, name)
    return result


def _merged_list(target: list[Any], patch: list[Any], field: str) -> list[Any]:
    if field in _MERGED_SETS:
        return target + [item for item in patch if item not in target]
    keys = _MERGE_KEYS.get(field)
    if keys is None or not all(isinstance(item, dict) for item in patch):
        return patch
    result = list(target)
    for item in patch:
        key = next((name for name in keys if name in item), None)
        if item.get("$patch") == "replace" and key is None:
            return [other for other in patch if "$patch" not in other]
        if key is None:
            raise bad_request(f"map: {item} does not contain declared merge key: {keys[0]}")
        at = next((i for i, other in enumerate(result) if other.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            result = [other for i, other in enumerate(result) if i != at]
        elif at is None:
            result.append(item)
        else:
            result[at] = strategic_merge_patch(result[at], item)
    return result
