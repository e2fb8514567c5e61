"""Environments and their keys, kept as the cluster says: planned when they change, written where they differ.

Before an app is looked at, what is known of its environment is brought up to date (`settle`): which environment its
namespace is, and with which keys it is called.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec
import structlog

from innkeeper_engine.model.environments import Environment, branch_name, parent_name
from innkeeper_engine.model.reach import Reach
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_operator.actions import Apply, Create, Tell
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.endpoints import service_url
from innkeeper_operator.environments import (
    EnvironmentPlan,
    EnvironmentView,
    environment_of,
    keys_elsewhere,
    plan_environment,
    views_of,
)
from innkeeper_operator.errors import ApiError
from innkeeper_operator.keys import AppKeys, Seals
from innkeeper_operator.objects import AppObject, ServiceObject, Unreadable
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.world import SECRETS, Dirty, Key, World, app_id_of

_log = structlog.get_logger(__name__)

_Place: TypeAlias = tuple[str, str, tuple[str, str] | None]


class EnvironmentBrokenError(Exception):
    """An environment could not be planned; the message says which, and why."""


class Membership(msgspec.Struct, frozen=True):
    """Where an app belongs. Printing it shows no key."""

    env: str
    """Its environment as the store knows it, the branch included."""
    keys: AppKeys

    @property
    def place(self) -> _Place:
        """What of it matters to the app."""
        return self.env, self.keys.fingerprint, self.keys.problem


class Environs:
    """All environments of an operator."""

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        store: EnvironmentStore,
        settings: OperatorSettings,
        sealer: Seals,
        on_dirty: Callable[[Dirty], None],
        *,
        prepare: Callable[[], Awaitable[None]],
        random_hex: Callable[[], str],
    ) -> None:
        """`on_dirty` hears which apps have come to another environment or to other keys. `prepare` sees to it that the
        Secrets which apps name are there to be looked at.
        """
        self._prepare = prepare
        self._world = world
        self._cluster = cluster
        self._store = store
        self._settings = settings
        self._sealer = sealer
        self._on_dirty = on_dirty
        self._random_hex = random_hex
        self._stale = True
        self._turn = asyncio.Lock()
        self._stored: dict[str, Environment] | None = None
        self._plans: dict[str, EnvironmentPlan] = {}
        self._members: dict[Key, Membership] = {}
        self._todo: dict[str, tuple[Apply | Create, ...]] = {}
        self._problems: list[Tell] = []
        self._broken: dict[str, str] = {}
        """Why, by the name of the environment."""

    def touch(self, *, forget_store: bool = False) -> None:
        """Something has changed; with `forget_store`, the store may have lost what was written to it."""
        self._stale = True
        if forget_store:
            self._stored = None

    async def settle(self) -> None:
        """Bring everything up to date, if it is not.

        Raises:
            StoreError, StoreUnavailableError: the store did not take it.
        """
        async with self._turn:
            if self._stale:
                self._stale = False
                try:
                    await self._refresh()
                except BaseException:
                    self._stale = True
                    raise

    def member(self, app: AppObject) -> Membership:
        """Where an app belongs, as of the last `settle`."""
        known = self._members.get(app.meta.key)
        if known is not None:
            return known
        # It came in after that, so it is looked at once more.
        env = environment_of(app.meta.namespace, self._world.namespace(app.meta.namespace), self._settings)
        return Membership(_with_branch(env, app), AppKeys())

    def namespaces_of(self, env: str) -> tuple[str, ...]:
        """The namespaces of an environment (of its parent, for a branch), as of the last `settle`."""
        plan = self._plans.get(env.partition("~")[0])
        return plan.environment.namespaces if plan is not None else ()

    def reach(self, env: str, *, public_only: bool) -> Reach:
        """Where requests for an environment's apps may go, as of the last `settle`."""
        parent = parent_name(env)
        plan = self._plans.get(parent)
        allow = plan.environment.policy.egress_allow if plan is not None else ()
        return Reach(env=parent, allow=allow, public_only=public_only)

    def looks_after(self, env: str) -> bool:
        """Whether an environment is this operator's: all of its namespaces are among those that it looks after.

        What an operator cannot see is not gone: it was given fewer namespaces, or another operator has these.
        """
        ours = self._settings.namespaces
        if not ours:
            return True
        parent = parent_name(env)
        record = (self._stored or {}).get(parent)
        if record is not None and record.namespaces:
            return set(record.namespaces) <= set(ours)
        return any(environment_of(each, None, self._settings) == parent for each in ours)

    def unclear(self) -> set[str]:
        """Environments with an InngestApp of which it is not known (yet, or by this version) which app it is."""
        return {
            environment_of(app.meta.namespace, self._world.namespace(app.meta.namespace), self._settings)
            for app in self._world.apps()
            if not app_id_of(app)
        }

    def _unreadable(self) -> set[str]:
        """Environments with an InngestApp that this version cannot read: their records stay as they are."""
        return {
            environment_of(app.meta.namespace, self._world.namespace(app.meta.namespace), self._settings)
            for app in self._world.apps()
            if isinstance(app, Unreadable)
        }

    # ---- inside

    async def _refresh(self) -> None:
        await self._prepare()
        apps = [app for app in self._world.apps() if isinstance(app, AppObject)]
        if self._stored is None:
            snapshot = await self._store.read()
            self._stored = {environment.name: environment for environment in snapshot.environments}
        views = views_of(apps, self._world.secrets(), self._world.namespaces(), self._settings)
        elsewhere = keys_elsewhere(views.values(), self._stored.values())
        domain = self._settings.cluster_domain
        urls = {app.meta.key: service_url(app, self._service(app), domain) for app in apps}
        plans: dict[str, EnvironmentPlan] = {}
        self._broken.clear()
        for name, view in views.items():
            plan = self._plan(view, urls, elsewhere(name))
            if plan is not None:
                plans[name] = plan
        await self._write(plans)
        self._plans = plans
        self._todo = {name: plan.applies for name, plan in plans.items() if plan.applies}
        self._problems = [problem for plan in plans.values() for problem in plan.problems]
        self._note_members(apps, plans)

    def _plan(
        self, view: EnvironmentView, urls: Mapping[Key, str], elsewhere: Mapping[str, str]
    ) -> EnvironmentPlan | None:
        """The plan of one environment; where that breaks, the one before it, and the others go on."""
        before = self._plans.get(view.name)
        stored = (self._stored or {}).get(view.name)
        try:
            return plan_environment(
                view,
                urls=urls,
                elsewhere=elsewhere,
                known=before.app_keys if before is not None else {},
                held=stored.policy if stored is not None else None,
                settings=self._settings,
                sealer=self._sealer,
                random_hex=self._random_hex,
            )
        except Exception as error:
            _log.exception("an environment cannot be planned: it stays as it is", name=view.name)
            self._broken[view.name] = f"the environment {view.name!r} cannot be planned: {error!r}"
            return before

    async def apply(self) -> None:
        """Make the Secrets that the last plans ask for, and tell what is wrong with others.

        Raises:
            ApiError: some could not be made; the others were.
            EnvironmentBrokenError: one could not be planned; the others were.
        """
        await self.settle()
        failed: ApiError | None = None
        for name in list(self._todo):
            for action in self._todo.pop(name, ()):
                try:
                    raw = await self._cluster.do(action)
                except ApiError as error:
                    failed = self._refused(action, error) or failed
                    continue
                if raw is not None:
                    self._on_dirty(self._world.put(SECRETS, raw))
        for problem in self._problems:
            await self._cluster.do(problem)
        if failed is not None:
            # Whatever was not made is planned once more.
            self._stale = True
            try:
                raise failed
            finally:
                del failed  # else it and this frame hold each other
        if self._broken:
            self._stale = True
            raise EnvironmentBrokenError("; ".join(self._broken.values()))

    def _refused(self, action: Apply | Create, error: ApiError) -> ApiError | None:
        """The error, unless trying again would help nobody."""
        if error.status == 409:
            _log.warning(
                "a Secret is another manager's and stays as it is", action=repr(action), why=str(error)
            )
            return None
        if error.status == 403 and "being terminated" in str(error):
            return None
        return error

    async def _write(self, plans: dict[str, EnvironmentPlan]) -> None:
        """Make the store's records those of the plans."""
        assert self._stored is not None
        wanted = {
            environment.name: environment
            for plan in plans.values()
            for environment in (plan.environment, *plan.branches)
        }
        left_alone = self._unreadable()
        for name, environment in wanted.items():
            stored = self._stored.get(name)
            if stored is not None and (parent_name(name) in left_alone or not self.looks_after(name)):
                continue
            if stored != environment:
                try:
                    await self._store.write(environment)
                except ValueError as error:
                    _log.warning("an environment cannot be stored", name=name, why=str(error))
                    continue
                self._stored[name] = environment
        for name in self._stored.keys() - wanted.keys():
            parent = parent_name(name)
            if parent in self._broken or parent in left_alone or not self.looks_after(name):
                continue
            await self._store.remove(name)
            del self._stored[name]

    def _note_members(self, apps: list[AppObject], plans: dict[str, EnvironmentPlan]) -> None:
        members = {}
        env_of = {
            namespace: name for name, plan in plans.items() for namespace in plan.environment.namespaces
        }
        for app in apps:
            name = env_of.get(app.meta.namespace)
            if name is None:
                # Its environment could not be planned yet.
                continue
            keys = plans[name].app_keys.get(app.meta.key, AppKeys())
            members[app.meta.key] = Membership(_with_branch(name, app), keys)
        moved = {
            key
            for key, member in members.items()
            if key not in self._members or self._members[key].place != member.place
        }
        self._members = members
        if moved:
            self._on_dirty(Dirty(apps=frozenset(moved)))

    def _service(self, app: AppObject) -> ServiceObject | None:
        ref = app.spec.endpoint.service
        return None if ref is None else self._world.service((app.meta.namespace, ref.name))


def _with_branch(env: str, app: AppObject) -> str:
    return branch_name(env, app.spec.branch) if app.spec.branch else env
