"""The transforms that Inngest's documentation shows, from the provider's request to the event that is stored.

The providers' own ways of naming things are the documentation's ("Consuming webhook events", "Receive Resend webhook
events"); its promise is what each makes of a body.
"""

from typing import Any, NamedTuple

import orjson
import pytest

from innkeeper_apps.sandbox.pool import Sandbox
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_gateway.ingest import Seed
from innkeeper_gateway.settings import Limits
from innkeeper_gateway.webhooks.defaults import default_transform, provider_slug
from innkeeper_gateway.webhooks.handling import Taken, WebhookRequest, handle

NOW_MS = 1_795_343_330_026
SEED = Seed(NOW_MS, b"0123456789")

SIGNATURE = "function transform(evt, headers = {}, queryParams = {}, raw = '')"


class Vector(NamedTuple):
    transform: str
    body: bytes
    event: dict[str, Any]
    headers: tuple[tuple[bytes, bytes], ...] = ()


VECTORS = {
    "clerk": Vector(
        SIGNATURE + " { return { name: `clerk/${evt.type}`, data: evt.data } }",
        b'{"type":"user.created","object":"event","data":{"id":"user_29w83sxmDNGwOuEthce5gg56FcC"}}',
        {"name": "clerk/user.created", "data": {"id": "user_29w83sxmDNGwOuEthce5gg56FcC"}},
    ),
    "intercom": Vector(
        SIGNATURE
        + " { return { name: `intercom/${evt.topic}`, data: evt.data, ts: evt.created_at * 1000 } }",
        b'{"topic":"company.updated","created_at":1654012591,"data":{"item":{"id":"1"}}}',
        {"name": "intercom/company.updated", "data": {"item": {"id": "1"}}, "ts": 1_654_012_591_000},
    ),
    "stripe": Vector(
        SIGNATURE + " { return { id: evt.id, name: `stripe/${evt.type}`, data: evt } }",
        b'{"id":"evt_1","type":"charge.updated"}',
        {
            "id": "evt_1",
            "name": "stripe/charge.updated",
            "data": {"id": "evt_1", "type": "charge.updated"},
        },
    ),
    **{
        f"stripe raw, {name.decode()}": Vector(
            SIGNATURE
            + """ {
              return { name: `stripe/${evt.type}`, data: { raw, sig: headers["Stripe-Signature"] } }
            }""",
            b'{"id":"evt_1","type":"charge.updated"}',
            {
                "name": "stripe/charge.updated",
                "data": {"raw": '{"id":"evt_1","type":"charge.updated"}', "sig": "t=1,v1=abc"},
            },
            ((name, b"t=1,v1=abc"),),
        )
        for name in (b"stripe-signature", b"Stripe-Signature", b"STRIPE-SIGNATURE")
    },
    "github": Vector(
        SIGNATURE
        + """ {
          const name = headers["X-Github-Event"];
          return { name: "github." + name.trim().replace("Event", "").toLowerCase(), data: evt };
        }""",
        b'{"action":"opened"}',
        {"data": {"action": "opened"}, "name": "github.pull_request"},
        ((b"x-github-event", b"pull_request"),),
    ),
    "linear": Vector(
        SIGNATURE + " { return { name: `linear/${evt.type.toLowerCase()}.${evt.action}`, data: evt } }",
        b'{"type":"Issue","action":"create"}',
        {"name": "linear/issue.create", "data": {"type": "Issue", "action": "create"}},
    ),
    "resend": Vector(
        SIGNATURE + " { return { name: `resend/${evt.type}`, data: evt.data } }",
        b'{"type":"email.bounced","data":{"to":["a@b.c"]}}',
        {"name": "resend/email.bounced", "data": {"to": ["a@b.c"]}},
    ),
    "default": Vector(
        default_transform("AcmeApp"),
        b'{"msg":"hi"}',
        {"name": "acmeapp/webhook.received", "data": {"msg": "hi"}},
    ),
    "default, type": Vector(
        default_transform("AcmeApp"),
        b'{"type":"a.b","name":"x","data":{"n":1}}',
        {"name": "acmeapp/a.b", "data": {"n": 1}},
    ),
    "default, event_type": Vector(
        default_transform("AcmeApp"),
        b'{"type":"","event_type":"e"}',
        {"name": "acmeapp/e", "data": {"type": "", "event_type": "e"}},
    ),
    "several": Vector(
        SIGNATURE
        + " { return evt.items.map((n) => ({ name: 'item', data: { n }, v: '1', user: { external_id: 'u' } })) }",
        b'{"items":[1]}',
        {"name": "item", "data": {"n": 1}, "v": "1", "user": {"external_id": "u"}},
    ),
}


@pytest.mark.parametrize("name", VECTORS)
async def test_a_documented_transform_makes_the_documented_event(sandbox: Sandbox, name: str) -> None:
    vector = VECTORS[name]
    webhook = Webhook(name="prod/x", env="default", digest="", transform=vector.transform)
    request = WebhookRequest(env="default", received_ms=NOW_MS, headers=vector.headers, body=vector.body)
    await sandbox.check_transform(vector.transform)
    outcome = await handle(webhook, (), request, sandbox, Limits(), SEED)
    assert isinstance(outcome, Taken)
    ((event_id, event_name, stored),) = outcome.events
    assert event_name == vector.event["name"]
    assert orjson.loads(stored) == {"id": event_id, "ts": NOW_MS, "user": {}, **vector.event}


@pytest.mark.parametrize(
    ("provider", "slug"),
    [
        *[("AcmeApp", "acmeapp"), ("Acme App", "acme-app"), ("  Ä/b..C ", "b-c"), ("日本", "webhook")],
        *[("", "webhook"), ("`${evt}`", "evt"), ("x" * 500, "x" * 100)],
    ],
)
def test_a_provider_s_name_becomes_a_slug(provider: str, slug: str) -> None:
    assert provider_slug(provider) == slug


@pytest.mark.parametrize("line_break", ["\n", "\r", "\u2028", "\u2029", "\r\n", "\x00"])
async def test_a_provider_s_name_is_never_code(sandbox: Sandbox, line_break: str) -> None:
    source = default_transform(f"Acme{line_break}throw 1 //*/ `${{x}}`")
    assert source.startswith("// This was created by the Acme throw 1 //*/ `${x}` integration.\n")
    await sandbox.check_transform(source)
