"""A cluster as tests use it: the same few verbs on the emulator and on a real API server, over plain HTTP."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import httpx
import msgspec
import orjson
import yaml

from tests.kube.connection import Connection
from tests.kube.errors import ApiError, Obj

_TIMEOUT_S = 30.0
_RECONNECT_S = 0.02


class _Resource(msgspec.Struct, frozen=True):
    api_version: str
    kind: str
    plural: str
    names: frozenset[str]
    namespaced: bool

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        where = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join([f"{root}{where}/{self.plural}", *filter(None, (name, subresource))])


class Cluster:
    """Blocking calls, usable from any thread; `aio` has the same for async tests.

    `kind` is what people write: `Function`, `functions`, `ifn` or `functions.innkeeper.dev`. Errors of the API are raised
    as `ApiError`, with `code`, `reason`, `message` and `details` of its Status.
    """

    def __init__(self, connection: Connection, *, real: bool, controllers: bool) -> None:
        self.connection = connection
        self.real = real
        """Whether this is a real API server."""
        self.controllers = controllers
        """Whether somebody collects garbage and empties namespaces: an API server alone does not."""
        self.aio = AsyncCluster(self)
        headers = {"Authorization": f"Bearer {connection.token}"} if connection.token else {}
        self.http = httpx.Client(
            base_url=connection.server,
            headers=headers | {"User-Agent": "tests/1"},
            verify=connection.tls or False,
            timeout=_TIMEOUT_S,
            trust_env=False,
        )
        self._resources: list[_Resource] = []
        self._namespaces: list[str] = []

    def close(self) -> None:
        """Delete the namespaces that were made here, and disconnect."""
        try:
            for name in self._namespaces if self.real else ():
                self.delete("namespaces", "", name)
        finally:
            self.http.close()

    def kubeconfig(self, path: Path, *, token: str = "", namespace: str = "default") -> Path:
        """Write a kubeconfig for this cluster, with another token if one is given."""
        config: Obj = orjson.loads(orjson.dumps(self.connection.config))
        for context in config["contexts"]:
            context["context"]["namespace"] = namespace
        if token:
            for user in config["users"]:
                user["user"] = {"token": token}
        path.write_text(yaml.safe_dump(config))
        return path

    # Objects

    @overload
    def apply(self, manifest: Obj, manager: str = ..., *, force: bool = ..., namespace: str = ...) -> Obj: ...

    @overload
    def apply(
        self, manifest: Sequence[Obj], manager: str = ..., *, force: bool = ..., namespace: str = ...
    ) -> list[Obj]: ...

    def apply(
        self,
        manifest: Obj | Sequence[Obj],
        manager: str = "kubectl",
        *,
        force: bool = False,
        namespace: str = "",
    ) -> Obj | list[Obj]:
        """Server-side apply of one object or several; `namespace` is for those that name none."""
        if not isinstance(manifest, dict):
            return [self.apply(one, manager, force=force, namespace=namespace) for one in manifest]
        resource = self._of(manifest)
        metadata = manifest["metadata"]
        where = metadata.get("namespace") or namespace or "default"
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        return self._object(
            "PATCH",
            resource.path(where, metadata["name"]),
            manifest,
            params,
            "application/apply-patch+yaml",
        )

    def create(self, manifest: Obj, *, namespace: str = "", manager: str = "kubectl-create") -> Obj:
        """POST, for what cannot be applied: generated names, reviews."""
        resource = self._of(manifest)
        where = manifest["metadata"].get("namespace") or namespace or "default"
        return self._object("POST", resource.path(where), manifest, {"fieldManager": manager})

    def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        """An object, or None."""
        try:
            return self._object("GET", self._named(kind).path(namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(
        self, kind: str, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> list[Obj]:
        """The objects of a kind in a namespace, or in all."""
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        params = {name: text for name, text in selectors.items() if text}
        items: list[Obj] = self._object("GET", self._named(kind).path(namespace), params=params)["items"]
        return items

    def patch(
        self,
        kind: str,
        namespace: str,
        name: str,
        patch: Obj | Sequence[Obj],
        subresource: str = "",
        manager: str = "kubectl-patch",
    ) -> Obj:
        """A merge patch, or a JSON patch if it is a list."""
        how = "merge" if isinstance(patch, dict) else "json"
        path = self._named(kind).path(namespace, name, subresource)
        return self._object("PATCH", path, patch, {"fieldManager": manager}, f"application/{how}-patch+json")

    def replace(self, obj: Obj, subresource: str = "", manager: str = "kubectl-replace") -> Obj:
        """PUT of a whole object."""
        metadata = obj["metadata"]
        path = self._of(obj).path(metadata.get("namespace", ""), metadata["name"], subresource)
        return self._object("PUT", path, obj, {"fieldManager": manager})

    def delete(self, kind: str, namespace: str, name: str, *, propagation: str = "Background") -> bool:
        """Delete an object; False if there is none."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        try:
            self._object("DELETE", self._named(kind).path(namespace, name), options)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def create_namespace(
        self, prefix: str = "test", *, labels: Obj | None = None, annotations: Obj | None = None
    ) -> str:
        """Make a namespace under a random name, and return the name."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        metadata = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self._namespaces.append(name)
        return name

    def install_crds(self, crds: Sequence[Obj]) -> None:
        """Apply CustomResourceDefinitions and wait until they are served."""
        for crd in crds:
            self.apply(crd, force=True)
            self.wait_for("customresourcedefinitions", "", crd["metadata"]["name"], _is_established)
        self._resources = []

    # Waiting

    def wait_for(
        self,
        kind: str,
        namespace: str,
        name: str,
        predicate: Callable[[Obj | None], object],
        timeout_s: float = 10,
    ) -> Obj | None:
        """Watch an object until `predicate` holds of it; it is given None while there is no such object.

        Returns what it held of. Raises TimeoutError, which tells how the object was last.
        """
        deadline = time.monotonic() + timeout_s
        last: Obj | None = None
        for last in self._states(kind, namespace, name, deadline):
            if predicate(last):
                return last
        raise TimeoutError(
            f"{kind} {namespace}/{name} did not become as awaited within {timeout_s} s; it was last:\n"
            + (yaml.safe_dump(_without_values(last)) if last else "absent")
        )

    def _states(self, kind: str, namespace: str, name: str, deadline: float) -> Iterator[Obj | None]:
        """Each state of an object until the deadline, through restarts of the API and expired watches."""
        path = self._named(kind).path(namespace)
        params = {"fieldSelector": f"metadata.name={name}"}
        while time.monotonic() < deadline:
            try:
                listed = self._object("GET", path, params=params)
                yield listed["items"][0] if listed["items"] else None
                watch = params | {
                    "watch": "true",
                    "allowWatchBookmarks": "true",
                    "resourceVersion": listed["metadata"]["resourceVersion"],
                }
                yield from self._watched(path, watch, deadline)
            except httpx.ReadTimeout:
                continue
            except httpx.TransportError:
                time.sleep(_RECONNECT_S)

    def _watched(self, path: str, params: dict[str, str], deadline: float) -> Iterator[Obj | None]:
        left = max(deadline - time.monotonic(), 0.001)
        timeout = httpx.Timeout(_TIMEOUT_S, read=left)
        with self.http.stream("GET", path, params=params, timeout=timeout) as response:
            if response.status_code >= 400:
                response.read()
                raise _error(response)
            for line in response.iter_lines():
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] != "BOOKMARK":
                    yield None if event["type"] == "DELETED" else event["object"]
                if time.monotonic() >= deadline:
                    return

    # HTTP

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> httpx.Response:
        """Any request; answers of 400 and more are returned like the others."""
        if body is None:
            return self.http.request(method, path, params=params)
        headers = {"Content-Type": content_type}
        return self.http.request(method, path, params=params, headers=headers, content=orjson.dumps(body))

    def _object(self, method: str, path: str, *sent: Any, params: dict[str, str] | None = None) -> Obj:
        response = self.request(method, path, *sent) if sent else self.request(method, path, params=params)
        if response.status_code >= 400:
            raise _error(response)
        return orjson.loads(response.content)  # type: ignore[no-any-return]

    def _of(self, obj: Obj) -> _Resource:
        wanted = (obj["apiVersion"], obj["kind"])
        return self._find(lambda r: (r.api_version, r.kind) == wanted, " ".join(wanted))

    def _named(self, kind: str) -> _Resource:
        return self._find(lambda r: kind.lower() in r.names, kind)

    def _find(self, is_wanted: Callable[[_Resource], bool], told: str) -> _Resource:
        for _ in range(2):
            for resource in self._resources:
                if is_wanted(resource):
                    return resource
            self._resources = list(self._discovered())
        raise LookupError(f"the API server serves no {told}")

    def _discovered(self) -> Iterator[_Resource]:
        groups = self._object("GET", "/apis")["groups"]
        versions = [version["groupVersion"] for group in groups for version in group["versions"]]
        for api_version in ["v1", *versions]:
            root = "/apis" if "/" in api_version else "/api"
            group = api_version.partition("/")[0] if "/" in api_version else ""
            for entry in self._object("GET", f"{root}/{api_version}")["resources"]:
                plural = entry["name"]
                if "/" not in plural:
                    names = {plural, entry["kind"].lower(), *entry.get("shortNames", ())}
                    names.add(f"{plural}.{group}" if group else plural)
                    yield _Resource(api_version, entry["kind"], plural, frozenset(names), entry["namespaced"])


class AsyncCluster:
    """`Cluster` for async tests: each call runs in a thread, so the loop goes on meanwhile."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def apply(
        self, manifest: Obj, manager: str = "kubectl", *, force: bool = False, namespace: str = ""
    ) -> Obj:
        """As `Cluster.apply`, of one object."""
        return await asyncio.to_thread(
            self._cluster.apply, manifest, manager, force=force, namespace=namespace
        )

    async def apply_all(
        self, manifests: Sequence[Obj], manager: str = "kubectl", *, force: bool = False, namespace: str = ""
    ) -> list[Obj]:
        """As `Cluster.apply`, of several objects."""
        return await asyncio.to_thread(
            lambda: self._cluster.apply(list(manifests), manager, force=force, namespace=namespace)
        )

    async def create(self, manifest: Obj, *, namespace: str = "", manager: str = "kubectl-create") -> Obj:
        """As `Cluster.create`."""
        return await asyncio.to_thread(self._cluster.create, manifest, namespace=namespace, manager=manager)

    async def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        """As `Cluster.get`."""
        return await asyncio.to_thread(self._cluster.get, kind, namespace, name)

    async def list(self, kind: str, namespace: str = "", **selectors: str) -> list[Obj]:
        """As `Cluster.list`."""
        return await asyncio.to_thread(self._cluster.list, kind, namespace, **selectors)

    async def patch(
        self,
        kind: str,
        namespace: str,
        name: str,
        patch: Obj | Sequence[Obj],
        subresource: str = "",
        manager: str = "kubectl-patch",
    ) -> Obj:
        """As `Cluster.patch`."""
        return await asyncio.to_thread(
            self._cluster.patch, kind, namespace, name, patch, subresource, manager
        )

    async def delete(self, kind: str, namespace: str, name: str, *, propagation: str = "Background") -> bool:
        """As `Cluster.delete`."""
        return await asyncio.to_thread(self._cluster.delete, kind, namespace, name, propagation=propagation)

    async def create_namespace(self, prefix: str = "test", **metadata: Obj) -> str:
        """As `Cluster.create_namespace`."""
        return await asyncio.to_thread(self._cluster.create_namespace, prefix, **metadata)

    async def wait_for(
        self,
        kind: str,
        namespace: str,
        name: str,
        predicate: Callable[[Obj | None], object],
        timeout_s: float = 10,
    ) -> Obj | None:
        """As `Cluster.wait_for`; `predicate` is called in the thread."""
        return await asyncio.to_thread(self._cluster.wait_for, kind, namespace, name, predicate, timeout_s)


def _is_established(crd: Obj | None) -> bool:
    conditions = ((crd or {}).get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _without_values(obj: Obj) -> Obj:
    """An object for showing: without what Secrets hold, and without managedFields."""
    metadata = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    shown = {**obj, "metadata": metadata}
    if obj.get("kind") == "Secret" or "data" in obj:
        shown["data"] = dict.fromkeys(obj.get("data") or {}, "...")
    return shown


def _error(response: httpx.Response) -> ApiError:
    try:
        status = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        status = {}
    if not isinstance(status, dict) or status.get("kind") != "Status":
        return ApiError(response.status_code, "", response.text)
    return ApiError(
        response.status_code, status.get("reason", ""), status.get("message", ""), status.get("details")
    )
