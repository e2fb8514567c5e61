"""What attackers write to reach what only this server can reach: no URL of a person's leads there.

Each URL is sent through all that stands between a person's URL and a connection: the transport with the rules of
persons. A server on loopback stands for what must not be reached; that it was not asked is what counts.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from innkeeper_apps.classes import Classes
from innkeeper_apps.egress import EgressError, EgressPolicy, Resolver
from innkeeper_apps.fetch import OutboundRequest, perform
from innkeeper_apps.http_driver import HttpDriver
from innkeeper_apps.sync import Syncer, SyncError
from innkeeper_apps.transport import Transport, TransportError
from innkeeper_engine.model.calls import Call, Target
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.model.reach import Reach
from tests.apps.rawserver import RawServer, http, replies, serving

PERSON = Reach(env="shop", public_only=True)
ADVICE = "set the list"
SECRET = http(200, b"what only this host may see")

Answers = dict[str, Sequence[str]]


def classes(answers: Answers | None = None, allow: Sequence[str] = ()) -> Classes:
    """Both classes as in a cluster; names are those of `answers`, or what the system says."""
    persons = EgressPolicy.users(allow)
    if answers is None:
        return Classes(EgressPolicy.apps(), persons, advice=ADVICE)

    async def lookup(host: str, _port: int) -> Sequence[str]:
        if host not in answers:
            raise OSError("no such name")
        return answers[host]

    return Classes(EgressPolicy.apps(), persons, advice=ADVICE, lookup=lookup)


@pytest.fixture
async def secret() -> AsyncIterator[RawServer]:
    """A server on loopback that nobody is to reach."""
    async with serving(replies(SECRET)) as server:
        yield server


async def refusal(url: str, rules: Classes | None = None) -> TransportError:
    """How a person's request to a URL ends."""
    transport = Transport(rules or classes())
    try:
        with pytest.raises(TransportError) as caught:
            await transport.send("GET", url, {}, b"", timeout_s=5, limit=1_000, reach=PERSON)
    finally:
        await transport.close()
    return caught.value


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "0177.0.0.0x1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.0.0.1.",
        "127.8.9.10",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "localhost.localdomain",
        "ip6-localhost",
        "app.localhost",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::127.0.0.1]",
        "[2002:7f00:1::]",
        "[::1%25lo]",
        "[fe80::1%25lo]",
        "[::ffff:127.0.0.1%25lo]",
        "8.8.8.8@127.0.0.1",
        "8.8.8.8%40127.0.0.1",
        "user:8.8.8.8@127.0.0.1",
        "a" * 64 + ".example",
        ".".join(["a" * 60] * 5),
        "127.0.0.1%00.example.com",
        "127.0.0.1%2eexample",
        "a..b",
        "*.example",
        "..",
    ],
)
async def test_no_spelling_of_this_host_reaches_it(secret: RawServer, host: str) -> None:
    """Names and numbers are judged by the address that would be dialled, however they are written."""
    error = await refusal(f"http://{host}:{secret.port}/")
    assert error.code in ("AddressDenied", "BadRequest", "DnsFailed")
    assert secret.connections == 0


@pytest.mark.parametrize(
    "url", ["http://8.8.8.8:{port}\\@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@8.8.8.8/"]
)
async def test_what_is_checked_is_what_is_dialled(secret: RawServer, url: str) -> None:
    """A URL that two readers may read in two ways is read once."""
    assert (await refusal(url.format(port=secret.port))).code in ("AddressDenied", "BadRequest")
    assert secret.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "[fd00:ec2::254]",
        "[fd00:ec2::23]",
        "[fd20:ce::254]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::169.254.169.254]",
        # Local NAT64, after prefixes of 96, 48, 56 and 64 bits:
        "[64:ff9b:1::a9fe:a9fe]",
        "[64:ff9b:1:a9fe:a9:fe00::]",
        "[64:ff9b:1:a9:fe:a9fe::]",
        "[64:ff9b:1:0:a9:fea9:fe00:0]",
        "[64:ff9b:1:7:a9:fea9:fe00:0]",
        "[2002:a9fe:a9fe::]",
    ],
)
@pytest.mark.parametrize("reach", [PERSON, Reach()])
async def test_metadata_services_are_out_of_reach_for_both_classes(address: str, reach: Reach) -> None:
    """Also where a list holds the network that they are in, or a name that resolves to them."""
    wide = ["100.64.0.0/10", "fd00::/8", "169.254.0.0/16", "0.0.0.0/0", "::/0", "metadata.internal"]
    for rules in (classes(), classes(allow=wide)):
        transport = Transport(rules)
        with pytest.raises(TransportError) as caught:
            await transport.send("GET", f"http://{address}/", {}, b"", timeout_s=5, limit=9, reach=reach)
        # A number with leading zeros is no host at all to who reads the URL.
        assert caught.value.code == ("BadRequest" if address.startswith("0251") else "AddressDenied")
        await transport.close()


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "172.16.5.5", "192.168.1.1", "100.64.0.1", "fd12:3456::1", "fec0::1"]
)
async def test_a_name_of_the_cluster_is_a_persons_only_by_a_list(address: str) -> None:
    """The error says what would allow it."""
    rules = classes({"redis.other.svc": [address]})
    error = await refusal("http://redis.other.svc:6379/", rules)
    assert error.code == "AddressDenied"
    assert ADVICE in str(error)


async def test_an_answer_with_a_public_and_a_private_address_is_dialled_at_the_public_one() -> None:
    """A name may have both; the private one is as if it were not there."""
    rules = classes({"both.example": ["10.0.0.1", "8.8.8.8", "::1"]})
    assert await rules.resolver(PERSON).resolve_checked("both.example", 80) == ("8.8.8.8",)


async def test_rebinding_gains_nothing(secret: RawServer) -> None:
    """A name server that answers another address at each question: the one that was checked is dialled."""
    questions: list[str] = []

    async def rebinding(host: str, _port: int) -> Sequence[str]:
        questions.append(host)
        # TEST-NET-3 is nobody's; the policy below takes it for a public one.
        return ["203.0.113.1"] if len(questions) % 2 else ["127.0.0.1"]

    dialled: list[str] = []
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def seen(factory: Callable[[], asyncio.Protocol], host: str, port: int, **_: object) -> object:
        dialled.append(host)
        raise ConnectionRefusedError

    now_s = [0.0]
    policy = EgressPolicy.users(["203.0.113.0/24"])
    transport = Transport(Resolver(policy, rebinding, lambda: now_s[0]))
    loop.create_connection = seen  # type: ignore[method-assign, assignment]
    try:
        codes = []
        url = f"http://rebind.example:{secret.port}/"
        for _ in range(4):
            with pytest.raises(TransportError) as caught:
                await transport.send("GET", url, {}, b"", timeout_s=5, limit=1_000)
            codes.append(caught.value.code)
            now_s[0] += 60  # what was remembered is forgotten
    finally:
        loop.create_connection = connect  # type: ignore[method-assign]
        await transport.close()
    assert codes == ["ConnectionRefused", "AddressDenied"] * 2
    assert dialled == ["203.0.113.1", "203.0.113.1"]
    assert secret.connections == 0


# ---- redirects


async def call_as_app(transport: Transport, url: str) -> None:
    """A call of an app of one's own, sent again to where it is redirected."""
    reach = Reach(env="shop")
    await transport.send("POST", url, {}, b"", timeout_s=5, limit=99, redirects="repeat", reach=reach)


ALLOWED_APP = ["app.example", "app-2.example"]


def redirecting(*names: str) -> Answers:
    """`app.example` is an allowed server on loopback, other names lead to it too and are not allowed."""
    return dict.fromkeys(("app.example", "app-2.example", *names), ("127.0.0.1",))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(
    "place",
    ["http://127.0.0.1:{port}/", "http://redis.svc:{port}/", "//[::1]:{port}/x", "http://2130706433:{port}/"],
)
async def test_a_redirect_is_judged_like_a_url(secret: RawServer, status: int, place: str) -> None:
    """For step.fetch, which follows them as browsers do."""
    away = http(status, location=place.format(port=secret.port))
    async with serving(replies(away)) as app:
        transport = Transport(classes(redirecting("redis.svc", "2130706433"), ALLOWED_APP))
        request = OutboundRequest(
            kind="fetch", method="POST", url=f"http://app.example:{app.port}/", body=b"x"
        )
        outcome = await perform(request, transport, reach=PERSON)
        await transport.close()
        assert len(app.seen) == 1
    assert outcome.memo is None
    assert not outcome.retryable
    assert secret.connections == 0


async def test_a_redirect_to_what_is_allowed_is_followed() -> None:
    """The rules are the same as for the first URL, not stricter ones."""
    async with serving(replies(http(200, b"{}"))) as there:
        away = http(307, location=f"http://app-2.example:{there.port}/")
        async with serving(replies(away)) as app:
            transport = Transport(classes(redirecting(), ALLOWED_APP))
            url = f"http://app.example:{app.port}/"
            reply = await transport.send(
                "POST", url, {}, b"x", timeout_s=5, limit=99, redirects="repeat", reach=PERSON
            )
            await transport.close()
            assert (reply.status, there.seen[0].body) == (200, b"x")


@pytest.mark.parametrize("reach", [Reach(env="shop"), PERSON])
async def test_an_app_redirects_no_call_to_where_a_person_may_not_go(secret: RawServer, reach: Reach) -> None:
    """Whichever class it is of itself: a Service of one's own would lead to everybody's. Syncs are the same."""
    away = http(307, location=f"http://redis.svc:{secret.port}/", x_inngest_sdk="js:v4.0.0")
    async with serving(replies(away)) as app:
        url = f"http://app.example:{app.port}/api/inngest"
        # The name is in both lists, so that the app itself is reached on this machine.
        both = EgressPolicy.users(ALLOWED_APP)
        answers = redirecting("redis.svc")

        async def lookup(host: str, _port: int) -> Sequence[str]:
            return answers[host]

        anything = EgressPolicy.dev()
        rules = Classes(anything, both, lookup=lookup)
        driver = HttpDriver(rules, SystemClock())
        answer = await driver.call(a_call(url), Target(reach=reach))
        await driver.close()
        assert answer.kind == "error"
        assert "not allowed" in answer.reason
        transport = Transport(rules)
        with pytest.raises(SyncError, match="not allowed"):
            await Syncer(transport, SystemClock(), server_kind="cloud").sync_app(url, reach=reach)
        await transport.close()
        assert len(app.seen) == 2
    assert secret.connections == 0


async def test_a_way_back_from_elsewhere_is_a_persons_too() -> None:
    """Over a public host to one's own Service and on: it stays data."""
    async with serving(replies(http(200, b"{}"))) as app:
        back = http(307, location=f"http://app.svc:{app.port}/")
        async with serving(replies(back)) as elsewhere:
            away = http(307, location=f"http://app.example:{elsewhere.port}/")
            async with serving(replies(away)) as first:
                answers = redirecting("app.svc")

                async def lookup(host: str, _port: int) -> Sequence[str]:
                    return answers[host]

                transport = Transport(
                    Classes(EgressPolicy.dev(), EgressPolicy.users(ALLOWED_APP), lookup=lookup)
                )
                with pytest.raises(TransportError, match=r"app\.svc are not allowed"):
                    await call_as_app(transport, f"http://app.svc:{first.port}/")
                await transport.close()
        assert app.connections == 0


async def test_another_port_of_the_same_host_is_elsewhere(secret: RawServer) -> None:
    """What listens beside a Service, a database or an admin page, is no part of the app."""
    away = http(307, location=f"http://app.svc:{secret.port}/")
    async with serving(replies(away)) as app:

        async def lookup(_host: str, _port: int) -> Sequence[str]:
            return ["127.0.0.1"]

        transport = Transport(Classes(EgressPolicy.dev(), EgressPolicy.users(), lookup=lookup))
        with pytest.raises(TransportError, match=r"app\.svc are not allowed"):
            await call_as_app(transport, f"http://app.svc:{app.port}/")
        await transport.close()
        assert len(app.seen) == 1
    assert secret.connections == 0


# ---- classes and lists


async def test_the_platforms_urls_may_be_private_and_persons_may_not() -> None:
    rules = classes({"shop.prod.svc": ["10.0.0.1"]})
    assert await rules.resolver(Reach(env="shop")).resolve_checked("shop.prod.svc", 80) == ("10.0.0.1",)
    with pytest.raises(EgressError, match="private"):
        await rules.resolver(PERSON).resolve_checked("shop.prod.svc", 80)


async def test_an_environments_list_is_its_own() -> None:
    """What one is granted no other has; taken away, it is gone at once."""
    rules = classes({"billing.internal": ["10.1.0.1"]}, allow=["192.168.0.0/16"])
    granted = Reach(env="shop", allow=("10.1.0.0/16",), public_only=True)
    assert await rules.resolver(granted).resolve_checked("billing.internal", 80) == ("10.1.0.1",)
    assert await rules.resolver(granted).resolve_checked("192.168.0.1", 80) == ("192.168.0.1",)
    for reach in (Reach(env="other", public_only=True), PERSON):
        with pytest.raises(EgressError, match="private"):
            await rules.resolver(reach).resolve_checked("billing.internal", 80)
    assert rules.resolver(PERSON) is rules.resolver(PERSON), "kept"


async def test_an_entry_that_cannot_be_read_grants_nothing() -> None:
    """A later version may have written it; the others of the list count."""
    rules = classes({})
    reach = Reach(env="shop", allow=("what is this", "10.1.0.0/16"), public_only=True)
    assert await rules.resolver(reach).resolve_checked("10.1.0.1", 80) == ("10.1.0.1",)


async def test_an_environment_cannot_use_up_the_lookups_of_another() -> None:
    """Nor those of the platform's URLs: an environment has a part of what all have."""
    hang = asyncio.Event()

    async def lookup(host: str, _port: int) -> Sequence[str]:
        if host.startswith("silent"):
            await hang.wait()
        return ["8.8.8.8"]

    rules = Classes(EgressPolicy.apps(), EgressPolicy.users(), lookup=lookup)
    waiting = [
        asyncio.create_task(rules.resolver(PERSON).resolve_checked(f"silent-{n}.example", 80))
        for n in range(64)
    ]
    await asyncio.sleep(0)
    with pytest.raises(EgressError, match="lookups are under way"):
        await rules.resolver(PERSON).resolve_checked("mine.example", 80)
    for reach in (Reach(env="other", public_only=True), Reach(env="shop")):
        assert await rules.resolver(reach).resolve_checked("fine.example", 80) == ("8.8.8.8",)
    hang.set()
    await asyncio.gather(*waiting)


def a_call(url: str) -> Call:
    """The first call of a run."""
    return Call(
        url=url,
        slug="shop-pay",
        fn_uuid="11111111-2222-3333-4444-555555555555",
        run_id="01J00000000000000000000000",
        step_id="step",
        attempt=0,
        max_attempts=1,
        item_id="i",
        request_id="r",
        generation=1,
        events=(b"{}",),
    )
