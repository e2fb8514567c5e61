"""Requests that go to another address than their URL's: one pod behind a Service, or loopback in place of a cluster."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from innkeeper_apps.egress import EgressPolicy, Resolver
from innkeeper_apps.http1 import Reply
from innkeeper_apps.http_driver import HttpDriver
from innkeeper_apps.sync import Syncer, SyncError
from innkeeper_apps.transport import Transport, TransportError
from innkeeper_engine.model.calls import Call, Target
from innkeeper_engine.model.clock import SystemClock
from tests.apps.rawserver import RawServer, Seen, http, replies, serving

URL = "http://shop.prod.svc:3000/api/inngest"
OK = http(200, b"{}")

MakeTransport = Callable[..., Transport]


@pytest.fixture
async def make_transport() -> AsyncIterator[MakeTransport]:
    """`make_transport(dial=..., policy=...)`: one for which no name resolves."""
    made: list[Transport] = []

    async def no_name(host: str, port: int) -> list[str]:
        raise OSError(f"{host}:{port} was looked up")

    def make(dial: Mapping[str, str] | None = None, policy: EgressPolicy | None = None) -> Transport:
        made.append(Transport(Resolver(policy or EgressPolicy.dev(), no_name), dial=dial))
        return made[-1]

    yield make
    for transport in made:
        await transport.close()


async def get(transport: Transport, url: str = URL, **options: str) -> Reply:
    """A GET."""
    return await transport.send(
        "GET", url, {}, b"", timeout_s=5, limit=1_000, redirects="repeat", at=options.get("at", "")
    )


def at(server: RawServer) -> str:
    """Where a server listens."""
    return f"127.0.0.1:{server.port}"


async def test_another_address_is_dialled_and_the_app_sees_its_own_name(
    make_transport: MakeTransport,
) -> None:
    """The Service's name is not even looked up; it is what the Host header says."""
    async with serving(replies(OK)) as server:
        assert (await get(make_transport(), at=at(server))).status == 200
        assert server.seen[0].headers["host"] == "shop.prod.svc:3000"
        assert server.seen[0].target == "/api/inngest"


async def test_connections_are_kept_for_the_address_that_they_lead_to(make_transport: MakeTransport) -> None:
    """Two pods of one Service never get each other's requests."""
    transport = make_transport()
    async with serving(replies(OK)) as one, serving(replies(OK)) as two:
        for _ in range(3):
            await get(transport, at=at(one))
            await get(transport, at=at(two))
        assert [len(one.seen), len(two.seen), one.connections, two.connections] == [3, 3, 1, 1]


async def test_an_address_is_checked_like_any(make_transport: MakeTransport) -> None:
    """Whoever it comes from: loopback and metadata services are not an app's pods."""
    cluster = make_transport(policy=EgressPolicy.apps())
    for address, why in (
        ("127.0.0.1:80", "loopback"),
        ("169.254.169.254:80", "metadata"),
        ("[::1]:80", "loopback"),
    ):
        with pytest.raises(TransportError, match=why) as caught:
            await get(cluster, at=address)
        assert caught.value.code == "AddressDenied"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:0", "127.0.0.1:65536", "a:b", "::1:x"]
)
async def test_what_is_no_address_is_refused(make_transport: MakeTransport, address: str) -> None:
    with pytest.raises(TransportError, match="write host:port") as caught:
        await get(make_transport(), at=address)
    assert caught.value.code == "BadRequest"


async def test_an_error_says_what_was_dialled(make_transport: MakeTransport) -> None:
    """The Service's name alone would send people looking in the wrong place."""
    async with serving(replies(OK)) as server:
        gone = at(server)
    with pytest.raises(TransportError) as caught:
        await get(make_transport(), at=gone)
    assert str(caught.value) == f"connection refused by shop.prod.svc:3000 (dialled at {gone})"


async def test_a_redirect_within_the_app_stays_with_the_pod(make_transport: MakeTransport) -> None:
    async with serving(replies(http(308, location="/api/inngest/"), OK)) as server:
        assert (await get(make_transport(), at=at(server))).status == 200
        assert [seen.target for seen in server.seen] == ["/api/inngest", "/api/inngest/"]


async def test_a_redirect_elsewhere_leaves_the_pod(make_transport: MakeTransport) -> None:
    """The other host is dialled as its URL says."""
    async with serving(replies(OK)) as other:
        away = http(308, location=f"http://127.0.0.1:{other.port}/x")
        async with serving(replies(away)) as server:
            assert (await get(make_transport(), at=at(server))).status == 200
            assert (len(server.seen), len(other.seen)) == (1, 1)


async def test_a_map_stands_for_a_cluster(make_transport: MakeTransport) -> None:
    """Names and addresses that no machine has lead to loopback; what the map does not know is dialled as it is."""
    async with serving(replies(OK)) as service, serving(replies(OK)) as pod, serving(replies(OK)) as plain:
        transport = make_transport({"shop.prod.svc:3000": at(service), "192.0.2.7:3000": at(pod)})
        await get(transport)
        await get(transport, at="192.0.2.7:3000")
        await get(transport, f"http://{at(plain)}/")
        assert [len(each.seen) for each in (service, pod, plain)] == [1, 1, 1]
        assert {service.seen[0].headers["host"], pod.seen[0].headers["host"]} == {"shop.prod.svc:3000"}


async def test_calls_follow_the_map_too() -> None:
    """The one seam for syncs and for calls."""
    async with serving(replies(http(200, b'"done"', x_inngest_sdk="js:v4.24.0"))) as server:
        driver = HttpDriver(EgressPolicy.dev(), SystemClock(), dial={"shop.prod.svc:80": at(server)})
        call = Call(
            url="http://shop.prod.svc/api/inngest?fnId=shop-fn&stepId=step",
            slug="shop-fn",
            fn_uuid="u",
            run_id="r",
            item_id="r.x",
            request_id="q",
            events=(b'{"data":{},"id":"01","name":"a","ts":1,"user":{}}',),
        )
        answer = await driver.call(call, Target(), timeout_s=5)
        await driver.close()
        assert (answer.kind, server.seen[0].headers["host"]) == ("output", "shop.prod.svc")


async def test_a_sync_asks_one_pod(make_transport: MakeTransport) -> None:
    """By its address, for the URL of the Service; introspection likewise, and each error names both."""
    registered = http(200, b'{"message":"Successfully registered","modified":true}', x_inngest_sdk="js:v4")
    introspected = http(200, json.dumps({"function_count": 3, "mode": "cloud"}).encode())

    async def respond(_server: RawServer, seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(registered if seen.method == "PUT" else introspected)

    syncer = Syncer(make_transport(), SystemClock(), server_kind="cloud")
    async with serving(respond) as pod:
        assert (await syncer.sync_app(URL, at=at(pod))).modified is True
        assert json.loads(pod.seen[0].body) == {"url": URL}
        assert (await syncer.introspect(URL, at=at(pod))).function_count == 3
        where = at(pod)
    for asking in (syncer.sync_app(URL, at=where), syncer.introspect(URL, at=where)):
        with pytest.raises(SyncError, match=f"{URL} was not reached: .*dialled at {where}"):
            await asking
