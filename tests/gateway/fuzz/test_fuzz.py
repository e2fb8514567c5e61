"""Whatever anybody sends, no answer is an error of the server's own, and what it holds stays bounded.

`make slow` sends 4,000 requests in all and shows 1,000 signatures to what verifies them, the same each time;
`make nightly` 80,000 and 20,000 others.
"""

import asyncio
import base64
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_apps.sealing import Sealer
from innkeeper_apps.webhook_proofs import VerificationError, verify
from innkeeper_apps.wire import keys
from innkeeper_engine import copies
from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import Proof, ProofKind, Webhook
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store, StoreSettings
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_gateway.protocol import ConnectionLimits
from innkeeper_gateway.server import GatewayServer
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway import amounts
from tests.gateway.fuzz.inputs import (
    Header,
    broken,
    header_lists,
    nearly,
    packed,
    signatures,
    values,
)
from tests.gateway.tenants import environment, event_key, signing_key
from tests.gateway.world import World, function, registration

pytestmark = [pytest.mark.slow]

CI, NIGHTLY = 1_000, 20_000
"""Requests of each of the four tests that send some; signatures of the fifth, which sends none."""

MOST_GROWTH = 400 << 20
"""Bytes by which the process may grow: caches and hypothesis's own memory included."""

KEY = bytes(range(32))
PROOFS: tuple[ProofKind, ...] = ("github", "stripe", "slack", "standardWebhooks", "hmac", "basic", "bearer")
SECRETS = {
    "standardWebhooks": b"whsec_" + base64.b64encode(b"k" * 24),
    "basic": b"user:password",
}
SCRIPT = "function transform(evt, headers, query, raw) { return {name: 'acme/' + evt.type, data: evt, id: evt.id} }"

EVENT = {
    "name": "shop/order.placed",
    "data": {"id": 7, "items": [{"sku": "a", "n": 1}], "note": "x"},
    "user": {"external_id": "u1"},
    "id": "order-7",
    "ts": 1_700_000_000_000,
    "v": "2024-05-15.1",
}
REGISTRATION = registration(
    function(
        "shop-pay",
        concurrency=[{"limit": 3, "key": "event.data.id", "scope": "fn"}],
        throttle={"limit": 2, "period": "1m", "burst": 1, "key": "event.data.id"},
        rateLimit={"limit": 2, "period": "1h"},
        cancel=[{"event": "shop/order.cancelled", "if": "async.data.id == event.data.id", "timeout": "1h"}],
        priority={"run": "event.data.vip ? 100 : 0"},
        timeouts={"start": "10s", "finish": "1h"},
        triggers=[
            {"event": "shop/order.placed", "expression": "event.data.id > 3"},
            {"cron": "TZ=UTC 0 12 * * *"},
        ],
    ),
    function("shop-batch", batchEvents={"maxSize": 10, "timeout": "5s", "key": "event.data.id"}),
)


class Victim:
    """A gateway that listens, and a connection to it that is made anew whenever it was ended."""

    def __init__(self, runner: asyncio.Runner, address: Address) -> None:
        self._runner = runner
        self._address = address
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do something in the gateway's event loop."""

        async def done() -> Any:
            return await work()

        return self._runner.run(done())

    async def start(self) -> None:
        """Environments and webhooks, then the gateway."""
        settings_ = StoreSettings(prefix=f"{{test-{secrets.token_hex(6)}}}:")
        self.store = Store(self._address, settings_)
        await self.store.open()
        await EnvironmentStore(self.store).write(environment("prod", namespaces=("prod",)))
        sealer = Sealer(KEY)
        for kind in PROOFS:
            secret = SECRETS.get(kind, b"secret")
            proof = Proof(kind=kind, secrets=(sealer.seal(secret),), header="x-hub-signature-256")
            await WebhookStore(self.store).write(
                Webhook(name=kind, env="prod", digest=key_digest(kind * 9), transform=SCRIPT, proof=proof)
            )
        await WebhookStore(self.store).write(
            Webhook(name="open", env="prod", digest=key_digest("open" * 9), transform=SCRIPT)
        )
        self.world = World(
            self.store,
            GatewaySettings(
                managed=True, webhook_key=KEY, events_per_s=0, requests_per_s=0, refusals_per_s=0
            ),
        )
        self._server = GatewayServer(
            self.world.app, host="127.0.0.1", port=0, limits=ConnectionLimits(refusal_s=0)
        )
        await self._server.start()

    async def stop(self) -> None:
        """End all of it."""
        self._drop()
        await self._server.stop(grace_s=1)
        await self.world.close()
        await self.store.close()

    async def ask(self, raw: bytes) -> int | None:
        """Send a request; the status of its answer, None where the connection was ended without one."""
        fresh = self._open is None
        if self._open is None:
            self._open = await asyncio.open_connection("127.0.0.1", self._server.port)
        reader, writer = self._open
        try:
            writer.write(raw)
            await writer.drain()
            return await asyncio.wait_for(self._status(reader), 30)
        except (ConnectionError, asyncio.IncompleteReadError):
            self._drop()
            # The other side may have closed it after its last answer.
            return None if fresh else await self.ask(raw)

    async def hang_up(self, raw: bytes) -> int | None:
        """As `ask`, and nothing more will come."""
        self._drop()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        try:
            writer.write(raw)
            await writer.drain()
            writer.write_eof()
            line = await asyncio.wait_for(reader.readline(), 30)
        except ConnectionError:
            return None
        finally:
            writer.close()
        return int(line.split()[1]) if line else None

    async def _status(self, reader: asyncio.StreamReader) -> int:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(
            (int(each[15:]) for each in head.split(b"\r\n") if each.startswith(b"content-length:")), 0
        )
        await reader.readexactly(length)
        if b"connection: close" in head:
            self._drop()
        return int(head.split()[1])

    def _drop(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


@pytest.fixture(scope="module")
def victim(valkey: Address) -> Iterator[Victim]:
    """A gateway for all tests here: what one leaves behind the others meet."""
    with asyncio.Runner() as runner, pytest.MonkeyPatch.context() as patch:
        # Who shows a key that is not known waits until the store may be asked again, and here one comes after another.
        patch.setattr(copies, "READ_EVERY_S", 0.0)
        made = Victim(runner, valkey)
        made.run(made.start)
        before = psutil.Process(os.getpid()).memory_info().rss
        yield made
        grown = psutil.Process(os.getpid()).memory_info().rss - before
        made.run(made.stop)
        assert grown < MOST_GROWTH, f"the process has grown by {grown >> 20} MiB"


often = amounts.often(CI, NIGHTLY)
"""How many requests, and whether always the same."""


def request(method: bytes, path: bytes, headers: list[Header], body: bytes) -> bytes:
    """A request as it goes over the wire."""
    lines = [b"%b %b HTTP/1.1" % (method, path), b"host: x", b"content-length: %d" % len(body)]
    return b"\r\n".join([*lines, *(b"%b: %b" % each for each in headers), b"", b""]) + body


def check(status: int | None, raw: bytes) -> None:
    """No error of the server's own, and an answer."""
    assert status is not None, f"no answer to {raw[:500]!r}"
    assert status < 500, f"{status} to {raw[:500]!r}"


def test_events(victim: Victim, often: settings) -> None:
    @often
    @given(
        packed(st.one_of(nearly(EVENT), nearly([EVENT, EVENT]), broken(b"[{}]"), st.binary(max_size=50))),
        header_lists,
        st.sampled_from([*[event_key("prod")] * 9, "wrong", "", "%ff%00", "a/b"]),
        st.sampled_from([b"", b"?x-inngest-env=feature%2Fx", b"?x-inngest-env=%ff", b"?&&=&"]),
    )
    def send(packed_: tuple[bytes, list[Header]], headers: list[Header], key: str, query: bytes) -> None:
        body, how = packed_
        raw = request(b"POST", b"/e/" + key.encode() + query, how + headers, body)
        check(victim.run(lambda: victim.ask(raw)), raw)

    send()
    check(
        victim.run(lambda: victim.ask(request(b"POST", b"/e/" + event_key("prod").encode(), [], b"[]"))), b""
    )


def test_webhooks(victim: Victim, often: settings) -> None:
    bodies = st.one_of(
        nearly({"type": "charge.updated", "id": "evt_1", "data": {"a": [1, 2]}}),
        st.binary(max_size=60),
        st.sampled_from([b"a=1&b=%ff&a=2", b"&&=&=" * 50, b"payload=%7B%7D", b"<xml/>"]),
    )

    @often
    @given(packed(bodies), header_lists, st.sampled_from([*PROOFS, *["open"] * 7, "unknown"]), values)
    def send(packed_: tuple[bytes, list[Header]], headers: list[Header], name: str, kind: bytes) -> None:
        body, how = packed_
        content = [(b"content-type", kind or b"application/x-www-form-urlencoded")]
        raw = request(b"POST", b"/w/" + (name * 9).encode(), how + content + headers, body)
        check(victim.run(lambda: victim.ask(raw)), raw)

    send()


def test_registrations(victim: Victim, often: settings) -> None:
    bearer = b"Bearer " + signing_key("prod").encode()

    @often
    @given(packed(st.one_of(nearly(REGISTRATION), st.binary(max_size=50))), header_lists, st.booleans())
    def send(packed_: tuple[bytes, list[Header]], headers: list[Header], known: bool) -> None:
        body, how = packed_
        shown = [(b"authorization", bearer)] if known else []
        raw = request(b"POST", b"/fn/register", shown + how + headers, body)
        check(victim.run(lambda: victim.ask(raw)), raw)

    send()


def test_requests_that_are_hardly_http(victim: Victim, often: settings) -> None:
    good = request(b"POST", b"/e/" + event_key("prod").encode(), [], b'{"name":"a"}')
    paths = [
        b"/v1/runs?limit=1",
        b"/v1/events/%00",
        b"/invoke/%ff",
        b"/fn/register",
        b"/w/",
        b"/ready",
        b"*",
        b"//x",
    ]
    asked = [good, *(request(b"GET", path, [(b"authorization", b"Bearer x")], b"") for path in paths)]

    @often
    @given(st.sampled_from(asked).flatmap(broken))
    def send(raw: bytes) -> None:
        status = victim.run(lambda: victim.hang_up(raw))
        assert status is None or status < 500, f"{status} to {raw[:500]!r}"

    send()
    check(victim.run(lambda: victim.ask(good)), good)


def test_signatures(often: settings) -> None:
    """Of apps and of providers: proved or not, never anything else."""

    @often
    @given(st.sampled_from(PROOFS), header_lists, st.binary(max_size=50), signatures)
    def look(kind: ProofKind, headers: list[Header], body: bytes, shown: bytes) -> None:
        text = shown.decode("latin-1")
        assert keys.verify(text, body, ["signkey-test-00ff"], 1_700_000_000) is None
        assert not keys.verify_response(text, body, ["signkey-test-00ff"], 1_700_000_000, 300)
        assert not keys.bearer_accepted(text, ["signkey-test-00ff"])
        proof = Proof(kind=kind, secrets=(), header="x-hub-signature-256")
        with pytest.raises(VerificationError):
            verify(proof, [SECRETS.get(kind, b"secret")], headers, body, 1_700_000_000_000)

    look()
