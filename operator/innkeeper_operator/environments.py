"""Environments: which namespaces are one, which keys open it, and the Secrets that the operator makes for it. Pure.

A namespace is an environment of its own, unless who may edit the Namespace says otherwise. A branch environment is a
field of an InngestApp: it is opened by the keys of the environment beside which it stands.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from innkeeper_apps.wire.keys import signing_key_digests
from innkeeper_engine.model.environments import (
    Environment,
    EventKey,
    Policy,
    SigningKey,
    branch_name,
    key_digest,
)
from innkeeper_operator.actions import Apply, Create, Tell, tell
from innkeeper_operator.keys import (
    EVENT,
    EVENT_KEY,
    SIGNING,
    AppKeys,
    Key,
    Seals,
    SourcedKey,
    event_entries,
    labelled,
    namespace_signing_keys,
    own_signing_keys,
    owner_elsewhere,
    read_event_keys,
    secret_text,
    settled_keys,
)
from innkeeper_operator.made_secrets import (
    namespace_keys,
    workload_secret,
    workload_secret_name,
    workload_variables,
)
from innkeeper_operator.objects import (
    ACCOUNT,
    APP_KIND,
    ENVIRONMENT,
    KEY_LABEL,
    NAMESPACE_KEYS,
    AppObject,
    Meta,
    NamespaceObject,
    SecretObject,
)
from innkeeper_operator.policies import read_policy
from innkeeper_operator.settings import OperatorSettings

_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")


class EnvironmentView(msgspec.Struct, frozen=True, kw_only=True):
    """All that is seen of one environment."""

    name: str
    namespaces: dict[str, NamespaceObject | None]
    """By name; None where the Namespace cannot be read."""
    apps: tuple[AppObject, ...]
    secrets: dict[Key, SecretObject]
    """The Secrets of these namespaces that may be read."""


class EnvironmentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for one environment. Printing it shows no key."""

    environment: Environment
    """Its record, for the store."""
    branches: tuple[Environment, ...]
    """The records of its branches, which have no keys of their own."""
    app_keys: dict[Key, AppKeys]
    """By namespace and name of the InngestApp; to be given to the next plan as `known`."""
    applies: tuple[Apply | Create, ...]
    """Secrets that are missing or no longer right."""
    problems: tuple[Tell, ...]
    """What is wrong with Secrets and Namespaces, as Events about them. What concerns an app is in its keys."""


def environment_of(namespace: str, seen: NamespaceObject | None, settings: OperatorSettings) -> str:
    """The environment of a namespace: as the settings say, as its annotation says, or its own name.

    A name that cannot be an environment's counts as absent; `plan_environment` tells of it.
    """
    named = _named(namespace, seen, settings)
    return named if _NAME.fullmatch(named) else namespace


def views_of(
    apps: Iterable[AppObject],
    secrets: Iterable[SecretObject],
    namespaces: Iterable[NamespaceObject],
    settings: OperatorSettings,
) -> dict[str, EnvironmentView]:
    """Every environment in which there is an app or a key, by name."""
    seen = {namespace.meta.name: namespace for namespace in namespaces}
    apps_in: defaultdict[str, list[AppObject]] = defaultdict(list)
    secrets_in: defaultdict[str, list[SecretObject]] = defaultdict(list)
    for app in apps:
        apps_in[app.meta.namespace].append(app)
    for secret in secrets:
        secrets_in[secret.meta.namespace].append(secret)
    found: defaultdict[str, dict[str, NamespaceObject | None]] = defaultdict(dict)
    for namespace in sorted({*apps_in, *secrets_in}):
        found[environment_of(namespace, seen.get(namespace), settings)][namespace] = seen.get(namespace)
    return {
        name: EnvironmentView(
            name=name,
            namespaces=inside,
            apps=tuple(app for each in inside for app in sorted(apps_in[each], key=lambda app: app.meta.key)),
            secrets={secret.meta.key: secret for each in inside for secret in secrets_in[each]},
        )
        for name, inside in found.items()
    }


# ---- whose key is whose


def keys_elsewhere(
    views: Iterable[EnvironmentView], stored: Iterable[Environment]
) -> Callable[[str], Mapping[str, str]]:
    """Which keys an environment may not use since they open another one: for its name, owner by digest.

    A key opens one environment. Of several that have it, it stays with the one that `stored` says it opens; else it
    goes to the one of the oldest Secret.
    """
    claims: defaultdict[str, dict[str, tuple[str, str, str]]] = defaultdict(dict)
    for view in views:
        for digest, secret in _claims(view):
            age = (secret.meta.created, *secret.meta.key)
            claims[digest][view.name] = min(age, claims[digest].get(view.name, age))
    shared = {digest: by for digest, by in claims.items() if len(by) > 1}
    owners: dict[str, str] = {}
    for environment in stored if shared else ():
        for digest in _digests(environment):
            if environment.name in shared.get(digest, ()):
                owners.setdefault(digest, environment.name)
    for digest, by in shared.items():
        owners.setdefault(digest, min(by, key=lambda name: (by[name], name)))
    return lambda name: {digest: owner for digest, owner in owners.items() if owner != name}


def _claims(view: EnvironmentView) -> Iterable[tuple[str, SecretObject]]:
    for secret in view.secrets.values():
        for entry in event_entries(secret):
            yield key_digest(secret_text(secret, entry)), secret
    signing = [
        key for namespace in view.namespaces for key in _of_namespace(view, namespace, generate=False)[0]
    ]
    signing += [key for app in view.apps for key in own_signing_keys(app, view.secrets)[0]]
    for key in signing:
        for digest in signing_key_digests(key.key):
            yield digest, view.secrets[key.secret]


def _digests(environment: Environment) -> Iterable[str]:
    for event_key in environment.event_keys:
        yield event_key.digest
    for signing in environment.signing_keys:
        yield from signing.digests


# ---- the plan


def plan_environment(
    view: EnvironmentView,
    *,
    urls: Mapping[Key, str],
    elsewhere: Mapping[str, str],
    known: Mapping[Key, AppKeys],
    held: Policy | None,
    settings: OperatorSettings,
    sealer: Seals,
    random_hex: Callable[[], str],
) -> EnvironmentPlan:
    """What to do for one environment.

    Args:
        view: all that is seen of it.
        urls: how each app is called (`Live.url`), by its namespace and name; empty or absent while not known.
        elsewhere: what `keys_elsewhere` says for it.
        known: `app_keys` of the plan before.
        held: the policy of its record in the store; None where it has none.
        settings: of the operator. Where Secrets are granted by name, the admin makes all of them.
        sealer: encrypts signing keys for the store.
        random_hex: 64 random hex digits; a key is made of each.
    """
    app_keys: dict[Key, AppKeys] = {}
    applies: list[Apply | Create] = []
    for namespace in view.namespaces:
        makes = _makes_keys(view, namespace, settings)
        if makes and (namespace, NAMESPACE_KEYS) not in view.secrets:
            applies.append(Create(manifest=namespace_keys(namespace, view.name, random_hex)))
        of_namespace = _of_namespace(view, namespace, generate=makes)
        for app in (app for app in view.apps if app.meta.namespace == namespace):
            signing, problem = (
                of_namespace if app.spec.signing_key is None else own_signing_keys(app, view.secrets)
            )
            app_keys[app.meta.key] = settled_keys(
                signing, problem, elsewhere=elsewhere, known=known.get(app.meta.key), sealer=sealer
            )
    event_keys, wrong_keys = _event_keys(view, elsewhere)
    settled = [settings.policies[each] for each in sorted(view.namespaces) if each in settings.policies]
    policy, wrong_policies = read_policy(view.name, view.namespaces.values(), held=held, settled=settled)
    workload, wrong_names = _workload_secrets(view, app_keys, event_keys, urls, settings)
    return EnvironmentPlan(
        environment=_record(view, event_keys, app_keys, elsewhere, policy, settings),
        branches=_branches(view, policy, settings),
        app_keys=app_keys,
        applies=(*applies, *workload),
        problems=(
            *wrong_keys,
            *wrong_names,
            *_namespace_problems(view, settings),
            *(
                _warning("Namespace", wrong.namespace.meta, wrong.reason, wrong.message)
                for wrong in wrong_policies
            ),
        ),
    )


def _may_write(view: EnvironmentView, namespace: str, settings: OperatorSettings) -> bool:
    """Whether the operator makes Secrets there: not where the admin does, and nothing can be made in what is going."""
    seen = view.namespaces[namespace]
    return settings.secret_mode == "Labelled" and not (seen is not None and seen.meta.deleting)  # noqa: S105


def _makes_keys(view: EnvironmentView, namespace: str, settings: OperatorSettings) -> bool:
    """Whether a namespace is given keys where it has none."""
    wanted = any(app.meta.namespace == namespace and not app.meta.deleting for app in view.apps)
    return settings.generate_keys and wanted and _may_write(view, namespace, settings)


def _of_namespace(
    view: EnvironmentView, namespace: str, *, generate: bool
) -> tuple[tuple[SourcedKey, ...], tuple[str, str] | None]:
    secret = view.secrets.get((namespace, NAMESPACE_KEYS))
    return namespace_signing_keys(namespace, secret, generate=generate)


def _event_keys(view: EnvironmentView, elsewhere: Mapping[str, str]) -> tuple[list[EventKey], list[Tell]]:
    found: list[EventKey] = []
    problems: list[Tell] = []
    for key in sorted(view.secrets):
        secret = view.secrets[key]
        if labelled(secret, EVENT):
            accepted, wrong = read_event_keys(secret, elsewhere)
            found += accepted
            problems += [_warning("Secret", secret.meta, reason, message) for reason, message in wrong]
        elif secret.meta.name == NAMESPACE_KEYS:
            message = f"its {EVENT_KEY} is not read: label it {KEY_LABEL}: {EVENT}.{SIGNING}"
            problems.append(_warning("Secret", secret.meta, "SecretNotLabelled", message))
    return found, problems


# ---- the records


def _record(
    view: EnvironmentView,
    event_keys: Sequence[EventKey],
    app_keys: Mapping[Key, AppKeys],
    elsewhere: Mapping[str, str],
    policy: Policy,
    settings: OperatorSettings,
) -> Environment:
    signing = [
        key
        for namespace in view.namespaces
        for key in _of_namespace(view, namespace, generate=False)[0]
        if not owner_elsewhere(key.key, elsewhere)
    ]
    signing += [key for keys in app_keys.values() for key in keys.signing]
    by_digests = {
        signing_key_digests(key.key): key.source for key in sorted(signing, key=lambda k: k.source)[::-1]
    }
    return Environment(
        name=view.name,
        namespaces=tuple(sorted(view.namespaces)),
        account=_account(view, settings),
        branches=tuple(sorted({app.spec.branch for app in view.apps if app.spec.branch})),
        event_keys=tuple(event_keys),
        signing_keys=tuple(
            SigningKey(name=source, digests=digests)
            for digests, source in sorted(by_digests.items(), key=lambda pair: pair[1])
        ),
        apps=_app_ids(app for app in view.apps if not app.spec.branch),
        policy=policy,
    )


def _branches(view: EnvironmentView, policy: Policy, settings: OperatorSettings) -> tuple[Environment, ...]:
    of: defaultdict[str, list[AppObject]] = defaultdict(list)
    for app in view.apps:
        if app.spec.branch:
            of[app.spec.branch].append(app)
    return tuple(
        Environment(
            name=branch_name(view.name, branch),
            namespaces=tuple(sorted({app.meta.namespace for app in of[branch]})),
            # A branch counts with the environment beside which it stands.
            account=_account(view, settings) or view.name,
            apps=_app_ids(of[branch]),
            policy=policy,
        )
        for branch in sorted(of)
    )


def _app_ids(apps: Iterable[AppObject]) -> tuple[str, ...]:
    """Their app ids, as far as these are known."""
    return tuple(sorted({str(app.spec.app_id or app.status.get("appId") or "") for app in apps} - {""}))


def _named(namespace: str, seen: NamespaceObject | None, settings: OperatorSettings) -> str:
    """What a namespace is said to be, valid or not; empty for nothing."""
    annotated = seen.meta.annotations.get(ENVIRONMENT, "") if seen is not None else ""
    return settings.environments.get(namespace) or annotated


def _account(view: EnvironmentView, settings: OperatorSettings) -> str:
    """The account, by the first of its namespaces that names one; empty: the environment's own."""
    named = (seen.meta.annotations.get(ACCOUNT) for _, seen in sorted(view.namespaces.items()) if seen)
    return next((account for account in named if account), settings.default_account)


def _namespace_problems(view: EnvironmentView, settings: OperatorSettings) -> list[Tell]:
    found: list[Tell] = []
    account = _account(view, settings)
    for namespace, seen in sorted(view.namespaces.items()):
        if seen is None:
            continue
        named = _named(namespace, seen, settings)
        if named and not _NAME.fullmatch(named):
            message = (
                f"{ENVIRONMENT}: {named[:100]!r} cannot be the name of an environment, so the namespace is one of its "
                "own: write up to 253 letters, digits, dots, dashes and underscores"
            )
            found.append(_warning("Namespace", seen.meta, "InvalidEnvironment", message))
        other = seen.meta.annotations.get(ACCOUNT)
        if other and other != account:
            message = (
                f"{ACCOUNT}: {other[:100]!r} does not count: the environment {view.name} is in the account {account!r} "
                "by another namespace; give all its namespaces the same account"
            )
            found.append(_warning("Namespace", seen.meta, "AccountConflict", message))
    return found


def _workload_secrets(
    view: EnvironmentView,
    app_keys: Mapping[Key, AppKeys],
    accepted: Sequence[EventKey],
    urls: Mapping[Key, str],
    settings: OperatorSettings,
) -> tuple[list[Apply], list[Tell]]:
    """The Secrets for workloads that are missing or no longer right, and what is wrong."""
    applies: list[Apply] = []
    problems: list[Tell] = []
    digests = {key.digest for key in accepted}
    for app in view.apps:
        namespace, keys = app.meta.namespace, app_keys[app.meta.key].keys
        own = view.secrets.get((namespace, NAMESPACE_KEYS))
        event_key = secret_text(own, EVENT_KEY) if own is not None else ""
        if app.meta.deleting or not settings.base_url or not _may_write(view, namespace, settings):
            continue
        # Without a key no Secret: a pod that waits for it is seen, one that starts without a key fails later.
        if not keys or key_digest(event_key) not in digests:
            continue
        there = view.secrets.get((namespace, workload_secret_name(app.meta.name)))
        url = urls.get(app.meta.key, "")
        wanted = workload_variables(app, keys, event_key, url=url, base_url=settings.base_url, there=there)
        try:
            applies += workload_secret(app, wanted, there)
        except ValueError as error:
            problems.append(_warning(APP_KIND, app.meta, "NameTooLong", str(error)))
    return applies, problems


def _warning(kind: str, meta: Meta, reason: str, message: str) -> Tell:
    return tell(kind, meta, "Warning", reason, message)
