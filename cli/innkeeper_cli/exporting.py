"""`innkeeper export`: what is over goes to an archive, before Redis forgets it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import click

from innkeeper_cli.archive.destinations import destination
from innkeeper_cli.archive.exporter import Exporter, Written
from innkeeper_cli.archive.formats import FormatName
from innkeeper_cli.archive.manifest import manifest_of
from innkeeper_cli.archive.sources import Events, Runs, Source
from innkeeper_cli.archive.windows import Wanted, check_window_ms
from innkeeper_cli.errors import RoleError
from innkeeper_cli.settings import ExportRole
from innkeeper_engine.durations import DurationError, format_duration, parse_duration_ms
from innkeeper_engine.model.times import rfc3339
from innkeeper_engine.store.archive import Archive
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.lists import Lists
from innkeeper_engine.store.store import Store, StoreSettings

KINDS = ("runs", "events")
MOST_BRANCHES = 1_000

_BEHIND_MS = 60_000
"""Histories that are behind by more are told of."""


class Job(NamedTuple):
    """What the command line asks for."""

    to: str
    wanted: Wanted = Wanted()
    environments: tuple[str, ...] = ()
    """None: all."""
    kinds: tuple[str, ...] = KINDS
    format: FormatName | None = None
    window_ms: int | None = None
    adopt: bool = False


def parse_moment_ms(text: str) -> int:
    """A date, or a date and time, as ISO 8601 has them, in UTC where no offset is given.

    Raises:
        ValueError: it is none.
    """
    try:
        at = datetime.fromisoformat(text)
        utc = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        at_ms = round(utc.timestamp() * 1000)
    except (ValueError, OverflowError):
        at_ms = -1
    if at_ms < 0:
        raise ValueError(f"{text!r} is no time: write 2026-11-23 or 2026-11-23T05:00:00Z")
    return at_ms


def parse_window_ms(text: str) -> int:
    """The length of windows.

    Raises:
        ValueError: it is none.
    """
    try:
        return check_window_ms(parse_duration_ms(text))
    except DurationError as error:
        raise ValueError(str(error)) from None


def parse_within_ms(text: str) -> int:
    """A duration that is some time.

    Raises:
        ValueError: it is none.
    """
    try:
        found = parse_duration_ms(text)
    except DurationError as error:
        raise ValueError(str(error)) from None
    if found <= 0:
        raise ValueError(f"{text!r} is no time ahead: write 6h, or 2d")
    return found


async def export(role: ExportRole, job: Job) -> None:
    """Write what is wanted and print what came of it.

    Raises:
        StoreUnavailableError: no Redis or Valkey.
        RoleError: the destination cannot be written to, or is another archive.
        ModuleNotFoundError: what the destination needs is not installed.
    """
    place = destination(job.to)
    settings = StoreSettings(events_keep_s=role.retention_events, runs_keep_s=role.retention_runs)
    store = Store(Address.parse(role.redis_url.get_secret_value()), settings, name="innkeeper-export")
    try:
        await store.open()
        manifest = await manifest_of(
            place,
            source=await store.registry_id(),
            window_ms=job.window_ms,
            format_name=job.format,
            adopt=job.adopt,
        )
        exporter = Exporter(place, manifest, told=lambda path, rows: click.echo(f"{path}: {rows} rows"))
        archive = Archive(store)
        sources: dict[str, Source] = {"runs": Runs(store), "events": Events(store)}
        for env in await _environments(store, job.environments):
            standing = await archive.standing(env)
            for kind in job.kinds:
                _tell(await exporter.export(sources[kind], env, job.wanted, standing))
    finally:
        await store.close()
        await place.close()


async def _environments(store: Store, wanted: Iterable[str]) -> list[str]:
    """The environments to export, all that are known where none is named; what they are called in the store.

    Raises:
        RoleError: one that is named is not known.
    """
    declared = {each.name for each in (await EnvironmentStore(store).read()).environments}
    known = declared | set(await store.environments())
    for parent in sorted(known):
        known |= set(await Lists(store).branches(parent, MOST_BRANCHES))
    unknown = sorted(set(wanted) - known)
    if unknown:
        raise RoleError(
            f"there is no environment {unknown[0]!r}: known are {', '.join(sorted(known)[:20]) or 'none'}"
        )
    return sorted(set(wanted) or known)


def _tell(written: Written) -> None:
    """One line of what is there now; what may be wrong goes to stderr."""
    through = "" if written.through_ms is None else f", through {rfc3339(written.through_ms)}"
    click.echo(f"{written.kind} of {written.env}: {written.rows} in {written.files} files{through}")
    if written.gap is not None:
        click.echo(
            f"innkeeper export: the last export of {written.kind} of {written.env} was longer ago than they are kept: "
            f"what is of {rfc3339(written.gap.from_ms)} to {rfc3339(written.gap.until_ms)} may be gone; "
            "export more often",
            err=True,
        )
    if written.held_back_ms > _BEHIND_MS:
        click.echo(
            f"innkeeper export: histories are behind by {format_duration(written.held_back_ms)}, what ended since then "
            "waits for the next export; do executors run?",
            err=True,
        )
