"""The CustomResourceDefinitions as data, and what an API server does with their schemas before any rule.

Defaults and pruned nulls first, then the structural checks of `openAPIV3Schema`, with unknown fields refused as
`kubectl`'s strict validation refuses them. Messages read as an API server's.
"""

import copy
import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import re2  # type: ignore[import-untyped]
import yaml
from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

Json = dict[str, Any]

CRDS: Final = Path(__file__).parents[2] / "crds"

_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_CHECKED: Final = (
    *("type", "required", "enum", "pattern", "format"),
    *(
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
    ),
)
_DATE_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")


class Field(NamedTuple):
    """One field of a schema, at any depth."""

    path: str
    """`spec.triggers[].event`; the items of a list have a path of their own, which ends with `[]`."""
    schema: Json
    required: bool


@functools.cache
def load_crds(folder: Path = CRDS) -> Mapping[str, Json]:
    """The definitions of a folder, by kind; read once, so copy one before changing it."""
    documents = [
        yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader)
        for file in sorted(folder.glob("*.yaml"))
    ]
    return {document["spec"]["names"]["kind"]: document for document in documents}


def schema_of(crd: Json, api_version: str | None = None) -> Json:
    """The schema of a version of a definition; without one, of the stored version.

    Raises:
        LookupError: the definition does not serve that version.
    """
    for version in crd["spec"]["versions"]:
        name = f"{crd['spec']['group']}/{version['name']}"
        if version["served"] and (name == api_version or (api_version is None and version["storage"])):
            schema: Json = version["schema"]["openAPIV3Schema"]
            return schema
    raise LookupError(f'no matches for kind "{crd["spec"]["names"]["kind"]}" in version "{api_version}"')


def fields(schema: Json, path: str = "", *, required: bool = True) -> Iterator[Field]:
    """Every field of a schema, itself first (its path is empty at the root)."""
    yield Field(path, schema, required)
    for name, part in schema.get("properties", {}).items():
        inner = f"{path}.{name}" if path else name
        yield from fields(part, inner, required=name in schema.get("required", ()))
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


def with_defaults(schema: Json, value: Any) -> Any:
    """A copy of a value with nulls pruned and defaults in the place of what is absent, as it would be stored."""
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(schema["items"], item) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return copy.deepcopy(value)
    properties: Json = schema["properties"]
    # A field that is not nullable is dropped when it is null; so `throttle: null` changes nothing.
    found = {
        name: item
        for name, item in value.items()
        if item is not None or name not in properties or properties[name].get("nullable")
    }
    for name, part in properties.items():
        if name not in found and "default" in part:
            found[name] = part["default"]
    return {
        name: with_defaults(properties[name], item) if name in properties else copy.deepcopy(item)
        for name, item in found.items()
    }


def structural_errors(schema: Json, value: Any) -> list[str]:
    """What is wrong with the form of an object of a kind: types, bounds, patterns, missing and unknown fields."""
    errors: list[str] = []
    for error in sorted(
        _validator(json.dumps(schema)).iter_errors(value), key=lambda error: list(error.path)
    ):
        errors += _messages(error)
    return errors


def at(path: str, step: str | int) -> str:
    """The path of a part: `spec` and `triggers` make `spec.triggers`, and that and 0 `spec.triggers[0]`."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


@functools.lru_cache(maxsize=32)
def _validator(schema: str) -> Validator:
    kind: Any = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
    validator: Validator = kind(_json_schema(json.loads(schema), root=True), format_checker=_formats())
    return validator


def _json_schema(schema: Json, *, root: bool = False) -> Json:
    """A structural schema in the words of JSON Schema."""
    found: Json = {name: schema[name] for name in _CHECKED if name in schema}
    if schema.get(_INT_OR_STRING):
        found["type"] = ["integer", "string"]
    if "items" in schema:
        found["items"] = _json_schema(schema["items"])
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        found["properties"] = {name: _json_schema(part) for name, part in properties.items()}
        if root:  # what is in the metadata is not the schema's to say
            found["properties"]["metadata"] = {"type": "object"}
        if "additionalProperties" in schema:
            found["additionalProperties"] = _json_schema(schema["additionalProperties"])
        elif not schema.get(_PRESERVE):
            found["additionalProperties"] = False
    return found


def _pattern(_: Validator, pattern: str, value: Any, __: Json) -> Iterator[ValidationError]:
    # RE2 as in an API server: Python's `$` would let a line break at the end through.
    if isinstance(value, str) and not re2.search(pattern, value):
        yield ValidationError(f"in body should match '{pattern}'")


def _formats() -> FormatChecker:
    checker = FormatChecker(formats=())
    # What counts as a duration is said by the pattern beside the format; an API server's own reading is looser.
    checker.checks("date-time")(
        lambda value: not isinstance(value, str) or _DATE_TIME.fullmatch(value) is not None
    )
    return checker


def _messages(error: ValidationError) -> Iterator[str]:
    path = functools.reduce(at, error.absolute_path, "")
    instance: Any = error.instance
    wanted: Any = error.validator_value
    match error.validator:
        case "additionalProperties" if wanted is False:
            assert isinstance(error.schema, Mapping)
            unknown = [name for name in instance if name not in error.schema["properties"]]
            yield from (f'unknown field "{at(path, name)}"' for name in unknown)
        case "required":
            # One error for each missing field, which only the message names.
            name = next(name for name in wanted if error.message.startswith(f"{name!r} "))
            yield f"{at(path, name)}: Required value"
        case "enum":
            values = ", ".join(json.dumps(value) for value in wanted)
            yield f"{path}: Unsupported value: {json.dumps(instance)}: supported values: {values}"
        case "pattern":
            yield f"{path}: Invalid value: {json.dumps(instance)}: {path} {error.message}"
        case _:
            yield f"{path}: Invalid value: {error.message} ({error.validator})"
