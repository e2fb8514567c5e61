"""Pauses that somebody switched on over the API: beside what apps and custom resources say, never a part of it."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from innkeeper_engine.model.functions import App, FunctionConfig, NewRuns, RunningRuns

MAX_REASON_CHARS = 500
"""Of what somebody may say of a pause."""

PausedBy = Literal["spec", "switch", "both"]
"""spec: what the custom resource says (`spec.paused`). switch: somebody over the API."""


class Switch(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A pause of an app, or of one function, until somebody resumes it."""

    app_id: str
    slug: str = ""
    """Of a function; empty: the whole app is paused."""
    who: str
    """Who paused it, by the name of a key or of a person."""
    since_ms: int
    reason: str = ""
    new_runs: NewRuns | None = None
    """What becomes of runs that would start meanwhile; None: as the function's own pause policy says."""
    running: RunningRuns | None = None
    """What becomes of runs that have begun; None: as the function's own pause policy says."""

    @property
    def name(self) -> str:
        """What it is kept under: the same for each pause of the same function or app."""
        return function_switch(self.slug) if self.slug else app_switch(self.app_id)


Switches = Mapping[str, Switch]
"""The switches of an environment, by name."""


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is paused."""

    by: PausedBy
    who: str = ""
    """Who switched it off; of a spec the field manager that said so, where that is known."""
    since_ms: int = 0
    """0: not known."""
    reason: str = ""
    new_runs: NewRuns | None = None
    """What becomes of runs of a function that would start meanwhile; None: of an app, or not known."""
    running: RunningRuns | None = None
    """The same of runs that have begun."""


def app_switch(app_id: str) -> str:
    """The name of the switch of an app."""
    return f"a:{app_id}"


def function_switch(slug: str) -> str:
    """The name of the switch of a function."""
    return f"f:{slug}"


def with_switches(app: App, switches: Switches) -> App:
    """A registration as it holds while these switches are on; the same where none concerns it."""
    functions = tuple(with_switch(each, switches.get(function_switch(each.slug))) for each in app.functions)
    paused = app.paused or app_switch(app.id) in switches
    if paused == app.paused and functions == app.functions:
        return app
    return msgspec.structs.replace(app, paused=paused, functions=functions)


def with_switch(config: FunctionConfig, switch: Switch | None) -> FunctionConfig:
    """How a function runs while a switch is on: its own words about the pause win over the function's policy."""
    if switch is None:
        return config
    return msgspec.structs.replace(
        config,
        paused=True,
        new_runs=switch.new_runs or config.new_runs,
        running=switch.running or config.running,
    )


def pause_of(registered: App | FunctionConfig, switch: Switch | None) -> Pause | None:
    """Why an app or function is paused, by its registration and its switch; None: it is not.

    Where both pause it, whoever switched it off is told of: he is the one to ask.
    """
    if switch is None and not registered.paused:
        return None
    new_runs: NewRuns | None = None
    running: RunningRuns | None = None
    if isinstance(registered, FunctionConfig):
        held = with_switch(registered, switch)
        new_runs, running = held.new_runs, held.running
    if switch is None:
        by: PausedBy = "spec"
        who, since_ms, reason = registered.paused_by, registered.paused_since_ms, ""
    else:
        by = "both" if registered.paused else "switch"
        who, since_ms, reason = switch.who, switch.since_ms, switch.reason
    return Pause(by=by, who=who, since_ms=since_ms, reason=reason, new_runs=new_runs, running=running)


def said_again(before: Switch, said: Switch) -> Switch:
    """A switch that was on already, and is switched on once more: what is said of the pause now counts from now on.

    The same where nothing new is said; it is paused since it was paused first.
    """
    more = msgspec.structs.replace(
        before,
        reason=said.reason or before.reason,
        new_runs=said.new_runs or before.new_runs,
        running=said.running or before.running,
    )
    return before if more == before else msgspec.structs.replace(more, who=said.who)
