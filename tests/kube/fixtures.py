"""Fixtures for tests that need a Kubernetes API: import those you use into a conftest.

`cluster` is the emulator unless a real API server is given, by one of

- `KUBEBUILDER_ASSETS`: a folder with the binaries `etcd` and `kube-apiserver` (and `kube-controller-manager`, without
  which nobody collects garbage); they are started and stopped;
- `KUBECONFIG` together with `INNKEEPER_TEST_KUBECONFIG=1`: a cluster that is there, in which the tests install CRDs and
  make namespaces. The second variable is asked for because many people have the first one set, to clusters that no
  test should write to.

Tests that need more than the emulator does carry `@pytest.mark.real_api`, and are skipped without a real API server.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.kube.cluster import Cluster
from tests.kube.connection import connection_from
from tests.kube.emulator import KubeEmulator
from tests.kube.errors import ApiError
from tests.kube.realapi import ApiServer

_WHY = "needs a real Kubernetes API server: set KUBEBUILDER_ASSETS, or KUBECONFIG and INNKEEPER_TEST_KUBECONFIG=1"


def real_api_is_given() -> bool:
    """Whether the environment says where a real API server is."""
    if os.environ.get("KUBEBUILDER_ASSETS"):
        return True
    return bool(os.environ.get("KUBECONFIG")) and os.environ.get("INNKEEPER_TEST_KUBECONFIG") == "1"


def skip_without_real_api(items: Iterable[pytest.Item]) -> None:
    """Skip tests marked `real_api` if there is none; for `pytest_collection_modifyitems`."""
    if real_api_is_given():
        return
    for item in items:
        if item.get_closest_marker("real_api"):
            item.add_marker(pytest.mark.skip(reason=_WHY))


@contextmanager
def refused(code: int, reason: str) -> Iterator[pytest.ExceptionInfo[ApiError]]:
    """Expects a request to be answered with an error; gives it, for a look at its message and details."""
    with pytest.raises(ApiError) as info:
        yield info
    assert (info.value.code, info.value.reason) == (code, reason), info.value.message


def emulated(emulator: KubeEmulator) -> Cluster:
    """An emulator as a cluster."""
    return Cluster(connection_from(emulator.config()), real=False, controllers=True)


@pytest.fixture
def emulator() -> Iterator[KubeEmulator]:
    """An emulator of the test's own, serving."""
    with KubeEmulator() as started:
        yield started


@pytest.fixture(scope="module")
def module_emulator() -> Iterator[KubeEmulator]:
    """An emulator that the tests of a module share."""
    with KubeEmulator() as started:
        yield started


@pytest.fixture(scope="session")
def real_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer | Path | None]:
    """The API server started from `KUBEBUILDER_ASSETS`, the path of the kubeconfig to use, or None."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        with ApiServer(Path(assets), tmp_path_factory.mktemp("api")) as server:
            yield server
    elif real_api_is_given():
        yield Path(os.environ["KUBECONFIG"])
    else:
        yield None


def _real(api: ApiServer | Path) -> Cluster:
    if isinstance(api, ApiServer):
        return Cluster(connection_from(api.config()), real=True, controllers=api.has_controllers)
    return Cluster(connection_from(yaml.safe_load(api.read_text())), real=True, controllers=True)


def _clusters(request: pytest.FixtureRequest, api: ApiServer | Path | None, name: str) -> Iterator[Cluster]:
    made = _real(api) if api is not None else emulated(request.getfixturevalue(name))
    yield made
    made.close()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, real_api: ApiServer | Path | None) -> Iterator[Cluster]:
    """The real cluster if one is given, else the test's `emulator`."""
    yield from _clusters(request, real_api, "emulator")


@pytest.fixture(scope="module")
def module_cluster(request: pytest.FixtureRequest, real_api: ApiServer | Path | None) -> Iterator[Cluster]:
    """The real cluster if one is given, else the module's `module_emulator`."""
    yield from _clusters(request, real_api, "module_emulator")
