"""What a Kubernetes probe and Prometheus get from a role."""

import asyncio
import json

import httpx
import pytest

from innkeeper_engine.probes import Probes, ProbesStartError, answer


async def no_metrics() -> bytes:
    return b"x 1\n"


@pytest.mark.parametrize(
    ("line", "checks", "status"),
    [
        ("GET /live HTTP/1.1", {"redis": "gone"}, 200),
        ("GET /ready HTTP/1.1", {"redis": "gone"}, 503),
        ("GET /ready?verbose HTTP/1.1", {"redis": "ok"}, 200),
        ("HEAD /ready HTTP/1.0", {"redis": "ok"}, 200),
        ("POST /ready HTTP/1.1", {"redis": "ok"}, 405),
        ("POST /metrics HTTP/1.1", {"redis": "ok"}, 405),
        ("GET /v1/runs HTTP/1.1", {"redis": "ok"}, 404),
        ("nonsense", {"redis": "ok"}, 404),
        ("", {}, 404),
    ],
)
async def test_alive_is_who_answers_ready_is_who_can_work(
    line: str, checks: dict[str, str], status: int
) -> None:
    assert (await answer(line, lambda: checks, no_metrics))[0] == status


async def test_it_says_what_is_wrong() -> None:
    checks = {"redis": "ok", "cluster": "no rights"}
    status, content_type, body = await answer("GET /ready HTTP/1.1", lambda: checks, None)

    assert (status, content_type) == (503, "application/json")
    assert json.loads(body)["checks"] == checks


async def test_without_metrics_there_are_none() -> None:
    status, _, body = await answer("GET /metrics HTTP/1.1", dict, None)

    assert status == 404
    assert json.loads(body)["error"] == "only /live and /ready are served here"


async def test_probes_are_answered_over_http_and_follow_the_state() -> None:
    state = {"executor": "is being drained"}
    probes = Probes(lambda: state, no_metrics, host="127.0.0.1", port=0)
    await probes.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{probes.port}", trust_env=False) as client:
            reply = await client.get("/ready")
            assert (reply.status_code, reply.json()["checks"]) == (503, state)
            state["executor"] = "ok"
            assert (await client.get("/ready")).status_code == 200
            assert (await client.head("/live")).content == b""
            metrics = await client.get("/metrics")
            assert metrics.text == "x 1\n"
            assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        with pytest.raises(ProbesStartError, match=f"cannot listen on 127.0.0.1:{probes.port}"):
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
