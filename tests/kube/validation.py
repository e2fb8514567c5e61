"""Checks an object against a CRD's schema (without its CEL rules), with the messages of kube-apiserver."""

import ipaddress
import json
import re
from datetime import datetime
from typing import Any

import re2  # type: ignore[import-untyped]

from tests.kube.errors import Cause, Obj

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_GO_DURATION = re.compile(r"^[-+]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$|^[-+]?0$")
_LOOSE_DURATION = re.compile(
    r"\d+\s*(ns|nano|us|µs|micro|ms|milli|s|sec|m|min|h|hr|hour|d|day|w|week|wk)", re.IGNORECASE
)


def validate(obj: Obj, schema: Obj) -> list[Cause]:
    """What is wrong with an object; `metadata` is not looked at."""
    causes: list[Cause] = []
    properties = schema.get("properties") or {}
    for name, inner in properties.items():
        if name in obj and name not in {"apiVersion", "kind", "metadata"}:
            _check(obj[name], inner, name, causes)
    _required(obj, schema, "", causes)
    return causes


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _invalid(path: str, value: Any, told: str) -> Cause:
    shown = _quoted(value) if not isinstance(value, dict | list) else _quoted(_type_name(value))
    return Cause("FieldValueInvalid", path, f"Invalid value: {shown}: {told}")


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return next((name for name, types in _TYPES.items() if isinstance(value, types)), "unknown")


def _is_of_type(value: Any, schema: Obj) -> bool:
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, int | str) and not isinstance(value, bool)
    wanted = schema.get("type")
    if not wanted:
        return True
    if isinstance(value, bool):
        return str(wanted) == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[str(wanted)])


def _check(value: Any, schema: Obj, path: str, causes: list[Cause]) -> None:
    if value is None and schema.get("nullable"):
        return
    if not _is_of_type(value, schema):
        wanted = "integer,string" if schema.get("x-kubernetes-int-or-string") else schema["type"]
        found = _type_name(value)
        told = f'Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"'
        causes.append(Cause("FieldValueTypeInvalid", path, told))
        return
    _check_value(value, schema, path, causes)
    if isinstance(value, dict):
        _check_object(value, schema, path, causes)
    elif isinstance(value, list):
        _check_list(value, schema, path, causes)
    elif isinstance(value, str):
        _check_string(value, schema, path, causes)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, schema, path, causes)


def _check_value(value: Any, schema: Obj, path: str, causes: list[Cause]) -> None:
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(_quoted(item) for item in schema["enum"])
        told = f"Unsupported value: {_quoted(value)}: supported values: {allowed}"
        causes.append(Cause("FieldValueNotSupported", path, told))

    def holds(inner: Obj) -> bool:
        found: list[Cause] = []
        _check(value, inner, path, found)
        return not found

    if "allOf" in schema:
        for inner in schema["allOf"]:
            _check(value, inner, path, causes)
    if "anyOf" in schema and not any(holds(inner) for inner in schema["anyOf"]):
        causes.append(_invalid(path, value, f"{path} in body must validate at least one schema (anyOf)"))
    if "oneOf" in schema and sum(holds(inner) for inner in schema["oneOf"]) != 1:
        causes.append(_invalid(path, value, f"{path} in body must validate one and only one schema (oneOf)"))
    if "not" in schema and holds(schema["not"]):
        causes.append(_invalid(path, value, f"{path} in body must not validate the schema (not)"))


def _required(value: Obj, schema: Obj, path: str, causes: list[Cause]) -> None:
    causes.extend(
        Cause("FieldValueRequired", f"{path}.{name}" if path else name, "Required value")
        for name in schema.get("required") or []
        if name not in value
    )


def _check_object(value: Obj, schema: Obj, path: str, causes: list[Cause]) -> None:
    _required(value, schema, path, causes)
    if len(value) > schema.get("maxProperties", len(value)):
        most = schema["maxProperties"]
        causes.append(
            Cause("FieldValueTooMany", path, f"Too many: {len(value)}: must have at most {most} items")
        )
    if len(value) < schema.get("minProperties", 0):
        told = f"{path} in body should have at least {schema['minProperties']} properties"
        causes.append(_invalid(path, len(value), told))
    properties = schema.get("properties") or {}
    further = schema.get("additionalProperties")
    for name, inner in value.items():
        if name in properties:
            _check(inner, properties[name], f"{path}.{name}", causes)
        elif isinstance(further, dict):
            _check(inner, further, f"{path}.{name}", causes)


def _check_list(value: list[Any], schema: Obj, path: str, causes: list[Cause]) -> None:
    if len(value) > schema.get("maxItems", len(value)):
        most = schema["maxItems"]
        causes.append(
            Cause("FieldValueTooMany", path, f"Too many: {len(value)}: must have at most {most} items")
        )
    if len(value) < schema.get("minItems", 0):
        told = f"{path} in body should have at least {schema['minItems']} items"
        causes.append(_invalid(path, len(value), told))
    for at, item in enumerate(value):
        _check(item, schema.get("items") or {}, f"{path}[{at}]", causes)
    list_type = schema.get("x-kubernetes-list-type")
    if list_type not in {"set", "map"}:
        return
    seen: list[Any] = []
    for at, item in enumerate(value):
        shown = item
        if list_type == "map" and isinstance(item, dict):
            shown = {key: item.get(key) for key in schema.get("x-kubernetes-list-map-keys") or []}
        if shown in seen:
            told = f"Duplicate value: {_quoted(shown)}"
            causes.append(Cause("FieldValueDuplicate", f"{path}[{at}]", told))
        seen.append(shown)


def _check_string(value: str, schema: Obj, path: str, causes: list[Cause]) -> None:
    if len(value) > schema.get("maxLength", len(value)):
        told = f"Too long: may not be more than {schema['maxLength']} bytes"
        causes.append(Cause("FieldValueTooLong", path, told))
    if len(value) < schema.get("minLength", 0):
        told = f"{path} in body should be at least {schema['minLength']} chars long"
        causes.append(_invalid(path, value, told))
    if "pattern" in schema and not re2.search(schema["pattern"], value):
        causes.append(_invalid(path, value, f"{path} in body should match '{schema['pattern']}'"))
    if "format" in schema and not _has_format(value, schema["format"]):
        told = f"{path} in body must be of type {schema['format']}: {_quoted(value)}"
        causes.append(_invalid(path, value, told))


def _has_format(value: str, name: str) -> bool:
    """Whether a string has a format; formats that are not known here hold always, as in the API server."""
    match name:
        case "duration":
            # Not only Go's durations: anything with a number and a unit in it passes.
            return bool(_GO_DURATION.match(value) or _LOOSE_DURATION.search(value))
        case "date-time":
            return _parses(datetime.fromisoformat, value) and "T" in value.upper()
        case "ipv4":
            return _parses(ipaddress.IPv4Address, value)
        case "ipv6":
            return _parses(ipaddress.IPv6Address, value)
        case "cidr":
            return "/" in value and _parses(lambda text: ipaddress.ip_network(text, strict=False), value)
    return True


def _parses(parse: Any, value: str) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


def _check_number(value: float, schema: Obj, path: str, causes: list[Cause]) -> None:
    high, low = schema.get("maximum"), schema.get("minimum")
    if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
        how = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        causes.append(_invalid(path, value, f"{path} in body should be {how} {high}"))
    if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
        how = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        causes.append(_invalid(path, value, f"{path} in body should be {how} {low}"))
    if schema.get("multipleOf") and value % schema["multipleOf"]:
        told = f"{path} in body should be a multiple of {schema['multipleOf']}"
        causes.append(_invalid(path, value, told))
    bits = {"int32": 31, "int64": 63}.get(schema.get("format", ""))
    if bits and not -(2**bits) <= value < 2**bits:
        causes.append(_invalid(path, value, f"{path} in body must be of type {schema['format']}: {value}"))
