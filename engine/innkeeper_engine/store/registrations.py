"""Registrations that wait in the store for the operator, the latest of each app.

`regbox` is a hash, environment and app -> a token and the body; `regboxsize` says how many they are and how large, of all
and of each environment.
"""

import hashlib
from typing import NamedTuple

from innkeeper_engine.model.environments import parent_name
from innkeeper_engine.store.store import Store

REGISTRATIONS_BELL = "regbell"
"""The list that holds a token while registrations wait: for a `Bell`."""

MOST_LEFT = 10_000
"""Registrations that wait at most; one environment, with its branches, has a quarter of that."""
MOST_LEFT_BYTES = 32 << 20
"""Their bodies together; one environment, with its branches, has a quarter of that, but always room for one."""

# Sizes are kept beside the registrations: n and b of all, n:<owner> and b:<owner> of one.
_LEAVE = """#!lua
local box, sizes, bell = KEYS[1], KEYS[2], KEYS[3]
local field, value, owner, most, most_bytes = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local old = redis.call('HSTRLEN', box, field)
local more, bytes = (old == 0) and 1 or 0, #value - old
local function has(name) return tonumber(redis.call('HGET', sizes, name) or '0') end
if more == 1 and (has('n') >= most or has('n:' .. owner) >= most / 4) then return 0 end
local owned = has('b:' .. owner)
if bytes > 0 and (has('b') + bytes > most_bytes or (owned > old and owned + bytes > most_bytes / 4)) then return 0 end
redis.call('HSET', box, field, value)
for name, by in pairs({['n'] = more, ['n:' .. owner] = more, ['b'] = bytes, ['b:' .. owner] = bytes}) do
  redis.call('HINCRBY', sizes, name, by)
end
if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
return 1
"""

_DONE = """#!lua flags=allow-oom
local box, sizes = KEYS[1], KEYS[2]
local field, head, owner = ARGV[1], ARGV[2], ARGV[3]
local value = redis.call('HGET', box, field)
if not value or string.sub(value, 1, #head) ~= head then return 0 end
redis.call('HDEL', box, field)
for name, by in pairs({['n'] = 1, ['n:' .. owner] = 1, ['b'] = #value, ['b:' .. owner] = #value}) do
  if redis.call('HINCRBY', sizes, name, -by) <= 0 then redis.call('HDEL', sizes, name) end
end
return 1
"""


class InboxFullError(Exception):
    """Too many registrations wait for the operator; the message says so."""


class LeftRegistration(NamedTuple):
    """A registration that waits for the operator."""

    env: str
    app_id: str
    body: bytes
    """As the SDK sent it to `/fn/register`; it was valid."""
    token: str
    """Names just this one: a later one of the same app has another."""


class RegistrationInbox:
    """Registrations on their way from gateways to the operator, the latest of each app. One round trip each.

    `Bell(store, address, REGISTRATIONS_BELL, name=...)` rings when there are some.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def leave_registration(self, env: str, app_id: str, body: bytes, now_ms: int) -> str:
        """Leave a registration, in place of the app's one before it; returns its token.

        Raises:
            InboxFullError: too many wait already.
        """
        token = f"{now_ms}-{hashlib.sha256(body).hexdigest()[:16]}"
        box, sizes = self._keys()
        value = token.encode() + b"\n" + body
        place = (_field(env, app_id), value, parent_name(env), MOST_LEFT, MOST_LEFT_BYTES)
        bell = self._store.key(REGISTRATIONS_BELL)
        if not await self._store.command("EVAL", _LEAVE, 3, box, sizes, bell, *place):
            raise InboxFullError("too many registrations wait for the operator; is it running?")
        return token

    async def registrations_left(self) -> list[LeftRegistration]:
        """All that wait, by environment and app."""
        flat = await self._store.command("HGETALL", self._keys()[0])
        found = []
        for field, value in zip(flat[::2], flat[1::2], strict=True):
            env, _, app_id = field.decode().partition("\n")
            token, _, body = value.partition(b"\n")
            found.append(LeftRegistration(env, app_id, body, token.decode()))
        return sorted(found)

    async def registration_done(self, env: str, app_id: str, token: str) -> bool:
        """Take a registration away; False where there is another one by now, or none."""
        place = (_field(env, app_id), f"{token}\n", parent_name(env))
        return bool(await self._store.command("EVAL", _DONE, 2, *self._keys(), *place))

    def _keys(self) -> tuple[str, str]:
        return self._store.key("regbox"), self._store.key("regboxsize")


def _field(env: str, app_id: str) -> str:
    # No name of an environment holds a line break; that of an app may.
    return f"{env}\n{app_id}"
