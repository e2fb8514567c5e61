"""The transform of a webhook that nobody has written one for. Pure."""

import re
from typing import Final

_NOT_SLUG: Final = re.compile(r"[^a-z0-9]+")
_LINE_BREAKS: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]+")
_LONGEST_NAME: Final = 100


def provider_slug(provider: str) -> str:
    """A provider's name as events' names begin with it: `Acme App` becomes `acme-app`; `webhook` if nothing is left."""
    return _NOT_SLUG.sub("-", provider[:_LONGEST_NAME].lower()).strip("-") or "webhook"


def default_transform(provider: str) -> str:
    """JavaScript that names an event after what the provider's body says it is.

    `<provider>/` and the body's `type`, `name` or `event_type`, else `webhook.received`; the data are the body's own
    `data`, else the body.

    Args:
        provider: as people write it; anything may stand in it, also what somebody typed into a URL.
    """
    shown = _LINE_BREAKS.sub(" ", provider[:_LONGEST_NAME]).strip() or "webhook"
    return f"""// This was created by the {shown} integration.
// Edit this to customize the event name and payload.
function transform(evt, headers = {{}}, queryParams = {{}}, raw = "") {{
  return {{
    name: `{provider_slug(provider)}/${{evt.type || evt.name || evt.event_type || "webhook.received"}}`,
    data: evt.data || evt,
  }};
}}
"""
