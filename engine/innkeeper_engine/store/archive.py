"""What an archive takes: ended runs and events, oldest first, as they are kept.

A page is one script and one round trip. It reads as many entries as about 4 MiB of JSON hold, one at least, so neither
Redis nor the reader ever has much in hand. Nothing is written.
"""

from typing import NamedTuple

import structlog

from innkeeper_engine.model.environments import parent_name
from innkeeper_engine.model.state import RunSummary, StoredEvent
from innkeeper_engine.store.bodies import UnreadableBodyError, decode_body
from innkeeper_engine.store.reading import EndedRun
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.wire import read_event, read_summary

PAGE = 200
"""Entries of a page at most."""
MOST_BYTES = 4 << 20
LEAST_EVENTS_S = 3600
"""As scripts have it: no event is kept for less."""

_SIZE = """
local function size_of(body, from)
  return tonumber(string.match(body, '^z(%d+)\\n', from or 1)) or #body
end
"""

_STANDING = """#!lua flags=no-writes
local P, now = KEYS[1], tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local last = tonumber(redis.call('HGET', P .. 'clock', 'now') or '0')
local newest = redis.call('XREVRANGE', P .. 'hist', '+', '-', 'COUNT', 1)[1]
return {
  string.format('%.0f', math.max(now, last)),
  newest and newest[1] or '0-0',
  redis.call('GET', P .. 'histcur') or '0-0',
  redis.call('HGET', P .. 'keeps', ARGV[2]) or '',
}
"""

_RUNS = (
    """#!lua flags=no-writes
local P, most, found, size = KEYS[1], tonumber(ARGV[1]), {}, 0
"""
    + _SIZE
    + """
for n = 2, #ARGV do
  local run = ARGV[n]
  local summary = redis.call('HGETALL', P .. 'run:' .. run)
  if not summary[1] then
    found[#found + 1] = {}
  else
    local payloads = redis.call('HGETALL', P .. 'pl:' .. run)
    local notes = redis.call('LRANGE', P .. 'h:' .. run, 0, -1)
    for i = 2, #payloads, 2 do size = size + size_of(payloads[i]) end
    for _, note in ipairs(notes) do size = size + #note end
    found[#found + 1] = {summary, payloads, notes}
  end
  if size > most then break end
end
return found
"""
)

_EVENTS = (
    """#!lua flags=no-writes
local P, env, most, found, size = KEYS[1], ARGV[1], tonumber(ARGV[5]), {}, 0
"""
    + _SIZE
    + """
for _, entry in ipairs(redis.call('XRANGE', P .. 'ei:' .. env, ARGV[2], ARGV[3], 'COUNT', ARGV[4])) do
  local id = entry[2][2]
  local value = redis.call('GET', P .. 'ev:' .. env .. ':' .. id) or ''
  found[#found + 1] = {entry[1], id, value}
  size = size + size_of(value, (string.find(value, '\\n', 1, true) or 0) + 1)
  if size > most then break end
end
return found
"""
)

_log = structlog.get_logger(__name__)


class Standing(NamedTuple):
    """Up to when what is there is all that there will ever be, and how long it stays."""

    now_ms: int
    """The shard's clock: whatever ends or comes from now on does so at this time or later."""
    settled_ms: int
    """The history of all runs that ended before is complete. `now_ms`, where the recorder is behind something earlier."""
    events_keep_s: int
    runs_keep_s: int


class KeptRun(NamedTuple):
    """An ended run with all that is kept of it."""

    summary: RunSummary
    payloads: dict[str, bytes] | None
    """As `Store.run_state` has them; None where one of them is not what was written any more."""
    notes: list[bytes]


class KeptEvent(NamedTuple):
    """An entry on the list of events."""

    entry: str
    """`<received ms>-<number>`: its place."""
    id: str
    event: StoredEvent | None
    """None where it is not kept any more, or not what was written."""


class Archive:
    """Asks for what is over. Every method is one round trip."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def standing(self, env: str) -> Standing:
        """How far an archive of this environment can go now."""
        now, newest, folded, keeps = await self._store.command(
            "EVAL", _STANDING, 1, self._store.settings.prefix, self._store.given_now(), parent_name(env)
        )
        events_s, runs_s = (int(part) for part in keeps.split(b" ")) if keeps else (0, 0)
        settings = self._store.settings
        return Standing(
            int(now),
            settled_ms(int(now), newest.decode(), folded.decode()),
            max(LEAST_EVENTS_S, events_s or settings.events_keep_s),
            runs_s or settings.runs_keep_s,
        )

    async def runs(self, ended: list[EndedRun]) -> list[KeptRun | None]:
        """The first of these runs, one at least: None for one that is kept no more. Of the others is asked again."""
        ids = [each.id for each in ended]
        prefix = self._store.settings.prefix
        found = await self._store.command("EVAL", _RUNS, 1, prefix, MOST_BYTES, *ids)
        return [_kept_run(run, raw) if raw else None for run, raw in zip(ids, found, strict=False)]

    async def events(
        self, env: str, *, from_ms: int, until_ms: int, after: str = "", limit: int = PAGE
    ) -> list[KeptEvent]:
        """A page of the events received in [from_ms, until_ms), the engine's own among them, oldest first.

        `after`: the last entry of the page before. An empty page is the last.
        """
        since = f"({after}" if after else f"{from_ms}-0"
        place = (env, since, f"({until_ms}-0", limit, MOST_BYTES)
        found = await self._store.command("EVAL", _EVENTS, 1, self._store.settings.prefix, *place)
        return [
            KeptEvent(entry.decode(), event_id.decode(), _kept_event(event_id.decode(), value))
            for entry, event_id, value in found
        ]


def settled_ms(now_ms: int, newest: str, folded: str) -> int:
    """Up to when histories are complete. `newest`, `folded`: the newest note and the last one that is folded.

    A note is written by the server's clock, a run ends by the shard's, which is never behind it: all notes of a run
    that has ended before the last folded one was written are folded too.
    """
    if _position(folded) >= _position(newest):
        return now_ms
    return min(now_ms, _position(folded)[0])


def _position(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


def _kept_run(run: str, raw: list[list[bytes]]) -> KeptRun:
    summary, flat, notes = raw
    payloads: dict[str, bytes] | None
    try:
        payloads = {flat[i].decode(): decode_body(flat[i + 1]) for i in range(0, len(flat), 2)}
    except UnreadableBodyError as error:
        _log.error("payloads of a run cannot be read", run_id=run, why=str(error))
        payloads = None
    return KeptRun(read_summary(run, summary), payloads, notes)


def _kept_event(event_id: str, value: bytes) -> StoredEvent | None:
    try:
        return read_event(event_id, value) if value else None
    except UnreadableBodyError as error:
        _log.error("a stored event cannot be read", event_id=event_id, why=str(error))
        return None
