"""What a provider's site asks for: a webhook of a name, and where to send the browser back with its URL. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from innkeeper_gateway.webhooks.defaults import provider_slug

MOST_NAME: Final = 100
MOST_REDIRECT: Final = 2_048
"""Characters of a provider's name and of a URL to go back to."""

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_SLUG_CHARACTERS: Final = 40
_HOST: Final = re.compile(r"[a-z0-9.-]+|[0-9a-f:.]*:[0-9a-f:.]*", re.ASCII)
"""A name, or an address of IPv6 without its brackets, in small letters."""


class AskedWronglyError(ValueError):
    """What is asked for cannot be; the message says what would be right."""


class Asked(msgspec.Struct, frozen=True):
    """A webhook that a site asks for."""

    provider: str
    """As the site calls itself: shown to people, and the beginning of its events' names."""
    redirect: str
    """Where the browser goes with `?url=`; empty: nowhere, the URL is shown."""

    @property
    def host(self) -> str:
        """Whom the URL is given to."""
        return urlsplit(self.redirect).hostname or ""

    @property
    def origin(self) -> str:
        """Scheme, host and port of `redirect`."""
        parts = urlsplit(self.redirect)
        return f"{parts.scheme}://{parts.netloc}" if self.redirect else ""


def read_asked(fields: Mapping[str, str]) -> Asked:
    """What `name` and `redirect_uri` ask for.

    Raises:
        AskedWronglyError: one of them cannot be.
    """
    provider = " ".join(fields.get("name", "").split())
    if not provider or len(provider) > MOST_NAME or not provider.isprintable():
        raise AskedWronglyError(f"name must be what the provider is called, 1 to {MOST_NAME} characters")
    redirect = fields.get("redirect_uri", "")
    if redirect:
        _check_redirect(redirect)
    return Asked(provider, redirect)


def _check_redirect(redirect: str) -> None:
    right = "an https:// URL without user, password or fragment"
    is_plain = redirect.isascii() and redirect.isprintable() and not set(redirect) & set(' \\"<>^`{|}')
    try:
        parts = urlsplit(redirect)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    # The host becomes a part of the page's policy (CSP), in which other characters would mean something.
    if not is_plain or len(redirect) > MOST_REDIRECT or not host or not _HOST.fullmatch(host) or port == 0:
        raise AskedWronglyError(f"redirect_uri must be {right}")
    if "@" in parts.netloc or "#" in redirect:
        raise AskedWronglyError(f"redirect_uri must be {right}")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOCAL):
        raise AskedWronglyError(
            f"redirect_uri must be {right}; http:// is only taken for {', '.join(_LOCAL)}"
        )


def is_allowed(host: str, allowed: Iterable[str]) -> bool:
    """Whether the list has this host: as it is, or by `*.suffix`."""
    name = host.lower().rstrip(".")
    return any(
        name == entry or (entry.startswith("*.") and name.endswith(entry[1:]))
        for entry in (each.lower().rstrip(".") for each in allowed)
    )


def redirect_with(redirect: str, url: str) -> str:
    """Where the browser goes: `url` is put behind what the query of `redirect` has already."""
    parts = urlsplit(redirect)
    query = f"{parts.query}&url={quote(url, safe='')}" if parts.query else f"url={quote(url, safe='')}"
    return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", query, ""))


def object_name(provider: str, intent_id: str) -> str:
    """What the Webhook is called: the provider, and enough of the intent's id to be the only one."""
    return f"{provider_slug(provider)[:_SLUG_CHARACTERS].strip('-')}-{intent_id[-8:].lower()}"
