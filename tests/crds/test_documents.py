"""What must hold for the custom resource definitions as documents: they are an API that people read."""

import re
from typing import Any

import kubernetes_validate
import pytest

from tests.crds.rules import Json, load_crds, rules_of, schema_of
from tests.crds.schemas import CRDS, Field, fields

KINDS = ("InngestApp", "Function", "Webhook")

NAMES = {
    "InngestApp": ("inngestapps", "inngestapp", "iapp"),
    "Function": ("functions", "function", "ifn"),
    "Webhook": ("webhooks", "webhook", "iwh"),
}

COLUMNS = {
    "InngestApp": (
        ["Ready", "Reason", "App-ID", "Version", "Functions", "Synced", "Age"],
        ["Paused", "SDK", "SDK-Version", "URL", "Message"],
    ),
    "Function": (
        ["Ready", "Reason", "App", "ID", "Paused", "Queued", "Running", "Age"],
        ["Overrides", "Message"],
    ),
    "Webhook": (["Ready", "Reason", "URL", "Received", "Age"], ["URL-Secret", "Message"]),
}

SELECTABLE = {
    "InngestApp": {"spec.endpoint.service.name", "spec.branch", "status.appId"},
    "Function": {"spec.appRef.name", "spec.id", "spec.paused", "status.source"},
    "Webhook": set[str](),
}

DEFAULTS = {
    ("InngestApp", "spec.endpoint.service.path"): "/api/inngest",
    ("InngestApp", "spec.endpoint.service.scheme"): "http",
    ("InngestApp", "spec.sync"): {},  # so that its parts have theirs
    ("InngestApp", "spec.sync.onRollout"): True,
    ("InngestApp", "spec.sync.interval"): "1h",
    ("InngestApp", "spec.deletionPolicy"): "Drain",
    ("InngestApp", "spec.drainTimeout"): "10m",
}

ALL = [(kind, field) for kind in KINDS for field in fields(schema_of(load_crds()[kind]))]
RULES = [rule for crd in load_crds().values() for rule in rules_of(crd)]

each_kind = pytest.mark.parametrize("kind", KINDS)


def _field(kind: str, path: str) -> Json:
    found: dict[str, Json] = {field.path: field.schema for of, field in ALL if of == kind}
    return found[path]


def _places(wrong: list[tuple[str, Field]]) -> list[str]:
    return [f"{kind}: {field.path}" for kind, field in wrong]


@each_kind
def test_a_definition_is_what_kubernetes_knows(kind: str) -> None:
    kubernetes_validate.validate(load_crds()[kind], "1.37", strict=True)


@each_kind
def test_names_group_and_version(kind: str) -> None:
    crd = load_crds()[kind]
    plural, singular, short = NAMES[kind]
    assert crd["apiVersion"] == "apiextensions.k8s.io/v1"
    assert crd["metadata"] == {"name": f"{plural}.innkeeper.dev"}
    assert (CRDS / f"innkeeper.dev_{plural}.yaml").is_file()
    spec = crd["spec"]
    assert (spec["group"], spec["scope"]) == ("innkeeper.dev", "Namespaced")
    assert spec["names"] == {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": singular,
        "shortNames": [short],
        "categories": ["innkeeper"],
    }
    (version,) = spec["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)
    assert version["subresources"] == {"status": {}}


def test_there_is_a_definition_for_each_kind_and_no_other() -> None:
    assert set(load_crds()) == set(KINDS)


@each_kind
def test_columns_begin_with_ready_and_reason_and_keep_long_text_for_wide(kind: str) -> None:
    columns: list[Json] = load_crds()[kind]["spec"]["versions"][0]["additionalPrinterColumns"]
    narrow = [column["name"] for column in columns if not column.get("priority")]
    wide = [column["name"] for column in columns if column.get("priority") == 1]
    assert (narrow, wide) == COLUMNS[kind]
    for name, part in (("Ready", "status"), ("Reason", "reason"), ("Message", "message")):
        (column,) = [column for column in columns if column["name"] == name]
        assert column["jsonPath"] == f'.status.conditions[?(@.type=="Ready")].{part}'


@each_kind
def test_columns_show_fields_that_are_there(kind: str) -> None:
    types: dict[str, Any] = {
        "string": "string",
        "integer": "integer",
        "boolean": "boolean",
        "array": "string",
    }
    for column in load_crds()[kind]["spec"]["versions"][0]["additionalPrinterColumns"]:
        assert column["description"].endswith(".")
        if column["name"] == "Age":
            assert (column["jsonPath"], column["type"]) == (".metadata.creationTimestamp", "date")
            continue
        schema = _field(kind, re.sub(r"\[\?.*?\]", "[]", column["jsonPath"].removeprefix(".")))
        wanted = "date" if schema.get("format") == "date-time" else types[schema["type"]]
        assert column["type"] == wanted, column["name"]


@each_kind
def test_selectable_fields_are_single_values(kind: str) -> None:
    version = load_crds()[kind]["spec"]["versions"][0]
    paths = {entry["jsonPath"].removeprefix(".") for entry in version.get("selectableFields", ())}
    assert paths == SELECTABLE[kind]
    assert all(_field(kind, path)["type"] in ("string", "boolean", "integer") for path in paths)


def test_every_field_is_described() -> None:
    def described(schema: Json) -> bool:
        text: str = schema.get("description", "")
        return len(text) > 10 and text[0].isupper() and text[-1] in ".}]" and "  " not in text

    assert _places([(kind, field) for kind, field in ALL if not described(field.schema)]) == []


def test_every_optional_field_of_a_spec_says_what_its_absence_means() -> None:
    # One of these is always set, or the rule beside them says what to write.
    one_of = (
        r"spec\.(endpoint|transform|verify)\.\w+|spec\.triggers\[\]\.(event|cron)|spec\.cancelOn\[\]\.match"
    )
    silent = [
        (kind, field)
        for kind, field in ALL
        if field.path.startswith("spec.")
        and not field.required
        and not field.path.endswith("[]")
        and (field.path == "spec.verify.tolerance" or not re.fullmatch(one_of, field.path))
        and not re.search(r"\bAbsent\b|\bDefault: |no effect", field.schema["description"])
        and field.schema.get("default") != {}
    ]
    assert _places(silent) == []


def test_every_field_with_free_text_has_an_example_or_a_list_of_values() -> None:
    silent = [
        (kind, field)
        for kind, field in ALL
        if field.path.startswith("spec.")
        and field.schema.get("type") == "string"
        and "enum" not in field.schema
        and not re.search(r"Examples?: |Default: ", field.schema["description"])
    ]
    assert _places(silent) == []


def test_a_description_names_the_default_that_is_there() -> None:
    for kind, field in ALL:
        if field.schema.get("default", {}) != {}:
            value = str(field.schema["default"])
            shown = value.lower() if value in ("True", "False") else value
            assert f"Default: {shown}." in field.schema["description"], (kind, field.path)
        else:
            assert "Default: " not in field.schema["description"], (kind, field.path)


def test_only_what_no_sdk_speaks_of_has_a_default() -> None:
    found = {(kind, field.path): field.schema["default"] for kind, field in ALL if "default" in field.schema}
    assert found == DEFAULTS


def test_every_text_list_and_map_is_bounded() -> None:
    def bounded(schema: Json) -> bool:
        match schema.get("type"):
            case "string":
                return "maxLength" in schema or "enum" in schema or schema.get("format") == "date-time"
            case "array":
                return "maxItems" in schema
            case "object":
                return "additionalProperties" not in schema or "maxProperties" in schema
            case None:
                return bool(schema.get("x-kubernetes-int-or-string")) and "maxLength" in schema
            case _:
                return True

    assert _places([(kind, field) for kind, field in ALL if not bounded(field.schema)]) == []


def test_every_number_has_a_lower_bound_and_in_a_spec_an_upper_one() -> None:
    unbounded = [
        (kind, field)
        for kind, field in ALL
        if field.schema.get("type") == "integer"
        and not ("minimum" in field.schema and (field.path.startswith("status") or "maximum" in field.schema))
    ]
    assert _places(unbounded) == []


def test_schemas_are_structural_and_open_nowhere_but_where_a_bad_value_must_be_showable() -> None:
    for kind, field in ALL:
        schema = field.schema
        assert not schema.keys() & {"anyOf", "oneOf", "allOf", "not", "$ref", "nullable"}, (kind, field.path)
        assert ("type" in schema) != bool(schema.get("x-kubernetes-int-or-string")), (kind, field.path)
        assert set(schema.get("required", ())) <= set(schema.get("properties", ())), (kind, field.path)
    loose = {
        (kind, field.path) for kind, field in ALL if field.schema.get("x-kubernetes-preserve-unknown-fields")
    }
    assert loose == {("Function", "status.declared"), ("Function", "status.effective")}


def test_lists_and_options_are_replaced_as_a_whole() -> None:
    for kind, field in ALL:
        schema = field.schema
        if schema.get("type") == "array":
            wanted = "map" if field.path == "status.conditions" else "atomic"
            assert schema["x-kubernetes-list-type"] == wanted, (kind, field.path)
        elif (
            schema.get("type") == "object"
            and field.path.startswith("spec.")
            and not field.path.endswith("[]")
        ):
            assert schema["x-kubernetes-map-type"] == "atomic", (kind, field.path)


def test_durations_are_written_in_one_way() -> None:
    unit = "(ms|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)"
    durations = [(kind, field) for kind, field in ALL if field.schema.get("format") == "duration"]
    assert len(durations) == 12
    for kind, field in durations:
        schema = field.schema
        assert schema["pattern"] == f"^[0-9]{{1,6}} ?{unit}( ?[0-9]{{1,6}} ?{unit})*$", (kind, field.path)
        assert schema["maxLength"] == 32, (kind, field.path)
        (rule,) = schema["x-kubernetes-validations"]
        assert re.fullmatch(r"self >= duration\('\d+[hms]'\) && self <= duration\('\d+[hms]'\)", rule["rule"])


@each_kind
def test_conditions_are_the_standard_ones(kind: str) -> None:
    conditions = _field(kind, "status.conditions")
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    items = conditions["items"]
    assert set(items["required"]) == {"type", "status", "reason", "message", "lastTransitionTime"}
    assert set(items["properties"]) == {*items["required"], "observedGeneration"}
    assert items["properties"]["status"]["enum"] == ["True", "False", "Unknown"]
    assert _field(kind, "status.observedGeneration")["format"] == "int64"


def test_a_message_says_what_to_write() -> None:
    says = re.compile(
        r"\b(must|cannot|needs?|excludes?|exclude each other|belongs to|is immutable|is listed twice|set one of)\b"
    )
    for rule in RULES:
        assert says.search(rule.message), rule
        assert len(rule.message) <= 120, rule
        assert "self" not in rule.message, rule
        assert not rule.message.endswith("."), rule


def test_a_message_names_what_it_is_about() -> None:
    for rule in RULES:
        own = rule.place.rstrip("[]").rsplit(".", 1)[-1]
        names = {own, own.removesuffix("s"), *re.findall(r"self\.(\w+)", rule.rule.replace("__", ""))}
        assert "CIDR" in rule.message or any(name in rule.message for name in names), rule


def test_rules_are_written_as_api_servers_take_them() -> None:
    reserved = (
        r"\.(if|in|for|as|const|null|true|false|function|import|package|namespace|return|loop|let|var|void)\b"
    )
    for rule in RULES:
        assert not re.search(reserved, rule.rule), f"{rule}: write __if__"
        assert not re.search(r"duration\('[^']*[^hms0-9'][^']*'\)", rule.rule), (
            f"{rule}: CEL knows h, m and s"
        )
        assert "\n" not in rule.message
        # Items of an atomic list have no earlier value.
        assert not ("oldSelf" in rule.rule and "[]" in rule.place), rule
