"""Whether a ledger, and what the server says of its runs, keep the promises. Pure: every breach is a sentence."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.crash.app import APP_ID, hashed
from tests.crash.ledger import Checkpoint, Ledger, Request
from tests.crash.shapes import SHAPES, started_by


@dataclasses.dataclass(frozen=True)
class Sent:
    """One event of the sender's and the ids under which it was acknowledged.

    There are several ids where the sender gave the event an id of its own and sent it anew: one run starts all the
    same.
    """

    name: str
    key: str
    ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as the server tells it at the end."""

    id: str
    slug: str
    status: str
    event_ids: tuple[str, ...]
    output: Any


def check_leases(ledger: Ledger) -> list[str]:
    """Side effects happen once per lease: no lease's request reached the app twice."""
    breaches = []
    tokens = Counter(request.request_id for request in ledger.requests)
    breaches += [f"lease {token}: {count} requests" for token, count in tokens.items() if count > 1]
    dispatches = Counter((request.item, request.generation) for request in ledger.requests)
    breaches += [
        f"item {item}, generation {generation}: {count} requests"
        for (item, generation), count in dispatches.items()
        if count > 1
    ]
    executed = Counter((e.request_id, e.step) for e in ledger.executions)
    breaches += [f"lease {key[0]}: ran step {key[1]} {n} times" for key, n in executed.items() if n > 1]
    return breaches


def check_results(ledger: Ledger) -> list[str]:
    """A step has one result, whoever shows it, and it is what an execution of that step returned."""
    breaches = []
    made = {(e.run, e.step, e.nonce) for e in ledger.executions}
    bodies = {(e.run, e.step) for e in ledger.executions}
    shown: dict[tuple[str, str], Any] = {}
    for request in ledger.requests:
        if set(request.stack) != set(request.steps) or len(set(request.stack)) != len(request.stack):
            breaches.append(f"run {request.run}: stack {request.stack}, steps {sorted(request.steps)}")
        for step, memo in request.steps.items():
            first = shown.setdefault((request.run, step), memo)
            if first != memo:
                breaches.append(f"run {request.run}, step {step}: shown as {first!r}, then as {memo!r}")
            if (request.run, step) in bodies and (request.run, step, memo.get("data")) not in made:
                breaches.append(f"run {request.run}, step {step}: {memo!r} is no result of the app's")
    return breaches + _check_order(ledger.requests)


def _check_order(requests: Iterable[Request]) -> list[str]:
    """Results are only ever added: what one request has seen is the beginning of what another has."""
    longest: dict[str, tuple[str, ...]] = {}
    breaches = []
    for request in requests:
        known = longest.get(request.run, ())
        short, long = sorted((known, request.stack), key=len)
        if long[: len(short)] != short:
            breaches.append(f"run {request.run}: stack {short} is no beginning of {long}")
        longest[request.run] = long
    return breaches


def check_checkpoints(ledger: Ledger) -> list[str]:
    """What was acknowledged while the call went on is in every later request, and does not run again.

    Later is what comes later and under a later lease: an executor that was frozen sends what it has leased before,
    when it wakes.
    """
    requests = {request.request_id: request for request in ledger.requests}
    acknowledged: dict[str, list[Checkpoint]] = defaultdict(list)
    for checkpoint in ledger.checkpoints:
        acknowledged[checkpoint.run].append(checkpoint)

    def before(at: int, request: Request) -> list[Checkpoint]:
        return [
            c for c in acknowledged[request.run] if c.at < at and requests[c.request_id].age <= request.age
        ]

    breaches = [
        f"run {request.run}: checkpoint {c.nonce} is {request.steps.get(c.step)!r} in a later request"
        for request in ledger.requests
        for c in before(request.at, request)
        if request.steps.get(c.step) != {"data": c.nonce}
    ]
    return breaches + [
        f"run {e.run}: step {e.name} ran again after its checkpoint"
        for e in ledger.executions
        if any(c.step == e.step for c in before(e.at, requests[e.request_id]))
    ]


def check_events(sent: Sequence[Sent], runs: Mapping[str, Run]) -> list[str]:
    """Every acknowledged event has exactly one run of each function that it starts, and nothing else runs."""
    by_event: dict[str, list[Run]] = defaultdict(list)
    for run in runs.values():
        for event_id in run.event_ids:
            by_event[event_id].append(run)
    breaches = []
    accounted: set[str] = set()
    for event in sent:
        found = [run for event_id in event.ids for run in by_event[event_id]]
        accounted.update(run.id for run in found)
        slugs = sorted(run.slug for run in found)
        wanted = sorted(f"{APP_ID}-{name}" for name in started_by(event.name))
        if slugs != wanted:
            breaches.append(f"event {event.ids} ({event.name}): started {slugs}, not {wanted}")
    inner = {f"{APP_ID}-callee", f"{APP_ID}-failing-failure"}
    strangers = [run for run in runs.values() if run.id not in accounted and run.slug not in inner]
    return breaches + [f"run {run.id} of {run.slug}: no acknowledged event started it" for run in strangers]


def check_inner_runs(ledger: Ledger, runs: Mapping[str, Run]) -> list[str]:
    """One run per invocation, one call of the failure handler per failed run."""
    breaches = []
    keys = {request.run: str(request.event["data"].get("key")) for request in ledger.requests}
    callers = Counter(keys.get(run.id, run.id) for run in runs.values() if run.slug == f"{APP_ID}-caller")
    callees = Counter(keys.get(run.id, run.id) for run in runs.values() if run.slug == f"{APP_ID}-callee")
    if callers != callees:
        breaches.append(f"invoked but not once: {dict((callers - callees) + (callees - callers))}")
    failed = Counter(run.id for run in runs.values() if run.slug == f"{APP_ID}-failing")
    told = Counter(
        run.output["run"] if isinstance(run.output, dict) else run.id
        for run in runs.values()
        if run.slug == f"{APP_ID}-failing-failure"
    )
    if failed != told:
        breaches.append(f"failed but not told once: {dict((failed - told) + (told - failed))}")
    return breaches


def check_ends(ledger: Ledger, runs: Mapping[str, Run]) -> list[str]:
    """Every run has ended as its function does, and its output is made of the recorded results."""
    results: dict[str, dict[str, Any]] = defaultdict(dict)
    for request in ledger.requests:
        results[request.run].update(request.steps)
    nonces: dict[tuple[str, str], set[str]] = defaultdict(set)
    for e in ledger.executions:
        nonces[e.run, e.name].add(e.nonce)
    breaches = []
    for run in runs.values():
        shape = SHAPES[run.slug.removeprefix(f"{APP_ID}-")]
        if run.status != shape.status:
            breaches.append(f"run {run.id} of {run.slug}: {run.status}, not {shape.status}")
            continue
        if run.status != "Completed":
            continue
        output = run.output if isinstance(run.output, dict) else {}
        for name in shape.bodies:
            shown = results[run.id].get(hashed(name))
            in_output = output.get(name)
            # The last step of a checkpointed function is in no later request: the output alone shows it.
            recorded = shown["data"] if shown else in_output
            if in_output != recorded or recorded not in nonces[run.id, name]:
                breaches.append(
                    f"run {run.id} of {run.slug}: output has {in_output!r} for {name}, recorded is {shown!r}"
                )
    return breaches


def check_all(ledger: Ledger, sent: Sequence[Sent], runs: Mapping[str, Run]) -> list[str]:
    """Every breach of every promise."""
    return [
        *ledger.oddities,
        *check_leases(ledger),
        *check_results(ledger),
        *check_checkpoints(ledger),
        *check_events(sent, runs),
        *check_inner_runs(ledger, runs),
        *check_ends(ledger, runs),
    ]
