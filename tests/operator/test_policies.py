"""What annotations of Namespaces grant an environment."""

import re
from typing import Any

import pytest

from innkeeper_engine.model.environments import Policy
from innkeeper_operator.objects import NamespaceObject, read_namespace
from innkeeper_operator.policies import read_policies, read_policy
from innkeeper_operator.world import NAMESPACES, World

DAY_S = 86_400


def namespace(name: str = "prod", **annotations: str) -> NamespaceObject:
    """A Namespace; `retention_runs="7d"` becomes `innkeeper.dev/retention-runs: 7d`."""
    return read_namespace({"metadata": metadata(name, annotations)})


def metadata(name: str, annotations: dict[str, str], version: int = 1) -> dict[str, Any]:
    """Of a Namespace."""
    named = {f"innkeeper.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version), "annotations": named}


def test_every_annotation_is_read() -> None:
    policy, problems = read_policy(
        "prod",
        [
            namespace(
                retention_events="12h",
                retention_runs="7d",
                retention_dead_letters="2 weeks",
                egress_allow="10.1.0.0/16, billing.internal *.svc",
                events_per_second=" 500 ",
                webhook_redirects="App.example.com,*.example.org",
            )
        ],
    )
    assert problems == ()
    assert policy == Policy(
        events_keep_s=DAY_S // 2,
        runs_keep_s=7 * DAY_S,
        letters_keep_s=14 * DAY_S,
        egress_allow=("10.1.0.0/16", "billing.internal", "*.svc"),
        events_per_s=500,
        redirects=("app.example.com", "*.example.org"),
    )


def test_nothing_said_is_the_installations_default() -> None:
    """Also of a Namespace that cannot be read."""
    assert read_policy("prod", [namespace(), None]) == (Policy(), ())


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    [
        ("retention_events", "59m", "1h or more"),
        ("retention_events", "seven days", "write a number and a unit"),
        ("retention_runs", "59s", "1m or more"),
        ("retention_runs", "9999d", "up to 3650d"),
        ("retention_runs", "-1d", "negative"),
        ("retention_dead_letters", "", "empty"),
        ("egress_allow", " , ", "10.1.0.0/16"),
        ("egress_allow", "http://x/", "is no CIDR"),
        ("egress_allow", "10.1.2.3/16", "host bits"),
        ("events_per_second", "0", "from 1 to 1000000"),
        ("events_per_second", "1e3", "from 1 to 1000000"),
        ("events_per_second", "٣", "from 1 to 1000000"),
        ("webhook_redirects", "https://example.com", "without scheme"),
        ("webhook_redirects", "example.com:8080", "without scheme"),
        ("webhook_redirects", "*", "without scheme"),
        ("webhook_redirects", "a" * 254, "without scheme"),
    ],
)
def test_what_cannot_be_meant_so_is_told_and_grants_nothing(annotation: str, value: str, says: str) -> None:
    """The other annotations count all the same."""
    policy, (problem,) = read_policy("prod", [namespace(**{annotation: value, "account": "x"})])
    assert policy == Policy()
    assert problem.reason == "InvalidPolicy"
    assert problem.message.startswith(f"innkeeper.dev/{annotation.replace('_', '-')} does not count: ")
    assert says in problem.message
    assert len(problem.message) < 700


def test_the_first_namespace_that_says_so_counts() -> None:
    """By name; one that says nothing, or nothing that can be read, leaves it to the next."""
    us = namespace("us", retention_runs="2d", events_per_second="5")
    eu = namespace("eu", retention_runs="1d", events_per_second="five")
    policy, problems = read_policy("prod", [us, namespace("asia"), eu])
    assert policy == Policy(runs_keep_s=DAY_S, events_per_s=5)
    assert [(each.namespace.meta.name, each.reason) for each in problems] == [
        ("eu", "InvalidPolicy"),
        ("us", "PolicyConflict"),
    ]
    assert "another one by its namespace eu" in problems[1].message


def test_namespaces_that_agree_are_no_conflict() -> None:
    both = [namespace("eu", retention_runs="24h"), namespace("us", retention_runs="1d")]
    assert read_policy("prod", both) == (Policy(runs_keep_s=DAY_S), ())


def test_a_change_of_any_annotation_concerns_the_environment() -> None:
    """Another one of somebody else's does not."""
    world = World()
    world.put(NAMESPACES, {"metadata": metadata("prod", {})})
    said: dict[str, str] = {}
    for version, name in enumerate(
        (
            "retention_events",
            "retention_runs",
            "retention_dead_letters",
            "egress_allow",
            "events_per_second",
            "webhook_redirects",
        ),
        2,
    ):
        said |= {name: "1d"}
        assert world.put(NAMESPACES, {"metadata": metadata("prod", said, version)}).namespaces == {"prod"}, (
            name
        )
    other = metadata("prod", said, 99)
    other["annotations"]["example.com/note"] = "x"
    assert not world.put(NAMESPACES, {"metadata": other}).namespaces


def test_a_typo_changes_nothing_until_it_is_mended() -> None:
    """What counted before holds: neither is more deleted, nor a way out opened or closed; that is told."""
    held = Policy(runs_keep_s=90 * DAY_S, egress_allow=("10.1.0.0/16",))
    wrong = namespace(
        retention_runs="90 dyas", egress_allow="10.1.0.0/16, 10.2.0.0/33", events_per_second="5"
    )
    policy, problems = read_policy("prod", [wrong], held=held)
    assert policy == Policy(runs_keep_s=90 * DAY_S, egress_allow=("10.1.0.0/16",), events_per_s=5)
    assert len(problems) == 2
    assert all(
        each.message.endswith("Until that is mended, what counted before still does") for each in problems
    )
    mended = namespace(retention_runs="30d")
    assert read_policy("prod", [mended], held=policy) == (Policy(runs_keep_s=30 * DAY_S), ())


def test_where_nothing_counted_before_the_next_namespace_does() -> None:
    both = [namespace("eu", retention_runs="1dd"), namespace("us", retention_runs="2d")]
    assert read_policy("prod", both, held=Policy())[0] == Policy(runs_keep_s=2 * DAY_S)


def test_settings_say_it_of_namespaces_that_cannot_be_read() -> None:
    text = """{"shop": {"retentionEvents": "12h", "retentionRuns": "7d", "retentionDeadLetters": "1d",
        "egressAllow": ["10.1.0.0/16", "billing.internal"], "eventsPerSecond": 500,
        "webhookRedirects": ["app.example.com"]}, "shop-eu": {"retentionRuns": "168h"}}"""
    settled = read_policies(text, {"shop-eu": "shop"})
    policy, problems = read_policy("shop", [None, None], settled=settled.values())
    assert problems == ()
    assert policy == Policy(
        events_keep_s=DAY_S // 2,
        runs_keep_s=7 * DAY_S,
        letters_keep_s=DAY_S,
        egress_allow=("10.1.0.0/16", "billing.internal"),
        events_per_s=500,
        redirects=("app.example.com",),
    )
    seen = namespace("shop", retention_runs="1d")
    policy, (problem,) = read_policy("shop", [seen], settled=settled.values())
    assert policy.runs_keep_s == 7 * DAY_S
    assert "by the operator's settings" in problem.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "must be JSON such as"),
        ('{"shop": "7d"}', "must be JSON such as"),
        ('{"Shop": {}}', "'Shop' is no name of a namespace"),
        ('{"shop": {"retention": "7d"}}', "shop.retention is nothing that can be granted: retentionEvents, "),
        ('{"shop": {"retentionRuns": 7}}', "shop.retentionRuns must be a text such as 7d"),
        ('{"shop": {"retentionRuns": "7 dyas"}}', "shop.retentionRuns: "),
        ('{"shop": {"eventsPerSecond": "5"}}', "shop.eventsPerSecond must be a whole number"),
        ('{"shop": {"egressAllow": "10.0.0.0/8"}}', "shop.egressAllow must be a list of texts"),
        ('{"shop": {"egressAllow": ["10.0.0.0/33"]}}', "shop.egressAllow: "),
        (
            '{"shop": {"retentionRuns": "1d"}, "shop-eu": {"retentionRuns": "2d"}}',
            "shop.retentionRuns and shop-eu.retentionRuns differ",
        ),
    ],
)
def test_settings_that_cannot_be_meant_so_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        read_policies(text, {"shop-eu": "shop"})
