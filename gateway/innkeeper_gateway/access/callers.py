"""Who a request comes from, and the one function that says whether they may do what they ask for."""

from typing import Final, Literal

import msgspec
import structlog

from innkeeper_gateway.access.permissions import Permission, how_to_ask
from innkeeper_gateway.access.reviews import Person, ReviewError, Reviews
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.places import Place

NAMESPACE_HEADER: Final = "x-innkeeper-namespace"
"""Names the namespace in which somebody with a Kubernetes token wants to work."""

_log = structlog.get_logger("innkeeper.audit")


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who a request comes from, and where it may work."""

    kind: Literal["dev", "signing-key", "admin", "person"]
    name: str
    """For the log: the name of a key or of a person, never a key or token."""
    place: Place
    namespace: str = ""
    """Of a person: where the API server is asked about him."""
    person: Person | None = None


class Access:
    """Decides. A signing key and the admin token open everything in their environment; a person what RBAC grants."""

    def __init__(self, reviews: Reviews | None = None) -> None:
        """`reviews`: None where the gateway has no API server to ask; then nobody comes with its tokens."""
        self._reviews = reviews

    @property
    def takes_people(self) -> bool:
        """Whether Kubernetes tokens are understood here."""
        return self._reviews is not None

    def has_heard_of(self, token: str) -> bool:
        """Whether the token need not be asked about, or was somebody's when it was."""
        return self._reviews is None or self._reviews.has_heard_of(token)

    async def who(self, token: str) -> Person | None:
        """Whom a Kubernetes token belongs to; None where it is nobody's.

        Raises:
            ApiError: 503, the API server could not be asked.
        """
        if self._reviews is None:
            return None
        try:
            return await self._reviews.who(token)
        except ReviewError as error:
            raise _unasked(error) from error

    async def may(self, caller: Caller, permission: Permission, name: str = "") -> bool:
        """Whether the caller has this permission where they work; `name`: on that one object of Kubernetes.

        Raises:
            ApiError: 503, the API server could not be asked.
        """
        if caller.person is None or self._reviews is None:
            return caller.person is None
        try:
            if await self._reviews.may(caller.person, permission, caller.namespace):
                return True
            return bool(name) and await self._reviews.may(caller.person, permission, caller.namespace, name)
        except ReviewError as error:
            raise _unasked(error) from error

    async def require(self, caller: Caller, permission: Permission, name: str = "") -> None:
        """Refuse whoever may not.

        Raises:
            ApiError: 403, the caller has not this permission; 503, the API server could not be asked.
        """
        if not await self.may(caller, permission, name):
            raise ApiError(
                403,
                f"{caller.name} may not {permission} in the namespace {caller.namespace}; ask for it, and check with "
                f"{how_to_ask(permission, caller.namespace, name)}",
            )

    async def close(self) -> None:
        """End the connections to the API server."""
        if self._reviews is not None:
            await self._reviews.close()


def audit(caller: Caller, action: str, env: str = "", /, **about: str | int) -> None:
    """One line for a change that somebody made: who, what, where. Names and ids only.

    `env`: where it was made, if that need not be where the caller works: in a branch of it.
    """
    _log.info("change", action=action, by=caller.name, kind=caller.kind, env=env or caller.place.env, **about)


def _unasked(error: ReviewError) -> ApiError:
    return ApiError(
        503,
        f"whether you may do this cannot be checked now: {error}; try again",
        headers={"Retry-After": "2"},
    )
