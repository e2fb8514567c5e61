"""HTTP: from a request to a call of the API, and back."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import msgspec
import orjson
import yaml
from aiohttp import web

from tests.kube import builtin, errors
from tests.kube.access import Asked, Identity
from tests.kube.api import Api
from tests.kube.calls import APPLY, Call
from tests.kube.deletion import NAMESPACES
from tests.kube.discovery import document
from tests.kube.errors import ApiError, Obj
from tests.kube.kinds import Kind
from tests.kube.lists import Lists, View, selection
from tests.kube.reviews import REVIEWS, Reviewer
from tests.kube.selectors import name_in
from tests.kube.watching import Watch

_MAX_BODY_BYTES = 3 * 1024 * 1024
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_BODY_TYPES = ("application/json", "application/yaml", "application/octet-stream")
_TEXT_404 = b"404 page not found\n"


class Outage(msgspec.Struct, kw_only=True):
    """Requests to be refused."""

    status: int
    times: int
    """How many more."""
    retry_after_s: int | None = None
    matches: Callable[[Asked], bool] | None = None


class Server:
    """Answers requests. One event loop's: nothing here may be called from another thread."""

    def __init__(self, api: Api, identities: dict[str, Identity]) -> None:
        self._api = api
        self._identities = identities
        self.lists = Lists(api.store)
        self.reviewer = Reviewer(identities)
        self.requests: list[Asked] = []
        self.failures: list[Exception] = []
        """What went wrong in here, as opposed to what clients did wrong."""
        self.on_activity: Callable[[], None] = lambda: None
        """Called after each request, and when a watch begins or ends."""
        self.outages: list[Outage] = []
        self.watches: dict[Watch, asyncio.Transport] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            return await self._answer(request)
        except ApiError as error:
            return _json(error.status(), error.code, retry_after_s=error.retry_after_s)
        except ConnectionError:
            raise
        except Exception as error:
            self.failures.append(error)
            status = errors.internal(f"{type(error).__name__}: {error}")
            return _json(status.status(), status.code)
        finally:
            self.on_activity()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = tuple(unquote(part) for part in request.rel_url.raw_path.split("/") if part)
        identity = self._identify(request)
        if path and path[0] in {"healthz", "livez", "readyz"}:
            self._refuse(None)
            return web.Response(body=b"ok")
        found = document(path, self._api.kinds) if request.method == "GET" else None
        if found is not None:
            self._refuse(None)
            return _json(found)
        call = self._route(request, path, identity)
        if call is None:
            self._refuse(None)
            return web.Response(status=404, body=_TEXT_404, content_type="text/plain")
        asked = _asked(call, call.verb)
        self.requests.append(asked)
        self._refuse(asked)
        if not identity.may(asked):
            raise _forbidden(asked)
        if call.verb not in call.kind.verbs or (
            call.kind.namespaced and not call.namespace and call.verb == "create"
        ):
            raise errors.method_not_allowed(call.kind.group, call.kind.plural)
        if call.verb == "watch":
            return await self._watch(request, call)
        if request.method != "GET":
            await _read(request, call)
        return self._perform(call, metadata_only=_metadata_only(request))

    def _identify(self, request: web.BaseRequest) -> Identity:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        identity = self._identities.get(token.strip()) if scheme.lower() == "bearer" else None
        if identity is None:
            raise errors.unauthorized()
        return identity

    def _refuse(self, asked: Asked | None) -> None:
        for outage in self.outages:
            if outage.times > 0 and (outage.matches is None or (asked is not None and outage.matches(asked))):
                outage.times -= 1
                phrase = HTTPStatus(outage.status).phrase
                reason = {429: "TooManyRequests", 503: "ServiceUnavailable", 500: "InternalError"}.get(
                    outage.status, phrase.replace(" ", "")
                )
                raise ApiError(outage.status, reason, phrase, retry_after_s=outage.retry_after_s)

    def _route(self, request: web.BaseRequest, path: tuple[str, ...], identity: Identity) -> Call | None:
        place = _place(path)
        if place is None:
            return None
        group, version, namespace, plural, name, subresource = place
        kind = self._api.kinds.find(group, version, plural)
        if kind is None or (namespace and not kind.namespaced):
            return None
        if name and kind.namespaced and not namespace:
            return None
        if subresource and not (subresource == "status" and kind.has_status):
            return None
        query = dict(request.query)
        if name and query.get("watch"):
            query["fieldSelector"] = f"metadata.name={name}"
        call = Call(
            kind=kind,
            namespace=namespace,
            name=name,
            subresource=subresource,
            verb=_verb(request.method, query, name),
            query=query,
            content_type=request.content_type,
            manager=query.get("fieldManager") or _agent(request),
            identity=identity,
        )

        def may(verb: str) -> None:
            asked = _asked(call, verb)
            self.requests.append(asked)
            if not identity.may(asked):
                raise _forbidden(asked)

        call.may = may
        return call

    def _perform(self, call: Call, *, metadata_only: bool) -> web.Response:
        view = View(call.kind, metadata_only=metadata_only)
        match call.verb:
            case "list":
                return _json(self.lists.answer(view, call.namespace, call.query))
            case "get":
                return _json(view.raw(self._api.live(call)))
            case "create" if call.kind.kind in REVIEWS:
                review = {"apiVersion": call.kind.api_version, **_object(call.body), "kind": call.kind.kind}
                return _json(self.reviewer.answer(review, call.identity), 201)
            case "create":
                return _json(view.object(self._api.create(call)), 201, call.warnings)
            case "update":
                return _json(view.object(self._api.replace(call)), 200, call.warnings)
            case "patch":
                obj, new = self._api.patch(call)
                return _json(view.object(obj), 201 if new else 200, call.warnings)
            case "delete":
                obj, gone = self._api.delete(call)
                return _json(_deleted(call, obj) if gone else view.object(obj))
        return _json(self._delete_collection(call, view))

    def _delete_collection(self, call: Call, view: View) -> bytes:
        kind = call.kind
        predicate = selection(kind, call.query)
        entries = self._api.store.entries(kind.storage, call.namespace)
        if predicate is not None:
            entries = [entry for entry in entries if predicate(builtin.from_storage(kind, entry.obj))]
        for entry in entries:
            metadata = entry.obj["metadata"]
            call.name, call.namespace = metadata["name"], metadata.get("namespace", "")
            self._api.delete(call, entry)
        return view.list(entries, {"resourceVersion": str(self._api.store.version)})

    async def _watch(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        view = View(call.kind, metadata_only=_metadata_only(request))
        watch = Watch(self._api.store, view, call.namespace, call.query)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        assert request.transport is not None
        self.watches[watch] = request.transport
        try:
            await response.prepare(request)
            self.on_activity()
            await watch.stream(response)
        finally:
            watch.end()
            del self.watches[watch]
        return response


def _place(path: tuple[str, ...]) -> tuple[str, str, str, str, str, str] | None:
    """Group, version, namespace, plural, name, subresource of a path; None if it is no resource's."""
    if len(path) >= 3 and path[0] == "api":
        group, version, rest = "", path[1], path[2:]
    elif len(path) >= 4 and path[0] == "apis":
        group, version, rest = path[1], path[2], path[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        return None
    plural, name, subresource = (*rest, "", "")[:3]
    return group, version, namespace, plural, name, subresource


def _verb(method: str, query: Mapping[str, str], name: str) -> str:
    if method in {"GET", "HEAD"}:
        if query.get("watch") in {"true", "1"}:
            return "watch"
        return "get" if name else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    return _VERBS.get(method, method.lower())


def _asked(call: Call, verb: str) -> Asked:
    name = call.name
    if verb in {"list", "watch"} and not name:
        name = name_in(call.query.get("fieldSelector", ""))
    # A namespace is itself in the namespace of its name, as far as RBAC goes.
    namespace = call.name if call.kind.storage == NAMESPACES else call.namespace
    return Asked(
        verb=verb,
        group=call.kind.group,
        resource=call.kind.plural,
        subresource=call.subresource,
        namespace=namespace,
        name=name,
        user=call.identity.user,
    )


def _forbidden(asked: Asked) -> ApiError:
    return errors.forbidden(
        asked.user, asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace, asked.name
    )


def _agent(request: web.BaseRequest) -> str:
    """The field manager of a request that names none: what its User-Agent begins with."""
    return request.headers.get("User-Agent", "unknown").partition("/")[0][:128]


def _metadata_only(request: web.BaseRequest) -> bool:
    return "as=PartialObjectMetadata" in request.headers.get("Accept", "").partition(",")[0]


async def _read(request: web.BaseRequest, call: Call) -> None:
    raw = b""
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > _MAX_BODY_BYTES:
            told = f"Request entity too large: limit is {_MAX_BODY_BYTES}"
            raise ApiError(413, "RequestEntityTooLarge", told)
    if not raw:
        return
    if call.verb != "patch" and call.content_type not in _BODY_TYPES:
        raise errors.unsupported_media_type(_BODY_TYPES)
    try:
        call.body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if call.content_type not in {APPLY, "application/yaml"}:
            raise errors.bad_request(f"error decoding the body: {error}") from error
        try:
            call.body = yaml.safe_load(raw)
        except yaml.YAMLError as why:
            raise errors.bad_request(f"error decoding YAML: {why}") from why


def _object(body: Any) -> Obj:
    if not isinstance(body, dict):
        raise errors.bad_request("the object provided is unrecognized (must be an object)")
    return body


def _deleted(call: Call, obj: Obj) -> Obj:
    kind: Kind = call.kind
    details = {"name": call.name, "kind": kind.plural, "uid": obj["metadata"]["uid"]}
    if kind.group:
        details["group"] = kind.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _json(
    body: Obj | bytes, status: int = 200, warnings: list[str] | None = None, retry_after_s: int | None = None
) -> web.Response:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    response = web.Response(status=status, body=raw, content_type="application/json")
    for told in warnings or ():
        response.headers.add("Warning", f"299 - {orjson.dumps(told).decode()}")
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response
