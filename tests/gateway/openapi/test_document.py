"""The document says all that is served and nothing else, and is the one that users read."""

from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from innkeeper_gateway.app import ROUTERS
from innkeeper_gateway.openapi.document import UndocumentedError, make_document
from innkeeper_gateway.openapi.operations import IN_FRONT
from innkeeper_gateway.openapi.route import written
from tests.gateway.conftest import PRODUCTION, SIGNING_KEY, MakeWorld
from tests.gateway.world import World

COMMITTED = Path(__file__).parents[3] / "docs" / "reference" / "openapi.json"
PAGES = {"/intent/create-webhook", "/docs"}
"""For browsers: they are no API."""


def api_of(*routers: APIRouter) -> FastAPI:
    api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for router in routers:
        api.include_router(router)
    return api


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(orjson.loads(written(make_document(api_of(*ROUTERS).routes))))


def test_committed_document_is_the_one_that_is_made(document: dict[str, Any]) -> None:
    assert orjson.loads(COMMITTED.read_bytes()) == document, (
        "run `make openapi` and commit docs/reference/openapi.json"
    )


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_that_is_served_is_in_it_and_nothing_else(document: dict[str, Any]) -> None:
    served = {
        (method, route.path_format)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.path_format not in PAGES
        for method in route.methods
    }
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert documented == served | IN_FRONT


def test_a_route_that_nothing_is_said_of_is_an_error() -> None:
    more = APIRouter()
    more.add_api_route("/v1/new", lambda: None, methods=["PUT"])
    with pytest.raises(UndocumentedError, match="PUT /v1/new"):
        make_document(api_of(*ROUTERS, more).routes)


def test_all_is_described_and_named_once(document: dict[str, Any]) -> None:
    operations = [each for item in document["paths"].values() for each in item.values()]
    ids = [each["operationId"] for each in operations]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in document["tags"]}
    for each in operations:
        assert each["summary"], each["operationId"]
        assert each["description"], each["operationId"]
        assert set(each["tags"]) <= tags
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("description"), name


def test_examples_are_what_their_schemas_say(document: dict[str, Any]) -> None:
    found = 0
    for schema in _schemas_with_examples(document):
        for example in schema["examples"]:
            found += 1
            jsonschema.Draft202012Validator(schema | {"components": document["components"]}).validate(example)
    assert found > 50


def _schemas_with_examples(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [each for part in value for each in _schemas_with_examples(part)]
    if not isinstance(value, dict):
        return []
    own = [value] if isinstance(value.get("examples"), list) else []
    return own + [each for part in value.values() for each in _schemas_with_examples(part)]


async def test_document_is_served_to_who_is_known(production: World) -> None:
    assert (await production.http.get("/openapi.json")).status_code == 401
    reply = await production.http.get("/openapi.json", headers={"authorization": f"Bearer {SIGNING_KEY}"})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.content == COMMITTED.read_bytes()


async def test_document_and_docs_are_served_to_all_in_dev_mode(world: World, make_world: MakeWorld) -> None:
    assert (await world.http.get("/openapi.json")).status_code == 200
    page = await world.http.get("/docs")
    assert page.status_code == 200
    assert "/openapi.json" in page.text
    closed = await make_world(PRODUCTION)
    refused = await closed.http.get("/docs")
    assert refused.status_code == 404
    assert "dev mode" in refused.json()["error"]
