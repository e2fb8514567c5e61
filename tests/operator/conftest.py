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
from tests.operator.house import House, RunningOperator, StartOperator, crds, read_configuration

__all__ = ["cluster", "emulator", "module_cluster", "module_emulator", "real_api"]

WHOLE_OPERATOR = {"house", "running"}
"""Fixtures of tests that take their time."""

HERE = Path(__file__).parent
CRDS = HERE.parents[1] / "crds"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs a whole operator; skip what needs a real API server where there is none."""
    for item in items:
        # The hook sees the tests of other folders too, which may have fixtures of these names.
        if item.path.parent == HERE and WHOLE_OPERATOR.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)
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


@pytest.fixture
def start(house: House) -> Iterator[StartOperator]:
    """Starts operators, which end with the test."""
    started: list[RunningOperator] = []

    def start_one(**options: object) -> RunningOperator:
        started.append(house.operator(**options))
        return started[-1]

    yield start_one
    for each in started:
        if not each.stopped:
            each.stop()


@pytest.fixture
def start_settled(start: StartOperator) -> StartOperator:
    """As `start`; each has looked at all there is when it is given."""

    def start_one(**options: object) -> RunningOperator:
        operator = start(**options)
        operator.settled()
        return operator

    return start_one
