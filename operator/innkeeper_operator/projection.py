"""What the registry shall hold for an app, and when that is worth a write."""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from innkeeper_apps.wire.canonical import canonical_parsed
from innkeeper_apps.wire.register import Registration, declared_content
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_operator.pausing import said_by
from innkeeper_operator.views import AppView

_BETWEEN: Final = "/"


def config_hash(registration: Registration) -> str:
    """What is equal for all pods that declare the same: functions, URL, SDK and version of the app."""
    return registration.checksum


def project(
    view: AppView,
    app_id: str,
    url: str,
    functions: Iterable[FunctionConfig],
    said: Registration | App,
    registered: App | None,
) -> App:
    """The app as the registry shall hold it; `said` is who tells about the SDK: the answer, or what is registered."""
    unusable = view.key_problem is not None and not view.signing_keys
    kept = registered if unusable else None
    app = App(
        id=app_id,
        url=url,
        public_only=_public_only(view, registered),
        functions=tuple(sorted(functions, key=lambda each: each.slug)),
        sdk_language=said.sdk_language,
        sdk_version=said.sdk_version,
        framework=said.framework,
        app_version=said.app_version,
        capabilities=said.capabilities,
        # The keys that were good last go on as long as there is no other: calls that are signed with an old key may
        # work, those without a signature do not.
        signing_keys=kept.signing_keys if kept else view.signing_keys,
        paused=view.app.spec.paused,
        object_name=view.app.meta.name,
        # Without a finalizer nobody may be there to see the object go; so it is said beforehand.
        orphaned=view.app.spec.deletion_policy == "Orphan",
        synced_at_ms=registered.synced_at_ms if registered else view.now_ms,
        version=registered.version if registered else 1,
    )
    app = said_by(app, registered, view.app.meta, view.now_ms)
    return with_checksum(app, keys_mark(kept) if kept else _mark(view.keys))


def _public_only(view: AppView, registered: App | None) -> bool:
    if view.live.url:
        return view.live.public_only
    # Called where it was; or where it says itself.
    return registered.public_only if registered is not None else True


def changed(app: App, registered: App | None) -> bool:
    """Whether an app differs in anything that matters from what is registered."""
    return registered is None or app.checksum != registered.checksum


def with_checksum(app: App, mark: str) -> App:
    """The app with its checksum: a hash of all that matters, and of its keys.

    Encrypted keys are other bytes each time, so `mark` stands for them. What a sync tells about itself and not about
    the app (its time, the id of a deployment, the order of functions) is not in it.
    """
    plain = msgspec.structs.replace(
        app, functions=(), signing_keys=(), checksum="", synced_at_ms=0, version=1
    )
    digest = hashlib.sha256(msgspec.json.encode(plain))
    for function in sorted(app.functions, key=lambda each: each.slug):
        runs = msgspec.structs.replace(function, declared=msgspec.Raw(b"{}"), url="")
        for part in (canonical_parsed(declared_content(function)), msgspec.json.encode(runs)):
            digest.update(len(part).to_bytes(8) + part)
    return msgspec.structs.replace(app, checksum=f"sha256:{digest.hexdigest()}{_BETWEEN}{mark}")


def keys_mark(app: App) -> str:
    """What stands for the keys in a checksum made by `with_checksum`; empty in any other."""
    return app.checksum.partition(_BETWEEN)[2]


def _mark(keys: str) -> str:
    return hashlib.sha256(keys.encode()).hexdigest()[:16] if keys else ""
