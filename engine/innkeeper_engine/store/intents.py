"""Webhooks that were approved on the gateway's page, on their way to the operator, and its answers on theirs back.

`intents` is a hash, id -> a sealed `WebhookIntent`; `intent:<id>` is the answer, for minutes. Each answer is told on the
channel `intents`.
"""

import msgspec

from innkeeper_engine.model.webhooks import IntentAnswer
from innkeeper_engine.store.store import Store

ANSWERED = "intents"
"""The channel on which it is told that an intent was answered (under the shard's prefix); the notice is its id."""

INTENTS_BELL = "intentbell"
"""The list that holds a token while intents wait: for a `Bell`."""

MOST_LEFT = 100
"""Intents that wait at most: people approve them, one by one."""

ANSWER_KEPT_S = 300

_LEAVE = """#!lua
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('LLEN', KEYS[2]) == 0 then redis.call('RPUSH', KEYS[2], '1') end
return 1
"""

_ANSWER = """#!lua flags=allow-oom
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[1])
return 1
"""


class IntentsFullError(Exception):
    """Too many intents wait for the operator; the message says so."""


class IntentBox:
    """Intents and their answers. Every method is one round trip."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def leave_intent(self, intent_id: str, sealed: bytes) -> None:
        """Leave an intent for the operator.

        Raises:
            IntentsFullError: too many wait already.
        """
        keys = (self._store.key("intents"), self._store.key(INTENTS_BELL))
        if not await self._store.command("EVAL", _LEAVE, 2, *keys, intent_id, sealed, MOST_LEFT):
            raise IntentsFullError("too many webhooks wait for the operator; is it running?")

    async def intents_left(self) -> dict[str, bytes]:
        """All that wait, sealed, by id: the oldest first."""
        flat = await self._store.command("HGETALL", self._store.key("intents"))
        found = {flat[n].decode(): bytes(flat[n + 1]) for n in range(0, len(flat), 2)}
        return dict(sorted(found.items()))

    async def withdraw_intent(self, intent_id: str) -> bool:
        """Take an intent back; False where the operator has answered it."""
        return bool(await self._store.command("HDEL", self._store.key("intents"), intent_id))

    async def answer_intent(self, intent_id: str, answer: IntentAnswer) -> None:
        """Say what became of an intent, which waits no more."""
        keys = (self._store.key("intents"), self._store.key(f"intent:{intent_id}"))
        about = (intent_id, msgspec.json.encode(answer), ANSWER_KEPT_S, self._store.key(ANSWERED))
        await self._store.command("EVAL", _ANSWER, 2, *keys, *about)

    async def intent_answer(self, intent_id: str) -> IntentAnswer | None:
        """What became of an intent; None: it waits still, or was never left, or its answer is no longer kept."""
        raw = await self._store.command("GET", self._store.key(f"intent:{intent_id}"))
        return None if raw is None else msgspec.json.decode(raw, type=IntentAnswer)
