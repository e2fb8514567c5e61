"""The page on which somebody approves a webhook that a provider's site asks for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from innkeeper_apps.sealing import Sealer
from innkeeper_engine.model.environments import Policy, key_digest
from innkeeper_engine.model.webhooks import IntentAnswer, Webhook, WebhookIntent
from innkeeper_engine.store.bell import Bell
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.intents import INTENTS_BELL, MOST_LEFT, IntentBox, IntentsFullError
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_gateway.access.reviews import ApiServer, Reviews
from innkeeper_gateway.intents.asking import (
    AskedWronglyError,
    is_allowed,
    object_name,
    read_asked,
    redirect_with,
)
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import MakeWorld, reviews_of
from tests.gateway.tenants import environment, signing_key
from tests.gateway.world import World
from tests.kube.access import Rule
from tests.kube.emulator import KubeEmulator

PATH = "/intent/create-webhook"
KEY = bytes(range(32))
ADMIN = "admin-token-of-a-test"
BACK = "https://api.example.com/webhook/callback"
SETTINGS = GatewaySettings(
    managed=True,
    admin_token=ADMIN,
    webhook_key=KEY,
    webhook_intents=True,
    webhooks_url="https://hooks.example.net",
    webhook_redirects=("*.everywhere.example",),
)
PROD = Policy(redirects=("api.example.com",))


class _Form(HTMLParser):
    """What a browser makes of the page: its form's fields, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.text = ""
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        if tag == "input":
            self.fields[found["name"] or ""] = found.get("value") or ""

    def handle_data(self, data: str) -> None:
        self.text += data


class Operator:
    """Makes what is approved, as far as the gateway sees: a record in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.made: list[WebhookIntent] = []

    async def run(self) -> None:
        box = IntentBox(self._store)
        bell = Bell(self._store, self._store.address, INTENTS_BELL, name="test-operator")
        await bell.open()
        try:
            while True:
                for intent_id, sealed in (await box.intents_left()).items():
                    intent = msgspec.json.decode(Sealer(KEY).unseal(sealed), type=WebhookIntent)
                    if "refused" in intent.name:
                        await box.answer_intent(
                            intent_id, IntentAnswer(made=False, why="the namespace is full")
                        )
                        continue
                    self.made.append(intent)
                    await WebhookStore(self._store).write(
                        Webhook(
                            name=f"{intent.namespace}/{intent.name}",
                            env=intent.namespace,
                            digest=key_digest(intent.token),
                            transform=intent.transform,
                        )
                    )
                    await box.answer_intent(intent_id, IntentAnswer(made=True))
                await bell.wait(5)
        finally:
            await bell.close()


@pytest.fixture
def emulator() -> Iterator[KubeEmulator]:
    """An API server."""
    with KubeEmulator() as running:
        yield running


@pytest.fixture
async def reviews(emulator: KubeEmulator, tmp_path: Path) -> AsyncIterator[Reviews]:
    """The gateway's questions to it."""
    token = tmp_path / "token"
    granted = (
        Rule(api_groups=("authentication.k8s.io",), resources=("tokenreviews",), verbs=("create",)),
        Rule(api_groups=("authorization.k8s.io",), resources=("subjectaccessreviews",), verbs=("create",)),
    )
    token.write_text(emulator.add_token("gateway", granted))
    asked = reviews_of(ApiServer(url=emulator.url, token_file=token))
    yield asked
    await asked.close()


@pytest.fixture
async def world(make_world: MakeWorld, reviews: Reviews, store: Store) -> World:
    """A managed gateway; the namespace prod may send browsers back to api.example.com."""
    await EnvironmentStore(store).write(environment("prod", namespaces=("prod",), policy=PROD))
    await EnvironmentStore(store).write(environment("other", namespaces=("other",)))
    return await make_world(SETTINGS, reviews=reviews)


@pytest.fixture
async def operator(store: Store) -> AsyncIterator[Operator]:
    """Somebody who makes what is approved."""
    made = Operator(store)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def browser(world: World) -> httpx.AsyncClient:
    """A client that follows nothing by itself."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=world.app), base_url="http://gateway", timeout=20
    )


def creator(emulator: KubeEmulator, namespace: str = "prod") -> str:
    """The token of somebody who may create Webhooks in a namespace."""
    rule = Rule(
        api_groups=("innkeeper.dev",), resources=("webhooks",), verbs=("create",), namespace=namespace
    )
    return emulator.add_token("ann" if namespace == "prod" else "bob", (rule,))


async def approve(world: World, token: str, namespace: str = "prod", **asked: str) -> httpx.Response:
    """Open the page, fill in what it asks for, and send it."""
    wanted = {"name": "Acme App", "redirect_uri": BACK} | asked
    page = await browser(world).get(PATH, params=wanted)
    assert page.status_code == 200
    fields = _Form(page.text).fields | {"namespace": namespace, "token": token}
    return await browser(world).post(PATH, data=fields)


async def test_who_may_create_webhooks_approves_one_and_goes_back_with_its_url(
    world: World, operator: Operator, emulator: KubeEmulator
) -> None:
    with capture_logs() as logs:
        reply = await approve(world, creator(emulator), redirect_uri=f"{BACK}?state=7")
    assert reply.status_code == 303, reply.text
    (change,) = [line for line in logs if line["event"] == "change"]
    assert (change["action"], change["by"], change["kind"]) == ("make webhook", "ann", "person")
    where = urlsplit(reply.headers["location"])
    assert f"{where.scheme}://{where.netloc}{where.path}" == BACK
    given = parse_qs(where.query)
    assert given["state"] == ["7"]
    (url,) = given["url"]
    (made,) = operator.made
    assert url == f"https://hooks.example.net/w/{made.token}"
    assert (made.namespace, made.approved_by) == ("prod", "ann")
    assert made.name.startswith("acme-app-")
    sent = await browser(world).post(urlsplit(url).path, json={"type": "hired", "data": {"id": 7}})
    assert sent.status_code == 200, sent.text
    event = await browser(world).get(
        f"/v1/events/{sent.json()['ids'][0]}",
        headers={"authorization": f"Bearer {ADMIN}", "x-innkeeper-namespace": "prod"},
    )
    assert (event.json()["data"]["name"], event.json()["data"]["data"]) == ("acme-app/hired", {"id": 7})


async def test_without_a_redirect_the_url_is_shown(world: World, operator: Operator) -> None:
    reply = await approve(world, ADMIN, redirect_uri="")
    assert reply.status_code == 200
    assert f"https://hooks.example.net/w/{operator.made[0].token}" in reply.text


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({"token": "nobodys"}, 401, "Authentication failed"),
        ({"token": "other"}, 403, "may not create webhooks in the namespace prod"),
        ({"token": "ann", "namespace": ""}, 400, "x-innkeeper-namespace"),
        ({"token": "ann", "namespace": "nowhere"}, 404, "nowhere"),
        ({"token": "ann", "namespace": "präd"}, 400, "ASCII"),
        ({"token": "ann", "redirect_uri": "https://evil.example/"}, 403, "innkeeper.dev/webhook-redirects"),
        ({"token": "ann", "redirect_uri": "https://api.example.com.evil.example/"}, 403, "evil.example"),
        ({"token": "ann", "name": "Refused"}, 409, "the namespace is full"),
    ],
)
async def test_what_is_refused_is_said_on_the_page_and_nothing_is_made(
    world: World, operator: Operator, emulator: KubeEmulator, asked: dict[str, str], status: int, says: str
) -> None:
    tokens = {"ann": creator(emulator), "other": creator(emulator, "other"), "nobodys": "nobodys"}
    token = tokens[asked["token"]]
    reply = await approve(
        world, token, **{"namespace": "prod"} | {k: v for k, v in asked.items() if k != "token"}
    )
    assert reply.status_code == status
    page = _Form(reply.text)
    assert says in page.text
    assert page.fields["token"] == "", "a token is not sent back"
    assert token not in reply.text
    assert operator.made == []


async def test_a_signing_key_approves_nothing(world: World) -> None:
    """It is in the hands of apps."""
    reply = await approve(world, signing_key("prod"))
    assert reply.status_code == 403
    assert "a signing key is an app's" in _Form(reply.text).text


async def test_a_host_of_the_installations_list_gets_webhooks_of_every_namespace(
    world: World, operator: Operator
) -> None:
    reply = await approve(world, ADMIN, "other", redirect_uri="https://eu.everywhere.example/back")
    assert reply.status_code == 303
    assert reply.headers["location"].startswith("https://eu.everywhere.example/back?url=https%3A%2F%2Fhooks")


async def test_without_an_operator_it_is_said_and_nothing_is_made_later(
    make_world: MakeWorld, store: Store
) -> None:
    await EnvironmentStore(store).write(environment("prod", namespaces=("prod",), policy=PROD))
    world = await make_world(msgspec.structs.replace(SETTINGS, intent_wait_s=0.05))
    reply = await approve(world, ADMIN)
    assert reply.status_code == 503
    assert "is it running?" in _Form(reply.text).text
    assert await IntentBox(store).intents_left() == {}


async def test_what_was_made_but_is_not_ready_is_audited(
    make_world: MakeWorld, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await EnvironmentStore(store).write(environment("prod", namespaces=("prod",), policy=PROD))
    world = await make_world(msgspec.structs.replace(SETTINGS, intent_wait_s=0.05))

    async def too_late(*_: object) -> bool:
        return False

    monkeypatch.setattr(IntentBox, "withdraw_intent", too_late)
    with capture_logs() as logs:
        reply = await approve(world, ADMIN)
    assert reply.status_code == 503
    assert "was made, but is not ready" in _Form(reply.text).text
    (change,) = [line for line in logs if line["event"] == "change"]
    assert (change["action"], change["kind"], change["host"]) == ("make webhook", "admin", "api.example.com")


async def test_what_waits_is_encrypted_and_bounded(store: Store, world: World) -> None:
    box = IntentBox(store)
    for n in range(MOST_LEFT):
        await box.leave_intent(f"{n}", b"sealed")
    with pytest.raises(IntentsFullError):
        await box.leave_intent("more", b"sealed")
    reply = await approve(world, ADMIN)
    assert reply.status_code == 503
    assert "too many webhooks wait" in _Form(reply.text).text


async def test_a_token_is_nowhere_in_redis(make_world: MakeWorld, store: Store) -> None:
    await EnvironmentStore(store).write(environment("prod", namespaces=("prod",), policy=PROD))
    world = await make_world(SETTINGS)
    asking = asyncio.create_task(approve(world, ADMIN))
    bell = Bell(store, store.address, INTENTS_BELL, name="test")
    await bell.open()
    assert await bell.wait(20) is not None
    await bell.close()
    ((intent_id, sealed),) = (await IntentBox(store).intents_left()).items()
    intent = msgspec.json.decode(Sealer(KEY).unseal(sealed), type=WebhookIntent)
    assert intent.token.encode() not in sealed
    assert intent.token not in repr(intent)
    await IntentBox(store).answer_intent(intent_id, IntentAnswer(made=False, why="enough"))
    assert (await asking).status_code == 409


async def test_the_page_runs_no_script_and_stands_in_no_frame(world: World) -> None:
    name = "<script>alert(1)</script>\"'&"
    reply = await browser(world).get(PATH, params={"name": name, "redirect_uri": BACK})
    page = _Form(reply.text)
    assert "script" not in page.tags
    assert page.fields["name"] == name
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self' https://api.example.com;" in policy
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "Acme", "redirect_uri": "http://api.example.com/"},
        {"name": "Acme", "redirect_uri": "javascript:alert(1)"},
        {"name": "Acme", "redirect_uri": "https://user:pw@api.example.com/"},
        {"name": "Acme", "redirect_uri": "https://api.example.com\\@evil.example/"},
        {"name": "Acme", "redirect_uri": "//api.example.com/"},
        {"name": "Acme", "redirect_uri": "https://api.example.com/#url"},
        {"name": "Acme", "redirect_uri": "https://api.example.com/\r\nX: y"},
        {"name": "Acme", "redirect_uri": "https://[::1/"},
        {"name": "Acme", "redirect_uri": "https://api.example.com;script-src/"},
        {"name": "Acme", "redirect_uri": "https://api,*/"},
        {"name": "Acme", "redirect_uri": "https://*/"},
    ],
)
async def test_a_link_that_asks_wrongly_says_what_would_be_right(world: World, query: dict[str, str]) -> None:
    reply = await browser(world).get(PATH, params=query)
    assert reply.status_code == 400
    assert "must be" in reply.text


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"name=%ff", "application/x-www-form-urlencoded"),
        (b"\xff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(50)), "application/x-www-form-urlencoded"),
        (b"{}", "application/json"),
        (
            urlencode({"name": "Acme", "redirect_uri": "ftp://x"}).encode(),
            "application/x-www-form-urlencoded",
        ),
    ],
)
async def test_a_form_that_cannot_be_read_is_refused(world: World, body: bytes, kind: str) -> None:
    reply = await browser(world).post(PATH, content=body, headers={"content-type": kind})
    assert reply.status_code == 400


async def test_unless_it_is_wanted_there_is_no_page(make_world: MakeWorld) -> None:
    """Neither the form nor what it sends; both are told how it would be."""
    world = await make_world(GatewaySettings(managed=True, admin_token=ADMIN, webhook_key=KEY))
    form = {"name": "Acme", "redirect_uri": "", "namespace": "prod", "token": ADMIN}
    for reply in (
        await browser(world).get(PATH, params={"name": "Acme"}),
        await browser(world).post(PATH, data=form),
    ):
        assert reply.status_code == 404
        assert "INNKEEPER_WEBHOOK_INTENTS=true" in reply.text
    assert await IntentBox(world.store).intents_left() == {}


async def test_where_no_operator_makes_webhooks_the_page_says_so(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings(dev=True))
    reply = await browser(world).get(PATH, params={"name": "Acme"})
    assert reply.status_code == 409
    assert "--manifests" in reply.text


@given(
    query=st.text("abc=&%20", max_size=20),
    url=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
)
def test_the_url_arrives_as_it_is_whatever_stands_in_the_redirect(query: str, url: str) -> None:
    where = urlsplit(redirect_with(f"https://api.example.com/back?{query}", url))
    assert parse_qs(where.query, keep_blank_values=True)["url"] == [url]
    assert where.query.startswith(query)


@given(st.dictionaries(st.sampled_from(["name", "redirect_uri"]), st.text(max_size=60)))
def test_whatever_is_asked_for_is_understood_or_refused(fields: dict[str, str]) -> None:
    try:
        asked = read_asked(fields)
    except AskedWronglyError:
        return
    assert asked.provider
    assert not asked.redirect or asked.host
    name = object_name(asked.provider, "01JB8AAAAAAAAAAAAAAAAAAAAA")
    assert len(name) <= 63
    assert name == name.strip("-").lower()


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("api.example.com", ("api.example.com",), True),
        ("API.example.com.", ("api.example.com",), True),
        ("a.api.example.com", ("api.example.com",), False),
        ("a.example.com", ("*.example.com",), True),
        ("example.com", ("*.example.com",), False),
        ("evilexample.com", ("*.example.com",), False),
        ("api.example.com", (), False),
        ("", ("*",), False),
    ],
)
def test_hosts_of_the_list(host: str, allowed: tuple[str, ...], expected: bool) -> None:
    assert is_allowed(host, allowed) is expected
