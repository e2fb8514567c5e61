"""Environments as they lie in the store.

`environs` is a hash, name -> JSON of an `Environment`; `environver` changes with every change of it, and each change
is published on the channel `environs`, so that whoever keeps a copy knows when to read again. An account is also part
of how functions are compiled, and egress lists say where they may call: a change of these makes another version of the
registry. `keeps` has what scripts must know of policies: name -> "<events s> <runs s>", 0 for the default; nothing of
branches, which go by their parents'.
"""

import re
from typing import NamedTuple

import msgspec

from innkeeper_engine.model.environments import BRANCH_MARK, Environment, Policy, parent_name
from innkeeper_engine.store.records import Records
from innkeeper_engine.store.store import Store

CHANGED = "environs"
"""The channel on which a change of environments is published (under the shard's prefix); the notice is the version."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}(?:~(?:[A-Za-z0-9._-]|%[0-9A-F]{2})+)?")

# Which version of the registry, what is kept for how long, and whose ended runs are to be looked at: KEYS[3] to [5].
_ALSO = """
local function granted(record)
  local readable, environment = false, nil
  if record then readable, environment = pcall(cjson.decode, record) end
  if not readable or type(environment) ~= 'table' then return '\\n' end
  local policy = type(environment.policy) == 'table' and environment.policy or {}
  return (environment.account or '') .. '\\n' .. table.concat(policy.egress_allow or {}, ',')
end
local kept = redis.call('HGET', KEYS[4], ARGV[1])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[4], ARGV[1], ARGV[5]) else redis.call('HDEL', KEYS[4], ARGV[1]) end
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
if granted(old) ~= ARGV[4] then later(KEYS[3]) end
"""


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
        self._records = Records(
            store,
            Environment,
            name="environs",
            version="environver",
            channel=CHANGED,
            order=lambda each: each.name,
            unreadable="an environment cannot be read: its keys are refused",
            also=_ALSO,
        )

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
        return Snapshot(*await self._records.read())

    async def read_if_not(self, version: int) -> Snapshot | None:
        """All environments; None where they are those of `version`."""
        found = await self._records.read_if_not(version)
        return None if found is None else Snapshot(*found)

    async def granted(self, env: str) -> "Granted":
        """What an environment's record grants it; a branch has its parent's, but for an account of its own.

        Nothing where there is no record, or none that can be read (as `read` reports).
        """
        found = await self._records.some(dict.fromkeys((env, parent_name(env))))
        account = next((each.account for each in found if each.account), "")
        own = next((each.policy for each in found if each.name == parent_name(env)), Policy())
        return Granted(account, own.egress_allow)

    async def runs_keep_s(self, env: str) -> int:
        """How long ended runs of an environment are kept; a branch has its parent's retention."""
        own = await self._store.command("HGET", self._store.key("keeps"), parent_name(env))
        return (int(own.split(b" ")[1]) if own else 0) or self._store.settings.runs_keep_s

    async def _set(self, name: str, value: bytes, granted: "Granted | None" = None, keeps: str = "") -> bool:
        keys = map(self._store.key, ("regver", "keeps", "forget"))
        account, egress_allow = granted or Granted()
        return await self._records.write(name, value, keys, (f"{account}\n{','.join(egress_allow)}", keeps))


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
