"""The spans of a run, of a request to its app and of a step, from plain data. Pure; no payload is in any of them."""

import re
from typing import Any

import msgspec

from innkeeper_engine.model.calls import Answer, Op, OpKind
from innkeeper_engine.model.decoding import decoded, shown
from innkeeper_engine.model.state import FETCH, PLANNED, Lease
from innkeeper_engine.tracing import Attribute, Span, derived_span_id, parent_id, trace_id

MS = 1_000_000
"""Nanoseconds in one."""

_MOST_NAME = 200
_ERROR_NAME = re.compile(r"[\w.:$-]{1,100}")
_NO_STEPS = frozenset({OpKind.NONE, OpKind.RUN_COMPLETE, OpKind.DISCOVERY_REQUEST, OpKind.STEP_PLANNED})
_FAILED = frozenset({OpKind.STEP_ERROR, OpKind.STEP_FAILED})


class About(msgspec.Struct, frozen=True):
    """Which run a span belongs to."""

    trace: str
    """The run's."""
    run: str
    env: str
    slug: str

    def attributes(self, **more: Attribute) -> dict[str, Attribute]:
        """What every span of a run has, and more; names are written with _ for dots."""
        own: dict[str, Attribute] = {
            "innkeeper.environment": self.env,
            "innkeeper.function": self.slug,
            "innkeeper.run": self.run,
        }
        return own | {name.replace("_", "."): value for name, value in more.items()}


def run_span(about: About, status: str, queued_ms: int, ended_ms: int) -> Span:
    """A run from when it was wanted to its end. `status`: as the API shows it."""
    return Span(
        trace_id=trace_id(about.trace),
        span_id=derived_span_id(about.run),
        parent_id=parent_id(about.trace),
        name=f"run {about.slug}",
        start_ns=queued_ms * MS,
        end_ns=ended_ms * MS,
        attributes=about.attributes(innkeeper_run_status=status),
        error=status == "Failed",
    )


def call_spans(lease: Lease, answer: Answer, began_ns: int, ended_ns: int) -> list[Span]:
    """A request to an app, and the steps that its answer brought."""
    about = about_lease(lease)
    more: dict[str, Attribute] = {}
    if answer.status:
        more["http.response.status_code"] = answer.status
    if answer.kind == "error" and (name := _error_name(answer.error)):
        more["error.type"] = name
    request = _request(lease, about, "call", (began_ns, ended_ns), more, error=answer.kind == "error")
    steps = [step_span(about, request.span_id, op, (began_ns, ended_ns)) for op in answer.ops if is_step(op)]
    return [request, *steps]


def fetch_span(lease: Lease, began_ns: int, ended_ns: int, *, failed: bool) -> Span:
    """A request that was made in the app's place."""
    return _request(lease, about_lease(lease), "fetch", (began_ns, ended_ns), {}, error=failed)


def about_lease(lease: Lease) -> About:
    """The run of a lease."""
    return About(lease.trace, lease.run, lease.env, lease.slug)


def is_step(op: Op) -> bool:
    """Whether something was done for a step: it ran, or its wait began."""
    return op.kind not in _NO_STEPS


def step_span(about: About, request_span_id: str, op: Op, bounds_ns: tuple[int, int]) -> Span:
    """A step, within the request that brought it. Where the SDK says when it ran, and that fits, then; else all of it.

    `bounds_ns`: begin and end of the request.
    """
    began_ns, ended_ns = bounds_ns
    if op.timing is not None:
        start_ns, took_ns = op.timing
        # An app's clock may be off.
        if began_ns <= start_ns and start_ns + took_ns <= ended_ns:
            began_ns, ended_ns = start_ns, start_ns + took_ns
    name = shown(op.display_name or op.name or op.id, _MOST_NAME)
    more: dict[str, Attribute] = {}
    if op.kind in _FAILED and (error := _error_name(op.error)):
        more["error.type"] = error
    return Span(
        trace_id=trace_id(about.trace),
        # One span where a request is told of twice, another one for each attempt.
        span_id=derived_span_id(f"{request_span_id}{op.id}"),
        parent_id=request_span_id,
        name=f"step {name}",
        start_ns=began_ns,
        end_ns=ended_ns,
        attributes=about.attributes(innkeeper_step=op.id, innkeeper_op=op.kind.value) | more,
        error=op.kind in _FAILED,
    )


def _request(
    lease: Lease,
    about: About,
    verb: str,
    bounds_ns: tuple[int, int],
    more: dict[str, Attribute],
    *,
    error: bool,
) -> Span:
    attributes = about.attributes(innkeeper_attempt=lease.attempt, innkeeper_request=lease.token) | more
    if lease.kind in (PLANNED, FETCH):
        attributes["innkeeper.step"] = lease.step
    return Span(
        trace_id=trace_id(about.trace),
        span_id=derived_span_id(lease.token),
        parent_id=derived_span_id(lease.run),
        name=f"{verb} {lease.slug}",
        kind="client",
        start_ns=bounds_ns[0],
        end_ns=bounds_ns[1],
        attributes=attributes,
        error=error,
    )


def _error_name(error: bytes | None) -> str:
    """The name of an error's class; its message may hold anything."""
    if not error:
        return ""
    told: Any = decoded(error)
    name = told.get("name") if isinstance(told, dict) else None
    return name if isinstance(name, str) and _ERROR_NAME.fullmatch(name) else ""
