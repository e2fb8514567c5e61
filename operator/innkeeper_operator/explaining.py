"""What is wrong with a spec that cannot be read, in words that say what would be right.

An API server refuses such a spec by its schema; this is for manifests that no API server has seen.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import inspect

_ERROR = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_MISSING = re.compile(r"Object missing required field `(?P<name>\w+)`")
_ENUM = re.compile(r"Invalid enum value (?P<value>.*)", re.DOTALL)
_TYPE = re.compile(r"Expected `(?P<wanted>.*?)`, got `(?P<got>\w+)`")
_NAMES: Final = {
    "array": "a list",
    "object": "an object",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
}


def explain(error: msgspec.ValidationError, spec: type[msgspec.Struct]) -> str:
    """The error of decoding a `spec` of this type: the field, what is wrong there and what would be right."""
    found = _ERROR.fullmatch(str(error))
    assert found is not None, "anything matches"
    what, path = found["what"], found["path"] or ""
    where = f"spec{path}"
    if (missing := _MISSING.fullmatch(what)) is not None:
        return f"{where}.{missing['name']}: is missing"
    if (enum := _ENUM.fullmatch(what)) is not None:
        allowed = _allowed(inspect.type_info(spec), path)
        return f"{where}: {enum['value']} is none of {', '.join(allowed)}" if allowed else f"{where}: {what}"
    if (other := _TYPE.fullmatch(what)) is not None:
        wanted = [_NAMES.get(each, each) for each in other["wanted"].split(" | ") if each != "null"]
        return f"{where}: is {_NAMES.get(other['got'], other['got'])}; write {' or '.join(wanted)}"
    return f"{where}: {what}"


def _allowed(kind: inspect.Type, path: str) -> list[str]:
    """The texts that may stand at a path; none where it does not lead to a choice of texts."""
    for step in _STEP.finditer(path):
        kind = _without_null(kind)
        if step["name"] and isinstance(kind, inspect.StructType):
            fields = {field.encode_name: field.type for field in kind.fields}
            if step["name"] not in fields:
                return []
            kind = fields[step["name"]]
        elif step["index"] and isinstance(kind, inspect.VarTupleType | inspect.ListType):
            kind = kind.item_type
        else:
            return []
    kind = _without_null(kind)
    return [str(value) for value in kind.values] if isinstance(kind, inspect.LiteralType) else []


def _without_null(kind: Any) -> Any:
    if isinstance(kind, inspect.UnionType):
        others = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
        return others[0] if len(others) == 1 else kind
    return kind
