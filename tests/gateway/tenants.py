"""A managed gateway over a real store, and environments in that store as an operator writes them."""

from typing import Any

import httpx
import orjson

from innkeeper_apps.wire.keys import bearer_hash, signing_key_digests
from innkeeper_apps.wire.register import parse_registration
from innkeeper_engine.model.environments import Environment, EventKey, SigningKey, key_digest
from innkeeper_engine.registering import register_app
from innkeeper_engine.store.environments import EnvironmentStore
from tests.gateway.world import World, registration


def event_key(name: str) -> str:
    """The event key of an environment."""
    return f"event-key-of-{name}"


def signing_key(name: str) -> str:
    """The signing key of an environment."""
    return f"signkey-{name}-" + key_digest(name)[:32]


def environment(name: str, **fields: Any) -> Environment:
    """An environment with one key of each kind."""
    digests = signing_key_digests(signing_key(name))
    return Environment(
        **{
            "name": name,
            "event_keys": (EventKey(name=f"{name}/keys", digest=key_digest(event_key(name))),),
            "signing_keys": (SigningKey(name=f"{name}/keys", digests=digests),),
            **fields,
        }
    )


class Tenant:
    """Somebody with the keys of one environment, as seen by a gateway."""

    def __init__(self, world: World, name: str, *, peer: str = "127.0.0.1", **headers: str) -> None:
        self.world = world
        self.name = name
        bearer = f"Bearer signkey-{name}-{bearer_hash(signing_key(name))}"
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=world.app, client=(peer, 4711)),
            base_url="http://gateway",
            headers={"authorization": bearer, **headers},
            timeout=20,
        )

    async def put(self, **fields: Any) -> None:
        """Write the environment, as the operator does."""
        await EnvironmentStore(self.world.store).write(environment(self.name, **fields))

    async def register(self, *functions: dict[str, Any], env: str = "", **fields: Any) -> None:
        """Put an app into the registry, as the operator does."""
        app = parse_registration(orjson.dumps(registration(*functions, **fields))).as_app(1, 1)
        await register_app(self.world.store, env or self.name, app, now_ms=self.world.clock.now_ms())

    async def post_event(self, name: str = "test/go", *, query: str = "", **headers: str) -> httpx.Response:
        """Send an event with the environment's key."""
        path = f"/e/{event_key(self.name)}{query}"
        return await self.http.post(path, json={"name": name, "data": {"of": self.name}}, headers=headers)

    async def send(self, name: str = "test/go", **headers: str) -> str:
        """Send an event that is taken; its id."""
        reply = await self.post_event(name, **headers)
        assert reply.status_code == 200, reply.text
        (event_id,) = reply.json()["ids"]
        return str(event_id)

    async def status(self, method: str, path: str, **options: Any) -> int:
        """What a request is answered with."""
        return (await self.http.request(method, path, **options)).status_code

    async def close(self) -> None:
        """Close the client."""
        await self.http.aclose()
