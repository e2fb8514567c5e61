"""The custom resource definitions and the operator's models say the same: fields, types, values, defaults."""

import copy
from collections.abc import Iterator
from typing import get_args

import msgspec
import pytest
from msgspec import inspect

from innkeeper_operator import specs
from tests.crds.cases import Case, manifest
from tests.crds.cases_of_apps import APPS
from tests.crds.cases_of_functions import FUNCTIONS
from tests.crds.cases_of_webhooks import WEBHOOKS
from tests.crds.rules import Json, load_crds, schema_of, with_defaults
from tests.crds.schemas import at

MODELS: dict[str, type[msgspec.Struct]] = {
    "InngestApp": specs.AppSpec,
    "Function": specs.FunctionSpec,
    "Webhook": specs.WebhookSpec,
}

CASES = (*APPS, *FUNCTIONS, *WEBHOOKS)

each_kind = pytest.mark.parametrize("kind", MODELS)


def _spec(kind: str) -> Json:
    schema: Json = schema_of(load_crds()[kind])["properties"]["spec"]
    return schema


def _differences(schema: Json, model: inspect.Type, path: str) -> Iterator[str]:
    """Where a model and a schema are not of one opinion, both ways round."""
    match _present(model):
        case inspect.StructType() as struct:
            yield from _of_objects(schema, struct, path)
        case inspect.VarTupleType(item_type=item):
            if schema.get("type") == "array":
                yield from _differences(schema["items"], item, f"{path}[]")
            else:
                yield f"{path}: a list in the model, {schema.get('type')} in the schema"
        case inspect.LiteralType(values=values):
            if sorted(schema.get("enum", ())) != sorted(str(value) for value in values):
                yield f"{path}: {values} in the model, {schema.get('enum')} in the schema"
        case found:
            wanted = _plain(schema)
            if type(found) is not wanted:
                yield f"{path}: {found} in the model, {wanted} in the schema"


def _of_objects(schema: Json, struct: inspect.StructType, path: str) -> Iterator[str]:
    properties: Json = schema.get("properties", {})
    fields = {field.encode_name: field for field in struct.fields}
    yield from (f"{at(path, name)}: not in the schema" for name in fields.keys() - properties.keys())
    yield from (f"{at(path, name)}: not in the model" for name in properties.keys() - fields.keys())
    for name in fields.keys() & properties.keys():
        part, field, inner = properties[name], fields[name], at(path, name)
        if field.required != (name in schema.get("required", ())):
            yield f"{inner}: {'required' if field.required else 'optional'} in the model alone"
        if not field.required and not _same_default(part, field):
            yield f"{inner}: {field.default!r} by default in the model, {part.get('default')!r} in the schema"
        yield from _differences(part, field.type, inner)


def _same_default(schema: Json, field: inspect.Field) -> bool:
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if "default" not in schema:
        return default in (None, (), False)  # what cannot be told from absence
    return bool(
        msgspec.to_builtins(default) == msgspec.to_builtins(msgspec.convert(schema["default"], type(default)))
    )


def _present(model: inspect.Type) -> inspect.Type:
    """A type without its None."""
    if not isinstance(model, inspect.UnionType):
        return model
    rest = tuple(part for part in model.types if not isinstance(part, inspect.NoneType))
    return rest[0] if len(rest) == 1 else inspect.UnionType(rest)


def _plain(schema: Json) -> type[inspect.Type] | None:
    """What a model has where the schema has a single value without a list of choices."""
    if schema.get("x-kubernetes-int-or-string"):
        return inspect.UnionType
    if "enum" in schema:
        return inspect.LiteralType
    plain: dict[str | None, type[inspect.Type]] = {
        "string": inspect.StrType,
        "integer": inspect.IntType,
        "boolean": inspect.BoolType,
    }
    return plain.get(schema.get("type"))


@each_kind
def test_schema_and_model_agree(kind: str) -> None:
    assert sorted(_differences(_spec(kind), inspect.type_info(MODELS[kind]), "spec")) == []


@each_kind
def test_a_difference_would_show(kind: str) -> None:
    struct = inspect.type_info(MODELS[kind])
    for name, part in _spec(kind)["properties"].items():
        less, more, other, needed = (copy.deepcopy(_spec(kind)) for _ in range(4))
        del less["properties"][name]
        more["properties"][f"{name}2"] = part
        other["properties"][name] = {"type": "number"}
        needed["required"] = sorted(set(_spec(kind)["properties"]) ^ {name})
        for schema, told in ((less, name), (more, f"{name}2"), (other, name), (needed, "alone")):
            assert any(told in difference for difference in _differences(schema, struct, "spec")), (
                kind,
                name,
            )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{case.id}")
def test_the_model_reads_what_a_schema_accepts_and_loses_nothing(case: Case) -> None:
    stored: Json = with_defaults(_spec(case.kind), manifest(case.kind, case.accepted)["spec"])
    read = msgspec.convert(stored, MODELS[case.kind])
    again: Json = with_defaults(_spec(case.kind), msgspec.json.decode(msgspec.json.encode(read)))
    # An app's pause is the one thing that a model may leave out where a manifest says it.
    assert {"paused": False, **again} == {"paused": False, **stored}


def test_every_option_of_a_function_is_known_as_one() -> None:
    fixed = {"appRef", "id", "paused", "pausePolicy", "unset"}
    assert set(get_args(specs.Option)) == set(_spec("Function")["properties"]) - fixed


def test_what_can_be_unset_is_every_option_that_has_no_value_for_none() -> None:
    unsettable: list[str] = _spec("Function")["properties"]["unset"]["items"]["enum"]
    assert list(get_args(specs.Unsettable)) == unsettable
    assert set(unsettable) == set(get_args(specs.Option)) - {"triggers", "retries"}
