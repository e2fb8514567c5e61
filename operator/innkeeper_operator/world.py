"""What the operator has seen of the cluster, and which apps and namespaces a change concerns.

Fed by watches (`watching.py`) and by the answers to the operator's own writes. News may arrive out of order and more
than once: what is older than what is known, or of an object that is gone, changes nothing. What only the operator
itself writes (`status`, its managed fields) makes nothing due.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, TypeAlias

import msgspec

from innkeeper_operator.objects import (
    ALLOWED_CIDRS,
    ALLOWED_EVENTS,
    NAMESPACE_ANNOTATIONS,
    NAMESPACE_KEYS,
    SYNC_REQUESTED,
    AppObject,
    ConfigMapObject,
    FunctionObject,
    Json,
    Meta,
    NamespaceObject,
    PodObject,
    SecretObject,
    ServiceObject,
    SliceObject,
    Unreadable,
    WebhookObject,
    read_app,
    read_config_map,
    read_function,
    read_meta,
    read_namespace,
    read_pod,
    read_secret,
    read_service,
    read_slice,
    read_webhook,
)
from innkeeper_operator.webhook_refs import config_map_of, secrets_of_webhook

Key: TypeAlias = tuple[str, str]
"""Namespace and name."""

APPS: Final = "inngestapps"
FUNCTIONS: Final = "functions"
WEBHOOKS: Final = "webhooks"
SECRETS: Final = "secrets"
CONFIG_MAPS: Final = "configmaps"
SERVICES: Final = "services"
SLICES: Final = "endpointslices"
PODS: Final = "pods"
NAMESPACES: Final = "namespaces"

_READERS: Final[dict[str, Callable[[Json], Any]]] = {
    APPS: read_app,
    FUNCTIONS: read_function,
    WEBHOOKS: read_webhook,
    SECRETS: read_secret,
    CONFIG_MAPS: read_config_map,
    SERVICES: read_service,
    SLICES: read_slice,
    PODS: read_pod,
    NAMESPACES: read_namespace,
}
_TOMBSTONES: Final = 10_000


class Dirty(msgspec.Struct, frozen=True):
    """What is to be looked at again."""

    apps: frozenset[Key] = frozenset()
    namespaces: frozenset[str] = frozenset()
    """Namespaces whose environment may have changed: its keys, its name, its account."""
    webhooks: frozenset[Key] = frozenset()


_CLEAN = Dirty()


class World:
    """Objects by kind (their plural), namespace and name."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Any]] = {kind: {} for kind in _READERS}
        self._gone: dict[str, int] = {}
        """The version that objects had when they went, by uid: an object can come back (it got its label again)."""
        self._apps_in: defaultdict[str, set[Key]] = defaultdict(set)
        self._apps_by_id: defaultdict[str, set[Key]] = defaultdict(set)
        self._apps_by_service: defaultdict[Key, set[Key]] = defaultdict(set)
        self._functions_of: defaultdict[Key, set[Key]] = defaultdict(set)
        self._functions_in: defaultdict[str, set[Key]] = defaultdict(set)
        self._webhooks_in: defaultdict[str, set[Key]] = defaultdict(set)
        self._slices_of: defaultdict[Key, set[Key]] = defaultdict(set)
        self._slices_with: defaultdict[Key, set[Key]] = defaultdict(set)
        """Slices by the pod that they name."""

    # ---- reading

    def app(self, key: Key) -> AppObject | Unreadable | None:
        """An InngestApp."""
        found: AppObject | Unreadable | None = self._objects[APPS].get(key)
        return found

    def apps(self) -> list[AppObject | Unreadable]:
        """Every InngestApp, sorted by namespace and name."""
        return [self._objects[APPS][key] for key in sorted(self._objects[APPS])]

    @property
    def app_count(self) -> int:
        """How many InngestApps there are."""
        return len(self._objects[APPS])

    def apps_in(self, namespace: str) -> list[AppObject | Unreadable]:
        """The InngestApps of a namespace, sorted by name."""
        return [self._objects[APPS][key] for key in sorted(self._apps_in.get(namespace, ()))]

    def apps_with_id(self, app_id: str) -> list[AppObject]:
        """The InngestApps of which it is known that this is their app id, in all namespaces."""
        found = (self._objects[APPS][key] for key in sorted(self._apps_by_id.get(app_id, ())))
        return [app for app in found if isinstance(app, AppObject)]

    def functions_of(self, app: Key) -> tuple[FunctionObject | Unreadable, ...]:
        """The Functions whose `appRef` names the app, sorted by name."""
        return tuple(self._objects[FUNCTIONS][key] for key in sorted(self._functions_of.get(app, ())))

    def function_names(self, namespace: str) -> set[str]:
        """Names of the Functions of a namespace."""
        return {name for _, name in self._functions_in.get(namespace, ())}

    def function(self, key: Key) -> FunctionObject | Unreadable | None:
        """A Function."""
        found: FunctionObject | Unreadable | None = self._objects[FUNCTIONS].get(key)
        return found

    def functions(self) -> list[FunctionObject | Unreadable]:
        """Every Function."""
        return list(self._objects[FUNCTIONS].values())

    def webhook(self, key: Key) -> WebhookObject | Unreadable | None:
        """A Webhook."""
        found: WebhookObject | Unreadable | None = self._objects[WEBHOOKS].get(key)
        return found

    def webhooks(self) -> list[WebhookObject | Unreadable]:
        """Every Webhook."""
        return list(self._objects[WEBHOOKS].values())

    def config_map(self, key: Key) -> ConfigMapObject | None:
        """A ConfigMap that a Webhook names."""
        found: ConfigMapObject | None = self._objects[CONFIG_MAPS].get(key)
        return found

    def secret(self, key: Key) -> SecretObject | None:
        """A Secret that may be read."""
        found: SecretObject | None = self._objects[SECRETS].get(key)
        return found

    def secrets(self) -> list[SecretObject]:
        """Every Secret that may be read, sorted by namespace and name."""
        return [self._objects[SECRETS][key] for key in sorted(self._objects[SECRETS])]

    def service(self, key: Key) -> ServiceObject | None:
        """A Service."""
        found: ServiceObject | None = self._objects[SERVICES].get(key)
        return found

    def slices_of(self, service: Key) -> tuple[SliceObject, ...]:
        """The EndpointSlices of a Service, sorted by name."""
        return tuple(self._objects[SLICES][key] for key in sorted(self._slices_of.get(service, ())))

    def pod(self, key: Key) -> PodObject | None:
        """A Pod."""
        found: PodObject | None = self._objects[PODS].get(key)
        return found

    def pods_behind(self, service: Key) -> dict[str, PodObject]:
        """The pods that the slices of a Service name, as far as they are known, by name."""
        names = {e.pod for piece in self.slices_of(service) for e in piece.endpoints if e.pod}
        found = {name: self.pod((service[0], name)) for name in names}
        return {name: pod for name, pod in found.items() if pod is not None}

    def namespace(self, name: str) -> NamespaceObject | None:
        """A Namespace."""
        found: NamespaceObject | None = self._objects[NAMESPACES].get(("", name))
        return found

    def namespaces(self) -> list[NamespaceObject]:
        """Every Namespace that was seen."""
        return list(self._objects[NAMESPACES].values())

    # ---- learning

    def put(self, kind: str, raw: Json) -> Dirty:
        """An object was seen; returns whom that concerns."""
        meta = read_meta({"metadata": {**(raw.get("metadata") or {}), "managedFields": ()}})
        known = self._objects[kind].get(meta.key)
        version = _version(meta.resource_version)
        if meta.uid in self._gone and version <= self._gone[meta.uid]:
            return _CLEAN
        if known is not None and version <= _version(known.meta.resource_version):
            return _CLEAN
        fresh = _READERS[kind](raw)
        if known is not None and _essence(kind, known) == _essence(kind, fresh):
            # Kept all the same: plans compare with the status that is there.
            self._objects[kind][meta.key] = fresh
            return _CLEAN
        touched = self._concerned(kind, known) if known is not None else _CLEAN
        if known is not None:
            self._unindex(kind, meta.key, known)
        self._objects[kind][meta.key] = fresh
        self._index(kind, meta.key, fresh)
        dirty = _both(touched, self._concerned(kind, fresh))
        if kind == APPS and known is not None and _membership(known) == _membership(fresh):
            return Dirty(apps=dirty.apps, webhooks=dirty.webhooks)
        return dirty

    def drop(self, kind: str, namespace: str, name: str, uid: str, version: str = "") -> Dirty:
        """An object is gone, as of `version` where that is known; returns whom that concerns."""
        key = (namespace, name)
        known = self._objects[kind].get(key)
        there = known is not None and known.meta.uid == uid
        last = _version(known.meta.resource_version) if known is not None and there else -1
        self._gone.pop(uid, None)
        self._gone[uid] = max(_version(version), last)
        if len(self._gone) > _TOMBSTONES:
            del self._gone[next(iter(self._gone))]
        return self.forget(kind, key) if there else _CLEAN

    def forget(self, kind: str, key: Key) -> Dirty:
        """An object is not to be seen any more; returns whom that concerns."""
        known = self._objects[kind].get(key)
        if known is None:
            return _CLEAN
        touched = self._concerned(kind, known)
        self._unindex(kind, key, known)
        del self._objects[kind][key]
        return touched

    def uids(self, kind: str, namespace: str | None = None) -> dict[str, Key]:
        """Which objects are known, by uid; in one namespace, or in all (None)."""
        return {
            value.meta.uid: key
            for key, value in self._objects[kind].items()
            if namespace is None or key[0] == namespace
        }

    # ---- inside

    def _concerned(self, kind: str, value: Any) -> Dirty:
        meta: Meta = value.meta
        if kind == APPS:
            return Dirty(
                frozenset({meta.key} | self._apps_by_id.get(app_id_of(value), set())),
                frozenset({meta.namespace}),
            )
        if kind == FUNCTIONS:
            return Dirty(frozenset({app}) if (app := _app_of(value)) else frozenset())
        if kind == SECRETS:
            everyone = self._apps_in.get(meta.namespace, set())
            users = everyone if meta.name == NAMESPACE_KEYS else self._users(everyone, meta.name)
            hooks = self._hooks_with(meta.namespace, lambda hook: meta.name in secrets_of_webhook(hook))
            return Dirty(frozenset(users), frozenset({meta.namespace}), hooks)
        if kind == WEBHOOKS:
            return Dirty(webhooks=frozenset({meta.key}))
        if kind == CONFIG_MAPS:
            return Dirty(
                webhooks=self._hooks_with(meta.namespace, lambda hook: config_map_of(hook) == meta.name)
            )
        if kind == SERVICES:
            # The ports of a Service are a part of what workloads are told of where they are.
            served = frozenset(self._apps_by_service.get(meta.key, ()))
            return Dirty(served, frozenset({meta.namespace}) if served else frozenset())
        if kind == SLICES:
            return Dirty(frozenset(self._apps_by_service.get((meta.namespace, value.service), ())))
        if kind == PODS:
            slices = [self._objects[SLICES][key] for key in self._slices_with.get(meta.key, ())]
            services = {(meta.namespace, piece.service) for piece in slices}
            return Dirty(frozenset(app for s in services for app in self._apps_by_service.get(s, ())))
        return Dirty(
            frozenset(self._apps_in.get(meta.name, ())),
            frozenset({meta.name}),
            frozenset(self._webhooks_in.get(meta.name, ())),
        )

    def _users(self, apps: Iterable[Key], secret: str) -> set[Key]:
        return {key for key in apps if secret in secrets_of(self._objects[APPS][key])}

    def _hooks_with(
        self, namespace: str, names: Callable[[WebhookObject | Unreadable], bool]
    ) -> frozenset[Key]:
        inside = self._webhooks_in.get(namespace, ())
        return frozenset(key for key in inside if names(self._objects[WEBHOOKS][key]))

    def _index(self, kind: str, key: Key, value: Any) -> None:
        for index, entry in self._entries(kind, key, value):
            index[entry].add(key)

    def _unindex(self, kind: str, key: Key, value: Any) -> None:
        for index, entry in self._entries(kind, key, value):
            index[entry].discard(key)
            if not index[entry]:
                del index[entry]

    def _entries(self, kind: str, key: Key, value: Any) -> list[tuple[defaultdict[Any, set[Key]], Any]]:
        """In which indexes an object is, and where in them."""
        if kind == APPS:
            found: list[tuple[defaultdict[Any, set[Key]], Any]] = [(self._apps_in, key[0])]
            if app_id := app_id_of(value):
                found.append((self._apps_by_id, app_id))
            if isinstance(value, AppObject) and value.spec.endpoint.service is not None:
                found.append((self._apps_by_service, (key[0], value.spec.endpoint.service.name)))
            return found
        if kind == FUNCTIONS:
            inside: list[tuple[defaultdict[Any, set[Key]], Any]] = [(self._functions_in, key[0])]
            if app := _app_of(value):
                inside.append((self._functions_of, app))
            return inside
        if kind == WEBHOOKS:
            return [(self._webhooks_in, key[0])]
        if kind == SLICES:
            pods = {endpoint.pod for endpoint in value.endpoints if endpoint.pod}
            return [
                (self._slices_of, (key[0], value.service)),
                *((self._slices_with, (key[0], pod)) for pod in pods),
            ]
        return []


def secrets_of(app: AppObject | Unreadable) -> set[str]:
    """Names of the Secrets that an app's spec refers to."""
    if isinstance(app, Unreadable):
        return set()
    sources = (app.spec.signing_key, app.spec.signing_key_fallback)
    return {source.secret_ref.name for source in sources if source is not None}


def app_id_of(app: AppObject | Unreadable) -> str:
    """The app id of an InngestApp as far as it is known; empty: not yet."""
    if isinstance(app, Unreadable):
        return ""
    return app.spec.app_id or str(app.status.get("appId") or "")


def _app_of(function: FunctionObject | Unreadable) -> Key | None:
    """The app of a Function. One whose spec cannot be read still says so, if anything of it can be."""
    if isinstance(function, FunctionObject):
        return function.meta.namespace, function.spec.app_ref.name
    return (function.meta.namespace, function.app) if function.app else None


def _version(resource_version: str) -> int:
    """Versions of one kind can be compared as numbers (Kubernetes 1.35 says so; etcd always did it)."""
    return int(resource_version) if resource_version.isdecimal() else 0


def _essence(kind: str, value: Any) -> Hashable:
    """What of an object matters to plans, apart from what the operator itself writes."""
    meta: Meta = value.meta
    if kind == APPS:
        return (
            meta.uid,
            meta.generation,
            meta.deleting,
            _frozen(meta.labels),
            meta.annotations.get(SYNC_REQUESTED),
            meta.finalizers,
            app_id_of(value),
        )
    if kind == FUNCTIONS:
        managed = tuple(entry for entry in meta.managed if entry.subresource != "status")
        labels = _frozen(meta.labels)
        return meta.uid, meta.generation, meta.deleting, labels, meta.owner_uids, managed
    if kind == SECRETS:
        annotations = (meta.annotations.get(ALLOWED_EVENTS), meta.annotations.get(ALLOWED_CIDRS))
        return meta.uid, _frozen(meta.labels), annotations, _frozen(value.data)
    if kind == WEBHOOKS:
        return meta.uid, meta.generation, meta.deleting
    if kind == CONFIG_MAPS:
        return meta.uid, _frozen(value.data)
    if kind == SERVICES:
        return meta.uid, value.ports
    if kind == SLICES:
        return meta.uid, value.service, value.address_type, _frozen(value.ports), value.endpoints
    if kind == PODS:
        return meta.uid, value.revision
    return meta.uid, meta.deleting, tuple(meta.annotations.get(name) for name in NAMESPACE_ANNOTATIONS)


def _membership(app: AppObject | Unreadable) -> Hashable:
    """What of an InngestApp its environment looks at."""
    return app.meta.uid, app.meta.generation, app.meta.deleting, app_id_of(app)


def _frozen(values: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))


def _both(one: Dirty, other: Dirty) -> Dirty:
    return Dirty(one.apps | other.apps, one.namespaces | other.namespaces, one.webhooks | other.webhooks)
