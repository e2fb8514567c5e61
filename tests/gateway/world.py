"""A gateway over a real store, and the few moves of an executor that its tests need."""

from typing import Any
from urllib.parse import quote

import httpx
import orjson

from innkeeper_apps.sync import Syncer
from innkeeper_apps.wire.canonical import canonical
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.route import Arrival, start_effects
from innkeeper_engine.decide.runs import start_effect
from innkeeper_engine.model.clock import RandomIds, SystemClock, derived_ulid
from innkeeper_engine.model.effects import Effect, Finish
from innkeeper_engine.model.effects import Fold as FoldNotes
from innkeeper_engine.model.guards import CursorGuard, HistoryGuard, LeaseGuard, NoGuard
from innkeeper_engine.model.state import Lease
from innkeeper_engine.registry import Registries
from innkeeper_engine.store.registrations import RegistrationInbox
from innkeeper_engine.store.store import Store
from innkeeper_gateway.access.reviews import Reviews
from innkeeper_gateway.app import GatewayApp, create_app
from innkeeper_gateway.settings import GatewaySettings

APP_URL = "http://127.0.0.1:9999/api/inngest"


def function(slug: str, **config: Any) -> dict[str, Any]:
    """A function as an SDK registers it; triggered by the event `test/go` unless told otherwise."""
    url = f"{APP_URL}?fnId={quote(slug)}&stepId=step"
    step = {"id": "step", "name": "step", "runtime": {"type": "http", "url": url}, "retries": {"attempts": 3}}
    return {
        "id": slug,
        "name": slug.title(),
        "triggers": [{"event": "test/go"}],
        "steps": {"step": step},
        **config,
    }


def registration(*functions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The body of `/fn/register` as the TypeScript SDK writes it."""
    return {
        "url": APP_URL,
        "deployType": "ping",
        "framework": "express",
        "appName": "app",
        "appVersion": "1.2.3",
        "functions": list(functions),
        "sdk": "js:v4.24.0",
        "v": "0.1",
        "capabilities": {"trust_probe": "v1", "connect": "v1"},
        **fields,
    }


class World:
    """One gateway, its HTTP client and its store."""

    def __init__(
        self,
        store: Store,
        settings: GatewaySettings,
        reviews: Reviews | None = None,
        syncer: Syncer | None = None,
    ) -> None:
        self.store = store
        self.inbox = RegistrationInbox(store)
        self.registries = Registries(store)
        self.clock = SystemClock()
        self.ids = RandomIds()
        self.app: GatewayApp = create_app(
            settings, store, self.registries, self.clock, self.ids, reviews=reviews, syncer=syncer
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app), base_url="http://gateway", timeout=20
        )

    async def close(self) -> None:
        """End the client and the app's subscription."""
        await self.http.aclose()
        await self.app.close()

    async def register(self, *functions: dict[str, Any], **fields: Any) -> httpx.Response:
        """Register an app; fails where the gateway refuses it."""
        reply = await self.http.post("/fn/register", json=registration(*functions, **fields))
        assert reply.status_code == 200, reply.text
        return reply

    async def send(self, name: str = "test/go", **fields: Any) -> str:
        """Send one event; the id that the gateway gave it."""
        reply = await self.http.post("/e/key", json={"name": name, **fields})
        assert reply.status_code == 200, reply.text
        (event_id,) = reply.json()["ids"]
        return str(event_id)

    async def route(self) -> list[str]:
        """Start what all waiting events start, as a router does; the ids of the runs."""
        runs: list[str] = []
        while (peeked := await self.store.peek(64)) is not None:
            registry = await self.registries.at_least(peeked.env, peeked.registry)
            effects: list[Effect] = []
            for event in peeked.events:
                for entry, _ in registry.triggered_by(event.name):
                    run_id = derived_ulid(event.received_ms, event.id, entry.key)
                    runs.append(run_id)
                    body = orjson.loads(event.body)
                    start = start_effect(
                        entry,
                        run_id=run_id,
                        event=body,
                        events=((event.id, b""),),
                        event_seq=event.seq,
                        order_ms=event.received_ms,
                    )
                    effects.append(start)
            guard = CursorGuard(peeked.env, peeked.cursor, peeked.within, len(peeked.events))
            assert (await self.store.apply(guard, effects)).status == "ok"
        return runs

    async def start(self, **fields: Any) -> str:
        """One run of the one function that is registered, not called yet."""
        await self.send(**fields)
        (run_id,) = await self.route()
        return run_id

    async def decided(self, **fields: Any) -> str:
        """What becomes of one event by the rules of flow control; the id of its run, skipped or not."""
        await self.send(**fields)
        peeked = await self.store.peek(64)
        assert peeked is not None
        registry = await self.registries.at_least(peeked.env, peeked.registry)
        context = Context(
            now_ms=self.clock.now_ms(),
            chance=0.5,
            new_id=lambda: self.ids.ulid(self.clock.now_ms()),
            canonical=canonical,
            seal=lambda op: op.id.encode(),
            registry=registry,
        )
        (event,) = peeked.events
        effects = start_effects(Arrival(event), context)
        guard = CursorGuard(peeked.env, peeked.cursor, peeked.within, 1)
        assert (await self.store.apply(guard, effects)).status == "ok"
        (run,) = await self.store.event_runs(peeked.env, event.id)
        return run.id

    async def lease(self) -> Lease:
        """The next item of the queue."""
        token = self.ids.ulid(self.clock.now_ms())
        (lease,) = (await self.store.apply(NoGuard(), [], executor="x", tokens=[token])).leases
        return lease

    async def finish(self, lease: Lease, output: bytes = b"null", *more: Effect) -> None:
        """End the leased item's run with `output`."""
        ids = (self.ids.ulid(1), self.ids.ulid(1))
        done = Finish(lease.run, "Completed", output, b"", b"", b'{"data":%b}' % output, ids)
        guard = LeaseGuard(lease.item, lease.token, lease.seen)
        assert (await self.store.apply(guard, [*more, done])).status == "ok"

    async def record(self) -> None:
        """Fold all notes that wait, as the recorder does."""
        at = (await self.store.command("GET", self.store.key("histcur")) or b"0-0").decode()
        entries = await self.store.command("XRANGE", self.store.key("hist"), f"({at}", "+")
        folds = [FoldNotes(fields[1].decode(), (fields[3],)) for _, fields in entries]
        if entries:
            guard = HistoryGuard(at, entries[-1][0].decode())
            assert (await self.store.apply(guard, folds)).status == "ok"
