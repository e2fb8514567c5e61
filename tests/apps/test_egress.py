"""Where requests may go."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.egress import LOOKUPS, EgressError, EgressPolicy, Resolver, check_address

USERS = EgressPolicy.users()
APPS = EgressPolicy.apps()
DEV = EgressPolicy.dev()


@pytest.mark.parametrize(
    ("ip", "users", "apps", "dev"),
    [
        ("8.8.8.8", None, None, None),
        ("2606:4700::1111", None, None, None),
        ("10.0.0.1", "private", None, None),
        ("172.31.255.255", "private", None, None),
        ("172.32.0.1", None, None, None),
        ("192.168.1.1", "private", None, None),
        ("100.64.0.1", "private", None, None),
        ("fd12:3456::1", "private", None, None),
        ("127.0.0.1", "loopback", "loopback", None),
        ("127.255.0.9", "loopback", "loopback", None),
        ("::1", "loopback", "loopback", None),
        ("0.0.0.0", "unspecified", "unspecified", "unspecified"),
        ("::", "unspecified", "unspecified", "unspecified"),
        ("169.254.1.1", "link-local", "link-local", "link-local"),
        ("fe80::1%eth0", "link-local", "link-local", "link-local"),
        ("fec0::1", "link-local", "link-local", "link-local"),
        ("224.0.0.1", "multicast", "multicast", "multicast"),
        ("ff02::1", "multicast", "multicast", "multicast"),
        ("255.255.255.255", "broadcast", "broadcast", "broadcast"),
        ("240.0.0.1", "reserved", "reserved", "reserved"),
        ("192.0.2.1", "reserved", "reserved", "reserved"),
        ("198.18.0.1", "reserved", "reserved", "reserved"),
        ("2001:db8::1", "reserved", "reserved", "reserved"),
        ("169.254.169.254", "metadata", "metadata", "metadata"),
        ("169.254.170.23", "metadata", "metadata", "metadata"),
        ("168.63.129.16", "metadata", "metadata", "metadata"),
        ("100.100.100.200", "metadata", "metadata", "metadata"),
        ("fd00:ec2::254", "metadata", "metadata", "metadata"),
        # An IPv4 address inside an IPv6 one:
        ("::ffff:127.0.0.1", "loopback", "loopback", None),
        ("::ffff:10.0.0.1", "private", None, None),
        ("::ffff:169.254.169.254", "metadata", "metadata", "metadata"),
        ("::ffff:8.8.8.8", None, None, None),
        ("64:ff9b::127.0.0.1", "loopback", "loopback", None),
        ("64:ff9b::a9fe:a9fe", "metadata", "metadata", "metadata"),
        ("64:ff9b::808:808", None, None, None),
        ("64:ff9b:1::808:808", "NAT64", "NAT64", "NAT64"),
        ("64:ff9b:1::a9fe:a9fe", "metadata", "metadata", "metadata"),
        ("2002:a00:1::1", "private", None, None),
        ("2002:7f00:1::", "loopback", "loopback", None),
        ("::127.0.0.1", "loopback", "loopback", None),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo", "Teredo", "Teredo"),
        ("::ffff:0:127.0.0.1", "loopback", "loopback", None),
        ("::ffff:0:169.254.169.254", "metadata", "metadata", "metadata"),
        ("::ffff:0:8.8.8.8", None, None, None),
        ("2600::5efe:127.0.0.1", "ISATAP", "ISATAP", "ISATAP"),
        ("2600::200:5efe:8.8.8.8", "ISATAP", "ISATAP", "ISATAP"),
        ("fe80::5efe:169.254.169.254", "metadata", "metadata", "metadata"),
        # Of no host:
        ("5f00::1", "segment routing", "segment routing", "segment routing"),
        ("3fff::1", "documentation", "documentation", "documentation"),
        ("192.88.99.1", "6to4 relay", "6to4 relay", "6to4 relay"),
        ("::ffff:192.88.99.1", "6to4 relay", "6to4 relay", "6to4 relay"),
    ],
)
def test_each_class_of_address(ip: str, users: str | None, apps: str | None, dev: str | None) -> None:
    """What the three standard policies make of it; the reason names the address and its class."""
    for policy, expected in ((USERS, users), (APPS, apps), (DEV, dev)):
        reason = check_address(ip, policy)
        if expected is None:
            assert reason is None
        else:
            assert reason is not None
            assert expected in reason


@given(st.ip_addresses())
def test_users_reach_public_addresses_only(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Whatever passes the strict policy is public in Python's own table too, unless IPv4 is inside."""
    if check_address(ip, USERS) is None:
        inside = (0, 0xFFFF_0000, 0x64FF9B << 64)
        assert ip.is_global or (
            ip.version == 6 and (ip.sixtofour or ip.ipv4_mapped or int(ip) >> 32 in inside)
        )


@given(st.ip_addresses(v=4))
def test_an_embedded_address_is_never_allowed_more(ip: ipaddress.IPv4Address) -> None:
    """Mapped, translated, NAT64, 6to4, ISATAP and compatible forms are denied wherever the address itself is."""
    for policy in (USERS, APPS, DEV):
        if check_address(ip, policy) is None:
            continue
        number = int(ip)
        forms = [0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80]
        forms += [0xFFFF << 48 | number, 0x2600 << 112 | 0x5EFE << 32 | number]
        # ::1 is the loopback itself, no form of 0.0.0.1.
        for form in [*forms, number] if number != 1 else forms:
            assert check_address(ipaddress.IPv6Address(form), policy) is not None


@pytest.mark.parametrize("metadata", ["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"])
@pytest.mark.parametrize("length", [48, 56, 64, 96])
@pytest.mark.parametrize("u", [0, 0xFF])
def test_no_wide_list_holds_metadata_behind_local_nat64(metadata: str, length: int, u: int) -> None:
    """In each layout of RFC 6052 that fits into the prefix of RFC 8215; only the address itself, listed, is allowed."""
    number = int(ipaddress.IPv4Address(metadata))
    subnet = 0x64FF9B0001 << 80 | (0x7 << 64 if length >= 64 else 0)
    if length == 96:
        form = subnet | number
    else:
        # Octet by octet, over bits 64 to 71.
        octets = bytearray(subnet.to_bytes(16))
        places = [place for place in range(length // 8, 16) if place != 8][:4]
        for place, octet in zip(places, number.to_bytes(4), strict=True):
            octets[place] = octet
        octets[8] = u
        form = int.from_bytes(octets)
    address = ipaddress.IPv6Address(form)
    pair = str(ipaddress.IPv6Network(address).supernet())
    for policy in (USERS, APPS, DEV):
        for wide in (["::/0"], ["::/0", "0.0.0.0/0", metadata], ["64:ff9b:1::/48"], [pair]):
            assert check_address(address, policy.widened(wide)) == f"{address} is a cloud metadata address"
        assert check_address(address, policy.widened([str(address)])) is None


def test_local_nat64_is_allowed_by_a_list_only() -> None:
    """And only by one of its own addresses: what may be read from it allows nothing."""
    for address in ("64:ff9b:1::808:808", "64:ff9b:1:808:8:800::", "64:ff9b:1::a01:101"):
        assert check_address(address, APPS.widened(["::/0"])) is None
        assert check_address(address, APPS.widened(["64:ff9b:1::/48"])) is None
        assert "NAT64" in (check_address(address, APPS.widened(["0.0.0.0/0"])) or "")


def test_lists_widen_and_narrow() -> None:
    """CIDRs, single addresses, names and suffixes; deny beats allow."""
    policy = EgressPolicy.users(
        allow=["10.1.0.0/16", "192.168.0.7", "ollama.ai.svc", "*.internal.example", "169.254.169.254"],
        deny=["10.1.2.0/24", "8.8.8.8"],
    )
    assert check_address("10.1.9.9", policy) is None
    assert check_address("::ffff:10.1.9.9", policy) is None
    assert check_address("10.2.0.1", policy) == "10.2.0.1 is a private address"
    assert check_address("192.168.0.7", policy) is None
    assert check_address("10.1.2.3", policy) == "10.1.2.3 is on the deny list"
    assert check_address("8.8.8.8", policy) == "8.8.8.8 is on the deny list"
    assert check_address("::ffff:8.8.8.8", policy) is not None
    assert check_address("10.9.9.9", policy, "ollama.ai.svc") is None
    assert check_address("10.9.9.9", policy, "OLLAMA.ai.svc.") is None
    assert check_address("10.9.9.9", policy, "evil-ollama.ai.svc") is not None
    assert check_address("10.9.9.9", policy, "a.b.internal.example") is None
    assert check_address("10.9.9.9", policy, "internal.example") is not None
    assert check_address("169.254.169.254", policy) is None
    assert (
        check_address("fd00:ec2::254", policy, "ollama.ai.svc") == "fd00:ec2::254 is a cloud metadata address"
    )


@pytest.mark.parametrize(
    "entry", ["10.0.0.1/8", "300.1.1.1", "http://a/", "", "*", "a b", "10.0.0", "::1::", "a:80"]
)
def test_a_bad_list_entry_is_an_error_that_names_it(entry: str) -> None:
    """At start, not at the first request."""
    with pytest.raises(ValueError, match="egress list"):
        EgressPolicy.users(allow=[entry])


def test_names_cannot_be_denied() -> None:
    """A name is easily gone around; addresses are not."""
    with pytest.raises(ValueError, match="names can only be allowed"):
        EgressPolicy.users(deny=["evil.example"])


class FakeDns:
    """Answers from a list, counting."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, _host: str, _port: int) -> Sequence[str]:
        """The next answer."""
        self.asked += 1
        return self.answers.pop(0)


async def test_only_what_was_checked_is_returned() -> None:
    """From a mixed answer the allowed addresses; a later, different answer is checked anew."""
    now_s = [0.0]
    dns = FakeDns(["10.0.0.1", "8.8.8.8"], ["127.0.0.1"])
    resolver = Resolver(USERS, dns, lambda: now_s[0])
    assert await resolver.resolve_checked("rebind.example", 80) == ("8.8.8.8",)
    assert await resolver.resolve_checked("rebind.example", 80) == ("8.8.8.8",)
    assert dns.asked == 1
    now_s[0] = 6.0
    with pytest.raises(
        EgressError, match=r"rebind\.example are not allowed: 127\.0\.0\.1 is a loopback"
    ) as caught:
        await resolver.resolve_checked("rebind.example", 80)
    assert caught.value.code == "AddressDenied"


async def test_addresses_need_no_lookup_but_the_check() -> None:
    """In a URL, an address is judged as it stands."""
    resolver = Resolver(USERS, FakeDns())
    assert await resolver.resolve_checked("1.1.1.1", 443) == ("1.1.1.1",)
    with pytest.raises(EgressError, match="private"):
        await resolver.resolve_checked("fd00::1", 443)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "017700000001", "localhost"])
async def test_odd_spellings_of_loopback_are_denied(host: str) -> None:
    """The system's resolver understands them, so the check comes after it."""
    with pytest.raises(EgressError) as caught:
        await Resolver(USERS).resolve_checked(host, 80)
    assert caught.value.code in ("AddressDenied", "DnsFailed")


async def test_a_name_without_address() -> None:
    """An empty answer is no permission."""
    with pytest.raises(EgressError, match="has no address"):
        await Resolver(DEV, FakeDns([])).resolve_checked("void.example", 80)
    with pytest.raises(EgressError, match="was not found"):
        await Resolver(DEV).resolve_checked("a" * 70 + ".example", 80)


async def test_names_that_nobody_answers_for_keep_no_other_name_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An event loop looks names up in a few threads: a few of such names would take them all."""
    answer = threading.Event()
    ask = socket.getaddrinfo

    def look_up(host: str, *args: Any, **kwargs: Any) -> Any:
        if host.startswith("silent"):
            answer.wait(30)
            raise OSError("nobody answered")
        return ask("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = Resolver(EgressPolicy.dev())
    hanging = [asyncio.create_task(resolver.resolve_checked(f"silent-{n}.test", 80)) for n in range(50)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(5):
            assert await resolver.resolve_checked("app.test", 80) == ("127.0.0.1",)
    finally:
        answer.set()
        done = await asyncio.gather(*hanging, return_exceptions=True)
    assert all(isinstance(each, EgressError) and each.code == "DnsFailed" for each in done)


async def test_too_many_lookups_at_a_time_fail_at_once() -> None:
    answer = asyncio.Event()

    async def silent(host: str, port: int) -> Sequence[str]:
        await answer.wait()
        return ["192.0.2.1"]

    resolver = Resolver(EgressPolicy.users(), lookup=silent)
    waiting = [asyncio.create_task(resolver.resolve_checked(f"n{n}.test", 80)) for n in range(LOOKUPS)]
    await asyncio.sleep(0)
    with pytest.raises(EgressError, match="lookups are under way"):
        await resolver.resolve_checked("one-more.test", 80)
    answer.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    with pytest.raises(EgressError, match="not allowed"):
        await resolver.resolve_checked("one-more.test", 80)
