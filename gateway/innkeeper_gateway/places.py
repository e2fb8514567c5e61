"""Where a request may work: its key names an environment, a header may choose one of that environment's branches."""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

import msgspec

from innkeeper_engine.model.environments import Environment, branch_name, parent_name
from innkeeper_gateway.bodies import Header

ENV_HEADER: Final = "x-inngest-env"
"""Names a branch environment; also taken as a parameter of the query, where a sender cannot set headers."""
MAX_BRANCH: Final = 255
"""Characters of a branch's name."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_ENV_BYTES: Final = ENV_HEADER.encode()


class Place(msgspec.Struct, frozen=True):
    """One environment, or one branch of it."""

    env: str
    """As the store knows it."""
    chosen: bool = False
    """Whether the request named it; otherwise its key alone did."""

    def covers(self, run_env: str) -> bool:
        """Whether a run of that environment may be reached from here.

        Who named no branch may follow a run wherever it is below his environment: the key is the same for all of it,
        and a run's id says enough.
        """
        return run_env == self.env or (not self.chosen and parent_name(run_env) == self.env)


class BranchError(ValueError):
    """What the request asks for cannot be a branch's name; the message says why."""


def place_in(environment: Environment, wanted: str) -> Place:
    """The place that a request asks for: `wanted` is the name of a branch, empty or the environment's own for none.

    A branch that nobody has declared is a place too: what is sent there is kept, and starts nothing.

    Raises:
        BranchError: no branch can be called so.
    """
    wanted = wanted.strip()
    if not wanted:
        return Place(environment.name)
    if wanted == environment.name:
        return Place(environment.name, True)
    if len(wanted) > MAX_BRANCH:
        raise BranchError(
            f"{ENV_HEADER} names a branch with {len(wanted)} characters: {MAX_BRANCH} is the most"
        )
    return Place(branch_name(environment.name, wanted), True)


def wanted_branch(headers: Iterable[Header], query: bytes) -> str:
    """What a request says in `x-inngest-env`: in a header or, without that, in its query; empty for nothing."""
    for name, value in headers:
        if name == _ENV_BYTES:
            return value.decode("utf-8", "replace")
    if _ENV_BYTES in query:
        for key, text in parse_qsl(query.decode("latin-1"), errors="replace"):
            if key == ENV_HEADER:
                return text
    return ""


# ---- where a request comes from


@lru_cache(maxsize=1024)
def networks(cidrs: Sequence[str]) -> tuple[Network, ...]:
    """Networks as written; one that cannot be read holds no address."""
    found: list[Network] = []
    for cidr in cidrs:
        try:
            found.append(ipaddress.ip_network(cidr, strict=False))
        except ValueError:
            continue
    return tuple(found)


def sender(scope: Any, trusted: Sequence[Network]) -> IpAddress | None:
    """Who sent a request: its peer or, where that is a trusted proxy, whom the proxies say.

    Each proxy adds to the end of `X-Forwarded-For` whom it was called by, so it is read from there: the first address
    that is no trusted proxy's is the sender's, and what stands before it is only his word. None: not known.
    """
    peer = scope.get("client")
    address = _address(peer[0]) if peer else None
    if address is None or not _within(address, trusted):
        return address
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    for entry in reversed(",".join(forwarded).split(",")):
        if not entry.strip():
            continue
        address = _address(entry.strip())
        if address is None or not _within(address, trusted):
            return address
    return address


def may_come_from(address: IpAddress | None, cidrs: tuple[str, ...]) -> bool:
    """Whether a key that is bound to these networks may be used from there."""
    return address is not None and _within(address, networks(cidrs))


def _within(address: IpAddress, inside: Sequence[Network]) -> bool:
    return any(address in network for network in inside)


def _address(text: str) -> IpAddress | None:
    """An address as proxies write it: some add the port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A server that listens on IPv6 sees IPv4 senders so.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
