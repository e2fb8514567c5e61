"""For each rule of the custom resource definitions one object that it accepts and one that it refuses.

The rules' tests read them here, without an API server and against a real one.
"""

import copy
from typing import Any, Final, NamedTuple

from tests.crds.schemas import Json


class Case(NamedTuple):
    """What one rule is tried with."""

    id: str
    kind: str
    place: str
    """Where the rule is: `spec.triggers[]`."""
    message: str
    accepted: Json
    """Parts of `spec`, beside those that every object of the kind needs."""
    refused: Json
    old: Json | None = None
    """The `spec` before, for a rule about a change: then accepted and refused take its place."""
    at: str = ""
    """Where the refusal is reported, if it is not `place`: `spec.triggers[0]`."""


_REQUIRED: Final[dict[str, Json]] = {
    "InngestApp": {"endpoint": {"service": {"name": "shop", "port": 3000}}},
    "Function": {"appRef": {"name": "shop"}, "id": "process-order"},
    "Webhook": {"transform": {"script": "function transform(evt) { return {name: 'acme/x', data: evt} }"}},
}


def manifest(kind: str, spec: Json, name: str = "shop") -> Json:
    """A whole object; what its kind requires in `spec` is added."""
    return {
        "apiVersion": "innkeeper.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": copy.deepcopy({**_REQUIRED[kind], **spec}),
    }


def key(name: str, entry: str = "signing-key") -> Json:
    """A reference to one key of a Secret."""
    return {"secretRef": {"name": name, "key": entry}}


def ranges(kind: str, place: str, low: str, high: str, spec: Any) -> list[Case]:
    """A duration within bounds that belong to it: one case below, one above (without the first where low is 0s)."""
    name = place.rsplit(".", 1)[-1]
    inside = {"1s": "1s", "10s": "10s", "0s": "0s"}[low]
    below = {"1s": "999ms", "10s": "9s", "0s": None}[low]
    above = {
        "5m": "5m1s",
        "24h": "1d1s",
        "7d": "1w1ms",
        "366d": "52w2d1h 24h",
        "10m": "601s",
        "1h": "61 minutes",
    }[high]
    message = f"{name} must be at most {high}" if low == "0s" else f"{name} must be from {low} to {high}"
    at = place.replace("[]", "[0]")
    cases = [Case(f"{place}-longest", kind, place, message, spec(high), spec(above), at=at)]
    if below is not None:
        cases.append(Case(f"{place}-shortest", kind, place, message, spec(inside), spec(below), at=at))
    return cases


DURATIONS: Final = ("1min", "18h30m", "7d", "4w2d", "2d12h", "1 min", "4 hours", "1w", "90 seconds", "1h 30m")
"""Durations as people write them, all from 1s to 366d."""
NOT_DURATIONS: Final = (
    "2.5d",
    "P1D",
    "-5s",
    "1h ",
    "1h garbage",
    "1h\n",
    " 1h",
    "5",
    "",
    "1 fortnight",
    "1H",
)
