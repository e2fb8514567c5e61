"""What a Webhook means: its record, its URL, its status."""

from typing import Any

import msgspec
import pytest

from innkeeper_apps.sealing import Sealer
from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import Proof, Webhook
from innkeeper_operator.actions import Apply, Create, SetStatus, Tell
from innkeeper_operator.conditions import Said, find
from innkeeper_operator.objects import ConfigMapObject, Meta, SecretObject, WebhookObject, read_webhook
from innkeeper_operator.webhook_refs import secrets_of_webhook, wanted_config_maps
from innkeeper_operator.webhooks import (
    UnusableError,
    Verdict,
    WebhookPlan,
    WebhookView,
    plan_url,
    plan_webhook,
    read_transform,
)

Json = dict[str, Any]

NOW_MS = 1_795_000_000_000
SEALER = Sealer(bytes(range(32)))
TOKEN = "ab" * 32
SCRIPT = "function transform(evt) { return {name: 'a', data: evt} }"
GOOD = Verdict()
OURS = {"innkeeper.dev/key": "webhook", "app.kubernetes.io/managed-by": "innkeeper"}
RECORD = Webhook(name="prod/acme", env="prod", digest=key_digest(TOKEN), transform=SCRIPT)


def hook(*, name: str = "acme", status: Json | None = None, **spec: Any) -> WebhookObject:
    """A Webhook as the API server has it."""
    found = read_webhook(
        {
            "metadata": {"name": name, "namespace": "prod", "uid": "u-1", "generation": 3},
            "spec": {"transform": {"script": SCRIPT}} | spec,
            "status": status or {},
        }
    )
    assert isinstance(found, WebhookObject)
    return found


def secret(name: str = "hook", *, label: str = "webhook", **data: str) -> SecretObject:
    """A Secret of a person."""
    meta = Meta(name=name, namespace="prod", labels={"innkeeper.dev/key": label})
    return SecretObject(meta, {key.replace("_", "-"): value.encode() for key, value in data.items()})


def own(token: str = TOKEN, base_url: str = "https://hooks.example", **data: str) -> SecretObject:
    """The Secret with the URL as the operator makes it."""
    meta = Meta(name="acme-webhook-url", namespace="prod", labels=OURS, owner_uids=("u-1",))
    values = {"token": token, "url": f"{base_url}/w/{token}"} | data
    return SecretObject(meta, {key: value.encode() for key, value in values.items()})


def view(webhook: WebhookObject | None = None, **more: Any) -> WebhookView:
    """A view in which all is well."""
    fields: Json = {
        "webhook": webhook or hook(),
        "env": "prod",
        "stored": None,
        "digests": {},
        "config_map": None,
        "secret": None,
        "url_secret": own(),
        "makes_secrets": True,
        "base_url": "https://hooks.example/",
        "now_ms": NOW_MS,
    }
    return WebhookView(**fields | more)


def proof(kind: str, **more: Any) -> Json:
    """A spec with a proof."""
    return {"verify": {kind: {"secretRef": {"name": "hook", "key": "secret"}} | more}}


def ready(plan: WebhookPlan) -> Said:
    """What the new status says."""
    said = find(status(plan), "Ready")
    assert said is not None
    return said


def status(plan: WebhookPlan) -> Json:
    """The new status."""
    (action,) = [each for each in plan.actions if isinstance(each, SetStatus)]
    return action.status


# ---- records


def test_a_webhook_without_proof_is_a_record_whose_url_is_in_no_status() -> None:
    plan = plan_webhook(view(), GOOD, SEALER)
    assert plan.record == RECORD
    assert (ready(plan).status, ready(plan).reason, plan.wake_ms) == ("True", "Ready", None)
    assert status(plan)["urlSecretRef"] == {"name": "acme-webhook-url", "key": "url"}
    assert TOKEN not in str(plan.actions)
    assert status(plan)["observedGeneration"] == 3


@pytest.mark.parametrize(
    ("spec", "value", "wanted"),
    [
        (proof("github"), "shh", Proof(kind="github", secrets=(b"shh",))),
        (proof("slack"), "shh\n", Proof(kind="slack", secrets=(b"shh",))),
        (proof("basic"), "me:it", Proof(kind="basic", secrets=(b"me:it",))),
        (proof("bearer"), "tok", Proof(kind="bearer", secrets=(b"tok",))),
        (proof("standardWebhooks"), "whsec_c2g=", Proof(kind="standardWebhooks", secrets=(b"whsec_c2g=",))),
        (
            {"verify": {**proof("stripe")["verify"], "tolerance": "1m30s"}},
            "whsec_x",
            Proof(kind="stripe", secrets=(b"whsec_x",), tolerance_ms=90_000),
        ),
        (
            proof("hmac", header="X-Sig", algorithm="sha512", encoding="base64", prefix="v="),
            "shh",
            Proof(
                kind="hmac",
                secrets=(b"shh",),
                header="X-Sig",
                algorithm="sha512",
                encoding="base64",
                prefix="v=",
            ),
        ),
        (proof("hmac", header="X-Sig"), "shh", Proof(kind="hmac", secrets=(b"shh",), header="X-Sig")),
    ],
)
def test_a_proof_is_as_the_spec_says(spec: Json, value: str, wanted: Proof) -> None:
    plan = plan_webhook(view(hook(**spec), secret=secret(secret=value)), GOOD, SEALER)
    assert plan.record is not None
    made = plan.record.proof
    assert made is not None
    assert msgspec.structs.replace(made, secrets=tuple(map(SEALER.unseal, made.secrets))) == wanted
    assert status(plan)["url"] == f"https://hooks.example/w/{TOKEN}"


def test_what_is_encrypted_already_is_not_encrypted_anew() -> None:
    webhook = hook(**proof("github"))
    first = plan_webhook(view(webhook, secret=secret(secret="a", secret_fallback="b")), GOOD, SEALER).record
    assert first is not None
    again = plan_webhook(
        view(webhook, stored=first, secret=secret(secret="a", secret_fallback="b")), GOOD, SEALER
    )
    assert again.record == first
    swapped = plan_webhook(
        view(webhook, stored=first, secret=secret(secret="b", secret_fallback="a")), GOOD, SEALER
    )
    assert first.proof is not None
    assert swapped.record is not None
    assert swapped.record.proof is not None
    assert swapped.record.proof.secrets == first.proof.secrets[::-1]


def test_with_another_key_secrets_are_encrypted_anew() -> None:
    webhook, given = hook(**proof("github")), secret(secret="a")
    first = plan_webhook(view(webhook, secret=given), GOOD, SEALER).record
    other = Sealer(bytes(32))
    again = plan_webhook(view(webhook, stored=first, secret=given), GOOD, other).record
    assert again is not None
    assert again.proof is not None
    assert other.unseal(again.proof.secrets[0]) == b"a"


def test_without_a_key_a_proof_waits_and_the_status_says_for_what() -> None:
    """What was in force stays so; webhooks without a proof need no key."""
    webhook, given = hook(**proof("github")), secret(secret="a")
    plan = plan_webhook(view(webhook, secret=given), GOOD, None)
    assert plan.record is None
    assert (ready(plan).status, ready(plan).reason) == ("False", "NoWebhookKey")
    assert "set INNKEEPER_WEBHOOK_KEY" in ready(plan).message
    before = plan_webhook(view(webhook, secret=given), GOOD, SEALER).record
    assert plan_webhook(view(webhook, stored=before, secret=given), GOOD, None).record == before
    assert plan_webhook(view(), GOOD, None).record == RECORD


def test_networks_are_written_in_one_form() -> None:
    plan = plan_webhook(view(hook(allowCIDRs=["192.0.2.9/24", "2001:DB8::1/32"])), GOOD, SEALER)
    assert plan.record is not None
    assert plan.record.cidrs == ("192.0.2.0/24", "2001:db8::/32")


def test_a_transform_may_be_in_a_config_map() -> None:
    webhook = hook(transform={"configMapRef": {"name": "transforms", "key": "a.js"}})
    there = ConfigMapObject(Meta(name="transforms", namespace="prod"), {"a.js": "x"})
    assert read_transform(view(webhook, config_map=there)) == "x"
    assert wanted_config_maps([webhook, hook()]) == {("prod", "transforms")}
    assert secrets_of_webhook(hook(**proof("github"))) == {"acme-webhook-url", "hook"}


# ---- what is wrong


def from_config_map(**more: Any) -> WebhookView:
    """A view of a Webhook whose transform is in a ConfigMap."""
    return view(hook(transform={"configMapRef": {"name": "transforms", "key": "a.js"}}), **more)


EMPTY = ConfigMapObject(Meta(name="transforms", namespace="prod"), {"b.js": "x"})
GITHUB = hook(**proof("github"))

WRONG: list[tuple[WebhookView, Verdict | None, str, str]] = [
    (view(), Verdict("line 2, column 3: no"), "InvalidTransform", "line 2, column 3: no"),
    (from_config_map(), None, "ConfigMapNotFound", "no ConfigMap transforms in namespace prod"),
    (from_config_map(config_map=EMPTY), None, "InvalidConfigMap", "no key a.js: it has b.js"),
    (view(GITHUB), GOOD, "SecretNotFound", "no Secret hook with the label innkeeper.dev/key: webhook"),
    (view(GITHUB, secret=secret(label="event", secret="s")), GOOD, "SecretNotLabelled", "label it"),
    (view(GITHUB, secret=secret(other="s")), GOOD, "InvalidKey", "no key secret: its keys are other"),
    (
        view(GITHUB, secret=secret(secret=" \n")),
        GOOD,
        "InvalidKey",
        "key secret of the Secret hook: the secret is",
    ),
    (
        view(hook(**proof("basic")), secret=secret(secret="a:b", secret_fallback="hidden")),
        GOOD,
        "InvalidKey",
        "key secret-fallback of the Secret hook: the secret of basic must be user:password",
    ),
    (view(hook(verify={})), GOOD, "InvalidSpec", "must name one kind"),
    (
        view(
            hook(verify={**proof("stripe")["verify"], "tolerance": "soon"}), secret=secret(secret="whsec_x")
        ),
        GOOD,
        "InvalidSpec",
        "spec.verify.tolerance",
    ),
    (view(hook(allowCIDRs=["nowhere"])), GOOD, "InvalidSpec", "spec.allowCIDRs"),
    (view(hook(name="x" * 250), url_secret=None), GOOD, "NameTooLong", "too long"),
    (view(url_secret=None), GOOD, "SecretNotFound", "is not touched"),
    (view(url_secret=None, makes_secrets=False), GOOD, "SecretNotFound", "make one with the label"),
    (view(url_secret=secret(label="event", token=TOKEN)), GOOD, "SecretNotLabelled", "label it"),
    (view(url_secret=secret(token="short")), GOOD, "InvalidKey", "32 to 255"),
    (view(digests={key_digest(TOKEN): "eu/other"}), GOOD, "KeyShared", "the Webhook eu/other"),
]


@pytest.mark.parametrize(("seen", "verdict", "reason", "message"), WRONG)
def test_what_is_wrong_is_said_and_the_last_good_record_goes_on(
    seen: WebhookView, verdict: Verdict | None, reason: str, message: str
) -> None:
    first = plan_webhook(seen, verdict, SEALER)
    assert first.record is None
    assert (ready(first).status, ready(first).reason) == ("False", reason)
    assert message in ready(first).message
    assert "goes on" not in ready(first).message
    assert [(each.type, each.reason) for each in first.actions if isinstance(each, Tell)] == [
        ("Warning", reason)
    ]
    before = msgspec.structs.replace(RECORD, transform="old")
    later = plan_webhook(msgspec.structs.replace(seen, stored=before), verdict, SEALER)
    assert later.record == before
    assert "goes on as it was before" in ready(later).message
    assert "hidden" not in str(later.actions)


def test_the_url_of_a_record_without_proof_is_not_shown_while_the_proof_is_not_there() -> None:
    """Whoever may read the status must not come to know a URL that is a key."""
    assert "url" in status(plan_webhook(view(GITHUB), GOOD, SEALER))
    assert "url" not in status(plan_webhook(view(GITHUB, stored=RECORD), GOOD, SEALER))


def test_a_record_that_goes_on_moves_with_its_namespace_and_with_its_url() -> None:
    before = Webhook(name="prod/acme", env="old", digest="0" * 64, transform="old")
    plan = plan_webhook(view(stored=before), Verdict("no"), SEALER)
    assert plan.record == msgspec.structs.replace(before, env="prod", digest=key_digest(TOKEN))


@pytest.mark.parametrize(
    ("verdict", "said", "wake_ms"),
    [
        (Verdict("busy", tried=False, lasting=False), ("Unknown", "NotChecked"), 5_000),
        (Verdict("too slow", lasting=False), ("False", "InvalidTransform"), 60_000),
        (Verdict("no"), ("False", "InvalidTransform"), None),
    ],
)
def test_what_the_machine_may_have_caused_is_tried_again(
    verdict: Verdict, said: tuple[str, str], wake_ms: int | None
) -> None:
    plan = plan_webhook(view(), verdict, SEALER)
    assert (ready(plan).status, ready(plan).reason) == said
    assert plan.wake_ms == (None if wake_ms is None else NOW_MS + wake_ms)
    assert any(isinstance(each, Tell) for each in plan.actions) == (said[0] == "False")


def test_a_secret_that_is_not_seen_is_looked_for_again() -> None:
    assert plan_webhook(view(url_secret=None), GOOD, SEALER).wake_ms == NOW_MS + 60_000
    assert plan_webhook(view(url_secret=None, makes_secrets=False), GOOD, SEALER).wake_ms is None


def test_nothing_is_written_where_nothing_has_changed() -> None:
    for verdict in (GOOD, Verdict("no")):
        said = status(plan_webhook(view(), verdict, SEALER))
        again = view(hook(status=said), now_ms=NOW_MS + 100_000)
        assert plan_webhook(again, verdict, SEALER).actions == ()


def test_news_are_told_when_it_becomes_ready() -> None:
    broken = status(plan_webhook(view(), Verdict("no"), SEALER))
    plan = plan_webhook(view(hook(status=broken)), GOOD, SEALER)
    assert [(each.type, each.reason) for each in plan.actions if isinstance(each, Tell)] == [
        ("Normal", "Ready")
    ]


# ---- the URL


def never() -> str:
    """A token is not to be made."""
    raise AssertionError


def test_a_url_is_made_once() -> None:
    made = plan_url(view(url_secret=None), lambda: TOKEN)
    assert isinstance(made, Create)
    assert made.manifest["metadata"]["labels"] == OURS
    assert [ref["uid"] for ref in made.manifest["metadata"]["ownerReferences"]] == ["u-1"]
    assert TOKEN not in repr(made)
    assert plan_url(view(), never) is None


def test_a_url_keeps_its_token_when_the_gateway_moves_or_the_webhook_is_made_anew() -> None:
    moved = plan_url(view(base_url="https://new.example"), never)
    assert isinstance(moved, Apply)
    orphaned = msgspec.structs.replace(own(), meta=msgspec.structs.replace(own().meta, owner_uids=("u-0",)))
    adopted = plan_url(view(url_secret=orphaned), never)
    assert isinstance(adopted, Apply)
    assert [ref["uid"] for ref in adopted.manifest["metadata"]["ownerReferences"]] == ["u-1"]


def test_a_token_that_is_spoilt_is_made_anew() -> None:
    assert isinstance(plan_url(view(url_secret=own("spoilt")), lambda: TOKEN), Apply)


@pytest.mark.parametrize(
    "seen",
    [
        view(url_secret=secret("acme-webhook-url", token=TOKEN)),
        view(url_secret=secret("acme-webhook-url", label="event")),
        view(url_secret=None, makes_secrets=False),
        view(url_secret=own("spoilt"), makes_secrets=False),
        view(hook(name="x" * 250), url_secret=None),
    ],
)
def test_what_is_not_the_operators_is_left_alone(seen: WebhookView) -> None:
    assert plan_url(seen, lambda: TOKEN) is None


def test_when_a_request_came_last_is_somebody_elses_to_write() -> None:
    """A plan leaves it as it is, and writes nothing because of it."""
    first = status(plan_webhook(view(), GOOD, SEALER))
    assert "lastReceivedTime" not in first
    seen = first | {"lastReceivedTime": "2026-11-18T11:06:40Z"}
    assert plan_webhook(view(hook(status=seen), stored=RECORD), GOOD, SEALER).actions == ()
    wrong = plan_webhook(view(hook(status=seen), stored=RECORD), Verdict("line 1: no"), SEALER)
    assert status(wrong)["lastReceivedTime"] == "2026-11-18T11:06:40Z"


def test_a_persons_token_will_do() -> None:
    seen = view(GITHUB, url_secret=secret("acme-webhook-url", token=TOKEN), secret=secret(secret="s"))
    plan = plan_webhook(seen, GOOD, SEALER)
    assert plan.record is not None
    assert plan.record.digest == key_digest(TOKEN)
    assert status(plan)["urlSecretRef"] == {"name": "acme-webhook-url", "key": "token"}


def test_without_an_address_of_the_gateway_the_path_is_shown() -> None:
    plan = plan_webhook(view(GITHUB, base_url="", secret=secret(secret="s")), GOOD, SEALER)
    assert status(plan)["url"] == f"/w/{TOKEN}"
    assert "was not told" in ready(plan).message


def test_a_view_shows_no_secret() -> None:
    with pytest.raises(UnusableError) as caught:
        read_transform(from_config_map(secret=secret(secret="hidden")))
    assert "hidden" not in str(caught.value)
    assert "hidden" not in repr(view(secret=secret(secret="hidden")))
