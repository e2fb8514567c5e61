"""What becomes of a registration that was checked: written at once, or left for the operator."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from innkeeper_apps.classes import Routes
from innkeeper_apps.egress import EgressError, Resolver
from innkeeper_apps.transport import place_of
from innkeeper_apps.wire.fields import Problem
from innkeeper_apps.wire.register import Registration, RegistrationError
from innkeeper_engine.model.functions import App
from innkeeper_engine.model.reach import Reach
from innkeeper_engine.registering import register_app
from innkeeper_engine.registry import read_apps
from innkeeper_engine.store.registrations import RegistrationInbox
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

    def __init__(self, store: Store, egress: Routes | None = None, named: Iterable[str] = ()) -> None:
        """`egress`: where apps may be; None: anywhere that this server can call, for a dev server.

        `named`: URLs that whoever runs this server has named: apps at just these hosts and ports are the platform's.
        """
        self._store = store
        self._egress = egress
        self._named = frozenset(place_of(url) for url in named)

    async def register(self, env: str, registration: Registration, body: bytes, now_ms: int) -> Taken:  # noqa: ARG002
        """It counts when this returns.

        An app that names its own URL is at a public address or where the rules say. One at the platform's URLs already
        stays that: named by whoever runs this server, or registered before there were two classes.

        Raises:
            RegistrationError: its URL, or one of a function, leads where it may not.
        """
        app = registration.as_app(now_ms, 1)
        if self._egress is not None and not await self._is_the_platforms(env, app):
            await _check(app, self._egress.resolver(Reach(public_only=True)))
            app = msgspec.structs.replace(app, public_only=True, checksum=f"{app.checksum}/public")
        done = await register_app(self._store, env, app, now_ms=now_ms)
        return Taken(done.modified, str(done.app_version))

    async def _is_the_platforms(self, env: str, app: App) -> bool:
        wanted = {place_of(url) for url in _urls(app)}
        if wanted <= self._named:
            return True
        known = (await read_apps(self._store, env)).get(app.id)
        return (
            known is not None and not known.public_only and wanted <= {place_of(url) for url in _urls(known)}
        )


def _urls(app: App) -> Iterable[str]:
    return dict.fromkeys((app.url, *(function.url for function in app.functions)))


async def _check(app: App, resolver: Resolver) -> None:
    """Raise RegistrationError where an app's URLs lead where they may not.

    A name that is not found here is no reason: executors look it up again, and may know more.
    """
    problems = []
    for host, port in dict.fromkeys(place_of(url) for url in _urls(app)):
        try:
            await resolver.resolve_checked(host, port)
        except EgressError as error:
            if error.code == "AddressDenied":
                problems.append(Problem(None, "url", str(error)))
    if problems:
        raise RegistrationError(problems, "Invalid request")


class InboxRegistrar:
    """Leaves registrations for the operator, who knows what the cluster says of the app."""

    def __init__(self, inbox: RegistrationInbox) -> None:
        self._inbox = inbox

    async def register(self, env: str, registration: Registration, body: bytes, now_ms: int) -> Taken:
        """It is safe in the store when this returns; it counts when the operator has taken it."""
        token = await self._inbox.leave_registration(env, registration.app_id, body, now_ms)
        return Taken(True, token)
