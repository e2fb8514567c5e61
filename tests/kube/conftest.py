"""The emulator, and clusters on it or on a real API server."""

import pytest

from tests.kube.fixtures import (
    cluster,
    emulator,
    module_cluster,
    module_emulator,
    real_api,
    skip_without_real_api,
)

__all__ = ["cluster", "emulator", "module_cluster", "module_emulator", "real_api"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a real API server where there is none."""
    skip_without_real_api(items)
