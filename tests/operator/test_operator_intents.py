"""Webhooks that were approved on the gateway's page: the operator makes the objects."""

import base64
from typing import Any, cast

import msgspec
import pytest

from innkeeper_apps.sealing import Sealer
from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import IntentAnswer, WebhookIntent
from innkeeper_engine.store.intents import ANSWERED, IntentBox
from innkeeper_engine.store.notices import Notices
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_operator.intents import Intents
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.world import World
from tests.operator.house import PATIENCE_S, WEBHOOK_SEALING, House, RunningOperator, says

SCRIPT = "function transform(evt) { return {name: 'acme/' + evt.type, data: evt} }"
TOKEN = "t" * 64


def intent(namespace: str, **fields: str) -> WebhookIntent:
    """An intent as the gateway leaves it."""
    about = {"id": "01JB8AAAAAAAAAAAAAAAAAAAAA", "name": "acme-aaaaaaaa", "token": TOKEN} | fields
    return WebhookIntent(namespace=namespace, transform=SCRIPT, approved_by="ann@example.com", **about)


def leave(house: House, made: WebhookIntent, key: bytes = WEBHOOK_SEALING) -> IntentAnswer:
    """Leave an intent, and wait for the operator's answer."""
    sealed = Sealer(key).seal(msgspec.json.encode(made))

    async def left(store: Store) -> IntentAnswer:
        box, notices = IntentBox(store), Notices(store)
        notices.tell(ANSWERED)
        await store.command("DEL", store.key(f"intent:{made.id}"))
        await box.leave_intent(made.id, sealed)

        async def answered() -> bool:
            return await box.intent_answer(made.id) is not None

        assert await notices.wait("", answered, PATIENCE_S)
        await notices.close()
        answer = await box.intent_answer(made.id)
        assert answer is not None
        return answer

    return cast(IntentAnswer, house.store_run(left))


@pytest.fixture
def namespace(house: House, running: RunningOperator) -> str:
    """A namespace that the module's operator sees."""
    return house.namespace(keys=False)


def test_an_approved_webhook_is_made_with_the_url_that_was_promised(house: House, namespace: str) -> None:
    made = intent(namespace)
    assert leave(house, made) == IntentAnswer(made=True)
    webhook = house.until("Webhook", namespace, made.name, lambda each: says(each, "Ready", "True"))
    assert webhook["spec"] == {"transform": {"script": SCRIPT}}
    assert webhook["metadata"]["annotations"]["innkeeper.dev/approved-by"] == "ann@example.com"
    secret = house.cluster.get("secrets", namespace, f"{made.name}-webhook-url")
    assert secret is not None
    assert base64.b64decode(secret["data"]["url"]).decode() == f"http://innkeeper.example/w/{TOKEN}"
    (owner,) = secret["metadata"]["ownerReferences"]
    assert owner["uid"] == webhook["metadata"]["uid"], "it goes with its Webhook"
    (record,) = (
        each
        for each in house.store_run(lambda store: WebhookStore(store).read()).webhooks
        if each.env == namespace
    )
    assert record.digest == key_digest(TOKEN)
    assert house.store_run(lambda store: IntentBox(store).intents_left()) == {}


def test_what_was_left_twice_is_made_once(house: House, namespace: str) -> None:
    """As after an operator that ended between the Webhook and its answer."""
    made = intent(namespace, id="01JB8BBBBBBBBBBBBBBBBBBBBB", token="u" * 64)
    leave(house, made)
    webhook = house.until("Webhook", namespace, made.name, lambda each: says(each, "Ready", "True"))
    assert leave(house, made) == IntentAnswer(made=True)
    (again,) = house.cluster.list("webhooks.innkeeper.dev", namespace)
    assert again["metadata"]["uid"] == webhook["metadata"]["uid"]
    secret = house.cluster.get("secrets", namespace, f"{made.name}-webhook-url")
    assert secret is not None
    assert base64.b64decode(secret["data"]["token"]).decode() == "u" * 64


@pytest.mark.parametrize(
    ("fields", "key", "why"),
    [
        ({"namespace": "nowhere"}, WEBHOOK_SEALING, "nowhere"),
        ({"name": "Not A Name"}, WEBHOOK_SEALING, "Not A Name"),
        ({}, bytes(32), "INNKEEPER_WEBHOOK_KEY"),
    ],
)
def test_what_cannot_be_made_is_answered_and_holds_up_nothing(
    house: House, namespace: str, fields: dict[str, str], key: bytes, why: str
) -> None:
    bad = {"id": f"01JB8CCCCCCCCCCCCCCCCCCC{len(why):02}"} | fields
    answer = leave(house, intent(bad.pop("namespace", namespace), **bad), key)
    assert not answer.made
    assert why in answer.why
    assert TOKEN not in answer.why
    good = intent(namespace, id=f"01JB8DDDDDDDDDDDDDDDDDDD{len(why):02}")
    assert leave(house, good) == IntentAnswer(made=True)


class _NoCluster:
    async def do(self, action: Any) -> None:
        raise AssertionError(f"nothing is to be made: {action!r}")


@pytest.mark.parametrize(
    ("settings", "sealer", "why"),
    [
        (OperatorSettings(), None, "no key of webhooks"),
        (OperatorSettings(secret_mode="Named"), Sealer(WEBHOOK_SEALING), "makes no Secrets"),
        (OperatorSettings(namespaces=("other",)), Sealer(WEBHOOK_SEALING), "does not look after"),
    ],
)
async def test_an_operator_that_may_not_says_so(
    store: Store, settings: OperatorSettings, sealer: Sealer | None, why: str
) -> None:
    box = IntentBox(store)
    made = intent("prod")
    await box.leave_intent(made.id, Sealer(WEBHOOK_SEALING).seal(msgspec.json.encode(made)))
    await Intents(store, World(), _NoCluster(), settings, sealer, lambda _: None).look()
    answer = await box.intent_answer(made.id)
    assert answer is not None
    assert not answer.made
    assert why in answer.why
