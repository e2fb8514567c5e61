"""Where each role may send requests, by its settings."""

import pytest

from innkeeper_apps.classes import Classes
from innkeeper_apps.egress import EgressError, Resolver
from innkeeper_cli.egress import app_classes, dev_policy, request_classes
from innkeeper_cli.settings import DevRole, ExecutorRole, GatewayRole, OperatorRole, SyncRole, load
from innkeeper_engine.model.reach import Reach

PERSON = Reach(env="shop", public_only=True)
PLATFORM = Reach(env="shop")


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What every role needs, and a list for apps beside the one for all."""
    for name, value in {
        "REDIS_URL": "redis://redis:6379/0",
        "EVENT_KEY": "e" * 16,
        "SIGNING_KEY": "aa" * 16,
        "ENCRYPTION_KEY": "bb" * 32,
        "EGRESS_ALLOW": "10.1.0.0/16",
        "APPS_ALLOW": "10.2.0.0/16",
    }.items():
        monkeypatch.setenv(f"INNKEEPER_{name}", value)
    return monkeypatch


async def may(classes: Classes, reach: Reach, address: str) -> bool:
    """Whether an address may be dialled."""
    try:
        await classes.resolver(reach).resolve_checked(address, 80)
    except EgressError:
        return False
    return True


@pytest.mark.parametrize("role", [ExecutorRole, GatewayRole, OperatorRole, SyncRole])
async def test_apps_are_where_their_class_and_both_lists_say(
    role: type[ExecutorRole | GatewayRole | OperatorRole | SyncRole],
) -> None:
    classes = app_classes(load(role))
    found = {
        address: (await may(classes, PLATFORM, address), await may(classes, PERSON, address))
        for address in ("8.8.8.8", "10.1.0.1", "10.2.0.1", "10.3.0.1", "127.0.0.1", "169.254.169.254")
    }
    assert found == {
        "8.8.8.8": (True, True),
        "10.1.0.1": (True, True),
        "10.2.0.1": (True, True),
        "10.3.0.1": (True, False),
        "127.0.0.1": (False, False),
        "169.254.169.254": (False, False),
    }


async def test_requests_of_functions_go_by_the_list_for_all_only() -> None:
    """Where apps are is none of their business."""
    classes = request_classes(load(ExecutorRole))
    for reach in (PLATFORM, PERSON):
        found = [await may(classes, reach, address) for address in ("8.8.8.8", "10.1.0.1", "10.2.0.1")]
        assert found == [True, True, False]


@pytest.mark.parametrize(
    ("managed", "apps", "requests"),
    [
        (
            "false",
            "INNKEEPER_APPS_ALLOW of gateways and executors",
            "INNKEEPER_EGRESS_ALLOW of the executors",
        ),
        (
            "true",
            "endpoint.service .*innkeeper.dev/egress-allow.*egress.apps",
            "innkeeper.dev/egress-allow.*egress.allow",
        ),
    ],
)
async def test_a_refusal_names_what_would_allow_it(
    settings: pytest.MonkeyPatch, managed: str, apps: str, requests: str
) -> None:
    settings.setenv("INNKEEPER_MANAGED", managed)
    role = load(ExecutorRole)
    for classes, says in ((app_classes(role), apps), (request_classes(role), requests)):
        with pytest.raises(EgressError, match=says):
            await classes.resolver(PERSON).resolve_checked("10.9.0.1", 80)


async def test_a_dev_server_reaches_its_machine_and_its_network() -> None:
    resolver = Resolver(dev_policy(load(DevRole)))
    for address in ("127.0.0.1", "::1", "192.168.1.7", "10.9.0.1", "8.8.8.8"):
        assert await resolver.resolve_checked(address, 80) == (address,)
    with pytest.raises(EgressError, match="metadata"):
        await resolver.resolve_checked("169.254.169.254", 80)
