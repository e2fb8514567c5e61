"""What probes and Prometheus are told."""

import asyncio
import json

import pytest

from innkeeper_operator.errors import OperatorStoppedError
from innkeeper_operator.health import Health, answer
from innkeeper_operator.metrics import Metrics


def said(line: str, checks: dict[str, str]) -> tuple[int, dict[str, object]]:
    status, content_type, body = answer(line, lambda: checks, lambda: b"")
    assert content_type == "application/json"
    return status, json.loads(body)


def test_a_process_that_answers_is_alive_whatever_is_wrong() -> None:
    assert said("GET /live HTTP/1.1", {"redis": "gone"}) == (200, {"status": 200, "message": "OK"})


def test_it_is_ready_when_all_is_well_and_says_what_is_not() -> None:
    assert said("GET /ready?verbose=1 HTTP/1.1", {"redis": "ok"})[0] == 200
    status, body = said("GET /ready HTTP/1.1", {"redis": "ok", "cluster": "no rights"})
    assert status == 503
    assert body["checks"] == {"redis": "ok", "cluster": "no rights"}


@pytest.mark.parametrize(
    ("line", "status"), [("GET / HTTP/1.1", 404), ("POST /live HTTP/1.1", 405), ("", 404)]
)
def test_nothing_else_is_served(line: str, status: int) -> None:
    assert said(line, {})[0] == status


def test_metrics_are_prometheus_text_with_the_operators_names() -> None:
    metrics = Metrics()
    metrics.asks.labels("First", "Answered").inc()
    status, content_type, body = answer("GET /metrics HTTP/1.1", dict, metrics.text)
    assert status == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert 'innkeeper_operator_asks_total{result="Answered",why="First"} 1.0' in body.decode()


async def test_it_answers_over_http_and_drops_what_is_no_http() -> None:
    health = Health(lambda: {"redis": "ok"}, lambda: b"x 1\n", host="127.0.0.1", port=0)
    await health.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", health.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = await reader.read()
        writer.close()
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
        assert reply.endswith(b"\r\n\r\nx 1\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", health.port)
        writer.write(b"x" * 20_000)
        assert await reader.read() == b""
        writer.close()
        other = Health(dict, bytes, host="127.0.0.1", port=health.port)
        with pytest.raises(OperatorStoppedError, match="set INNKEEPER_PORT"):
            await other.start()
    finally:
        await health.stop()
