"""What scenarios of flow control share: events of one test, gates that keep bodies in their requests, and a judge.

How many were at work at one instant is never told by times: bodies record `enter` and `leave` in one process, and
their order says it.
"""

import uuid
from collections.abc import Mapping
from typing import Any, Literal

from tests.sdk.harness import App, Run, wait_until


class Scene:
    """The events of one test to one app, all with a token of their own, and what the app's bodies did with them."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.token = uuid.uuid4().hex
        self._sent: list[str] = []

    def key(self, name: str = "key") -> str:
        """A value for keys, that no other test uses."""
        return f"{name}-{self.token}"

    def send(
        self, event: str, n: int = 0, *, key: str | Literal[False] | None = "key", **data: object
    ) -> str:
        """Send one of the app's events; its id.

        `key`: what `event.data.key` is made of; False as it is; None: the event has none.
        """
        body = {"token": self.token, "n": n, **data}
        if key is not None:
            body["key"] = key and self.key(key)
        event_id = self.app.api.send(self.app.event(event), body)
        self._sent.append(event_id)
        return event_id

    def run(
        self, function: str, n: int = 0, *, key: str | Literal[False] | None = "key", **data: object
    ) -> Run:
        """The run that such an event starts."""
        return self.app.run_of(self.send(function, n, key=key, **data))

    def runs(
        self, function: str, count: int, *, key: str | Literal[False] | None = "key", **data: object
    ) -> list[Run]:
        """Runs with the numbers 0 to `count` - 1."""
        return [self.run(function, n, key=key, **data) for n in range(count)]

    def runs_of(self, event_id: str) -> list[dict[str, Any]]:
        """The runs of an event as they are now: none, where it was put together with others or dropped."""
        return self.app.api.runs_of(event_id)

    def open(self, n: int | None = None) -> None:
        """Let the body of event `n` go on, whether it is there already or not; None: all of them."""
        name = "*" if n is None else str(n)
        reply = self.app.http.post("/_open", json={"token": self.token, "n": name})
        assert reply.status_code == 200, reply.text

    def effects(self, *steps: str) -> list[dict[str, Any]]:
        """What bodies recorded for this test's events, in order."""
        found = self.app.effects(token=self.token)
        return [e for e in found if e["step"] in steps] if steps else found

    def entered(self) -> list[int]:
        """The numbers of the events whose bodies began, in order."""
        return [int(e["n"]) for e in self.effects("enter")]

    def wait_entered(self, *ns: int) -> None:
        """Wait until these bodies have begun, besides whatever else."""
        wait_until(lambda: set(ns) <= set(self.entered()), f"{ns} entered", seen=self.effects)

    def settle(self) -> None:
        """Return when whatever was possible before this call has begun: a later event has been answered for."""
        self.app.trigger("no-step").end()

    def stays(self, *ns: int) -> None:
        """These bodies have begun, and no others begin by themselves."""
        self.wait_entered(*ns)
        self.settle()
        assert sorted(self.entered()) == sorted(ns), self.effects()

    def busy(self) -> list[tuple[dict[str, Any], int]]:
        """Each `enter`, with how many others were between their `enter` and `leave` then."""
        inside, seen = 0, []
        for effect in self.effects("enter", "leave"):
            if effect["step"] == "enter":
                seen.append((effect, inside))
                inside += 1
            else:
                inside -= 1
        return seen

    def most_at_once(self) -> int:
        """How many bodies were at work at the busiest instant."""
        return max((others + 1 for _, others in self.busy()), default=0)

    def told_cancelled_once(self, run: Run) -> None:
        """`inngest/function.cancelled` was sent for the run, and not twice."""

        def told() -> list[dict[str, Any]]:
            return self.app.effects(step="cancelled", cancelled=run.id)

        wait_until(told, f"function.cancelled of {run.id}", seen=run.now)
        self.settle()
        assert len(told()) == 1, told()

    def close(self) -> None:
        """Let every body of the test go on."""
        self.open()


def why(run: Run, kind: str) -> str:
    """Why the run was `skipped` or `cancelled`, as its history says."""
    notes = [note for note in run.now()["notes"] if note["type"] == kind]
    assert len(notes) == 1, notes
    return str(notes[0]["why"])


def without_key(run: Run) -> list[str]:
    """The options whose expression gave nothing for the run's event."""
    return [str(note["option"]) for note in run.now()["notes"] if note["type"] == "key"]


class Changing:
    """The app `{app}-changing`, which is served with other options whenever a test says so.

    Options: `concurrency` (entries as on the wire), `throttle` (starts an hour), `removed` (nothing but
    `flow-standing`), `ticks` (a singleton on a cron of every second, whose gate has this token).
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def serve(self, **options: object) -> None:
        """Serve and register the functions with these options."""
        body: Mapping[str, object] = options
        reply = self._app.http.post("/_changing", json=body)
        assert reply.status_code == 200, reply.text
        self._app.sync_ok("/api/changing")
