"""Registrations under the custom resources of `innkeeper dev --manifests`: the operator's plans, with no cluster.

What an app declares goes through the same plan as in a cluster; of that plan the registration is written, and what
the operator would say in a status is told on the terminal.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from innkeeper_apps.wire.register import Registration, app_url_key
from innkeeper_cli.manifests import ManifestError, Manifests, files, load
from innkeeper_engine.model.functions import App
from innkeeper_engine.registering import register_app
from innkeeper_engine.store.store import Store
from innkeeper_gateway.registrars import DirectRegistrar, Taken
from innkeeper_operator.actions import SetStatus
from innkeeper_operator.objects import FUNCTION_KIND, AppObject
from innkeeper_operator.plan import plan_app
from innkeeper_operator.views import Answered, AppPlan, AppView, Live, SyncMemory

REGISTRY = "dev"

Stamp = tuple[tuple[str, int, int], ...]


class Declared:
    """The manifests of a folder, read again when a file of it has changed."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        """`tell` gets a sentence for whoever watches, once for each that is new.

        Raises:
            ManifestError: the manifests cannot be used.
        """
        self._folder = folder
        self._tell = tell
        self._told: set[str] = set()
        self._stamp = _stamp(folder)
        self._manifests = load(folder)
        self.urls = list(self._manifests.urls())
        for kind in self._manifests.passed_over:
            self.say(f"manifests of kind {kind} have no effect on a laptop")

    def current(self) -> Manifests:
        """The manifests as the files are now; as they were, where they cannot be used any more (which is told)."""
        try:
            stamp = _stamp(self._folder)
            if stamp != self._stamp:
                self._stamp = stamp
                manifests = load(self._folder)
                manifests.urls()
                self._manifests = manifests
                self._told.clear()
                self.say("the manifests have changed")
        except ManifestError as error:
            self.say(f"the manifests stay as they were: {error}")
        return self._manifests

    def say(self, sentence: str) -> None:
        """Tell something once."""
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(sentence)


class DeclaredRegistrar:
    """Writes what an app registers as its InngestApp and Functions want it; other apps as they are."""

    def __init__(self, store: Store, declared: Declared) -> None:
        self._store = store
        self._declared = declared
        self._direct = DirectRegistrar(store)

    async def register(self, env: str, registration: Registration, body: bytes, now_ms: int) -> Taken:
        """See `Registrar`."""
        manifests = self._declared.current()
        found = app_of(manifests, registration)
        if found is None:
            return await self._direct.register(env, registration, body, now_ms)
        url, app = found
        blobs = await self._store.registrations(env)
        apps = {app_id: msgspec.json.decode(blob, type=App) for app_id, blob in blobs.items()}
        plan = plan_for(manifests, app, url, registration, env, apps, now_ms)
        for sentence in complaints(plan):
            self._declared.say(sentence)
        known = apps.get(registration.app_id)
        if plan.write is None:
            return Taken(False, str(known.version if known else 0))
        done = await register_app(self._store, env, plan.write, now_ms=now_ms)
        return Taken(done.modified, str(done.app_version))


def app_of(manifests: Manifests, registration: Registration) -> tuple[str, AppObject] | None:
    """Where an app is and which InngestApp declares it: by the app id of the spec, else by its URL."""
    urls = manifests.urls()
    for url, app in urls.items():
        if app.spec.app_id == registration.app_id:
            return url, app
    for url, app in urls.items():
        if app.spec.app_id is None and app_url_key(url) == app_url_key(registration.url):
            return url, app
    return None


def plan_for(
    manifests: Manifests,
    app: AppObject,
    url: str,
    registration: Registration,
    env: str,
    apps: dict[str, App],
    now_ms: int,
) -> AppPlan:
    """The operator's plan for what an app has just declared; one process is one revision of its code."""
    others = (other for app_id, other in apps.items() if app_id != registration.app_id)
    view = AppView(
        app=app,
        functions=manifests.functions_of(app),
        rivals=(),
        env=env,
        live=Live(url=url, external=True),
        memory=SyncMemory(),
        may_remove=True,
        registered=apps.get(registration.app_id),
        slugs={function.slug: other.id for other in others for function in other.functions},
        registry=REGISTRY,
        signing_keys=(),
        keys="",
        key_problem=None,
        live_runs={},
        now_ms=now_ms,
    )
    return plan_app(view, Answered(registration=registration, in_band=False, time_ms=now_ms))


def complaints(plan: AppPlan) -> list[str]:
    """What the statuses of a plan say against Functions, a sentence each."""
    found = []
    for action in plan.actions:
        if isinstance(action, SetStatus) and action.kind == FUNCTION_KIND:
            for condition in action.status.get("conditions", ()):
                # What is accepted has a message only where something is odd about it, or has no effect.
                if condition["type"] == "Accepted" and condition["message"]:
                    found.append(f"Function {action.name}: {condition['reason']}: {condition['message']}")
                elif condition["reason"] == "NotRegistered" and condition["type"] == "Ready":
                    found.append(f"Function {action.name}: {condition['message']}")
    return found


def _stamp(folder: Path) -> Stamp:
    return tuple(
        (str(path), stat.st_mtime_ns, stat.st_size) for path in files(folder) for stat in (path.stat(),)
    )


__all__ = ["Declared", "DeclaredRegistrar", "app_of", "complaints", "plan_for"]
