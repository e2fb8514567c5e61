"""Who owns a Function, what it is called, and which of several counts.

The operator writes spec and labels only of objects that it made itself. A person, or GitOps, owns an object as soon as
another manager has anything of its spec, or where it does not carry the operator's label. Identity is the function's
id, whatever the object is called.
"""

import hashlib
import re
from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec

from innkeeper_operator.actions import Apply
from innkeeper_operator.objects import (
    APP_KIND,
    FUNCTION_KIND,
    MANAGED_BY,
    MANAGED_BY_VALUE,
    MANAGER,
    AppObject,
    FunctionObject,
    Meta,
)
from innkeeper_operator.specs import API_VERSION

Json = dict[str, Any]

_LONGEST_NAME: Final = 200
_FAILURE: Final = "-failure"
_OTHERS = re.compile(r"[^a-z0-9-]+")


class Claim(msgspec.Struct, frozen=True):
    """The objects of one function id."""

    holder: FunctionObject | None
    """The one that counts: the oldest of people's, else the operator's own."""
    duplicates: tuple[FunctionObject, ...] = ()
    """Others of people: they say so, and do nothing."""
    spare: tuple[FunctionObject, ...] = ()
    """The operator's own that are not needed any more."""


def owned_by_operator(meta: Meta) -> bool:
    """Whether the operator made the object, and nobody else has a say in its spec."""
    return meta.labels.get(MANAGED_BY) == MANAGED_BY_VALUE and _applied(meta) and not _others(meta)


def claims(functions: Iterable[FunctionObject]) -> dict[str, Claim]:
    """Which object counts, by function id. Objects that are being deleted do not count any more."""
    by_id: dict[str, list[FunctionObject]] = {}
    for function in functions:
        if not function.meta.deleting:
            by_id.setdefault(function.spec.id, []).append(function)
    found = {}
    for function_id, objects in sorted(by_id.items()):
        objects.sort(key=lambda each: age(each.meta))
        people = [each for each in objects if not owned_by_operator(each.meta)]
        own = [each for each in objects if owned_by_operator(each.meta)]
        if people:
            found[function_id] = Claim(people[0], tuple(people[1:]), tuple(own))
        else:
            found[function_id] = Claim(own[0], (), tuple(own[1:]))
    return found


def age(meta: Meta) -> tuple[str, str, str]:
    """What orders objects from the oldest on, the same way whoever looks."""
    return meta.created, meta.namespace, meta.name


def slug_of(app_id: str, function_id: str) -> str:
    """What a function is called on the wire and in the registry."""
    return f"{app_id}-{function_id}"


def id_of(app_id: str, slug: str) -> str:
    """A function's id as in code: its slug without the app id."""
    return slug.removeprefix(f"{app_id}-")


def belongs_to_another(slug: str, failed_triggers: Collection[str], slugs: Collection[str]) -> bool:
    """Whether a function is the failure handler that an SDK made for another one (`<id>-failure`).

    `failed_triggers` are the events that trigger it.
    """
    return (
        slug.endswith(_FAILURE)
        and slug.removesuffix(_FAILURE) in slugs
        and set(failed_triggers) == {"inngest/function.failed"}
    )


def object_name(app: str, function_id: str, taken: Collection[str]) -> str:
    """What the operator calls its object of a function: `<app>-<id>`, as far as names of objects allow.

    Where the text had to be changed, or somebody else has the name, a part of the id's hash is added.
    """
    wanted = f"{app}-{function_id}"
    name = _OTHERS.sub("-", wanted.lower())[:_LONGEST_NAME].strip("-")
    if name == wanted and name not in taken:
        return name
    digest = hashlib.sha256(function_id.encode("utf-8", "surrogatepass")).hexdigest()
    return next(
        candidate
        for length in (8, 16, 32)
        if (candidate := f"{name}-{digest[:length]}") not in taken or length == 32
    )


def bare(app: AppObject, function_id: str, name: str) -> Apply:
    """The operator's own object of a function that nobody has written one for."""
    return Apply(
        manifest={
            "apiVersion": API_VERSION,
            "kind": FUNCTION_KIND,
            "metadata": {
                "name": name,
                "namespace": app.meta.namespace,
                "labels": {MANAGED_BY: MANAGED_BY_VALUE},
                "ownerReferences": [
                    {
                        "apiVersion": API_VERSION,
                        "kind": APP_KIND,
                        "name": app.meta.name,
                        "uid": app.meta.uid,
                        "controller": True,
                        "blockOwnerDeletion": False,
                    }
                ],
            },
            "spec": {"appRef": {"name": app.meta.name}, "id": function_id},
        }
    )


def let_go(function: FunctionObject, app_uid: str) -> Apply | None:
    """Take the operator's label and owner reference off an object that is a person's by now; None where both are gone.

    Applied without them, they go, and what others own stays. The identity is given up too where somebody else has it;
    otherwise it must stay, or the object would lose what it has to have.
    """
    meta = function.meta
    marked = meta.labels.get(MANAGED_BY) == MANAGED_BY_VALUE or app_uid in meta.owner_uids
    if not (_applied(meta) and marked):
        return None
    manifest: Json = {
        "apiVersion": API_VERSION,
        "kind": FUNCTION_KIND,
        "metadata": {"name": meta.name, "namespace": meta.namespace},
    }
    if not {"appRef", "id"} <= _others(meta):
        manifest["spec"] = {"appRef": {"name": function.spec.app_ref.name}, "id": function.spec.id}
    return Apply(manifest=manifest)


def _applied(meta: Meta) -> bool:
    return any(entry.manager == MANAGER and not entry.subresource for entry in meta.managed)


def _others(meta: Meta) -> frozenset[str]:
    """The fields of spec that managers besides the operator have."""
    return frozenset[str]().union(*(entry.spec_fields for entry in meta.managed if entry.manager != MANAGER))
