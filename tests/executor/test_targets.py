"""With which keys an app is called, and what it is told of its environment."""

import secrets
from collections.abc import Sequence

import msgspec
import orjson
import pytest

from innkeeper_apps.sealing import Sealer
from innkeeper_engine.decide.retries import RetryPolicy
from innkeeper_engine.model.calls import Target
from innkeeper_engine.model.clock import RandomIds, SystemClock
from innkeeper_engine.model.environments import Environment, Policy, branch_name
from innkeeper_engine.model.functions import App
from innkeeper_engine.model.reach import Reach
from innkeeper_engine.registering import register_app
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from innkeeper_executor.settings import ExecutorSettings
from innkeeper_executor.surroundings import Surroundings
from tests.executor.house import KEY, Hand, House, function, output, soon

REACH = Reach(env="shop", allow=("10.1.0.0/16",), public_only=True)
OWN = Target(signing_key="signkey-own-aa", signing_key_fallback="signkey-own-bb")


def sealed(*keys: str, by: bytes = KEY) -> tuple[bytes, ...]:
    """Keys as an operator writes them into a registration."""
    return tuple(Sealer(by).seal(key.encode()) for key in keys)


async def register(house: House, env: str = "default", keys: Sequence[bytes] = ()) -> None:
    """An app with one function, `f`, and these keys."""
    made = App(
        id="app",
        url="http://127.0.0.1:9/api/inngest",
        functions=(function("f"),),
        checksum=secrets.token_hex(8),
        signing_keys=tuple(keys),
    )
    await register_app(house.store, env, made, now_ms=house.clock.now_ms())


async def run_once(house: House, hand: Hand, env: str = "default") -> None:
    """Start a run of `f` and take its request."""
    await house.store.append(env, [house.event("test/f")])
    await hand.route_all()
    assert await hand.due() == 1


@pytest.fixture
def surroundings(store: Store) -> Surroundings:
    """Those of an executor with the house's encryption key."""
    return Surroundings(store, ExecutorSettings(), Sealer(KEY), SystemClock(), RandomIds())


def app(*keys: bytes) -> App:
    """An app with these keys."""
    return App(id="app", url="http://app/", signing_keys=keys)


@pytest.mark.parametrize(
    ("keys", "target"),
    [
        ((), OWN),
        (("a",), Target(signing_key="a")),
        (("new", "old"), Target(signing_key="new", signing_key_fallback="old")),
        (("newest", "new", "old"), Target(signing_key="newest", signing_key_fallback="new")),
    ],
)
def test_an_apps_own_keys_go_first(surroundings: Surroundings, keys: tuple[str, ...], target: Target) -> None:
    """The current one, then the one before it; who has none is called with the executor's."""
    assert surroundings.target(app(*sealed(*keys)), OWN, REACH) == msgspec.structs.replace(
        target, reach=REACH
    )


def test_keys_are_opened_once(surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for every call; other ones are other ones."""
    opened: list[bytes] = []
    unseal = Sealer.unseal

    def counted(self: Sealer, text: bytes) -> bytes:
        opened.append(text)
        return unseal(self, text)

    monkeypatch.setattr(Sealer, "unseal", counted)
    first, second = app(*sealed("a")), app(*sealed("a"))
    for _ in range(3):
        for each in (first, second):
            assert surroundings.target(each, OWN, REACH) == Target(signing_key="a", reach=REACH)
    assert len(opened) == 2


async def test_a_call_is_made_with_the_keys_that_the_registration_holds(house: House) -> None:
    """From the next call on, when they change."""
    hand = house.hand()
    hand.driver.scripts["f"] = lambda call: output()
    for keys in (("one",), ("two", "one"), ("two",)):
        await register(house, keys=sealed(*keys))
        await run_once(house, hand)
        await soon(hand.worker.wait_until_idle())
    assert [(each.signing_key, each.signing_key_fallback) for each in hand.driver.targets] == [
        ("one", None),
        ("two", "one"),
        ("two", None),
    ]


async def test_keys_that_do_not_open_fail_the_attempt_and_say_why(house: House) -> None:
    """Nothing is sent: a request that is not signed might be taken by an app that does not look."""
    await register(house, keys=sealed("secret", by=bytes(32)))
    hand = house.hand(policy=RetryPolicy(backoff_ms=(60_000,)))
    await run_once(house, hand)
    await soon(hand.worker.wait_until_idle())
    assert hand.driver.calls == []
    (run_id,) = await house.store.recent_runs("default", 1)
    (item,) = await house.items(run_id)
    assert (await house.item(item))["a"] == "1"
    notes = await house.store.command("XRANGE", house.store.key("hist"), "-", "+")
    said = [orjson.loads(fields[3]) for _, fields in notes]
    assert "the signing keys of the app 'app' cannot be used" in str(said)
    assert "does not open with this encryption key" in str(said)


@pytest.mark.parametrize(
    ("env", "told"),
    [("default", ""), ("prod", "prod"), (branch_name("prod", "feature/x"), "feature/x")],
)
async def test_an_app_is_told_its_environment_as_people_call_it(house: House, env: str, told: str) -> None:
    """Nothing where there is only one."""
    await register(house, env)
    hand = house.hand()
    hand.driver.scripts["f"] = lambda call: output()
    await run_once(house, hand, env)
    await soon(hand.worker.wait_until_idle())
    assert [call.env for call in hand.driver.calls] == [told]


@pytest.mark.parametrize("public_only", [True, False])
async def test_a_call_goes_where_the_apps_class_and_the_environments_list_say(
    house: House, public_only: bool
) -> None:
    """A change of the list counts from the next call on."""
    app = App(
        id="app",
        url="http://127.0.0.1:9/api/inngest",
        public_only=public_only,
        functions=(function("f"),),
        checksum="1",
    )
    await register_app(house.store, "default", app, now_ms=house.clock.now_ms())
    hand = house.hand()
    hand.driver.scripts["f"] = lambda call: output()
    lists: list[tuple[str, ...]] = [(), ("10.1.0.0/16",), ("billing.internal",)]
    for allow in lists:
        await EnvironmentStore(house.store).write(
            Environment(name="default", policy=Policy(egress_allow=allow))
        )
        await run_once(house, hand)
        await soon(hand.worker.wait_until_idle())
    assert [each.reach for each in hand.driver.targets] == [
        Reach(env="default", allow=allow, public_only=public_only) for allow in lists
    ]
