"""Each rule of the custom resource definitions accepts what it should, and refuses the rest with its message."""

import pytest

from tests.crds.cases import Case, manifest
from tests.crds.cases_of_apps import APPS
from tests.crds.cases_of_functions import FUNCTIONS
from tests.crds.cases_of_webhooks import WEBHOOKS
from tests.crds.expressions import RuleError, escaped, holds
from tests.crds.rules import Json, cel_validator, load_crds, rules_of, validate

CASES = (*APPS, *FUNCTIONS, *WEBHOOKS)

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{case.id}")


def _old(case: Case) -> Json | None:
    return None if case.old is None else manifest(case.kind, case.old)


@each_case
def test_a_rule_accepts(case: Case) -> None:
    assert validate(manifest(case.kind, case.accepted), _old(case)) == []


@each_case
def test_a_rule_refuses_with_its_message_and_nothing_else_does(case: Case) -> None:
    refused = manifest(case.kind, case.refused)
    assert validate(refused, _old(case)) == [f"{case.at or case.place}: Invalid value: {case.message}"]


@pytest.mark.parametrize("case", [case for case in CASES if case.old is not None], ids=lambda case: case.id)
def test_a_rule_about_a_change_does_not_touch_new_objects(case: Case) -> None:
    assert validate(manifest(case.kind, case.refused)) == []


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    rules = {(rule.kind, rule.place, rule.message) for crd in load_crds().values() for rule in rules_of(crd)}
    assert rules == {(case.kind, case.place, case.message) for case in CASES}


def test_cases_have_names_of_their_own() -> None:
    names = [(case.kind, case.id) for case in CASES]
    assert len(names) == len(set(names))


def test_what_an_update_leaves_alone_is_not_refused() -> None:
    crd = load_crds()["Function"]
    broken = manifest("Function", {"timeouts": {}})
    assert cel_validator(crd, {**broken, "status": {"slug": "shop-a"}}, broken) == []
    assert cel_validator(crd, broken, None) == ["spec.timeouts: Invalid value: start or finish must be set"]


def test_a_field_with_a_reserved_name_is_escaped() -> None:
    assert escaped("if") == "__if__"
    assert escaped("iff") == "iff"
    assert escaped("a-b.c/d__e") == "a__dash__b__dot__c__slash__d__underscores__e"


def test_a_rule_does_not_see_what_the_schema_does_not_declare() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "x-kubernetes-preserve-unknown-fields": True,
    }
    assert holds("has(self.a) && !has(self.b)", schema, {"a": "x", "b": "y"})


def test_a_rule_that_cannot_be_evaluated_says_so() -> None:
    schema = {"type": "string", "format": "duration"}
    with pytest.raises(RuleError, match="evaluating rule: self >= duration"):
        holds("self >= duration('1s')", schema, "soon")
    with pytest.raises(RuleError, match="in rule: self >="):
        holds("self >=", schema, "1s")
    with pytest.raises(RuleError, match="true or false is wanted"):
        holds("self.size()", {"type": "string"}, "a")
