"""Calling the scripts of `scripts/verbs`: what goes along with each call, and what a server without them is given."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import msgpack

from innkeeper_engine.metrics import Metrics
from innkeeper_engine.store import scripts
from innkeeper_engine.store.connection import Connection, Reply, StoreError, gather_commands


class Verbs:
    """Calls the verbs of one shard, on any connection to it."""

    def __init__(
        self, prefix: str, always: Mapping[str, Any], metrics: Metrics, given_now: Callable[[], str]
    ) -> None:
        """`prefix` begins every key. `always`: what each request has besides its own fields.

        `metrics` count the round trips. `given_now`: the time that scripts are to go by, in ms; empty: the server's.
        """
        self._prefix = prefix
        self._always = dict(always)
        self._metrics = metrics
        self._given_now = given_now

    async def call(self, connection: Connection, name: str, request: Mapping[str, Any]) -> Reply:
        """What the verb replies. One round trip, but where the server has lost the script."""
        script = scripts.load(name)
        packed = msgpack.packb({**request, **self._always}, use_bin_type=False)
        started = perf_counter()
        try:
            return await connection.call("EVALSHA", script.sha, 1, self._prefix, self._given_now(), packed)
        except StoreError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        finally:
            self._metrics.redis_seconds.add(perf_counter() - started, name)
        await connection.call("SCRIPT", "LOAD", script.source)
        return await connection.call("EVALSHA", script.sha, 1, self._prefix, self._given_now(), packed)

    async def load(self, connection: Connection) -> None:
        """Give the server the scripts that it does not have."""
        every = [scripts.load(name) for name in scripts.VERBS]
        # Most connections are not a server's first: it has the scripts, and need not read all of them again.
        known = await connection.call("SCRIPT", "EXISTS", *(script.sha for script in every))
        missing = [script for script, is_known in zip(every, known, strict=True) if not is_known]
        await gather_commands(connection, [("SCRIPT", "LOAD", script.source) for script in missing])
