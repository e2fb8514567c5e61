"""Whose counters limits of scope account are, and how those who decide learn that it is another's now."""

import msgspec
import pytest

from innkeeper_engine.model.environments import Environment, Policy, branch_name
from innkeeper_engine.model.functions import App, Concurrency, FunctionConfig
from innkeeper_engine.model.reach import Reach
from innkeeper_engine.registering import register_app
from innkeeper_engine.registry import Registries
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store

BRANCH = branch_name("prod", "feature/x")


@pytest.mark.parametrize(
    ("records", "env", "expected"),
    [
        ([], "prod", "prod"),
        ([], BRANCH, "prod"),
        ([("prod", "")], "prod", "prod"),
        ([("prod", "acme")], "prod", "acme"),
        ([("prod", "acme")], BRANCH, "acme"),
        ([("prod", "acme"), (BRANCH, "")], BRANCH, "acme"),
        ([("prod", "acme"), (BRANCH, "own")], BRANCH, "own"),
        ([("prod", "acme"), (BRANCH, "own")], "prod", "acme"),
        ([("test", "acme")], "prod", "prod"),
    ],
)
async def test_an_environment_counts_for_its_account(
    store: Store, records: list[tuple[str, str]], env: str, expected: str
) -> None:
    """A branch for its parent's where it has none of its own; who has none is an account by itself."""
    for name, account in records:
        await EnvironmentStore(store).write(Environment(name=name, account=account))
    assert (await Registries(store).current(env)).account == expected


async def test_a_change_of_an_account_is_another_version_of_the_registry(store: Store) -> None:
    """What else changes in the record is none: the registry is read again by every executor."""
    kept, registries = EnvironmentStore(store), Registries(store)
    shared = (Concurrency(limit=2, key="event.data.k", scope="account"),)
    config = FunctionConfig(slug="a-f", name="f", url="http://app/", concurrency=shared)
    app = App(id="a", url="http://app/", functions=(config,), checksum="1")
    await register_app(store, "prod", app, now_ms=1)
    record = Environment(name="prod")
    await kept.write(record)
    before = await registries.current("prod")
    await kept.write(msgspec.structs.replace(record, namespaces=("prod",)))
    assert await registries.current("prod") is before
    for account in ("acme", "other", ""):
        await kept.write(msgspec.structs.replace(record, account=account))
        after = await registries.current("prod")
        assert after.version > before.version
        assert after.account == (account or "prod")
        (limit,) = after.functions["a-f"].queueing.step_keys
        assert limit.owner == (account or "prod")
        before = after


async def test_an_account_goes_with_its_record(store: Store) -> None:
    """Also one of a version that wrote something else under its name."""
    kept, registries = EnvironmentStore(store), Registries(store)
    await kept.write(Environment(name="prod", account="acme"))
    assert (await registries.current("prod")).account == "acme"
    await kept.remove("prod")
    assert (await registries.current("prod")).account == "prod"
    await store.command("HSET", store.key("environs"), "prod", "no JSON")
    await kept.write(Environment(name="prod", account="acme"))
    assert (await registries.current("prod")).account == "acme"


async def test_a_registry_of_a_server_that_lost_its_data_is_not_taken_for_a_later_one(store: Store) -> None:
    """The version that a change of an account makes is by the time as well."""
    await register_app(store, "prod", App(id="a", url="http://app/", checksum="1"), now_ms=1)
    known = await store.registry_version()
    await store.command("DEL", *await store.command("KEYS", store.key("*")))
    await EnvironmentStore(store).write(Environment(name="prod", account="acme"))
    assert await store.registry_version() >= known


async def test_an_egress_list_goes_with_its_record(store: Store) -> None:
    """It makes another version, and a branch has its parent's: executors go by it at once."""
    kept, registries = EnvironmentStore(store), Registries(store)
    granted = Environment(name="prod", policy=Policy(egress_allow=("10.1.0.0/16", "billing.internal")))
    app = App(id="a", url="http://app/")
    for env in ("prod", "prod~feature"):
        assert (await registries.current(env)).reach.allow == ()
    await kept.write(granted)
    for env in ("prod", "prod~feature"):
        registry = await registries.current(env)
        assert registry.reach_of(app) == Reach(env="prod", allow=granted.policy.egress_allow)
        assert registry.reach_of(msgspec.structs.replace(app, public_only=True)) == registry.reach
        assert registry.reach.public_only
    version = await store.registry_version()
    await kept.write(msgspec.structs.replace(granted, apps=("a",)))
    assert await store.registry_version() == version, "nothing that the registry has of it"
    await kept.remove("prod")
    assert (await registries.current("prod")).reach.allow == ()
