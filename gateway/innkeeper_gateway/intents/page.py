"""The page on which somebody approves a webhook. No script, nothing from elsewhere, in nobody's frame. Pure."""

import html
from importlib import resources
from string import Template
from typing import Final

from starlette.responses import HTMLResponse

from innkeeper_gateway.intents.asking import Asked

_PAGE: Final = Template(resources.files(__package__).joinpath("page.html").read_text("utf-8"))

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def approve_page(
    asked: Asked, nonce: str, *, namespace: str = "", error: str = "", status: int = 200
) -> HTMLResponse:
    """The form. `error` says why the last attempt was refused; `nonce` is random, for the page's own style."""
    goes = (
        f"Its URL is then given to <strong>{html.escape(asked.host)}</strong>."
        if asked.redirect
        else "Its URL is then shown here."
    )
    fields = {
        "name": asked.provider,
        "redirect_uri": asked.redirect,
    }
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{html.escape(value)}">' for name, value in fields.items()
    )
    body = (
        f"<h1>{html.escape(asked.provider)} asks for a webhook</h1>"
        f"<p>Whatever is sent to it becomes an event in the environment of the namespace that you name. {goes}</p>"
        f"{_notice(error)}"
        f'<form method="post" autocomplete="off">{hidden}'
        f'<label>Namespace <input name="namespace" required maxlength="63" value="{html.escape(namespace)}"></label>'
        '<label>Token <input name="token" type="password" required maxlength="16384" autocomplete="off"></label>'
        "<p>A token of the Kubernetes cluster whose owner may create Webhooks there, such as from "
        "<code>kubectl create token</code>, or the admin token. It is not kept.</p>"
        '<button type="submit">Make the webhook</button></form>'
    )
    return _response(asked, nonce, body, status)


def told_page(
    asked: Asked | None, nonce: str, title: str, text: str, *, code: str = "", status: int = 200
) -> HTMLResponse:
    """A page that says something; `code` is what to copy from it."""
    shown = f"<pre>{html.escape(code)}</pre>" if code else ""
    body = f"<h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>{shown}"
    return _response(asked, nonce, body, status)


def _notice(error: str) -> str:
    return f'<p class="error" role="alert">{html.escape(error)}</p>' if error else ""


def _response(asked: Asked | None, nonce: str, body: str, status: int) -> HTMLResponse:
    # Browsers hold the redirect that answers a form against form-action too.
    back = f" {asked.origin}" if asked is not None and asked.redirect else ""
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'{back}; frame-ancestors 'none'; "
        "base-uri 'none'"
    )
    return HTMLResponse(
        _PAGE.substitute(nonce=nonce, body=body),
        status_code=status,
        headers={"Content-Security-Policy": policy, **_HEADERS},
    )
