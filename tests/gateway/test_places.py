"""Where a request may work, and where it comes from. Pure."""

from ipaddress import ip_address
from typing import Any

import pytest

from innkeeper_engine.model.environments import Environment
from innkeeper_gateway.places import (
    BranchError,
    Place,
    may_come_from,
    networks,
    place_in,
    sender,
    wanted_branch,
)

PROD = Environment(name="prod")
CLUSTER = networks(("10.0.0.0/8", "fd00::/8"))


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ("", Place("prod")),
        ("  ", Place("prod")),
        ("prod", Place("prod", True)),
        ("feature/x", Place("prod~feature%2Fx", True)),
        (" Feature/X ", Place("prod~Feature%2FX", True)),
        ("default", Place("prod~default", True)),
        ("prod~x", Place("prod~prod%7Ex", True)),
        ("ä:b", Place("prod~%C3%A4%3Ab", True)),
    ],
)
def test_a_request_works_in_its_environment_or_in_the_branch_that_it_names(wanted: str, place: Place) -> None:
    """Never in another environment, whatever it names."""
    assert place_in(PROD, wanted) == place


def test_a_branch_with_an_endless_name_is_refused() -> None:
    assert place_in(PROD, "x" * 255).env == "prod~" + "x" * 255
    with pytest.raises(BranchError, match="a branch with 256 characters: 255 is the most"):
        place_in(PROD, "x" * 256)


@pytest.mark.parametrize(
    ("place", "run_env", "covered"),
    [
        (Place("prod"), "prod", True),
        (Place("prod"), "prod~x", True),
        (Place("prod"), "prod2", False),
        (Place("prod"), "prod2~x", False),
        (Place("prod", True), "prod~x", False),
        (Place("prod~x", True), "prod~x", True),
        (Place("prod~x", True), "prod", False),
        (Place("prod~x", True), "prod~xy", False),
    ],
)
def test_a_run_is_reached_from_its_environment_alone(place: Place, run_env: str, covered: bool) -> None:
    """And, where no branch was named, from the environment that its own is a branch of."""
    assert place.covers(run_env) is covered


@pytest.mark.parametrize(
    ("headers", "query", "wanted"),
    [
        ([], b"", ""),
        ([(b"x-inngest-env", b"feature/x")], b"", "feature/x"),
        ([(b"a", b"b"), (b"x-inngest-env", "größe".encode())], b"", "größe"),
        ([(b"x-inngest-env", b"\xff")], b"", "�"),
        ([], b"a=1&x-inngest-env=feature%2Fx", "feature/x"),
        ([(b"x-inngest-env", b"a")], b"x-inngest-env=b", "a"),
        ([], b"y-x-inngest-env=b", ""),
        ([], b"x-inngest-env", ""),
    ],
)
def test_a_branch_is_named_in_a_header_or_in_the_query(
    headers: list[tuple[bytes, bytes]], query: bytes, wanted: str
) -> None:
    assert wanted_branch(headers, query) == wanted


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    """A request from a peer."""
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode()) for value in forwarded)]
    return {"client": None if peer is None else (peer, 4711), "headers": headers}


@pytest.mark.parametrize(
    ("request_scope", "address"),
    [
        (scope("192.0.2.1"), "192.0.2.1"),
        (scope("192.0.2.1", "198.51.100.7"), "192.0.2.1"),
        (scope("10.1.2.3", "198.51.100.7"), "198.51.100.7"),
        (scope("10.1.2.3", "203.0.113.9, 198.51.100.7, 10.9.9.9"), "198.51.100.7"),
        (scope("10.1.2.3", "203.0.113.9", "198.51.100.7,10.9.9.9"), "198.51.100.7"),
        (scope("10.1.2.3", "10.4.4.4, 10.5.5.5"), "10.4.4.4"),
        (scope("10.1.2.3"), "10.1.2.3"),
        (scope("10.1.2.3", ""), "10.1.2.3"),
        (scope("10.1.2.3", "198.51.100.7:55123"), "198.51.100.7"),
        (scope("fd00::1", "[2001:db8::7]:443"), "2001:db8::7"),
        (scope("fd00::1", "2001:db8::7"), "2001:db8::7"),
        (scope("::ffff:10.1.2.3", "::ffff:198.51.100.7"), "198.51.100.7"),
        (scope("fe80::1%eth0"), "fe80::1"),
        (scope("10.1.2.3", "198.51.100.7, unknown"), None),
        (scope("10.1.2.3", "198.51.100.7, 999.1.1.1"), None),
        (scope(None, "198.51.100.7"), None),
        (scope(""), None),
    ],
)
def test_only_trusted_proxies_say_where_a_request_comes_from(
    request_scope: dict[str, Any], address: str | None
) -> None:
    """What stands left of the first address that is no trusted proxy's is only somebody's word."""
    assert sender(request_scope, CLUSTER) == (None if address is None else ip_address(address))


def test_a_key_is_bound_to_its_networks() -> None:
    """An address that is not known is in none; nor is any in a network that cannot be read."""
    assert may_come_from(ip_address("198.51.100.7"), ("203.0.113.0/24", "198.51.100.0/24"))
    assert may_come_from(ip_address("198.51.100.7"), ("198.51.100.7/24",))
    assert may_come_from(ip_address("2001:db8::1"), ("2001:db8::/32",))
    assert not may_come_from(ip_address("198.51.101.7"), ("198.51.100.0/24",))
    assert not may_come_from(ip_address("198.51.100.7"), ("nonsense",))
    assert not may_come_from(None, ("0.0.0.0/0",))
