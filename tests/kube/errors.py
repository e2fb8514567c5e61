"""The errors of a Kubernetes API server, as the `Status` objects that clients read.

Messages and reasons are those of kube-apiserver (apimachinery's `api/errors` and `util/validation/field`), because
clients show the one and branch on the other.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

Obj = dict[str, Any]
"""A Kubernetes object, or a part of one, as parsed JSON."""


class Cause(NamedTuple):
    """One thing that is wrong with one field, such as `("FieldValueRequired", "spec.id", "Required value")`."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ApiError(Exception):
    """What a request is answered with instead of an object."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Obj | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.retry_after_s = retry_after_s

    def status(self) -> Obj:
        """The `Status` object; `reason` and `details` are left out where they are empty."""
        found: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            found["reason"] = self.reason
        details = dict(self.details)
        if self.retry_after_s is not None:
            details["retryAfterSeconds"] = self.retry_after_s
        if details:
            found["details"] = details
        found["code"] = self.code
        return found


def qualified(group: str, resource: str) -> str:
    """`functions.innkeeper.dev`, or `secrets` for the core group."""
    return f"{resource}.{group}" if group else resource


def _details(group: str, resource: str, name: str) -> Obj:
    return {k: v for k, v in (("name", name), ("group", group), ("kind", resource)) if v}


def not_found(group: str, resource: str, name: str) -> ApiError:
    return ApiError(
        404, "NotFound", f'{qualified(group, resource)} "{name}" not found', _details(group, resource, name)
    )


def already_exists(group: str, resource: str, name: str) -> ApiError:
    return ApiError(
        409,
        "AlreadyExists",
        f'{qualified(group, resource)} "{name}" already exists',
        _details(group, resource, name),
    )


def conflict(group: str, resource: str, name: str, why: str) -> ApiError:
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {qualified(group, resource)} "{name}": {why}',
        _details(group, resource, name),
    )


def stale(group: str, resource: str, name: str) -> ApiError:
    return conflict(
        group,
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def internal(message: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {message}")


def plain(message: str) -> ApiError:
    """An error of the server's own that has no reason, as field managers make them."""
    return ApiError(500, "", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def gone(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def method_not_allowed(group: str, resource: str) -> ApiError:
    return ApiError(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        _details(group, resource, ""),
    )


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    return ApiError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted),
    )


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 with one cause per field; `kind` is the object's kind, not the resource."""
    told = str(causes[0]) if len(causes) == 1 else "[" + ", ".join(str(c) for c in causes) + "]"
    details = _details(group, kind, name)
    details["causes"] = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
    return ApiError(422, "Invalid", f'{qualified(group, kind)} "{name}" is invalid: {told}', details)


def forbidden(
    user: str, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str
) -> ApiError:
    """What RBAC says to somebody who may not."""
    what = f'{qualified(group, resource)} "{name}"' if name else qualified(group, resource)
    full = f"{resource}/{subresource}" if subresource else resource
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    return ApiError(
        403,
        "Forbidden",
        f'{what} is forbidden: User "{user}" cannot {verb} resource "{full}" in API group "{group}" {where}',
        _details(group, resource, name),
    )


def terminating(group: str, resource: str, name: str, namespace: str) -> ApiError:
    details = _details(group, resource, name)
    details["causes"] = [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
    ]
    return ApiError(
        403,
        "Forbidden",
        f'{qualified(group, resource)} "{name}" is forbidden: unable to create new content in namespace '
        f"{namespace} because it is being terminated",
        details,
    )


def apply_conflict(conflicts: Sequence[tuple[str, str]]) -> ApiError:
    """409 of server-side apply; `conflicts` are pairs of who owns a field (as printed) and the field's path."""
    by_owner: dict[str, list[str]] = {}
    for owner, field in sorted(conflicts):
        by_owner.setdefault(owner, []).append(field)
    if len(conflicts) == 1:
        owner, field = conflicts[0]
        told = f"conflict with {owner}: {field}"
    else:
        told = "\n".join(
            f"conflicts with {owner}:\n" + "\n".join(f"- {field}" for field in fields)
            for owner, fields in by_owner.items()
        )
    count = f"{len(conflicts)} conflict{'s' if len(conflicts) > 1 else ''}"
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {owner}", "field": field}
        for owner, fields in by_owner.items()
        for field in fields
    ]
    return ApiError(409, "Conflict", f"Apply failed with {count}: {told}", {"causes": causes})
