"""What an API server says to an object of the project's kinds: its schema and every CEL rule in it, without one.

Differences: rules are evaluated only when the schema holds (an API server evaluates some of them all the same), items
of a list have no earlier value, and what breaks the schema is refused even where an update leaves it alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.crds.expressions import RuleError, holds, is_transition
from tests.crds.schemas import Json, at, fields, load_crds, schema_of, structural_errors, with_defaults

__all__ = [
    "Json",
    "Rule",
    "cel_validator",
    "load_crds",
    "rules_of",
    "schema_of",
    "structural_errors",
    "validate",
    "with_defaults",
]


class Rule(NamedTuple):
    """One entry of `x-kubernetes-validations`."""

    kind: str
    place: str
    """`spec.triggers[]`, as in `Field.path`."""
    rule: str
    message: str


def rules_of(crd: Json) -> list[Rule]:
    """Every rule of a definition's stored version."""
    kind = crd["spec"]["names"]["kind"]
    return [
        Rule(kind, field.path, entry["rule"], entry.get("message", ""))
        for field in fields(schema_of(crd))
        for entry in field.schema.get("x-kubernetes-validations", ())
    ]


def validate(obj: Json, old: Json | None = None, crds: Mapping[str, Json] | None = None) -> list[str]:
    """Why an API server would refuse an object, or a change of it; empty where it would take it.

    Args:
        obj: The object as it is sent, without defaults.
        old: The stored object that it replaces; rules about a change hold only then.
        crds: The definitions by kind; without them those of this repository.
    """
    crd = (load_crds() if crds is None else crds).get(obj.get("kind", ""))
    try:
        if crd is None:
            raise LookupError(f'no matches for kind "{obj.get("kind")}" in version "{obj.get("apiVersion")}"')
        schema = schema_of(crd, obj.get("apiVersion"))
    except LookupError as error:
        return [str(error)]
    stored = with_defaults(schema, obj)
    errors = structural_errors(schema, stored)
    return errors or cel_validator(crd, stored, None if old is None else with_defaults(schema, old))


def cel_validator(crd: Json, new: Json, old: Json | None) -> list[str]:
    """The messages of the rules of a definition that an object, or a change of it, breaks.

    For an API server's stand-in: both objects are as they would be stored, with defaults, and structurally valid.
    """
    return list(_broken(schema_of(crd, new.get("apiVersion")), new, old, ""))


def _broken(schema: Json, value: Any, old: Any, path: str) -> Iterator[str]:
    for entry in schema.get("x-kubernetes-validations", ()):
        rule = entry["rule"]
        # What an update leaves alone is not checked again, except by rules about the change.
        if old is None if is_transition(rule) else value == old:
            continue
        try:
            if holds(rule, schema, value, old):
                continue
            message = entry.get("message") or f"failed rule: {rule}"
        except RuleError as error:
            message = str(error)
        yield f"{path}: Invalid value: {message}"
    match value:
        case dict():
            for name, part in schema.get("properties", {}).items():
                if value.get(name) is not None:
                    earlier = old.get(name) if isinstance(old, dict) else None
                    yield from _broken(part, value[name], earlier, at(path, name))
        case list() if "items" in schema:
            for index, item in enumerate(value):
                yield from _broken(schema["items"], item, None, at(path, index))
