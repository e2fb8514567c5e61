"""Conditions and facts of statuses: their times, their generations, their bounds."""

from typing import Any

import msgspec
import pytest

from innkeeper_operator.conditions import (
    Said,
    conditions,
    find,
    read_time_ms,
    shorten,
    since_ms,
    time_text,
)
from innkeeper_operator.functions import unreadable_status
from innkeeper_operator.objects import FUNCTION_KIND, Meta, Unreadable
from innkeeper_operator.plan import plan_unreadable
from innkeeper_operator.status import ready
from tests.crds.schemas import load_crds, schema_of, structural_errors
from tests.operator.plan_kit import NOW_MS, House, declared, refused

STATUS = {kind: schema_of(crd)["properties"]["status"] for kind, crd in load_crds().items()}

GOOD = Said("True", "Answered")
SYNCED = Said("True", "Synced", "2 functions registered")


# ---- conditions


def test_a_condition_has_all_that_kubernetes_wants() -> None:
    assert conditions({"Ready": Said("False", "Why", "what to do")}, {}, generation=3, now_ms=NOW_MS) == [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Why",
            "message": "what to do",
            "lastTransitionTime": time_text(NOW_MS),
            "observedGeneration": 3,
        }
    ]


def test_the_time_is_kept_while_the_status_is_even_with_another_reason() -> None:
    before = {"conditions": conditions({"Ready": Said("False", "A")}, {}, generation=1, now_ms=NOW_MS)}
    later = NOW_MS + 60_000
    (same,) = conditions({"Ready": Said("False", "B")}, before, generation=1, now_ms=later)
    (other,) = conditions({"Ready": Said("True", "B")}, before, generation=1, now_ms=later)
    assert same["lastTransitionTime"] == time_text(NOW_MS)
    assert other["lastTransitionTime"] == time_text(later)


@pytest.mark.parametrize(
    "status",
    [{}, {"conditions": None}, {"conditions": "x"}, {"conditions": [1, {"type": "Other"}]}],
)
def test_a_status_that_says_nothing_or_nonsense_is_read_as_nothing(status: dict[str, Any]) -> None:
    assert find(status, "Ready") is None
    assert since_ms(status, "Ready") is None


def test_a_time_that_is_none_is_replaced() -> None:
    before = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "yesterday"}]}
    (found,) = conditions({"Ready": Said("True", "A")}, before, generation=1, now_ms=NOW_MS)
    assert found["lastTransitionTime"] == time_text(NOW_MS)


def test_what_was_said_can_be_read_back() -> None:
    said = Said("Unknown", "NoEndpoints", "wait", 4)
    status = {"conditions": conditions({"Ready": said}, {}, generation=9, now_ms=NOW_MS)}
    assert find(status, "Ready") == said
    assert since_ms(status, "Ready") == NOW_MS


@pytest.mark.parametrize(
    ("text", "ms"), [("2026-11-22T10:33:08Z", 1795343588000), ("", None), ("2026-11-22", None)]
)
def test_times_are_read_as_api_servers_write_them(text: str, ms: int | None) -> None:
    assert read_time_ms(text) == ms


def test_long_texts_are_cut_visibly_and_can_be_sent() -> None:
    assert shorten("abcdef", 4) == "abc…"
    assert shorten("abcd", 4) == "abcd"
    shorten("\ud800", 4).encode()


# ---- Ready of an app


@pytest.mark.parametrize(
    ("reach", "sync", "paused", "status", "reason"),
    [
        (GOOD, SYNCED, False, "True", "Ready"),
        (GOOD, SYNCED, True, "True", "Paused"),
        (Said("False", "ConnectionRefused"), SYNCED, False, "False", "ConnectionRefused"),
        (
            Said("False", "ConnectionRefused"),
            Said("False", "InvalidFunction"),
            False,
            "False",
            "InvalidFunction",
        ),
        (Said("Unknown", "NoEndpoints"), SYNCED, False, "Unknown", "NoEndpoints"),
        (Said("Unknown", "NoEndpoints"), Said("Unknown", "NotAsked"), True, "Unknown", "NoEndpoints"),
        (GOOD, Said("Unknown", "NotAsked"), False, "Unknown", "NotAsked"),
        (Said("Unknown", "NoEndpoints"), Said("False", "Unauthorized"), False, "False", "Unauthorized"),
    ],
)
def test_ready_has_the_reason_that_helps_most(
    reach: Said, sync: Said, paused: bool, status: str, reason: str
) -> None:
    house = House(paused=paused)
    found = ready(house.view(), reach, sync)
    assert (found.status, found.reason) == (status, reason)


def test_a_key_that_cannot_be_used_comes_first() -> None:
    house = House()
    house.key_problem = ("SecretNotFound", "make it")
    assert ready(house.view(), Said("False", "Down"), Said("False", "Down")) == Said(
        "False", "SecretNotFound", "make it"
    )


def test_ready_is_as_old_as_the_older_of_what_it_is_made_of() -> None:
    old = msgspec.structs.replace(SYNCED, generation=2)
    assert ready(House().view(), GOOD, old).generation == 2


# ---- bounds


def test_statuses_of_huge_answers_are_within_the_schema() -> None:
    house = House(branch="feature/x")
    sent = [declared("f" * 240 + str(number)) for number in range(40)]
    answer = house.answered(*sent, appVersion="v" * 5_000, framework="f" * 5_000)
    house.settle(answer)
    assert (
        structural_errors(STATUS["InngestApp"]["properties"]["conditions"], house.app["status"]["conditions"])
        == []
    )
    assert structural_errors(STATUS["InngestApp"], house.app["status"]) == []
    assert house.app["status"]["branch"] == "feature/x"
    for function in house.functions.values():
        assert structural_errors(STATUS["Function"], function["status"]) == []
    assert len(house.told("FunctionAdded")[0]) <= 900


def test_messages_of_many_problems_are_cut() -> None:
    house = House()
    wrong = {f"f{number}": "x" * 1_000 for number in range(100)}
    house.settle(refused(*(declared(name) for name in wrong), wrong=wrong))
    assert (
        structural_errors(STATUS["InngestApp"]["properties"]["conditions"], house.app["status"]["conditions"])
        == []
    )
    assert structural_errors(STATUS["InngestApp"], house.app["status"]) == []
    assert len(house.condition("Synced")[2]) <= 4_000


# ---- what cannot be read


def test_objects_that_cannot_be_read_say_so_the_same_way_every_time() -> None:
    meta = Meta(name="a", namespace="prod", uid="u", generation=5, created="2026-11-22T10:33:08Z")
    status = unreadable_status(Unreadable(FUNCTION_KIND, meta, "Expected `int`", "shop"))
    assert structural_errors(STATUS["Function"], status) == []
    assert {(each["type"], each["status"], each["reason"]) for each in status["conditions"]} == {
        ("Accepted", "False", "Unsupported"),
        ("Ready", "False", "Unsupported"),
    }
    assert status == unreadable_status(Unreadable(FUNCTION_KIND, meta, "Expected `int`", "shop"))
    (action,) = plan_unreadable(Unreadable("InngestApp", meta, "Expected `int`"))
    assert structural_errors(STATUS["InngestApp"], action.status) == []  # type: ignore[union-attr]
