"""`GET /openapi.json` for whoever has any credentials, and `/docs`, which shows it, in dev mode."""

from typing import Any, cast

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import Response

from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.openapi.document import make_document
from innkeeper_gateway.requests import KNOWN_CALLER, CoreOf

router = APIRouter()

PATH = "/openapi.json"


@router.get(PATH, dependencies=KNOWN_CALLER)
async def get_document(request: Request) -> Response:
    """What the API takes and answers, as an OpenAPI 3.1 document."""
    return Response(document_of(cast(FastAPI, request.app)), media_type="application/json")


@router.get("/docs", include_in_schema=False)
async def show_docs(core: CoreOf) -> Response:
    """The document in a browser. The page loads its scripts from a public CDN, so it is for dev mode."""
    if not core.settings.dev:
        raise ApiError(404, "only a server in dev mode shows this; GET /openapi.json has the document")
    return get_swagger_ui_html(openapi_url=PATH, title="Innkeeper")


def document_of(api: FastAPI) -> bytes:
    """The document of an app, made once."""
    made: bytes | None = getattr(api.state, "openapi", None)
    if made is None:
        made = api.state.openapi = written(make_document(api.routes))
    return made


def written(document: dict[str, Any]) -> bytes:
    """The document as it is served, and kept in docs/reference/."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"
