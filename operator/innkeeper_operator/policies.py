"""What the platform grants an environment, as annotations of its Namespaces, or settings, say. Pure.

Only who may edit a Namespace sets these: they are the platform's to give, not an app's to take. Of several namespaces
in one environment the first by name that says something counts. An operator that cannot read Namespaces is told in its
settings instead.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from innkeeper_apps.egress import EgressPolicy
from innkeeper_engine.model.environments import Policy
from innkeeper_engine.retention import LEAST_EVENTS_S, parse_retention_s
from innkeeper_operator.keys import listed
from innkeeper_operator.objects import (
    EGRESS_ALLOW,
    EVENTS_PER_SECOND,
    RETENTION_DEAD_LETTERS,
    RETENTION_EVENTS,
    RETENTION_RUNS,
    WEBHOOK_REDIRECTS,
    NamespaceObject,
)

_MOST_EVENTS_PER_S: Final = 1_000_000
_MOST_LISTED: Final = 1_000
_LONGEST_HOST: Final = 253
_NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class PolicyProblem(NamedTuple):
    """An annotation that does not count."""

    namespace: NamespaceObject
    reason: str
    """CamelCase, one word."""
    message: str
    """Which annotation, why, and what would be right. It has none of the annotation's longer values whole."""


Grants = dict[str, Any]
"""Some fields of a `Policy`, by name."""


def read_policy(
    env: str,
    namespaces: Iterable[NamespaceObject | None],
    *,
    held: Policy | None = None,
    settled: Iterable[Grants] = (),
) -> tuple[Policy, tuple[PolicyProblem, ...]]:
    """What an environment is granted, and what does not count.

    A value that cannot be meant so changes nothing: what counted before holds until it is mended, so that a slip of the
    pen neither deletes what was to be kept nor opens or closes a way out. Where nothing did, the next namespace's
    counts, else the installation's default. Where a namespace says something else than what counts, that is told.

    Args:
        env: the environment's name, for messages.
        namespaces: its Namespaces; None for those that cannot be read.
        held: what counts now; None where nothing is known of the environment.
        settled: what the settings grant its namespaces; goes before what Namespaces say.
    """
    granted: dict[str, Any] = {}
    for grants in settled:
        granted |= {field: value for field, value in grants.items() if field not in granted}
    sources = dict.fromkeys(granted, "")
    problems: list[PolicyProblem] = []
    for namespace in sorted((each for each in namespaces if each is not None), key=lambda n: n.meta.name):
        for annotation, (field, read) in _READ.items():
            text = namespace.meta.annotations.get(annotation)
            if text is None:
                continue
            try:
                value = read(text)
            except ValueError as error:
                before = getattr(held, field, None)
                if before and field not in granted:
                    granted[field], sources[field] = before, namespace.meta.name
                stays = "what counted before still does" if before else "it counts as not there"
                message = f"{annotation} does not count: {str(error)[:500]}. Until that is mended, {stays}"
                problems.append(PolicyProblem(namespace, "InvalidPolicy", message))
                continue
            if granted.setdefault(field, value) != value:
                by = f"its namespace {sources[field]}" if sources[field] else "the operator's settings"
                message = (
                    f"{annotation} does not count: the environment {env} has another one by {by}; "
                    "give all its namespaces the same, or only one"
                )
                problems.append(PolicyProblem(namespace, "PolicyConflict", message))
            sources.setdefault(field, namespace.meta.name)
    return Policy(**granted), tuple(problems)


def read_policies(text: str, environments: Mapping[str, str]) -> dict[str, Grants]:
    """What settings grant namespaces: `{"shop": {"retentionRuns": "7d", "egressAllow": ["10.1.0.0/16"]}}` by namespace.

    Args:
        text: JSON.
        environments: the environment of namespaces that are not called like it.

    Raises:
        ValueError: it is no such JSON, something in it cannot be meant so, or two namespaces of one environment differ.
    """
    try:
        named = msgspec.json.decode(text, type=dict[str, dict[str, str | int | list[str]]])
    except msgspec.DecodeError as error:
        raise ValueError(f'must be JSON such as {{"shop": {{"retentionRuns": "7d"}}}}: {error}') from None
    found: dict[str, Grants] = {}
    of: dict[tuple[str, str], tuple[str, Any]] = {}
    for namespace, values in sorted(named.items()):
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError(f"{namespace[:100]!r} is no name of a namespace")
        grants: dict[str, Any] = {}
        for key, value in values.items():
            field, granted = _read_key(namespace, key, value)
            grants[field] = granted
            first, other = of.setdefault(
                (environments.get(namespace, namespace), field), (namespace, granted)
            )
            if other != granted:
                raise ValueError(
                    f"{first}.{key} and {namespace}.{key} differ, and both namespaces are one environment: "
                    "give them the same, or only one"
                )
        found[namespace] = grants
    return found


def _read_key(namespace: str, key: str, value: str | int | list[str]) -> tuple[str, Any]:
    if key not in _KEYS:
        raise ValueError(f"{namespace}.{key[:100]} is nothing that can be granted: {', '.join(_KEYS)} can")
    annotation, kind = _KEYS[key]
    if not isinstance(value, kind):
        raise ValueError(f"{namespace}.{key} must be {_KINDS[kind]}")
    field, read = _READ[annotation]
    try:
        return field, read(", ".join(value) if isinstance(value, list) else str(value))
    except ValueError as error:
        raise ValueError(f"{namespace}.{key}: {error}") from None


def _networks_and_hosts(text: str) -> tuple[str, ...]:
    entries = _some(text, "networks and hosts, such as 10.1.0.0/16, billing.internal")
    EgressPolicy.users(entries)
    return entries


def _events_per_s(text: str) -> int:
    wanted = text.strip()
    # Not isdigit alone: it takes digits of other scripts, and powers.
    number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) <= 9 else 0
    if not 1 <= number <= _MOST_EVENTS_PER_S:
        raise ValueError(
            f"{text[:50]!r} is no number of events a second: write one from 1 to {_MOST_EVENTS_PER_S}"
        )
    return number


def _hosts(text: str) -> tuple[str, ...]:
    entries = _some(text, "hosts, such as app.example.com, *.example.org")
    for entry in entries:
        labels = entry.removeprefix("*.").split(".")
        if len(entry) > _LONGEST_HOST or not all(map(_is_label, labels)):
            raise ValueError(
                f"{entry[:100]!r} is no host: write names such as app.example.com, without scheme, port and path"
            )
    return tuple(dict.fromkeys(entry.lower() for entry in entries))


def _is_label(text: str) -> bool:
    letters = text.replace("-", "").replace("_", "")
    return 0 < len(text) <= 63 and letters.isascii() and letters.isalnum()


def _some(text: str, example: str) -> tuple[str, ...]:
    entries = listed(text)
    if not entries:
        raise ValueError(f"it is empty: name {example}, or take it away")
    if len(entries) > _MOST_LISTED:
        raise ValueError(f"it names {len(entries)}; at most {_MOST_LISTED} can be named")
    return entries


_READ: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    RETENTION_EVENTS: ("events_keep_s", lambda text: parse_retention_s(text, LEAST_EVENTS_S)),
    RETENTION_RUNS: ("runs_keep_s", parse_retention_s),
    RETENTION_DEAD_LETTERS: ("letters_keep_s", parse_retention_s),
    EGRESS_ALLOW: ("egress_allow", _networks_and_hosts),
    EVENTS_PER_SECOND: ("events_per_s", _events_per_s),
    WEBHOOK_REDIRECTS: ("redirects", _hosts),
}

_KEYS: Final[dict[str, tuple[str, type]]] = {
    "retentionEvents": (RETENTION_EVENTS, str),
    "retentionRuns": (RETENTION_RUNS, str),
    "retentionDeadLetters": (RETENTION_DEAD_LETTERS, str),
    "egressAllow": (EGRESS_ALLOW, list),
    "eventsPerSecond": (EVENTS_PER_SECOND, int),
    "webhookRedirects": (WEBHOOK_REDIRECTS, list),
}
_KINDS: Final = {
    str: "a text such as 7d",
    list: "a list of texts",
    int: "a whole number",
}
