"""Syncs with apps: recorded replies, and every way in which a sync fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from innkeeper_apps.egress import EgressPolicy, Resolver
from innkeeper_apps.sync import Syncer, SyncError
from innkeeper_apps.transport import Transport
from innkeeper_apps.wire.keys import sign, verify
from tests.apps.rawserver import RawServer, Seen, http, replies, serving
from tests.apps.recorded import KEY, NOW_S, OTHER, SDK, UNAUTHORIZED, RecordedClock, recorded


@pytest.fixture
async def syncer() -> AsyncIterator[Syncer]:
    """A syncer of a production server that may reach loopback."""
    transport = Transport(Resolver(EgressPolicy.dev()))
    yield Syncer(transport, RecordedClock(), server_kind="cloud")
    await transport.close()


def url_of(server: RawServer) -> str:
    """The serve endpoint."""
    return f"http://127.0.0.1:{server.port}/api/inngest"


async def failing(syncer: Syncer, reply: bytes, keys: tuple[str, ...] = ()) -> SyncError:
    """The error of a sync that is answered with `reply`."""
    async with serving(replies(reply)) as server:
        with pytest.raises(SyncError) as caught:
            await syncer.sync_app(url_of(server), keys=keys)
        assert f"127.0.0.1:{server.port}" in str(caught.value)
        return caught.value


@pytest.mark.parametrize("name", ["js4 PUT in_band signed", "py PUT in_band signed"])
async def test_a_signed_in_band_sync_returns_what_the_app_declares(syncer: Syncer, name: str) -> None:
    """Recorded replies with their recorded signatures."""
    async with serving(replies(recorded(name))) as server:
        synced = await syncer.sync_app(url_of(server), keys=[KEY])
        assert synced.in_band
        assert json.loads(synced.body)["functions"]
        seen = server.seen[0]
        assert (seen.method, seen.target) == ("PUT", "/api/inngest")
        assert json.loads(seen.body) == {"url": url_of(server)}
        assert seen.headers["x-inngest-sync-kind"] == "in_band"
        assert seen.headers["x-inngest-server-kind"] == "cloud"
        assert verify(seen.headers["x-inngest-signature"], seen.body, [KEY], NOW_S) == KEY


async def test_an_in_band_reply_without_the_apps_signature_is_refused(syncer: Syncer) -> None:
    """Somebody else may answer in the app's place."""
    reply = recorded("js4 PUT in_band signed").replace(b'"jsprod', b'"jsevil')
    error = await failing(syncer, reply, (KEY,))
    assert error.code == "invalid_signing_key"
    unsigned = http(200, b"{}", x_inngest_sync_kind="in_band", **SDK)
    assert (await failing(syncer, unsigned, (KEY,))).code == "invalid_signing_key"


async def test_a_reply_signed_over_its_canonical_form_is_accepted(syncer: Syncer) -> None:
    """Some SDKs sign what they parsed, not what they sent."""
    body = b'{"b": 1, "a": 2}'
    signature = sign(b'{"a":2,"b":1}', KEY, NOW_S)
    reply = http(200, body, x_inngest_sync_kind="in_band", x_inngest_signature=signature, **SDK)
    async with serving(replies(reply)) as server:
        assert (await syncer.sync_app(url_of(server), keys=[KEY])).body == body


@pytest.mark.parametrize("name", ["js4 PUT oob deployId", "py PUT oob deployId"])
@pytest.mark.parametrize("keys", [(), (KEY,)])
async def test_an_app_may_register_by_itself(syncer: Syncer, name: str, keys: tuple[str, ...]) -> None:
    """Asked without keys, or although asked in band; the deploy id goes into the query."""
    async with serving(replies(recorded(name))) as server:
        synced = await syncer.sync_app(url_of(server), keys=keys, deploy_id="abc 123")
        assert (synced.in_band, synced.modified, synced.body) == (False, False, b"")
        seen = server.seen[0]
        assert seen.target in ("/api/inngest?deployId=abc%20123", "/api/inngest?deployId=abc+123")
        assert json.loads(seen.body) == {"url": url_of(server)}
        assert ("x-inngest-sync-kind" in seen.headers) is bool(keys)


async def test_the_second_key_is_tried_when_the_first_is_refused(syncer: Syncer) -> None:
    """During a rotation the app may still have the old key."""

    async def respond(_server: RawServer, seen: Seen, writer: asyncio.StreamWriter) -> None:
        good = verify(seen.headers["x-inngest-signature"], seen.body, [KEY], NOW_S)
        writer.write(recorded("py PUT in_band signed") if good else UNAUTHORIZED)

    async with serving(respond) as server:
        assert (await syncer.sync_app(url_of(server), keys=[OTHER, KEY])).in_band
        assert len(server.seen) == 2
        with pytest.raises(SyncError) as caught:
            await syncer.sync_app(url_of(server), keys=[OTHER])
        assert caught.value.code == "unauthorized"
        assert "refused the signature (401) made with the key of hash" in str(caught.value)
        assert "ab" * 16 not in str(caught.value)


async def test_401s_are_told_apart(syncer: Syncer) -> None:
    """An app that wants a key, and a login page."""
    wants = await failing(syncer, UNAUTHORIZED)
    assert wants.code == "missing_signing_key"
    assert "INNGEST_DEV=1" in str(wants)
    login = await failing(syncer, http(401, b"<h1>Log in</h1>"), (KEY,))
    assert login.code == "unauthorized"
    assert "is there a login before it?" in str(login)
    odd = await failing(syncer, UNAUTHORIZED, ("not hex",))
    assert "not of the form signkey-<env>-<hex digits>" in str(odd)
    assert "not hex" not in str(odd)


@pytest.mark.parametrize("name", ["js4 PUT oob wrong kind", "py PUT oob wrong kind"])
async def test_a_dev_app_and_a_cloud_server_do_not_match(syncer: Syncer, name: str) -> None:
    """Recorded: js says so with status 200, py with 400."""
    error = await failing(syncer, recorded(name))
    assert error.code == "server_kind_mismatch"
    assert "INNGEST_DEV" in str(error)


def says(message: str, status: int = 400) -> bytes:
    """A reply of an SDK with this message."""
    return http(status, json.dumps({"message": message}).encode(), **SDK)


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        (
            says("At least one function is invalid"),
            "invalid_function",
            "did not register (status 400): At least one",
        ),
        (
            says("At least one function is invalid", 200),
            "invalid_function",
            "did not register: At least one",
        ),
        (says("No functions registered", 500), "no_functions", "No functions"),
        (says("No signing key provided; set INNGEST_SIGNING_KEY"), "missing_signing_key", "must be the same"),
        (says("Signing key is required"), "missing_signing_key", "must be the same"),
        (says("Your signing key is invalid"), "invalid_signing_key", "must be the same"),
        (says("Authentication failed", 500), "invalid_signing_key", "must be the same"),
        (says("missing branch environment name"), "missing_branch_env_name", "branch"),
        (says("boom", 500), "internal_server_error", "answered 500: boom"),
        (says("something new", 418), "invalid_response", "answered 418 to a sync: something new"),
        (says("something new", 200), "invalid_response", "something new"),
        (http(200, b"not json", **SDK), "invalid_response", "not json"),
        (http(403, b"no entry"), "forbidden", "answered 403"),
        (http(404, b"Cannot PUT /api"), "url_not_found", "usually /api/inngest"),
        (http(405), "url_not_found", "405"),
        (http(502, b"<h1>Bad Gateway</h1>"), "internal_server_error", "502"),
        (http(200, b"<html>hello</html>"), "url_not_found", "is no Inngest serve endpoint"),
        (
            http(400, b"The plain HTTP request was sent to HTTPS port"),
            "unsupported_protocol",
            "speaks https, not http",
        ),
        (b"nonsense\r\n\r\n", "invalid_response", "is not HTTP"),
    ],
)
async def test_every_refusal_has_a_code_and_a_sentence(
    syncer: Syncer, reply: bytes, code: str, words: str
) -> None:
    """By status and by the SDK's own words, which are quoted."""
    error = await failing(syncer, reply)
    assert error.code == code
    assert words in str(error)


async def test_apps_that_are_not_reached(syncer: Syncer) -> None:
    """Nobody listens, no such host, a denied address, no URL; credentials show nowhere."""
    async with serving(replies(UNAUTHORIZED)) as server:
        port = server.port
    for url, code, words in (
        (
            f"http://user:s3cret@127.0.0.1:{port}/x?token=s3cret",
            "unreachable",
            f"http://127.0.0.1:{port}/x was not",
        ),
        ("http://169.254.169.254/x", "unreachable", "metadata"),
        ("http://" + "a" * 70 + ".example/", "unreachable", "was not found"),
        ("ftp://a/x", "url_not_found", "must begin with http:// or https://"),
        ("http://a:no-port/", "url_not_found", "not a URL"),
    ):
        with pytest.raises(SyncError) as caught:
            await syncer.sync_app(url, keys=[KEY])
        assert caught.value.code == code
        assert words in str(caught.value)
        assert "s3cret" not in str(caught.value)


async def test_an_app_that_does_not_answer(syncer: Syncer) -> None:
    """Ten seconds at most, less here."""

    async def never(*_args: Any) -> None:
        await asyncio.Event().wait()

    async with serving(never) as server:
        with pytest.raises(SyncError, match=r"within 0\.1 s") as caught:
            await syncer.sync_app(f"http://127.0.0.1:{server.port}/hang", timeout_s=0.1)
        assert caught.value.code == "unreachable"


@pytest.mark.parametrize(("name", "count"), [("js4 GET signed empty", 28), ("py GET signed empty", 18)])
async def test_introspection_of_an_app_in_cloud_mode(syncer: Syncer, name: str, count: int) -> None:
    """Signed over the empty body; js shows 12 digits of its key's hash, py all."""
    async with serving(replies(recorded(name))) as server:
        seen = await syncer.introspect(url_of(server), keys=[KEY])
        assert (seen.function_count, seen.mode, seen.authenticated) == (count, "cloud", True)
        assert seen.app_id in ("jsprod", "pyprod")
        assert seen.sdk_language in ("js", "py")
        assert seen.has_signing_key is True
        assert (seen.knows_key(KEY), seen.knows_key(OTHER)) == (True, False)
        request = server.seen[0]
        assert (request.method, request.body) == ("GET", b"")
        assert verify(request.headers["x-inngest-signature"], b"", [KEY], NOW_S) == KEY


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"function_count": 3, "mode": "dev", "has_signing_key": False, "app_id": None},
            (3, "dev", False, None),
        ),
        ({"functionsFound": 1, "hasSigningKey": False, "message": "Inngest endpoint"}, (1, "", False, None)),
    ],
)
async def test_unauthenticated_introspection(
    syncer: Syncer, body: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """A dev app, and the shape of old SDKs."""
    async with serving(replies(http(200, json.dumps(body).encode()))) as server:
        seen = await syncer.introspect(url_of(server))
        assert (seen.function_count, seen.mode, seen.has_signing_key, seen.knows_key(KEY)) == expected


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (http(200, b"<html>"), "url_not_found"),
        (http(200, b'{"status":"ok"}'), "url_not_found"),
        (http(404), "url_not_found"),
        (http(403, b"{}"), "forbidden"),
        (UNAUTHORIZED, "missing_signing_key"),
    ],
)
async def test_introspection_of_what_is_no_app(syncer: Syncer, reply: bytes, code: str) -> None:
    """The same codes as for a sync."""
    async with serving(replies(reply)) as server:
        with pytest.raises(SyncError) as caught:
            await syncer.introspect(url_of(server))
        assert caught.value.code == code
