"""Where an app is served now: from a Service with its slices and pods, or a URL, to what may be asked. Pure.

The *revision* of an endpoint is what its pod's workload calls that version of the pod template. Images do not tell: one
tag has another digest on another architecture.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from innkeeper_apps.wire.register import app_url
from innkeeper_operator.objects import AppObject, PodObject, ServiceObject, ServicePort, SliceObject
from innkeeper_operator.specs import ServiceRef
from innkeeper_operator.views import Live, Revision

_DIALLED: Final = {"IPv4": "{}:{}", "IPv6": "[{}]:{}"}
"""How addresses of a slice are written; names (type FQDN) are not here: they could lead anywhere."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NUMBER = re.compile(r"[0-9]{1,5}")


def live(
    app: AppObject,
    service: ServiceObject | None,
    slices: Iterable[SliceObject],
    pods: Mapping[str, PodObject],
    cluster_domain: str = "",
) -> Live:
    """What is known of the app's endpoint.

    Args:
        app: the InngestApp.
        service: the Service that its spec names, if it is there.
        slices: the EndpointSlices of that Service, all of them.
        pods: the pods that the slices name, by name; of the app's namespace. An endpoint whose pod is not known
            yet does not count: its revision cannot be told.
        cluster_domain: what Service names end with after `.svc`; empty leaves that to the search list of pods.
    """
    ref = app.spec.endpoint.service
    if ref is None:
        url = service_url(app, None)
        wrong = "" if url else f"{(app.spec.endpoint.url or '')[:200]!r} is no URL that can be called"
        reason = "InvalidUrl" if wrong else ""
        return Live(url=url, external=True, public_only=True, reason=reason, message=wrong)
    namespace = app.meta.namespace
    if service is None:
        message = f"there is no Service {ref.name} in namespace {namespace}"
        return Live(url=service_url(app, None, cluster_domain), reason="NoService", message=message)
    port = _port(ref, service)
    if port is None:
        return Live(url="", reason="NoPort", message=_no_port(ref, service))
    url = service_url(app, service, cluster_domain)
    if service.external:
        message = (
            f"the Service {ref.name} is of type ExternalName: name the app's URL by endpoint.url instead"
        )
        return Live(url=url, public_only=True, reason="NoEndpoints", message=message)
    revisions, addresses, unknown = _ready(slices, port.name, pods)
    if revisions or addresses:
        return Live(url=url, revisions=revisions, addresses=addresses)
    if unknown:
        message = f"the ready pods of the Service {ref.name} are not known yet"
    else:
        message = (
            f"the Service {ref.name} has no ready endpoint for its port {port.name or port.port}: "
            "runs wait until a pod is ready; does the Service select the app's pods?"
        )
    return Live(url=url, reason="NoEndpoints", message=message)


def service_url(app: AppObject, service: ServiceObject | None, cluster_domain: str = "") -> str:
    """How the app is called: through its Service, or its URL. Empty where that cannot be told, or is no URL."""
    ref = app.spec.endpoint.service
    if ref is None:
        try:
            return app_url(app.spec.endpoint.url or "")
        except ValueError:  # such as port 99999, which the schema cannot know of
            return ""
    port = _port(ref, service) if service is not None else _numbered(ref)
    if port is None:
        return ""
    host = ".".join(part for part in (ref.name, app.meta.namespace, "svc", cluster_domain.strip(".")) if part)
    shown = "" if port.port == _DEFAULT_PORTS[ref.scheme] else f":{port.port}"
    return f"{ref.scheme}://{host}{shown}/{ref.path.removeprefix('/')}"


def _port(ref: ServiceRef, service: ServiceObject) -> ServicePort | None:
    """The Service's port of that name or number. Digits may be a name; a name comes first."""
    by_name = next((port for port in service.ports if port.name and port.name == ref.port), None)
    number = _numbered(ref)
    if by_name is not None or number is None:
        return by_name
    return next((port for port in service.ports if port.port == number.port), None)


def _numbered(ref: ServiceRef) -> ServicePort | None:
    if isinstance(ref.port, int):
        return ServicePort("", ref.port)
    return ServicePort("", int(ref.port)) if _NUMBER.fullmatch(ref.port) else None


def _no_port(ref: ServiceRef, service: ServiceObject) -> str:
    has = ", ".join(f"{port.name} ({port.port})" if port.name else str(port.port) for port in service.ports)
    return f"the Service {ref.name} has no port {ref.port}: it has {has or 'none'}"


def _ready(
    slices: Iterable[SliceObject], port_name: str, pods: Mapping[str, PodObject]
) -> tuple[tuple[Revision, ...], tuple[str, ...], bool]:
    """Revisions, addresses without pods, and whether some endpoint's pod is not known."""
    by_pod: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    bare: set[str] = set()
    for piece in slices:
        written, port = _DIALLED.get(piece.address_type), piece.ports.get(port_name)
        if written is None or port is None:
            continue
        for endpoint in piece.endpoints:
            if not endpoint.ready or endpoint.terminating:
                continue
            at = written.format(endpoint.address, port)
            if endpoint.pod:
                # A pod with two address families is in two slices, and is one pod.
                by_pod[endpoint.pod].add((piece.address_type, at))
            else:
                bare.add(at)
    return _revisions(by_pod, pods), tuple(sorted(bare)), any(name not in pods for name in by_pod)


def _revisions(
    by_pod: Mapping[str, set[tuple[str, str]]], pods: Mapping[str, PodObject]
) -> tuple[Revision, ...]:
    ready: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, addresses in by_pod.items():
        if name in pods:
            ready[pods[name].revision].append(min(addresses))
    found = [Revision(name, len(each), min(each)[1]) for name, each in ready.items()]
    return tuple(sorted(found, key=lambda revision: (-revision.ready, revision.name)))
