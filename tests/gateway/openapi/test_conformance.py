"""schemathesis against a gateway: what it answers is what the document says, and what the document forbids is refused.

`make slow` sends the same requests each time: those at the edges of every schema, and some at random. `make nightly`
sends many more, others each time.
"""

import copy
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import requests
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from innkeeper_engine.store.connection import Address
from innkeeper_gateway.app import ROUTERS
from innkeeper_gateway.openapi.document import make_document
from innkeeper_gateway.openapi.operation import Key
from innkeeper_gateway.openapi.operations import OPERATIONS
from innkeeper_gateway.openapi.route import written
from tests.gateway import amounts
from tests.gateway.openapi.seeded import Seeded
from tests.gateway.openapi.test_document import api_of

pytestmark = [pytest.mark.slow]

CI, NIGHTLY = 12, 1_000
"""Requests at random, of each operation and of each of the two kinds: valid ones and others."""

ONLY_IN_DEV = {"GET /dev"}

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


def strict_document() -> dict[str, Any]:
    """The document, where answers may hold nothing that it does not name."""
    document: dict[str, Any] = orjson.loads(written(make_document(api_of(*ROUTERS).routes)))
    schemas = document["components"]["schemas"]
    answered = [each["responses"] for item in document["paths"].values() for each in item.values()]
    seen: set[str] = {"RunNote"}
    """Fields beside those of a note depend on its type."""
    for name in _names([answered, document["components"]["responses"]]):
        _close(name, schemas, seen)
    return document


def _close(name: str, schemas: dict[str, Any], seen: set[str]) -> None:
    if name in seen:
        return
    seen.add(name)
    schema = schemas[name]
    for inner in _names(schema):
        _close(inner, schemas, seen)
    if "properties" in schema:
        schema["additionalProperties"] = False


def _names(value: Any) -> Iterator[str]:
    """The schemas that something refers to."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str) and "/schemas/" in value["$ref"]:
            yield value["$ref"].rpartition("/")[2]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _names(each)


CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            "negative_data_rejection": {
                "expected-statuses": [400, 401, 403, 404, 409, 410, 413, 415, 422, 431]
            }
        }
    }
)
ORDERED = sorted(
    # What makes others go, or wait, comes last.
    OPERATIONS,
    key=lambda key: (key[0] == "DELETE", "pause" in key[1], key),
)
each_operation = pytest.mark.parametrize("key", ORDERED, ids=" ".join)


@pytest.fixture(scope="module")
def schema() -> BaseSchema:
    return schemathesis.openapi.from_dict(strict_document(), config=CONFIG)


@pytest.fixture
def operation(key: Key, schema: BaseSchema) -> APIOperation:
    method, path = key
    return schema[path][method]


@pytest.fixture(scope="module")
def seeded(valkey: Address) -> Iterator[Seeded]:
    """One gateway for all operations: what one leaves behind the others meet."""
    made = Seeded(valkey)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


def ask(case: Case, seeded: Seeded, session: requests.Session) -> int:
    """Send a request and hold the answer against the document; its status."""
    reply = case.call_and_validate(
        seeded.url, session, {"authorization": seeded.bearer}, checks=CHECKS, timeout=30
    )
    return int(reply.status_code)


def meant(case: Case, seeded: Seeded, pick: int) -> Case:
    """The same request about something that is there, where `pick` says so."""
    if pick % 4 == 0:
        return case
    for name in case.path_parameters or {}:
        known = seeded.known.get(name, [])
        if known:
            case.path_parameters[name] = known[pick % len(known)]
    whole = seeded.whole.get(case.operation.label)
    if whole is not None and pick % 4 == 1:
        path, case.body = copy.deepcopy(whole)
        case.path_parameters = {**(case.path_parameters or {}), **path}
        case.media_type = "application/json"
        case.headers.pop("x-inngest-env", None)
    # Most that is there is in no branch.
    if case.headers and pick % 3:
        case.headers.pop("x-inngest-env", None)
    return case


@each_operation
def test_what_is_at_the_edges(operation: APIOperation, seeded: Seeded, session: requests.Session) -> None:
    schema = operation.schema
    cases = schema.iter_coverage_cases(
        operation, generation_modes=list(GenerationMode), generation_config=schema.config.generation
    )
    for case in cases:
        ask(case, seeded, session)


often = amounts.often(CI, NIGHTLY)
"""How many requests, and whether always the same."""


@each_operation
def test_what_is_allowed(
    operation: APIOperation, often: settings, seeded: Seeded, session: requests.Session
) -> None:
    statuses: list[int] = []

    @often
    @given(operation.as_strategy(generation_mode=GenerationMode.POSITIVE), st.integers(0, 11))
    def send(case: Case, pick: int) -> None:
        statuses.append(ask(meant(case, seeded, pick), seeded, session))

    send()
    assert operation.label in ONLY_IN_DEV or any(status < 300 for status in statuses), sorted(set(statuses))


@pytest.mark.parametrize("key", [key for key in ORDERED if OPERATIONS[key].who != "nobody"], ids=" ".join)
def test_what_is_not_allowed(
    operation: APIOperation, often: settings, seeded: Seeded, session: requests.Session
) -> None:
    @often
    @given(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def send(case: Case) -> None:
        ask(case, seeded, session)

    send()
