"""The emulator, and clusters on it or on a real API server.

Tests of what any API server does use `cluster`, so that a real one tells where the emulator differs from it.
"""

import pytest

from tests.kube.cluster import Cluster
from tests.kube.fixtures import (
    cluster,
    emulator,
    module_cluster,
    module_emulator,
    real_api,
    skip_without_real_api,
)
from tests.kube.samples import crd

__all__ = ["cluster", "emulator", "module_cluster", "module_emulator", "real_api"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a real API server where there is none."""
    skip_without_real_api(items)


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A namespace of the test's own, in a cluster that knows Cakes."""
    cluster.install_crds([crd()])
    return cluster.create_namespace()
