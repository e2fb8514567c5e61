"""Where apps that register themselves may be, where no operator declares them."""

from collections.abc import Sequence

import pytest

from innkeeper_apps.classes import Classes
from innkeeper_apps.egress import EgressPolicy
from innkeeper_apps.wire.canonical import canonical
from innkeeper_apps.wire.register import RegistrationError, parse_registration
from innkeeper_engine.registry import read_apps
from innkeeper_engine.store.store import Store
from innkeeper_gateway.registrars import DirectRegistrar
from tests.gateway.world import function, registration

PRIVATE = "http://app.internal:3000/api/inngest"
ANSWERS = {"app.internal": ["10.0.0.5"], "app.example": ["8.8.8.8"], "rebound.example": ["169.254.169.254"]}


def rules(*allow: str) -> Classes:
    """As a gateway has them."""

    async def lookup(host: str, _port: int) -> Sequence[str]:
        if host not in ANSWERS:
            raise OSError("no such name")
        return ANSWERS[host]

    return Classes(EgressPolicy.apps(), EgressPolicy.users(allow), advice="set the list", lookup=lookup)


async def register(registrar: DirectRegistrar, url: str, functions_at: str = "") -> bool:
    """Whether the registration changed anything."""
    step = {"id": "step", "name": "step", "runtime": {"type": "http", "url": functions_at or url}}
    body = canonical(registration(function("app-fn", steps={"step": step}), url=url))
    return (await registrar.register("default", parse_registration(body), body, 1)).modified


async def is_public_only(store: Store) -> bool:
    """The class of the app that is registered."""
    return (await read_apps(store, "default"))["app"].public_only


async def test_a_public_app_registers_as_a_persons(store: Store) -> None:
    registrar = DirectRegistrar(store, rules())
    assert await register(registrar, "https://app.example/api/inngest")
    assert await is_public_only(store)
    assert not await register(registrar, "https://app.example/api/inngest"), "nothing has changed"


@pytest.mark.parametrize(
    "url", [PRIVATE, "http://rebound.example/", "http://127.0.0.1:3000/", "http://[::1]/"]
)
async def test_one_elsewhere_is_refused_with_what_allows_it(store: Store, url: str) -> None:
    with pytest.raises(RegistrationError, match=r"not allowed: .* address; set the list"):
        await register(DirectRegistrar(store, rules()), url)
    assert await read_apps(store, "default") == {}


async def test_its_functions_are_looked_at_too(store: Store) -> None:
    """They are what is called."""
    with pytest.raises(RegistrationError, match=r"app\.internal"):
        await register(DirectRegistrar(store, rules()), "https://app.example/", functions_at=PRIVATE)


@pytest.mark.parametrize("entry", ["app.internal", "*.internal", "10.0.0.0/8"])
async def test_a_list_allows_it(store: Store, entry: str) -> None:
    """It stays a person's: the executors have the list too."""
    assert await register(DirectRegistrar(store, rules(entry)), PRIVATE)
    assert await is_public_only(store)


async def test_a_name_that_only_executors_know_is_not_refused(store: Store) -> None:
    """Whether it may be called is theirs to say when they look it up."""
    assert await register(DirectRegistrar(store, rules()), "http://elsewhere.example/")
    assert await is_public_only(store)


async def test_what_was_named_may_be_private_and_register_itself_from_then_on(store: Store) -> None:
    """At just this host and port; anything else is looked at anew."""
    assert await register(DirectRegistrar(store, rules(), named=[PRIVATE]), PRIVATE)
    assert not await is_public_only(store)
    itself = DirectRegistrar(store, rules())
    assert not await register(itself, PRIVATE)
    assert not await is_public_only(store)
    for url, functions_at in (
        (PRIVATE, "http://10.0.0.6/"),
        ("http://app.internal:6379/", ""),
        ("http://10.0.0.6/", ""),
    ):
        with pytest.raises(RegistrationError, match="not allowed"):
            await register(itself, url, functions_at)
    assert await register(itself, "https://app.example/api/inngest")
    assert await is_public_only(store)
    with pytest.raises(RegistrationError, match="not allowed"):
        await register(itself, PRIVATE)


async def test_naming_covers_what_an_app_says_of_itself_only_at_that_place(store: Store) -> None:
    """An app that was asked could otherwise name the neighbours."""
    with pytest.raises(RegistrationError, match="not allowed"):
        await register(DirectRegistrar(store, rules(), named=[PRIVATE]), "http://10.0.0.6:3000/")


async def test_a_dev_server_has_no_rules_here(store: Store) -> None:
    assert await register(DirectRegistrar(store), "http://127.0.0.1:3000/api/inngest")
    assert not await is_public_only(store)
