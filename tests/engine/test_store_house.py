"""The whole engine on the real store: whatever crashes and gets lost, every run ends, each result is recorded once."""

import asyncio
import random
import secrets

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from tests.engine.model_apps import FUNCTIONS
from tests.engine.model_driver import TestClock
from tests.engine.model_house import LEASE_MS, House

EVENTS = [*(slug for slug, function in FUNCTIONS.items() if not function.trigger), "ping", "ping", "stop"]
EXECUTORS = ["X", "Y"]


async def open_house(address: Address) -> House:
    """A house of its own."""
    clock = TestClock()
    settings = StoreSettings(prefix=f"{{test-{secrets.token_hex(6)}}}:", lease_ms=LEASE_MS)
    store = Store(address, settings, clock_ms=clock)
    await store.open()
    house = House(store, clock)
    await house.open()
    return house


async def close_house(house: House) -> None:
    """Work everything off, and look at what came of it."""
    try:
        await house.finish_everything()
        await house.check()
        await house.check_the_end()
    finally:
        await house.store.close()


@pytest.mark.parametrize("slug", [slug for slug, function in FUNCTIONS.items() if not function.trigger])
async def test_a_run_in_peace_ends_as_it_should(valkey: Address, slug: str) -> None:
    """Nothing crashes, nothing gets lost."""
    house = await open_house(valkey)
    await house.send(slug)
    await close_house(house)
    assert len(house.runs) >= 1


async def random_life(address: Address, seed: int, steps: int) -> None:
    """Events, crashes and losses in an order that the seed gives."""
    choice = random.Random(seed)
    house = await open_house(address)
    for _ in range(steps):
        executor = choice.choice(EXECUTORS)
        lost = choice.random() < 0.15
        match choice.choices(
            [
                "send",
                "route",
                "lease",
                "answer",
                "tick",
                "cancel",
                "crash",
                "hello",
                "beat",
                "resend",
                "again",
            ],
            [4, 4, 6, 9, 3, 0.3, 0.4, 1, 1, 1, 0.5],
        )[0]:
            case "send":
                await house.send(choice.choice(EVENTS))
            case "route":
                await house.route()
            case "lease":
                await house.lease(executor, choice.randint(1, 4), reply_lost=lost)
            case "answer":
                await house.answer(executor, choice.randrange(8), reply_lost=lost)
            case "tick":
                await house.tick(choice.choice([1, 100, 400, LEASE_MS]))
            case "cancel":
                await house.cancel(choice.randrange(50))
            case "crash":
                house.crash(executor)
            case "hello":
                await house.hello(executor)
            case "beat":
                await house.beat(executor)
            case "resend":
                await house.resend()
            case "again":
                await house.route_again()
        await house.check()
    await close_house(house)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
async def test_a_restless_life_ends_well(valkey: Address, seed: int) -> None:
    """A hundred and fifty things happen, then everything is worked off."""
    await random_life(valkey, seed, steps=150)


@pytest.mark.parametrize(
    "seed",
    [
        *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(100, 112)),
        *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1_000, 1_200)),
    ],
)
async def test_a_long_restless_life_ends_well(valkey: Address, seed: int) -> None:
    """Many runs at once."""
    await random_life(valkey, seed, steps=500)


def house_machine(address: Address, loop: asyncio.Runner) -> type[RuleBasedStateMachine]:
    """What can happen to a house, for Hypothesis to choose from."""

    class Machine(RuleBasedStateMachine):
        house: House | None = None

        @initialize()
        def begin(self) -> None:
            self.house = loop.run(open_house(address))

        async def then_check(self, name: str, *args: object, **options: object) -> None:
            assert self.house is not None
            await getattr(self.house, name)(*args, **options)
            await self.house.check()

        def do(self, name: str, *args: object, **options: object) -> None:
            loop.run(self.then_check(name, *args, **options))

        @rule(name=st.sampled_from(EVENTS), routed=st.booleans())
        def send(self, name: str, routed: bool) -> None:
            self.do("send", name)
            if routed:
                self.do("route")

        @rule()
        def route(self) -> None:
            self.do("route")

        @rule()
        def route_again(self) -> None:
            self.do("route_again")

        @rule(executor=st.sampled_from(EXECUTORS), count=st.integers(1, 4), lost=st.integers(0, 5))
        def lease(self, executor: str, count: int, lost: int) -> None:
            self.do("lease", executor, count, reply_lost=lost == 5)

        @rule(executor=st.sampled_from(EXECUTORS), number=st.integers(0, 3), lost=st.integers(0, 5))
        def answer(self, executor: str, number: int, lost: int) -> None:
            self.do("answer", executor, number, reply_lost=lost == 5)

        @rule(executor=st.sampled_from(EXECUTORS))
        def work(self, executor: str) -> None:
            self.do("lease", executor, 2)
            self.do("answer", executor, 0)
            self.do("answer", executor, 0)

        @rule(ms=st.sampled_from([1, 100, 400, LEASE_MS]))
        def tick(self, ms: int) -> None:
            self.do("tick", ms)

        @rule(number=st.integers(0, 9))
        def cancel(self, number: int) -> None:
            self.do("cancel", number)

        @rule(executor=st.sampled_from(EXECUTORS), what=st.sampled_from(["hello", "beat", "crash"]))
        def trouble(self, executor: str, what: str) -> None:
            assert self.house is not None
            if what == "crash":
                self.house.crash(executor)
            else:
                self.do(what, executor)

        @rule()
        def resend(self) -> None:
            self.do("resend")

        def teardown(self) -> None:
            if self.house is not None:
                loop.run(close_house(self.house))

    return Machine


def test_no_order_of_crashes_and_losses_keeps_a_run_from_its_end(valkey: Address) -> None:
    """Hypothesis chooses what happens, and would shrink what breaks."""
    with asyncio.Runner() as loop:
        run_state_machine_as_test(
            house_machine(valkey, loop),
            settings=settings(
                max_examples=10,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
