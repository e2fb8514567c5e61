"""A simulated app behind a Service, and an operator that asks it as `asking.py` says; time is a number."""

from collections.abc import Callable

import msgspec

from innkeeper_apps.wire.register import Registration
from innkeeper_operator.asking import may_remove, next_ask, noted, told
from innkeeper_operator.objects import SYNC_REQUESTED, AppObject, Meta
from innkeeper_operator.specs import AppSpec, Endpoint, ServiceRef, Sync
from innkeeper_operator.views import Answered, Ask, Attempts, Failed, Live, Outcome, Revision, SyncMemory

START_MS = 1_800_000_000_000
URL = "http://shop.prod.svc:3000/api/inngest"


def pods(**ready: int) -> Live:
    """Live pods by revision; the address of a revision carries its name."""
    revisions = [Revision(name, count, f"{name}:3000") for name, count in ready.items() if count]
    revisions.sort(key=lambda each: (-each.ready, each.name))
    if not revisions:
        return Live(url=URL, reason="NoEndpoints", message="none is ready")
    return Live(url=URL, revisions=tuple(revisions))


def bare(*addresses: str) -> Live:
    """Endpoints without pods."""
    if not addresses:
        return pods()
    return Live(url=URL, addresses=tuple(sorted(addresses)))


def outside() -> Live:
    """A URL."""
    return Live(url="https://shop.example/api/inngest", external=True)


def registration(checksum: str) -> Registration:
    """What an app declares, known by its hash alone."""
    return Registration(app_id="shop", url=URL, functions=(), checksum=checksum)


def failed(reason: str = "InternalServerError", *, reachable: bool = True, unchanged: bool = False) -> Failed:
    """An ask that came to nothing; the time is filled in."""
    return Failed(reason=reason, message="no", reachable=reachable, unchanged=unchanged, time_ms=0)


class Timeline:
    """One app. What it declares at an address is `code` of the revision there, or of the address itself."""

    def __init__(
        self, live: Live, *, interval: str = "24h", on_rollout: bool = True, uid: str = "u1"
    ) -> None:
        endpoint = Endpoint(service=ServiceRef(name="shop", port=3000))
        self.app = AppObject(
            Meta(name="shop", namespace="prod", uid=uid, generation=1),
            AppSpec(endpoint=endpoint, sync=Sync(on_rollout=on_rollout, interval=interval)),
            {},
        )
        self.live = live
        self.memory = SyncMemory()
        self.attempts = Attempts()
        self.registry = "reg-1"
        self.keys = "keys-1"
        self.apps = 1
        self.now_ms = START_MS
        self.latency_ms = 50
        self.code: dict[str, str] = {}
        self.answer: Callable[[Ask], Outcome | None] = lambda _ask: None
        """What comes of an ask; None: the code's declaration."""
        self.asks: list[tuple[int, Ask]] = []
        self.removals: list[int] = []
        self._open: tuple[int, Ask] | None = None
        self._wake_ms: int | None = None
        self._look()

    @property
    def asked(self) -> list[tuple[float, str, str]]:
        """Each ask: seconds since the start, why, and the revision or address."""
        return [((at - START_MS) / 1000, ask.why, ask.revision or ask.at) for at, ask in self.asks]

    def synced(self, seconds: float = 20) -> "Timeline":
        """Let the first ask pass, and forget it."""
        self.run(seconds)
        self.asks.clear()
        return self

    def run(self, seconds: float) -> "Timeline":
        """Let time pass."""
        end_ms = self.now_ms + round(seconds * 1000)
        while True:
            due = [at for at in (self._wake_ms, self._open[0] if self._open else None) if at is not None]
            if not due or min(due) > end_ms:
                break
            self.now_ms = max(self.now_ms, min(due))
            self._look()
        self.now_ms = end_ms
        return self

    def to(self, live: Live, seconds: float = 0) -> "Timeline":
        """The endpoint changes; then time passes."""
        self.live = live
        self._look()
        return self.run(seconds)

    def change(self, *, generation: int | None = None, requested: str | None = None) -> None:
        """The InngestApp changes."""
        meta = self.app.meta
        annotations = meta.annotations if requested is None else {SYNC_REQUESTED: requested}
        meta = msgspec.structs.replace(
            meta, generation=generation or meta.generation, annotations=annotations
        )
        self.app = msgspec.structs.replace(self.app, meta=meta)
        self._look()

    def restart(self) -> None:
        """Another operator takes over: it knows what is in the status."""
        self.attempts, self._open, self._wake_ms = Attempts(), None, None
        self._look()

    def _look(self) -> None:
        if self._open is not None and self._open[0] <= self.now_ms:
            ask, self._open = self._open[1], None
            self._end(ask)
        what, self.attempts = next_ask(
            self.app,
            self.live,
            self.memory,
            self.attempts,
            registry=self.registry,
            keys=self.keys,
            now_ms=self.now_ms,
            apps=self.apps,
            busy=self._open is not None,
        )
        if isinstance(what, Ask):
            self.asks.append((self.now_ms, what))
            self._open = (self.now_ms + self.latency_ms, what)
            self._wake_ms = None
        else:
            assert what.at_ms is None or what.at_ms > self.now_ms
            self._wake_ms = what.at_ms

    def _end(self, ask: Ask) -> None:
        name = ask.at.partition(":")[0] or ask.revision
        outcome = self.answer(ask) or Answered(
            registration=registration(self.code.get(name, "code")),
            revision=ask.revision,
            at=ask.at,
            time_ms=0,
        )
        outcome = msgspec.structs.replace(outcome, time_ms=self.now_ms)
        self.attempts = told(self.attempts, ask, outcome, self.now_ms)
        self.memory = noted(self.memory, self.live, outcome, ask)
        if may_remove(self.live, outcome, self.memory, ask):
            self.removals.append(self.now_ms)
