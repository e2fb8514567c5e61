"""Apps that register at the same time: no registration is decided on a picture that another one has changed."""

import asyncio
import logging
from typing import Any

import msgspec
import pytest

from innkeeper_engine.model.cancellations import Cancellation
from innkeeper_engine.model.clock import RandomIds
from innkeeper_engine.model.effects import Start
from innkeeper_engine.model.functions import App, FunctionConfig, Trigger
from innkeeper_engine.model.guards import NoGuard
from innkeeper_engine.registering import Registered, cancel_app_runs, register_app, remove_app
from innkeeper_engine.registry import Registries, read_cancellations
from innkeeper_engine.store.store import Store
from tests.conftest import OpenStore


def app(app_id: str, function: str, *triggers: Trigger) -> App:
    config = FunctionConfig(slug=f"{app_id}-{function}", name=function, url="http://app/", triggers=triggers)
    return App(id=app_id, url="http://app/", functions=(config,), checksum=function)


async def timers(store: Store) -> list[str]:
    """What will be due, soonest first."""
    sets = [await store.command("ZRANGE", store.key(name), 0, -1) for name in ("timers", "timers2")]
    return [each.decode() for found in sets for each in found]


async def test_two_apps_at_once_both_hear_what_they_listen_to(store: Store) -> None:
    """What the engine announces is asked for by all apps together: the later one must not forget the earlier one."""
    finished = Trigger(event="inngest/function.finished")
    apps = [app("a", "f", finished), *(app(each, "f", Trigger(event="x")) for each in "bcdefg")]
    await asyncio.gather(*(register_app(store, "default", each, now_ms=1) for each in apps))
    assert len(await store.registrations("default")) == len(apps)
    assert await store.command("SMEMBERS", store.key("lis:default")) == [b"inngest/function.finished"]


async def test_two_versions_of_an_app_at_once_leave_one_set_of_crons(store: Store) -> None:
    """A cron of the one that lost would come up for ever, with no function behind it."""
    cron = Trigger(cron="* * * * *")
    done = await asyncio.gather(
        *(register_app(store, "default", app("a", each, cron), now_ms=1) for each in "fg")
    )
    assert sorted(each.app_version for each in done) == [1, 2]
    assert len(await store.command("KEYS", store.key("cron:*"))) == 1
    assert len([each for each in await timers(store) if each.startswith("C")]) == 1


async def test_a_server_that_lost_its_data_is_read_anew(open_store: OpenStore) -> None:
    """Its versions must not begin again below those that executors and gateways know."""
    clock = [1_800_000_000_000]
    store = await open_store(clock_ms=lambda: clock[0])
    registries = Registries(store)
    for each in "abc":
        await register_app(store, "default", app(each, "f"), now_ms=1)
    assert sorted((await registries.current("default")).apps) == ["a", "b", "c"]
    keys = await store.command("KEYS", store.key("*"))
    await store.command("DEL", *keys)
    clock[0] += 1_000
    await register_app(store, "default", app("d", "f"), now_ms=1)
    assert sorted((await registries.current("default")).apps) == ["d"]


async def test_a_registry_has_one_id_until_it_is_emptied(open_store: OpenStore) -> None:
    """Whoever asks first makes it; all others, at the same time or later, read the same."""
    store = await open_store()
    other = await open_store(prefix=store.settings.prefix)
    ids = await asyncio.gather(*(each.registry_id() for each in (store, other) * 5))
    assert len(set(ids)) == 1
    assert len(ids[0]) == 32
    await register_app(store, "default", app("a", "f"), now_ms=1)
    assert await other.registry_id() == ids[0]
    await store.command("DEL", *await store.command("KEYS", store.key("*")))
    assert await store.registry_id() != ids[0]


async def test_a_registration_says_which_registry_holds_it(store: Store) -> None:
    """The same for one that changes nothing: what is read at this version or later shows it."""
    first = await register_app(store, "default", app("a", "f"), now_ms=1)
    again = await register_app(store, "default", app("a", "f"), now_ms=2)
    assert first == Registered(True, 1, await store.registry_version())
    assert again == Registered(False, 1, first.registry)


async def test_a_removed_app_leaves_nothing_that_starts_runs(store: Store) -> None:
    """Its functions, crons and what it listens to go; those of others stay."""
    cron, finished = Trigger(cron="* * * * *"), Trigger(event="inngest/function.finished")
    await register_app(store, "default", app("a", "f", cron, finished), now_ms=1)
    await register_app(store, "default", app("b", "g", cron), now_ms=1)
    removed = await remove_app(store, "default", "a", now_ms=2)
    assert removed == Registered(True, 0, await store.registry_version())
    registry = await Registries(store).current("default")
    assert sorted(registry.functions) == ["b-g"]
    assert await store.command("KEYS", store.key("cron:*")) == [
        store.key("cron:default/b-g#* * * * *").encode()
    ]
    assert [each for each in await timers(store) if each.startswith("C")] == ["Cdefault/b-g#* * * * *"]
    assert await store.command("EXISTS", store.key("lis:default")) == 0
    assert await remove_app(store, "default", "a", now_ms=3) == Registered(False, 0, removed.registry)


async def test_an_app_that_is_removed_while_others_register_is_gone(store: Store) -> None:
    """None of those that are written at the same time brings it back or is lost."""
    await register_app(store, "default", app("a", "f"), now_ms=1)
    await asyncio.gather(
        *(register_app(store, "default", app(each, "f"), now_ms=1) for each in "bcd"),
        remove_app(store, "default", "a", now_ms=1),
    )
    assert sorted(await store.registrations("default")) == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("app_paused", "function", "expected"),
    [
        (False, {}, ""),
        (False, {"new_runs": "Queue", "running": "Hold"}, ""),
        (False, {"paused": True}, ""),
        (False, {"paused": True, "new_runs": "Queue"}, "s"),
        (False, {"paused": True, "running": "Hold"}, "t"),
        (False, {"paused": True, "new_runs": "Queue", "running": "Hold"}, "st"),
        (True, {}, "st"),
        (True, {"paused": True}, "st"),
    ],
)
async def test_the_scheduler_learns_what_is_paused(
    store: Store, app_paused: bool, function: dict[str, Any], expected: str
) -> None:
    """And that it is paused no more."""
    config = FunctionConfig(slug="a-f", name="f", url="http://app/", **function)
    paused = App(id="a", url="http://app/", functions=(config,), paused=app_paused, checksum="paused")
    await register_app(store, "default", paused, now_ms=1)
    held = await store.command("HGET", store.key("f:default/a-f"), "held")
    assert (held or b"").decode() == expected
    await register_app(store, "default", app("a", "f"), now_ms=1)
    assert await store.command("EXISTS", store.key("f:default/a-f")) == 0


async def test_an_app_that_is_about_to_go_has_its_crons_disarmed(store: Store) -> None:
    """They are armed for the future if it stays after all."""
    cron = Trigger(cron="0 * * * *")
    going = app("a", "f", cron)
    await register_app(store, "default", going, now_ms=1)
    await register_app(
        store, "default", msgspec.structs.replace(going, draining=True, checksum="draining"), now_ms=2
    )
    assert await store.command("EXISTS", store.key("cron:default/a-f#0 * * * *"), store.key("timers")) == 0
    assert list((await Registries(store).current("default")).functions) == ["a-f"]
    await register_app(store, "default", going, now_ms=3_600_001)
    assert await store.command("HGET", store.key("cron:default/a-f#0 * * * *"), "slot") == b"7200000"


async def test_an_equal_checksum_changes_nothing_whatever_else_differs(store: Store) -> None:
    """So it must be of all that the caller can change."""
    await register_app(store, "default", app("a", "f"), now_ms=1)
    paused = msgspec.structs.replace(app("a", "f"), paused=True)
    assert not (await register_app(store, "default", paused, now_ms=1)).modified
    assert (
        await register_app(store, "default", msgspec.structs.replace(paused, checksum="2"), now_ms=1)
    ).modified


# ---- functions that are gone


def with_functions(*functions: str, app_id: str = "a", **fields: Any) -> App:
    """An app with these functions."""
    configs = tuple(FunctionConfig(slug=f"{app_id}-{f}", name=f, url="http://app/") for f in functions)
    return App(id=app_id, url="http://app/", functions=configs, checksum=repr((functions, fields)), **fields)


async def make_run(store: Store, fn: str) -> str:
    """A run of a function that nobody has called."""
    run = RandomIds().ulid(1)
    effect = Start(
        run=run,
        env="default",
        fn=f"default/{fn}",
        slug_json=b'"f"',
        app="a",
        events=((run, b"{}"),),
        start_partition=f"default/{fn}\x01s",
        step_partition=f"default/{fn}\x01t",
        order=1,
        due_ms=0,
    )
    assert (await store.apply(NoGuard(), [effect])).status == "ok"
    return run


async def held_lanes(store: Store, slug: str) -> str:
    """Which lanes of a function wait."""
    return (await store.command("HGET", store.key(f"f:default/{slug}"), "held") or b"").decode()


async def ends(store: Store) -> dict[str, Cancellation]:
    """Cancellations of runs of functions that are gone, by slug."""
    found = (await read_cancellations(store, "default")).values()
    assert {each.why for each in found} <= {"function"}
    return {each.slug: each for each in found}


async def test_what_a_dropped_function_has_begun_waits_for_it_and_is_cancelled_in_the_end(
    store: Store,
) -> None:
    """Ten minutes later; the functions that stay are not touched."""
    await register_app(store, "default", with_functions("f", "g"), now_ms=1_000)
    await register_app(store, "default", with_functions("g"), now_ms=2_000)
    assert (await held_lanes(store, "a-f"), await held_lanes(store, "a-g")) == ("st", "")
    (end,) = (await ends(store)).values()
    assert (end.slug, end.app_id, end.function_id) == ("a-f", "a", "f")
    assert (end.after_ms, end.before_ms, end.created_ms) == (0, 602_000, 2_000)
    assert await store.command("ZSCORE", store.key("timers2"), f"Jdefault/{end.id}") == b"602000"


async def test_a_function_that_comes_back_goes_on(store: Store) -> None:
    """As if it had not been away, and also with another app."""
    await register_app(store, "default", with_functions("f", "g"), now_ms=1_000)
    await register_app(store, "default", with_functions("f"), now_ms=2_000)
    assert list(await ends(store)) == ["a-g"]
    await register_app(store, "default", with_functions("f", "g"), now_ms=3_000)
    assert await ends(store) == {}
    assert await held_lanes(store, "a-g") == ""
    assert not [each for each in await timers(store) if each.startswith("J")]
    await register_app(store, "default", with_functions("f"), now_ms=4_000)
    moved = FunctionConfig(slug="a-g", name="g", url="http://other/")
    other = App(id="b", url="http://other/", functions=(moved,), checksum="b")
    await register_app(store, "default", other, now_ms=5_000)
    assert await ends(store) == {}


async def test_the_end_of_one_function_is_not_void_when_another_comes_back(store: Store) -> None:
    """Nor what somebody has asked for."""
    await register_app(store, "default", with_functions("f", "g"), now_ms=1_000)
    asked = Cancellation(id="01J", slug="a-f", before_ms=9_000, created_ms=1_000)
    await store.configure("default", cancellations=[(asked.id, msgspec.json.encode(asked), 9_000)])
    await register_app(store, "default", with_functions(), now_ms=2_000)
    await register_app(store, "default", with_functions("f"), now_ms=3_000)
    found = (await read_cancellations(store, "default")).values()
    assert {(each.slug, each.why) for each in found} == {("a-g", "function"), ("a-f", "bulk")}


async def test_the_runs_of_an_app_that_is_removed_wait_for_it_as_well(store: Store) -> None:
    """All of them."""
    await register_app(store, "default", with_functions("f", "g"), now_ms=1_000)
    await remove_app(store, "default", "a", now_ms=2_000)
    assert sorted(await ends(store)) == ["a-f", "a-g"]
    await register_app(store, "default", with_functions("g"), now_ms=3_000)
    assert sorted(await ends(store)) == ["a-f"]


async def test_nothing_waits_of_an_app_that_was_drained(store: Store) -> None:
    """Only of those of its functions that have runs all the same."""
    for slug in ("f", "g"):
        await register_app(store, "default", with_functions("f", "g", draining=True), now_ms=1_000)
        run = await make_run(store, f"a-{slug}")
        await remove_app(store, "default", "a", now_ms=2_000)
        assert sorted(await ends(store)) == [f"a-{slug}"]
        assert await held_lanes(store, f"a-{'g' if slug == 'f' else 'f'}") == ""
        await register_app(store, "default", with_functions("f", "g", draining=True), now_ms=3_000)
        assert await cancel_app_runs(store, "default", "a", RandomIds(), now_ms=3_000) == 0
        assert not await store.is_live(run)
        await remove_app(store, "default", "a", now_ms=4_000)
        assert await ends(store) == {}
        assert await store.command("KEYS", store.key("f:*")) == []


async def test_a_cancellation_of_a_later_version_keeps_nobody_from_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, and left alone."""
    await register_app(store, "default", with_functions("f"), now_ms=1_000)
    await store.configure("default", cancellations=[("01X", b'{"id":"01X"}', 9_000)])
    with caplog.at_level(logging.CRITICAL):
        await register_app(store, "default", with_functions(), now_ms=2_000)
        assert list((await Registries(store).current("default")).cancellations.values()) == [
            (await ends(store))["a-f"]
        ]
    assert "01X" in await store.cancellations("default")
