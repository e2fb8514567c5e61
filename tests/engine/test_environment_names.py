"""What environments, and branches of them, are called in the store, by people, and on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.model.environments import branch_name, parent_name, shown_name, wire_name
from innkeeper_engine.store.environments import check_name

PARENTS = st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True)
BRANCHES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(PARENTS, BRANCHES)
def test_a_branch_keeps_its_name_and_its_parent(parent: str, branch: str) -> None:
    """Whatever letters Git allows; the store's own separators are not among those that come out."""
    name = branch_name(parent, branch)
    assert (parent_name(name), shown_name(name)) == (parent, branch)
    assert not set(name) & set(":/\n ")
    check_name(name)


@given(PARENTS, PARENTS, BRANCHES, BRANCHES)
def test_two_branches_never_share_a_name(one: str, other: str, left: str, right: str) -> None:
    assert (branch_name(one, left) == branch_name(other, right)) == ((one, left) == (other, right))


@pytest.mark.parametrize("name", ["", "a:b", "a/b", "a b", "a\n", "prod~", "prod~a~b", "prod~%2f", "x" * 254])
def test_what_would_break_the_stores_keys_is_no_name(name: str) -> None:
    """The parts of its keys are joined by colons and slashes."""
    with pytest.raises(ValueError, match="cannot be the name of an environment"):
        check_name(name)


def test_apps_are_told_of_their_environment_where_there_is_more_than_one() -> None:
    names = ("default", "prod", branch_name("prod", "feature/x"))
    assert [wire_name(name) for name in names] == ["", "prod", "feature/x"]
