"""How settings are written: the types of their values, and what is said where one cannot be read.

Errors say how to get a value right, never what it held.
"""

import base64
import binascii
import ipaddress
import re
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretBytes, SecretStr, ValidationInfo
from pydantic_core import PydanticKnownError
from pydantic_settings import NoDecode

from innkeeper_apps.egress import EgressPolicy
from innkeeper_engine.retention import LEAST_EVENTS_S, LEAST_S, parse_retention_s
from innkeeper_engine.store.connection import Address
from innkeeper_operator.policies import read_policies

ENCRYPTION_KEY_BYTES = 32
MIN_ADMIN_TOKEN = 24


_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ENVIRONMENT = re.compile(r"[A-Za-z0-9._-]{1,63}")

MAKE_KEY = "make one with: openssl rand -hex 32"
HOW_TO: dict[str, str] = {
    "event_key": f"the key that apps send events with; {MAKE_KEY}",
    "signing_key": f"the key that signs every request to an app; {MAKE_KEY}",
    "encryption_key": f"32 bytes that seal what is stored; {MAKE_KEY}",
    "webhook_key": f"32 bytes that seal the secrets of webhooks; {MAKE_KEY}",
    "redis_url": "where runs are kept, for example redis://redis:6379/0",
}
"""What each required setting is, for the one who has to make it."""


def _split(value: object) -> object:
    """`a, b,c` as a list; what is a sequence already stays."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _spell_encryption_key(value: object) -> object:
    """The 32 bytes that 64 hex digits or 43-44 letters of base64 (either alphabet) spell."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    try:
        key = base64.b64decode(
            text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True
        )
    except binascii.Error:
        key = b""
    if len(key) != ENCRYPTION_KEY_BYTES:
        raise ValueError(f"must be 32 bytes, written as 64 hex digits or as base64; {MAKE_KEY}")
    return key


def _check_signing_key(value: SecretStr) -> SecretStr:
    plain = re.sub(r"^signkey-\w+-", "", value.get_secret_value().strip(), count=1)
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})+", plain):
        raise ValueError(
            "must be an even number of hex digits, with or without signkey-<env>- before them: "
            f"SDKs cannot use any other; {MAKE_KEY}"
        )
    return SecretStr(value.get_secret_value().strip())


def _check_admin_token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value().strip()
    if len(token) < MIN_ADMIN_TOKEN or not token.isascii() or any(map(str.isspace, token)):
        raise ValueError(f"must be {MIN_ADMIN_TOKEN} or more ASCII characters without spaces; {MAKE_KEY}")
    return SecretStr(token)


def _check_redis_url(value: SecretStr) -> SecretStr:
    Address.parse(value.get_secret_value())
    return value


T = TypeVar("T")


def _check_event_keys(value: tuple[SecretStr, ...] | None) -> tuple[SecretStr, ...] | None:
    if value is not None and not value:
        raise ValueError(f"must be one key, or several with commas between them; {MAKE_KEY}")
    return value


def unless_managed(value: T | None, info: ValidationInfo) -> T | None:
    """A key that must be there, but where an operator keeps all keys: then none is read here."""
    if info.data.get("managed"):
        return None
    if value is None:
        raise PydanticKnownError("missing")
    return value


def _check_networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is no network, such as 10.1.0.0/16: {error}") from None
    return values


def _check_webhooks_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_base = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_base = False
    # Everything from a ? or # on would swallow the path that is put behind it, and a user is a secret.
    if not is_base or not re.fullmatch(r"[!-~]+", value) or set("?#@") & set(value):
        raise ValueError(
            "must be an http:// or https:// URL with neither user nor query, such as https://hooks.example.com: "
            "where providers reach the gateway"
        )
    return value


def _check_hosts(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not re.fullmatch(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", value):
            raise ValueError(f"{value!r} is no host name, such as app.example.com or *.example.com")
    return values


def _read_retention(least_s: int) -> BeforeValidator:
    """`7d` as seconds; what is a number already stays."""

    def read(value: object) -> object:
        return parse_retention_s(value, least_s) if isinstance(value, str) else value

    return BeforeValidator(read)


def _check_otlp_endpoint(value: str) -> str:
    parts = urlsplit(value)
    is_base = not parts.path.rstrip("/").endswith("/v1/traces")
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or "@" in parts.netloc
        or not is_base
    ):
        raise ValueError(
            "must be the base of an OTLP endpoint over HTTP, such as http://collector:4318, without /v1/traces; "
            "credentials go into OTEL_EXPORTER_OTLP_HEADERS"
        )
    return value


def _check_egress(values: tuple[str, ...]) -> tuple[str, ...]:
    EgressPolicy.users(values)
    return values


def _check_namespaces(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not _NAMESPACE.fullmatch(value):
            raise ValueError(
                f"{value!r} is no name of a namespace: lower-case letters, digits and dashes, up to 63 of them"
            )
    return tuple(dict.fromkeys(values))


def _split_pairs(value: object) -> object:
    """`prod=live,test=trial` as a mapping; what is a mapping already stays."""
    if not isinstance(value, str):
        return value
    pairs: dict[str, str] = {}
    for part in (part.strip() for part in value.split(",")):
        namespace, equals, environment = (piece.strip() for piece in part.partition("="))
        if not part:
            continue
        if not equals or not _NAMESPACE.fullmatch(namespace) or not _ENVIRONMENT.fullmatch(environment):
            raise ValueError(
                f"{part!r} is not a pair <namespace>=<environment>, such as prod=live; several have commas between them"
            )
        if namespace in pairs:
            raise ValueError(f"the namespace {namespace!r} is named twice")
        pairs[namespace] = environment
    return pairs


def _read_policies(value: object, info: ValidationInfo) -> object:
    """JSON as what each namespace is granted; what is a mapping already stays."""
    return read_policies(value, info.data.get("environments", {})) if isinstance(value, str) else value


Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Retention = Annotated[int, _read_retention(LEAST_S)]
EventsRetention = Annotated[int, _read_retention(LEAST_EVENTS_S)]
SigningKey = Annotated[SecretStr, AfterValidator(_check_signing_key)]
OwnSigningKey = Annotated[SigningKey | None, AfterValidator(unless_managed)]
EncryptionKey = Annotated[SecretBytes, BeforeValidator(_spell_encryption_key)]
EventKeys = Annotated[
    tuple[SecretStr, ...] | None, NoDecode, BeforeValidator(_split), AfterValidator(_check_event_keys)
]
AdminToken = Annotated[SecretStr, AfterValidator(_check_admin_token)]
Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_check_networks)]
RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis_url)]
Backoff = Annotated[
    tuple[Seconds, ...], NoDecode, BeforeValidator(_split), Field(min_length=1, max_length=32)
]
WebhooksUrl = Annotated[str, AfterValidator(_check_webhooks_url)]
Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_check_hosts)]
OtlpEndpoint = Annotated[str, AfterValidator(_check_otlp_endpoint)]
EgressAllow = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_check_egress)]
Namespaces = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_check_namespaces)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_split_pairs)]
Policies = Annotated[dict[str, dict[str, Any]], NoDecode, BeforeValidator(_read_policies)]
