"""Kills at random moments under load break no promise."""

import random
from pathlib import Path

import pytest

from tests.crash.storm import Plan, Storm


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(50, marks=pytest.mark.slow),
        pytest.param(500, marks=pytest.mark.nightly),
    ],
)
async def test_kills_under_load_lose_and_repeat_nothing(tmp_path: Path, kills: int) -> None:
    """Executors, gateways and the store; a failure shows the seed, with which `python -m tests.crash` tries again."""
    plan = Plan(random.SystemRandom().randrange(1_000_000), kills=kills)
    report = await Storm(tmp_path, plan).run()
    print(report.text())
    assert not report.breaches, report.text()
    assert sum(report.kills.values()) == kills
    # It blew: work was under way when things died, and was done again under new leases.
    assert all(report.kills[kind] >= kills / 10 for kind, _ in plan.shares)
    assert report.events > 200
    assert report.replies["broken"] > 0
    assert report.repeated_bodies > 0


@pytest.mark.parametrize("kills", [3, 10, 50, 200])
def test_every_kind_of_process_has_its_share_of_the_kills(kills: int) -> None:
    victims = Plan(seed=1, kills=kills).victims(random.Random(1))
    assert len(victims) == kills
    for kind, share in Plan(seed=1).shares:
        assert victims.count(kind) >= max(1, int(share * kills) - 1)


def test_a_seed_always_kills_the_same_kinds() -> None:
    first, again, other = (Plan(seed=1).victims(random.Random(seed)) for seed in (5, 5, 6))
    assert first == again
    assert first != other
