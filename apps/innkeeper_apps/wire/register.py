"""What an app says about itself at a sync, turned into checked configuration or into a list of problems.

Two forms hold the same content: the body that an SDK posts to `/fn/register`, and its answer to an
in-band sync. A registration is taken as a whole or refused as a whole.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from innkeeper_apps.wire.canonical import NotJsonError, canonical_parsed, parse
from innkeeper_apps.wire.expressions import CheckExpression
from innkeeper_apps.wire.fields import Fields, Findings, Problem, fold, kind
from innkeeper_apps.wire.function_config import read_function, url_problem
from innkeeper_engine.cel import compile_expression
from innkeeper_engine.model.functions import App, FunctionConfig

_SDK = re.compile(r"(?:inngest-)?(?P<language>[^:]+):v?(?P<version>.+)")
_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "0.0.0.0", "localhost", "::1", "::"})  # noqa: S104 - compared, not bound
# Query parameters with which the server calls an app, or an app is told of its deployment.
_CALL_PARAMS: Final = frozenset({"fnid", "stepid", "probe", "deployid"})
_DEPLOY_PARAMS: Final = frozenset({"deployid"})
_SHOWN_PROBLEMS: Final = 20


class RegistrationError(Exception):
    """The registration is refused. `problems` holds everything found, at least one."""

    def __init__(self, problems: Sequence[Problem], summary: str) -> None:
        self.problems = tuple(problems)
        self.summary = summary
        """What kind of refusal it is, in the words that SDKs know from Inngest."""
        shown = "; ".join(str(problem) for problem in self.problems[:_SHOWN_PROBLEMS])
        more = len(self.problems) - _SHOWN_PROBLEMS
        super().__init__(f"{summary}: {shown}" + (f"; and {more} more" if more > 0 else ""))


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """One app as it declared itself, validated."""

    app_id: str
    url: str
    """The serve endpoint, without the parameters of single calls."""
    functions: tuple[FunctionConfig, ...]
    sdk_language: str = ""
    sdk_version: str = ""
    framework: str = ""
    app_version: str = ""
    capabilities: dict[str, str] = {}
    deploy_type: str = ""
    """`ping`, or `connect` for an app that connects by itself; empty where the SDK does not say."""
    env: str = ""
    """The branch environment, where an in-band answer names one."""
    checksum: str
    """Equal where two registrations declare the same, whichever form and host name they came with."""
    warnings: tuple[Problem, ...] = ()

    def as_app(self, synced_at_ms: int, version: int) -> App:
        """The app as the engine knows it."""
        return App(
            id=self.app_id,
            url=self.url,
            functions=self.functions,
            sdk_language=self.sdk_language,
            sdk_version=self.sdk_version,
            framework=self.framework,
            app_version=self.app_version,
            capabilities=self.capabilities,
            checksum=self.checksum,
            synced_at_ms=synced_at_ms,
            version=version,
        )


def parse_registration(body: bytes, *, check: CheckExpression = compile_expression) -> Registration:
    """Read the body of `POST /fn/register`.

    Raises:
        RegistrationError: it is no JSON object, names no app, or a function in it is not valid; with all
        problems.
    """
    return _parse(body, "appName", check)


def parse_in_band(body: bytes, *, check: CheckExpression = compile_expression) -> Registration:
    """Read an app's answer to an in-band sync (`x-inngest-sync-kind: in_band`).

    Raises:
        RegistrationError: as for `parse_registration`.
    """
    return _parse(body, "app_id", check)


def _parse(body: bytes, id_key: str, check: CheckExpression) -> Registration:
    findings = Findings()
    try:
        document = parse(body)
        if not isinstance(document, dict):
            raise NotJsonError(f"it is {kind(document)}, an object is wanted")
        return _registration(document, id_key, findings, check)
    except (NotJsonError, RecursionError) as error:
        message = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RegistrationError([Problem(None, "body", message)], "Invalid request") from None


def _registration(
    document: dict[str, Any], id_key: str, findings: Findings, check: CheckExpression
) -> Registration:
    fields = Fields(document, findings)
    app_id = fields.identity(id_key, "give the SDK's client an id")
    if app_id is None:
        raise RegistrationError(findings.problems, "App ID required")
    url = _app_url(fields)
    language, version = _sdk(fields)
    registration = Registration(
        app_id=app_id,
        url=url,
        functions=_functions(fields, check),
        sdk_language=language,
        sdk_version=version,
        framework=fields.text("framework") or "",
        app_version=fields.text("appVersion") or "",
        capabilities=_capabilities(fields),
        deploy_type=fields.text("deployType") or "",
        env=fields.text("env") or "",
        checksum="",
    )
    if findings.problems:
        about_functions = any(problem.function for problem in findings.problems)
        summary = "At least one function is invalid" if about_functions else "Invalid request"
        raise RegistrationError(findings.problems, summary)
    return msgspec.structs.replace(
        registration, checksum=_checksum(registration), warnings=tuple(findings.warnings)
    )


def _functions(fields: Fields, check: CheckExpression) -> tuple[FunctionConfig, ...]:
    found: dict[str, FunctionConfig] = {}
    for index, value in enumerate(fields.items("functions")):
        config = read_function(value, index, fields.findings, check)
        if config is None:
            continue
        if config.slug in found:
            fields.findings.of(config.slug).problem(
                "id", "is the id of two functions: give each function an id of its own"
            )
        found[config.slug] = config
    return tuple(found.values())


def _sdk(fields: Fields) -> tuple[str, str]:
    """Language and version, from `"sdk": "js:v4.24.0"` or from `sdk_language` and `sdk_version`."""
    match = _SDK.fullmatch(fields.text("sdk") or "")
    language, version = (match["language"], match["version"]) if match else ("", "")
    return fields.text("sdk_language") or language, fields.text("sdk_version") or version


def _capabilities(fields: Fields) -> dict[str, str]:
    """What the SDK can do besides answering calls; in-band it may stand in the introspection only."""
    declared = fields.get("capabilities")
    inspection = fields.get("inspection")
    if declared is None and isinstance(inspection, dict):
        declared = Fields(inspection, fields.findings).get("capabilities")
    if not isinstance(declared, dict):
        return {}
    return {name: value for name, value in sorted(declared.items()) if isinstance(value, str)}


def _app_url(fields: Fields) -> str:
    url = fields.text("url")
    wrong = "is missing: write where the app is served" if url is None else url_problem(url)
    if url is None or wrong is not None:
        fields.problem("url", wrong or "")
        return ""
    return app_url(url)


def app_url(url: str) -> str:
    """The serve endpoint of a valid URL: without default port, fragment, and the parameters of a call."""
    return _rewritten(url, _CALL_PARAMS)


def shown_url(url: str) -> str:
    """A valid URL as logs may show it: a login in it and what a query holds may open doors."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def app_url_key(url: str) -> str:
    """What is equal for all URLs of one endpoint: `app_url`, with one name for all hosts that are local."""
    return _with_one_local_host(app_url(url))


def _rewritten(url: str, dropped_params: frozenset[str]) -> str:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    netloc = parts.netloc
    if parts.port is not None and parts.port == _DEFAULT_PORTS.get(scheme):
        netloc = netloc.rpartition(":")[0]
    query = "&".join(
        pair for pair in parts.query.split("&") if fold(pair.partition("=")[0]) not in dropped_params
    )
    return urlunsplit((scheme, netloc, parts.path, query, ""))


def _with_one_local_host(url: str) -> str:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host in _LOCAL_HOSTS:
        host = "localhost"
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    return urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))


def _checksum(registration: Registration) -> str:
    """A hash of what was declared.

    Left out is what differs between two syncs of the same code: telemetry, the id of the deployment, the
    name of the local host, the order of functions, nulls, and the kind of sync. What was read of it counts too: a
    version that makes more of the same declaration registers it anew.
    """
    content = {
        "app": registration.app_id,
        "url": app_url_key(registration.url),
        "sdk": [registration.sdk_language, registration.sdk_version, registration.framework],
        "version": registration.app_version,
        "capabilities": registration.capabilities,
        "functions": [
            [declared_content(function), _read_content(function)]
            for function in sorted(registration.functions, key=lambda each: each.slug)
        ],
    }
    return f"sha256:{hashlib.sha256(canonical_parsed(content)).hexdigest()}"


def declared_content(function: FunctionConfig) -> dict[str, Any]:
    """What an app declared of a function, equal for two syncs of the same code; for hashing."""
    declared = parse(bytes(function.declared))
    return {
        "url": _with_one_local_host(_rewritten(function.url, _DEPLOY_PARAMS)),
        "retries": function.retries,
        "config": _without_nulls({key: value for key, value in declared.items() if fold(key) != "steps"}),
    }


def _read_content(function: FunctionConfig) -> str:
    """What was made of a declaration (JSON), without the parts that are in `declared_content`."""
    made = msgspec.structs.replace(function, declared=msgspec.Raw(b"{}"), url="")
    return msgspec.json.encode(made).decode()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
