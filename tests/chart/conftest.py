"""The chart, loaded once, and rendered once under each of its values files."""

from collections.abc import Callable

import pytest
from helm_python import Chart

from tests.chart.rendering import CHART, VALUES_FILES, Json, Release, render, values_of

Render = Callable[..., Release]
"""`render_chart(values, name=..., namespace=...)`."""


@pytest.fixture(scope="session")
def chart() -> Chart:
    return Chart.load(CHART)


@pytest.fixture(scope="session")
def render_chart(chart: Chart) -> Render:
    def rendered(values: Json | None = None, **how: str) -> Release:
        return render(chart, values, **how)  # type: ignore[arg-type]

    return rendered


@pytest.fixture(scope="session")
def releases(chart: Chart) -> dict[str, Release]:
    """A release for every values file, by the file's name without `-values.yaml`."""
    names = [path.name.removesuffix("-values.yaml") for path in VALUES_FILES]
    return {name: render(chart, values_of(name)) for name in names}


@pytest.fixture(params=[path.name.removesuffix("-values.yaml") for path in VALUES_FILES])
def release(request: pytest.FixtureRequest, releases: dict[str, Release]) -> Release:
    """Each of them in turn."""
    return releases[request.param]


@pytest.fixture(scope="session")
def default(releases: dict[str, Release]) -> Release:
    """The release without any values."""
    return releases["default"]
