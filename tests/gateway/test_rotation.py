"""Keys are rotated while an app works: no event is refused, no call fails, nobody is locked out."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable

import httpx
import orjson
import pytest

from innkeeper_apps.egress import EgressPolicy
from innkeeper_apps.http_driver import HttpDriver
from innkeeper_apps.sealing import Sealer
from innkeeper_apps.wire.keys import bearer_hash, sign, signing_key_digests, verify
from innkeeper_engine.model.clock import RandomIds, SystemClock
from innkeeper_engine.model.environments import Environment, EventKey, SigningKey, key_digest
from innkeeper_engine.model.functions import App, FunctionConfig, Trigger
from innkeeper_engine.registering import register_app
from innkeeper_engine.registry import Registries
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from innkeeper_executor.service import Executor
from innkeeper_executor.settings import ExecutorSettings
from innkeeper_executor.worker import RunLine
from innkeeper_gateway.app import create_app
from innkeeper_gateway.server import GatewayServer
from innkeeper_gateway.settings import GatewaySettings
from tests.apps.rawserver import RawServer, Seen, http, serving

SEALING = secrets.token_bytes(32)
ENV = "prod"
SENDERS = 4


def new_key() -> str:
    """A signing key."""
    return f"signkey-prod-{secrets.token_hex(32)}"


class Operator:
    """Writes what an operator writes when the Secrets change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._environments = EnvironmentStore(store)
        self._sealer = Sealer(SEALING)
        self.url = ""

    async def write(self, event_keys: list[str], signing_keys: list[str]) -> None:
        """Who may come in, then with which keys the app is called; the current key of each kind first."""
        digests = [signing_key_digests(key) for key in signing_keys]
        await self._environments.write(
            Environment(
                name=ENV,
                event_keys=tuple(EventKey(name="k", digest=key_digest(key)) for key in event_keys),
                signing_keys=tuple(SigningKey(name="k", digests=each) for each in digests),
            )
        )
        function = FunctionConfig(
            slug="app-fn",
            name="fn",
            url=f"{self.url}?fnId=app-fn&stepId=step",
            triggers=(Trigger(event="go"),),
        )
        app = App(
            id="app",
            url=self.url,
            functions=(function,),
            checksum=secrets.token_hex(8),
            signing_keys=tuple(self._sealer.seal(key.encode()) for key in signing_keys),
        )
        await register_app(self._store, ENV, app, now_ms=SystemClock().now_ms())


class RotatingApp:
    """An app with one function, which fetches its run's state as SDKs do: with its key, then with the one before."""

    def __init__(self, gateway: httpx.AsyncClient) -> None:
        self._gateway = gateway
        self.signing_keys: list[str] = []
        self.event_key = ""
        self.locked_out: list[str] = []
        self.refused = 0
        self.calls = 0

    async def respond(self, _server: RawServer, seen: Seen, writer: asyncio.StreamWriter) -> None:
        """Take a call that one of the app's keys signed, and sign the answer with that."""
        now_s = SystemClock().now_ms() // 1000
        key = verify(seen.headers.get("x-inngest-signature"), seen.body, self.signing_keys, now_s)
        if key is None:
            self.refused += 1
            writer.write(http(401, b"{}", x_inngest_sdk="js:v4.24.0", x_inngest_sdk_handled="true"))
            return
        self.calls += 1
        await self._fetch_state(orjson.loads(seen.body)["ctx"]["run_id"])
        body = b'"done"'
        signature = sign(body, key, now_s)
        writer.write(http(200, body, x_inngest_sdk="js:v4.24.0", x_inngest_signature=signature))

    async def _fetch_state(self, run_id: str) -> None:
        statuses = []
        for key in self.signing_keys:
            headers = {"authorization": f"Bearer signkey-prod-{bearer_hash(key)}"}
            reply = await self._gateway.get(f"/v0/runs/{run_id}/actions", headers=headers)
            if reply.status_code == 200:
                return
            statuses.append(reply.status_code)
        self.locked_out.append(f"{run_id}: {statuses}")

    async def send(self) -> httpx.Response:
        """One event, with the key that the app has now."""
        return await self._gateway.post(f"/e/{self.event_key}", json={"name": "go", "data": {}})


class Traffic:
    """Senders that never pause, and the runs that they start."""

    def __init__(self, app: RotatingApp) -> None:
        self._app = app
        self.sent = 0
        self.refused: list[str] = []
        self.ended: list[RunLine] = []
        self._more = asyncio.Event()

    async def send_for_ever(self) -> None:
        """Events, one after the other."""
        while True:
            reply = await self._app.send()
            if reply.status_code != 200:
                self.refused.append(f"{reply.status_code} {reply.text}")
            self.sent += 1
            self._more.set()

    def run_ended(self, line: RunLine) -> None:
        """As the executor tells it."""
        self.ended.append(line)
        self._more.set()

    async def go_on(self, count: int) -> None:
        """Until so many more events were sent, and so many more runs have ended."""
        sent, ended = self.sent + count, len(self.ended) + count
        await self._until(lambda: self.sent >= sent and len(self.ended) >= ended)

    async def all_ended(self) -> None:
        """Until every event's run has ended."""
        await self._until(lambda: len(self.ended) >= self.sent)

    async def _until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not met():
                self._more.clear()
                await self._more.wait()


@pytest.fixture
async def gateway(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a managed gateway that listens."""
    app = create_app(GatewaySettings(managed=True), store, Registries(store), SystemClock(), RandomIds())
    server = GatewayServer(app, host="127.0.0.1", port=0)
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        yield client
    await server.stop(grace_s=1)


async def test_no_request_fails_while_keys_are_rotated(store: Store, gateway: httpx.AsyncClient) -> None:
    """New keys in front of the old ones; the app gets them; the old ones go; the app forgets them too."""
    app, operator = RotatingApp(gateway), Operator(store)
    traffic = Traffic(app)
    old, new = new_key(), new_key()
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(app.respond))
        operator.url = f"http://127.0.0.1:{server.port}/api/inngest"
        executor = Executor(
            store.address,
            store.settings,
            ExecutorSettings(grace_s=1.0),
            driver=HttpDriver(EgressPolicy.dev(), SystemClock()),
            encryption_key=SEALING,
            on_run=traffic.run_ended,
        )
        await executor.start()
        stack.push_async_callback(executor.drain)

        app.signing_keys, app.event_key = [old], "event-old"
        await operator.write(["event-old"], [old])
        senders = [asyncio.create_task(traffic.send_for_ever()) for _ in range(SENDERS)]
        try:
            await traffic.go_on(20)
            await operator.write(["event-new", "event-old"], [new, old])
            # At once, without waiting for anybody to have noticed.
            app.signing_keys, app.event_key = [new, old], "event-new"
            await traffic.go_on(40)
            await operator.write(["event-new"], [new])
            app.signing_keys = [new]
            await traffic.go_on(40)
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
        await traffic.all_ended()
        assert traffic.refused == []
        assert app.locked_out == []
        assert {line.status for line in traffic.ended} == {"Completed"}
        assert app.calls >= len(traffic.ended) >= 100

        # What was taken away opens nothing any more.
        async with asyncio.timeout(5):
            app.event_key = "event-old"
            while (await app.send()).status_code != 401:
                await asyncio.sleep(0.01)
        bearer = {"authorization": f"Bearer {old}"}
        assert (await gateway.get("/v1/runs", headers=bearer)).status_code == 401
