"""Sends events as SDKs do: with a seed, again and again until they are acknowledged."""

import asyncio
import base64
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

RETRY_S = 0.2


class Sender:
    """A client of several gateways."""

    def __init__(self, servers: Sequence[str], event_key: str, draw: random.Random) -> None:
        self._paths = [f"{server}/e/{event_key}" for server in servers]
        self._draw = draw
        self._http = httpx.AsyncClient(timeout=8, trust_env=False)
        self.replies: Counter[str] = Counter()
        """How often each status was answered, or `broken` for none."""
        self.oddities: list[str] = []

    def seed(self) -> str:
        """A fresh value of the header by which a repeated send is known."""
        return f"{time.time_ns() // 1_000_000},{base64.b64encode(self._draw.randbytes(10)).decode()}"

    async def send(self, events: Sequence[Mapping[str, Any]], seed: str = "") -> list[str]:
        """Send until there is a 200, each time to any gateway and under the same seed; the events' ids."""
        headers = {"x-inngest-event-id-seed": seed or self.seed()}
        while True:
            reply = await self.try_once(events, headers)
            if reply is not None and reply.status_code == 200:
                ids: list[str] = reply.json()["ids"]
                if len(ids) != len(events):
                    self.oddities.append(f"{len(events)} events sent, answered {reply.text}")
                return ids
            await asyncio.sleep(RETRY_S)

    async def try_once(
        self, events: Sequence[Mapping[str, Any]], headers: Mapping[str, str]
    ) -> httpx.Response | None:
        """One attempt; None where no answer came."""
        try:
            reply = await self._http.post(
                self._draw.choice(self._paths), json=list(events), headers=dict(headers)
            )
        except httpx.TransportError:
            self.replies["broken"] += 1
            return None
        self.replies[str(reply.status_code)] += 1
        if reply.status_code == 503:
            if not reply.headers.get("retry-after", "").isdigit():
                self.oddities.append(f"503 without Retry-After: {dict(reply.headers)}")
        elif reply.status_code != 200:
            self.oddities.append(f"events were answered {reply.status_code}: {reply.text}")
        return reply

    async def close(self) -> None:
        """Disconnect."""
        await self._http.aclose()
