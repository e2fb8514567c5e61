"""Notices arrive, or who waits for them learns that they may not."""

import asyncio

import pytest

from innkeeper_engine.store import notices as module
from innkeeper_engine.store.notices import Notices
from tests.conftest import OpenStore
from tests.executor.house import soon
from tests.executor.proxy import Fate, Proxy, once


async def test_a_connection_that_is_only_half_there_is_noticed(
    proxy: Proxy, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that says nothing is asked; one that does not answer is left for a new connection to it."""
    monkeypatch.setattr(module, "_SILENCE_S", 0.05)
    store = await open_store(address=proxy.address)
    told = asyncio.Queue[None]()
    notices = Notices(store)
    notices.tell("changed", lambda: told.put_nowait(None))
    notices.listen()
    try:
        await soon(told.get())
        asked = proxy.count("PING")
        while proxy.count("PING") < asked + 2:  # answered: nothing happens
            await asyncio.sleep(0.01)
        assert told.empty()
        assert proxy.count("SUBSCRIBE") == 1
        proxy.rule = once(lambda sent: sent.name == "PING", Fate.SWALLOW)
        await soon(told.get())
        assert proxy.count("SUBSCRIBE") == 2
        await store.command("PUBLISH", store.key("changed"), "x")
        await soon(told.get())
    finally:
        await notices.close()
