"""What becomes of a registration that was checked: written at once, or left for the operator."""

from typing import Protocol

import msgspec

from innkeeper_apps.wire.register import Registration
from innkeeper_engine.registering import register_app
from innkeeper_engine.store.environments import RegistrationInbox
from innkeeper_engine.store.store import Store


class Taken(msgspec.Struct, frozen=True):
    """A registration that was taken."""

    modified: bool
    """False where the app has declared just this before."""
    sync: str
    """Names the sync that brought it: the same for one that changed nothing."""


class Registrar(Protocol):
    """Takes registrations."""

    async def register(self, env: str, registration: Registration, body: bytes, now_ms: int) -> Taken:
        """Take a valid registration, whose `body` was sent to `/fn/register`.

        Raises:
            RegistrationError: it cannot be taken after all, with the problems.
            FunctionTakenError: a function's slug is that of another app's.
            InboxFullError: not now; the app may try again.
            StoreError, StoreUnavailableError: the store did not take it.
        """
        ...


class DirectRegistrar:
    """Writes registrations into the registry: where nobody declares apps."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def register(self, env: str, registration: Registration, body: bytes, now_ms: int) -> Taken:  # noqa: ARG002
        """It counts when this returns."""
        done = await register_app(self._store, env, registration.as_app(now_ms, 1), now_ms=now_ms)
        return Taken(done.modified, str(done.app_version))


class InboxRegistrar:
    """Leaves registrations for the operator, who knows what the cluster says of the app."""

    def __init__(self, inbox: RegistrationInbox) -> None:
        self._inbox = inbox

    async def register(self, env: str, registration: Registration, body: bytes, now_ms: int) -> Taken:
        """It is safe in the store when this returns; it counts when the operator has taken it."""
        token = await self._inbox.leave_registration(env, registration.app_id, body, now_ms)
        return Taken(True, token)
