"""Requests to the API server, off the event loop, and the actions of a plan as such requests.

Through the official client: its configuration, its credentials (in-cluster service account or KUBECONFIG, refreshed
when they expire) and its connections. Objects stay JSON: what decisions need of them is read in `objects.py`.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import structlog
import urllib3
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from innkeeper_engine.model.clock import Clock
from innkeeper_operator.actions import Action, Apply, Create, Delete, SetFinalizer, SetStatus, Tell
from innkeeper_operator.errors import ApiError, OperatorStoppedError
from innkeeper_operator.objects import FINALIZER, MANAGER
from innkeeper_operator.specs import API_VERSION, GROUP
from innkeeper_operator.times import micro_time

Json = dict[str, Any]

_log = structlog.get_logger(__name__)

_MERGE_PATCH: Final = "application/merge-patch+json"
_APPLY_PATCH: Final = "application/apply-patch+yaml"
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
_PAGE: Final = 500
_THREADS: Final = 8
_TOLD_MS: Final = 600_000
"""An Event that says the same of the same object is not repeated within this."""
_TOLD_MOST: Final = 10_000
_MESSAGE_BYTES: Final = 1024
"""`note` of an Event holds no more."""
_ATTEMPTS: Final = 3


class Resource(msgspec.Struct, frozen=True):
    """Where objects of one kind are."""

    group_version: str
    plural: str
    kind: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Path of the collection, of one object, or of its subresource."""
        root = "/apis/" if "/" in self.group_version else "/api/"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        end = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}{self.group_version}{place}/{self.plural}{end}"


RESOURCES: Final[dict[str, Resource]] = {
    resource.plural: resource
    for resource in (
        Resource(API_VERSION, "inngestapps", "InngestApp"),
        Resource(API_VERSION, "functions", "Function"),
        Resource(API_VERSION, "webhooks", "Webhook"),
        Resource("v1", "secrets", "Secret"),
        Resource("v1", "configmaps", "ConfigMap"),
        Resource("v1", "services", "Service"),
        Resource("v1", "pods", "Pod"),
        Resource("v1", "namespaces", "Namespace", namespaced=False),
        Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice"),
        Resource("events.k8s.io/v1", "events", "Event"),
    )
}
"""By plural."""
BY_KIND: Final[dict[str, Resource]] = {resource.kind: resource for resource in RESOURCES.values()}


def find_configuration(kubeconfig: str | None = None) -> Configuration:
    """How to reach the API server: `kubeconfig`, else the service account of the pod, else KUBECONFIG or ~/.kube/config.

    Raises:
        OperatorStoppedError: there is none of these.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(  # type: ignore[no-untyped-call]
                config_file=kubeconfig, client_configuration=configuration, persist_config=False
            )
    except (ConfigException, OSError) as error:
        raise OperatorStoppedError(
            f"there is no way to the API server: {error}. In a pod, mount the service account's token; elsewhere set "
            "KUBECONFIG"
        ) from error
    # Whoever asks decides whether to ask again.
    configuration.retries = urllib3.Retry(connect=0, read=0, redirect=3, other=0, status=0)
    configuration.connection_pool_maxsize = _THREADS
    return configuration


class Cluster:
    """The API server."""

    def __init__(
        self,
        configuration: Configuration,
        clock: Clock,
        *,
        instance: str = "innkeeper-operator",
        on_write: Callable[[str, str], None] = lambda _verb, _plural: None,
    ) -> None:
        """`instance` is named in Events. `on_write` hears of each request that changes something."""
        self.configuration = configuration
        self._client = ApiClient(configuration)
        self._client.user_agent = "innkeeper-operator"
        self._clock = clock
        self._instance = instance
        self._on_write = on_write
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kubernetes")
        self._told: dict[tuple[str, str, str], int] = {}

    async def close(self) -> None:
        """Close the connections; requests under way are waited for."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        self._client.rest_client.close()

    # ---- requests

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout_s: float = 30.0,
    ) -> Json:
        """Send one request and read its answer.

        Raises:
            ApiError: it was refused, or there was no answer.
        """
        headers = {"Accept": accept, "User-Agent": self._client.user_agent}
        if body is not None:
            headers["Content-Type"] = content_type
        target = f"{path}?{urlencode(query)}" if query else path
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(
            self._threads, self._send, method, target, headers, body, timeout_s
        )
        if method != "GET":
            self._on_write(method, path.rpartition("/")[2] if method == "POST" else _plural(path))
        return answer

    def _send(
        self, method: str, target: str, headers: dict[str, str], body: Json | None, timeout_s: float
    ) -> Json:
        self._client.update_params_for_auth(headers, [], ["BearerToken"], target, method, body)
        try:
            reply = self._client.call_api(
                method,
                self.configuration.host + target,
                header_params=headers,
                body=body,
                _request_timeout=(min(timeout_s, 5.0), timeout_s),
            )
            data = reply.read()  # type: ignore[no-untyped-call]
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise ApiError(
                0, "Unreachable", f"the API server did not answer {method} {target}: {error}"
            ) from None
        return _read_answer(method, target, int(reply.status), data)

    async def list_all(
        self,
        plural: str,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        metadata_only: bool = False,
    ) -> list[Json]:
        """Every object of a kind in a namespace, or in all (None), as of one instant.

        Raises:
            ApiError: 404 where the API server does not know the kind.
        """
        path = RESOURCES[plural].path(namespace)
        accept = _METADATA_ONLY if metadata_only else "application/json"
        found: list[Json] = []
        query = {"limit": str(_PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            answer = await self.request("GET", path, query=query, accept=accept)
            found.extend(answer.get("items") or ())
            token = (answer.get("metadata") or {}).get("continue")
            if not token:
                return found
            query["continue"] = str(token)

    async def get(self, plural: str, namespace: str, name: str) -> Json | None:
        """One object; None where there is none.

        Raises:
            ApiError: refused, or no answer.
        """
        try:
            return await self.request("GET", RESOURCES[plural].path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    # ---- actions

    async def do(self, action: Action, *, status_now: Json | None = None) -> Json | None:
        """Make an action true; returns the object as it is then, None where it is gone.

        `status_now`: the status as it is, for SetStatus: what is in it and not in the new one is taken away.

        Raises:
            ApiError: refused, or no answer. 409: the object is another one by now.
        """
        if isinstance(action, Apply):
            return await self._apply(action)
        if isinstance(action, Create):
            return await self._create(action)
        if isinstance(action, Delete):
            await self._delete(action)
            return None
        if isinstance(action, SetStatus):
            return await self._set_status(action, status_now or {})
        if isinstance(action, SetFinalizer):
            return await self.set_finalizer(action)
        await self._tell(action)
        return None

    async def _apply(self, action: Apply) -> Json:
        manifest = action.manifest
        meta = manifest["metadata"]
        query = {"fieldManager": MANAGER, "force": "true" if action.force else "false"}
        path = BY_KIND[manifest["kind"]].path(meta.get("namespace"), meta["name"])
        return await self.request("PATCH", path, query=query, body=manifest, content_type=_APPLY_PATCH)

    async def _create(self, action: Create) -> Json | None:
        manifest = action.manifest
        path = BY_KIND[manifest["kind"]].path(manifest["metadata"].get("namespace"))
        try:
            return await self.request("POST", path, query={"fieldManager": MANAGER}, body=manifest)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                return None
            raise

    async def _delete(self, action: Delete) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": action.uid},
        }
        try:
            await self.request("DELETE", BY_KIND[action.kind].path(action.namespace, action.name), body=body)
        except ApiError as error:
            # 409: there is another object of that name now, which is not meant.
            if error.status not in (404, 409):
                raise

    async def _set_status(self, action: SetStatus, now: Json) -> Json | None:
        body = {"metadata": {"uid": action.uid}, "status": merge_patch(now, action.status)}
        path = BY_KIND[action.kind].path(action.namespace, action.name, "status")
        try:
            return await self.request(
                "PATCH", path, query={"fieldManager": MANAGER}, body=body, content_type=_MERGE_PATCH
            )
        except ApiError as error:
            # 422 of the uid: there is another object of that name now, which is not meant.
            if error.status == 404 or (error.status == 422 and "metadata.uid" in str(error)):
                return None
            raise

    async def set_finalizer(self, action: SetFinalizer) -> Json | None:
        """Put the operator's finalizer on an InngestApp, or take it off."""
        resource = BY_KIND["InngestApp"]
        path = resource.path(action.namespace, action.name)
        for attempt in range(_ATTEMPTS):
            raw = await self.get(resource.plural, action.namespace, action.name)
            if raw is None or raw["metadata"].get("uid") != action.uid:
                return None
            there = list(raw["metadata"].get("finalizers") or ())
            wanted = [name for name in there if name != FINALIZER] + [FINALIZER] * action.present
            if (FINALIZER in there) == action.present:
                return raw
            meta = {"finalizers": wanted, "resourceVersion": raw["metadata"]["resourceVersion"]}
            query = {"fieldManager": MANAGER}
            try:
                return await self.request(
                    "PATCH", path, query=query, body={"metadata": meta}, content_type=_MERGE_PATCH
                )
            except ApiError as error:
                if error.status == 404:
                    return None
                if error.status != 409 or attempt == _ATTEMPTS - 1:
                    raise
        return None

    async def _tell(self, action: Tell) -> None:
        """Create an Event, unless the same was said a short while ago. Events are news: losing one is no error."""
        now_ms = self._clock.now_ms()
        said = (action.uid, action.reason, action.message)
        if now_ms - self._told.get(said, -_TOLD_MS) < _TOLD_MS:
            return
        self._told.pop(said, None)
        self._told[said] = now_ms
        if len(self._told) > _TOLD_MOST:
            del self._told[next(iter(self._told))]
        try:
            await self.request(
                "POST", BY_KIND["Event"].path(_event_place(action)), body=self._event(action, now_ms)
            )
        except ApiError as error:
            _log.warning("an Event was not written", reason=action.reason, name=action.name, error=str(error))

    def _event(self, action: Tell, now_ms: int) -> Json:
        digest = hashlib.sha256(
            f"{action.uid} {action.reason} {action.message} {now_ms}".encode()
        ).hexdigest()
        resource = BY_KIND[action.kind]
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{action.name[:230]}.{digest[:16]}", "namespace": _event_place(action)},
            "eventTime": micro_time(now_ms),
            "reportingController": f"{GROUP}/operator",
            "reportingInstance": self._instance[:128],
            "action": "Reconcile",
            "type": action.type,
            "reason": action.reason[:128],
            "note": action.message.encode()[:_MESSAGE_BYTES].decode(errors="ignore"),
            "regarding": {
                "apiVersion": resource.group_version,
                "kind": action.kind,
                "name": action.name,
                "uid": action.uid,
            }
            | ({"namespace": action.namespace} if action.namespace else {}),
        }


def merge_patch(now: Json, wanted: Json) -> Json:
    """The JSON merge patch (RFC 7386) that makes `wanted` of `now`: what is to go is null, what is equal is left out."""
    patch: Json = {key: None for key in now if key not in wanted}
    for key, value in wanted.items():
        there = now.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            inner = merge_patch(there, value)
            if inner:
                patch[key] = inner
        elif key not in now or there != value:
            patch[key] = value
    return patch


def _event_place(action: Tell) -> str:
    """Events about what belongs to no namespace are kept in `default`: the API server wants it so."""
    return action.namespace or "default"


def _plural(path: str) -> str:
    """Which kind a request to one object was about."""
    return next((part for part in path.split("/") if part in RESOURCES and part != "namespaces"), "other")


def _read_answer(method: str, target: str, status: int, data: bytes) -> Json:
    try:
        answer = json.loads(data) if data else {}
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    if 200 <= status < 300:
        return answer
    reason = str(answer.get("reason") or "")
    said = str(answer.get("message") or "no reason given")
    # The query may hold a continue token, which says nothing to anybody.
    raise ApiError(status, reason, f"{method} {target.partition('?')[0]}: {status} {reason}: {said}")
