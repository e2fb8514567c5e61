"""What the operator's pure parts tell each other: an endpoint as it is, an ask and its outcome, a plan.

Observed objects -> `Live` (endpoints.py) -> `Ask` or `Later` (asking.py) -> outcome (syncing.py asks the app) ->
`AppPlan` (plan.py) -> the registry and the cluster (reconcile.py).
"""

from typing import TypeAlias

import msgspec

from innkeeper_apps.wire.fields import Problem
from innkeeper_apps.wire.register import Registration
from innkeeper_engine.model.functions import App
from innkeeper_engine.model.reach import Reach
from innkeeper_engine.model.switches import Switch, app_switch
from innkeeper_operator.actions import Action
from innkeeper_operator.objects import AppObject, FunctionObject, Unreadable

# ---- the endpoint


class Revision(msgspec.Struct, frozen=True):
    """The ready pods of one version of a workload."""

    name: str
    """Hash of the pod template; empty for pods that have none."""
    ready: int
    address: str
    """`host:port` of one of them."""


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """Where an app is served now."""

    url: str
    """How its functions are called: through the Service, or the URL of the spec. Empty where that cannot be told;
    whether it can be called now is what `reason` says."""
    external: bool = False
    """A URL: nothing is known of what is behind it."""
    public_only: bool = False
    """Where it leads is what a person says: it may be at public addresses, and where the environment's policy says."""
    revisions: tuple[Revision, ...] = ()
    """Most ready ones first, then by name; empty for endpoints without pods."""
    addresses: tuple[str, ...] = ()
    """`host:port` of ready endpoints without pods, sorted."""
    reason: str = ""
    """Why it cannot be called: NoService, NoPort, NoEndpoints, InvalidUrl; empty where it can."""
    message: str = ""
    """The same as a sentence that says what to do."""


# ---- asking


class SyncMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What `status.sync` remembers: it outlives the operator."""

    time_ms: int = 0
    config_hash: str = ""
    registry: str = ""
    """Id of the registry that it was written to."""
    revisions: tuple[str, ...] = ()
    """Names of live revisions that are known to declare `config_hash`."""
    addresses: tuple[str, ...] = ()
    """Endpoints without pods that are known to."""
    generation: int = 0
    """Of the InngestApp's spec that it was asked under."""
    keys: str = ""
    """Fingerprint of the keys that it was asked with (no key can be found from it)."""
    requested: str = ""
    """Value of the annotation `innkeeper.dev/sync-requested-at` that was answered."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Ask the app for its functions."""

    url: str
    at: str = ""
    """`host:port` to dial in place of the URL's; empty: the URL's."""
    revision: str = ""
    why: str
    """First, Spec, Keys, Rollout, Interval, Requested, Registry or Retry."""
    generation: int = 0
    """With the next three what it is asked under: `noted` remembers these, not what they are by then."""
    keys: str = ""
    requested: str = ""
    registry: str = ""
    reach: Reach = Reach()
    """Where the app may be."""


class Later(msgspec.Struct, frozen=True):
    """Nothing to ask now."""

    at_ms: int | None
    """When to look again although nothing has changed; None: not by time."""


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """What one process remembers of an app between two looks at it; it begins empty."""

    first_ms: int | None = None
    """When this process first looked at the app."""
    registry: str = ""
    registry_since_ms: int = 0
    """Since when the registry is this one, as far as this process has seen."""
    leader: str | None = None
    leading_since_ms: int = 0
    asked_ms: dict[str, int] = {}
    """When each revision (or address, or `""` for the Service or URL) was asked last."""
    seen_ms: dict[str, int] = {}
    """Since when each endpoint without a pod is there."""
    answered: tuple[str, ...] = ()
    """Endpoints without pods that have answered, whatever they declared: they are not asked again for being new."""
    by_service: bool = False
    """The pod could not be dialled: ask through the Service, if one revision alone is behind it."""
    failures: int = 0
    failed_ms: int = 0
    under: tuple[str, ...] = ()
    """What the failures came under: something else, and they no longer count."""
    pending: Ask | None = None
    """The app said to this one that it registers itself."""
    pending_ms: int = 0
    demanded: str = ""
    """Names the last wish of somebody that the app be asked right now."""
    met: str = ""
    """The last of these that it was asked for."""


# ---- what came of it


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The app declared its functions, and they are valid."""

    registration: Registration
    revision: str = ""
    at: str = ""
    in_band: bool = True
    signing_key_hash: str = ""
    """Hex, possibly only its beginning: which key the app has, where it says so."""
    time_ms: int


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The app declared functions that cannot be taken: nothing of it is."""

    problems: tuple[Problem, ...]
    declared: dict[str, bytes]
    """What it said of each function, by slug, as JSON; also of the ones that are fine."""
    app_id: str
    message: str
    revision: str = ""
    time_ms: int


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """The app did not answer, or not as an app of ours does."""

    reason: str
    """CamelCase, for the condition: ConnectionRefused, Unauthorized, WrongPath, AppInDevMode, BadSignature, ...

    RegistersItself is no failure: the app was told to register itself, and its registration comes by the inbox.
    """
    message: str
    reachable: bool | None
    """False: nobody answered. True: somebody did. None: not known."""
    unchanged: bool = False
    """RegistersItself, and this server has told it that nothing has changed: no registration may come."""
    time_ms: int


Outcome: TypeAlias = Answered | Refused | Failed


# ---- planning


class AppView(msgspec.Struct, frozen=True, kw_only=True):
    """All that a plan for one app looks at."""

    app: AppObject
    functions: tuple[FunctionObject | Unreadable, ...]
    """Every Function of the namespace whose `appRef` names the app."""
    rivals: tuple[AppObject, ...]
    """Other InngestApps of the environment with the same app id."""
    env: str
    """The environment as the store knows it."""
    live: Live
    memory: SyncMemory
    may_remove: bool
    """A single revision is live and it is the one that answered: what it does not declare is gone."""
    registered: App | None
    """What the registry holds for the app."""
    slugs: dict[str, str]
    """Who else in the environment has a function of which slug: app id by slug, without this app."""
    registry: str
    """The registry's id."""
    signing_keys: tuple[bytes, ...]
    """Sealed keys of the app, the current one first."""
    keys: str
    """Fingerprint of those keys, equal while they are."""
    key_problem: tuple[str, str] | None
    """Reason and message where a referenced key cannot be used."""
    live_runs: dict[str, int]
    """Runs that have not ended, by slug (0 where all have): of those that `plan.runs_wanted` names, asked for where
    something is about to go. What is not in it is not known, and stays."""
    now_ms: int
    terminating: bool = False
    """The namespace is being deleted: its Secrets are gone, and nothing can be made in it."""
    taken: frozenset[str] = frozenset()
    """Names of the namespace's Functions of other apps."""
    switches: dict[str, Switch] = {}
    """Pauses over the API in the environment, by name."""

    @property
    def switch(self) -> Switch | None:
        """The pause over the API of the app that is registered."""
        return None if self.registered is None else self.switches.get(app_switch(self.registered.id))


class AppPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for one app, in this order: write, cancel_runs, remove, then the actions as they stand."""

    write: App | None = None
    """The registration to be written; None leaves what is there."""
    remove: bool = False
    """Take the app out of the registry."""
    cancel_runs: bool = False
    """Cancel what runs of its functions before that; with both there is a `write` first that lets nothing start."""
    actions: tuple[Action, ...] = ()
    wake_ms: int | None = None
    """When to plan again although nothing has changed."""
