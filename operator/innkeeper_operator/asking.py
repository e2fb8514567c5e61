"""When an app is asked for its functions, and which of its pods. Pure.

An app says what it serves when it is asked, and only then; so it is asked when its code may be another. New code
shows as another *revision* of the pods behind the Service. While a rollout goes on, both are there: the *leader* is the
revision with most ready endpoints, and once another one has led for a moment, one of its pods is asked, at its own
address, since through the Service the old code may answer. Numbers of pods alone never make anybody ask: scaling and
restarts bring no new code. Endpoints without pods have no revision: each new address is asked once.

What was answered is in `SyncMemory`, which outlives the operator; `Attempts` is what one process knows. Both are
given and given back.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from innkeeper_apps.wire.register import Registration
from innkeeper_engine.durations import HOUR_MS, DurationError, parse_duration_ms
from innkeeper_operator.memory import MAX_ADDRESSES, MAX_REVISIONS
from innkeeper_operator.objects import SYNC_REQUESTED, AppObject
from innkeeper_operator.views import (
    Answered,
    Ask,
    Attempts,
    Failed,
    Later,
    Live,
    Outcome,
    Revision,
    SyncMemory,
)

SETTLED_MS: Final = 2_000
"""How long a revision leads, or an address is there, before it is asked."""
SPACING_MS: Final = 10_000
"""At most one ask of an app's revision in this time."""
BACKOFF_MS: Final = 1_000
MAX_BACKOFF_MS: Final = 300_000
MAX_SPREAD_MS: Final = 60_000
SPREAD_PER_APP_MS: Final = 50
"""Over how long all apps are asked that belong to another registry: ten at a time, each in half a second."""
CLAIM_MS: Final = 60_000
"""How long after an app has said so its own registration is taken for the answer."""
MAX_REQUESTED: Final = 128
"""Characters of a request that are remembered."""


def next_ask(
    app: AppObject,
    live: Live,
    memory: SyncMemory,
    attempts: Attempts,
    *,
    registry: str,
    keys: str,
    now_ms: int,
    apps: int = 1,
    busy: bool = False,
    paused: bool = False,
) -> tuple[Ask | Later, Attempts]:
    """Whether to ask the app now, and what to remember until the next look.

    To be called when anything of this has changed, and at the time that `Later` names. Who gets an `Ask` asks, and
    then calls `told` and `noted`.

    Args:
        app: the InngestApp. One that is being deleted is not asked, nor is a paused one: nobody calls it. What has
            changed meanwhile is asked when it goes on.
        live: its endpoint as it is now.
        memory: what it has answered, see `noted`.
        attempts: what the last call gave back.
        registry: id of the registry that answers go to.
        keys: fingerprint of the app's keys.
        now_ms: the time.
        apps: how many apps there are: what concerns all of them is spread accordingly.
        busy: an ask of this app is under way, or it has no key that can be used. Nothing is asked, but what goes on
            is noticed.
        paused: somebody has switched the app off, beside what its spec says.
    """
    seen = _looked(app, live, memory, attempts, registry=registry, keys=keys, now_ms=now_ms)
    if busy or app.meta.deleting or app.spec.paused or paused or live.reason:
        return Later(None), seen
    causes = _causes(app, live, memory, seen, registry=registry, keys=keys, now_ms=now_ms, apps=apps)
    due_ms, why = next((each for each in causes if each[0] <= now_ms), min(causes, key=lambda each: each[0]))
    if due_ms > now_ms:
        return Later(due_ms), msgspec.structs.replace(seen, failures=0)
    at, revision, spacing = _target(live, memory, seen)
    due_ms = max(due_ms, seen.asked_ms[spacing] + SPACING_MS if spacing in seen.asked_ms else 0)
    if seen.failures:
        due_ms, why = max(due_ms, seen.failed_ms + _backoff_ms(seen.failures)), "Retry"
    if due_ms > now_ms:
        return Later(due_ms), seen
    ask = Ask(
        url=live.url,
        at=at,
        revision=revision,
        why=why,
        generation=app.meta.generation,
        keys=keys,
        requested=_requested(app),
        registry=registry,
    )
    asked_ms = {**seen.asked_ms, spacing: now_ms}
    return ask, msgspec.structs.replace(seen, asked_ms=asked_ms, met=seen.demanded)


def told(attempts: Attempts, ask: Ask, outcome: Outcome, now_ms: int) -> Attempts:
    """What to remember of an ask that has come to its end. `attempts`: what the latest `next_ask` gave back."""
    if isinstance(outcome, Answered):
        answered = tuple(dict.fromkeys((*attempts.answered, ask.at))) if ask.at else attempts.answered
        by_service = attempts.by_service and not ask.at
        return msgspec.structs.replace(
            attempts, answered=answered, by_service=by_service, failures=0, pending=None
        )
    failed = msgspec.structs.replace(attempts, failures=attempts.failures + 1, failed_ms=now_ms)
    if isinstance(outcome, Failed) and outcome.reachable is False:
        return msgspec.structs.replace(failed, by_service=bool(ask.at))
    if isinstance(outcome, Failed) and outcome.reason == "RegistersItself":
        return msgspec.structs.replace(failed, pending=ask, pending_ms=now_ms)
    return failed


def claimed(attempts: Attempts, registration: Registration, now_ms: int) -> tuple[Answered, Ask | None]:
    """A registration that came by the inbox as an answer, and to which ask; None where nobody was asked.

    With an ask, `told` and `noted` go as for any other answer. Without one the registration may come from any
    pod, also from one that is not ready: `noted` then does not take it for any revision's, so that the leader is
    asked.
    """
    ask = attempts.pending
    if ask is None or now_ms > attempts.pending_ms + CLAIM_MS:
        ask = None
    answer = Answered(
        registration=registration,
        revision=ask.revision if ask else "",
        at=ask.at if ask else "",
        in_band=False,
        time_ms=now_ms,
    )
    return answer, ask


def noted(memory: SyncMemory, live: Live, outcome: Outcome, ask: Ask | None) -> SyncMemory:
    """The memory after an outcome, once what it asks for is in the registry.

    Args:
        memory: what it was.
        live: the endpoint as it is now: what is gone from it is forgotten.
        outcome: only an answer changes anything. With an equal hash the registry needs no write.
        ask: what was answered; None for a registration that nobody asked for.
    """
    if isinstance(outcome, Answered):
        declared = outcome.registration.checksum
    elif isinstance(outcome, Failed) and outcome.unchanged and memory.config_hash:
        declared = memory.config_hash
    else:
        return memory
    same = declared == memory.config_hash
    revisions = memory.revisions if same else ()
    addresses = memory.addresses if same else ()
    if ask is not None and (live.revisions or ask.revision):
        revisions = (ask.revision, *revisions)
    elif ask is not None and live.addresses:
        addresses = (ask.at or live.addresses[0], *addresses)
    return SyncMemory(
        time_ms=outcome.time_ms,
        config_hash=declared,
        registry=ask.registry if ask else memory.registry,
        revisions=_kept(revisions, [revision.name for revision in live.revisions])[:MAX_REVISIONS],
        addresses=_kept(addresses, live.addresses)[:MAX_ADDRESSES],
        generation=ask.generation if ask else memory.generation,
        keys=ask.keys if ask else memory.keys,
        requested=ask.requested if ask else memory.requested,
    )


def may_remove(live: Live, outcome: Outcome, memory: SyncMemory, ask: Ask | None) -> bool:
    """Whether what an answer does not declare is gone: nothing else is live that may still serve it.

    `memory`: as `noted` gave it back.
    """
    if not isinstance(outcome, Answered) or live.reason:
        return False
    if live.external:
        return True
    if ask is None or not set(live.addresses) <= set(memory.addresses):
        return False
    return not live.revisions or [revision.name for revision in live.revisions] == [ask.revision]


# ---- inside


def _looked(
    app: AppObject,
    live: Live,
    memory: SyncMemory,
    attempts: Attempts,
    *,
    registry: str,
    keys: str,
    now_ms: int,
) -> Attempts:
    """What this look itself changes: who leads since when, what is new, what failures no longer count."""
    best = _leader(live, memory, attempts)
    leader = best.name if best is not None else None
    names = {revision.name for revision in live.revisions} | set(live.addresses)
    under = (
        str(app.meta.generation),
        keys,
        _requested(app),
        live.url,
        attempts.demanded,
        # A rollout has come to its end, or other pods are there: what failed before may work.
        str(len(live.revisions) == 1),
        *((best.name, best.address) if best is not None else live.addresses),
    )
    return msgspec.structs.replace(
        attempts,
        first_ms=now_ms if attempts.first_ms is None else attempts.first_ms,
        registry=registry,
        registry_since_ms=attempts.registry_since_ms if attempts.registry == registry else now_ms,
        leader=leader,
        leading_since_ms=attempts.leading_since_ms if attempts.leader == leader else now_ms,
        asked_ms={k: at for k, at in attempts.asked_ms.items() if k in names or at + SPACING_MS > now_ms},
        seen_ms={address: attempts.seen_ms.get(address, now_ms) for address in live.addresses},
        answered=tuple(address for address in attempts.answered if address in live.addresses),
        under=under,
        failures=attempts.failures if attempts.under == under else 0,
    )


def _leader(live: Live, memory: SyncMemory, attempts: Attempts) -> Revision | None:
    """The revision with most ready endpoints; of several the one already synced, then the one that led before."""
    return min(
        live.revisions,
        key=lambda each: (
            -each.ready,
            each.name not in memory.revisions,
            each.name != attempts.leader,
            each.name,
        ),
        default=None,
    )


def _causes(
    app: AppObject,
    live: Live,
    memory: SyncMemory,
    seen: Attempts,
    *,
    registry: str,
    keys: str,
    now_ms: int,
    apps: int,
) -> list[tuple[int, str]]:
    """Why the app is to be asked, and from when on; what weighs more comes first."""
    if not memory.config_hash:
        return [(now_ms, "First")]
    causes: list[tuple[int, str]] = []
    if memory.generation != app.meta.generation:
        causes.append((now_ms, "Spec"))
    if memory.keys != keys:
        causes.append((now_ms, "Keys"))
    if _requested(app) not in ("", memory.requested) or seen.demanded != seen.met:
        causes.append((now_ms, "Requested"))
    if memory.registry != registry:
        over_ms = min(MAX_SPREAD_MS, max(0, apps - 1) * SPREAD_PER_APP_MS)
        causes.append((seen.registry_since_ms + _share(app.meta.uid, over_ms), "Registry"))
    if app.spec.sync.on_rollout and live.revisions:
        if seen.leader not in memory.revisions:
            causes.append((seen.leading_since_ms + SETTLED_MS, "Rollout"))
    elif app.spec.sync.on_rollout and (new := _new_addresses(live, memory, seen)):
        causes.append((min(seen.seen_ms[address] for address in new) + SETTLED_MS, "Rollout"))
    causes.append((_interval_ms(app, memory, seen, now_ms), "Interval"))
    return causes


def _new_addresses(live: Live, memory: SyncMemory, seen: Attempts) -> list[str]:
    # No more than the memory can hold: what it cannot would be new for ever.
    return [
        address
        for address in live.addresses[:MAX_ADDRESSES]
        if address not in memory.addresses and address not in seen.answered
    ]


def _interval_ms(app: AppObject, memory: SyncMemory, seen: Attempts, now_ms: int) -> int:
    """When the app is asked in any case.

    Each app has its own instant within the interval, the same in every process: apps that were asked together once
    do not stay together, and one that is overdue when the operator starts waits for its next instant.
    """
    try:
        interval_ms = max(parse_duration_ms(app.spec.sync.interval), SPACING_MS)
    except DurationError:  # stored before the schema asked for one
        interval_ms = HOUR_MS
    first_ms = now_ms if seen.first_ms is None else seen.first_ms
    earliest_ms = max(min(memory.time_ms, now_ms) + interval_ms // 2, first_ms)
    share_ms = _share(app.meta.uid, interval_ms)
    return earliest_ms + (share_ms - earliest_ms) % interval_ms


def _target(live: Live, memory: SyncMemory, seen: Attempts) -> tuple[str, str, str]:
    """What to dial (empty: the URL's host), which revision that is, and under what name its asks are spaced."""
    leader = next((revision for revision in live.revisions if revision.name == seen.leader), None)
    through_service = seen.by_service and len(live.revisions or live.addresses) == 1
    if leader is not None:
        return ("", leader.name, "") if through_service else (leader.address, leader.name, leader.name)
    if live.external or through_service:
        return "", "", ""
    candidates = _new_addresses(live, memory, seen) or live.addresses
    address = min(candidates, key=lambda each: (seen.asked_ms.get(each, -1), seen.seen_ms[each], each))
    return address, "", address


def _kept(names: Sequence[str], live: Sequence[str]) -> tuple[str, ...]:
    """Each once, and only what is live; where nothing is live, everything may come back."""
    return tuple(name for name in dict.fromkeys(names) if not live or name in live)


def _backoff_ms(failures: int) -> int:
    return min(MAX_BACKOFF_MS, BACKOFF_MS << min(failures - 1, 16))


def _requested(app: AppObject) -> str:
    return app.meta.annotations.get(SYNC_REQUESTED, "")[:MAX_REQUESTED]


def _share(uid: str, of_ms: int) -> int:
    """This object's part of a span of time: evenly spread over objects, always the same for one."""
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8]) * of_ms >> 64
