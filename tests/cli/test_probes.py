"""What a Kubernetes probe gets from an executor."""

import asyncio
import json

import httpx
import pytest

from innkeeper_cli.errors import RoleError
from innkeeper_cli.probes import Probes, answer


@pytest.mark.parametrize(
    ("line", "checks", "status"),
    [
        ("GET /live HTTP/1.1", {"redis": "gone"}, 200),
        ("GET /ready HTTP/1.1", {"redis": "gone"}, 503),
        ("GET /ready?verbose HTTP/1.1", {"redis": "ok"}, 200),
        ("HEAD /ready HTTP/1.0", {"redis": "ok"}, 200),
        ("POST /ready HTTP/1.1", {"redis": "ok"}, 405),
        ("GET /v1/runs HTTP/1.1", {"redis": "ok"}, 404),
        ("nonsense", {"redis": "ok"}, 404),
    ],
)
def test_alive_is_who_answers_ready_is_who_can_work(line: str, checks: dict[str, str], status: int) -> None:
    assert answer(line, lambda: checks)[0] == status


async def test_probes_are_answered_over_http_and_follow_the_state() -> None:
    state = {"executor": "is being drained"}
    probes = Probes(lambda: state, host="127.0.0.1", port=0)
    await probes.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{probes.port}", trust_env=False) as client:
            reply = await client.get("/ready")
            assert (reply.status_code, reply.json()["checks"]) == (503, state)
            state["executor"] = "ok"
            assert (await client.get("/ready")).status_code == 200
            assert (await client.head("/live")).content == b""
        with pytest.raises(RoleError, match=f"cannot listen on 127.0.0.1:{probes.port}"):
            await Probes(lambda: state, host="127.0.0.1", port=probes.port).start()
    finally:
        await probes.stop()


async def test_what_is_no_http_harms_nobody() -> None:
    probes = Probes(lambda: {}, host="127.0.0.1", port=0)
    await probes.start()
    try:
        for sent in (b"\x16\x03\x01" * 5000, b"GET", b"\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", probes.port)
            writer.write(sent)
            writer.write_eof()
            try:
                reply = await asyncio.wait_for(reader.read(), 5)
            except ConnectionResetError:
                reply = b""
            assert reply == b"" or b" 404 " in reply
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", probes.port)
        writer.write(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert json.loads(body) == {"status": 200, "message": "OK"}
        writer.close()
    finally:
        await probes.stop()
