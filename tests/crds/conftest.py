"""A cluster for the rules: the emulator, or a real API server where one is given."""

import pytest

from tests.kube.fixtures import module_cluster, module_emulator, real_api, skip_without_real_api

__all__ = ["module_cluster", "module_emulator", "real_api"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a real API server where there is none."""
    skip_without_real_api(items)
