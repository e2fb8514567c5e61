"""What an API server does to objects of built-in kinds when they are written: defaults and the checks that tests meet."""

import base64
import binascii
import ipaddress
from collections.abc import Callable
from typing import Any

from tests.kube.errors import Cause, Obj, bad_request
from tests.kube.kinds import Kind

_EVENT_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "source": "deprecatedSource",
    "reportingComponent": "reportingController",
}
"""Fields of core/v1 Events, and their names in events.k8s.io/v1: both are views of the same objects."""
_EVENT_NAMES_BACK = {new: old for old, new in _EVENT_NAMES.items()}


def to_storage(kind: Kind, obj: Obj) -> Obj:
    """An object as it is stored; only Events of events.k8s.io are stored otherwise than they are sent."""
    if kind.group == "events.k8s.io":
        obj = {_EVENT_NAMES_BACK.get(name, name): value for name, value in obj.items()}
        obj["apiVersion"] = "v1"
    return obj


def from_storage(kind: Kind, obj: Obj) -> Obj:
    """A stored object as a kind shows it."""
    if kind.group == "events.k8s.io":
        obj = {_EVENT_NAMES.get(name, name): value for name, value in obj.items()}
    if obj.get("apiVersion") != kind.api_version:
        obj = {**obj, "apiVersion": kind.api_version}
    return obj


def created(kind: Kind, obj: Obj) -> None:
    """What a new object gets that its sender left out."""
    match kind.kind:
        case "Namespace":
            obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
            obj["spec"] = {"finalizers": ["kubernetes"]}
            obj["status"] = {"phase": "Active"}
        case "Pod":
            obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
        case "Service":
            obj["status"] = {"loadBalancer": {}}
        case "CustomResourceDefinition":
            obj["status"] = _crd_status(obj)


def _crd_status(crd: Obj) -> Obj:
    now = crd["metadata"].get("creationTimestamp", "")
    condition = {"status": "True", "lastTransitionTime": now}
    return {
        "conditions": [
            {
                "type": "NamesAccepted",
                "reason": "NoConflicts",
                "message": "no conflicts found",
                **condition,
            },
            {
                "type": "Established",
                "reason": "InitialNamesAccepted",
                "message": "the initial names have been accepted",
                **condition,
            },
        ],
        "acceptedNames": crd["spec"]["names"],
        "storedVersions": [v["name"] for v in crd["spec"]["versions"] if v.get("storage")],
    }


def complete(kind: Kind, obj: Obj) -> None:
    """Defaults at every write."""
    match kind.kind:
        case "Secret":
            _complete_secret(obj)
        case "Service":
            _complete_service(obj)
        case "CustomResourceDefinition":
            _complete_crd(obj)
        case "EndpointSlice":
            for port in obj.get("ports") or []:
                port.setdefault("name", "")
                port.setdefault("protocol", "TCP")


def _complete_secret(secret: Obj) -> None:
    secret.setdefault("type", "Opaque")
    for name, value in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[name] = base64.b64encode(str(value).encode()).decode()
    for name, value in (secret.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise bad_request(
                f'Secret in version "v1" cannot be handled as a Secret: illegal base64 data (data[{name!r}])'
            ) from error


def _complete_service(service: Obj) -> None:
    spec = service.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in spec.get("ports") or []:
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))


def _complete_crd(crd: Obj) -> None:
    spec = crd.get("spec") or {}
    names = spec.get("names") or {}
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", names["kind"] + "List")
    spec.setdefault("conversion", {"strategy": "None"})


def check(kind: Kind, obj: Obj, before: Obj | None) -> list[Cause]:
    """What is wrong with an object of a built-in kind."""
    checker = _CHECKS.get((kind.group, kind.kind))
    return checker(obj, before) if checker else []


def _immutable(obj: Obj, before: Obj | None, field: str) -> list[Cause]:
    if before is None or obj.get(field) == before.get(field):
        return []
    return [Cause("FieldValueInvalid", field, f'Invalid value: "{obj.get(field)}": field is immutable')]


def _check_secret(obj: Obj, before: Obj | None) -> list[Cause]:
    causes = _immutable(obj, before, "type")
    if before is not None and before.get("immutable"):
        told = "Forbidden: field is immutable when `immutable` is set"
        if obj.get("data") != before.get("data"):
            causes.append(Cause("FieldValueForbidden", "data", told))
        if not obj.get("immutable"):
            causes.append(Cause("FieldValueForbidden", "immutable", told))
    return causes


def _check_slice(obj: Obj, before: Obj | None) -> list[Cause]:
    kind = obj.get("addressType")
    if kind not in {"IPv4", "IPv6", "FQDN"}:
        if not kind:
            return [Cause("FieldValueRequired", "addressType", "Required value")]
        told = f'Unsupported value: "{kind}": supported values: "FQDN", "IPv4", "IPv6"'
        return [Cause("FieldValueNotSupported", "addressType", told)]
    causes = _immutable(obj, before, "addressType")
    for at, endpoint in enumerate(obj.get("endpoints") or []):
        path = f"endpoints[{at}].addresses"
        addresses = endpoint.get("addresses") or []
        if not addresses:
            told = "Required value: must contain at least 1 address"
            causes.append(Cause("FieldValueRequired", path, told))
        for place, address in enumerate(addresses):
            if told := _address_fault(kind, address):
                causes.append(
                    Cause("FieldValueInvalid", f"{path}[{place}]", f'Invalid value: "{address}": {told}')
                )
    return causes


def _address_fault(kind: str, address: str) -> str:
    if kind == "FQDN":
        return "" if "." in address else "should be a domain with at least two segments separated by dots"
    version = ipaddress.IPv4Address if kind == "IPv4" else ipaddress.IPv6Address
    try:
        parsed = version(address)
    except ValueError:
        return f"must be a valid {kind} address"
    if parsed.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if parsed.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    if parsed.is_unspecified:
        return f"may not be unspecified ({address})"
    return ""


def _check_service(obj: Obj, before: Obj | None) -> list[Cause]:
    spec, causes = obj["spec"], []
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        causes.append(Cause("FieldValueRequired", "spec.ports", "Required value"))
    for at, port in enumerate(ports):
        number = port.get("port")
        if not isinstance(number, int) or not 1 <= number <= 65535:
            told = f"Invalid value: {number}: must be between 1 and 65535, inclusive"
            causes.append(Cause("FieldValueInvalid", f"spec.ports[{at}].port", told))
        if len(ports) > 1 and not port.get("name"):
            causes.append(Cause("FieldValueRequired", f"spec.ports[{at}].name", "Required value"))
    return causes


def _check_core_event(obj: Obj, before: Obj | None) -> list[Cause]:
    causes = []
    namespace = obj["metadata"]["namespace"]
    about = (obj.get("involvedObject") or {}).get("namespace", "")
    if about != namespace and not (about == "" and namespace == "default"):
        told = f'Invalid value: "{about}": does not match event.namespace'
        causes.append(Cause("FieldValueInvalid", "involvedObject.namespace", told))
    return causes


def _check_new_event(obj: Obj, before: Obj | None) -> list[Cause]:
    """Events that come through events.k8s.io, as they are stored."""
    causes = _check_core_event(obj, before)
    if before is not None:
        return causes
    if not obj.get("eventTime"):
        causes.append(Cause("FieldValueRequired", "eventTime", "Required value"))
    limits: list[tuple[str, str, int]] = [
        ("reportingComponent", "reportingController", 253),
        ("reportingInstance", "reportingInstance", 128),
        ("action", "action", 128),
        ("reason", "reason", 128),
    ]
    for field, shown, most in limits:
        value: Any = obj.get(field)
        if not value:
            causes.append(Cause("FieldValueRequired", shown, "Required value"))
        elif len(value) > most:
            told = f'Invalid value: "": can have at most {most} characters'
            causes.append(Cause("FieldValueInvalid", shown, told))
    if obj.get("type") not in {"Normal", "Warning"}:
        told = f'Invalid value: "{obj.get("type", "")}": has unsupported value'
        causes.append(Cause("FieldValueInvalid", "type", told))
    if len(obj.get("message") or "") > 1024:
        causes.append(
            Cause("FieldValueInvalid", "message", 'Invalid value: "": can have at most 1024 characters')
        )
    return causes


def _check_lease(obj: Obj, before: Obj | None) -> list[Cause]:
    spec = obj.get("spec") or {}
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and (not isinstance(duration, int) or duration <= 0):
        told = f"Invalid value: {duration}: must be greater than 0"
        return [Cause("FieldValueInvalid", "spec.leaseDurationSeconds", told)]
    return []


_CHECKS: dict[tuple[str, str], Callable[[Obj, Obj | None], list[Cause]]] = {
    ("", "Secret"): _check_secret,
    ("", "Service"): _check_service,
    ("", "Event"): _check_core_event,
    ("events.k8s.io", "Event"): _check_new_event,
    ("discovery.k8s.io", "EndpointSlice"): _check_slice,
    ("coordination.k8s.io", "Lease"): _check_lease,
}
