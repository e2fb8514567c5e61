"""Label and field selectors: text in, a predicate over objects out."""

import re
from collections.abc import Callable, Mapping

from tests.kube.errors import Obj, bad_request

Predicate = Callable[[Obj], bool]
"""Whether an object is selected."""

_SET = re.compile(r"^\s*([^\s!=,()]+)\s+(in|notin)\s*\(([^()]*)\)\s*$")
_EQUALS = re.compile(r"^\s*([^\s!=,()]+)\s*(==|=|!=)\s*([^\s!=,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([^\s!=,()]+)\s*$")


def split_terms(text: str) -> list[str]:
    """The terms of a selector, divided at commas outside of parentheses."""
    terms: list[str] = []
    depth, start = 0, 0
    for at, char in enumerate(text):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and depth == 0:
            terms.append(text[start:at])
            start = at + 1
    terms.append(text[start:])
    return [term for term in terms if term.strip()]


def _label_term(term: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.match(term):
        key, operator = found[1], found[2]
        values = {value.strip() for value in found[3].split(",")}
        if operator == "in":
            return lambda labels: key in labels and labels[key] in values
        return lambda labels: key not in labels or labels[key] not in values
    if found := _EQUALS.match(term):
        key, value = found[1], found[3]
        if found[2] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(term):
        key = found[2]
        if found[1]:
            return lambda labels: key not in labels
        return lambda labels: key in labels
    raise bad_request(f"unable to parse requirement: found '{term.strip()}', expected: a label requirement")


def label_selector(text: str) -> Predicate | None:
    """The predicate of a `labelSelector`; None selects everything. Raises 400 for text that is no selector."""
    checks = [_label_term(term) for term in split_terms(text)]
    if not checks:
        return None

    def selects(obj: Obj) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(check(labels) for check in checks)

    return selects


def field_terms(text: str) -> list[tuple[str, bool, str]]:
    """The terms of a `fieldSelector` as (field, whether it must be equal, value)."""
    terms = []
    for term in split_terms(text):
        found = _EQUALS.match(term)
        if not found:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        terms.append((found[1], found[2] != "!=", found[3]))
    return terms


def field_text(value: object, kind: str) -> str:
    """How a field selector sees a value; an absent one is the zero value of its type."""
    if value is None:
        return {"boolean": "false", "integer": "0"}.get(kind, "")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def reach(obj: object, path: tuple[str, ...]) -> object:
    """The value at a path of field names, or None."""
    for name in path:
        if not isinstance(obj, dict):
            return None
        obj = obj.get(name)
    return obj


def field_selector(text: str, selectable: Mapping[str, str]) -> Predicate | None:
    """The predicate of a `fieldSelector`; `selectable` gives each allowed field's type. Raises 400 for other fields."""
    terms = field_terms(text)
    for field, _, _ in terms:
        if field not in selectable:
            raise bad_request(f"field label not supported: {field}")
    if not terms:
        return None
    checks = [(tuple(field.split(".")), selectable[field], same, value) for field, same, value in terms]

    def selects(obj: Obj) -> bool:
        return all(
            (field_text(reach(obj, path), kind) == value) == same for path, kind, same, value in checks
        )

    return selects


def name_in(text: str) -> str:
    """The name that a `fieldSelector` pins by `metadata.name=`, which is what RBAC's resourceNames look at."""
    for field, same, value in field_terms(text):
        if field == "metadata.name" and same:
            return value
    return ""
