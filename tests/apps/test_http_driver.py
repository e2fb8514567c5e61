"""Calls over real sockets: whatever apps and networks do comes back as an answer."""

import asyncio
import datetime
import gzip
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from innkeeper_apps.egress import EgressPolicy, Resolver
from innkeeper_apps.http_driver import HttpDriver
from innkeeper_apps.wire.keys import sign, verify
from innkeeper_engine.model.calls import Answer, Call, Target
from tests.apps.rawserver import RawServer, Seen, http, replies, serving

KEY = "signkey-prod-0123456789abcdef0123456789abcdef"
OLD = "signkey-prod-" + "ab" * 16
SDK = {"x_inngest_sdk": "inngest-js:v4.24.0"}
DONE = http(200, b'{"ok":true}', **SDK)


class FixedClock:
    """Always the same instant."""

    def now_ms(self) -> int:
        """A moment in 2026."""
        return 1_795_343_330_000


@pytest.fixture
async def driver() -> AsyncIterator[HttpDriver]:
    """A driver that may call loopback."""
    made = HttpDriver(EgressPolicy.dev(), FixedClock())
    yield made
    await made.close()


def call_to(url: str, **changes: Any) -> Call:
    """A call of a function registered at `url`."""
    fields: dict[str, Any] = {
        "url": url,
        "slug": "app-fn",
        "fn_uuid": "a4dd85f5-e0fc-5e04-bba3-9d5a6f15dc0e",
        "run_id": "01M81CTARKW5SKMYZB787D66VA",
        "item_id": "item1",
        "request_id": "01M81CTAX26XTFACW56WN4MRFD",
        "events": (b'{"data":{},"id":"01","name":"a","ts":1,"user":{}}',),
    }
    return Call(**(fields | changes))


async def ask(
    driver: HttpDriver, server: RawServer, path: str = "/api/inngest", timeout_s: float = 5
) -> Answer:
    """Call the server."""
    return await driver.call(call_to(f"http://127.0.0.1:{server.port}{path}"), Target(), timeout_s=timeout_s)


def named(answer: Answer) -> str:
    """The error's one-word name, after checking that it has a sentence too."""
    assert answer.kind == "error"
    assert answer.reason
    assert answer.error is not None
    error = json.loads(answer.error)
    assert error["message"] == answer.reason
    return str(error["name"])


async def test_calls_reuse_one_connection(driver: HttpDriver) -> None:
    """Keep-alive: the second call costs no connection."""
    async with serving(replies(DONE)) as server:
        for _ in range(3):
            answer = await ask(driver, server, "/x?fnId=app-fn&stepId=step")
            assert (answer.kind, answer.output, answer.status) == ("output", b'{"ok":true}', 200)
        assert server.connections == 1
        request = server.seen[0]
        assert (request.method, request.target) == ("POST", "/x?fnId=app-fn&stepId=step")
        assert request.headers["host"] == f"127.0.0.1:{server.port}"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["accept-encoding"] == "gzip"
        assert "x-inngest-server-kind" not in request.headers
        assert json.loads(request.body)["ctx"]["run_id"] == "01M81CTARKW5SKMYZB787D66VA"


async def test_state_that_is_too_large_only_with_what_is_around_it_is_left_to_the_api(
    driver: HttpDriver,
) -> None:
    """The first event goes out twice: 3.6 MiB of results and 0.5 MiB of event are more than 4 MiB together."""
    event = b'{"data":{"x":"%b"},"id":"01","name":"a","ts":1,"user":{}}' % (b"x" * 500_000)
    result = b'{"data":"%b"}' % (b"x" * 3_600_000)
    async with serving(replies(DONE)) as server:
        url = f"http://127.0.0.1:{server.port}/x"
        call = call_to(url, events=(event,), steps={"a" * 40: result}, stack=("a" * 40,))
        await driver.call(call, Target(), timeout_s=5)
        body = json.loads(server.seen[0].body)
        assert len(server.seen[0].body) < 4 * 1024 * 1024
    assert (body["use_api"], body["ctx"]["use_api"], body["steps"]) == (True, True, {})
    assert body["ctx"]["stack"]["stack"] == ["a" * 40]


async def test_parallel_calls_get_connections_of_their_own(driver: HttpDriver) -> None:
    """No call waits for another."""
    all_in = asyncio.Event()

    async def respond(server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(server.seen) == 20:
            all_in.set()
        await all_in.wait()
        writer.write(DONE)

    async with serving(respond) as server:
        answers = await asyncio.gather(*(ask(driver, server) for _ in range(20)))
        assert {answer.kind for answer in answers} == {"output"}
        assert server.connections == 20


async def test_calls_are_signed_and_repeated_with_the_fallback_on_401(driver: HttpDriver) -> None:
    """A key rotation loses no attempt: nothing has run where the signature was refused."""
    refused = http(401, b'{"message":"Unauthorized"}', x_inngest_sdk_handled="true")
    async with serving(replies(refused, DONE)) as server:
        target = Target(signing_key=KEY, signing_key_fallback=OLD)
        answer = await driver.call(call_to(f"http://127.0.0.1:{server.port}/x"), target, timeout_s=5)
        assert answer.kind == "output"
        now_s = FixedClock().now_ms() // 1000
        keys = [
            verify(seen.headers["x-inngest-signature"], seen.body, [KEY, OLD], now_s) for seen in server.seen
        ]
        assert keys == [KEY, OLD]
    async with serving(replies(refused)) as server:
        answer = await driver.call(
            call_to(f"http://127.0.0.1:{server.port}/x"), Target(signing_key=KEY), timeout_s=5
        )
        assert len(server.seen) == 1
        assert answer.status == 401
        assert "signing key" in answer.reason


@pytest.mark.parametrize(
    ("signed_with", "body", "kind"),
    [
        (KEY, b'{"ok":true}', "output"),
        (OLD, b'{"ok":true}', "output"),
        (KEY, b'{ "ok": true }', "output"),
        ("signkey-prod-" + "cd" * 16, b'{"ok":true}', "error"),
    ],
    ids=["key", "fallback", "canonical form", "stranger"],
)
async def test_a_signature_of_the_response_must_be_the_apps(
    driver: HttpDriver, signed_with: str, body: bytes, kind: str
) -> None:
    """The signature is of the canonical form; it may be hours old, since a call may take that long."""
    signature = sign(b'{"ok":true}', signed_with, FixedClock().now_ms() // 1000 - 7000)
    async with serving(replies(http(200, body, x_inngest_signature=signature, **SDK))) as server:
        call = call_to(f"http://127.0.0.1:{server.port}/x")
        answer = await driver.call(call, Target(signing_key=KEY, signing_key_fallback=OLD), timeout_s=5)
    assert answer.kind == kind
    if kind == "error":
        assert "signing key" in answer.reason
        assert answer.no_retry is None


async def test_cancelling_closes_the_connection_at_once(driver: HttpDriver) -> None:
    """A cancelled run must not keep its app busy for two hours."""

    async def never(_server: RawServer, _seen: Seen, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(never) as server:
        task = asyncio.create_task(ask(driver, server, "/hang", 7200))
        await server.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.closed.wait(), 2)


async def test_a_timeout_is_an_answer_and_closes_the_connection(driver: HttpDriver) -> None:
    """Also when some of the body has come already."""

    async def slowly(_server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234")
        await asyncio.Event().wait()

    async with serving(slowly) as server:
        answer = await ask(driver, server, "/hang", 0.2)
        assert named(answer) == "Timeout"
        assert answer.reason == f"no complete response from 127.0.0.1:{server.port} within 0.2 s"
        assert answer.status == 0
        await asyncio.wait_for(server.closed.wait(), 2)


async def test_a_stream_with_keep_alive_spaces_is_read_to_its_end(driver: HttpDriver) -> None:
    """Chunk by chunk, then unwrapped."""
    envelope = json.dumps({"status": 200, "headers": {}, "body": '"late"'}).encode()

    async def stream(_server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nx-inngest-sdk: js\r\n\r\n")
        for part in (b" ", b" ", envelope[:9], envelope[9:], b""):
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()

    async with serving(stream) as server:
        for _ in range(2):
            answer = await ask(driver, server)
            assert (answer.status, answer.output) == (200, b'"late"')
        assert server.connections == 1


@pytest.mark.parametrize(
    ("raw", "name", "reason"),
    [
        (b"", "ConnectionReset", "the connection was closed before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-", "ConnectionReset", "closed before the response was complete"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123",
            "ConnectionReset",
            "before the response was complete",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            "ConnectionReset",
            "before the response",
        ),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "BadResponse", "the response is not HTTP"),
        (
            b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
            "BadResponse",
            "switches protocols",
        ),
        (http(200, b"notgzip", content_encoding="gzip"), "BadResponse", "not the gzip"),
        (
            http(200, gzip.compress(b"cut" * 50, mtime=0)[:-9], content_encoding="gzip"),
            "BadResponse",
            "is cut off",
        ),
        (http(200, b"x", content_encoding="br"), "BadResponse", "content-encoding 'br' is not gzip"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 600_000, "BadResponse", "headers exceed"),
    ],
)
async def test_broken_responses(driver: HttpDriver, raw: bytes, name: str, reason: str) -> None:
    """Each has a name and a sentence that names the host, and the driver goes on."""

    async def respond(server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw if len(server.seen) == 1 else DONE)
        await writer.drain()
        if len(server.seen) == 1:
            writer.close()

    async with serving(respond) as server:
        answer = await ask(driver, server)
        assert named(answer) == name
        assert reason in answer.reason
        assert f"127.0.0.1:{server.port}" in answer.reason
        assert (await ask(driver, server)).kind == "output"
        assert len(server.seen) == 2


async def test_a_reset_is_told_apart(driver: HttpDriver) -> None:
    """RST instead of FIN."""

    async def reset(_server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving(reset) as server:
        answer = await ask(driver, server)
        assert named(answer) == "ConnectionReset"


async def test_a_connection_that_dies_while_idle_is_not_used_again(driver: HttpDriver) -> None:
    """The next call opens a new one; nothing is lost and nothing sent twice."""

    async def once(_server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(DONE)
        await writer.drain()
        writer.close()

    async with serving(once) as server:
        for expected in (1, 2, 3):
            assert (await ask(driver, server)).kind == "output"
            await asyncio.wait_for(server.closed.wait(), 2)
            server.closed.clear()
            assert (server.connections, len(server.seen)) == (expected, expected)


async def test_a_post_is_never_sent_twice(driver: HttpDriver) -> None:
    """A kept connection that breaks after the request went out: an error, since the app may have worked."""

    async def second_breaks(server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(server.seen) == 1:
            writer.write(DONE)
        else:
            writer.close()

    async with serving(second_breaks) as server:
        assert (await ask(driver, server)).kind == "output"
        assert named(await ask(driver, server)) == "ConnectionReset"
        assert (len(server.seen), server.connections) == (2, 1)


async def test_bytes_after_a_response_end_the_connection(driver: HttpDriver) -> None:
    """They must not be taken for the answer of the next call."""
    async with serving(replies(DONE + http(200, b'"smuggled"', **SDK), DONE)) as server:
        assert (await ask(driver, server)).output == b'{"ok":true}'
        assert (await ask(driver, server)).output == b'{"ok":true}'
        assert server.connections == 2


@pytest.mark.parametrize(
    ("status", "reply_headers", "connections"),
    [
        (200, {"Connection": "close"}, 2),
        (200, {"Keep-Alive": "timeout=1"}, 2),
        (200, {"Keep-Alive": "timeout=30"}, 1),
    ],
)
async def test_what_the_app_says_about_its_connections_is_honoured(
    driver: HttpDriver, status: int, reply_headers: dict[str, str], connections: int
) -> None:
    """A connection that is about to be closed by the app is not used."""
    async with serving(replies(http(status, b"1", **SDK, **reply_headers))) as server:
        for _ in range(2):
            assert (await ask(driver, server)).kind == "output"
        assert server.connections == connections


async def test_a_body_without_length_ends_with_the_connection(driver: HttpDriver) -> None:
    """HTTP/1.0 style."""

    async def respond(_server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.0 200 OK\r\nx-inngest-sdk: py\r\n\r\n{"a":')
        await writer.drain()
        writer.write(b"1}")
        await writer.drain()
        writer.close()

    async with serving(respond) as server:
        assert (await ask(driver, server)).output == b'{"a":1}'


async def test_interim_responses_are_skipped(driver: HttpDriver) -> None:
    """100 and 103 come before the answer."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with serving(replies(interim + DONE)) as server:
        assert (await ask(driver, server)).output == b'{"ok":true}'


async def test_gzip_is_undone(driver: HttpDriver) -> None:
    """Asked for, so understood."""
    packed = http(200, gzip.compress(b'"' + b"x" * 100_000 + b'"'), content_encoding="gzip", **SDK)
    async with serving(replies(packed)) as server:
        answer = await ask(driver, server)
        assert answer.output == b'"' + b"x" * 100_000 + b'"'


async def test_a_huge_body_is_cut_off_while_it_is_read(driver: HttpDriver) -> None:
    """An endless response, and a small one that unpacks to a gigabyte: neither fills the memory."""

    async def endless(_server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-inngest-sdk: js\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"40000\r\n" + b"x" * 0x40000 + b"\r\n")
            await writer.drain()

    async with serving(endless) as server:
        answer = await ask(driver, server)
        assert named(answer) == "output_too_large"
        assert "more than 16777216 bytes" in answer.reason
    bomb = http(200, gzip.compress(b"0" * 40_000_000), content_encoding="gzip", **SDK)
    async with serving(replies(bomb)) as server:
        assert named(await ask(driver, server)) == "output_too_large"


async def test_a_large_call_goes_out_whole(driver: HttpDriver) -> None:
    """4 MiB of state, through the socket's buffers."""
    async with serving(replies(DONE)) as server:
        steps = {"a" * 40: b'"' + b"x" * 4_000_000 + b'"'}
        call = call_to(f"http://127.0.0.1:{server.port}/x", steps=steps)
        assert (await driver.call(call, Target(), timeout_s=10)).kind == "output"
        assert len(json.loads(server.seen[0].body)["steps"]["a" * 40]) == 4_000_000


async def test_connection_refused(driver: HttpDriver) -> None:
    """Nobody listens."""
    async with serving(replies(DONE)) as server:
        port = server.port
    answer = await driver.call(call_to(f"http://127.0.0.1:{port}/x"), Target(), timeout_s=5)
    assert named(answer) == "ConnectionRefused"
    assert answer.reason == f"connection refused by 127.0.0.1:{port}"
    assert (answer.no_retry, answer.retry_at_ms) == (None, None)


async def resolved(*ips: str, policy: EgressPolicy | None = None) -> HttpDriver:
    """A driver for which every name has these addresses."""

    async def lookup(host: str, _port: int) -> Sequence[str]:
        if not ips:
            raise OSError(-2, "Name or service not known")
        return ips

    used = policy or EgressPolicy.dev()
    return HttpDriver(used, FixedClock(), resolver=Resolver(used, lookup))


async def test_an_unknown_host() -> None:
    """The resolver's own words."""
    driver = await resolved()
    answer = await driver.call(call_to("http://shop.example/x"), Target(), timeout_s=5)
    assert named(answer) == "DnsFailed"
    assert answer.reason == "the host shop.example was not found: Name or service not known"


async def test_the_checked_address_is_dialled_and_the_next_one_when_it_refuses() -> None:
    """The name goes into the Host header only; `localhost` often has an IPv6 address that nobody listens on."""
    async with serving(replies(DONE)) as server:
        driver = await resolved("127.0.0.2", "127.0.0.1")
        answer = await driver.call(call_to(f"http://shop.example:{server.port}/x"), Target(), timeout_s=5)
        assert answer.kind == "output"
        assert server.seen[0].headers["host"] == f"shop.example:{server.port}"
        await driver.close()


async def test_a_denied_address_is_never_dialled() -> None:
    """The strict policy refuses loopback before any connection."""
    async with serving(replies(DONE)) as server:
        driver = await resolved("127.0.0.1", policy=EgressPolicy.apps())
        answer = await driver.call(call_to(f"http://evil.example:{server.port}/x"), Target(), timeout_s=5)
        assert named(answer) == "AddressDenied"
        assert "evil.example are not allowed: 127.0.0.1 is a loopback address" in answer.reason
        assert server.connections == 0


@pytest.mark.parametrize("url", ["ftp://a/x", "http:///x", "nonsense", "http://a:99999/", "http://[::1/"])
async def test_bad_urls_are_errors(driver: HttpDriver, url: str) -> None:
    """Registered URLs come from outside."""
    answer = await driver.call(call_to(url), Target(), timeout_s=5)
    assert named(answer) == "BadRequest"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_repeat_the_call(driver: HttpDriver, status: int) -> None:
    """A GET instead would ask for the app's description and take that for the function's result."""
    async with serving(replies(DONE)) as end:
        moved = http(status, Location=f"http://localhost:{end.port}/there?fnId=f&stepId=step")
        async with serving(replies(moved)) as start:
            answer = await ask(driver, start)
            assert answer.kind == "output"
            assert end.seen[0].method == "POST"
            assert end.seen[0].body == start.seen[0].body
            assert end.seen[0].target == "/there?fnId=f&stepId=step"
            assert end.seen[0].headers["host"] == f"localhost:{end.port}"


@pytest.mark.parametrize(
    ("status", "location", "name", "reason"),
    [
        (
            307,
            "http://169.254.169.254/latest/meta-data",
            "AddressDenied",
            "169.254.169.254 is a cloud metadata",
        ),
        (302, "http://[fd00:ec2::254]/", "AddressDenied", "fd00:ec2::254 is a cloud metadata"),
        (302, "http://[::ffff:169.254.169.254]/", "AddressDenied", "cloud metadata"),
        (307, "file:///etc/passwd", "BadRequest", "must begin with http"),
        (303, "/other", "BadRedirect", "303, which would lose the request"),
        (307, "/api/inngest", "BadRedirect", "more than 10 redirects"),
        (307, "http://a:no-port/", "BadRedirect", "not a URL"),
    ],
)
async def test_redirects_are_checked_anew(
    driver: HttpDriver, status: int, location: str, name: str, reason: str
) -> None:
    """Even the laptop's policy lets nobody send requests to the metadata service."""
    async with serving(replies(http(status, Location=location))) as server:
        answer = await ask(driver, server)
        assert named(answer) == name
        assert reason in answer.reason


async def test_a_redirect_without_location_is_the_apps_answer(driver: HttpDriver) -> None:
    """There is nowhere to go."""
    async with serving(replies(http(302, b"lost"))) as server:
        answer = await ask(driver, server)
        assert named(answer) == "UpstreamError"
        assert answer.status == 302


async def test_credentials_in_the_url_become_basic_auth(driver: HttpDriver) -> None:
    """As with any HTTP client, and they show in no message."""
    async with serving(replies(DONE, b"junk\r\n\r\n")) as server:
        url = f"http://us%20er:s3cret@127.0.0.1:{server.port}/x"
        assert (await driver.call(call_to(url), Target(), timeout_s=5)).kind == "output"
        assert server.seen[0].headers["authorization"] == "Basic dXMgZXI6czNjcmV0"
        failed = await driver.call(call_to(url), Target(), timeout_s=5)
        assert "s3cret" not in failed.reason


async def test_header_injection_is_refused(driver: HttpDriver) -> None:
    """Ids come from outside too."""
    async with serving(replies(DONE)) as server:
        call = call_to(f"http://127.0.0.1:{server.port}/x", traceparent="a\r\nX-Evil: 1")
        answer = await driver.call(call, Target(), timeout_s=5)
        assert named(answer) == "BadRequest"
        assert server.connections == 0


async def test_proxies_in_the_environment_are_ignored(
    driver: HttpDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a proxy dials could not be checked."""
    async with serving(replies(DONE)) as proxy, serving(replies(DONE)) as server:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await ask(driver, server)).kind == "output"
        assert proxy.connections == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of shop.example, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.example")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("shop.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.9"))]
    cert = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    path.write_bytes(cert.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.mark.parametrize(
    ("host", "trusted", "name"),
    [("shop.example", True, ""), ("other.example", True, "TlsFailed"), ("shop.example", False, "TlsFailed")],
)
async def test_tls_checks_the_name_although_an_address_is_dialled(
    certificate: Path, host: str, trusted: bool, name: str
) -> None:
    """Pinning the address must not weaken the certificate check."""
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate)
    client_tls = ssl.create_default_context(cafile=str(certificate) if trusted else None)

    async def lookup(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    policy = EgressPolicy.dev()
    driver = HttpDriver(policy, FixedClock(), tls=client_tls, resolver=Resolver(policy, lookup))
    async with serving(replies(DONE), tls=server_tls) as server:
        for _ in range(2):
            answer = await driver.call(call_to(f"https://{host}:{server.port}/x"), Target(), timeout_s=5)
            if name:
                assert named(answer) == name
                assert "certificate" in answer.reason
            else:
                assert answer.kind == "output"
        assert server.connections == (2 if name else 1) or name
        await driver.close()


@pytest.mark.parametrize(("host", "name"), [("shop.example", ""), ("other.example", "TlsFailed")])
async def test_tls_checks_the_name_of_the_url_whatever_is_dialled(
    certificate: Path, host: str, name: str
) -> None:
    """One pod behind a Service shows the Service's certificate."""
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate)
    client_tls = ssl.create_default_context(cafile=str(certificate))
    async with serving(replies(DONE), tls=server_tls) as server:
        dial = {f"{host}:443": f"127.0.0.1:{server.port}"}
        driver = HttpDriver(EgressPolicy.dev(), FixedClock(), tls=client_tls, dial=dial)
        answer = await driver.call(call_to(f"https://{host}/x"), Target(), timeout_s=5)
        await driver.close()
    assert (named(answer) if name else answer.kind) == (name or "output")


async def test_https_to_a_plain_port_says_so(driver: HttpDriver) -> None:
    """The usual mistake in a URL."""

    async def shout(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(shout, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        answer = await driver.call(call_to(f"https://127.0.0.1:{port}/x"), Target(), timeout_s=5)
    assert named(answer) == "TlsFailed"
    assert "does it speak http instead of https?" in answer.reason


async def test_idle_connections_are_closed_after_a_while() -> None:
    """Before the app closes them, so that no call runs into that."""
    from innkeeper_apps.transport import Transport

    transport = Transport(Resolver(EgressPolicy.dev()), idle_s=0.05)
    async with serving(replies(DONE)) as server:
        url = f"http://127.0.0.1:{server.port}/x"
        await transport.send("GET", url, {}, b"", timeout_s=5, limit=100)
        await asyncio.wait_for(server.closed.wait(), 2)
        await transport.send("GET", url, {}, b"", timeout_s=5, limit=100)
        assert server.connections == 2
        await transport.close()
