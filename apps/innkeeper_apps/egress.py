"""Where requests may go: the check that stands between a URL and a connection.

There are two classes of requests. URLs of *the platform* (Services, and what its operator has named) may be at private
addresses. URLs of *persons* (`endpoint.url`, apps that registered themselves, `step.fetch`, `step.ai`, redirects to
another host or port) are data, so only public addresses are fine, unless a list says more (`classes` says which URL is of
which class). In both, a name is resolved once and what was checked is what is dialled, so that an answer which changes
between check and connection (DNS rebinding) gains nothing.
"""

import asyncio
import contextlib
import dataclasses
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Self

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?", re.IGNORECASE)
_CACHED_S = 5.0
_CACHED_NAMES = 4096
_LOOKUP_TIMEOUT_S = 10.0


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# What clouds answer on with credentials: never reached by a class rule, nor by a name or a network that happens to
# hold it (100.64.0.0/10 does), only if listed as that very address.
_METADATA = _networks(
    "169.254.169.254/32",  # AWS, GCP, Azure, DigitalOcean, ...
    "169.254.170.2/32",  # AWS ECS
    "169.254.170.23/32",  # AWS EKS pod identity
    "168.63.129.16/32",  # Azure wire server
    "100.100.100.200/32",  # Alibaba
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::254/128",
    "fd00:ec2::23/128",
    "fd20:ce::254/128",  # GCP
)
_LOCAL_NAT64 = _networks("64:ff9b:1::/48")
_LOOPBACK = _networks("127.0.0.0/8", "::1/128")
_PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
_NEVER = {
    "unspecified": _networks("0.0.0.0/8", "::/128"),
    "link-local": _networks("169.254.0.0/16", "fe80::/10", "fec0::/10"),
    "multicast": _networks("224.0.0.0/4", "ff00::/8"),
    "broadcast": _networks("255.255.255.255/32"),
    "tunnelled (Teredo)": _networks("2001::/32"),
    "tunnelled (6to4 relay)": _networks("192.88.99.0/24"),
    "segment routing": _networks("5f00::/16"),
    "documentation": _networks("3fff::/20"),
    "translated (local NAT64)": _LOCAL_NAT64,
}


class EgressError(Exception):
    """A host that must not be dialled, or cannot be: `code` is `AddressDenied` or `DnsFailed`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True, kw_only=True)
class EgressPolicy:
    """What a class of requests may reach. Deny beats allow, and both beat the two class rules."""

    allow_private: bool = False
    """Private ranges (RFC 1918, RFC 4193) and the shared one (RFC 6598), where clusters live."""
    allow_loopback: bool = False
    allow_networks: tuple[Network, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    """Names, lower case, exact or `*.suffix`; what they resolve to is fine, except metadata services and what is
    never an app's address (link-local, multicast, ...)."""
    deny_networks: tuple[Network, ...] = ()

    @classmethod
    def users(cls, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> Self:
        """For URLs that functions name: public addresses, plus `allow`, less `deny`.

        An entry is a CIDR, an address, a host name or `*.suffix`; in `deny` a CIDR or an address.

        Raises:
            ValueError: an entry is none of these.
        """
        networks, hosts = _split(allow)
        denied, names = _split(deny)
        if names:
            raise ValueError(f"egress deny list: {names[0]!r} is no CIDR: names can only be allowed")
        return cls(allow_networks=networks, allow_hosts=hosts, deny_networks=denied)

    def widened(self, allow: Iterable[str]) -> Self:
        """This policy and `allow`, entries as for `users`.

        Raises:
            ValueError: an entry cannot be read.
        """
        networks, hosts = _split(allow)
        return dataclasses.replace(
            self,
            allow_networks=(*self.allow_networks, *networks),
            allow_hosts=(*self.allow_hosts, *hosts),
        )

    @classmethod
    def apps(cls, deny: Iterable[str] = ()) -> Self:
        """For declared endpoints in a cluster: private addresses too, but not this process's own host."""
        return dataclasses.replace(cls.users(deny=deny), allow_private=True)

    @classmethod
    def dev(cls) -> Self:
        """For a laptop: loopback and private addresses; still no metadata service."""
        return cls(allow_private=True, allow_loopback=True)


def _split(entries: Iterable[str]) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    networks: list[Network] = []
    hosts: list[str] = []
    for raw in entries:
        entry = raw.strip()
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError as e:
            if not _HOST.fullmatch(entry) or entry.replace(".", "").isdigit() or ":" in entry or "/" in entry:
                raise ValueError(
                    f"egress list: {raw!r} is no CIDR (such as 10.1.0.0/16), address, host name or *.suffix: {e}"
                ) from None
            hosts.append(entry.lower().rstrip("."))
    return tuple(networks), tuple(hosts)


def check_address(ip: Address | str, policy: EgressPolicy, host: str = "") -> str | None:
    """Why `ip` (to which `host` resolved) must not be dialled; None if it may be.

    Addresses that carry an IPv4 address inside (mapped, translated, NAT64, 6to4, compatible) are judged by both; those
    of ISATAP (RFC 5214) lead through a tunnel, whatever is inside. Those of local NAT64 (RFC 8215) are judged as they
    are, except that none may lead to a metadata service, wherever in them its address is.
    """
    address = ipaddress.ip_address(ip.partition("%")[0]) if isinstance(ip, str) else ip
    inner = _embedded(address)
    if _in(address, policy.deny_networks) or (inner and _in(inner, policy.deny_networks)):
        return f"{address} is on the deny list"
    judged = inner or address
    if any(_in(each, _METADATA) for each in (judged, *_maybe_embedded(address))):
        exact = [network for network in policy.allow_networks if network.num_addresses == 1]
        return None if _in(address, exact) else f"{address} is a cloud metadata address"
    if _in(address, policy.allow_networks) or (inner and _in(inner, policy.allow_networks)):
        return None
    for kind, networks in _NEVER.items():
        if _in(judged, networks) or (judged is not address and _in(address, networks)):
            return f"{address} is a {kind} address"
    if _is_isatap(address):
        return f"{address} is a tunnelled (ISATAP) address"
    return None if _host_allowed(host, policy.allow_hosts) else _class_rule(address, judged, policy)


def _class_rule(address: Address, judged: Address, policy: EgressPolicy) -> str | None:
    if _in(judged, _LOOPBACK):
        return None if policy.allow_loopback else f"{address} is a loopback address"
    if _in(judged, _PRIVATE):
        return None if policy.allow_private else f"{address} is a private address"
    if not judged.is_global:
        return f"{address} is a reserved address"
    return None


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    value = int(address)
    nat64 = value >> 32 == 0x0064_FF9B << 64
    compatible = value >> 32 == 0 and value > 1
    translated = value >> 32 == 0xFFFF_0000  # ::ffff:0:0:0/96, RFC 2765
    inside = nat64 or compatible or translated or _is_isatap(address)
    return ipaddress.IPv4Address(value & 0xFFFF_FFFF) if inside else None


def _maybe_embedded(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses that one of local NAT64 may lead to: good for refusing it, never for allowing it.

    The prefix is a network's own to divide (RFC 8215), so which of the layouts of RFC 6052 section 2.2 it uses there is
    not to be seen: those after /48, /56, /64 and /96 fit in, and most of what is read from an address is of no meaning.
    Bits 64 to 71 are no part of the IPv4 address; they should be zero, but translators skip them (section 2.3).
    """
    if not _in(address, _LOCAL_NAT64):
        return ()
    value = int(address)
    without_u = (value >> 64) << 56 | value & (1 << 56) - 1  # 120 bits
    found = (value, *(without_u >> (120 - 32 - length) for length in (48, 56, 64)))
    return tuple(ipaddress.IPv4Address(each & 0xFFFF_FFFF) for each in found)


def _is_isatap(address: Address) -> bool:
    """Whether the interface identifier is 0000:5efe or 0200:5efe and an IPv4 address."""
    return address.version == 6 and int(address) >> 32 & 0xFDFF_FFFF == 0x5EFE


def _in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _host_allowed(host: str, allowed: Sequence[str]) -> bool:
    name = host.lower().rstrip(".")
    return any(name == entry or (entry[:2] == "*." and name.endswith(entry[1:])) for entry in allowed)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What a lookup came to. No exception: a future that keeps one, and the frame that awaits it, hold each other."""

    addresses: tuple[str, ...] = ()
    refused: tuple[object, ...] = ()
    """What an OSError is made of; empty where there is none."""


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """The addresses of a host by the system's resolver, in its order.

    Raises:
        OSError: there are none.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[_Found] = loop.create_future()

    def settle(said: _Found) -> None:
        if not found.done():  # else given up meanwhile
            found.set_result(said)

    def look() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            said = _Found(tuple(dict.fromkeys(str(info[4][0]) for info in infos)))
        except OSError as error:
            said = _Found(refused=error.args or ("no reason given",))
        except ValueError as error:  # a label that is empty or too long, a NUL
            said = _Found(refused=(f"no name that can be looked up: {error}",))
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, said)

    # A thread of its own: an event loop's pool has few, and two names whose servers do not answer would keep everybody
    # else's waiting. A daemon: nobody's end waits for it.
    threading.Thread(target=look, name=f"lookup {host[:40]}", daemon=True).start()
    answer = await found
    if answer.refused:
        raise OSError(*answer.refused)
    return answer.addresses


LOOKUPS = 256
"""Names that are looked up at the same time under one budget; more fail at once."""

LOOKUPS_OF_ONE = 64
"""How many of these one resolver may have where several share a budget."""


class LookupBudget:
    """How many lookups are under way, of one resolver or of several that share it."""

    def __init__(self) -> None:
        self.looking = 0


class Resolver:
    """Resolves names and checks the answer; remembers what passed for a few seconds.

    At most `LOOKUPS` are under way at a time. Each class of requests has a resolver of its own, so that the URLs of users
    use up nothing that apps need. Where several share a `budget`, none can use up more than a part of it.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        lookup: Lookup = system_lookup,
        monotonic_s: Callable[[], float] = time.monotonic,
        *,
        advice: str = "",
        budget: LookupBudget | None = None,
    ) -> None:
        """`advice`: where an address is refused, what to do about it."""
        self._policy = policy
        self._advice = f"; {advice}" if advice else ""
        self._budget = budget or LookupBudget()
        self._most = LOOKUPS if budget is None else LOOKUPS_OF_ONE
        self._lookup = lookup
        self._monotonic_s = monotonic_s
        self._cache: dict[tuple[str, int], tuple[float, tuple[str, ...]]] = {}
        self._looking = 0

    async def resolve_checked(self, host: str, port: int) -> tuple[str, ...]:
        """The addresses of `host` that may be dialled, at least one. Dial these, not the name.

        Raises:
            EgressError: the name has no address, or none that is allowed.
        """
        now_s = self._monotonic_s()
        cached = self._cache.get((host, port))
        if cached is not None and now_s < cached[0]:
            return cached[1]
        allowed: list[str] = []
        reasons: list[str] = []
        for ip in await self._addresses(host, port):
            reason = check_address(ip, self._policy, host)
            if reason is None:
                allowed.append(ip)
            else:
                reasons.append(reason)
        if not allowed:
            why = f"requests to {host} are not allowed: {reasons[0]}{self._advice}"
            raise EgressError("AddressDenied", why)
        if len(self._cache) >= _CACHED_NAMES:
            self._cache.clear()
        self._cache[(host, port)] = (now_s + _CACHED_S, tuple(allowed))
        return tuple(allowed)

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        if self._looking >= self._most or self._budget.looking >= LOOKUPS:
            raise EgressError(
                "DnsFailed",
                f"{host} was not looked up: {self._looking} lookups are under way, most of them without an answer",
            )
        self._looking += 1
        self._budget.looking += 1
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
                found = await self._lookup(host, port)
        except TimeoutError:
            raise EgressError(
                "DnsFailed", f"the DNS lookup of {host} took over {_LOOKUP_TIMEOUT_S:g} s"
            ) from None
        except (OSError, UnicodeError) as e:
            why = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
            raise EgressError("DnsFailed", f"the host {host} was not found: {why}") from None
        finally:
            self._looking -= 1
            self._budget.looking -= 1
        if not found:
            raise EgressError("DnsFailed", f"the host {host} was not found: it has no address")
        return found
