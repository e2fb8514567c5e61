"""The data directory: one per project, one server each, one key for its life."""

import os
from pathlib import Path

import pytest

from innkeeper_cli import datadir


def test_each_project_has_its_own_folder_under_the_state_directory(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "HOME": "/home/ann"}
    shop = datadir.default_directory(tmp_path / "a" / "my shop!", environ)
    other = datadir.default_directory(tmp_path / "b" / "my shop!", environ)
    assert shop.parent == tmp_path / "state" / "innkeeper"
    assert shop.name.startswith("my-shop-")
    assert shop != other
    assert shop == datadir.default_directory(tmp_path / "a" / "my shop!", environ)


@pytest.mark.parametrize("state", ["", "relative/path"])
def test_without_a_usable_state_directory_it_is_below_home(state: str) -> None:
    folder = datadir.default_directory(Path("/srv/shop"), {"HOME": "/home/ann", "XDG_STATE_HOME": state})
    assert folder.parent == Path("/home/ann/.local/state/innkeeper")


def test_the_root_directory_is_a_project_too() -> None:
    assert datadir.default_directory(Path("/"), {"HOME": "/root"}).name.startswith("project-")


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    key = datadir.encryption_key(tmp_path)
    assert len(key) == 32
    assert datadir.encryption_key(tmp_path) == key
    assert [(file.name, file.stat().st_mode & 0o777) for file in tmp_path.iterdir()] == [
        ("encryption.key", 0o600)
    ]
    other = tmp_path / "other"
    other.mkdir()
    assert datadir.encryption_key(other) != key


def test_a_key_that_others_can_read_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    datadir.encryption_key(tmp_path)
    (tmp_path / "encryption.key").chmod(0o644)
    with pytest.raises(datadir.DataDirectoryError, match=r"chmod 600 .*encryption\.key"):
        datadir.encryption_key(tmp_path)


def test_a_damaged_key_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "encryption.key"
    path.write_text("0123")
    path.chmod(0o600)
    with pytest.raises(datadir.DataDirectoryError, match="64 hex digits"):
        datadir.encryption_key(tmp_path)
    assert path.read_text() == "0123"


async def test_a_lock_is_free_again_once_released(tmp_path: Path) -> None:
    first = datadir.Lock(tmp_path)
    await first.acquire()
    with pytest.raises(datadir.DataDirectoryError, match=f"pid {os.getpid()}"):
        await datadir.Lock(tmp_path).acquire()
    first.release()
    second = datadir.Lock(tmp_path)
    await second.acquire()
    second.release()


async def test_what_a_dead_owner_left_running_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    first = datadir.Lock(tmp_path)
    await first.acquire()
    # No process has this number: Linux gives out at most 2**22.
    (tmp_path / "lock").write_text(f"{2**22 + 1}\n")
    with pytest.raises(datadir.DataDirectoryError, match="in use"):
        await datadir.Lock(tmp_path).acquire(timeout_s=0.1)
    first.release()


def test_a_path_that_cannot_be_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(datadir.DataDirectoryError, match="cannot make the data directory"):
        datadir.make(tmp_path / "file" / "data")
    made = datadir.make(tmp_path / "deep" / "data")
    assert made.stat().st_mode & 0o777 == 0o700
