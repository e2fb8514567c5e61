"""Environments and the keys that open them, as they lie in the store: never a key itself."""

import hashlib
import re
from urllib.parse import unquote

import msgspec

BRANCH_MARK = "~"
"""Stands between an environment and its branch in the store's name of a branch environment."""

DEFAULT = "default"
"""The environment of a server that has only one."""

_PLAIN = re.compile(r"[A-Za-z0-9._-]")


class EventKey(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A key with which events may be sent."""

    name: str
    """Where it comes from, for logs and people: never the key."""
    digest: str
    """`key_digest` of the key."""
    events: tuple[str, ...] = ()
    """Names of events that it may send (`*` and `prefix/*` allowed); none: all."""
    cidrs: tuple[str, ...] = ()
    """Networks that it may be used from; none: all."""


class SigningKey(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A key that an SDK or a person may show as a bearer."""

    name: str
    """Where it comes from, for logs and people: never the key."""
    digests: tuple[str, ...]
    """`key_digest` of each form in which it may be shown: the key without its prefix, and its bearer hash."""


class Policy(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the platform grants an environment, its branches included. 0 and () are the installation's default."""

    events_keep_s: int = 0
    """How long events are kept."""
    runs_keep_s: int = 0
    """How long runs are kept once they have ended, with their payloads and traces."""
    letters_keep_s: int = 0
    """How long dead letters of webhooks are kept."""
    egress_allow: tuple[str, ...] = ()
    """Networks (CIDR) and host names that its apps' URLs and its functions' requests may reach beyond the public ones."""
    events_per_s: int = 0
    """Events that one event key may send a second, at each gateway."""
    redirects: tuple[str, ...] = ()
    """Hosts that somebody who has approved the making of a webhook may be sent back to."""


class Environment(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One environment: where its events, runs and functions are, and who may reach them.

    A branch environment may have a record of its own, for its `apps`; it has no keys: its parent's open it.
    """

    name: str
    """As the store knows it: see `branch_name` for a branch."""
    namespaces: tuple[str, ...] = ()
    """The Kubernetes namespaces whose apps are in it."""
    account: str = ""
    branches: tuple[str, ...] = ()
    """What its branch environments are called by their people, such as `feature/x`."""
    event_keys: tuple[EventKey, ...] = ()
    signing_keys: tuple[SigningKey, ...] = ()
    apps: tuple[str, ...] = ()
    """Ids of the apps that are declared in it, also of those that have not synced yet."""
    policy: Policy = Policy()
    """Of a branch, look at its parent's."""


def key_digest(key: str) -> str:
    """Under what a key is stored: its SHA-256, in hex. Keys are random, so no salt is needed to keep them."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def branch_name(parent: str, branch: str) -> str:
    """The store's name of a branch environment: `<parent>~<branch>`, other characters percent-encoded.

    The parts of the store's keys are joined by `:` and `/`, so no name of an environment holds one.
    """
    encoded = "".join(
        letter
        if _PLAIN.match(letter)
        else "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "replace"))
        for letter in branch
    )
    return f"{parent}{BRANCH_MARK}{encoded}"


def parent_name(name: str) -> str:
    """The environment whose keys open this one: itself, or the one that it is a branch of."""
    return name.partition(BRANCH_MARK)[0]


def shown_name(name: str) -> str:
    """What people call an environment: for a branch just that, such as `feature/x`."""
    parent, mark, branch = name.partition(BRANCH_MARK)
    return unquote(branch) if mark else parent


def wire_name(name: str) -> str:
    """What apps are told: nothing where there is only one environment, else what people call theirs."""
    return "" if name == DEFAULT else shown_name(name)
