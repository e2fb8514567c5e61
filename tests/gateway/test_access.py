"""Who may do what over the API: signing keys, the admin token, and people with tokens of the Kubernetes cluster."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest

from innkeeper_apps.wire.register import parse_registration
from innkeeper_engine import copies
from innkeeper_engine.model.times import rfc3339
from innkeeper_engine.registering import register_app
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from innkeeper_gateway.access.permissions import ALL, CANCEL, SEE_RUNS, how_to_ask
from innkeeper_gateway.access.reviews import (
    KEPT_S,
    MOST_STRANGERS_WAITING,
    ApiServer,
    Person,
    ReviewError,
    Reviews,
)
from innkeeper_gateway.core import UNKNOWN_TOKENS_PER_S
from innkeeper_gateway.patience import Patience
from innkeeper_gateway.rates import REQUESTS_BURST_S, Rates
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import MakeWorld, reviews_of
from tests.gateway.tenants import Tenant, environment
from tests.gateway.world import World, function, registration
from tests.kube.access import Rule
from tests.kube.emulator import KubeEmulator

ADMIN = "admin-token-of-a-test"
EVERYTHING = tuple((each.resource, each.subresource, each.verb) for each in ALL)
VIEW = (
    ("functions", "", "list"),
    ("inngestapps", "", "list"),
    ("functions", "runs", "get"),
    ("functions", "runs", "list"),
    ("inngestapps", "events", "list"),
)


def rules(
    *granted: tuple[str, str, str], namespace: str = "prod", names: tuple[str, ...] = ()
) -> tuple[Rule, ...]:
    """Rules of a Role in a namespace."""
    return tuple(
        Rule(
            api_groups=("innkeeper.dev",),
            resources=(f"{resource}/{subresource}" if subresource else resource,),
            verbs=(verb,),
            resource_names=names,
            namespace=namespace,
        )
        for resource, subresource, verb in granted
    )


PEOPLE = {
    "gateway": (
        Rule(api_groups=("authentication.k8s.io",), resources=("tokenreviews",), verbs=("create",)),
        Rule(api_groups=("authorization.k8s.io",), resources=("subjectaccessreviews",), verbs=("create",)),
    ),
    "ann": rules(*EVERYTHING),
    "vic": rules(*VIEW),
    "one": rules(("functions", "cancel", "create"), names=("shop-fn",)),
    "blind": rules(*(each for each in EVERYTHING if each[1] != "payload")),
    "eve": (),
}

Tokens = dict[str, str]


@pytest.fixture
def emulator() -> Iterator[KubeEmulator]:
    """An API server."""
    with KubeEmulator() as running:
        yield running


@pytest.fixture
def tokens(emulator: KubeEmulator) -> Tokens:
    """Some people's tokens."""
    return {name: emulator.add_token(name, granted) for name, granted in PEOPLE.items()}


@pytest.fixture
async def reviews(emulator: KubeEmulator, tokens: Tokens, tmp_path: Path) -> AsyncIterator[Reviews]:
    """The gateway's questions to it."""
    token = tmp_path / "token"
    token.write_text(f"{tokens['gateway']}\n")
    asked = reviews_of(ApiServer(url=emulator.url, token_file=token))
    yield asked
    await asked.close()


@pytest.fixture
async def managed(make_world: MakeWorld, reviews: Reviews, store: Store) -> World:
    """A managed gateway that asks the API server; the namespace prod is the environment prod."""
    await EnvironmentStore(store).write(environment("prod", namespaces=("prod",)))
    await EnvironmentStore(store).write(environment("other", namespaces=("other",)))
    return await make_world(GatewaySettings(managed=True, admin_token=ADMIN), reviews=reviews)


class Caller:
    """Somebody with a token."""

    def __init__(self, world: World, token: str, namespace: str | None = "prod") -> None:
        headers = {"authorization": f"Bearer {token}"}
        if namespace is not None:
            headers["x-innkeeper-namespace"] = namespace
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=world.app), base_url="http://gateway", headers=headers
        )

    async def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self._http.request(method, path, **options)


RUN = "01JB8AAAAAAAAAAAAAAAAAAAAA"
REQUESTS = [
    ("GET", "/v1/runs", 200),
    ("GET", f"/v1/runs/{RUN}", 404),
    ("DELETE", f"/v1/runs/{RUN}", 404),
    ("GET", f"/v1/events/{RUN}", 404),
    ("GET", f"/v1/events/{RUN}/runs", 200),
    ("GET", "/v1/apps/shop/functions", 200),
    ("GET", "/v1/events", 200),
    ("GET", "/v1/events?unknown_branch=true", 200),
    ("GET", "/v1/event-types", 200),
    ("GET", f"/v1/runs/{RUN}/trace", 404),
    ("GET", "/v1/functions", 200),
    ("GET", "/v1/functions/shop-fn", 404),
    ("GET", "/v1/apps", 200),
    ("GET", "/v1/apps/shop", 404),
    ("GET", "/v1/backlog", 200),
    ("POST", "/v1/signals", 400),
    ("POST", "/invoke/shop-fn", 404),
    ("POST", "/v1/functions/shop-fn/pause", 404),
    ("POST", "/v1/functions/shop-fn/resume", 404),
    ("POST", "/v1/apps/shop/pause", 404),
    ("POST", "/v1/apps/shop/resume", 404),
    ("POST", "/v1/apps/shop/sync", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
async def test_who_has_every_permission_may_do_everything(
    managed: World, method: str, path: str, status: int, tokens: Tokens
) -> None:
    """Somebody with all permissions and the admin token get the answers that a signing key gets."""
    for token in (tokens["ann"], ADMIN):
        assert (await Caller(managed, token)(method, path)).status_code == status
    tenant = Tenant(managed, "prod")
    assert await tenant.status(method, path) == status
    await tenant.close()


@pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
async def test_who_has_no_permission_may_do_nothing(
    managed: World, method: str, path: str, status: int, tokens: Tokens
) -> None:
    """The refusal names the permission and the command that checks it, in the namespace that was asked about."""
    assert status < 500
    reply = await Caller(managed, tokens["eve"])(method, path)
    assert reply.status_code == 403
    assert "eve may not" in reply.json()["error"]
    assert "kubectl auth can-i" in reply.json()["error"]
    elsewhere = await Caller(managed, tokens["ann"], "other")(method, path)
    assert elsewhere.status_code == 403


@pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
async def test_a_viewer_may_look(managed: World, method: str, path: str, status: int, tokens: Tokens) -> None:
    """The chart's view role reads, and changes nothing."""
    reply = await Caller(managed, tokens["vic"])(method, path)
    assert reply.status_code == (status if method == "GET" else 403)


async def test_a_viewer_sees_runs_without_what_went_through_them(managed: World, tokens: Tokens) -> None:
    """Data of events, outputs and errors are for who may see payloads."""
    prod = Tenant(managed, "prod")
    event_id = await prod.send("test/go")
    for token, data in ((tokens["ann"], {"of": "prod"}), (tokens["vic"], None)):
        reply = await Caller(managed, token)("GET", f"/v1/events/{event_id}")
        assert reply.status_code == 200
        assert reply.json()["data"]["data"] == data
        for path in ("/v1/events", "/v1/events?name=test/go"):
            (listed,) = (await Caller(managed, token)("GET", path)).json()["data"]
            assert listed["data"] == data
        (named,) = (await Caller(managed, token)("GET", "/v1/event-types")).json()["data"]
        assert named["sample"]["data"] == data
    await prod.close()


@pytest.mark.parametrize("path", ["/v1/events", "/v1/runs"])
async def test_an_expression_reads_payloads(managed: World, tokens: Tokens, path: str) -> None:
    """Whoever may not see them cannot find them out by asking."""
    for token, status in ((tokens["ann"], 200), (tokens["vic"], 403)):
        reply = await Caller(managed, token)("GET", path, params={"cel": "event.data.secret == 'a'"})
        assert reply.status_code == status


async def test_who_sees_no_payloads_asks_nothing_of_them_by_jobs(managed: World, tokens: Tokens) -> None:
    app = parse_registration(orjson.dumps(registration(function("app-fn")))).as_app(1, 1)
    await register_app(managed.store, "prod", app, now_ms=1)
    blind, ann = Caller(managed, tokens["blind"]), Caller(managed, tokens["ann"])
    until = rfc3339(managed.clock.now_ms())
    for path in ("/v1/replays", "/v1/cancellations"):
        asked = {
            "app_id": "app",
            "function_id": "fn",
            "started_before": until,
            "if": "event.data.a == 1",
        }
        if path == "/v1/replays":
            del asked["started_before"]
        refused = await blind("POST", path, json=asked)
        assert refused.status_code == 403
        assert "get functions/payload" in refused.json()["error"]
        plain = {name: value for name, value in asked.items() if name != "if"}
        assert (await blind("POST", path, json=plain)).status_code == 200
        assert (await ann("POST", path, json=asked)).status_code == 200
        seen = (await blind("GET", path)).json()["data"]
        assert sorted(str(each.get("if", "none")) for each in seen) == ["None", "none"]
        (hidden,) = [each["id"] for each in seen if "if" in each]
        one = (await blind("GET", f"{path}/{hidden}")).json()
        assert one.get("data", one)["if"] is None
        one = (await ann("GET", f"{path}/{hidden}")).json()
        assert one.get("data", one)["if"] == "event.data.a == 1"


async def test_tokens_of_nobody_keep_people_from_nothing(
    managed: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nor is a key looked for again, or a refusal held back, for so long.
    monkeypatch.setattr(copies, "READ_EVERY_S", 0.0)
    managed.app.core.rates = Rates(REQUESTS_BURST_S, lambda: 1_000.0)
    managed.app.core.patience = Patience(managed.app.core.rates, 0)
    ann = Caller(managed, tokens["ann"])
    assert (await ann("GET", "/v1/runs")).status_code == 200
    most = int(UNKNOWN_TOKENS_PER_S * REQUESTS_BURST_S) - 1
    answers = [(await Caller(managed, f"junk-{n}")("GET", "/v1/runs")).status_code for n in range(most + 1)]
    assert answers == [401] * most + [429]
    assert (await ann("GET", "/v1/runs")).status_code == 200


async def test_strangers_wait_for_strangers(tokens: Tokens, tmp_path: Path) -> None:
    let_go = asyncio.Event()

    async def api_server(request: httpx.Request) -> httpx.Response:
        if b"junk" in request.content:
            await let_go.wait()
        return httpx.Response(201, json={"status": {"authenticated": True, "user": {"username": "ann"}}})

    token = tmp_path / "token"
    token.write_text("own")
    now = [0.0]
    client = httpx.AsyncClient(transport=httpx.MockTransport(api_server), base_url="http://api")
    reviews = Reviews(
        ApiServer(url="http://api", token_file=token), client=client, monotonic_s=lambda: now[0]
    )
    assert await reviews.who("ann") == Person(name="ann")
    now[0] += 2 * KEPT_S
    strangers = [asyncio.ensure_future(reviews.who(f"junk{n}")) for n in range(MOST_STRANGERS_WAITING)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(ReviewError, match="wait for the API server already"):
        await reviews.who("junk")
    assert reviews.has_heard_of("ann")
    assert await reviews.who("ann") == Person(name="ann")
    let_go.set()
    await asyncio.gather(*strangers)
    await reviews.close()


async def test_a_token_that_is_nobodys_opens_nothing(managed: World) -> None:
    """401, and no word about namespaces."""
    for token in ("nobody", "a.b.c", "", "x" * 20_000):
        assert (await Caller(managed, token)("GET", "/v1/runs")).status_code == 401


async def test_people_say_where_they_want_to_work(managed: World, tokens: Tokens) -> None:
    """Without the header, and with a namespace that nobody knows, the answer says what is wrong."""
    nowhere = await Caller(managed, tokens["ann"], None)("GET", "/v1/runs")
    assert nowhere.status_code == 400
    assert "x-innkeeper-namespace" in nowhere.json()["error"]
    unknown = await Caller(managed, tokens["ann"], "nowhere")("GET", "/v1/runs")
    assert unknown.status_code == 404
    admin = await Caller(managed, ADMIN, None)("GET", "/v1/runs")
    assert admin.status_code == 400


async def test_tokens_of_people_are_not_for_sdks(managed: World, tokens: Tokens) -> None:
    """State of runs and registrations are between apps and the server."""
    for method, path in (("GET", f"/v0/runs/{RUN}/actions"), ("POST", "/fn/register")):
        assert (await Caller(managed, tokens["ann"])(method, path)).status_code == 401


async def test_an_api_server_that_is_away_refuses_for_now(
    make_world: MakeWorld, tmp_path: Path, store: Store, tokens: Tokens
) -> None:
    """503 with Retry-After, and nobody is let in; signing keys go on."""
    token = tmp_path / "token"
    token.write_text("t")
    await EnvironmentStore(store).write(environment("prod", namespaces=("prod",)))
    gone = reviews_of(ApiServer(url="http://127.0.0.1:1", token_file=token))
    world = await make_world(GatewaySettings(managed=True), reviews=gone)
    reply = await Caller(world, tokens["ann"])("GET", "/v1/runs")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    prod = Tenant(world, "prod")
    assert await prod.status("GET", "/v1/runs") == 200
    await prod.close()


async def test_without_an_api_server_tokens_of_people_open_nothing(
    make_world: MakeWorld, tokens: Tokens
) -> None:
    """As in an installation with `gateway.tokenReview: false`."""
    world = await make_world(GatewaySettings(managed=True))
    assert (await Caller(world, tokens["ann"])("GET", "/v1/runs")).status_code == 401


async def test_a_grant_for_one_function_opens_its_runs_alone(managed: World, tokens: Tokens) -> None:
    """The registration says what a function's object is called."""
    prod = Tenant(managed, "prod")
    app = parse_registration(orjson.dumps(registration(function("app-fn"), function("app-other")))).as_app(
        1, 1
    )
    named = tuple(
        msgspec.structs.replace(each, object_name=name)
        for each, name in zip(app.functions, ("shop-fn", "shop-other"), strict=True)
    )
    await register_app(
        managed.store, "prod", msgspec.structs.replace(app, functions=named), now_ms=managed.clock.now_ms()
    )
    event_id = await prod.send("test/go")
    await managed.route()
    runs = (await prod.http.get(f"/v1/events/{event_id}/runs")).json()["data"]
    answers = {
        run["function_slug"]: (await Caller(managed, tokens["one"])("DELETE", f"/v1/runs/{run['run_id']}"))
        for run in runs
    }
    assert {slug: reply.status_code for slug, reply in answers.items()} == {"app-fn": 200, "app-other": 403}
    await prod.close()


# ---- the questions


async def test_a_grant_may_name_one_function(reviews: Reviews, tokens: Tokens) -> None:
    """RBAC's resourceNames hold for subresources too."""
    one = await reviews.who(tokens["one"])
    assert one is not None
    assert await reviews.may(one, CANCEL, "prod", "shop-fn")
    assert not await reviews.may(one, CANCEL, "prod", "shop-other")
    assert not await reviews.may(one, CANCEL, "prod")
    assert not await reviews.may(one, CANCEL, "other", "shop-fn")


async def test_answers_are_kept_for_seconds(emulator: KubeEmulator, tmp_path: Path, tokens: Tokens) -> None:
    """The API server is asked once for many requests, and again when the time is over."""
    token, now_s = tmp_path / "token", [0.0]
    token.write_text(tokens["gateway"])
    reviews = reviews_of(ApiServer(url=emulator.url, token_file=token), monotonic_s=lambda: now_s[0])
    asked: list[str] = []

    def on_token(spec: dict[str, Any]) -> dict[str, Any]:
        asked.append(spec["token"])
        return {"authenticated": True, "user": {"username": f"u{len(asked)}"}}

    emulator.reviewer.on_token = on_token
    assert [await reviews.who("t"), await reviews.who("t")] == [Person(name="u1"), Person(name="u1")]
    now_s[0] += KEPT_S
    assert await reviews.who("t") == Person(name="u2")
    await reviews.close()


async def test_a_token_for_another_audience_is_nobodys(
    emulator: KubeEmulator, tmp_path: Path, tokens: Tokens
) -> None:
    """A server that does not know of audiences says so by leaving them out."""
    token = tmp_path / "token"
    token.write_text(tokens["gateway"])
    reviews = reviews_of(ApiServer(url=emulator.url, token_file=token, audiences=("innkeeper",)))
    emulator.reviewer.on_token = lambda spec: {"authenticated": True, "user": {"username": "ann"}}
    assert await reviews.who(tokens["ann"]) is None
    await reviews.close()


async def test_a_gateway_without_the_right_to_ask_says_so(
    emulator: KubeEmulator, tmp_path: Path, tokens: Tokens
) -> None:
    """The error names what is missing, and no token."""
    token = tmp_path / "token"
    token.write_text(tokens["eve"])
    reviews = reviews_of(ApiServer(url=emulator.url, token_file=token))
    with pytest.raises(ReviewError, match=r"TokenReview with 403.*gateway\.tokenReview") as info:
        await reviews.who(tokens["ann"])
    assert not any(each in str(info.value) for each in tokens.values())
    await reviews.close()


def test_a_permission_tells_how_to_check_it() -> None:
    """As kubectl is asked."""
    assert (
        how_to_ask(CANCEL, "prod", "shop-fn")
        == "kubectl auth can-i create functions.innkeeper.dev/shop-fn --subresource=cancel -n prod"
    )
    assert SEE_RUNS.is_change is False
    assert CANCEL.is_change is True
