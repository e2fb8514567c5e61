"""What gateways leave in the store for the operator: registrations that apps sent by themselves, and what people want.

An app that cannot be asked in band is made to register itself; others do so when they start. Whether that counts
without an InngestApp is what `autoRegister` says.
"""

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Final

import structlog

from innkeeper_apps.classes import Routes
from innkeeper_apps.egress import EgressError
from innkeeper_apps.transport import TransportError, place_of
from innkeeper_apps.wire.register import Registration, RegistrationError, parse_registration
from innkeeper_engine.model.clock import Clock
from innkeeper_engine.store.asks import Asks, Wish
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.registrations import REGISTRATIONS_BELL, LeftRegistration, RegistrationInbox
from innkeeper_engine.store.store import Store
from innkeeper_operator.actions import Create
from innkeeper_operator.asking import claimed
from innkeeper_operator.bells import answer_bell
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.environs import Environs
from innkeeper_operator.errors import ApiError
from innkeeper_operator.metrics import Metrics
from innkeeper_operator.objects import APP_KIND, REGISTERED_BY, AppObject
from innkeeper_operator.plan import in_charge
from innkeeper_operator.reconcile import Reconciler
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.specs import API_VERSION
from innkeeper_operator.world import APPS, Dirty, World, app_id_of

_log = structlog.get_logger(__name__)

_NAME_CHARS: Final = 50
_OTHERS = re.compile(r"[^a-z0-9-]+")


class Inbox:
    """Takes registrations out of the store for as long as the operator is active."""

    def __init__(
        self,
        store: Store,
        world: World,
        cluster: Cluster,
        environs: Environs,
        reconciler: Reconciler,
        egress: Routes,
        settings: OperatorSettings,
        clock: Clock,
        metrics: Metrics,
        on_dirty: Callable[[Dirty], None],
    ) -> None:
        self._store = store
        self._box = RegistrationInbox(store)
        self._asks = Asks(store)
        self._world = world
        self._cluster = cluster
        self._environs = environs
        self._reconciler = reconciler
        self._egress = egress
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._on_dirty = on_dirty

    async def run(self) -> None:
        """Wait for registrations until cancelled; what fails is tried again."""
        await answer_bell(self._store, REGISTRATIONS_BELL, self.look, "registrations")

    async def look(self) -> None:
        """Hand everything that waits to its app: registrations, and what the operator is asked to do.

        Raises:
            ApiError, StoreError, StoreUnavailableError: try again.
        """
        left, wishes = await self._box.registrations_left(), await self._asks.left()
        if left or wishes:
            await self._environs.settle()
        for wish in wishes:
            try:
                await self._grant(wish)
            except (ApiError, StoreError, StoreUnavailableError):
                raise
            except Exception:
                # As for registrations: it must not stand in the way of the others.
                _log.exception("a wish was put away", what=wish.what, env=wish.env, app=wish.app_id)
                await self._asks.done(wish)
        for each in left:
            try:
                result = await self._take(each)
            except (ApiError, StoreError, StoreUnavailableError):
                raise
            except Exception:
                # It would break the next time too, and must not stand in the way of the others.
                _log.exception("a registration was put away", env=each.env, app=each.app_id)
                result = "broken"
            self._metrics.registrations.labels(result).inc()
            if result != "taken":
                await self._done(each)

    async def _take(self, left: LeftRegistration) -> str:
        try:
            registration = parse_registration(left.body)
        except RegistrationError as error:
            _log.warning("a registration cannot be read", env=left.env, app=left.app_id, why=str(error))
            return "invalid"
        app = self._owner(left.env, registration)
        if app is None and self._settings.auto_register == "Always":
            app = await self._declare(left.env, registration)
        if app is None:
            _log.warning(
                "no InngestApp is for an app that registered itself: apply one, or set autoRegister to Always",
                env=left.env,
                app=left.app_id,
            )
            return "unknown"
        outcome, ask = claimed(self._reconciler.attempts(app), registration, self._clock.now_ms())
        if ask is None and self._settings.auto_register == "Never":
            return "never"
        self._reconciler.answer(app, ask, outcome, functools.partial(self._done, left))
        return "taken"

    async def _done(self, left: LeftRegistration) -> None:
        await self._box.registration_done(left.env, left.app_id, left.token)

    async def _grant(self, wish: Wish) -> None:
        """Do what somebody wants done about an app, or see to it that it is."""
        apps = self._inside(wish.env, self._world.apps_with_id(wish.app_id))
        if wish.what == "look":
            self._on_dirty(Dirty(apps=frozenset(each.meta.key for each in apps)))
            await self._asks.done(wish)
            return
        app = self._first(apps)
        if app is None:
            _log.warning(
                "an app cannot be asked: no InngestApp is for it any more", env=wish.env, app=wish.app_id
            )
            await self._asks.done(wish)
            return
        await self._reconciler.demand(app, wish.token, functools.partial(self._asks.done, wish))

    # ---- whose it is

    def _owner(self, env: str, registration: Registration) -> AppObject | None:
        """The InngestApp that a registration is for."""
        app = self._first(self._inside(env, self._world.apps_with_id(registration.app_id)))
        if app is not None:
            return app
        unnamed = [app for app in self._world.apps() if isinstance(app, AppObject) and not app_id_of(app)]
        asked = [
            app for app in self._inside(env, unnamed) if self._reconciler.attempts(app).pending is not None
        ]
        same_url = [app for app in asked if self._pending_url(app) == registration.url]
        found = same_url or asked
        return found[0] if len(found) == 1 else None

    def _first(self, apps: list[AppObject]) -> AppObject | None:
        """Of InngestApps with the same app id the one that is in charge."""
        return next((app for app in apps if in_charge(app, [each for each in apps if each is not app])), None)

    def _pending_url(self, app: AppObject) -> str:
        pending = self._reconciler.attempts(app).pending
        return pending.url if pending is not None else ""

    def _inside(self, env: str, apps: list[AppObject]) -> list[AppObject]:
        return [app for app in apps if self._environs.member(app).env == env and not app.meta.deleting]

    # ---- Always

    async def _declare(self, env: str, registration: Registration) -> AppObject | None:
        """Make an InngestApp for an app that nobody has declared; None where that cannot be."""
        namespaces = self._environs.namespaces_of(env)
        if not namespaces or "~" in env:
            _log.warning("an app registered itself in an environment without a namespace", env=env)
            return None
        resolver = self._egress.resolver(self._environs.reach(env, public_only=True))
        try:
            await resolver.resolve_checked(*place_of(registration.url))
        except (EgressError, TransportError) as error:
            _log.warning("the URL of an app that registered itself may not be called", why=str(error))
            return None
        manifest = {
            "apiVersion": API_VERSION,
            "kind": APP_KIND,
            "metadata": {
                "name": app_name(registration.app_id),
                "namespace": namespaces[0],
                "labels": {REGISTERED_BY: "sdk"},
            },
            "spec": {"endpoint": {"url": registration.url}, "appId": registration.app_id},
        }
        try:
            raw = await self._cluster.do(Create(manifest=manifest))
        except ApiError as error:
            if error.status not in (400, 403, 422):
                raise
            _log.warning("the InngestApp of an app that registered itself was refused", why=str(error))
            return None
        if raw is None:
            return None
        self._on_dirty(self._world.put(APPS, raw))
        self._environs.touch()
        await self._environs.settle()
        found = self._world.app((namespaces[0], manifest["metadata"]["name"]))  # type: ignore[index]
        return found if isinstance(found, AppObject) else None


def app_name(app_id: str) -> str:
    """What an InngestApp is called that is made for an app id: that, as far as names of objects allow."""
    name = _OTHERS.sub("-", app_id.lower())[:_NAME_CHARS].strip("-")
    if name == app_id:
        return name
    digest = hashlib.sha256(app_id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name}-{digest}" if name else f"app-{digest}"
