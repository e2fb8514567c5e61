"""Asking an app: what came of it, in words for people; with recorded answers and every way in which it fails."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from innkeeper_apps.egress import EgressPolicy, Resolver
from innkeeper_apps.sync import Syncer
from innkeeper_apps.transport import Transport
from innkeeper_apps.wire.keys import bearer_hash, sign, verify
from innkeeper_operator.keys import AppKeys, SourcedKey
from innkeeper_operator.syncing import Asker
from innkeeper_operator.views import Answered, Ask, Failed, Outcome, Refused
from tests.apps.rawserver import RawServer, Seen, http, replies, serving
from tests.apps.recorded import KEY, NOW_S, OTHER, SDK, UNAUTHORIZED, RecordedClock, recorded

Respond = Callable[[RawServer, Seen, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """A transport that may reach loopback."""
    transport = Transport(Resolver(EgressPolicy.dev()))
    yield transport
    await transport.close()


@pytest.fixture
def asker(transport: Transport) -> Asker:
    """The asker of a production operator."""
    return Asker(Syncer(transport, RecordedClock(), server_kind="cloud"), RecordedClock())


def with_keys(*keys: str) -> AppKeys:
    """Keys from the namespace's Secret."""
    entries = ("signing-key", "signing-key-fallback")
    return AppKeys(
        signing=tuple(
            SourcedKey(key, ("prod", "innkeeper-keys"), entry)
            for key, entry in zip(keys, entries, strict=False)
        )
    )


def in_band(document: Any) -> bytes:
    """A signed answer to an in-band sync."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return http(200, body, x_inngest_sync_kind="in_band", x_inngest_signature=sign(body, KEY, NOW_S), **SDK)


def by_method(put: bytes, get: bytes) -> Respond:
    """Answers syncs with one, introspection with the other."""

    async def respond(_server: RawServer, seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(put if seen.method == "PUT" else get)

    return respond


async def ask_of(
    asker: Asker, server: RawServer, keys: AppKeys | None = None, path: str = "/api/inngest"
) -> Outcome:
    """Ask for what a server on loopback serves."""
    url = f"http://127.0.0.1:{server.port}{path}"
    return await asker.ask(Ask(url=url, revision="r1", why="First"), with_keys(KEY) if keys is None else keys)


async def failure(asker: Asker, respond: Respond, keys: AppKeys | None = None) -> Failed:
    """How an ask fails that is answered so."""
    async with serving(respond) as server:
        outcome = await ask_of(asker, server, keys)
    assert isinstance(outcome, Failed), outcome
    assert outcome.time_ms == NOW_S * 1000
    for key in (KEY, OTHER):
        assert key.rpartition("-")[2] not in outcome.message
    return outcome


# ---- answers


@pytest.mark.parametrize(("name", "app", "functions"), [("js4", "jsprod", 28), ("py", "pyprod", 19)])
async def test_an_app_declares_its_functions_in_band(
    asker: Asker, name: str, app: str, functions: int
) -> None:
    async with serving(replies(recorded(f"{name} PUT in_band signed"))) as server:
        outcome = await ask_of(asker, server)
        assert isinstance(outcome, Answered)
        assert outcome.registration.app_id == app
        assert len(outcome.registration.functions) == functions
        assert (outcome.revision, outcome.in_band, outcome.time_ms) == ("r1", True, NOW_S * 1000)
        assert outcome.signing_key_hash
        assert bearer_hash(KEY).startswith(outcome.signing_key_hash)
        assert len(server.seen) == 1


async def test_one_pod_is_asked_in_the_name_of_the_service(asker: Asker) -> None:
    """Nobody looks up the Service: its name goes into the request, the connection to the pod."""
    async with serving(replies(recorded("js4 PUT in_band signed"))) as server:
        url = "http://shop.prod.svc:3000/api/inngest"
        ask = Ask(url=url, at=f"127.0.0.1:{server.port}", revision="r2", why="Rollout")
        outcome = await asker.ask(ask, with_keys(KEY))
        assert isinstance(outcome, Answered)
        assert (outcome.at, outcome.revision) == (ask.at, "r2")
        assert server.seen[0].headers["host"] == "shop.prod.svc:3000"
        assert json.loads(server.seen[0].body) == {"url": url}


async def test_the_fallback_key_is_tried_when_the_current_one_is_refused(asker: Asker) -> None:
    async def respond(_server: RawServer, seen: Seen, writer: asyncio.StreamWriter) -> None:
        good = verify(seen.headers["x-inngest-signature"], seen.body, [KEY], NOW_S)
        writer.write(recorded("js4 PUT in_band signed") if good else UNAUTHORIZED)

    async with serving(respond) as server:
        assert isinstance(await ask_of(asker, server, with_keys(OTHER, KEY)), Answered)
        assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("reply", "unchanged"),
    [
        (recorded("js4 PUT oob deployId"), True),
        (recorded("py PUT oob deployId"), True),
        (http(200, b'{"message":"Successfully registered","modified":true}', **SDK), False),
    ],
)
async def test_an_app_may_register_itself(asker: Asker, reply: bytes, unchanged: bool) -> None:
    outcome = await failure(asker, replies(reply))
    assert (outcome.reason, outcome.reachable, outcome.unchanged) == ("RegistersItself", True, unchanged)


async def test_a_declaration_that_cannot_be_taken_is_refused_and_shown(asker: Asker) -> None:
    """Every function is shown as it was sent, the good ones too."""

    def function(slug: str, **more: object) -> dict[str, object]:
        runtime = {"type": "http", "url": f"http://shop:1/api/inngest?fnId={slug}&stepId=step"}
        step = {"id": "step", "name": "step", "runtime": runtime}
        return {"id": slug, "name": slug, "triggers": [{"event": "a/b"}], "steps": {"step": step}} | more

    good, bad = function("shop-good"), function("shop-bad", triggers=[{"cron": "whenever"}])
    document = {
        "app_id": "shop",
        "url": "http://shop:1/api/inngest",
        "functions": [good, bad, {"name": "no id"}, "none", function("shop-good", retries=1)],
    }
    async with serving(replies(in_band(document))) as server:
        outcome = await ask_of(asker, server)
    assert isinstance(outcome, Refused)
    assert (outcome.app_id, outcome.revision) == ("shop", "r1")
    assert any((each.function, each.field) == ("shop-bad", "triggers[0].cron") for each in outcome.problems)
    assert "At least one function is invalid" in outcome.message
    assert {slug: json.loads(text) for slug, text in outcome.declared.items()} == {
        "shop-good": good,
        "shop-bad": bad,
    }


@pytest.mark.parametrize("body", [b"not json", b"[]", b'{"functions":7}', b"[" * 100_000])
async def test_a_declaration_that_is_none_is_refused(asker: Asker, body: bytes) -> None:
    async with serving(replies(in_band(body))) as server:
        outcome = await ask_of(asker, server)
    assert isinstance(outcome, Refused)
    assert outcome.problems
    assert outcome.declared == {}


# ---- no answer


async def test_a_refused_connection_is_said(asker: Asker) -> None:
    async with serving(replies(UNAUTHORIZED)) as server:
        pass
    outcome = await ask_of(asker, server)
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.reachable) == ("ConnectionRefused", False)
    assert "does the app listen on this port" in outcome.message


async def test_a_name_that_does_not_exist_is_said() -> None:
    async def lookup(_host: str, _port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    transport = Transport(Resolver(EgressPolicy.apps(), lookup))
    asker = Asker(Syncer(transport, RecordedClock(), server_kind="cloud"), RecordedClock())
    outcome = await asker.ask(Ask(url="http://shop.prod.svc/api/inngest", why="First"), with_keys(KEY))
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.reachable) == ("DnsFailed", False)


async def test_an_address_that_is_not_allowed_is_said() -> None:
    transport = Transport(Resolver(EgressPolicy.apps()))
    asker = Asker(Syncer(transport, RecordedClock(), server_kind="cloud"), RecordedClock())
    ask = Ask(url="http://shop.prod.svc/api/inngest", at="169.254.169.254:80", why="First")
    outcome = await asker.ask(ask, with_keys(KEY))
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.reachable) == ("EgressDenied", False)
    assert "169.254.169.254 is a cloud metadata address" in outcome.message


async def test_a_url_that_is_none_is_said(asker: Asker) -> None:
    outcome = await asker.ask(Ask(url="ftp://shop/api/inngest", why="First"), with_keys(KEY))
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.reachable) == ("InvalidUrl", None)


async def test_a_connection_that_is_closed_is_said(asker: Asker) -> None:
    async def respond(_server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    outcome = await failure(asker, respond)
    assert (outcome.reason, outcome.reachable) == ("ConnectionReset", False)


async def test_https_where_http_is_spoken_is_said(asker: Asker) -> None:
    async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(http(400, b"what is this?"))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(speak_http, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ask = Ask(url=f"https://127.0.0.1:{port}/api/inngest", why="First")
        outcome = await asker.ask(ask, with_keys(KEY))
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.reachable) == ("WrongScheme", False)
    assert "is the scheme right" in outcome.message


async def test_an_app_that_never_answers_is_given_up(transport: Transport) -> None:
    class Impatient(Syncer):
        async def sync_app(self, url: str, **options: Any) -> Any:
            return await super().sync_app(url, **options, timeout_s=0.05)

    asker = Asker(Impatient(transport, RecordedClock(), server_kind="cloud"), RecordedClock())
    async with serving(replies(b"")) as server:
        outcome = await ask_of(asker, server, path="/hang")
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.reachable) == ("Timeout", False)
    assert "within 0.05 s" in outcome.message


# ---- answers of others, and of apps with other keys and modes


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (http(404, b"not found"), "WrongPath"),
        (http(405), "WrongPath"),
        (http(200, b"<h1>Shop</h1>"), "WrongPath"),
        (http(500, b'{"code":"internal_server_error"}', **SDK), "InternalServerError"),
        (http(502, b"bad gateway"), "InternalServerError"),
        (http(403, b"RBAC: access denied"), "Forbidden"),
        (http(418), "NotAnInngestApp"),
        (b"garbage\r\n\r\n", "NotAnInngestApp"),
        (http(400, b'{"message":"no functions found"}', **SDK), "NoFunctions"),
        (http(500, b'{"message":"function x is invalid"}', **SDK), "InvalidFunction"),
        (http(500, b'{"message":"Branch environment name is required"}', **SDK), "NoBranch"),
    ],
)
async def test_every_other_answer_has_a_reason(asker: Asker, reply: bytes, reason: str) -> None:
    outcome = await failure(asker, replies(reply))
    assert (outcome.reason, outcome.reachable) == (reason, True)
    assert "127.0.0.1" in outcome.message


async def test_a_refused_signature_is_said_with_the_hash_of_the_key_and_its_secret(asker: Asker) -> None:
    outcome = await failure(asker, replies(UNAUTHORIZED), with_keys(OTHER, KEY))
    assert (outcome.reason, outcome.reachable) == ("Unauthorized", True)
    for part in (
        f"made with the key of hash {bearer_hash(OTHER)[:12]} and with the key of hash {bearer_hash(KEY)[:12]}",
        "its INNGEST_SIGNING_KEY is another one",
        "Secret prod/innkeeper-keys, key signing-key and Secret prod/innkeeper-keys, key signing-key-fallback",
    ):
        assert part in outcome.message


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"has_signing_key": True}, "its INNGEST_SIGNING_KEY is another one"),
        ({"has_signing_key": False}, "its INNGEST_SIGNING_KEY is not set"),
        ({"signing_key_hash": "0123456789abcdef"}, "its INNGEST_SIGNING_KEY is that of hash 0123456789ab,"),
    ],
)
async def test_what_the_app_says_of_its_own_key_is_said(
    asker: Asker, said: dict[str, object], words: str
) -> None:
    """Some SDKs answer unsigned questions about themselves although they refuse a sync."""
    look = http(200, json.dumps({"function_count": 1, "mode": "cloud"} | said).encode())
    outcome = await failure(asker, by_method(http(401, b"{}"), look), with_keys(OTHER))
    assert outcome.reason == "Unauthorized"
    assert words in outcome.message
    assert f"hash {bearer_hash(OTHER)[:12]}, Secret prod/innkeeper-keys, key signing-key" in outcome.message


async def test_a_login_before_the_app_is_said(asker: Asker) -> None:
    outcome = await failure(asker, replies(http(401, b"<h1>Log in</h1>")))
    assert outcome.reason == "Unauthorized"
    assert "is there a login before it?" in outcome.message


DEV_LOOK = http(200, b'{"function_count":1,"mode":"dev"}')
UNSIGNED = http(200, b"{}", x_inngest_sync_kind="in_band", **SDK)


@pytest.mark.parametrize(
    ("put", "get"),
    [
        pytest.param(recorded("py PUT oob wrong kind"), http(403, b"{}"), id="it says so"),
        pytest.param(UNSIGNED, DEV_LOOK, id="it does not sign"),
        pytest.param(http(401, b"{}"), http(403, b"{}"), id="it refuses signatures"),
    ],
)
async def test_an_app_in_dev_mode_is_said(asker: Asker, put: bytes, get: bytes) -> None:
    """As the SDKs do it: Python 0.5, TypeScript, Python 0.4."""
    outcome = await failure(asker, by_method(put, get))
    assert (outcome.reason, outcome.reachable) == ("AppInDevMode", True)
    assert "set INNGEST_DEV=0" in outcome.message


async def test_an_app_in_cloud_mode_is_said_to_a_dev_server(transport: Transport) -> None:
    asker = Asker(Syncer(transport, RecordedClock(), server_kind="dev"), RecordedClock(), server_kind="dev")
    outcome = await failure(asker, replies(recorded("js4 PUT oob wrong kind")), AppKeys())
    assert outcome.reason == "AppInCloudMode"
    assert "set INNGEST_DEV=1" in outcome.message
    assert (await failure(asker, replies(UNAUTHORIZED), AppKeys())).reason == "AppInCloudMode"


async def test_an_answer_that_the_app_did_not_sign_is_not_taken(asker: Asker) -> None:
    forged = recorded("js4 PUT in_band signed").replace(b'"jsprod', b'"jsevil')
    outcome = await failure(asker, by_method(forged, UNAUTHORIZED))
    assert (outcome.reason, outcome.reachable) == ("BadSignature", True)
    assert "Secret prod/innkeeper-keys, key signing-key" in outcome.message


# ---- many


async def test_no_more_than_ten_apps_are_asked_at_the_same_time(asker: Asker) -> None:
    under_way = 0
    most = 0
    ten, go_on = asyncio.Event(), asyncio.Event()

    async def respond(_server: RawServer, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 10:
            ten.set()
        await go_on.wait()
        under_way -= 1
        writer.write(recorded("js4 PUT oob deployId"))

    async with serving(respond) as server:
        asks = [asyncio.create_task(ask_of(asker, server)) for _ in range(35)]
        await asyncio.wait_for(ten.wait(), 30)
        go_on.set()
        outcomes = await asyncio.gather(*asks)
    assert most == 10
    assert len(server.seen) == len(outcomes) == 35


async def test_a_turn_is_given_back_when_an_ask_is_cancelled(transport: Transport) -> None:
    asker = Asker(Syncer(transport, RecordedClock(), server_kind="cloud"), RecordedClock(), at_once=1)
    async with serving(replies(recorded("js4 PUT oob deployId"))) as server:
        hanging = asyncio.create_task(ask_of(asker, server, path="/hang"))
        await asyncio.wait_for(server.arrived.wait(), 30)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert isinstance(await ask_of(asker, server), Failed)


def test_printing_keys_shows_none() -> None:
    shown = repr(with_keys(KEY, OTHER)) + str(with_keys(KEY).signing[0])
    assert "0123456789abcdef" not in shown
    assert "innkeeper-keys" in shown
