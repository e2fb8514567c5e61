"""Our signatures and our reading of registrations against real apps in cloud mode; no server takes part."""

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from innkeeper_apps.wire.keys import bearer_hash, sign, verify
from innkeeper_apps.wire.register import parse_in_band
from tests.sdk.harness import ALL, Api, App, make_app

pytestmark = pytest.mark.sdk

KEY, OTHER = (f"signkey-prod-{secrets.token_hex(32)}" for _ in range(2))


@pytest.fixture(scope="module", params=ALL)
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app in cloud mode, with a key and no server."""
    env = {"INNGEST_SIGNING_KEY": KEY, "INNGEST_EVENT_KEY": "x", "NODE_ENV": "production"}
    folder = tmp_path_factory.mktemp("signing")
    app = make_app(request.param, folder, Api("http://127.0.0.1:9"), env=env)
    try:
        yield app.start()
    finally:
        app.stop()


def signed(body: bytes, key: str = KEY) -> dict[str, str]:
    """The headers of a signed request."""
    return {"X-Inngest-Signature": sign(body, key, int(time.time())), "Content-Type": "application/json"}


def test_the_trust_probe_is_answered_and_signed(app: App) -> None:
    reply = app.http.post("/api/inngest?probe=trust", content=b"{}", headers=signed(b"{}"))
    assert reply.status_code == 200, reply.text
    header = reply.headers.get("x-inngest-signature")
    assert verify(header, reply.content, [OTHER, KEY], int(time.time())) == KEY


def test_a_foreign_signature_is_refused(app: App) -> None:
    reply = app.http.post("/api/inngest?probe=trust", content=b"{}", headers=signed(b"{}", OTHER))
    assert reply.status_code == 401


def test_in_band_sync_tells_the_functions(app: App) -> None:
    body = json.dumps({"url": app.url}, separators=(",", ":")).encode()
    headers = signed(body) | {"x-inngest-sync-kind": "in_band"}
    reply = app.http.put("/api/inngest", content=body, headers=headers)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-inngest-sync-kind"] == "in_band"
    found = parse_in_band(reply.content)
    assert found.app_id == app.id
    assert {f"{app.id}-two-step", f"{app.id}-cancel-on"} <= {f.slug for f in found.functions}
    assert found.sdk_version


def test_signed_introspection_shows_the_hash_of_the_key(app: App) -> None:
    reply = app.http.get("/api/inngest", headers=signed(b"") | {"X-Inngest-Server-Kind": "cloud"})
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    assert told["authentication_succeeded"] is True
    # TypeScript 4 shows the first letters only, the others may keep the prefix.
    shown = str(told["signing_key_hash"]).removeprefix("signkey-prod-")
    assert shown
    assert bearer_hash(KEY).startswith(shown)


def test_an_unsorted_text_is_signed_in_its_canonical_form(app: App, tmp_path: Path) -> None:
    """SDKs that only see the parsed body write it again in canonical form before they verify."""
    sent = '{"z":1,"url":"é","a":[1.0,1e21]}'.encode()
    canonical = '{"a":[1,1e+21],"url":"é","z":1}'.encode()
    reply = app.http.post("/api/inngest?probe=trust", content=sent, headers=signed(canonical))
    assert reply.status_code == 200, reply.text
