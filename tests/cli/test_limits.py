"""docs/limits.md: what it says is what holds, and what may be set can be set, within its bounds."""

import re
from pathlib import Path

import pytest

from innkeeper_apps.http_driver import CALL_TIMEOUT_S
from innkeeper_apps.wire import canonical, flow_control, function_config, request, response
from innkeeper_cli.executor_role import executor_settings
from innkeeper_cli.gateway_role import gateway_settings, store_settings
from innkeeper_cli.settings import ExecutorRole, GatewayRole, SettingsError, load
from innkeeper_engine.cel.values import MAX_STEPS
from innkeeper_engine.decide.context import Limits as RunLimits
from innkeeper_engine.model import functions
from innkeeper_engine.store import scripts
from innkeeper_executor.settings import ExecutorSettings
from innkeeper_gateway.core import UNKNOWN_TOKENS_PER_S
from innkeeper_gateway.lists.filtering import MOST_STEPS, MOST_WAITING
from innkeeper_gateway.lists.filters import MOST_STEPS_EACH
from innkeeper_gateway.settings import MAX_EVENT_BYTES
from innkeeper_gateway.settings import Limits as RequestLimits

DAY_MS = 86_400_000
TEXT = (Path(__file__).parents[2] / "docs" / "limits.md").read_text("utf-8")
ROWS = {
    cells[0]: cells[1:]
    for cells in re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| ([^|]+?) \|", TEXT, re.MULTILINE)
}

RUN, REQUEST = RunLimits(), RequestLimits()
DAYS = RUN.wait_ms // DAY_MS
EXPECTED = {
    "limit": "is",
    "---": "---",
    "one event": f"{REQUEST.event_bytes} bytes",
    "a request to the gateway, unpacked": f"{REQUEST.request_bytes} bytes",
    "steps of a run": f"{RUN.steps}",
    "events in a request": f"{REQUEST.events}",
    "name of an event": f"{REQUEST.name_bytes} bytes",
    "nesting of JSON": f"{canonical.MAX_DEPTH} levels",
    "event of `step.invoke`": f"{RUN.invoked_bytes} bytes",
    "output or error of a step": f"{response.MAX_OUTPUT_BYTES} bytes",
    "a signal (`POST /v1/signals`) with its data": f"{response.MAX_OUTPUT_BYTES} bytes",
    "a filter of a list (`cel`): one evaluation of one line": f"{MAX_STEPS} steps",
    "a filter of a list: all lines for one entry, reading it included": f"{MOST_STEPS_EACH} steps",
    "a filter of a list: a request": f"{MOST_STEPS} steps",
    "filtered lists of an environment that wait for their turn at a gateway": f"{MOST_WAITING}",
    "tokens of the cluster that are not known, from one address": f"{UNKNOWN_TOKENS_PER_S} a second, 100 at once",
    "operations in an answer": f"{response.MAX_OPS}",
    "an answer of an app, and so the output of a function": f"{response.MAX_RESPONSE_BYTES} bytes",
    "a request of an app to the API (checkpoint)": f"{REQUEST.checkpoint_bytes} bytes",
    "a request to an app": f"{request.MAX_REQUEST_BYTES} bytes",
    "state of a run: its events and results": f"{RUN.state_bytes} bytes",
    "a request to an app takes": f"{ExecutorSettings().request_timeout_s / 3600:g} h",
    "retries": f"{functions.MAX_RETRIES} (4 unless set)",
    "sleep, wait, timeout of an invoke": f"{DAYS} days",
    "cancellation by event: timeout": f"{function_config.MAX_CANCEL_MS // DAY_MS} days",
    "run timeouts (`timeouts.start`, `timeouts.finish`)": f"{flow_control.MAX_TIMEOUT_MS // DAY_MS} days",
    "debounce: period and timeout": f"1 s to {flow_control.MAX_PERIOD_MS // DAY_MS} days",
    "throttle: period": f"1 s to {flow_control.MAX_PERIOD_MS // DAY_MS} days",
    "rate limit: period": f"1 s to {flow_control.MAX_RATE_LIMIT_PERIOD_MS // 3_600_000} h",
    "batch": f"2 to {flow_control.MAX_BATCH} events",
    "batch: timeout": f"1 s to {flow_control.MAX_BATCH_MS // 60_000} min",
    "batch: bytes of its events": "10485760 bytes",
    "concurrency": f"{flow_control.MAX_CONCURRENCY} entries",
    "triggers of a function": f"{function_config.MAX_TRIGGERS}",
    "`cancelOn` of a function": f"{function_config.MAX_CANCELS}",
}


def test_the_page_says_what_holds() -> None:
    assert {name: cells[0] for name, cells in ROWS.items()} == EXPECTED


def test_what_is_decided_twice_is_the_same() -> None:
    """By the gateway for checkpoints and by executors for answers; by the driver and by who calls it; in Lua."""
    assert (REQUEST.steps, REQUEST.state_bytes) == (RUN.steps, RUN.state_bytes)
    assert ExecutorSettings().limits == RUN
    assert ExecutorSettings().request_timeout_s == CALL_TIMEOUT_S
    assert RUN.invoked_bytes == MAX_EVENT_BYTES
    assert "MOST_GATHERED_BYTES = 10 * 1024 * 1024" in scripts.load("apply").source


SETTINGS = {
    "one event": ("MAX_EVENT_BYTES", 3 << 20),
    "a request to the gateway, unpacked": ("MAX_REQUEST_BYTES", 100 << 20),
    "steps of a run": ("MAX_STEPS", 10_000),
}


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which a gateway and an executor start."""
    monkeypatch.setenv("INNKEEPER_REDIS_URL", "redis://redis:6379/0")
    monkeypatch.setenv("INNKEEPER_MANAGED", "true")
    monkeypatch.setenv("INNKEEPER_ENCRYPTION_KEY", "ab" * 32)
    return monkeypatch


@pytest.mark.parametrize("name", SETTINGS)
def test_a_limit_can_be_set_up_to_its_bound(name: str, keys: pytest.MonkeyPatch) -> None:
    variable, most = SETTINGS[name]
    assert ROWS[name][1] == f"`INNKEEPER_{variable}`"
    assert f"| `INNKEEPER_{variable}` | {most} |" in TEXT
    keys.setenv(f"INNKEEPER_{variable}", str(most))
    requests, runs = (
        gateway_settings(load(GatewayRole)).limits,
        executor_settings(load(ExecutorRole)).limits,
    )
    field = variable.removeprefix("MAX_").lower()
    assert getattr(requests, field) == most
    if field == "steps":
        assert runs.steps == most
    keys.setenv(f"INNKEEPER_{variable}", str(most + 1))
    for role in (GatewayRole, ExecutorRole):
        with pytest.raises(SettingsError, match=f"INNKEEPER_{variable}: .*less than or equal to {most}"):
            load(role)


def test_both_keep_large_things_alike(keys: pytest.MonkeyPatch) -> None:
    for role in (GatewayRole, ExecutorRole):
        assert store_settings(load(role)).compress_over_bytes == 16 * 1024
        keys.setenv("INNKEEPER_COMPRESS_OVER_BYTES", "0")
        assert store_settings(load(role)).compress_over_bytes == 0
        keys.delenv("INNKEEPER_COMPRESS_OVER_BYTES")
