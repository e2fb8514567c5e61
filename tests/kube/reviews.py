"""Kinds that are questions: creating one gives the answer, and nothing is stored."""

from collections.abc import Callable

from tests.kube.access import Asked, Identity
from tests.kube.errors import Obj

REVIEWS = frozenset({"TokenReview", "SelfSubjectReview", "SubjectAccessReview", "SelfSubjectAccessReview"})


class Reviewer:
    """Answers reviews from the known identities, unless a test sets answers of its own."""

    def __init__(self, identities: dict[str, Identity]) -> None:
        self._identities = identities
        self.on_token: Callable[[Obj], Obj] | None = None
        """`spec` of a TokenReview to its `status`."""
        self.on_access: Callable[[Obj], Obj] | None = None
        """`spec` of a SubjectAccessReview to its `status`."""

    def answer(self, review: Obj, asker: Identity) -> Obj:
        """The review with its `status`."""
        spec = review.get("spec") or {}
        match review["kind"]:
            case "TokenReview":
                status = self.on_token(spec) if self.on_token else self._token(spec)
            case "SelfSubjectReview":
                status = {"userInfo": _user(asker)}
            case "SelfSubjectAccessReview":
                status = self._access(spec, asker)
            case _:
                status = self.on_access(spec) if self.on_access else self._access(spec, self._known(spec))
        return {**review, "status": status}

    def _token(self, spec: Obj) -> Obj:
        identity = self._identities.get(spec.get("token", ""))
        if identity is None:
            return {"user": {}, "error": "[invalid bearer token, Token has been invalidated]"}
        audiences = {"audiences": spec["audiences"]} if spec.get("audiences") else {}
        return {"authenticated": True, "user": _user(identity), **audiences}

    def _known(self, spec: Obj) -> Identity:
        user = spec.get("user", "")
        found = next((known for known in self._identities.values() if known.user == user), None)
        return found or Identity(user=user, rules=())

    def _access(self, spec: Obj, identity: Identity) -> Obj:
        asked = spec.get("resourceAttributes")
        if asked is None:
            return {"allowed": identity.rules is None}
        allowed = identity.may(
            Asked(
                verb=asked.get("verb", ""),
                group=asked.get("group", ""),
                resource=asked.get("resource", ""),
                subresource=asked.get("subresource", ""),
                namespace=asked.get("namespace", ""),
                name=asked.get("name", ""),
            )
        )
        return {"allowed": allowed}


def _user(identity: Identity) -> Obj:
    return {"username": identity.user, "uid": identity.user, "groups": list(identity.groups)}
