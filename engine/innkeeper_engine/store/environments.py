"""Environments as they lie in the store, and registrations that wait there for the operator.

`environs` is a hash, name -> JSON of an `Environment`; `environver` changes with every change of it, and each change
is published on the channel `environs`, so that whoever keeps a copy knows when to read again. An account is also part
of how functions are compiled, and egress lists say where they may call: a change of these makes another version of the
registry. `keeps` has what scripts must know of policies: name -> "<events s> <runs s>", 0 for the default; nothing of
branches, which go by their parents'.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import structlog

from innkeeper_engine.model.environments import BRANCH_MARK, Environment, Policy, parent_name
from innkeeper_engine.store.store import Store

CHANGED = "environs"
"""The channel on which a change of environments is published (under the shard's prefix); the notice is the version."""

REGISTRATIONS_BELL = "regbell"
"""The list that holds a token while registrations wait: for a `Bell`."""

MOST_LEFT = 10_000
"""Registrations that wait at most; one environment, with its branches, has a quarter of that."""
MOST_LEFT_BYTES = 32 << 20
"""Their bodies together; one environment, with its branches, has a quarter of that, but always room for one."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}(?:~(?:[A-Za-z0-9._-]|%[0-9A-F]{2})+)?")

# By the time, not counted: a server that lost its data must not come to a version that somebody knows already.
_WRITE = """#!lua flags=allow-oom
local old = redis.call('HGET', KEYS[1], ARGV[1])
local function later(key, now)
  local version = string.format('%.0f', math.max(now, tonumber(redis.call('GET', key) or '0') + 1))
  redis.call('SET', key, version)
  return version
end
local function granted(record)
  local readable, environment = false, nil
  if record then readable, environment = pcall(cjson.decode, record) end
  if not readable or type(environment) ~= 'table' then return '\\n' end
  local policy = type(environment.policy) == 'table' and environment.policy or {}
  return (environment.account or '') .. '\\n' .. table.concat(policy.egress_allow or {}, ',')
end
local kept = redis.call('HGET', KEYS[4], ARGV[1])
if ARGV[2] == '' then
  if not old then return 0 end
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[4], ARGV[1])
else
  if old == ARGV[2] then return 0 end
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  if ARGV[5] ~= '' then redis.call('HSET', KEYS[4], ARGV[1], ARGV[5]) else redis.call('HDEL', KEYS[4], ARGV[1]) end
end
-- Ended runs of the environment and its branches may have to go sooner: `due` looks at them now.
if redis.call('HGET', KEYS[4], ARGV[1]) ~= kept then
  redis.call('ZADD', KEYS[5], 'XX', 'LT', 0, ARGV[1])
  local cursor = '0'
  repeat
    local page = redis.call('ZSCAN', KEYS[5], cursor, 'MATCH', ARGV[1] .. '~*', 'COUNT', 1000)
    for n = 1, #page[2], 2 do redis.call('ZADD', KEYS[5], 'XX', 'LT', 0, page[2][n]) end
    cursor = page[1]
  until cursor == '0'
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if granted(old) ~= ARGV[4] then later(KEYS[3], now) end
redis.call('PUBLISH', ARGV[3], later(KEYS[2], now))
return 1
"""

_READ = """#!lua flags=no-writes
local version = redis.call('GET', KEYS[2]) or '0'
if version == ARGV[1] then return {version} end
return {version, redis.call('HVALS', KEYS[1])}
"""

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

_log = structlog.get_logger(__name__)


class Snapshot(NamedTuple):
    """All environments, as of one version."""

    version: int
    environments: tuple[Environment, ...]
    """By name."""


class Granted(NamedTuple):
    """What the registry of an environment has of its record."""

    account: str = ""
    """Whose counters limits of scope account are; empty: nobody names any."""
    egress_allow: tuple[str, ...] = ()
    """See `Policy.egress_allow`."""


class EnvironmentStore:
    """Reads and writes environments. Every method is one round trip."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def write(self, environment: Environment) -> bool:
        """Make this the record of its name; whether that changed anything. Only then it is published.

        Another account, or egress list, than before makes another version of the registry, so that executors go by it
        from then on; what is queued already stays under the counters of the account before.

        Raises:
            ValueError: the name cannot be an environment's.
        """
        check_name(environment.name)
        keeps = "" if BRANCH_MARK in environment.name else _keeps(environment.policy)
        granted = Granted(environment.account, environment.policy.egress_allow)
        return await self._set(environment.name, msgspec.json.encode(environment), granted, keeps)

    async def remove(self, name: str) -> bool:
        """Remove the record: its keys open nothing any more. Whether there was one."""
        return await self._set(name, b"")

    async def read(self) -> Snapshot:
        """All environments."""
        snapshot = await self.read_if_not(-1)
        assert snapshot is not None, "no version is negative"
        return snapshot

    async def read_if_not(self, version: int) -> Snapshot | None:
        """All environments; None where they are those of `version`."""
        reply = await self._store.command("EVAL", _READ, 2, *self._keys(), str(version))
        if len(reply) == 1:
            return None
        return Snapshot(int(reply[0]), tuple(sorted(_decoded(reply[1]), key=lambda each: each.name)))

    async def granted(self, env: str) -> "Granted":
        """What an environment's record grants it; a branch has its parent's, but for an account of its own.

        Nothing where there is no record, or none that can be read (as `read` reports).
        """
        names = dict.fromkeys((env, parent_name(env)))
        values = await self._store.command("HMGET", self._store.key("environs"), *names)
        found = list(_decoded(value for value in values if value is not None))
        account = next((each.account for each in found if each.account), "")
        own = next((each.policy for each in found if each.name == parent_name(env)), Policy())
        return Granted(account, own.egress_allow)

    async def runs_keep_s(self, env: str) -> int:
        """How long ended runs of an environment are kept; a branch has its parent's retention."""
        own = await self._store.command("HGET", self._store.key("keeps"), parent_name(env))
        return (int(own.split(b" ")[1]) if own else 0) or self._store.settings.runs_keep_s

    async def _set(self, name: str, value: bytes, granted: "Granted | None" = None, keeps: str = "") -> bool:
        keys = (*self._keys(), *map(self._store.key, ("regver", "keeps", "forget")))
        account, egress_allow = granted or Granted()
        about = (name, value, self._store.key(CHANGED), f"{account}\n{','.join(egress_allow)}", keeps)
        return bool(await self._store.command("EVAL", _WRITE, len(keys), *keys, *about))

    def _keys(self) -> tuple[str, str]:
        return self._store.key("environs"), self._store.key("environver")


def _keeps(policy: Policy) -> str:
    """What scripts are told of a policy: how long events and runs are kept; nothing where that is the default."""
    seconds = policy.events_keep_s, policy.runs_keep_s
    return f"{seconds[0]} {seconds[1]}" if any(seconds) else ""


def check_name(name: str) -> None:
    """Raise ValueError where this cannot be the name of an environment in the store."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:100]!r} cannot be the name of an environment: write up to 253 letters, digits, dots, dashes "
            "and underscores (of a branch, what branch_name makes of it)"
        )


def _decoded(values: Iterable[bytes]) -> Iterable[Environment]:
    for value in values:
        try:
            yield msgspec.json.decode(value, type=Environment)
        except msgspec.MsgspecError as error:
            # Of a later version, perhaps. Its keys open nothing here; those of the others must.
            _log.error("an environment cannot be read: its keys are refused", why=str(error))


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
