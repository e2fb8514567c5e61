"""One operator of several is active: who holds the Lease (`coordination.k8s.io`).

The decision is pure and trusts no other machine's clock: a Lease has expired when this process has seen it unchanged
for as long as it says it lasts. The same rules as client-go's leader election.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec
import structlog

from innkeeper_engine.model.clock import Clock
from innkeeper_operator.errors import ApiError
from innkeeper_operator.times import micro_time

Json = dict[str, Any]

_log = structlog.get_logger(__name__)


_ATTEMPTS = 3


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long what takes, in ms."""

    lease_ms: int = 15_000
    """How long a Lease holds without being renewed."""
    renew_ms: int = 10_000
    """How long the holder tries to renew before it gives up; less than `lease_ms`, or two would work at once."""
    retry_ms: int = 2_000
    """Between two looks at the Lease."""


class LeaseLostError(Exception):
    """This process does not hold the Lease any more: it must end its work at once."""


class Held(msgspec.Struct, frozen=True):
    """A Lease as it is stored."""

    holder: str
    lease_ms: int
    acquired: str
    renewed: str
    transitions: int
    version: str
    """Its resourceVersion: two writers cannot both succeed on one."""


class Seen(msgspec.Struct, frozen=True):
    """A Lease and when this process first saw it so."""

    held: Held
    at_ms: int


def read_lease(raw: Json) -> Held:
    """A Lease from the API server's JSON."""
    spec = raw.get("spec") or {}
    return Held(
        holder=str(spec.get("holderIdentity") or ""),
        lease_ms=int(spec.get("leaseDurationSeconds") or 0) * 1000,
        acquired=str(spec.get("acquireTime") or ""),
        renewed=str(spec.get("renewTime") or ""),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=str((raw.get("metadata") or {}).get("resourceVersion") or ""),
    )


def see(before: Seen | None, held: Held, now_ms: int) -> Seen:
    """The Lease as it was just read: the time moves only when it has changed."""
    if before is not None and before.held == held:
        return before
    return Seen(held, now_ms)


def decide(seen: Seen | None, me: str, now_ms: int) -> Literal["create", "take", "renew", "wait"]:
    """What the process `me` may do with the Lease; None: there is none."""
    if seen is None:
        return "create"
    if seen.held.holder == me:
        return "renew"
    if not seen.held.holder or now_ms - seen.at_ms > seen.held.lease_ms:
        return "take"
    return "wait"


def lease_spec(seen: Seen | None, me: str, now_ms: int, timing: Timing) -> Json:
    """`spec` of the Lease once `me` holds it."""
    now = micro_time(now_ms)
    same = seen is not None and seen.held.holder == me
    transitions = seen.held.transitions if seen is not None else 0
    return {
        "holderIdentity": me,
        "leaseDurationSeconds": timing.lease_ms // 1000,
        "acquireTime": seen.held.acquired if seen is not None and same else now,
        "renewTime": now,
        "leaseTransitions": transitions if same or seen is None else transitions + 1,
    }


class Leases(Protocol):
    """Where Leases are kept: `Cluster` in a cluster."""

    async def request(
        self, method: str, path: str, *, body: Json | None = None, timeout_s: float = 30.0
    ) -> Json:
        """Send one request; raises ApiError."""
        ...


class Election:
    """Takes part in the election of one Lease."""

    def __init__(
        self,
        api: Leases,
        clock: Clock,
        *,
        namespace: str,
        name: str,
        me: str,
        timing: Timing | None = None,
        monotonic_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        """`clock` is for what people read; how long something takes is measured by `monotonic_ms`, which nobody sets."""
        self._api = api
        self._clock = clock
        self._monotonic_ms = monotonic_ms
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._namespace = namespace
        self._me = me
        self._timing = timing or Timing()
        self._seen: Seen | None = None
        self._renewed_ms = 0
        self.leading = False

    @property
    def holder(self) -> str:
        """Who holds the Lease as far as this process knows; empty: nobody."""
        return self._seen.held.holder if self._seen is not None else ""

    async def acquire(self) -> None:
        """Return once this process holds the Lease. An API server that does not answer is asked again."""
        told = ""
        while True:
            try:
                if await self._try():
                    self.leading = True
                    return
            except ApiError as error:
                _log.warning("cannot reach the lease", lease=self._name, error=str(error))
            if self.holder != told:
                told = self.holder
                _log.info("another operator is active, waiting", holder=told, lease=self._name)
            await asyncio.sleep(self._timing.retry_ms / 1000)

    async def keep(self) -> None:
        """Renew the Lease for as long as that works.

        Raises:
            LeaseLostError: somebody else holds it, or it could not be renewed in time.
        """
        try:
            while True:
                await asyncio.sleep(self._timing.retry_ms / 1000)
                why = await self._renew()
                if why:
                    raise LeaseLostError(f"the lease {self._namespace}/{self._name} is lost: {why}")
        finally:
            self.leading = False

    async def _renew(self) -> str:
        """Renew once; returns why the Lease is lost, empty where it is not."""
        left_ms = self._renewed_ms + self._timing.renew_ms - self._monotonic_ms()
        try:
            async with asyncio.timeout(max(left_ms, 1) / 1000):
                if not await self._try():
                    return f"{self.holder or 'nobody'} holds it"
        except (ApiError, TimeoutError) as error:
            waited_ms = self._monotonic_ms() - self._renewed_ms
            if waited_ms >= self._timing.renew_ms:
                return f"not renewed for {waited_ms / 1000:.0f} s: {str(error) or 'no answer'}"
            _log.warning("the lease was not renewed yet", lease=self._name, error=str(error))
        return ""

    async def release(self) -> None:
        """Give the Lease up, so that the next operator takes over at once. Failing to is no error: it expires."""
        self.leading = False
        for attempt in range(_ATTEMPTS):
            if self._seen is None or self._seen.held.holder != self._me:
                return
            spec = lease_spec(self._seen, self._me, self._clock.now_ms(), self._timing)
            try:
                await self._put(spec | {"holderIdentity": "", "leaseDurationSeconds": 1})
            except ApiError as error:
                if error.status != 409 or attempt == _ATTEMPTS - 1:
                    _log.warning("the lease was not given up; it expires by itself", error=str(error))
                    return
                # A renewal was under way.
                with contextlib.suppress(ApiError):
                    await self._look()
            else:
                return

    async def seize(self, hold_ms: int) -> None:
        """Take the Lease whoever holds it, for `hold_ms`: who held it ends its work when it next renews.

        Raises:
            ApiError: the API server cannot be reached, or refused.
        """
        for attempt in range(_ATTEMPTS):
            await self._look()
            spec = lease_spec(self._seen, self._me, self._clock.now_ms(), self._timing)
            try:
                await self._put(spec | {"leaseDurationSeconds": hold_ms // 1000})
            except ApiError as error:
                # 409: its holder has just renewed it.
                if error.status != 409 or attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    async def _try(self) -> bool:
        """Look at the Lease, and write it if it may be; returns whether this process holds it now."""
        await self._look()
        started_ms = self._monotonic_ms()
        if decide(self._seen, self._me, started_ms) == "wait":
            return False
        try:
            await self._put(lease_spec(self._seen, self._me, self._clock.now_ms(), self._timing))
        except ApiError as error:
            if error.status != 409:
                raise
            # Somebody was faster. Whether that is the end is seen at the next look.
            return self.leading
        self._renewed_ms = started_ms
        return True

    async def _look(self) -> None:
        try:
            held = read_lease(await self._api.request("GET", f"{self._folder}/{self._name}"))
        except ApiError as error:
            if error.status != 404:
                raise
            self._seen = None
        else:
            self._seen = see(self._seen, held, self._monotonic_ms())

    async def _put(self, spec: Json) -> None:
        body: Json = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": spec,
        }
        if self._seen is None:
            raw = await self._api.request("POST", self._folder, body=body)
        else:
            body["metadata"]["resourceVersion"] = self._seen.held.version
            raw = await self._api.request("PUT", f"{self._folder}/{self._name}", body=body)
        self._seen = Seen(read_lease(raw), self._monotonic_ms())
