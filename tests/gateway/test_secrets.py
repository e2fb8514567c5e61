"""What holds keys does not show them."""

import pytest

from innkeeper_engine.model.calls import Target
from innkeeper_engine.store.connection import Address
from innkeeper_gateway.settings import GatewaySettings


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
