"""Keys, from the Secrets that may be read. Pure.

A Secret may be read only if it carries the label `innkeeper.dev/key`: otherwise whoever may write an InngestApp could
have any Secret of the namespace used as a key towards a URL of his choice.

A namespace's own keys are the entries `event-key`, `signing-key` and `signing-key-fallback` of the Secret
`innkeeper-keys`. In every Secret labelled `event`, `event-key` and each entry that begins with `event-key-` is a key
with which events may be sent, within the bounds that the Secret's annotations set.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import msgspec

from innkeeper_apps.wire.keys import bearer_hash, signing_key_digests
from innkeeper_engine.model.environments import EventKey, key_digest
from innkeeper_engine.triggers import is_pattern
from innkeeper_operator.objects import (
    ALLOWED_CIDRS,
    ALLOWED_EVENTS,
    KEY_LABEL,
    NAMESPACE_KEYS,
    AppObject,
    SecretObject,
)
from innkeeper_operator.specs import SecretKeyRef

Key: TypeAlias = tuple[str, str]
"""Namespace and name."""

EVENT: Final = "event"
SIGNING: Final = "signing"
WEBHOOK: Final = "webhook"
WORKLOAD: Final = "env"
"""Values of the label."""

EVENT_KEY: Final = "event-key"
SIGNING_KEY: Final = "signing-key"
SIGNING_KEY_FALLBACK: Final = "signing-key-fallback"
"""Entries of a namespace's own keys."""

T = TypeVar("T")

_HASH_SHOWN: Final = 12
# What a path segment of a URL can hold as it is, and slashes, which base64 has.
_EVENT_KEY_FORM = re.compile(r"(?:(?![?#%\\])[!-~]){1,255}")
_MORE_KEYS: Final = f"{EVENT_KEY}-"


class Seals(Protocol):
    """What keys are encrypted with before they go to the store."""

    def seal(self, plain: bytes) -> bytes:
        """Encrypt; may give another result each time."""
        ...


class Opens(Seals, Protocol):
    """The same, and what reads again what was encrypted."""

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt.

        Raises:
            ValueError: encrypted with another key, or damaged.
        """
        ...


class UnusableKeyError(Exception):
    """A key that cannot be used; the message says what to do.

    `reason`: SecretNotFound, KeysPending (the operator makes them), SecretNotLabelled or InvalidKey.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SourcedKey(msgspec.Struct, frozen=True):
    """A signing key and where it comes from. Printing it shows only that."""

    key: str
    secret: Key
    entry: str

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        return f"Secret {self.secret[0]}/{self.secret[1]}, key {self.entry}"

    @property
    def shown(self) -> str:
        """The beginning of its hash, which apps and logs show too, and where it comes from."""
        return f"hash {bearer_hash(self.key)[:_HASH_SHOWN]}, {self.source}"

    def __repr__(self) -> str:
        """Where it comes from."""
        return f"SourcedKey({self.source})"

    __str__ = __repr__

    def __rich_repr__(self) -> Any:
        yield self.source


class AppKeys(msgspec.Struct, frozen=True, kw_only=True):
    """With what requests to one app are signed. Printing it shows no key."""

    signing: tuple[SourcedKey, ...] = ()
    """The current one first, then its fallback. None, and a `problem`: the app cannot be asked."""
    sealed: tuple[bytes, ...] = ()
    """The same, encrypted; the very same bytes as long as the fingerprint is equal."""
    fingerprint: str = ""
    """Equal while the keys are; empty without keys. It leads to no key."""
    problem: tuple[str, str] | None = None
    """Reason and message where a key cannot be used; with a bad fallback the current key still is."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys themselves, the current one first."""
        return tuple(each.key for each in self.signing)

    @property
    def usable(self) -> bool:
        """Whether the app can be asked: with these keys, or without any where none are wanted."""
        return bool(self.signing) or self.problem is None


def labelled(secret: SecretObject, use: str) -> bool:
    """Whether a Secret's label allows this use; the label may name several, joined by dots."""
    return use in secret.meta.labels.get(KEY_LABEL, "").split(".")


def references(app: AppObject) -> tuple[SecretKeyRef, ...]:
    """Where the app's spec says that its keys are: the current one, then its fallback."""
    sources = (app.spec.signing_key, app.spec.signing_key_fallback)
    return tuple(source.secret_ref for source in sources if source is not None)


def wanted_secrets(apps: Iterable[AppObject]) -> set[Key]:
    """Each Secret that these apps need: for clusters where Secrets are granted one by one."""
    found: set[Key] = set()
    for app in apps:
        found.add((app.meta.namespace, NAMESPACE_KEYS))
        found |= {(app.meta.namespace, ref.name) for ref in references(app)}
    return found


# ---- signing keys


def find_signing_key(namespace: str, ref: SecretKeyRef, secrets: Mapping[Key, SecretObject]) -> SourcedKey:
    """The signing key that a reference means; it never leaves the namespace.

    Raises:
        UnusableKeyError: there is no such key, it may not be read, or it is none.
    """
    secret = secrets.get((namespace, ref.name))
    if secret is None:
        raise UnusableKeyError(
            "SecretNotFound",
            f"there is no Secret {ref.name} with the label {KEY_LABEL}: {SIGNING} in namespace {namespace}",
        )
    return read_signing_key(secret, ref.key)


def read_signing_key(secret: SecretObject, entry: str) -> SourcedKey:
    """The signing key in one entry of a Secret.

    Raises:
        UnusableKeyError: the Secret may not be read as one, or the entry is not there or holds none.
    """
    name = secret.meta.name
    if not labelled(secret, SIGNING):
        message = f"the Secret {name} may not be read as a signing key: label it {KEY_LABEL}: {SIGNING}"
        raise UnusableKeyError("SecretNotLabelled", message)
    if entry not in secret.data:
        has = ", ".join(sorted(secret.data)) or "none"
        raise UnusableKeyError("InvalidKey", f"the Secret {name} has no key {entry}: its keys are {has}")
    found = SourcedKey(secret_text(secret, entry), secret.meta.key, entry)
    try:
        bearer_hash(found.key)
    except ValueError as error:
        raise UnusableKeyError("InvalidKey", f"{found.source} cannot be used: {error}") from None
    return found


def namespace_signing_keys(
    namespace: str, secret: SecretObject | None, *, generate: bool
) -> tuple[tuple[SourcedKey, ...], tuple[str, str] | None]:
    """A namespace's own signing keys, and reason and message where one cannot be used."""
    if secret is None and generate:
        return (), (
            "KeysPending",
            f"the Secret {NAMESPACE_KEYS} is about to be made in namespace {namespace}",
        )
    if secret is None:
        uses = f"{KEY_LABEL}: {EVENT}.{SIGNING}"
        message = f"there is no Secret {NAMESPACE_KEYS} with the label {uses} in namespace {namespace}"
        return (), ("SecretNotFound", message)
    entries = [SIGNING_KEY, *([SIGNING_KEY_FALLBACK] if SIGNING_KEY_FALLBACK in secret.data else [])]
    return _until_unusable(lambda entry: read_signing_key(secret, entry), entries)


def own_signing_keys(
    app: AppObject, secrets: Mapping[Key, SecretObject]
) -> tuple[tuple[SourcedKey, ...], tuple[str, str] | None]:
    """The keys that the app's spec names, and reason and message where one cannot be used."""
    return _until_unusable(lambda ref: find_signing_key(app.meta.namespace, ref, secrets), references(app))


def _until_unusable(
    read: Callable[[T], SourcedKey], places: Iterable[T]
) -> tuple[tuple[SourcedKey, ...], tuple[str, str] | None]:
    """The keys at these places. Without its current key, a fallback alone would sign with what is about to go."""
    found: list[SourcedKey] = []
    try:
        for place in places:
            found.append(read(place))  # noqa: PERF401 - what came before an error counts
    except UnusableKeyError as error:
        return tuple(found), (error.reason, str(error))
    return tuple(found), None


def settled_keys(
    signing: Sequence[SourcedKey],
    problem: tuple[str, str] | None,
    *,
    elsewhere: Mapping[str, str],
    known: AppKeys | None,
    sealer: Seals,
) -> AppKeys:
    """An app's keys, encrypted and without those that open another environment.

    Args:
        signing: the current one first.
        problem: what is wrong with those that are missing.
        elsewhere: which environment has a key, by digest, where it is another one.
        known: the last plan's; the encrypted form is taken from it where the keys are the same.
        sealer: encrypts.
    """
    usable: list[SourcedKey] = []
    for each in signing:
        owner = owner_elsewhere(each.key, elsewhere)
        if owner:
            problem = problem or ("KeyShared", _shared(each.source, owner))
            break
        usable.append(each)
    fingerprint = key_fingerprint([each.key for each in usable])
    if known is not None and known.fingerprint == fingerprint:
        sealed = known.sealed
    else:
        sealed = tuple(sealer.seal(each.key.encode()) for each in usable)
    return AppKeys(signing=tuple(usable), sealed=sealed, fingerprint=fingerprint, problem=problem)


def owner_elsewhere(key: str, elsewhere: Mapping[str, str]) -> str:
    """Which other environment a signing key opens; empty for none."""
    return next((elsewhere[digest] for digest in signing_key_digests(key) if digest in elsewhere), "")


def _shared(source: str, owner: str) -> str:
    return f"{source} also opens the environment {owner}, where it was first: give each environment keys of its own"


def key_fingerprint(keys: Sequence[str]) -> str:
    """What is equal for equal keys in the same order; empty for none.

    Made of hashes that apps show too, and cut: it leads to no key.
    """
    if not keys:
        return ""
    return hashlib.sha256(" ".join(bearer_hash(key) for key in keys).encode()).hexdigest()[:16]


def key_notice(keys: AppKeys, shown_hash: str) -> tuple[str, str] | None:
    """Reason and message where an app that has answered has another current key than the one that it should have.

    `shown_hash`: `Answered.signing_key_hash`. To be said while both keys work: pods keep what they were started with.
    """
    if not shown_hash or not keys.signing:
        return None
    shown_hash = shown_hash.lower()
    current, *others = keys.signing
    if bearer_hash(current.key).startswith(shown_hash):
        return None
    for other in others:
        if bearer_hash(other.key).startswith(shown_hash):
            return (
                "OldSigningKey",
                f"the app still has the old signing key ({other.shown}): start its pods anew with the current one "
                f"({current.shown}) before the old one is taken away",
            )
    return (
        "OtherSigningKey",
        f"the app's current signing key (hash {shown_hash[:_HASH_SHOWN]}) is none that is known here: start its "
        f"pods anew with the current one ({current.shown})",
    )


# ---- event keys


def event_entries(secret: SecretObject) -> list[str]:
    """Which entries of a Secret are event keys."""
    if not labelled(secret, EVENT):
        return []
    return sorted(entry for entry in secret.data if entry == EVENT_KEY or entry.startswith(_MORE_KEYS))


def read_event_keys(
    secret: SecretObject, elsewhere: Mapping[str, str]
) -> tuple[list[EventKey], list[tuple[str, str]]]:
    """The event keys of a Secret that is labelled `event`, and reason and message for each that is not accepted.

    A bound that cannot be read makes every key of the Secret be refused: a key must not do more than was meant.
    """
    name = f"{secret.meta.namespace}/{secret.meta.name}"
    entries = event_entries(secret)
    if not entries:
        return [], [("InvalidKey", f"the Secret {name} is labelled {EVENT} and has no key {EVENT_KEY}")]
    try:
        events = _allowed_events(secret.meta.annotations)
        cidrs = _allowed_cidrs(secret.meta.annotations)
    except ValueError as error:
        return [], [("InvalidBounds", f"no event key of the Secret {name} is accepted: {error}")]
    found: list[EventKey] = []
    problems: list[tuple[str, str]] = []
    for entry in entries:
        key, source = secret_text(secret, entry), f"Secret {name}, key {entry}"
        owner = elsewhere.get(key_digest(key), "")
        if not _EVENT_KEY_FORM.fullmatch(key):
            form = "write up to 255 letters, digits and signs, without spaces, ?, #, % and backslashes"
            problems.append(("InvalidKey", f"{source} is no event key: {form}"))
        elif owner:
            problems.append(("KeyShared", _shared(source, owner)))
        else:
            found.append(EventKey(name=source, digest=key_digest(key), events=events, cidrs=cidrs))
    return found, problems


def _allowed_events(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """Raises ValueError for a list that cannot be meant so; none: all events."""
    if ALLOWED_EVENTS not in annotations:
        return ()
    names = listed(annotations[ALLOWED_EVENTS])
    for name in names:
        if "*" in (name[:-1] if is_pattern(name) else name):
            raise ValueError(
                f"{ALLOWED_EVENTS}: {name[:100]!r}: an asterisk stands for what comes after / or ."
            )
    if not names:
        raise ValueError(
            f"{ALLOWED_EVENTS} is empty: name events, such as shop/*, or take it away to allow all"
        )
    return names


def _allowed_cidrs(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """Raises ValueError for a list that cannot be meant so; none: from everywhere."""
    if ALLOWED_CIDRS not in annotations:
        return ()
    found = []
    for text in listed(annotations[ALLOWED_CIDRS]):
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError as error:
            raise ValueError(f"{ALLOWED_CIDRS}: {str(error)[:200]}; write 10.1.0.0/16, for example") from None
    if not found:
        raise ValueError(f"{ALLOWED_CIDRS} is empty: name networks, or take it away to allow all")
    return tuple(found)


def listed(text: str) -> tuple[str, ...]:
    """What is separated by commas or white space, each once."""
    return tuple(dict.fromkeys(re.split(r"[\s,]+", text.strip(" \t\r\n,")))) if text.strip(" \t\r\n,") else ()


def secret_text(secret: SecretObject, entry: str) -> str:
    """The value of an entry as text, without the line break that editors leave; empty where there is none."""
    return secret.data.get(entry, b"").decode("utf-8", "replace").strip()
