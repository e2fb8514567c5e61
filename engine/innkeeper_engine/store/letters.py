"""Dead letters: requests that a webhook's transform made no events of, kept for a while and within bounds.

A letter is a hash `dl:<owner>:<id>` that expires by itself, with a short form `s` (no payload) and the whole `w`. The
owner is the environment without a branch: anybody who knows a URL may name branches, so that bounds hold for all of
them together. Ids are ULIDs, so that the order of ids is that of time. They stand, without a score, in

- `dlq:<owner>`, the oldest first, by which the bounds of the environment are kept;
- `dlw:<owner>:<webhook>`, by which those of a webhook are;
- `dle:<env>`, which is listed.

`dlm:<owner>` has `<bytes>\\n<env>\\n<webhook>` for each id, and under `*bytes` and `*dropped` what all of them take and
how many had to go before their time. Expired letters leave these when the next one is kept, from the oldest on.
"""

from typing import NamedTuple

import msgspec

from innkeeper_engine.model.environments import parent_name
from innkeeper_engine.model.webhooks import DeadLetter
from innkeeper_engine.store.connection import Argument, Reply
from innkeeper_engine.store.store import Store

MOST_LETTERS = 1_000
"""Of one webhook."""
MOST_BYTES = 64 << 20
"""Of one environment, branches included."""

_OVERHEAD_BYTES = 1_024
"""What a letter takes beside itself, counted generously: it also bounds how many small ones a large one displaces."""

# ARGV: the shard's prefix, owner; then of the verb. A letter is forgotten everywhere or nowhere.
_COMMON = """
local P, owner = ARGV[1], ARGV[2]
local order, meta = P .. 'dlq:' .. owner, P .. 'dlm:' .. owner
local function forget(id)
  local known = redis.call('HGET', meta, id)
  redis.call('ZREM', order, id)
  if known then
    local bytes, env, webhook = string.match(known, '^(%d+)\\n([^\\n]*)\\n(.*)$')
    redis.call('ZREM', P .. 'dle:' .. env, id)
    redis.call('ZREM', P .. 'dlw:' .. owner .. ':' .. webhook, id)
    redis.call('HDEL', meta, id)
    redis.call('HINCRBY', meta, '*bytes', -bytes)
  end
  return redis.call('DEL', P .. 'dl:' .. owner .. ':' .. id)
end
local function oldest(key) return redis.call('ZRANGE', key, 0, 0)[1] end
"""

_KEEP = (
    "#!lua"
    + _COMMON
    + """
local id, env, webhook, short, whole = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local bytes, retention, most, most_bytes = tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])
local of_webhook, of_env = P .. 'dlw:' .. owner .. ':' .. webhook, P .. 'dle:' .. env
local dropped = 0
forget(id)
for _ = 1, 100 do
  local first = oldest(order)
  if not first or redis.call('EXISTS', P .. 'dl:' .. owner .. ':' .. first) == 1 then break end
  forget(first)
end
local function make_room(key)
  local first = oldest(key)
  if not first then return false end
  dropped = dropped + forget(first)
  redis.call('ZREM', key, first)
  return true
end
while redis.call('ZCARD', of_webhook) >= most and make_room(of_webhook) do end
while tonumber(redis.call('HGET', meta, '*bytes') or '0') + bytes > most_bytes and make_room(order) do end
redis.call('HSET', P .. 'dl:' .. owner .. ':' .. id, 's', short, 'w', whole)
redis.call('EXPIRE', P .. 'dl:' .. owner .. ':' .. id, retention)
-- Whoever tells how many there are asks those that are listed here.
redis.call('SADD', P .. 'me', env)
redis.call('HSET', meta, id, string.format('%d\\n%s\\n%s', bytes, env, webhook))
redis.call('HINCRBY', meta, '*bytes', bytes)
if dropped > 0 then redis.call('HINCRBY', meta, '*dropped', dropped) end
for _, key in ipairs({order, of_webhook, of_env}) do redis.call('ZADD', key, 0, id) end
-- The retention may have been longer when others were kept.
for _, key in ipairs({order, of_webhook, of_env, meta}) do
  if redis.call('EXPIRE', key, retention, 'NX') == 0 then redis.call('EXPIRE', key, retention, 'GT') end
end
return dropped
"""
)

_DROP = "#!lua flags=allow-oom" + _COMMON + "return forget(ARGV[3])"

# One more id than is wanted tells whether there is another page.
_LIST = """#!lua flags=no-writes
local P, owner, env, before, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local from = before == '' and '+' or '(' .. before
local ids = redis.call('ZREVRANGEBYLEX', P .. 'dle:' .. env, from, '-', 'LIMIT', 0, limit + 1)
local found = {redis.call('HGET', P .. 'dlm:' .. owner, '*dropped') or '0', #ids > limit and ids[limit] or ''}
for i = 1, math.min(#ids, limit) do
  local short = redis.call('HGET', P .. 'dl:' .. owner .. ':' .. ids[i], 's')
  if short then table.insert(found, ids[i]); table.insert(found, short) end
end
return found
"""


class ShortLetter(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A dead letter without anything that came in the request, or may quote it."""

    id: str
    webhook: str
    env: str
    received_ms: int
    code: str
    line: int = 0
    column: int = 0
    body_bytes: int = 0
    """How large the body is."""

    @classmethod
    def of(cls, letter_id: str, letter: DeadLetter) -> "ShortLetter":
        """The letter of this id, in short."""
        return cls(
            id=letter_id,
            webhook=letter.webhook,
            env=letter.env,
            received_ms=letter.received_ms,
            code=letter.code,
            line=letter.line,
            column=letter.column,
            body_bytes=len(letter.body),
        )


class Page(NamedTuple):
    """Some letters, newest first."""

    letters: tuple[ShortLetter, ...]
    cursor: str
    """`before` of the next page; empty where this is the last. A page may hold fewer letters than were asked for."""
    dropped: int
    """How many of the environment, branches included, had to go before their time: there were too many."""


class LetterStore:
    """Keeps dead letters. Every method is one round trip."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep_letter(self, letter: DeadLetter, letter_id: str, retention_s: int) -> int:
        """Keep a letter under an id, a ULID, as durably as events. Under the same id it takes the other's place.

        Where there would be too many, the oldest of its webhook, or of its environment, go: returns how many that
        were.
        """
        about = msgspec.msgpack.encode(ShortLetter.of(letter_id, letter))
        whole = msgspec.msgpack.encode(letter)
        size = len(about) + len(whole) + _OVERHEAD_BYTES
        place = (letter_id, letter.env, letter.webhook, about, whole, size)
        return int(await self._run(_KEEP, letter.env, *place, retention_s, MOST_LETTERS, MOST_BYTES))

    async def letters(self, env: str, limit: int, before: str = "") -> Page:
        """The letters of an environment, or of a branch, newest first; those of its branches are not among them.

        Args:
            limit: how many at most.
            before: the cursor of the page before; empty: from the newest.
        """
        dropped, cursor, *flat = await self._run(_LIST, env, env, before, limit)
        found = tuple(msgspec.msgpack.decode(short, type=ShortLetter) for short in flat[1::2])
        return Page(found, cursor.decode(), int(dropped))

    async def letter(self, env: str, letter_id: str) -> DeadLetter | None:
        """A letter of the environment or any branch of it; None: there is none, or none any more."""
        key = self._store.key(f"dl:{parent_name(env)}:{letter_id}")
        whole = await self._store.command("HGET", key, "w")
        return None if whole is None else msgspec.msgpack.decode(whole, type=DeadLetter)

    async def drop_letter(self, env: str, letter_id: str) -> bool:
        """Forget a letter; whether there was one."""
        return bool(await self._run(_DROP, env, letter_id))

    async def _run(self, script: str, env: str, *about: Argument) -> Reply:
        head = (self._store.key(""), parent_name(env))
        # The key that is named says which shard it is; the others are made from its prefix.
        return await self._store.command("EVAL", script, 1, self._store.key("dlq"), *head, *about)
