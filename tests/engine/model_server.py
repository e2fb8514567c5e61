"""Looking into a shard from outside: all of its keys, a copy of it to try things on."""

from typing import Any, NamedTuple

from innkeeper_engine.store.store import Store

_READ = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  local value
  if kind == 'string' then value = redis.call('GET', key)
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else value = redis.call('XLEN', key) end
  found[#found + 1] = {string.sub(key, #ARGV[1] + 1), kind, redis.call('PTTL', key), value}
end
return found
"""

_COPY = """
for _, key in ipairs(redis.call('KEYS', ARGV[2] .. '*')) do redis.call('DEL', key) end
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  redis.call('COPY', key, ARGV[2] .. string.sub(key, #ARGV[1] + 1))
end
"""


class Key(NamedTuple):
    """One key: its Redis type, its remaining life in ms (-1 for ever), its value decoded as text."""

    kind: str
    ttl_ms: int
    value: Any


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _shaped(kind: str, value: Any) -> Any:
    if kind == "string":
        return _text(value)
    if kind == "stream":
        return value
    members = [_text(each) for each in value]
    if kind == "hash":
        return dict(zip(members[::2], members[1::2], strict=True))
    if kind == "set":
        return set(members)
    if kind == "zset":
        return [(member, float(score)) for member, score in zip(members[::2], members[1::2], strict=True)]
    return members


async def read_shard(store: Store) -> dict[str, Key]:
    """Every key of a shard, without its prefix."""
    found = await store.command("EVAL", _READ, 0, store.settings.prefix)
    return {
        name.decode(): Key(kind := kind_name.decode(), ttl_ms, _shaped(kind, value))
        for name, kind_name, ttl_ms, value in found
    }


async def copy_shard(source: Store, target: Store) -> None:
    """Make `target`'s shard a copy of `source`'s."""
    await source.command("EVAL", _COPY, 0, source.settings.prefix, target.settings.prefix)
