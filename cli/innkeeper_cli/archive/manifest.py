"""What an archive says of itself, beside its files.

`_innkeeper.json` says what its windows and files are: it is written first and holds for ever.
`_innkeeper/<kind>/<env>.json` says how far it goes: that saves work and is for people. Which windows are done is told by
the files alone.
"""

from typing import Final

import msgspec

from innkeeper_cli.archive.destinations import Destination
from innkeeper_cli.archive.formats import FormatName
from innkeeper_cli.archive.windows import DEFAULT_MS, Progress, check_window_ms, path_name
from innkeeper_cli.errors import RoleError
from innkeeper_engine.durations import format_duration

PATH: Final = "_innkeeper.json"
VERSION: Final = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all files of an archive."""

    version: int = VERSION
    source: str
    """The id of the registry in the Redis that it is of. Another one with the same environments has other runs."""
    window_ms: int
    format: FormatName


async def manifest_of(
    destination: Destination,
    *,
    source: str,
    window_ms: int | None,
    format_name: FormatName | None,
    adopt: bool,
) -> Manifest:
    """The archive's manifest; made, where there is none, of what is wanted.

    `adopt`: the archive goes on with another Redis.

    Raises:
        RoleError: it is the archive of another Redis, or has other windows or files than those that are wanted.
    """
    raw = await destination.read(PATH)
    known = None if raw is None else _read(raw)
    if known is not None:
        _check(known, window_ms, format_name)
        if known.source == source:
            return known
        if not adopt:
            raise RoleError(
                "the archive there is of another Redis, or of this one before it lost its data: windows that it has "
                "would be left out. Choose another place, or say --adopt to go on with it"
            )
        made = msgspec.structs.replace(known, source=source)
    else:
        made = Manifest(source=source, window_ms=window_ms or DEFAULT_MS, format=format_name or "parquet")
    await destination.write(PATH, msgspec.json.encode(made))
    return made


async def read_progress(destination: Destination, kind: str, env: str) -> Progress | None:
    """How far the archive goes; None where nothing is known."""
    raw = await destination.read(_progress_path(kind, env))
    try:
        return None if raw is None else msgspec.json.decode(raw, type=Progress)
    except msgspec.MsgspecError:
        return None  # The files tell the same, and it is written again.


async def write_progress(destination: Destination, kind: str, env: str, progress: Progress) -> None:
    """Say how far it goes now."""
    await destination.write(_progress_path(kind, env), msgspec.json.encode(progress))


def _progress_path(kind: str, env: str) -> str:
    return f"_innkeeper/{kind}/{path_name(env)}.json"


def _read(raw: bytes) -> Manifest:
    try:
        known = msgspec.json.decode(raw, type=Manifest)
        check_window_ms(known.window_ms)
    except (msgspec.MsgspecError, ValueError) as error:
        raise RoleError(f"{PATH} at the destination is no manifest of an archive: {error}") from error
    if known.version != VERSION:
        raise RoleError(
            f"the archive there is of version {known.version}, and this Innkeeper writes {VERSION}"
        )
    return known


def _check(known: Manifest, window_ms: int | None, format_name: FormatName | None) -> None:
    if window_ms not in (None, known.window_ms):
        raise RoleError(
            f"the archive there has windows of {format_duration(known.window_ms)}, not of "
            f"{format_duration(window_ms or 0)}: leave --window out, or choose another place"
        )
    if format_name not in (None, known.format):
        raise RoleError(
            f"the archive there is {known.format}, not {format_name}: leave --format out, or choose another place"
        )
