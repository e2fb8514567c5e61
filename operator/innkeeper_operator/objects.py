"""Kubernetes objects as the operator looks at them: the parts that decisions need, as plain data.

Everything is read from the JSON that the API server sends; what is missing reads as empty, never as an error.
"""

import base64
import contextlib
from typing import Any, Final

import msgspec

from innkeeper_operator.explaining import explain
from innkeeper_operator.specs import AppSpec, FunctionSpec, WebhookSpec

Json = dict[str, Any]

MANAGER: Final = "innkeeper-operator"
"""The field manager of everything that the operator writes."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE: Final = "innkeeper"
REGISTERED_BY: Final = "innkeeper.dev/registered-by"
"""Label of an InngestApp that the operator made for an app that registered itself; value `sdk`."""
KEY_LABEL: Final = "innkeeper.dev/key"
"""Label of Secrets that may be read; value `event`, `signing` or `webhook` (several joined by `.`).

`env` marks what the operator makes for a workload (`<app>-inngest-env`), so that it sees whether that is still right.
"""
SYNC_REQUESTED: Final = "innkeeper.dev/sync-requested-at"
ALLOWED_EVENTS: Final = "innkeeper.dev/allowed-events"
ALLOWED_CIDRS: Final = "innkeeper.dev/allowed-cidrs"
ENVIRONMENT: Final = "innkeeper.dev/environment"
ACCOUNT: Final = "innkeeper.dev/account"
RETENTION_EVENTS: Final = "innkeeper.dev/retention-events"
RETENTION_RUNS: Final = "innkeeper.dev/retention-runs"
RETENTION_DEAD_LETTERS: Final = "innkeeper.dev/retention-dead-letters"
EGRESS_ALLOW: Final = "innkeeper.dev/egress-allow"
EVENTS_PER_SECOND: Final = "innkeeper.dev/events-per-second"
WEBHOOK_REDIRECTS: Final = "innkeeper.dev/webhook-redirects"
NAMESPACE_ANNOTATIONS: Final = (
    ENVIRONMENT,
    ACCOUNT,
    RETENTION_EVENTS,
    RETENTION_RUNS,
    RETENTION_DEAD_LETTERS,
    EGRESS_ALLOW,
    EVENTS_PER_SECOND,
    WEBHOOK_REDIRECTS,
)
"""What a Namespace says of its environment."""
FINALIZER: Final = "innkeeper.dev/runs"
NAMESPACE_KEYS: Final = "innkeeper-keys"
"""The Secret that holds a namespace's own keys."""

SERVICE_NAME: Final = "kubernetes.io/service-name"
"""Label of an EndpointSlice: the Service that it belongs to."""
_REVISION_LABELS: Final = ("pod-template-hash", "controller-revision-hash")

APP_KIND: Final = "InngestApp"
FUNCTION_KIND: Final = "Function"
WEBHOOK_KIND: Final = "Webhook"


class Managed(msgspec.Struct, frozen=True):
    """One entry of `managedFields`."""

    manager: str
    operation: str
    subresource: str
    spec_fields: frozenset[str]
    """Names of the top-level fields of `spec` that it owns."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What decisions need of `metadata`."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    created: str = ""
    """RFC 3339; texts of one length, so they sort by time."""
    deleting: bool = False
    """It has a deletionTimestamp."""
    deleted_at: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_uids: tuple[str, ...] = ()
    managed: tuple[Managed, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


class AppObject(msgspec.Struct, frozen=True):
    """An InngestApp."""

    meta: Meta
    spec: AppSpec
    status: Json


class FunctionObject(msgspec.Struct, frozen=True):
    """A Function."""

    meta: Meta
    spec: FunctionSpec
    status: Json


class WebhookObject(msgspec.Struct, frozen=True):
    """A Webhook."""

    meta: Meta
    spec: WebhookSpec
    status: Json


class Unreadable(msgspec.Struct, frozen=True):
    """An object whose spec this version cannot read: of a later version, or stored before a rule was made."""

    kind: str
    meta: Meta
    why: str
    app: str = ""
    """Of a Function: the app that it names, if that much can be read."""


class SecretObject(msgspec.Struct, frozen=True):
    """A Secret with the label `innkeeper.dev/key`, decoded. Printing it shows no value."""

    meta: Meta
    data: dict[str, bytes]

    def __repr__(self) -> str:
        """The name and the names of its keys."""
        return f"SecretObject({self.meta.namespace}/{self.meta.name}, keys={sorted(self.data)})"

    __str__ = __repr__

    def __rich_repr__(self) -> Any:
        yield repr(self)


class ConfigMapObject(msgspec.Struct, frozen=True):
    """A ConfigMap that a Webhook names."""

    meta: Meta
    data: dict[str, str]


class ServicePort(msgspec.Struct, frozen=True):
    """A port of a Service."""

    name: str
    port: int


class ServiceObject(msgspec.Struct, frozen=True):
    """A Service."""

    meta: Meta
    ports: tuple[ServicePort, ...]
    external: bool = False
    """Of type ExternalName: nothing but another name for a host."""


class SliceEndpoint(msgspec.Struct, frozen=True):
    """One address of an EndpointSlice."""

    address: str
    ready: bool
    """`ready` is not false."""
    terminating: bool
    pod: str
    """Name of the pod behind it; empty where there is none."""


class SliceObject(msgspec.Struct, frozen=True):
    """An EndpointSlice (`discovery.k8s.io/v1`)."""

    meta: Meta
    service: str
    address_type: str
    ports: dict[str, int]
    """Port number by port name (empty for an unnamed port)."""
    endpoints: tuple[SliceEndpoint, ...]


class PodObject(msgspec.Struct, frozen=True):
    """A Pod: metadata is all that is looked at."""

    meta: Meta

    @property
    def revision(self) -> str:
        """Which version of the workload it is; empty for a pod of its own."""
        return next((value for label in _REVISION_LABELS if (value := self.meta.labels.get(label))), "")


class NamespaceObject(msgspec.Struct, frozen=True):
    """A Namespace."""

    meta: Meta


# ---- reading


def read_meta(raw: Json) -> Meta:
    """`metadata` of any object."""
    meta = raw.get("metadata") or {}
    return Meta(
        name=str(meta.get("name") or ""),
        namespace=str(meta.get("namespace") or ""),
        uid=str(meta.get("uid") or ""),
        generation=int(meta.get("generation") or 0),
        resource_version=str(meta.get("resourceVersion") or ""),
        created=str(meta.get("creationTimestamp") or ""),
        deleting=meta.get("deletionTimestamp") is not None,
        deleted_at=str(meta.get("deletionTimestamp") or ""),
        labels=dict(meta.get("labels") or {}),
        annotations=dict(meta.get("annotations") or {}),
        finalizers=tuple(meta.get("finalizers") or ()),
        owner_uids=tuple(str(ref.get("uid") or "") for ref in meta.get("ownerReferences") or ()),
        managed=tuple(_read_managed(entry) for entry in meta.get("managedFields") or ()),
    )


def _read_managed(entry: Json) -> Managed:
    spec = (entry.get("fieldsV1") or {}).get("f:spec") or {}
    return Managed(
        manager=str(entry.get("manager") or ""),
        operation=str(entry.get("operation") or ""),
        subresource=str(entry.get("subresource") or ""),
        spec_fields=frozenset(name.removeprefix("f:") for name in spec if name != "."),
    )


def read_app(raw: Json) -> AppObject | Unreadable:
    """An InngestApp."""
    meta = read_meta(raw)
    try:
        spec = msgspec.convert(raw.get("spec") or {}, AppSpec)
    except msgspec.ValidationError as error:
        return Unreadable(APP_KIND, meta, explain(error, AppSpec))
    return AppObject(meta, spec, dict(raw.get("status") or {}))


def read_function(raw: Json) -> FunctionObject | Unreadable:
    """A Function."""
    meta = read_meta(raw)
    try:
        spec = msgspec.convert(raw.get("spec") or {}, FunctionSpec)
    except msgspec.ValidationError as error:
        ref = (raw.get("spec") or {}).get("appRef")
        app = ref.get("name") if isinstance(ref, dict) else None
        return Unreadable(
            FUNCTION_KIND, meta, explain(error, FunctionSpec), app if isinstance(app, str) else ""
        )
    return FunctionObject(meta, spec, dict(raw.get("status") or {}))


def read_webhook(raw: Json) -> WebhookObject | Unreadable:
    """A Webhook."""
    meta = read_meta(raw)
    try:
        spec = msgspec.convert(raw.get("spec") or {}, WebhookSpec)
    except msgspec.ValidationError as error:
        return Unreadable(WEBHOOK_KIND, meta, explain(error, WebhookSpec))
    return WebhookObject(meta, spec, dict(raw.get("status") or {}))


def read_config_map(raw: Json) -> ConfigMapObject:
    """A ConfigMap; `binaryData` is not looked at."""
    data = {str(key): str(value) for key, value in (raw.get("data") or {}).items()}
    return ConfigMapObject(read_meta(raw), data)


def read_secret(raw: Json) -> SecretObject:
    """A Secret; a value that is not base64 reads as absent."""
    data: dict[str, bytes] = {}
    for key, value in (raw.get("data") or {}).items():
        with contextlib.suppress(ValueError):
            data[str(key)] = base64.b64decode(str(value), validate=True)
    return SecretObject(read_meta(raw), data)


def read_service(raw: Json) -> ServiceObject:
    """A Service."""
    spec = raw.get("spec") or {}
    return ServiceObject(
        read_meta(raw),
        tuple(
            ServicePort(str(p.get("name") or ""), int(p.get("port") or 0)) for p in spec.get("ports") or ()
        ),
        external=spec.get("type") == "ExternalName",
    )


def read_slice(raw: Json) -> SliceObject:
    """An EndpointSlice. A port without a number, and an endpoint without an address, are left out."""
    meta = read_meta(raw)
    return SliceObject(
        meta,
        service=meta.labels.get(SERVICE_NAME, ""),
        address_type=str(raw.get("addressType") or ""),
        ports={str(p.get("name") or ""): int(p["port"]) for p in raw.get("ports") or () if p.get("port")},
        endpoints=tuple(_read_endpoint(e) for e in raw.get("endpoints") or () if e.get("addresses")),
    )


def _read_endpoint(raw: Json) -> SliceEndpoint:
    conditions = raw.get("conditions") or {}
    target = raw.get("targetRef") or {}
    return SliceEndpoint(
        # The API says that consumers use the first one only.
        address=str(raw["addresses"][0]),
        ready=conditions.get("ready") is not False,
        terminating=conditions.get("terminating") is True,
        pod=str(target.get("name") or "") if target.get("kind") == "Pod" else "",
    )


def read_pod(raw: Json) -> PodObject:
    """A Pod, of which only what tells its revision is kept: there are many."""
    meta = raw.get("metadata") or {}
    labels = meta.get("labels") or {}
    return PodObject(
        Meta(
            name=str(meta.get("name") or ""),
            namespace=str(meta.get("namespace") or ""),
            uid=str(meta.get("uid") or ""),
            resource_version=str(meta.get("resourceVersion") or ""),
            labels={key: str(labels[key]) for key in _REVISION_LABELS if key in labels},
        )
    )


def read_namespace(raw: Json) -> NamespaceObject:
    """A Namespace."""
    return NamespaceObject(read_meta(raw))
