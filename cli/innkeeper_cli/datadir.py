"""The folder in which `innkeeper dev` keeps what must survive it: who holds it, and the key that seals its data."""

import asyncio
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from innkeeper_cli.errors import RoleError

KEY_BYTES = 32
_KEY_FILE = "encryption.key"
_LOCK_FILE = "lock"


class DataDirectoryError(RoleError):
    """The data directory cannot be used; the message says why and what to do."""


def default_directory(cwd: Path, environ: Mapping[str, str]) -> Path:
    """The folder of the project in `cwd`, under the user's state directory (XDG Base Directory Specification).

    The name is for people, the hash tells two projects of one name apart.
    """
    state = environ.get("XDG_STATE_HOME", "")
    # The specification: a path that is not absolute is to be ignored.
    base = (
        Path(state)
        if Path(state).is_absolute()
        else Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", cwd.name).strip("-.") or "project"
    digest = hashlib.sha256(str(cwd.resolve()).encode()).hexdigest()[:10]
    return base / "innkeeper" / f"{name[:40]}-{digest}"


def make(directory: Path) -> Path:
    """Create the folder, for its owner only.

    Raises:
        DataDirectoryError: it cannot be made or written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DataDirectoryError(f"cannot make the data directory {directory}: {error.strerror}") from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise DataDirectoryError(f"the data directory {directory} cannot be written to by this user")
    return directory


class Lock:
    """One server per data directory.

    The lock belongs to an open file, which the embedded server inherits: it is free once both are gone, so a new
    server never opens files that an old one is still writing.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _LOCK_FILE
        self._directory = directory
        self._file: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file, to be inherited."""
        if self._file is None:
            raise RuntimeError("the data directory is not locked")
        return self._file

    async def acquire(self, timeout_s: float = 10.0) -> None:
        """Take the lock. What a dead server left running is given `timeout_s` to end.

        Raises:
            DataDirectoryError: another server has the directory; its pid is in the message.
        """
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + timeout_s
        while not _try_lock(file):
            pid = self._holder()
            if (pid and _is_alive(pid)) or time.monotonic() > deadline:
                os.close(file)
                who = f"pid {pid}" if pid else "an unknown process"
                raise DataDirectoryError(
                    f"the data directory {self._directory} is in use by another innkeeper dev ({who}); "
                    "end that one, or give this one a directory of its own with --data"
                )
            # Its owner is gone and the embedded server is writing its last bytes; a lock tells nobody when it is free.
            await asyncio.sleep(0.05)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file

    def release(self) -> None:
        """Let go; the file stays, for removing it would race with the next one to lock it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _holder(self) -> int:
        text = self._path.read_text(errors="replace").strip()
        return int(text) if text.isdigit() else 0


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def encryption_key(directory: Path) -> bytes:
    """The key of this directory: made once, readable by its owner only.

    Raises:
        DataDirectoryError: the file is not such a key. It is left as it is: what it sealed may still matter.
    """
    path = directory / _KEY_FILE
    if path.exists():
        return _read_key(path)
    # Written whole and linked, so that neither a crash nor a second process leaves half a key under this name.
    draft = directory / f".{_KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_hex(KEY_BYTES) + "\n")
        out.flush()
        os.fsync(out.fileno())
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise DataDirectoryError(f"{path} may be read by others (mode {mode:o}); run: chmod 600 {path}")
    text = path.read_text(errors="replace").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise DataDirectoryError(
            f"{path} does not hold 64 hex digits; restore it, or remove the directory to begin anew"
        )
    return bytes.fromhex(text)
