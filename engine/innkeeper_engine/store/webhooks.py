"""Webhooks as they lie in the store: `records.py`, as of environments.

`webhooks` is a hash, `<environment>/<name>` -> JSON of a `Webhook`; `webhookver` changes with every change of it, and
each change is published on the channel `webhooks`. `webhooktimes` is another, `<environment>/<name>` -> when that
webhook took a request last, ms since the epoch; what is noted there is no change of a webhook, and goes with it. The
requests that a transform could make nothing of are kept by `letters.py`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.environments import check_name
from innkeeper_engine.store.records import Records
from innkeeper_engine.store.store import Store

CHANGED = "webhooks"
"""The channel on which a change of webhooks is published (under the shard's prefix); the notice is the version."""

MOST_NAME = 512
"""Characters of a webhook's name: in Kubernetes those of a namespace, a slash and those of an object."""

_FORGET_TIME = "if ARGV[2] == '' then redis.call('HDEL', KEYS[3], ARGV[1]) end"

# By the server's own clock, so that gateways whose clocks differ agree on what is newest. A note that comes after its
# webhook has gone would stay for ever: it counts for nothing.
_TOOK = """#!lua
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for n = 1, #ARGV, 2 do
  local at = now - tonumber(ARGV[n + 1])
  local known = tonumber(redis.call('HGET', KEYS[2], ARGV[n]) or '0')
  if at > known and redis.call('HEXISTS', KEYS[1], ARGV[n]) == 1 then
    redis.call('HSET', KEYS[2], ARGV[n], string.format('%.0f', at))
  end
end
return 1
"""

_AT_ONCE = 1_000
"""Webhooks whose times one script writes."""


class Snapshot(NamedTuple):
    """All webhooks, as of one version."""

    version: int
    webhooks: tuple[Webhook, ...]
    """By environment and name."""


class WebhookStore:
    """Reads and writes webhooks. Every method is one round trip, but where it says otherwise."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._times = store.key("webhooktimes")
        self._records = Records(
            store,
            Webhook,
            name="webhooks",
            version="webhookver",
            channel=CHANGED,
            order=lambda each: (each.env, each.name),
            unreadable="a webhook cannot be read: its URL takes nothing",
            also=_FORGET_TIME,
        )

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
        return Snapshot(*await self._records.read())

    async def read_if_not(self, version: int) -> Snapshot | None:
        """All webhooks; None where they are those of `version`."""
        found = await self._records.read_if_not(version)
        return None if found is None else Snapshot(*found)

    async def note_taken(self, ages_ms: Mapping[tuple[str, str], int]) -> None:
        """Note when webhooks took a request last: how many ms ago, by environment and name.

        Of what several gateways note the newest counts; of a webhook that has gone nothing does. One round trip for
        every 1,000 webhooks.
        """
        keys = self._store.key("webhooks"), self._times
        pairs = [(f"{env}/{name}", str(max(0, age_ms))) for (env, name), age_ms in ages_ms.items()]
        for first in range(0, len(pairs), _AT_ONCE):
            about = [text for pair in pairs[first : first + _AT_ONCE] for text in pair]
            await self._store.command("EVAL", _TOOK, len(keys), *keys, *about)

    async def last_taken(self) -> dict[tuple[str, str], int]:
        """When webhooks took a request last, ms since the epoch, by environment and name; of those that ever did."""
        flat = await self._store.command("HGETALL", self._times)
        found: dict[tuple[str, str], int] = {}
        for field, at_ms in zip(flat[::2], flat[1::2], strict=True):
            env, _, name = field.decode().partition("/")
            found[env, name] = int(at_ms)
        return found

    async def _set(self, env: str, name: str, value: bytes) -> bool:
        check_name(env)
        if not 0 < len(name) <= MOST_NAME:
            raise ValueError(f"{name[:100]!r} cannot be a webhook's name: write 1 to {MOST_NAME} characters")
        return await self._records.write(f"{env}/{name}", value, (self._times,))
