"""How many requests a test of generated requests sends: some, the same each time, or many others each night."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings


def often(ci: int, nightly: int) -> Any:
    """A fixture: settings for `ci` examples, always the same, and for `nightly` others under that marker."""

    @pytest.fixture(
        name="often",
        params=[pytest.param(ci, id="ci"), pytest.param(nightly, id="nightly", marks=pytest.mark.nightly)],
    )
    def amount(request: pytest.FixtureRequest) -> settings:
        return settings(
            max_examples=request.param,
            derandomize=request.param == ci,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )

    return amount
