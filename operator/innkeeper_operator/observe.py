"""What is seen of one app: its objects, its endpoint, its registration, the runs that it has."""

import msgspec
import structlog

from innkeeper_engine.model.clock import Clock
from innkeeper_engine.model.functions import App
from innkeeper_operator.asking import may_remove, noted
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.endpoints import live as live_endpoint
from innkeeper_operator.environs import Environs, Membership
from innkeeper_operator.errors import ApiError
from innkeeper_operator.memory import read_memory
from innkeeper_operator.objects import AppObject
from innkeeper_operator.plan import (
    runs_wanted,
)
from innkeeper_operator.registry_io import RegistryIO, registry_mark
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.views import Answered, AppView, Ask, Live, Outcome
from innkeeper_operator.world import NAMESPACES, World, app_id_of

_log = structlog.get_logger(__name__)


class Observer:
    """Looks; decides nothing, and changes nothing."""

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        registry: RegistryIO,
        environs: Environs,
        settings: OperatorSettings,
        clock: Clock,
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._registry = registry
        self._environs = environs
        self._settings = settings
        self._clock = clock
        self._terminating: set[str] = set()

    def forget(self, uid: str) -> None:
        """The InngestApp with this uid is gone."""
        self._terminating.discard(uid)

    async def view(
        self, app: AppObject, member: Membership, outcome: Outcome | None, ask: Ask | None
    ) -> AppView:
        """All that a plan for an app looks at; `outcome`: what came of asking it, `ask`, if anything did.

        Raises:
            ApiError, StoreError, StoreUnavailableError: it cannot be seen now.
        """
        live, memory = self.live(app), read_memory(app.status)
        removing = False
        if outcome is not None:
            memory = noted(memory, live, outcome, ask)
            removing = may_remove(live, outcome, memory, ask)
        registered = await self.registered(app, member.env, outcome)
        own_id = registered.id if registered is not None else told_id(app, outcome)
        others = (await self._registry.apps(member.env)).values()
        names = self._world.function_names(app.meta.namespace)
        functions = self._world.functions_of(app.meta.key)
        view = AppView(
            app=app,
            functions=functions,
            rivals=self.rivals(app, member.env, outcome),
            env=member.env,
            live=live,
            memory=memory,
            may_remove=removing,
            registered=registered,
            slugs={f.slug: other.id for other in others if other.id != own_id for f in other.functions},
            registry=registry_mark(await self._registry.id(), member.env),
            signing_keys=member.keys.sealed,
            keys=member.keys.fingerprint,
            key_problem=member.keys.problem,
            live_runs={},
            now_ms=self._clock.now_ms(),
            terminating=await self._is_terminating(app),
            taken=frozenset(names - {f.meta.name for f in functions}),
            switches=await self._registry.switches(member.env),
        )
        wanted = runs_wanted(view)
        if wanted:
            runs = await self._registry.live_runs(member.env, wanted)
            view = msgspec.structs.replace(view, live_runs=runs)
        return view

    def live(self, app: AppObject) -> Live:
        """Where an app is called now."""
        ref = app.spec.endpoint.service
        domain = self._settings.cluster_domain
        if ref is None:
            return live_endpoint(app, None, (), {}, domain)
        service = (app.meta.namespace, ref.name)
        slices, pods = self._world.slices_of(service), self._world.pods_behind(service)
        return live_endpoint(app, self._world.service(service), slices, pods, domain)

    async def registered(self, app: AppObject, env: str, outcome: Outcome | None) -> App | None:
        """Its registration; None where it has none, or it is not known yet which app it is."""
        app_id = told_id(app, outcome)
        return (await self._registry.apps(env)).get(app_id) if app_id else None

    def rivals(self, app: AppObject, env: str, outcome: Outcome | None = None) -> tuple[AppObject, ...]:
        """The other InngestApps that stand for the same app."""
        app_id = told_id(app, outcome)
        if not app_id:
            return ()
        return tuple(
            other
            for other in self._world.apps_with_id(app_id)
            if other.meta.uid != app.meta.uid and self._environs.member(other).env == env
        )

    def declared(self, env: str, app_id: str) -> bool:
        """Whether an InngestApp stands for a registration."""
        return bool(self.apps_of(env, app_id))

    async def _is_terminating(self, app: AppObject) -> bool:
        namespace = app.meta.namespace
        seen = self._world.namespace(namespace)
        if seen is not None or not app.meta.deleting:
            return seen is not None and seen.meta.deleting
        # Namespaces are not watched where only some are looked after, so it is asked for when it matters.
        if app.meta.uid not in self._terminating:
            try:
                raw = await self._cluster.get(NAMESPACES, "", namespace)
            except ApiError as error:
                if error.status != 403:
                    raise
                return False
            if raw is not None and raw["metadata"].get("deletionTimestamp"):
                self._terminating.add(app.meta.uid)
        return app.meta.uid in self._terminating

    def apps_of(self, env: str, app_id: str) -> list[AppObject]:
        """The InngestApps that stand for a registration."""
        return [a for a in self._world.apps_with_id(app_id) if self._environs.member(a).env == env]


def told_id(app: AppObject, outcome: Outcome | None) -> str:
    """The app id as far as it is known: from the InngestApp, else from what the app has just answered."""
    known = app_id_of(app)
    if known:
        return known
    return outcome.registration.app_id if isinstance(outcome, Answered) else getattr(outcome, "app_id", "")
