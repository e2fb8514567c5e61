"""Asking an app for its functions: the request, and what its answer or its silence means for people."""

import asyncio
import contextlib
from typing import Any, Final, Literal

from innkeeper_apps.sync import Introspection, Synced, Syncer, SyncError
from innkeeper_apps.transport import TransportError
from innkeeper_apps.wire.canonical import NotJsonError, canonical_parsed, parse
from innkeeper_apps.wire.expressions import CheckExpression
from innkeeper_apps.wire.register import RegistrationError, parse_in_band, shown_url
from innkeeper_engine.cel import compile_expression
from innkeeper_engine.model.clock import Clock
from innkeeper_operator.keys import AppKeys
from innkeeper_operator.views import Answered, Ask, Failed, Outcome, Refused

AT_ONCE: Final = 10
"""Asks under way at the same time, over all apps."""

ServerKind = Literal["dev", "cloud"]

_REASONS: Final = {
    "unauthorized": "Unauthorized",
    "forbidden": "Forbidden",
    "url_not_found": "WrongPath",
    "internal_server_error": "InternalServerError",
    "invalid_signing_key": "BadSignature",
    "missing_signing_key": "NoSigningKey",
    "no_functions": "NoFunctions",
    "invalid_function": "InvalidFunction",
    "missing_branch_env_name": "NoBranch",
    "unsupported_protocol": "WrongScheme",
    "invalid_response": "NotAnInngestApp",
}
"""Reason of the condition by `SyncError.code`, where somebody answered."""

_NO_ANSWER: Final = {
    "DnsFailed": ("DnsFailed", "is the name right, and does it exist in DNS?"),
    "AddressDenied": ("EgressDenied", "it is asked again within five minutes of that"),
    "ConnectionRefused": (
        "ConnectionRefused",
        "does the app listen on this port, on all addresses of its pod?",
    ),
    "ConnectionReset": ("ConnectionReset", "did the app crash, or does it want TLS?"),
    "ConnectTimeout": ("Timeout", "does a NetworkPolicy keep the operator away from it?"),
    "Timeout": ("Timeout", "is the app stuck or overloaded?"),
    "TlsFailed": ("TlsFailed", "is the scheme right, and is its certificate one that is trusted here?"),
    "Unreachable": ("Unreachable", "is there a way from the operator to the app?"),
    "BadRequest": ("InvalidUrl", "put the endpoint right"),
}
"""Reason of the condition, and what to look at, by `TransportError.code`."""

_LOOKED_INTO: Final = frozenset({"unauthorized", "invalid_signing_key", "missing_signing_key"})
"""Failures that the app's mode may explain: in dev mode SDKs do not sign their answers, or refuse what is signed."""

_OTHER_KIND: Final[dict[ServerKind, ServerKind]] = {"dev": "cloud", "cloud": "dev"}


class Asker:
    """Asks apps for their functions, a few at a time. Belongs to the event loop that it is first used in."""

    def __init__(
        self,
        syncer: Syncer,
        clock: Clock,
        *,
        server_kind: ServerKind = "cloud",
        at_once: int = AT_ONCE,
        check: CheckExpression = compile_expression,
    ) -> None:
        """`server_kind`: what `syncer` tells apps that this server is. `check`: as for `parse_in_band`."""
        self._syncer = syncer
        self._clock = clock
        self._kind = server_kind
        self._turns = asyncio.Semaphore(at_once)
        self._check = check

    async def ask(self, ask: Ask, keys: AppKeys) -> Outcome:
        """Ask an app, signed with its current key and then with its fallback, in band wherever its SDK does that.

        Waits for its turn first. Whatever the app does is an outcome, never an error.
        """
        async with self._turns:
            try:
                synced = await self._syncer.sync_app(ask.url, keys=keys.keys, at=ask.at, reach=ask.reach)
            except SyncError as error:
                return await self._failed(ask, keys, error)
        if not synced.in_band:
            return self._registers_itself(ask, synced)
        return self._answered(ask, synced.body)

    def _answered(self, ask: Ask, body: bytes) -> Outcome:
        now_ms = self._clock.now_ms()
        try:
            registration = parse_in_band(body, check=self._check)
        except RegistrationError as error:
            document = _document(body)
            return Refused(
                problems=error.problems,
                declared=_declared(document),
                app_id=_text(document.get("app_id")),
                message=str(error),
                revision=ask.revision,
                time_ms=now_ms,
            )
        inspection = _document(body).get("inspection")
        return Answered(
            registration=registration,
            revision=ask.revision,
            at=ask.at,
            signing_key_hash=_text(inspection.get("signing_key_hash"))
            if isinstance(inspection, dict)
            else "",
            time_ms=now_ms,
        )

    def _registers_itself(self, ask: Ask, synced: Synced) -> Failed:
        return Failed(
            reason="RegistersItself",
            message=f"the app at {_shown(ask)} was asked and registers itself: its registration is about to come",
            reachable=True,
            unchanged=synced.modified is False,
            time_ms=self._clock.now_ms(),
        )

    async def _failed(self, ask: Ask, keys: AppKeys, error: SyncError) -> Failed:
        reason, message, reachable = _explained(error)
        if error.code == "server_kind_mismatch":
            reason, message = self._wrong_mode(ask)
        elif error.code in _LOOKED_INTO:
            mode, said = await self._mode(ask)
            if mode not in ("", self._kind):
                reason, message = self._wrong_mode(ask)
            elif not keys.signing:
                reason = "AppInCloudMode" if error.code == "missing_signing_key" else reason
            elif error.code == "unauthorized" and said is not None:
                message = _wrong_key(ask, keys, said)
            else:
                message = f"{message}; asked with {_sources(keys)}"
        return Failed(reason=reason, message=message, reachable=reachable, time_ms=self._clock.now_ms())

    async def _mode(self, ask: Ask) -> tuple[str, Introspection | None]:
        """The mode that the app says it is in, empty where it does not say, and all that it says."""
        try:
            said = await self._syncer.introspect(ask.url, at=ask.at, reach=ask.reach)
        except SyncError as error:
            # So Python SDKs answer a server of the other kind.
            return (_OTHER_KIND[self._kind] if error.code == "forbidden" else ""), None
        return said.mode, said

    def _wrong_mode(self, ask: Ask) -> tuple[str, str]:
        """Reason and message where the app expects a server of the other kind."""
        if self._kind == "cloud":
            return (
                "AppInDevMode",
                f"the app at {_shown(ask)} is in dev mode, in which it takes requests from anybody: set INNGEST_DEV=0 in "
                "its environment, and take is_production=False (Python) or isDev: true (TypeScript) out of its code",
            )
        return (
            "AppInCloudMode",
            f"the app at {_shown(ask)} is in cloud mode, and this is a dev server: set INNGEST_DEV=1 in its environment",
        )


def _explained(error: SyncError) -> tuple[str, str, bool | None]:
    """Reason, message and whether anybody answered."""
    # Why there was no answer is in the error of the transport, which SyncError was made of.
    cause = error.__context__
    if isinstance(cause, TransportError) and cause.code in _NO_ANSWER:
        reason, advice = _NO_ANSWER[cause.code]
        if error.code == "unsupported_protocol":
            reason = _REASONS[error.code]
        return reason, f"{error}; {advice}", None if reason == "InvalidUrl" else False
    advice = "; look into the app's log" if error.code == "internal_server_error" else ""
    return _REASONS.get(error.code, "SyncFailed"), f"{error}{advice}", True


def _wrong_key(ask: Ask, keys: AppKeys, said: Introspection) -> str:
    tried = " and with ".join(f"the one of {each.shown}" for each in keys.signing)
    has = f"is that of hash {said.signing_key_hash[:12]}" if said.signing_key_hash else "is another one"
    if said.has_signing_key is False:
        has = "is not set"
    return (
        f"the app at {_shown(ask)} refused requests (401) signed with {tried}: its INNGEST_SIGNING_KEY {has}, "
        "or its clock is more than 5 minutes off"
    )


def _sources(keys: AppKeys) -> str:
    return " and ".join(each.source for each in keys.signing)


def _shown(ask: Ask) -> str:
    url = shown_url(ask.url)
    return f"{url} (asked at {ask.at})" if ask.at else url


def _document(body: bytes) -> dict[str, Any]:
    """A JSON object as far as it can be read; empty where it is none."""
    try:
        document = parse(body)
    except (NotJsonError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _declared(document: dict[str, Any]) -> dict[str, bytes]:
    """What was declared of each function that has a name, whatever is wrong with it, as JSON."""
    functions = document.get("functions")
    found: dict[str, bytes] = {}
    for function in functions if isinstance(functions, list) else ():
        if isinstance(function, dict) and isinstance(function.get("id"), str):
            with contextlib.suppress(NotJsonError):  # nested too deeply to be shown
                found.setdefault(function["id"], canonical_parsed(function))
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
