"""What apps have registered, compiled once per change for those who decide on events and calls."""

import uuid
from collections.abc import Iterable, Mapping

import msgspec

from innkeeper_engine.cel import Expression, ExpressionError, compile_expression
from innkeeper_engine.cron import CronError, CronLine
from innkeeper_engine.limits import Queueing, compile_queueing
from innkeeper_engine.model.cancellations import Cancellation
from innkeeper_engine.model.environments import parent_name
from innkeeper_engine.model.functions import (
    App,
    CatchUp,
    Debounce,
    FunctionConfig,
    RateLimit,
    Singleton,
    Trigger,
)
from innkeeper_engine.model.reach import Reach
from innkeeper_engine.model.switches import (
    Pause,
    Switch,
    app_switch,
    function_switch,
    pause_of,
    with_switches,
)
from innkeeper_engine.triggers import matches, patterns_for

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "innkeeper.dev")

INTERNAL_EVENTS = (
    "inngest/function.finished",
    "inngest/function.failed",
    "inngest/function.cancelled",
    "inngest/function.invoked",
)
"""Events that the engine itself sends."""


def app_uuid(env: str, app_id: str) -> str:
    """The id of an app where the SDK protocol wants a UUID: always the same for the same app."""
    return str(uuid.uuid5(_NAMESPACE, f"app\0{env}\0{app_id}"))


def function_uuid(env: str, slug: str) -> str:
    """The id of a function where the SDK protocol wants a UUID."""
    return str(uuid.uuid5(_NAMESPACE, f"function\0{env}\0{slug}"))


class CompiledTrigger(msgspec.Struct, frozen=True):
    """An event trigger with its filter compiled."""

    config: Trigger
    condition: Expression | None


class CompiledCancel(msgspec.Struct, frozen=True):
    """A cancellation rule with its condition compiled."""

    event: str
    condition: Expression | None
    timeout_ms: int | None


class CompiledCron(msgspec.Struct, frozen=True):
    """A cron trigger, parsed. `id` names it in the store."""

    id: str
    line: CronLine
    text: str
    jitter_ms: int
    catch_up: CatchUp = "Latest"


class CompiledKey(msgspec.Struct, frozen=True):
    """The key of an option that gathers runs or refuses them; without one, all runs of the function are under one."""

    key: Expression | None


class CompiledBatch(msgspec.Struct, frozen=True):
    """What a batch goes by, compiled."""

    key: Expression | None
    condition: Expression | None


class CompiledCancellation(msgspec.Struct, frozen=True):
    """A cancellation of many runs, with its condition compiled."""

    config: Cancellation
    condition: Expression | None


class FunctionEntry(msgspec.Struct, frozen=True):
    """A registered function, ready to be decided on."""

    config: FunctionConfig
    app: App
    env: str
    uuid: str
    triggers: tuple[CompiledTrigger, ...]
    cancels: tuple[CompiledCancel, ...]
    crons: tuple[CompiledCron, ...]
    queueing: Queueing
    """How its runs queue: concurrency, throttle, priority."""
    debounce: CompiledKey | None = None
    batch: CompiledBatch | None = None
    rate_limit: CompiledKey | None = None
    singleton: CompiledKey | None = None
    idempotency: Expression | None = None
    cancellations: tuple[CompiledCancellation, ...] = ()
    """Of many of its runs, those that are still to be made included."""

    @property
    def key(self) -> str:
        """The function's name in the store: `<env>/<slug>`."""
        return f"{self.env}/{self.config.slug}"


class Registry:
    """One environment's apps and functions, as of one version. Immutable."""

    def __init__(
        self,
        env: str,
        version: int,
        apps: Iterable[App],
        *,
        account: str = "",
        egress_allow: tuple[str, ...] = (),
        cancellations: Iterable[Cancellation] = (),
        switches: Mapping[str, Switch] | None = None,
    ) -> None:
        """`account`: whose counters limits of scope account are; empty: the environment's own, with its branches.

        `egress_allow`: what its policy grants URLs of persons.

        `switches`: pauses beside those of the apps, by name. `apps` and `functions` are as they hold with them,
        `registered` says what the apps themselves are.
        """
        self.env = env
        self.version = version
        self.account = account or parent_name(env)
        parent = parent_name(env)
        self.reach = Reach(env=parent, allow=egress_allow, public_only=True)
        """Where persons may send requests."""
        self._reach_of_platform = Reach(env=parent, allow=egress_allow)
        self.cancellations = {each.id: each for each in cancellations}
        self.switches: Mapping[str, Switch] = switches or {}
        self.registered = {app.id: app for app in apps}
        self.apps = {app.id: with_switches(app, self.switches) for app in self.registered.values()}
        self._configs = {each.slug: each for app in self.registered.values() for each in app.functions}
        self.functions: dict[str, FunctionEntry] = {}
        self.crons: dict[str, tuple[FunctionEntry, CompiledCron]] = {}
        self._by_trigger: dict[str, list[tuple[FunctionEntry, CompiledTrigger]]] = {}
        self._by_name: dict[str, list[tuple[FunctionEntry, CompiledTrigger]]] = {}
        by_slug: dict[str, list[Cancellation]] = {}
        for each in self.cancellations.values():
            by_slug.setdefault(each.slug, []).append(each)
        for app in self.apps.values():
            for config in app.functions:
                found = by_slug.get(config.slug, ())
                self._add(compile_function(env, app, config, account=self.account, cancellations=found))
        self.cancelling_names = frozenset(c.event for f in self.functions.values() for c in f.cancels)
        """Event names in some function's `cancelOn`."""

    def triggered_by(self, name: str) -> list[tuple[FunctionEntry, CompiledTrigger]]:
        """Every function with each of its triggers that an event of this name reaches, in the order of declaration."""
        found = self._by_name.get(name)
        if found is None:
            if len(self._by_name) > 10_000:  # names come from outside
                self._by_name.clear()
            found = [pair for pattern in patterns_for(name) for pair in self._by_trigger.get(pattern, ())]
            self._by_name[name] = found
        return found

    def invocable(self, wanted: str) -> FunctionEntry | None:
        """The function of this slug or UUID; None where there is none, or its app is about to go."""
        entry = self.functions.get(wanted) or next(
            (f for f in self.functions.values() if f.uuid == wanted), None
        )
        return None if entry is None or entry.app.draining else entry

    def app_pause(self, app_id: str) -> Pause | None:
        """Why a registered app is paused; None: it is not."""
        return pause_of(self.registered[app_id], self.switches.get(app_switch(app_id)))

    def function_pause(self, slug: str) -> Pause | None:
        """Why a registered function is paused by itself, whatever its app is; None: it is not."""
        return pause_of(self._configs[slug], self.switches.get(function_switch(slug)))

    def reach_of(self, app: App) -> Reach:
        """Where calls to an app may go."""
        return self.reach if app.public_only else self._reach_of_platform

    def may_come_back(self, slug: str) -> bool:
        """Whether a function that is gone is waited for: what it has begun is not cancelled yet."""
        return slug not in self.functions and any(
            each.slug == slug and each.why == "function" for each in self.cancellations.values()
        )

    def heard(self) -> list[str]:
        """The engine's own events that some trigger or cancellation listens to."""
        wanted = {*self._by_trigger, *self.cancelling_names}
        return [name for name in INTERNAL_EVENTS if any(matches(pattern, name) for pattern in wanted)]

    def _add(self, entry: FunctionEntry) -> None:
        self.functions[entry.config.slug] = entry
        if entry.app.draining:
            return  # Its runs go on, and are cancelled as ever; nothing starts new ones.
        for trigger in entry.triggers:
            self._by_trigger.setdefault(str(trigger.config.event), []).append((entry, trigger))
        for cron in entry.crons:
            self.crons[cron.id] = (entry, cron)


def compile_function(
    env: str,
    app: App,
    config: FunctionConfig,
    *,
    account: str = "",
    cancellations: Iterable[Cancellation] = (),
) -> FunctionEntry:
    """Compile what a registration was checked for already.

    A registration written by another version may hold what this one cannot compile: such a trigger never fires,
    such a rule never cancels, such a key is none, such an option does not apply; the function itself goes on.
    """
    batch = config.batch
    return FunctionEntry(
        config=config,
        app=app,
        env=env,
        uuid=function_uuid(env, config.slug),
        triggers=tuple(
            CompiledTrigger(trigger, condition)
            for trigger in config.triggers
            if trigger.event
            for usable, condition in (_compiled(trigger.expression),)
            if usable
        ),
        cancels=tuple(
            CompiledCancel(cancel.event, condition, cancel.timeout_ms)
            for cancel in config.cancel
            for usable, condition in (_compiled(cancel.expression),)
            if usable
        ),
        crons=tuple(
            CompiledCron(
                f"{env}/{config.slug}#{trigger.cron}",
                line,
                trigger.cron,
                trigger.jitter_ms,
                trigger.catch_up,
            )
            for trigger in config.triggers
            if trigger.cron
            for line in (_cron_line(trigger.cron),)
            if line is not None
        ),
        queueing=compile_queueing(config, env, account or parent_name(env)),
        debounce=_key(config.debounce),
        batch=CompiledBatch(_compiled(batch.key)[1], _compiled(batch.expression)[1]) if batch else None,
        rate_limit=_key(config.rate_limit),
        singleton=_key(config.singleton),
        idempotency=_compiled(config.idempotency)[1],
        cancellations=tuple(
            CompiledCancellation(each, condition)
            for each in cancellations
            for usable, condition in (_compiled(each.expression),)
            if usable
        ),
    )


def _key(option: Debounce | RateLimit | Singleton | None) -> CompiledKey | None:
    return None if option is None else CompiledKey(_compiled(option.key)[1])


def _compiled(text: str | None) -> tuple[bool, Expression | None]:
    if not text:
        return True, None
    try:
        return True, compile_expression(text)
    except ExpressionError:
        return False, None


def _cron_line(text: str) -> CronLine | None:
    try:
        return CronLine.parse(text)
    except CronError:
        return None
