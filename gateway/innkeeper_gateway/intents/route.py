"""`/intent/create-webhook`: a provider's site sends somebody here, who approves, and goes back with the webhook's URL.

Whoever approves shows a token of the cluster: it must be of somebody who may create Webhooks in the namespace. The
gateway itself may create nothing; it leaves what was approved, encrypted, for the operator. The token stands in the
form and in nothing that browsers send by themselves, so that no other site can approve in somebody's name.
"""

import secrets
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec
import structlog
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from innkeeper_engine.model.environments import Policy, key_digest
from innkeeper_engine.model.webhooks import WebhookIntent
from innkeeper_engine.store.intents import IntentBox, IntentsFullError
from innkeeper_gateway.access.callers import NAMESPACE_HEADER, Caller, audit
from innkeeper_gateway.access.permissions import MAKE_WEBHOOKS
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.intents.asking import (
    Asked,
    AskedWronglyError,
    is_allowed,
    object_name,
    read_asked,
    redirect_with,
)
from innkeeper_gateway.intents.page import approve_page, told_page
from innkeeper_gateway.requests import CoreOf, body_of, known_caller
from innkeeper_gateway.webhooks.defaults import default_transform

PATH: Final = "/intent/create-webhook"
FORM_BYTES: Final = 64 * 1024
FORM: Final = "application/x-www-form-urlencoded"

router = APIRouter(include_in_schema=False)

_log = structlog.get_logger(__name__)


class _Form(NamedTuple):
    asked: Asked
    namespace: str
    token: str


@router.get(PATH)
async def show_intent(request: Request, core: CoreOf) -> Response:
    """The page: `?name=` is what the provider calls itself, `redirect_uri=` where to go with the URL."""
    nonce = secrets.token_urlsafe(16)
    if _is_off(core):
        return _off(nonce)
    try:
        asked = read_asked(request.query_params)
        _check_served(core)
    except AskedWronglyError as error:
        return told_page(None, nonce, "This link does not work", str(error), status=400)
    except ApiError as error:
        return told_page(None, nonce, "No webhook can be made here", error.message, status=error.status)
    return approve_page(asked, nonce)


@router.post(PATH)
async def approve_intent(request: Request, core: CoreOf) -> Response:
    """The form has been sent: a 303 to the provider with `?url=`, or the page again, with what is wrong."""
    nonce = secrets.token_urlsafe(16)
    if _is_off(core):
        return _off(nonce)
    try:
        form = await _form(request)
    except AskedWronglyError as error:
        return told_page(None, nonce, "This form does not work", str(error), status=400)
    try:
        _check_served(core)
        caller = await _caller(core, request, form)
        url = await _made(core, form, caller, _base_url(core, request))
    except ApiError as error:
        return approve_page(
            form.asked, nonce, namespace=form.namespace, error=error.message, status=error.status
        )
    if form.asked.redirect:
        return RedirectResponse(
            redirect_with(form.asked.redirect, url),
            status_code=303,
            headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
        )
    return told_page(form.asked, nonce, "The webhook is there", "Paste this into the provider:", code=url)


def _is_off(core: Core) -> bool:
    """Whether whoever runs this gateway wants no such page; without an operator there is something else to say."""
    return core.settings.managed and not core.settings.webhook_intents


def _off(nonce: str) -> Response:
    message = (
        "Webhooks are not made from links here. Whoever runs this gateway can allow that with "
        "INNKEEPER_WEBHOOK_INTENTS=true (webhookIntents.enabled of the chart); until then, apply a Webhook."
    )
    return told_page(None, nonce, "This page is switched off", message, status=404)


def _check_served(core: Core) -> None:
    """Raises ApiError where nobody would make the webhook."""
    if not core.settings.managed:
        raise ApiError(
            409,
            "webhooks are objects of Kubernetes, and this gateway works without an operator that makes them: "
            "`innkeeper dev --manifests` takes files with Webhooks",
        )
    if core.settings.webhook_key is None:
        raise ApiError(503, "this gateway has no key of webhooks: INNKEEPER_WEBHOOK_KEY is not set")


async def _form(request: Request) -> _Form:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise AskedWronglyError(f"the form must be sent as {FORM}")
    body = await body_of(request, FORM_BYTES)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError:
        raise AskedWronglyError("the form cannot be read") from None
    fields = dict(pairs)
    return _Form(read_asked(fields), fields.get("namespace", "").strip(), fields.get("token", "").strip())


async def _caller(core: Core, request: Request, form: _Form) -> Caller:
    """Who approves. Raises ApiError where they may not."""
    try:
        headers = [
            (b"authorization", b"Bearer " + form.token.encode("ascii")),
            (NAMESPACE_HEADER.encode(), form.namespace.encode("ascii")),
        ]
    except UnicodeEncodeError:
        raise ApiError(400, "namespace and token are written in ASCII") from None
    caller = await known_caller(request, core, headers, b"")
    if caller.kind not in ("person", "admin"):
        raise ApiError(
            403,
            "a signing key is an app's: show a token of somebody who may create Webhooks, or the admin token",
        )
    await core.access.require(caller, MAKE_WEBHOOKS)
    return caller


class _NotReadyError(ApiError):
    """The webhook was made, but cannot be used yet."""


async def _made(core: Core, form: _Form, caller: Caller, base_url: str) -> str:
    """Have the webhook made; returns its URL.

    Raises:
        ApiError: the site may not have it, or the operator does not make it, or not in time.
    """
    environment = core.environments.by_name(caller.place.env)
    policy = environment.policy if environment is not None else Policy()
    allowed = (*core.settings.webhook_redirects, *policy.redirects)
    if form.asked.redirect and not is_allowed(form.asked.host, allowed):
        raise ApiError(
            403,
            f"the URL may not be given to {form.asked.host}: who runs the cluster can allow it with the annotation "
            f"innkeeper.dev/webhook-redirects of the environment's namespace, or with INNKEEPER_WEBHOOK_REDIRECTS",
        )
    intent_id = core.ids.ulid(core.clock.now_ms())
    intent = WebhookIntent(
        id=intent_id,
        namespace=form.namespace,
        name=object_name(form.asked.provider, intent_id),
        transform=default_transform(form.asked.provider),
        token=secrets.token_urlsafe(48),
        approved_by=caller.name,
    )
    assert core.webhook_sealer is not None, "checked when the form came in"
    box = IntentBox(core.store)
    try:
        async with core.in_time():
            await box.leave_intent(intent_id, core.webhook_sealer.seal(msgspec.json.encode(intent)))
    except IntentsFullError as error:
        raise ApiError(503, str(error), headers={"Retry-After": "10"}) from None
    made = {"webhook": f"{intent.namespace}/{intent.name}", "host": form.asked.host}
    try:
        await _until_made(core, box, intent)
    except _NotReadyError:
        audit(caller, "make webhook", **made)
        raise
    audit(caller, "make webhook", **made)
    return f"{base_url}/w/{intent.token}"


async def _until_made(core: Core, box: IntentBox, intent: WebhookIntent) -> None:
    """Return when requests to the webhook are taken.

    Raises:
        ApiError: the operator has refused it, or takes too long; then it is not made later either.
    """
    refused = ""

    async def settled() -> bool:
        nonlocal refused
        answer = await box.intent_answer(intent.id)
        if answer is not None and not answer.made:
            refused = answer.why
            return True
        return answer is not None and await core.webhooks.by_digest(key_digest(intent.token)) is not None

    if not await core.notices.wait("", settled, core.settings.intent_wait_s):
        async with core.in_time():
            withdrawn = await box.withdraw_intent(intent.id)
        name = f"{intent.namespace}/{intent.name}"
        _log.warning("an approved webhook was not made in time", webhook=name, withdrawn=withdrawn)
        if not withdrawn:
            raise _NotReadyError(503, f"the Webhook {name} was made, but is not ready: its status says why")
        raise ApiError(503, "the operator has not answered: is it running? Nothing was made; try again")
    if refused:
        raise ApiError(409, f"the operator did not make it: {refused}")


def _base_url(core: Core, request: Request) -> str:
    """Where providers reach the gateway: as it was told, else as the browser does."""
    return (core.settings.webhooks_url or str(request.base_url)).rstrip("/")
