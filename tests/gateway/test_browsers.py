"""A development server does what this machine says, and nothing for web pages of others."""

import pytest

from innkeeper_gateway.browsers import refusal
from tests.gateway.conftest import MakeWorld
from tests.gateway.world import World, function


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8288", ""),
        ("127.0.0.1:8288", "http://localhost:3000"),
        ("[::1]:8288", "http://[::1]:3000"),
        ("LOCALHOST.:8288", "http://app.localhost"),
        ("host.docker.internal:8288", ""),
        ("innkeeper:8288", "http://innkeeper:8288"),
        ("192.168.1.7:8288", "http://192.168.1.7:8288"),
        ("dev.example.com", "https://dev.example.com"),
    ],
)
def test_this_machine_and_named_hosts_are_served(host: str, origin: str) -> None:
    headers = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin else [])]
    assert refusal(headers, ("dev.example.com",)) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example:8288", ""),
        ("localhost.evil.example", ""),
        ("evil.localhost.example:8288", "http://evil.localhost.example:8288"),
        ("localhost:8288", "https://evil.example"),
        ("localhost:8288", "null"),
        ("localhost:8288", "http://203.0.113.5"),
        ("localhost:8288", "http://localhost.evil.example"),
        ("localhost:8288", "http://[::1"),
    ],
)
def test_web_pages_of_others_are_refused(host: str, origin: str) -> None:
    headers = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin else [])]
    said = refusal(headers, ("dev.example.com",))
    assert said is not None
    assert "INNKEEPER_DEV_HOSTS" in said


async def test_a_page_of_others_may_send_events_and_nothing_else(
    world: World, production: World, make_world: MakeWorld
) -> None:
    await world.register(function("app-f"))
    evil = {"origin": "https://evil.example"}
    for method, path in (
        ("POST", "/v1/functions/app-f/pause"),
        ("PUT", "/fn/register"),
        ("POST", "/invoke/app-f"),
    ):
        reply = await world.http.request(method, path, headers=evil)
        assert (reply.status_code, reply.json()["status"]) == (403, 403)
    assert (await world.http.get("/dev", headers={"host": "evil.example"})).status_code == 403
    assert (await world.http.post("/e/key", json={"name": "a"}, headers=evil)).status_code == 200
    # Elsewhere a key is asked for, and gateways have names of their own.
    assert (await production.http.get("/ready", headers={"host": "innkeeper.example.com"})).status_code == 200
