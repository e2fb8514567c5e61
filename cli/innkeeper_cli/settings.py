"""What each role is told by its environment: one model per role, prefix `INNKEEPER_`.

Every secret may come from a file instead (`INNKEEPER_SIGNING_KEY_FILE=/run/secrets/signing-key`), which is how
Kubernetes and Docker hand out Secrets. Errors name the variable and how to get it right, never what it held.
"""

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from innkeeper_cli.spelling import (
    HOW_TO,
    MAKE_KEY,
    AdminToken,
    Backoff,
    EgressAllow,
    EncryptionKey,
    EventKeys,
    EventsRetention,
    Hosts,
    Namespaces,
    Networks,
    OtlpEndpoint,
    OwnSigningKey,
    Pairs,
    Policies,
    RedisUrl,
    Retention,
    Seconds,
    SigningKey,
    WebhooksUrl,
    unless_managed,
)
from innkeeper_engine.retention import DEFAULT_S

PREFIX = "INNKEEPER_"

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]
AutoRegister = Literal["Never", "Existing", "Always"]

LOG_FORMATS: tuple[str, ...] = get_args(LogFormat)


class SettingsError(Exception):
    """The environment does not say what a role needs. The message has one line per setting to put right."""


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads `INNKEEPER_<NAME>_FILE` for every secret of a model."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """The file's text without the newline at its end; None where no file is named.

        Raises:
            SettingsError: both forms are set, or the file cannot be read.
        """
        variable = PREFIX + field_name.upper()
        path = os.environ.get(f"{variable}_FILE")
        if field_name not in Role.SECRETS or not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set: keep one of them")
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"{variable}_FILE: cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise SettingsError(f"{variable}_FILE: {path} is not text; write the key as hex digits") from None
        if not text:
            raise SettingsError(f"{variable}_FILE: {path} is empty; {HOW_TO.get(field_name, MAKE_KEY)}")
        return text, field_name, False

    def __call__(self) -> dict[str, Any]:
        """What the files say."""
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = value
        return found


class Role(BaseSettings):
    """What every role is told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    SECRETS: ClassVar[frozenset[str]] = frozenset(
        {
            "redis_url",
            "event_key",
            "signing_key",
            "signing_key_fallback",
            "encryption_key",
            "webhook_key",
            "admin_token",
        }
    )

    # First: whether keys are needed depends on it.
    managed: bool = False
    """Whether an operator keeps environments, apps and their keys in the store: gateways and executors read none of
    their own then."""
    redis_url: RedisUrl | None = None
    signing_key: SigningKey | None = None
    signing_key_fallback: SigningKey | None = None
    encryption_key: EncryptionKey | None = None
    egress_allow: EgressAllow = ()
    """Networks (CIDR) and host names that URLs of persons may lead to although they are not public."""
    apps_allow: EgressAllow = ()
    """The same for URLs of apps only: not for what `step.fetch` and `step.ai` name."""
    grace_s: Seconds = 25.0
    """How long work under way may take to finish after SIGTERM."""
    log_level: LogLevel = "info"
    log_format: LogFormat = "json"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the files that the environment names; no `.env` file."""
        return init_settings, env_settings, _SecretFiles(settings_cls)


class Traces(Role):
    """Roles that tell of traces."""

    otlp_endpoint: OtlpEndpoint = ""
    """Where an OpenTelemetry collector takes OTLP over HTTP; empty: `OTEL_EXPORTER_OTLP_ENDPOINT`, or nowhere."""
    trace_ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    """How many of the traces that begin here are sampled, from 0 to 1. What senders decide holds for theirs."""


class _Listens(Role):
    host: str = "0.0.0.0"  # noqa: S104 - in a pod, everything that may reach it does so from outside
    port: Annotated[int, Field(ge=1, le=65_535)] = 8288


class _Shows(Role):
    metrics_port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """A port of its own for `/metrics` (with `/live` and `/ready`), for Prometheus alone; nowhere by default."""

    @property
    def shows_at(self) -> tuple[int, ...]:
        """Every port where `/metrics` is answered, each once; what a Service of metrics leads to must be one of them."""
        return () if self.metrics_port is None else (self.metrics_port,)


class _Probed(_Shows):
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """Where `/live`, `/ready` and `/metrics` are answered; nowhere by default."""

    @property
    def shows_at(self) -> tuple[int, ...]:
        """As for all roles, with the port of probes, which answers the same."""
        own = () if self.port is None else (self.port,)
        return tuple(dict.fromkeys((*own, *super().shows_at)))


class _Transforms(Role):
    webhook_workers: Annotated[int, Field(ge=1, le=64)] = 4
    """Processes that run the transforms of webhooks at the same time; they are started when they are needed."""
    webhook_memory_mib: Annotated[int, Field(ge=8, le=1024)] = 64
    """What the JavaScript of one transform may hold, MiB."""


class _Keeps(Role):
    retention_events: EventsRetention = DEFAULT_S
    """How long events are kept, where the environment's namespaces do not say; in seconds once read. The same for
    gateways and executors, as the next two."""
    retention_runs: Retention = DEFAULT_S
    """How long runs are kept once they have ended, with payloads and traces."""
    retention_dead_letters: Retention = DEFAULT_S
    """How long dead letters of webhooks are kept."""


class _Bounds(Role):
    """What is the same for gateways and executors: how large things may be, and how they are kept."""

    max_event_bytes: Annotated[int, Field(ge=1024, le=3 << 20)] = 512 << 10
    """One event, as it is stored."""
    max_request_bytes: Annotated[int, Field(ge=1024, le=100 << 20)] = 10 << 20
    """A request to the gateway, before and after decompression."""
    max_steps: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Steps of a run."""
    compress_over_bytes: Annotated[int, Field(ge=0, le=256 << 20)] = 16 << 10
    """Events, results, outputs and errors that are larger are kept compressed; 0: none."""


class _Leases(_Keeps, _Bounds):
    lease_s: Seconds = 30.0
    """How long a request may go without a heartbeat of its executor. The same for gateways and executors."""


class _Works(_Leases):
    capacity: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Requests to apps at the same time."""
    beat_s: Seconds = 10.0
    retry_backoff_s: Backoff = (15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200)
    """The wait before each retry; the last one holds for all further ones."""
    retry_jitter_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 30.0
    """Up to this much is added to every wait, at random."""

    @model_validator(mode="after")
    def _beat_in_time(self) -> "_Works":
        if self.beat_s * 3 > self.lease_s:
            raise ValueError(
                f"INNKEEPER_BEAT_S is {self.beat_s:g} and INNKEEPER_LEASE_S is {self.lease_s:g}: "
                "a beat must be at most a third of a lease, so that a lost beat loses no lease"
            )
        return self


class GatewayRole(_Listens, _Leases, _Shows, _Transforms, Traces):
    """`innkeeper gateway`: it does not start without its keys.

    The key of webhooks may be missing: then those that want a proof take nothing, since their secrets are sealed. The
    encryption key is not for gateways: it opens the keys that sign requests to apps.
    """

    redis_url: RedisUrl
    event_key: Annotated[EventKeys, AfterValidator(unless_managed)] = Field(None, validate_default=True)
    signing_key: OwnSigningKey = Field(None, validate_default=True)
    webhook_key: EncryptionKey | None = None
    auto_register: AutoRegister | None = None
    """Which apps may register themselves; by default Always, with an operator Existing: those that are declared."""
    trusted_proxies: Networks = ()
    """Networks (CIDR) of proxies whose `X-Forwarded-For` is believed, for event keys that are bound to addresses."""
    token_review: bool = False
    """Whether people may come with their Kubernetes tokens: the API server of this pod is asked about them."""
    admin_token: AdminToken | None = None
    """Who shows it may do everything: for small installations and for emergencies."""
    events_per_s: Annotated[int, Field(ge=0, le=1_000_000)] = 5_000
    """Events a second that one event key may send to this gateway; 0: any. A Namespace's annotation goes before it."""
    requests_per_s: Annotated[int, Field(ge=0, le=1_000_000)] = 500
    """Requests a second that one caller may make to the API of this gateway; 0: any."""
    refusals_per_s: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    """Refusals a second that one key, or address, gets at once; more are held back up to 5 s each. 0: all at once."""
    webhooks_url: WebhooksUrl = ""
    """Where providers reach the gateway; empty: where whoever approves a webhook does."""
    webhook_intents: bool = False
    """Whether `/intent/create-webhook` is served: people approve webhooks there that sites ask for."""
    webhook_redirects: Hosts = ()
    """Sites that may ask for a webhook of any environment, and are given its URL once somebody has approved it."""


class SyncRole(Role):
    """`innkeeper sync`: what it takes to reach apps and the registry."""

    redis_url: RedisUrl
    signing_key: SigningKey


class ExportRole(_Keeps):
    """`innkeeper export`: reads what is kept, for as long as gateways and executors say that it is."""

    redis_url: RedisUrl


class ExecutorRole(_Works, _Probed, Traces):
    """`innkeeper executor`: it does not start without its keys."""

    host: str = "0.0.0.0"  # noqa: S104 - probes come from outside the pod
    redis_url: RedisUrl
    signing_key: OwnSigningKey = Field(None, validate_default=True)
    encryption_key: EncryptionKey


class ReleaseRole(Role):
    """`innkeeper operator release`: which namespaces and which Lease it is about."""

    watch_namespaces: Namespaces = ()
    """None: all."""
    lease_namespace: Annotated[str, Field(min_length=1)] = "default"
    lease_name: Annotated[str, Field(min_length=1)] = "innkeeper-operator"
    """Who holds this Lease works."""


class OperatorRole(ReleaseRole, _Probed):
    """`innkeeper operator`: custom resources become the registry."""

    host: str = "0.0.0.0"  # noqa: S104 - probes and Prometheus come from outside the pod
    port: Annotated[int, Field(ge=1, le=65_535)] = 8290
    """Where `/live`, `/ready` and `/metrics` are answered."""

    redis_url: RedisUrl
    encryption_key: EncryptionKey
    webhook_key: EncryptionKey | None = None
    """Seals the secrets of webhooks for gateways, which have the same one; without it Webhooks with a proof wait."""
    secret_mode: Literal["Labelled", "Named"] = "Labelled"  # noqa: S105 - a mode, no secret
    keys_generate: bool = True
    """Make the keys of a namespace where there are none; never in the mode Named."""
    auto_register: AutoRegister = "Existing"
    base_url: str = ""
    """Where apps reach the gateway, for the variables that are made for them."""
    webhooks_url: WebhooksUrl = ""
    """Where providers reach the gateway, for the URLs of Webhooks; empty: where apps do."""
    default_account: str = ""
    environments: Pairs = {}
    """Environment by namespace, where the Namespaces themselves cannot be read."""
    policies: Policies = {}
    """What namespaces are granted, as JSON, where their annotations cannot be read: see `read_policies`."""
    status_counters: bool = True
    cluster_domain: str = "cluster.local"
    grace_s: Seconds = 5.0


class DevRole(_Listens, _Works, _Transforms, Traces):
    """`innkeeper dev`: needs nothing, takes all."""

    host: str = "127.0.0.1"
    dev_hosts: Hosts = ()
    """Names by which the server may be called, and pages of which may steer it, besides those of this machine."""
    event_key: EventKeys = None
    log_level: LogLevel = "warning"
    log_format: LogFormat = "console"
    grace_s: Seconds = 5.0


R = TypeVar("R", bound=Role)


def load(role: type[R], **given: object) -> R:
    """Read a role's settings from the environment; `given` (not None) goes before it.

    Raises:
        SettingsError: something is missing or wrong; every such setting is named, no value is shown.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return role(**chosen)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(error))) from None


def _explain(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        place = found["loc"]
        message = found["msg"].removeprefix("Value error, ")
        if not place:
            lines.append(message)
            continue
        name = str(place[0])
        variable = PREFIX + name.upper()
        if found["type"] == "missing":
            either = f" (or {variable}_FILE)" if name in Role.SECRETS else ""
            lines.append(f"{variable}{either} is not set: {HOW_TO.get(name, 'it is needed')}")
        else:
            position = f", entry {place[1] + 1}" if len(place) > 1 and isinstance(place[1], int) else ""
            lines.append(f"{variable}{position}: {message}")
    return lines
