"""Makes the OpenAPI document: what the routes say of themselves, and what `operations` says of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from innkeeper_gateway.access.callers import NAMESPACE_HEADER
from innkeeper_gateway.openapi import kinds, replies_jobs
from innkeeper_gateway.openapi.operation import Key, Operation, Reply, Who
from innkeeper_gateway.openapi.operations import IN_FRONT, OPERATIONS, TAGS
from innkeeper_gateway.places import ENV_HEADER, MAX_BRANCH

VERSION: Final = "1.0.0"
"""Of the API; the server's own is another."""

_ABOUT: Final = """The HTTP API of Innkeeper, which runs Inngest-compatible durable functions.

Answers with data are `{"data": ..., "metadata": {"fetched_at": ...}}`. Errors have their true HTTP status and
`{"error": "a sentence", "data": null, "status": 404}`. After a 429 or 503 try again when `Retry-After` seconds are over.

In dev mode nobody needs credentials, and any event key is taken."""

_REFUSALS: Final[Mapping[int, tuple[str, str]]] = {
    400: (
        "BadRequest",
        "A parameter or the body cannot be read: the error names it and says what would be right.",
    ),
    401: ("Unauthorized", "No credentials that open anything."),
    403: ("Forbidden", "Not allowed; the error says what would allow it."),
    404: ("NotFound", "It is not there, or not any more, or not where these credentials reach."),
    409: ("Conflict", "It cannot be done as things stand."),
    410: ("Gone", "What is needed for it is not kept any more."),
    413: ("TooLarge", "The body, or what it would add to, is too large."),
    415: ("UnsupportedEncoding", "The Content-Encoding is not known: gzip and deflate are."),
    422: ("Unprocessable", "What came of it cannot be taken."),
    429: ("TooMany", "Too many requests, or too many of these things: the error says which."),
    431: ("HeadTooLarge", "The headers, or the address, are too large; the connection is closed."),
    501: ("NotImplemented", "This server cannot do it."),
    502: ("BadGateway", "The app does not answer."),
    503: ("Unavailable", "Something is away that is needed: try again."),
}

_COMMON: Final[Mapping[Who, tuple[int, ...]]] = {
    "caller": (400, 401, 403, 404, 429, 431, 503),
    "app": (400, 401, 431, 503),
    "path": (431,),
    "nobody": (431,),
}
"""What everybody may be refused with who is let in so."""

_SECURITY_SCHEMES: Final[Mapping[str, Any]] = {
    "signingKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "The environment's signing key, or its hash as SDKs send it: everything in that environment.",
    },
    "kubernetesToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of the Kubernetes cluster: what RBAC grants in the namespace.",
    },
    "adminToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The installation's admin token: everything in the namespace's environment. Where there is no "
        "operator the namespace is left out.",
    },
    "namespace": {
        "type": "apiKey",
        "in": "header",
        "name": NAMESPACE_HEADER,
        "description": "Names the namespace that the request is about.",
    },
}

_SECURITY: Final[Mapping[Who, Sequence[Mapping[str, list[str]]]]] = {
    "caller": (
        {"signingKey": []},
        {"kubernetesToken": [], "namespace": []},
        {"adminToken": [], "namespace": []},
    ),
    "app": ({"signingKey": []},),
    "path": (),
    "nobody": (),
}

_PARAMETERS: Final[Mapping[str, Any]] = {
    "Environment": {
        "name": ENV_HEADER,
        "in": "header",
        "description": "A branch of the environment. May stand in the query instead.",
        "schema": {"type": "string", "maxLength": MAX_BRANCH},
        "example": "feature/checkout",
    },
    "Seed": {
        "name": "x-inngest-event-id-seed",
        "in": "header",
        "description": "`<ms>,<base64 of 10 bytes>`: of a repeated send the same, which stores its events once. One "
        "that cannot be read is not looked at.",
        "schema": {"type": "string"},
        "example": "1795407869000,AAECAwQFBgcICQ==",
    },
}

_TEXT_IN_PATH: Final = {"type": "string", "minLength": 1}
_ULIDS_IN_PATH: Final = frozenset({"event_id", "run_id", "cancellation_id", "replay_id", "letter_id"})
_TEXTS_IN_PATH: Final[Mapping[str, str]] = {
    "slug": "`<app id>-<function id>`; may hold slashes.",
    "app_id": "What the app's client is called in code; may hold slashes.",
    "environment": "The environment's name, or `<environment>/<branch>`.",
    "key": "An event key of the environment.",
    "token": "The secret part of the webhook's URL.",
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer"}}
}


class UndocumentedError(LookupError):
    """A route and the table of operations do not agree."""


def make_document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document of these routes and of what is served in front of them.

    Raises:
        UndocumentedError: a route is not in the table of operations, or one in it is not served.
    """
    told = _told(routes)
    both = set(told) | IN_FRONT
    if both != set(OPERATIONS):
        odd = ", ".join(f"{method} {path}" for method, path in sorted(both ^ set(OPERATIONS)))
        raise UndocumentedError(f"in `OPERATIONS` and among the routes there must be the same, not so: {odd}")
    schemas = _Schemas(OPERATIONS.values())
    paths: dict[str, dict[str, Any]] = {}
    for key, operation in OPERATIONS.items():
        method, path = key
        paths.setdefault(path, {})[method.lower()] = _operation(key, operation, told.get(key, {}), schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Innkeeper",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {
                name: _refusal(status, text, schemas.of(kinds.Error))
                for status, (name, text) in _REFUSALS.items()
            },
            "parameters": _PARAMETERS,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


class _Schemas:
    """JSON Schemas of all that is answered and taken."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._types: list[Any] = [kinds.Error, kinds.Metadata, kinds.Page, replies_jobs.LettersPage]
        for operation in operations:
            self._types += [each.type for each in operation.replies.values() if each.type is not None]
            self._types += [operation.error, operation.body]
        self._schemas, self.components = msgspec.json.schema_components(
            self._types, ref_template="#/components/schemas/{name}"
        )

    def of(self, type_: Any) -> dict[str, Any]:
        return dict(self._schemas[self._types.index(type_)])

    def wrapped(self, reply: Reply) -> dict[str, Any]:
        """The schema of a whole answer."""
        data = self.of(reply.type)
        if reply.wrap == "bare":
            return data
        properties = {"data": data, "metadata": self.of(kinds.Metadata)}
        if reply.wrap != "data":
            properties["page"] = self.of(kinds.Page if reply.wrap == "page" else replies_jobs.LettersPage)
        return {"type": "object", "properties": properties, "required": list(properties)}


def _told(routes: Sequence[BaseRoute]) -> dict[Key, Mapping[str, Any]]:
    """What FastAPI knows of each route."""
    paths = get_openapi(title="", version="", routes=routes).get("paths", {})
    return {(method.upper(), path): told for path, item in paths.items() for method, told in item.items()}


def _operation(key: Key, operation: Operation, told: Mapping[str, Any], schemas: _Schemas) -> dict[str, Any]:
    answers: dict[str, Any] = {
        str(status): _answer(reply, schemas) for status, reply in operation.replies.items()
    }
    for status in sorted({*_COMMON[operation.who], *operation.refusals}):
        answers[str(status)] = _error_answer(status, operation, schemas)
    view: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": _joined(told.get("description") or operation.description),
        "security": [dict(each) for each in _SECURITY[operation.who]],
    }
    parameters = _parameters(key[1], operation, told.get("parameters", ()))
    if parameters:
        view["parameters"] = parameters
    if operation.body is not None:
        view["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": schemas.of(operation.body)}},
        }
    return view | {"responses": answers}


def _answer(reply: Reply, schemas: _Schemas) -> dict[str, Any]:
    if reply.type is None:
        return {"description": reply.description}
    return {"description": reply.description, "content": {reply.media: {"schema": schemas.wrapped(reply)}}}


def _error_answer(status: int, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    name, text = _REFUSALS[status]
    # One is refused before it is known what it is about.
    if operation.error is kinds.Error or status == 431:
        return {"$ref": f"#/components/responses/{name}"}
    return _refusal(status, text, schemas.of(operation.error))


def _refusal(status: int, text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": text, "content": {"application/json": {"schema": schema}}}
    return answer | {"headers": _RETRY_AFTER} if status == 503 else answer


def _parameters(path: str, operation: Operation, told: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = [_in_path(name) for name in re.findall(r"{(\w+)}", path)]
    found += [_in_query(each) for each in told if each["in"] == "query"]
    named = operation.method_parameters or (("Environment",) if operation.who in ("caller", "app") else ())
    return found + [{"$ref": f"#/components/parameters/{name}"} for name in named]


def _in_path(name: str) -> dict[str, Any]:
    if name in _ULIDS_IN_PATH:
        schema: dict[str, Any] = {"type": "string", "pattern": kinds.ULID_PATTERN}
        return {"name": name, "in": "path", "required": True, "schema": schema, "example": kinds.ULID_EXAMPLE}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": _TEXTS_IN_PATH[name],
        "schema": dict(_TEXT_IN_PATH),
    }


def _in_query(told: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter as FastAPI tells of it. Null cannot stand in a query: it is the word for none."""
    schema = dict(told["schema"])
    for alternative in schema.pop("anyOf", ()):
        if alternative.get("type") != "null":
            schema |= alternative
    for said in ("title", "description"):
        schema.pop(said, None)
    if schema.get("default") in ("", None):
        schema.pop("default", None)
    view = {"name": told["name"], "in": "query", "schema": schema}
    return view | {"description": told["description"]} if "description" in told else view


def _joined(text: str) -> str:
    """A docstring without the line breaks inside its paragraphs."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))
