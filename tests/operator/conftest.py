"""One house per module: a cluster (the emulator, or a real API server if one is given), apps and an operator."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from innkeeper_engine.store.connection import Address
from tests.kube.cluster import Cluster
from tests.kube.fixtures import (
    cluster,
    emulator,
    module_cluster,
    module_emulator,
    real_api,
    skip_without_real_api,
)
from tests.operator.house import House, RunningOperator, crds, read_configuration

__all__ = ["cluster", "emulator", "module_cluster", "module_emulator", "real_api"]

CRDS = Path(__file__).parents[2] / "crds"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a real API server where there is none."""
    skip_without_real_api(items)


@pytest.fixture(scope="module")
def house(module_cluster: Cluster, valkey: Address) -> Iterator[House]:
    """A house without an operator yet."""
    module_cluster.install_crds(crds(CRDS))
    with tempfile.TemporaryDirectory() as folder:
        made = House(module_cluster, read_configuration(module_cluster, Path(folder) / "kubeconfig"), valkey)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def running(house: House) -> RunningOperator:
    """The operator of the module, with the settings of a cluster-wide installation."""
    operator = house.operator()
    operator.settled()
    return operator
