"""Whatever the schemas let through, every rule gives a verdict: none reads what may be absent."""

from typing import Any

import pytest
import re2  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crds.cases import DURATIONS
from tests.crds.rules import (
    Json,
    cel_validator,
    load_crds,
    rules_of,
    schema_of,
    structural_errors,
    with_defaults,
)

_TEXTS = (
    "a",
    "b ",
    "event.data.id",
    "* * * * *",
    "TZ=UTC 0 0 * * *",
    "https://a@b.example/?c#d",
    "192.0.2.0/24",
    "/",
)


def values(schema: Json) -> st.SearchStrategy[Any]:
    """Values that a structural schema lets through."""
    if schema.get("x-kubernetes-int-or-string"):
        return st.sampled_from([0, 80, 65536, "http", "HTTP", "-", ""])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "object":
            parts = {name: values(part) for name, part in schema.get("properties", {}).items()}
            needed = {name: parts.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(needed, optional=parts)
        case "array":
            most = min(schema["maxItems"], 3)
            return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=most)
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "boolean":
            return st.booleans()
    if schema.get("format") == "duration":
        return st.sampled_from((*DURATIONS, "0s", "999999w"))
    fitting = [text for text in _TEXTS if re2.search(schema.get("pattern", ""), text)]
    return st.sampled_from(fitting)


@pytest.mark.parametrize("kind", ["InngestApp", "Function", "Webhook"])
@settings(max_examples=30)
@given(data=st.data())
def test_every_rule_gives_a_verdict_on_new_objects_and_on_changes(kind: str, data: st.DataObject) -> None:
    crd = load_crds()[kind]
    schema = schema_of(crd)
    messages = {rule.message for rule in rules_of(crd)}
    specs = values(schema["properties"]["spec"])
    new, old = (
        with_defaults(schema, {"kind": kind, "spec": data.draw(specs)}),
        with_defaults(schema, {"kind": kind, "spec": data.draw(specs)}),
    )
    assert structural_errors(schema, new) == []
    for before in (None, old):
        for error in cel_validator(crd, new, before):
            assert error.split("Invalid value: ", 1)[1] in messages
