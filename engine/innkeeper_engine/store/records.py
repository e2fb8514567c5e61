"""A hash of records with a version: whoever keeps a copy of it asks whether there is a later one.

The version changes with every change of the hash, and each change is published, so that copies know when to read again.
"""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from innkeeper_engine.store.connection import Argument
from innkeeper_engine.store.store import Store

T = TypeVar("T", bound=msgspec.Struct)

_CHANGE = """#!lua flags=allow-oom
local old = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] == '' then
  if not old then return 0 end
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  if old == ARGV[2] then return 0 end
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
-- By the time, not counted: a server that lost its data must not come to a version that somebody knows already.
local function later(key)
  local version = string.format('%.0f', math.max(now, tonumber(redis.call('GET', key) or '0') + 1))
  redis.call('SET', key, version)
  return version
end
"""

_TELL = """
redis.call('PUBLISH', ARGV[3], later(KEYS[2]))
return 1
"""

_READ = """#!lua flags=no-writes
local version = redis.call('GET', KEYS[2]) or '0'
if version == ARGV[1] then return {version} end
return {version, redis.call('HVALS', KEYS[1])}
"""

_log = structlog.get_logger(__name__)


class Records(Generic[T]):
    """One such hash. Every method is one round trip."""

    def __init__(
        self,
        store: Store,
        record: type[T],
        *,
        name: str,
        version: str,
        channel: str,
        order: Callable[[T], Any],
        unreadable: str,
        also: str = "",
    ) -> None:
        """`name` of the hash, whose values are records as JSON; its `version` is another key. Both in the shard.

        `channel`: what changes are published on; the notice is the version. `order`: by what records are sorted.
        `unreadable`: what to log of a record that cannot be read, and what that means.
        `also`: Lua that a change runs once it is made, on keys from KEYS[3] and arguments from ARGV[4] on; ARGV[1] is
        the record's field, `old` what was there (or false), `later(key)` makes another version of something else.
        """
        self._store = store
        self._record = record
        self._keys = store.key(name), store.key(version)
        self._channel = store.key(channel)
        self._order = order
        self._unreadable = unreadable
        self._write = _CHANGE + also + _TELL

    async def write(
        self, field: str, value: bytes, keys: Iterable[str] = (), about: Iterable[Argument] = ()
    ) -> bool:
        """Make this the record of the field, or remove it where the value is empty; whether that changed anything.

        Only then it is published. `keys` and `about`: for what a change does besides.
        """
        all_keys = (*self._keys, *keys)
        given = (field, value, self._channel, *about)
        return bool(await self._store.command("EVAL", self._write, len(all_keys), *all_keys, *given))

    async def read(self) -> tuple[int, tuple[T, ...]]:
        """The version, and all records in order."""
        found = await self.read_if_not(-1)
        assert found is not None, "no version is negative"
        return found

    async def read_if_not(self, version: int) -> tuple[int, tuple[T, ...]] | None:
        """As `read`; None where the records are those of `version`."""
        reply = await self._store.command("EVAL", _READ, 2, *self._keys, str(version))
        if len(reply) == 1:
            return None
        return int(reply[0]), tuple(sorted(self._decoded(reply[1]), key=self._order))

    async def some(self, fields: Iterable[str]) -> list[T]:
        """Those of these records that are there and can be read, in the order of the fields; one at least."""
        values = await self._store.command("HMGET", self._keys[0], *fields)
        return list(self._decoded(value for value in values if value is not None))

    def _decoded(self, values: Iterable[bytes]) -> Iterable[T]:
        for value in values:
            try:
                yield msgspec.json.decode(value, type=self._record)
            except msgspec.MsgspecError as error:
                # Of a later version, perhaps. It counts for nothing here; the others must.
                _log.error(self._unreadable, why=str(error))
