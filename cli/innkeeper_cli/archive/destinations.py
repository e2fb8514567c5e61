"""Where an archive's files are: a folder, or a bucket of a store that speaks S3.

A file is there as a whole or not at all, whatever dies while it is written.
"""

import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

from innkeeper_cli.errors import RoleError

T = TypeVar("T")

ONE_REQUEST_BYTES: Final = 64 << 20
"""Files up to this size go to a bucket in one request, which never replaces another exporter's file."""

_LOCK = "_innkeeper.lock"
_PARTS = "_innkeeper/parts"
"""Files that are being written: one that is not whole is never where readers look."""


class Destination(Protocol):
    """Files by their paths, which have `/` between their parts."""

    async def exists(self, path: str) -> bool:
        """Whether the file is there."""

    async def read(self, path: str) -> bytes | None:
        """A small file; None where there is none."""

    async def write(self, path: str, content: bytes) -> None:
        """Put a small file there, in place of the one that may be there."""

    def spool(self, path: str) -> Any:
        """An asynchronous context with a file to write to; `publish` it inside, or it is gone."""

    async def close(self) -> None:
        """Nothing more will be written."""


class Spool:
    """A file on its way to the destination."""

    def __init__(self, file: IO[bytes], publish: Callable[[], Any]) -> None:
        self.file = file
        self._publish = publish

    async def publish(self) -> None:
        """Put it there, with all that has been written to it."""
        self.file.flush()
        await self._publish()


class Folder:
    """A folder of this machine, for one exporter at a time."""

    def __init__(self, root: Path) -> None:
        """Make the folder where there is none, and take hold of it.

        Raises:
            RoleError: it cannot be written to, or another export is writing there.
        """
        self._root, self._parts = root, root / _PARTS
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RoleError(f"{root} cannot be written to: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise RoleError(
                f"another export is writing to {root}: wait for it, or choose another folder"
            ) from error
        # What a killed export has left.
        for part in self._parts.iterdir():
            part.unlink()

    async def exists(self, path: str) -> bool:
        """Whether the file is there."""
        return (self._root / path).exists()

    async def read(self, path: str) -> bytes | None:
        """A small file; None where there is none."""
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    async def write(self, path: str, content: bytes) -> None:
        """Put a small file there, in place of the one that may be there."""
        async with self.spool(path) as spool:
            spool.file.write(content)
            await spool.publish()

    @asynccontextmanager
    async def spool(self, path: str) -> AsyncIterator[Spool]:
        """A file on the same file system, which is moved when it is whole."""
        target, part = self._root / path, self._parts / path.replace("/", "-")

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:

                async def publish() -> None:
                    os.fsync(file.fileno())
                    part.replace(target)
                    _sync_folder(target.parent)

                yield Spool(file, publish)
        except OSError as error:
            raise RoleError(f"{target} cannot be written: {error.strerror or error}") from error
        finally:
            part.unlink(missing_ok=True)

    async def close(self) -> None:
        """Let others write there."""
        os.close(self._lock)


def _sync_folder(folder: Path) -> None:
    """So that the file is there after a crash of the machine, too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Bucket:
    """A bucket that is spoken to as S3, under a prefix. Who may write to it is told by the usual AWS_ variables.

    Files are made in the machine's temporary folder first.
    """

    def __init__(self, url: str, *, retries: int = 10) -> None:
        """Takes `s3://bucket/prefix`. Nothing is asked yet.

        Raises:
            RoleError: the URL names no bucket, or a variable is wrong.
            ModuleNotFoundError: obstore is not installed.
        """
        import obstore  # noqa: PLC0415
        from obstore.store import S3Store  # noqa: PLC0415

        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise RoleError(
                f"{url!r} is no place for an archive: write s3://bucket/prefix; the endpoint and the credentials go into "
                "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and so on"
            )
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        self._name = url
        self._knows_conditions = True
        self._api = obstore
        self._errors = obstore.exceptions
        try:
            self._store = S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                client_options={"allow_http": endpoint.startswith("http://")},
                retry_config={"max_retries": retries},
            )
        except (self._errors.BaseError, ValueError) as error:
            raise RoleError(f"{url}: {_first_line(error)}") from error

    async def exists(self, path: str) -> bool:
        """Whether the file is there."""
        return await self._asked(self._api.head_async(self._store, path)) is not None

    async def read(self, path: str) -> bytes | None:
        """A small file; None where there is none."""
        found = await self._asked(self._api.get_async(self._store, path))
        return None if found is None else bytes(await self._asked(found.bytes_async()))

    async def write(self, path: str, content: bytes) -> None:
        """Put a small file there, in place of the one that may be there."""
        await self._asked(self._api.put_async(self._store, path, content, use_multipart=False))

    @asynccontextmanager
    async def spool(self, path: str) -> AsyncIterator[Spool]:
        """A file in the temporary folder, which goes to the bucket when it is whole."""
        with tempfile.NamedTemporaryFile(prefix="innkeeper-export-") as file:

            async def publish() -> None:
                await self._upload(path, Path(file.name))

            try:
                yield Spool(file, publish)
            except OSError as error:
                raise RoleError(f"{file.name} cannot be written: {error.strerror or error}") from error

    async def _upload(self, path: str, file: Path) -> None:
        size = os.stat(file).st_size  # noqa: PTH116 - of a file that was just written
        if size <= ONE_REQUEST_BYTES and self._knows_conditions:
            try:
                await self._asked(
                    self._api.put_async(self._store, path, file, mode="create", use_multipart=False),
                    quietly=(self._errors.BaseError,),
                )
                return
            except self._errors.AlreadyExistsError:
                return  # Another exporter was first, or this request had got there before it was sent again.
            except self._errors.BaseError as error:
                # Stores that do not know If-None-Match say 501.
                if "NotImplemented" not in str(error):
                    raise RoleError(f"{self._name}: {_first_line(error)}") from error
                self._knows_conditions = False
        await self._asked(
            self._api.put_async(self._store, path, file, use_multipart=size > ONE_REQUEST_BYTES)
        )

    async def close(self) -> None:
        """Nothing is held."""

    async def _asked(self, asked: Any, *, quietly: tuple[type[Exception], ...] = ()) -> Any:
        """What the store answers; None where it has no such file."""
        try:
            return await asked
        except (FileNotFoundError, self._errors.NotFoundError) as error:
            if "NoSuchBucket" in str(error):
                raise RoleError(f"{self._name}: there is no such bucket") from error
            return None
        except quietly:
            raise
        except (self._errors.BaseError, OSError) as error:
            raise RoleError(f"{self._name}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """The rest are its insides."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def destination(to: str) -> Destination:
    """A destination by its name: `s3://bucket/prefix`, or a folder.

    Raises:
        RoleError: it is none, or cannot be written to.
        ModuleNotFoundError: obstore is not installed.
    """
    if "://" in to:
        return Bucket(to)
    return Folder(Path(to))
