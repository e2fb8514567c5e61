"""Webhooks as they lie in the store, as `environments.py` has environments.

`webhooks` is a hash, `<environment>/<name>` -> JSON of a `Webhook`; `webhookver` changes with every change of it, and
each change is published on the channel `webhooks`. The requests that a transform could make nothing of are kept by
`letters.py`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import structlog

from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.environments import check_name
from innkeeper_engine.store.store import Store

CHANGED = "webhooks"
"""The channel on which a change of webhooks is published (under the shard's prefix); the notice is the version."""

MOST_NAME = 512
"""Characters of a webhook's name: in Kubernetes those of a namespace, a slash and those of an object."""

# By the time, not counted: a server that lost its data must not come to a version that somebody knows already.
_WRITE = """#!lua flags=allow-oom
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
local version = string.format('%.0f', math.max(now, tonumber(redis.call('GET', KEYS[2]) or '0') + 1))
redis.call('SET', KEYS[2], version)
redis.call('PUBLISH', ARGV[3], version)
return 1
"""

_READ = """#!lua flags=no-writes
local version = redis.call('GET', KEYS[2]) or '0'
if version == ARGV[1] then return {version} end
return {version, redis.call('HVALS', KEYS[1])}
"""

_log = structlog.get_logger(__name__)


class Snapshot(NamedTuple):
    """All webhooks, as of one version."""

    version: int
    webhooks: tuple[Webhook, ...]
    """By environment and name."""


class WebhookStore:
    """Reads and writes webhooks. Every method is one round trip."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def write(self, webhook: Webhook) -> bool:
        """Make this the record of its environment and name; whether that changed anything. Only then it is published.

        The same secret sealed once more is another record: what is sealed already is to be given again.

        Raises:
            ValueError: environment or name cannot be one.
        """
        return await self._set(webhook.env, webhook.name, msgspec.json.encode(webhook))

    async def remove(self, env: str, name: str) -> bool:
        """Remove the record: its URL takes nothing any more. Whether there was one.

        Raises:
            ValueError: environment or name cannot be one.
        """
        return await self._set(env, name, b"")

    async def read(self) -> Snapshot:
        """All webhooks."""
        snapshot = await self.read_if_not(-1)
        assert snapshot is not None, "no version is negative"
        return snapshot

    async def read_if_not(self, version: int) -> Snapshot | None:
        """All webhooks; None where they are those of `version`."""
        reply = await self._store.command("EVAL", _READ, 2, *self._keys(), str(version))
        if len(reply) == 1:
            return None
        found = sorted(_decoded(reply[1]), key=lambda each: (each.env, each.name))
        return Snapshot(int(reply[0]), tuple(found))

    async def _set(self, env: str, name: str, value: bytes) -> bool:
        check_name(env)
        if not 0 < len(name) <= MOST_NAME:
            raise ValueError(f"{name[:100]!r} cannot be a webhook's name: write 1 to {MOST_NAME} characters")
        about = (f"{env}/{name}", value, self._store.key(CHANGED))
        return bool(await self._store.command("EVAL", _WRITE, 2, *self._keys(), *about))

    def _keys(self) -> tuple[str, str]:
        return self._store.key("webhooks"), self._store.key("webhookver")


def _decoded(values: Iterable[bytes]) -> Iterable[Webhook]:
    for value in values:
        try:
            yield msgspec.json.decode(value, type=Webhook)
        except msgspec.MsgspecError as error:
            # Of a later version, perhaps. Its URL takes nothing here; those of the others must.
            _log.error("a webhook cannot be read: its URL takes nothing", why=str(error))
