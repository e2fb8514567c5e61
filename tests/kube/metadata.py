"""Rules for `metadata` that hold for every kind."""

import re
from typing import Any

from tests.kube.errors import Cause, Obj, bad_request

_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_KEY_NAME = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_MAX_ANNOTATIONS_BYTES = 256 * 1024
_DNS_LABEL_KINDS = {"Namespace", "Service"}

SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
"""What the server alone writes."""


def checked_types(obj: Obj) -> None:
    """Raise 400 where `metadata` is not even of the right form."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        raise bad_request("the object provided has no metadata")
    for field, kind in (
        ("labels", dict),
        ("annotations", dict),
        ("finalizers", list),
        ("ownerReferences", list),
    ):
        value = metadata.get(field)
        if value is None:
            metadata.pop(field, None)
        elif not isinstance(value, kind):
            raise bad_request(
                f"metadata.{field}: cannot unmarshal {type(value).__name__} into {kind.__name__}"
            )
    for field in ("name", "generateName", "namespace", "uid", "resourceVersion"):
        if not isinstance(metadata.get(field, ""), str):
            raise bad_request(
                f"json: cannot unmarshal {_json_type(metadata[field])} into Go struct field ObjectMeta.metadata.{field} "
                "of type string"
            )
    for field in ("labels", "annotations"):
        for key, value in (metadata.get(field) or {}).items():
            if not isinstance(value, str):
                raise bad_request(
                    f"json: cannot unmarshal {_json_type(value)} into Go struct field ObjectMeta.metadata.{field} "
                    f"of type string (key {key!r})"
                )
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        if not metadata.get(field, True):
            del metadata[field]


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return {int: "number", float: "number", dict: "object", list: "array"}.get(type(value), "null")


def check(kind: str, obj: Obj) -> list[Cause]:
    """What is wrong with an object's metadata."""
    metadata = obj["metadata"]
    causes = _check_name(kind, metadata.get("name", ""))
    for key, value in (metadata.get("labels") or {}).items():
        causes += _check_key("metadata.labels", key)
        if len(value) > 63 or not _LABEL_VALUE.match(value):
            told = (
                f'Invalid value: "{value}": a valid label must be an empty string or consist of alphanumeric characters, '
                "'-', '_' or '.', and must start and end with an alphanumeric character, of 63 characters at most"
            )
            causes.append(Cause("FieldValueInvalid", "metadata.labels", told))
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        causes += _check_key("metadata.annotations", key)
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > _MAX_ANNOTATIONS_BYTES:
        told = f"Too long: may not be more than {_MAX_ANNOTATIONS_BYTES} bytes"
        causes.append(Cause("FieldValueTooLong", "metadata.annotations", told))
    for value in metadata.get("finalizers") or ():
        causes += _check_key("metadata.finalizers", value)
    causes += _check_owners(metadata.get("ownerReferences") or [])
    return causes


def _check_name(kind: str, name: str) -> list[Cause]:
    if not name:
        return [
            Cause("FieldValueRequired", "metadata.name", "Required value: name or generateName is required")
        ]
    if kind in _DNS_LABEL_KINDS:
        if len(name) <= 63 and _LABEL.match(name):
            return []
        told = (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
            "and must start and end with an alphanumeric character"
        )
    else:
        if len(name) <= 253 and _SUBDOMAIN.match(name):
            return []
        told = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character"
        )
    return [Cause("FieldValueInvalid", "metadata.name", f'Invalid value: "{name}": {told}')]


def _check_key(field: str, key: str) -> list[Cause]:
    prefix, slash, name = key.rpartition("/")
    right = len(name) <= 63 and _KEY_NAME.match(name) and "/" not in prefix
    if right and (not slash or (len(prefix) <= 253 and _SUBDOMAIN.match(prefix))):
        return []
    told = (
        f"Invalid value: \"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start "
        "and end with an alphanumeric character, of 63 characters at most, after an optional DNS subdomain and '/'"
    )
    return [Cause("FieldValueInvalid", field, told)]


def _check_owners(owners: list[Any]) -> list[Cause]:
    causes = []
    for at, owner in enumerate(owners):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not isinstance(owner, dict) or not owner.get(field):
                told = f'Invalid value: "": {field} must not be empty'
                causes.append(Cause("FieldValueInvalid", f"metadata.ownerReferences[{at}].{field}", told))
    controllers = [owner for owner in owners if isinstance(owner, dict) and owner.get("controller")]
    if len(controllers) > 1:
        told = "Invalid value: only one reference can have Controller set to true"
        causes.append(Cause("FieldValueInvalid", "metadata.ownerReferences", told))
    return causes


def check_finalizers(before: Obj, after: Obj) -> list[Cause]:
    """An object on its way out gets no new finalizers."""
    if not before["metadata"].get("deletionTimestamp"):
        return []
    known = before["metadata"].get("finalizers") or []
    added = [value for value in after["metadata"].get("finalizers") or [] if value not in known]
    if not added:
        return []
    shown = ", ".join(f'"{value}"' for value in added)
    told = (
        "Forbidden: no new finalizers can be added if the object is being deleted, "
        f"found new finalizers []string{{{shown}}}"
    )
    return [Cause("FieldValueForbidden", "metadata.finalizers", told)]
