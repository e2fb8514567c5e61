"""Event names reach the triggers that name them, and those that name a prefix of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.triggers import (
    event_name_problem,
    event_name_warning,
    is_internal,
    is_pattern,
    matches,
    patterns_for,
)

NAMES = st.text(alphabet="ab./*", max_size=12)


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("app/user.created", ("app/user.created", "app/*", "app/user.*", "*")),
        (
            "app/blog.post.created",
            ("app/blog.post.created", "app/*", "app/blog.*", "app/blog.post.*", "*"),
        ),
        ("a/b/c.d", ("a/b/c.d", "a/*", "a/b/*", "a/b/c.*", "*")),
        ("signup", ("signup", "*")),
        ("inngest/function.failed", ("inngest/function.failed", "inngest/*", "inngest/function.*")),
    ],
)
def test_a_name_gives_the_patterns_that_it_matches(name: str, patterns: tuple[str, ...]) -> None:
    assert patterns_for(name) == patterns


@pytest.mark.parametrize(
    ("trigger", "name", "reached"),
    [
        ("app/blog.post.*", "app/blog.post.created", True),
        ("app/blog.post.*", "app/blog.post.draft.saved", True),
        ("app/blog.post.*", "app/blog.posts", False),
        ("app/blog.post.*", "app/blog.post", False),
        ("app/*", "app/user.created", True),
        ("app/*", "application/user.created", False),
        ("*", "anything", True),
        ("*", "inngest/function.finished", False),
        ("inngest/*", "inngest/function.finished", True),
        ("app/user.created", "App/User.Created", False),
        (" app/user.login", "app/user.login", False),
    ],
)
def test_a_trigger_is_reached_by_what_it_names(trigger: str, name: str, reached: bool) -> None:
    assert matches(trigger, name) is reached


@given(NAMES)
def test_patterns_are_distinct_and_begin_with_the_name_itself(name: str) -> None:
    patterns = patterns_for(name)
    assert patterns[0] == name
    assert len(set(patterns)) == len(patterns)
    assert all(is_pattern(pattern) for pattern in patterns[1:])


@given(NAMES, NAMES)
def test_a_prefix_trigger_is_reached_exactly_by_what_begins_with_the_prefix(prefix: str, name: str) -> None:
    for joint in "/.":
        trigger = f"{prefix}{joint}*"
        assert matches(trigger, name) is (name == trigger or name.startswith(trigger[:-1]))


def test_only_a_star_alone_or_after_a_joint_is_a_pattern() -> None:
    assert [n for n in ("*", "app/*", "app/user.*", "app*", "*/x", "app/*.created") if is_pattern(n)] == [
        "*",
        "app/*",
        "app/user.*",
    ]


def test_names_of_the_servers_own_events_are_told_whatever_their_case() -> None:
    assert is_internal("inngest/function.failed")
    assert is_internal("Inngest/x")
    assert not is_internal("inngest.x")


def test_an_event_name_of_a_trigger_has_1_to_255_characters() -> None:
    assert event_name_problem("x" * 255) is None
    assert "256 characters" in (event_name_problem("x" * 256) or "")
    assert "is empty" in (event_name_problem(" ") or "")


@pytest.mark.parametrize(
    ("name", "says"), [(" app/user.login", "space"), ("app/*.created", "wildcard"), ("app*", "wildcard")]
)
def test_names_that_hardly_mean_what_they_say_are_warned_of(name: str, says: str) -> None:
    assert says in (event_name_warning(name) or "")


@pytest.mark.parametrize(
    "name", ["app/user.created", "*", "app/*", "cron.5_minutes", "stripe/charge.updated"]
)
def test_ordinary_names_are_not_warned_of(name: str) -> None:
    assert event_name_warning(name) is None
