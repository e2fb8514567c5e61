"""What holds keys does not show them."""

import pytest
from structlog.testing import capture_logs

from innkeeper_engine.model.calls import Target
from innkeeper_engine.store.connection import Address
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.world import World, function


@pytest.mark.parametrize(
    "value",
    [
        Target(signing_key="signkey-prod-aa11", signing_key_fallback="signkey-prod-bb22"),
        Address(username="user", password="hunter2"),
        GatewaySettings(event_keys=("event-key",), signing_key="signkey-prod-aa11"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_keys_are_never_shown(value: Target | Address | GatewaySettings) -> None:
    """Not by whatever prints a value: a log call, a traceback, a failing assertion."""
    text = f"{value!r} {value!s} {list(value.__rich_repr__())}"
    assert not [secret for secret in ("aa11", "bb22", "hunter2", "event-key") if secret in text]


async def test_the_log_shows_no_login_of_an_app(world: World) -> None:
    """Nor the query, which holds the key where a hoster protects deployments by one."""
    url = "https://user:hunter2@app.example:8443/api/inngest?bypass=hunter3"
    with capture_logs() as lines:
        await world.register(function("app-fn"), url=url)
    assert "https://app.example:8443/api/inngest" in str(lines)
    assert "hunter" not in str(lines)
