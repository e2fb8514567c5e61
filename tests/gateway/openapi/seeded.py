"""A managed gateway that listens in a thread of its own, with something of everything that the API shows."""

import asyncio
import secrets
import threading
from collections.abc import Coroutine
from typing import Any

import orjson

from innkeeper_apps.wire.register import parse_registration
from innkeeper_apps.wire.request import encode_item_id
from innkeeper_engine.model.effects import Effect, Note, Wait
from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.guards import LeaseGuard
from innkeeper_engine.model.state import Lease
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.registering import register_app
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store, StoreSettings
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_gateway.server import GatewayServer
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.tenants import Tenant, environment, event_key, signing_key
from tests.gateway.world import World, function, registration

ENV = "prod"
TOKEN = "token-of-the-webhook"
BROKEN_TOKEN = "token-of-the-broken-webhook"
TRANSFORM = "function transform(evt) { return {name: 'acme/' + evt.type, data: {}} }"
SIGNAL = "approval/7"
BROKEN = "function transform(evt) { throw new Error('no such type: ' + evt.type) }"
MENDED = "function transform(evt) { if (evt.type < 't5') throw new Error('no'); return {name: 'acme/x', data: {}} }"


class Seeded:
    """What is known of the gateway: where it listens, and ids that it answers with something."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateway", daemon=True)
        self.known: dict[str, list[str]] = {}
        """Values of parameters of paths, by their names."""
        self.whole: dict[str, tuple[dict[str, str], Any]] = {}
        """For some operations parameters of the path and a body that are taken."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def bearer(self) -> str:
        """What opens it."""
        return f"Bearer {signing_key(ENV)}"

    def start(self) -> None:
        """Listen, and have something to show."""
        self._thread.start()
        self.run(self._start())

    def stop(self) -> None:
        """End all of it."""
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something in the gateway's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    async def _start(self) -> None:
        settings = StoreSettings(prefix=f"{{test-{secrets.token_hex(6)}}}:")
        self._store = Store(self._address, settings)
        await self._store.open()
        await EnvironmentStore(self._store).write(environment(ENV, namespaces=(ENV,), branches=("feature",)))
        await self._write_webhook("acme", TOKEN, TRANSFORM)
        await self._write_webhook("broken", BROKEN_TOKEN, BROKEN)
        self._world = World(
            self._store,
            GatewaySettings(
                managed=True, events_per_s=0, requests_per_s=0, routed_wait_s=0.01, folded_wait_s=0.01
            ),
        )
        self._server = GatewayServer(self._world.app, host="127.0.0.1", port=0)
        await self._server.start()
        tenant = Tenant(self._world, ENV)
        await self._seed(tenant)
        await tenant.close()

    async def _stop(self) -> None:
        await self._server.stop(grace_s=1)
        await self._world.close()
        await self._store.close()

    async def _write_webhook(self, name: str, token: str, transform: str) -> None:
        webhook = Webhook(name=name, env=ENV, digest=key_digest(token), transform=transform)
        await WebhookStore(self._store).write(webhook)

    async def _wait(self, lease: Lease) -> None:
        """Let the run wait for a signal."""
        step, deadline_ms = f"{99:040x}", self._world.clock.now_ms() + 3_600_000
        pause = f"{lease.run}.{step}"
        wait = Wait(pause, lease.run, step, "signal", ENV, SIGNAL, "", "", deadline_ms, b"", b"null")
        done = await self._store.apply(LeaseGuard(lease.item, lease.token, lease.seen), [wait])
        assert done.status == "ok"

    async def _seed(self, tenant: Tenant) -> None:
        """An app, runs in all states, dead letters, a replay, a cancellation, an event of a branch nobody declares."""
        functions = (function("app-go"), function("app-cron", triggers=[{"cron": "0 9 * * *"}]))
        app = parse_registration(orjson.dumps(registration(*functions))).as_app(1, 1)
        await register_app(self._store, ENV, app, now_ms=self._world.clock.now_ms())
        events = [await tenant.send() for _ in range(12)]
        await tenant.send("test/other", **{"x-inngest-env": "stray"})
        runs = await self._world.route()
        for n in range(6):
            lease = await self._world.lease()
            at_ms = self._world.clock.now_ms()
            notes: list[Effect] = [
                Note(lease.run, orjson.dumps(step | {"t": at_ms, "type": "step", "id": f"{n:040x}"}))
                for step in _STEPS[: n + 1]
            ]
            notes += [Note(lease.run, orjson.dumps(note | {"t": at_ms})) for note in _NOTES]
            if n < 4:
                await self._world.finish(lease, b'{"n":%d}' % n, *notes)
            elif n == 4:
                checkpoint = _checkpoint(lease)
            else:
                await self._wait(lease)
        await self._world.record()
        for n in range(12):
            reply = await tenant.http.post(f"/w/{BROKEN_TOKEN}", json={"type": f"t{n}"})
            assert reply.status_code == 202, reply.text
        letters = [each["id"] for each in (await tenant.http.get("/v1/deadletters")).json()["data"]]
        asked = {"app_id": "app", "function_id": "go"}
        replays, cancellations = [], []
        for _ in range(4):
            made = await tenant.http.post(
                "/v1/replays", json={**asked, "statuses": ["Completed"], "if": "event.data.of == 'x'"}
            )
            replays.append(made.json()["data"]["id"])
            before = {"started_before": "2020-01-01T00:00:00Z", "started_after": "2019-12-01"}
            made = await tenant.http.post("/v1/cancellations", json=asked | before)
            cancellations.append(made.json()["id"])
        assert (await tenant.http.delete(f"/v1/runs/{runs[-1]}")).status_code == 200
        assert (
            await tenant.http.post("/v1/functions/app-cron/pause", json={"reason": "r"})
        ).status_code == 200
        # What it fails at now is only some of what it failed at before.
        await self._write_webhook("broken", BROKEN_TOKEN, MENDED)
        self.whole = {
            "POST /v1/cancellations": ({}, asked | {"started_before": "2020-01-01T00:00:00Z"}),
            "POST /v1/replays": ({}, asked | {"statuses": ["Completed", "Failed"], "until": "2026-01-01"}),
            "POST /v1/signals": ({}, {"signal": SIGNAL, "data": {"ok": True}}),
            "POST /v1/checkpoint/{run_id}/async": ({"run_id": checkpoint["run_id"]}, checkpoint),
            "POST /fn/register": ({}, registration(function("other-fn"), appName="other")),
        }
        self.known = {
            "event_id": events,
            "run_id": runs,
            "letter_id": letters,
            "replay_id": replays,
            "cancellation_id": cancellations,
            "slug": ["app-go", "app-cron"],
            "app_id": ["app"],
            "environment": [ENV, f"{ENV}/feature"],
            "key": [event_key(ENV)],
            "token": [TOKEN, BROKEN_TOKEN],
        }


def _checkpoint(lease: Lease) -> dict[str, Any]:
    return {
        "run_id": lease.run,
        "fn_id": "a4dd85f5-e0fc-5e04-bba3-9d5a6f15dc0e",
        "qi_id": encode_item_id(lease.item),
        "request_id": lease.token,
        "generation_id": lease.generation,
        "steps": [{"id": f"{7:040x}", "op": "StepRun", "displayName": "s", "data": 1}],
    }


_NOTES: list[dict[str, Any]] = [
    {"type": "attempt", "attempt": 0, "reason": "502", "error": {"name": "E", "message": "m"}, "retry": 1},
    {"type": "key", "option": "concurrency.key", "consequence": "no limit"},
]

_STEPS: list[dict[str, Any]] = [
    {"name": "charge", "op": "StepRun", "status": "Completed", "attempt": 0},
    {
        "name": "mail",
        "op": "StepRun",
        "status": "Retrying",
        "attempt": 1,
        "error": {"name": "E", "message": "m"},
    },
    {"name": "nap", "op": "Sleep", "status": "Waiting", "attempt": 0},
    {"name": "ask", "op": "InvokeFunction", "status": "Waiting", "attempt": 0},
    {
        "name": "last",
        "op": "StepRun",
        "status": "Failed",
        "attempt": 3,
        "error": {"name": "E", "message": "m"},
    },
]
