"""Keys are rotated under real SDKs, while they send events and are called: nothing fails."""

import asyncio
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from innkeeper_apps.egress import EgressPolicy, Resolver
from innkeeper_apps.sealing import Sealer
from innkeeper_apps.sync import Syncer
from innkeeper_apps.transport import Transport
from innkeeper_apps.wire.keys import signing_key_digests
from innkeeper_apps.wire.register import parse_in_band
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.model.environments import Environment, EventKey, SigningKey, key_digest
from innkeeper_engine.registering import register_app
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from tests.sdk.harness import ALL, App, Cluster, make_app, wait_until

pytestmark = pytest.mark.sdk

ADMIN, OLD, NEW = (f"signkey-prod-{secrets.token_hex(32)}" for _ in range(3))
OLD_EVENTS, NEW_EVENTS = secrets.token_hex(16), secrets.token_hex(16)
ENV = "prod"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Roles without keys of their own."""
    cluster = Cluster(tmp_path_factory.mktemp("managed"), ADMIN, NEW_EVENTS, managed=True)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


async def operate(cluster: Cluster, events: Sequence[str], signing: Sequence[str], app: App) -> None:
    """What an operator does when Secrets or an app have changed: who may come in, then how the app is called."""
    store = Store(Address.parse(cluster.redis_url), name="operator")
    transport = Transport(Resolver(EgressPolicy.dev()))
    clock, sealer = SystemClock(), Sealer(bytes.fromhex(cluster.encryption_key))
    digests = [signing_key_digests(key) for key in (*signing, ADMIN)]
    record = Environment(
        name=ENV,
        event_keys=tuple(EventKey(name="events", digest=key_digest(key)) for key in events),
        signing_keys=tuple(SigningKey(name="signing", digests=each) for each in digests),
    )
    await store.open()
    try:
        await EnvironmentStore(store).write(record)
        synced = await Syncer(transport, clock, server_kind="cloud").sync_app(app.url, keys=signing)
        declared = parse_in_band(synced.body).as_app(clock.now_ms(), 1)
        keys = tuple(sealer.seal(key.encode()) for key in signing)
        registered = msgspec.structs.replace(
            declared, signing_keys=keys, checksum=f"{declared.checksum} {secrets.token_hex(4)}"
        )
        await register_app(store, ENV, registered, now_ms=clock.now_ms())
    finally:
        await transport.close()
        await store.close()


class Senders:
    """Threads that send events through the app of the moment, by its SDK."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.sent: list[str] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(2)]

    def _send(self) -> None:
        while not self._stop.is_set():
            app = self.app
            try:
                self.sent += app.send_with_sdk([{"name": app.event("two-step"), "data": {}}])
            except AssertionError as error:
                self.failures.append(str(error))

    def __enter__(self) -> "Senders":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def go_on(self, count: int = 10) -> None:
        """Until so many more events were sent."""
        enough = len(self.sent) + count
        wait_until(lambda: len(self.sent) >= enough or self.failures, "events are sent")


@pytest.mark.parametrize("sdk", ALL)
def test_nothing_fails_while_keys_are_rotated(sdk: str, cluster: Cluster, tmp_path: Path) -> None:
    """Behind the old keys come new ones, a rollout brings them to the app, and the old ones go."""

    def pod(name: str, events: str, key: str, fallback: str = "") -> App:
        env: dict[str, str | None] = {
            "INNGEST_SIGNING_KEY": key,
            "INNGEST_SIGNING_KEY_FALLBACK": fallback or None,
            "INNGEST_EVENT_KEY": events,
            "NODE_ENV": "production",
        }
        return make_app(sdk, tmp_path / name, cluster.api, app_id=f"{sdk}-rotated", env=env)

    old = pod("old", OLD_EVENTS, OLD)
    new = pod("new", NEW_EVENTS, NEW, fallback=OLD)
    try:
        old.start()
        asyncio.run(operate(cluster, [OLD_EVENTS], [OLD], old))
        with Senders(old) as senders:
            senders.go_on()
            asyncio.run(operate(cluster, [NEW_EVENTS, OLD_EVENTS], [NEW, OLD], old))
            senders.go_on()
            new.start()
            asyncio.run(operate(cluster, [NEW_EVENTS, OLD_EVENTS], [NEW, OLD], new))
            senders.app = new
            senders.go_on()
            # The old pods end when what they were asked is done.
            for event_id in list(senders.sent):
                (run,) = cluster.api.wait_runs(event_id)
                cluster.api.wait_end(run["run_id"])
            old.stop()
            asyncio.run(operate(cluster, [NEW_EVENTS], [NEW], new))
            senders.go_on()
        assert senders.failures == []
        for event_id in senders.sent:
            (found,) = cluster.api.wait_runs(event_id)
            run = cluster.api.wait_end(found["run_id"])
            assert (run["status"], run["output"]) == ("Completed", {"sum": 42})
            assert {step["attempts"] for step in run["steps"]} == {1}
    finally:
        new.stop()
        old.stop()
    stranger = {"Authorization": f"Bearer {OLD}"}
    wait_until(
        lambda: cluster.api.http.get("/v1/runs", headers=stranger).status_code == 401,
        "the old key is refused",
    )
    for proc in cluster.procs:
        hidden = [key.removeprefix("signkey-prod-") for key in (OLD, NEW, ADMIN, OLD_EVENTS, NEW_EVENTS)]
        assert not [key for key in hidden if key in proc.log_text()], proc.name
