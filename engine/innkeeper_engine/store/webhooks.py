"""Webhooks as they lie in the store: `records.py`, as of environments.

`webhooks` is a hash, `<environment>/<name>` -> JSON of a `Webhook`; `webhookver` changes with every change of it, and
each change is published on the channel `webhooks`. The requests that a transform could make nothing of are kept by
`letters.py`.
"""

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


class Snapshot(NamedTuple):
    """All webhooks, as of one version."""

    version: int
    webhooks: tuple[Webhook, ...]
    """By environment and name."""


class WebhookStore:
    """Reads and writes webhooks. Every method is one round trip."""

    def __init__(self, store: Store) -> None:
        self._records = Records(
            store,
            Webhook,
            name="webhooks",
            version="webhookver",
            channel=CHANGED,
            order=lambda each: (each.env, each.name),
            unreadable="a webhook cannot be read: its URL takes nothing",
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

    async def _set(self, env: str, name: str, value: bytes) -> bool:
        check_name(env)
        if not 0 < len(name) <= MOST_NAME:
            raise ValueError(f"{name[:100]!r} cannot be a webhook's name: write 1 to {MOST_NAME} characters")
        return await self._records.write(f"{env}/{name}", value)
