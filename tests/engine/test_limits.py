"""What a function's limits, lanes and partitions are called, and what they share."""

from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from innkeeper_engine.limits import FALLBACK, Queueing, compile_queueing, digest, queued, throttle_cap
from innkeeper_engine.model.functions import Concurrency, FunctionConfig, Scope, Throttle

ENV, ACCOUNT, FN = "env", "acc", "env/app-fn"
BY_USER = "event.data.user"
MINUTE_MS = 60_000


def config(
    *concurrency: Concurrency,
    slug: str = "app-fn",
    throttle: Throttle | None = None,
    priority: str | None = None,
) -> FunctionConfig:
    """A function with these options."""
    return FunctionConfig(
        slug=slug, name=slug, url="http://a", concurrency=concurrency, throttle=throttle, priority=priority
    )


def compiled(
    *concurrency: Concurrency,
    slug: str = "app-fn",
    throttle: Throttle | None = None,
    priority: str | None = None,
    env: str = ENV,
    account: str = ACCOUNT,
) -> Queueing:
    """How that function's runs queue."""
    return compile_queueing(
        config(*concurrency, slug=slug, throttle=throttle, priority=priority), env, account
    )


def by(key: str, limit: int = 1, scope: Scope = "fn") -> Concurrency:
    """A limit with a key."""
    return Concurrency(limit=limit, key=key, scope=scope)


def event(**data: Any) -> Mapping[str, Any]:
    """An event with these data."""
    return {"name": "x", "data": data}


def limit_of(queueing: Queueing, **data: Any) -> str:
    """The one keyed limit of a run's steps."""
    partition = queued(queueing, event(**data)).step_partition
    _, limit = partition.split("\x02")
    return limit


def caps_of(queueing: Queueing) -> dict[str, str | int]:
    """Caps by the name that the scheduler knows them by."""
    assert len(queueing.caps) % 2 == 0
    names = [str(name) for name in queueing.caps[::2]]
    assert len(set(names)) == len(names)
    return dict(zip(names, queueing.caps[1::2], strict=True))


# ---- names


def test_without_options_there_are_two_lanes_and_no_caps() -> None:
    """And nothing has to be known of the event."""
    plain = compiled()
    assert (plain.start_lane, plain.step_lane) == (f"{FN}\x01s", f"{FN}\x01t")
    assert (plain.caps, plain.signature, plain.start_keys) == ((), "", ())
    assert queued(plain, event()) == (f"{FN}\x01s", f"{FN}\x01t", 0, ())


def test_limits_without_a_key_are_the_functions_own() -> None:
    """They have no name of their own in a lane, and no part in the signature."""
    own = compiled(Concurrency(limit=3), throttle=Throttle(limit=6, period_ms=MINUTE_MS, burst=2))
    assert (own.start_lane, own.step_lane, own.signature) == (f"{FN}\x01s", f"{FN}\x01t", "")
    assert caps_of(own) == {"c": 3, "t": "10000.0,2"}


def test_the_lowest_of_several_own_limits_counts() -> None:
    """There is one counter for them."""
    assert caps_of(compiled(Concurrency(limit=5), Concurrency(limit=2, scope="env"))) == {"c": 2}


@pytest.mark.parametrize("limit", [0, -1])
def test_a_concurrency_of_zero_is_no_limit(limit: int) -> None:
    """With a key as without."""
    none = compiled(Concurrency(limit=limit), by(BY_USER, limit))
    assert none == compiled()


def test_a_keyed_limit_is_named_in_the_partition() -> None:
    """Its definition by scope and key, its owner, and a digest of the value."""
    keyed = compiled(by(BY_USER, 4))
    ((definition, cap),) = caps_of(keyed).items()
    assert (definition[:2], cap) == ("c:", 4)
    place = queued(keyed, event(user="u1"))
    assert place.step_partition == f"{keyed.step_lane}\x02{definition}|{FN}/{digest('u1')}"
    assert place.start_partition == f"{keyed.start_lane}\x02{definition}|{FN}/{digest('u1')}"
    assert keyed.step_lane == f"{FN}\x01t{keyed.signature}"
    assert keyed.start_lane == f"{FN}\x01s{keyed.signature}"
    assert keyed.signature


def test_only_starts_are_throttled() -> None:
    """The key of a throttle has no place in a partition of steps."""
    both = compiled(by(BY_USER), throttle=Throttle(limit=1, period_ms=MINUTE_MS, key="event.data.shop"))
    place = queued(both, event(user="u", shop="s"))
    assert place.start_partition.split("\x02")[1:] == [
        *place.step_partition.split("\x02")[1:],
        f"{both.start_keys[-1].definition}|{FN}/{digest('s')}",
    ]
    assert both.start_keys[-1].definition.startswith("t:")
    assert caps_of(both)[both.start_keys[-1].definition] == "60000.0,1"
    assert "t" not in caps_of(both)


def test_constant_keys_are_limits_of_the_lane() -> None:
    """No run needs a partition of its own for them."""
    constant = compiled(
        by('"all"', 7, scope="account"), throttle=Throttle(limit=1, period_ms=1000, key='"one"')
    )
    fn, steps, limit = constant.step_lane.split("\x01")
    assert (fn, steps) == (FN, f"t{constant.signature}")
    assert limit.startswith("a:")
    assert limit.endswith(f"|{ACCOUNT}/{digest('all')}")
    *same, throttle = constant.start_lane.split("\x01")
    assert same == [FN, f"s{constant.signature}", limit]
    assert throttle.startswith("t:")
    assert throttle.endswith(f"|{FN}/{digest('one')}")
    assert constant.start_keys == ()
    assert queued(constant, event()) == (constant.start_lane, constant.step_lane, 0, ())


def test_limits_keep_their_order_and_say_what_their_writers_call_them() -> None:
    """Numbers count entries as declared."""
    several = compiled(
        Concurrency(limit=9), by(BY_USER), throttle=Throttle(limit=1, period_ms=1000, key=BY_USER)
    )
    assert [limit.option for limit in several.start_keys] == ["concurrency[1].key", "throttle.key"]


# ---- what is shared


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BY_USER, " event . data.user "),
        ('event.data.a + "x"', "event.data.a + 'x'"),
        ("(event.data.a)", "event.data.a"),
        ('"a" + "b"', '"ab"'),
        ("1 + 1", "2"),
        ('event.data["user"]', "event.data['user']"),
        ("event['data'][\"user\"].id", "event.data.user.id"),
    ],
)
def test_keys_that_say_the_same_are_one(one: str, other: str) -> None:
    """However they are written: nothing is keyed again for that."""
    assert names_of(compiled(by(one))) == names_of(compiled(by(other)))


def names_of(queueing: Queueing) -> tuple[object, ...]:
    """Everything that goes into the store."""
    return queueing.start_lane, queueing.step_lane, queueing.caps, queueing.signature


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BY_USER, "event.data.shop"),
        ('"a"', '"b"'),
        ('"1"', BY_USER),
        ("1", "2"),
        ("""event.data.a + '["b"]'""", "event.data.a + '.b'"),
        ('event.data.a in ["b"]', 'event.data.a in [".b"]'),
        ('event.data.a["b c"]', "event.data.a.b"),
    ],
)
def test_other_keys_are_others(one: str, other: str) -> None:
    """They count by themselves."""
    assert caps_of(compiled(by(one))).keys() != caps_of(compiled(by(other))).keys()


@pytest.mark.parametrize(("scope", "is_shared"), [("fn", False), ("env", True), ("account", True)])
@pytest.mark.parametrize("key", [BY_USER, '"all"'])
def test_functions_share_keys_beyond_their_own_scope(scope: Scope, is_shared: bool, key: str) -> None:
    """One counter; each has a cap of its own below which it looks at it."""
    first, second = compiled(by(key, 1, scope)), compiled(by(key, 5, scope), slug="app-other")
    assert shared_limit(first) == shared_limit(second) or not is_shared
    assert (shared_limit(first) == shared_limit(second)) is is_shared
    assert list(caps_of(first)) == list(caps_of(second))
    assert [*caps_of(first).values(), *caps_of(second).values()] == [1, 5]


def shared_limit(queueing: Queueing) -> str:
    """The limit, of the lane or of the partition."""
    partition = queued(queueing, event(user="u")).step_partition
    return partition.replace("\x02", "\x01").split("\x01")[2]


@pytest.mark.parametrize(("scope", "is_shared"), [("fn", False), ("env", False), ("account", True)])
def test_environments_of_one_account_share_its_keys_only(scope: Scope, is_shared: bool) -> None:
    """An environment's own are its own."""
    first, second = compiled(by(BY_USER, 1, scope)), compiled(by(BY_USER, 1, scope), env="branch")
    assert (limit_of(first, user="u") == limit_of(second, user="u")) is is_shared


def test_accounts_share_nothing() -> None:
    """Whatever their environments are called."""
    first = compiled(by(BY_USER, 1, "account"))
    second = compiled(by(BY_USER, 1, "account"), account="other")
    assert limit_of(first, user="u") != limit_of(second, user="u")


def test_scopes_do_not_mix() -> None:
    """The same key in two scopes is two limits."""
    two = compiled(by(BY_USER, 1, "env"), by(BY_USER, 2, "account"))
    assert sorted(caps_of(two).values(), key=str) == [1, 2]
    assert len(queued(two, event(user="u")).step_partition.split("\x02")) == 3


def test_names_of_owners_are_not_taken_for_one_another() -> None:
    """An environment that is called as an account is."""
    env = compiled(by(BY_USER, 1, "env"), env="same", account="same")
    account = compiled(by(BY_USER, 1, "account"), env="same", account="same")
    assert limit_of(env, user="u") != limit_of(account, user="u")


@pytest.mark.parametrize("caps", [(2, 5), (5, 2)])
def test_of_two_entries_with_one_key_the_lower_counts(caps: tuple[int, int]) -> None:
    """In whatever order, and however the key is written."""
    twice = compiled(by(BY_USER, caps[0]), by(f" {BY_USER}", caps[1]))
    assert list(caps_of(twice).values()) == [2]
    assert len(twice.step_keys) == 1
    assert twice.signature == compiled(by(BY_USER, 9)).signature


def test_a_throttle_and_a_concurrency_with_one_key_are_two_limits() -> None:
    """A counter of requests at once, and a pace."""
    both = compiled(by(BY_USER, 3), throttle=Throttle(limit=1, period_ms=1000, key=BY_USER))
    assert list(caps_of(both).values()) == [3, "1000.0,1"]


def test_a_key_that_does_not_compile_limits_nothing() -> None:
    """It was written by another version; the function's other limits hold."""
    assert compiled(by("event.data."), Concurrency(limit=2)) == compiled(Concurrency(limit=2))
    throttle = Throttle(limit=1, period_ms=1000, key="nothing(")
    assert compiled(throttle=throttle, priority="1 +") == compiled()


# ---- values


@pytest.mark.parametrize("data", [{}, {"user": None}])
def test_without_a_value_runs_share_one_counter(data: dict[str, Any]) -> None:
    """And it is told which option that was."""
    keyed = compiled(Concurrency(limit=3), by(BY_USER))
    place = queued(keyed, event(**data))
    assert place.step_partition.endswith(f"|{FN}/{FALLBACK}")
    assert place.failed == ("concurrency[1].key",)


def test_each_option_without_a_value_is_told() -> None:
    """The others are as they are."""
    keyed = compiled(
        by(BY_USER),
        by("event.data.shop"),
        throttle=Throttle(limit=1, period_ms=1000, key="event.data.pace"),
        priority="event.data.priority",
    )
    place = queued(keyed, event(shop="s"))
    assert place.failed == ("concurrency[0].key", "throttle.key", "priority.run")
    assert place.boost_ms == 0
    owners = [limit.partition("|")[2] for limit in place.start_partition.split("\x02")[1:]]
    assert owners == [f"{FN}/{FALLBACK}", f"{FN}/{digest('s')}", f"{FN}/{FALLBACK}"]


def test_no_value_is_the_fallback() -> None:
    """A digest is never a dash, and an empty text is a value."""
    keyed = compiled(by(BY_USER))
    assert limit_of(keyed, user="-") != limit_of(keyed)
    assert limit_of(keyed, user="") != limit_of(keyed)


def test_a_number_is_one_value_however_json_wrote_it() -> None:
    """7 and 7.0."""
    keyed = compiled(by(BY_USER))
    assert limit_of(keyed, user=7) == limit_of(keyed, user=7.0)
    assert limit_of(keyed, user=7) != limit_of(keyed, user=8)


@given(st.text() | st.integers(-(2**53), 2**53) | st.booleans())
def test_names_can_be_taken_apart_whatever_the_values(value: object) -> None:
    """No value gets into a name as it is: the scheduler splits names at control characters and bars."""
    keyed = compiled(by(BY_USER), throttle=Throttle(limit=1, period_ms=1000, key=BY_USER))
    place = queued(keyed, event(user=value))
    lane, *limits = place.start_partition.split("\x02")
    assert lane == keyed.start_lane
    assert [limit.count("|") for limit in limits] == [1, 1]
    assert all(limit.isascii() and limit.isprintable() for limit in limits)
    assert [limit.split("|")[0] for limit in limits] == [limit.definition for limit in keyed.start_keys]
    assert place.failed == ()


@given(st.text(), st.text())
def test_two_values_have_two_counters(one: str, other: str) -> None:
    """And one value has one."""
    keyed = compiled(by(BY_USER))
    assert (limit_of(keyed, user=one) == limit_of(keyed, user=other)) == (one == other)


# ---- priority


@pytest.mark.parametrize(
    ("seconds", "boost_ms"),
    [(0, 0), (120, 120_000), (600, 600_000), (601, 600_000), (-601, -600_000), (1e9, 600_000), (2.9, 2_000)],
)
def test_a_priority_is_seconds_within_ten_minutes(seconds: float, boost_ms: int) -> None:
    """More is cut, a fraction too."""
    place = queued(compiled(priority="event.data.p"), event(p=seconds))
    assert (place.boost_ms, place.failed) == (boost_ms, ())


@pytest.mark.parametrize("value", ["10", None, True, [1]])
def test_a_priority_that_is_no_number_is_none(value: object) -> None:
    """And it is told."""
    place = queued(compiled(priority="event.data.p"), event(p=value))
    assert (place.boost_ms, place.failed) == (0, ("priority.run",))


def test_a_constant_priority_counts_too() -> None:
    """Against the function's runs of another time, or version."""
    assert queued(compiled(priority="60"), event()).boost_ms == 60_000


# ---- the signature

KEYS = [None, BY_USER, "event.data.shop", '"all"', '"none"']
SCOPES: list[Scope] = ["fn", "env", "account"]
options = st.fixed_dictionaries(
    {
        "concurrency": st.lists(
            st.builds(
                Concurrency,
                limit=st.integers(0, 3),
                key=st.sampled_from(KEYS),
                scope=st.sampled_from(SCOPES),
            ),
            max_size=2,
        ),
        "throttle": st.none()
        | st.builds(
            Throttle,
            limit=st.integers(0, 3),
            period_ms=st.sampled_from([1000, MINUTE_MS]),
            key=st.sampled_from(KEYS),
        ),
        "priority": st.sampled_from([None, "1", "event.data.p"]),
    }
)


def queueing_of(chosen: dict[str, Any]) -> Queueing:
    """A function with options that were drawn."""
    return compiled(*chosen["concurrency"], throttle=chosen["throttle"], priority=chosen["priority"])


def what_is_keyed(chosen: dict[str, Any]) -> object:
    """All that a run's place depends on: which keys in which scope, and the priority. No limits."""
    keyed = [(each.scope, each.key) for each in chosen["concurrency"] if each.limit and each.key is not None]
    throttle = chosen["throttle"]
    pace = throttle.key if throttle is not None else None
    return list(dict.fromkeys(keyed)), pace, chosen["priority"]


@given(options, options)
def test_the_signature_changes_with_the_keys_and_the_priority_and_with_nothing_else(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """What is queued is keyed again where, and only where, it would be put somewhere else now."""
    first, second = queueing_of(before), queueing_of(after)
    assert (first.signature == second.signature) == (what_is_keyed(before) == what_is_keyed(after))


@given(options)
def test_where_nothing_is_keyed_there_is_no_signature(chosen: dict[str, Any]) -> None:
    """And with a priority it begins with a p, which no other does."""
    queueing = queueing_of(chosen)
    assert (queueing.signature == "") == (what_is_keyed(chosen) == ([], None, None))
    assert queueing.signature.startswith("p") == (chosen["priority"] is not None)
    assert queueing.start_lane.split("\x01")[1] == f"s{queueing.signature}"
    assert queueing.step_lane.split("\x01")[1] == f"t{queueing.signature}"


@given(options)
def test_every_limit_of_a_place_has_a_cap_and_every_cap_a_name(chosen: dict[str, Any]) -> None:
    """A limit without one would hold nobody up; throttles, and they alone, begin with a t."""
    queueing = queueing_of(chosen)
    place = queued(queueing, event(user="u", shop="s", p=1))
    names = [
        limit.partition("|")[0]
        for part in place.start_partition.split("\x02")
        for limit in part.split("\x01")
        if "|" in limit
    ]
    caps = caps_of(queueing)
    assert set(names) == set(caps) - {"c", "t"}
    assert len(set(names)) == len(names)
    assert all(isinstance(cap, str) == name.startswith("t") for name, cap in caps.items())
    assert place.failed == ()


# ---- throttles


@pytest.mark.parametrize(
    ("throttle", "cap"),
    [
        (Throttle(limit=1, period_ms=1000), "1000.0,1"),
        (Throttle(limit=0, period_ms=1000), "1000.0,1"),
        (Throttle(limit=60, period_ms=MINUTE_MS, burst=0), "1000.0,1"),
        (Throttle(limit=7, period_ms=MINUTE_MS, burst=5), "8571.42857142857,5"),
        (Throttle(limit=1_000_000, period_ms=1000), "0.001,1"),
    ],
)
def test_a_throttle_is_a_time_between_two_starts(throttle: Throttle, cap: str) -> None:
    """A limit of zero is taken for one, as is a burst of zero."""
    assert throttle_cap(throttle) == cap


@given(st.integers(1, 10_000_000), st.integers(1000, 7 * 86_400_000))
def test_the_time_between_two_starts_is_written_exactly(limit: int, period_ms: int) -> None:
    """And in a form that the scheduler reads: `<ms>,<burst>`."""
    emission, burst = throttle_cap(Throttle(limit=limit, period_ms=period_ms)).split(",")
    assert (float(emission), burst) == (period_ms / limit, "1")
