"""When an app is asked: rollouts, scaling, restarts, failures, and operators that come and go."""

import itertools
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_operator.asking import claimed, may_remove, next_ask, noted, told
from innkeeper_operator.memory import read_memory, write_memory
from innkeeper_operator.views import Ask, Later, Live, Outcome, SyncMemory
from tests.operator.timeline import START_MS, URL, Timeline, bare, failed, outside, pods, registration

# ---- rollouts


def test_an_app_that_was_never_asked_is_asked_at_once_at_a_pods_own_address() -> None:
    app = Timeline(pods(r1=2)).run(3600)
    assert app.asked == [(0, "First", "r1")]
    ask = app.asks[0][1]
    assert (ask.url, ask.at) == (URL, "r1:3000")
    assert app.memory.revisions == ("r1",)
    assert app.memory.config_hash == "code"


def test_a_rolling_update_asks_the_new_code_once_two_seconds_after_it_leads() -> None:
    """Both revisions are live for its whole length; changes go on while the new one leads."""
    app = Timeline(pods(old=4)).synced()
    app.code["new"] = "code-2"
    begun = app.now_ms
    for old, new in [(4, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 4), (0, 4)]:
        app.to(pods(old=old, new=new), 1)
    app.run(600)
    assert [(why, revision) for _, why, revision in app.asked] == [("Rollout", "new")]
    assert app.asks[0][0] - begun == 4_000 + 2_000
    assert app.memory.config_hash == "code-2"


def test_functions_are_removed_only_when_one_revision_is_left_and_answered() -> None:
    app = Timeline(pods(old=4)).synced()
    app.removals.clear()
    app.code["new"] = "code-2"
    app.to(pods(old=1, new=4), 60)
    assert len(app.asks) == 1
    assert not app.removals
    app.to(pods(new=4), 60)
    assert not app.removals, "nobody was asked, and nothing has to be"
    app.change(requested="now")
    app.run(1)
    assert len(app.removals) == 1


@pytest.mark.parametrize("counts", [(2, 3, 4), (4, 3, 2), (4, 1, 4, 2)])
def test_scaling_asks_nobody(counts: tuple[int, ...]) -> None:
    app = Timeline(pods(r1=2)).synced()
    for count in counts:
        app.to(pods(r1=count), 30)
    assert app.asked == []


def test_a_restart_of_pods_asks_nobody_not_even_without_a_ready_one() -> None:
    app = Timeline(pods(r1=3)).synced()
    for live in (pods(r1=2), pods(r1=3), pods(), pods(r1=1), pods(r1=3)):
        app.to(live, 30)
    assert app.asked == []
    assert app.memory.revisions == ("r1",)


def test_a_canary_below_half_asks_nobody_and_is_asked_once_it_leads() -> None:
    app = Timeline(pods(stable=5)).synced()
    app.to(pods(stable=4, canary=1), 600).to(pods(stable=3, canary=2), 600)
    assert app.asked == []
    app.to(pods(stable=2, canary=3), 600)
    assert [revision for _, _, revision in app.asked] == ["canary"]


def test_a_canary_that_is_taken_back_was_never_asked() -> None:
    app = Timeline(pods(stable=5)).synced()
    app.to(pods(stable=4, canary=1), 60).to(pods(stable=5), 600)
    assert app.asked == []


def test_a_tie_is_the_synced_ones() -> None:
    app = Timeline(pods(b=2)).synced()
    app.to(pods(a=2, b=2), 600)
    app.restart()
    app.run(600)
    assert app.asked == []


def test_a_tie_of_new_revisions_is_the_one_that_led() -> None:
    app = Timeline(pods(a=4)).synced()
    led = app.now_ms
    app.to(pods(a=1, z=3), 1).to(pods(b=3, z=3), 5)
    assert [(at - led, ask.revision) for at, ask in app.asks] == [(2_000, "z")]


def test_blue_green_asks_the_new_colour_once() -> None:
    app = Timeline(pods(blue=3)).synced()
    switched = app.now_ms
    app.to(pods(green=3), 600)
    assert [(at - switched, ask.revision) for at, ask in app.asks] == [(2_000, "green")]


def test_a_rollback_in_the_middle_asks_the_old_code_only_if_the_new_one_had_been_asked() -> None:
    app = Timeline(pods(old=4)).synced()
    app.code["new"] = "code-2"
    app.to(pods(old=3, new=2), 5).to(pods(old=4, new=1), 5).to(pods(old=4), 60)
    assert app.asked == []
    app.to(pods(old=1, new=4), 5).to(pods(old=4, new=1), 5).to(pods(old=4), 60)
    assert [revision for _, _, revision in app.asked] == ["new", "old"]
    assert (app.memory.config_hash, app.memory.revisions) == ("code", ("old",))


def test_a_rollback_to_code_that_declares_the_same_asks_nobody() -> None:
    app = Timeline(pods(old=4)).synced()
    app.to(pods(old=1, new=4), 5)
    assert app.memory.revisions == ("new", "old")
    app.to(pods(old=4, new=1), 60)
    assert [revision for _, _, revision in app.asked] == ["new"]


def test_a_leader_for_less_than_two_seconds_is_not_asked() -> None:
    app = Timeline(pods(old=2)).synced()
    for _ in range(5):
        app.to(pods(old=1, new=2), 1.5).to(pods(old=2, new=1), 1)
    assert app.asked == []


def test_no_endpoint_removes_nothing_and_new_code_after_it_is_asked() -> None:
    app = Timeline(pods(old=2)).synced()
    app.removals.clear()
    app.to(pods(), 3600)
    assert app.asked == []
    assert not app.removals
    assert app.memory.revisions == ("old",)
    app.to(pods(new=2), 10)
    assert [revision for _, _, revision in app.asked] == ["new"]


def test_an_app_without_endpoints_is_asked_as_soon_as_it_has_one() -> None:
    app = Timeline(pods()).run(60)
    assert app.asked == []
    app.to(pods(r1=1), 60)
    assert app.asked == [(60, "First", "r1")]


def test_new_code_is_not_asked_where_rollouts_are_switched_off() -> None:
    app = Timeline(pods(old=2), on_rollout=False).synced()
    app.to(pods(new=2), 600)
    assert app.asked == []
    app.change(requested="please")
    assert [(why, revision) for _, why, revision in app.asked] == [("Requested", "new")]


# ---- other causes


def test_changes_of_spec_keys_and_request_are_asked_at_once_and_once() -> None:
    app = Timeline(pods(r1=2)).synced()
    app.change(generation=2)
    app.run(60)
    app.keys = "keys-2"
    app.run(0)
    app.change(generation=2)
    app.run(60)
    app.change(requested="2026-11-22T10:00:00Z")
    app.run(600)
    assert [(why, at % 20) for at, why, _ in app.asked] == [("Spec", 0), ("Keys", 0), ("Requested", 0)]


def test_a_change_while_the_app_is_asked_is_not_lost() -> None:
    app = Timeline(pods(r1=2)).synced()
    app.latency_ms = 5_000
    app.change(generation=2)
    app.run(1)
    app.change(generation=3)
    app.run(60)
    assert [ask.generation for _, ask in app.asks] == [2, 3]
    assert app.memory.generation == 3


def test_an_app_is_not_asked_again_while_it_takes_its_time() -> None:
    app = Timeline(pods(r1=2))
    app.latency_ms = 60_000
    app.restart()
    app.asks.clear()
    app.run(1)
    app.change(generation=2)
    app.run(58)
    assert app.asks == []


def test_an_answer_counts_although_the_pods_have_gone_meanwhile() -> None:
    app = Timeline(pods(r1=2)).synced()
    app.latency_ms = 5_000
    app.change(requested="now")
    app.to(pods(), 60).to(pods(r1=2), 600)
    assert [why for _, why, _ in app.asked] == ["Requested"]


@pytest.mark.parametrize("how", ["paused", "deleting"])
def test_an_app_that_is_paused_or_going_is_not_asked(how: str) -> None:
    app = Timeline(pods(r1=2)).synced()
    before = app.app
    if how == "paused":
        app.app = msgspec.structs.replace(before, spec=msgspec.structs.replace(before.spec, paused=True))
    else:
        app.app = msgspec.structs.replace(before, meta=msgspec.structs.replace(before.meta, deleting=True))
    app.change(generation=2)
    app.to(pods(r2=2), 600)
    assert app.asked == []
    app.app = msgspec.structs.replace(before, meta=msgspec.structs.replace(before.meta, generation=3))
    app.to(pods(r2=2), 60)
    assert [(why, revision) for _, why, revision in app.asked] == [("Spec", "r2")]


@pytest.mark.parametrize("live", [pods(r1=2), bare("192.0.2.1:80"), outside()])
def test_the_interval_is_kept_at_the_apps_own_instant(live: Live) -> None:
    app = Timeline(live, interval="10m").synced()
    app.run(3600)
    times = [at for at, why, _ in app.asked if why == "Interval"]
    assert len(times) == 6
    assert {round(b - a) for a, b in itertools.pairwise(times)} == {600}


def test_the_first_instant_is_not_right_after_another_ask() -> None:
    for number in range(100):
        app = Timeline(pods(r1=2), interval="1h", uid=f"uid-{number}").synced()
        app.run(1780)
        assert app.asked == []
        app.run(3600)
        assert [why for _, why, _ in app.asked] == ["Interval"]


def test_each_address_has_its_turn_when_the_interval_is_over() -> None:
    app = Timeline(bare("a:80", "b:80", "c:80"), interval="10m").synced(60)
    app.run(3600)
    assert [ask.at for _, ask in app.asks][:4] == ["a:80", "b:80", "c:80", "a:80"]


def test_an_external_url_is_asked_first_and_on_changes_but_never_for_its_code() -> None:
    app = Timeline(outside())
    app.run(60)
    app.change(generation=2)
    app.run(600)
    assert [why for _, why, _ in app.asked] == ["First", "Spec"]
    assert app.asks[0][1].at == ""
    assert len(app.removals) == 2


# ---- operators and registries that come and go


def test_a_restarted_operator_asks_only_what_is_not_synced() -> None:
    app = Timeline(pods(r1=2)).synced()
    app.memory = read_memory({"sync": write_memory(app.memory, app.live)})
    app.restart()
    app.run(600)
    assert app.asked == []
    app.live = pods(r1=1, r2=3)
    app.restart()
    app.run(600)
    assert [(why, revision) for _, why, revision in app.asked] == [("Rollout", "r2")]


def test_an_operator_that_was_away_for_long_does_not_ask_everybody_at_once() -> None:
    times = []
    for number in range(200):
        app = Timeline(pods(r1=2), interval="1h", uid=f"uid-{number}").synced()
        app.now_ms += 36_000_000
        app.restart()
        begun = app.now_ms
        app.run(3600)
        times += [at - begun for at, _ in app.asks]
    assert len(times) == 200
    assert max(Counter(at // 60_000 for at in times).values()) < 15


def test_another_registry_makes_the_app_be_asked_again() -> None:
    app = Timeline(pods(r1=2)).synced()
    app.registry = "reg-2"
    app.to(pods(r1=2), 60)
    assert [(why, revision) for _, why, revision in app.asked] == [("Registry", "r1")]
    assert app.memory.registry == "reg-2"


def test_a_thousand_apps_are_asked_spread_over_a_minute_when_the_registry_is_another() -> None:
    times = []
    for number in range(1000):
        app = Timeline(pods(r1=1), uid=f"uid-{number}").synced(1)
        app.registry, app.apps = "reg-2", 1000
        app.restart()
        begun = app.now_ms
        app.run(60)
        times += [at - begun for at, _ in app.asks]
    assert len(times) == 1000
    per_second = Counter(at // 1000 for at in times)
    assert len(per_second) >= 45
    assert max(per_second.values()) < 45


# ---- failures


def test_failures_are_retried_later_and_later_but_no_revision_more_than_every_ten_seconds() -> None:
    app = Timeline(pods(r1=2))
    app.answer = lambda _ask: failed()
    app.run(3600)
    times = [at for at, _, _ in app.asked]
    gaps = [round(b - a) for a, b in itertools.pairwise(times)]
    assert gaps[:8] == [10, 10, 10, 10, 16, 32, 64, 128]
    assert set(gaps[9:]) == {300}
    assert [why for _, why, _ in app.asked][:2] == ["First", "Retry"]
    app.answer = lambda _ask: None
    app.run(301)
    assert app.memory.revisions == ("r1",)
    asked = len(app.asks)
    app.run(3600)
    assert len(app.asks) == asked


@pytest.mark.parametrize("how", ["spec", "keys", "pods"])
def test_a_change_is_tried_without_waiting_for_the_next_retry(how: str) -> None:
    app = Timeline(pods(r1=2))
    app.answer = lambda _ask: failed()
    app.run(1800)
    app.asks.clear()
    changed = app.now_ms
    if how == "spec":
        app.change(generation=2)
    elif how == "keys":
        app.keys = "keys-2"
        app.to(app.live)
    else:
        app.to(pods(), 20).to(pods(r1=2))
    app.run(1)
    assert len(app.asks) == 1
    assert app.asks[0][0] - changed <= 20_000


def test_new_code_is_asked_in_time_although_the_old_one_failed() -> None:
    app = Timeline(pods(old=2))
    app.answer = lambda ask: failed() if ask.revision == "old" else None
    app.run(1800)
    app.asks.clear()
    app.to(pods(new=2), 3)
    assert [revision for _, _, revision in app.asked] == ["new"]


def test_where_pods_cannot_be_dialled_the_service_is_asked_once_one_revision_is_left() -> None:
    app = Timeline(pods(old=2)).synced()
    app.answer = lambda ask: failed("ConnectionRefused", reachable=False) if ask.at else None
    app.to(pods(old=1, new=3), 250)
    assert all(ask.at for _, ask in app.asks)
    assert app.memory.revisions == ("old",)
    app.asks.clear()
    app.to(pods(new=3), 1)
    assert [(ask.at, ask.revision) for _, ask in app.asks] == [("", "new")]
    assert app.memory.revisions == ("new",)


def test_a_pod_that_answers_after_all_is_asked_directly_from_then_on() -> None:
    app = Timeline(pods(old=2)).synced()
    app.answer = lambda _ask: failed("ConnectionRefused", reachable=False)
    app.to(pods(old=1, new=3), 5)
    app.answer = lambda _ask: None
    app.run(60)
    assert app.memory.revisions == ("new", "old")
    app.to(pods(new=3), 60)
    app.change(generation=2)
    assert [ask.at for _, ask in app.asks] == ["new:3000"] * 3


def test_where_pods_cannot_be_dialled_a_single_revision_is_asked_through_the_service_soon() -> None:
    app = Timeline(pods(r1=2))
    app.answer = lambda ask: failed("Timeout", reachable=False) if ask.at else None
    app.run(3)
    assert [ask.at for _, ask in app.asks] == ["r1:3000", ""]
    assert app.memory.revisions == ("r1",)


def test_an_app_that_answers_nowhere_is_tried_at_the_pod_and_through_the_service_in_turn() -> None:
    app = Timeline(pods(r1=2))
    app.answer = lambda _ask: failed("ConnectionRefused", reachable=False)
    app.run(300)
    assert [ask.at for _, ask in app.asks][:6] == ["r1:3000", ""] * 3


# ---- endpoints without pods


def test_each_new_address_is_asked_once_two_seconds_after_it_came() -> None:
    app = Timeline(bare("192.0.2.1:80", "192.0.2.2:80")).synced(600)
    assert set(app.memory.addresses) == {"192.0.2.1:80", "192.0.2.2:80"}
    came = app.now_ms
    app.to(bare("192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"), 600)
    assert [(at - came, ask.at) for at, ask in app.asks] == [(2_000, "192.0.2.3:80")]
    app.to(bare("192.0.2.2:80"), 600)
    assert len(app.asks) == 1


def test_addresses_that_declare_different_things_are_not_asked_in_turn_for_ever() -> None:
    app = Timeline(bare("a:80", "b:80", "c:80"))
    app.code = {"a": "one", "b": "two", "c": "one"}
    app.run(3600)
    assert [ask.at for _, ask in app.asks] == ["a:80", "b:80", "c:80"]
    assert not app.removals, "an address with other code is live"


def test_functions_are_removed_once_every_address_declares_the_same() -> None:
    app = Timeline(bare("a:80", "b:80")).synced(600)
    app.removals.clear()
    app.code = {"a": "code", "b": "code", "c": "two", "d": "two"}
    app.to(bare("a:80", "b:80", "c:80"), 60)
    assert not app.removals
    app.to(bare("c:80", "d:80"), 60)
    assert len(app.removals) == 1


def test_an_address_that_fails_does_not_keep_others_from_being_asked() -> None:
    app = Timeline(bare("a:80", "b:80", "c:80"))
    app.answer = lambda ask: failed() if ask.at == "a:80" else None
    app.run(60)
    assert set(app.memory.addresses) == {"b:80", "c:80"}


def test_more_addresses_than_can_be_remembered_are_not_asked_again_and_again() -> None:
    app = Timeline(bare(*(f"192.0.2.{n}:80" for n in range(150))))
    app.latency_ms = 1
    app.run(60)
    assert len(app.asks) == 100
    app.run(3600)
    assert len(app.asks) == 100


# ---- apps that register themselves


def test_a_registration_that_was_asked_for_counts_for_the_revision_that_was_asked() -> None:
    app = Timeline(pods(old=1, new=2))
    app.answer = lambda _ask: failed("RegistersItself")
    app.run(1)
    answer, ask = claimed(app.attempts, registration("code-2"), app.now_ms)
    assert ask is not None
    assert (answer.revision, answer.in_band) == ("new", False)
    app.attempts = told(app.attempts, ask, answer, app.now_ms)
    app.memory = noted(app.memory, app.live, answer, ask)
    assert claimed(app.attempts, registration("code-3"), app.now_ms)[1] is None
    app.run(3600)
    assert len(app.asks) == 1
    assert (app.memory.config_hash, app.memory.revisions) == ("code-2", ("new",))
    assert not may_remove(app.live, answer, app.memory, ask)
    assert may_remove(pods(new=2), answer, app.memory, ask)


def test_a_registration_that_does_not_come_is_asked_for_again() -> None:
    app = Timeline(pods(r1=2))
    app.answer = lambda _ask: failed("RegistersItself")
    app.run(60)
    assert len(app.asks) > 3
    assert claimed(app.attempts, registration("code"), app.now_ms + 61_000)[1] is None


def test_an_app_that_was_told_that_nothing_changed_is_synced() -> None:
    app = Timeline(pods(r1=2), interval="1h").synced()
    app.answer = lambda _ask: failed("RegistersItself", unchanged=True)
    app.to(pods(r2=2), 60)
    assert [why for _, why, _ in app.asked] == ["Rollout"]
    assert app.memory.revisions == ("r2",)
    app.run(5400)
    assert {why for _, why, _ in app.asked[1:]} == {"Interval"}, "it has not failed"


def test_a_registration_that_nobody_asked_for_makes_the_leader_be_asked() -> None:
    """It may come from a pod that is not ready: what it declares is added, and the leader decides."""
    app = Timeline(pods(r1=2)).synced()
    answer, ask = claimed(app.attempts, registration("code-2"), app.now_ms)
    assert ask is None
    app.memory = noted(app.memory, app.live, answer, ask)
    assert not may_remove(app.live, answer, app.memory, ask)
    app.to(app.live, 60)
    assert [revision for _, _, revision in app.asked] == ["r1"]
    same, _ = claimed(app.attempts, registration("code"), app.now_ms)
    app.memory = noted(app.memory, app.live, same, None)
    app.to(app.live, 60)
    assert len(app.asks) == 1


def test_what_a_url_registers_by_itself_is_all_that_it_has() -> None:
    answer, ask = claimed(Timeline(outside()).attempts, registration("code"), START_MS)
    assert ask is None
    assert may_remove(outside(), answer, noted(SyncMemory(), outside(), answer, None), None)


def test_a_failure_is_noted_nowhere() -> None:
    memory = SyncMemory(config_hash="code", revisions=("r1",), time_ms=START_MS)
    ask = Ask(url=URL, why="Interval", revision="r2")
    assert noted(memory, pods(r2=1), failed(), ask) is memory
    assert not may_remove(pods(r2=1), failed(), memory, ask)


# ---- rules


CHANGES = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 4), max_size=3),
        st.sampled_from([0.0, 0.3, 1.0, 2.1, 4.0, 11.0]),
        st.booleans(),
    ),
    max_size=12,
)


@given(CHANGES, st.sampled_from([1, 400, 3_000]))
def test_no_revision_is_asked_twice_in_ten_seconds_and_the_last_leader_is_synced_soon(
    changes: list[tuple[dict[str, int], float, bool]], latency_ms: int
) -> None:
    """Whatever the pods do; and some asks fail while they do it."""
    app = Timeline(pods(a=2))
    app.latency_ms = latency_ms
    app.code = {"a": "one", "b": "two", "c": "one"}
    for ready, seconds, fails in changes:
        outcome: Outcome | None = failed() if fails else None
        app.answer = lambda _ask, outcome=outcome: outcome  # type: ignore[misc]
        app.to(pods(**ready), seconds)
    app.answer = lambda _ask: None
    ended = app.now_ms
    app.run(60)
    times: dict[str, int] = {}
    for at, ask in app.asks:
        assert at - times.get(ask.revision, -10_000) >= 10_000
        times[ask.revision] = at
    if app.live.reason:
        return
    leader = app.attempts.leader
    assert leader in app.memory.revisions
    # It was asked within 5 s, unless it or another one was under way, or had been asked within the last 10 s.
    last = [at for at, ask in app.asks if ask.revision == leader]
    before = [at for at in last if at <= ended]
    after = [at for at in last if at > ended]
    if after:
        assert after[0] <= max(
            ended + 5_000 + latency_ms, (before[-1] if before else 0) + 10_000 + latency_ms
        )


@given(CHANGES)
def test_looking_more_often_than_needed_changes_nothing(
    changes: list[tuple[dict[str, int], float, bool]],
) -> None:
    """`Later` names every instant at which something is due."""
    rare, often = Timeline(pods(a=2)), Timeline(pods(a=2))
    for app in (rare, often):
        app.code = {"a": "one", "b": "two", "c": "one"}
    for ready, seconds, _ in changes:
        rare.to(pods(**ready), seconds)
        often.to(pods(**ready))
        for _ in range(10):
            often.run(seconds / 10)
            often.to(often.live)
    rare.run(30)
    often.run(30)
    assert rare.asked == often.asked
    assert rare.memory == often.memory


def test_later_names_no_time_where_only_a_change_can_bring_an_ask() -> None:
    app = Timeline(pods(r1=1)).synced()
    what, _ = next_ask(
        app.app, pods(), app.memory, app.attempts, registry="reg-1", keys="keys-1", now_ms=app.now_ms
    )
    assert what == Later(None)
