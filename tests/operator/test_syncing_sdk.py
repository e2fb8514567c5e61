"""Asking a real app: one pod, in the name of its Service, while its key is replaced."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from innkeeper_apps.egress import EgressPolicy, Resolver
from innkeeper_apps.sync import Syncer
from innkeeper_apps.transport import Transport
from innkeeper_engine.model.clock import SystemClock
from innkeeper_operator.keys import AppKeys, SourcedKey, key_notice
from innkeeper_operator.syncing import Asker
from innkeeper_operator.views import Answered, Ask, Failed, Outcome
from tests.sdk.harness import PY05, Api, PythonApp, close_clients

pytestmark = pytest.mark.sdk

OLD, NEW = (f"signkey-prod-{secrets.token_hex(32)}" for _ in range(2))
URL = "http://shop.prod.svc:3000/api/inngest"


def keys(*texts: str) -> AppKeys:
    """Keys of the namespace, the current one first."""
    return AppKeys(
        signing=tuple(SourcedKey(text, ("prod", "innkeeper-keys"), "signing-key") for text in texts)
    )


@pytest.fixture
def clients_closed() -> Iterator[None]:
    """The harness keeps clients of apps."""
    yield
    close_clients()


def python_app(folder: Path, **env: str) -> PythonApp:
    """The Python scenario app, with an environment such as its Secret gives it."""
    base: dict[str, str | None] = {"INNGEST_EVENT_KEY": "e", "INNGEST_SIGNING_KEY": OLD}
    return PythonApp(folder, Api("http://127.0.0.1:9"), sdk=PY05, app_id="shop", env=base | dict(env))


async def asked(app: PythonApp, with_keys: AppKeys) -> Outcome:
    """What an ask of the app's only pod comes to."""
    clock = SystemClock()
    transport = Transport(Resolver(EgressPolicy.dev()))
    try:
        asker = Asker(Syncer(transport, clock, server_kind="cloud"), clock)
        return await asker.ask(
            Ask(url=URL, at=f"127.0.0.1:{app.port}", revision="r1", why="First"), with_keys
        )
    finally:
        await transport.close()


@pytest.mark.usefixtures("clients_closed")
async def test_a_real_app_answers_and_tells_which_key_it_has(tmp_path: Path) -> None:
    app = python_app(tmp_path, INNGEST_DEV="0")
    try:
        app.start()
        rotating = keys(NEW, OLD)
        outcome = await asked(app, rotating)
        assert isinstance(outcome, Answered), outcome
        assert outcome.registration.app_id == "shop"
        assert outcome.registration.url == URL
        assert outcome.registration.functions
        notice = key_notice(rotating, outcome.signing_key_hash)
        assert notice is not None
        assert notice[0] == "OldSigningKey"
        assert key_notice(keys(OLD), outcome.signing_key_hash) is None
        refused = await asked(app, keys(NEW))
        assert isinstance(refused, Failed)
        assert refused.reason == "Unauthorized"
    finally:
        app.stop()


@pytest.mark.usefixtures("clients_closed")
async def test_a_real_app_in_dev_mode_is_said(tmp_path: Path) -> None:
    app = python_app(tmp_path, INNGEST_DEV="1")
    try:
        app.start()
        outcome = await asked(app, keys(OLD))
        assert isinstance(outcome, Failed)
        assert outcome.reason == "AppInDevMode"
    finally:
        app.stop()
