"""Who may steer a development server from a browser: pages of this machine, and no others. Pure.

A development server asks nobody for a key, and browsers send requests for every page that is open in them. A page of
somebody else names itself in `Origin` where it changes anything, and its own name in `Host` where that leads here (DNS
rebinding). So a server that is known by other names than those of this machine must be told them.
"""

import ipaddress
from collections.abc import Collection, Iterable
from typing import Final
from urllib.parse import urlsplit

from innkeeper_gateway.bodies import Header
from innkeeper_gateway.intents.asking import is_allowed

_CONTAINERS: Final = frozenset(
    {"host.docker.internal", "host.containers.internal", "gateway.docker.internal"}
)
"""What containers call the machine that they run on."""


def refusal(headers: Iterable[Header], own: Collection[str]) -> str | None:
    """Why a request is not for a development server; None where it is.

    `own`: further names of the server, as somebody has set them; `*.suffix` too.
    """
    host = origin = None
    for name, value in headers:
        if name == b"host":
            host = _host_of(f"//{value.decode('latin-1')}")
        elif name == b"origin":
            origin = _host_of(value.decode("latin-1"))
    if host is not None and not _may_be_called(host, own):
        return (
            f"a development server is not known as {host[:100]!r}, which may be a web page's name that leads here: use "
            "localhost, or name it in INNKEEPER_DEV_HOSTS"
        )
    if origin is not None and not (
        _is_this_machine(origin) or is_allowed(origin, own) or origin == host != ""
    ):
        return (
            f"a web page of {origin[:100]!r} may not steer a development server (it may send events to /e/): use one of "
            "localhost, or name it in INNKEEPER_DEV_HOSTS"
        )
    return None


def _host_of(url: str) -> str:
    """The host of a URL in small letters; empty where it has none, as the origin `null`."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _may_be_called(host: str, own: Collection[str]) -> bool:
    """Names that nobody else can have: those of this machine, those without a dot, and addresses."""
    return (
        "." not in host
        or _is_address(host)
        or _is_this_machine(host)
        or host in _CONTAINERS
        or is_allowed(host, own)
    )


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
