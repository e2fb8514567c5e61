"""What the rules of Webhook are tried with."""

from typing import Final

from tests.crds.cases import Case, key, ranges

_EXACTLY_ONE: Final = (
    "exactly one of github, stripe, slack, standardWebhooks, hmac, basic and bearer must be set"
)

WEBHOOKS: Final = (
    Case(
        "transform-both",
        "Webhook",
        "spec.transform",
        "exactly one of script and configMapRef must be set",
        {"transform": {"configMapRef": {"name": "transforms", "key": "github.js"}}},
        {"transform": {"script": "…", "configMapRef": {"name": "transforms", "key": "github.js"}}},
    ),
    Case(
        "transform-empty",
        "Webhook",
        "spec.transform",
        "exactly one of script and configMapRef must be set",
        {"transform": {"script": "function transform(evt) { return evt }"}},
        {"transform": {}},
    ),
    *(
        Case(
            f"verify-{kind}-and-another",
            "Webhook",
            "spec.verify",
            _EXACTLY_ONE,
            {"verify": {kind: {**key("hook"), **more}}},
            {"verify": {kind: {**key("hook"), **more}, other: {**key("hook"), **others}}},
        )
        for kind, more, other, others in (
            ("github", {}, "bearer", {}),
            ("stripe", {}, "github", {}),
            ("slack", {}, "stripe", {}),
            ("standardWebhooks", {}, "slack", {}),
            ("hmac", {"header": "X-Acme-Signature"}, "standardWebhooks", {}),
            ("basic", {}, "hmac", {"header": "X-Acme-Signature", "algorithm": "sha1", "encoding": "base64"}),
            ("bearer", {}, "basic", {}),
        )
    ),
    Case(
        "verify-nothing",
        "Webhook",
        "spec.verify",
        _EXACTLY_ONE,
        {"verify": {"stripe": key("hook"), "tolerance": "5m"}},
        {"verify": {"tolerance": "5m"}},
    ),
    *ranges(
        "Webhook",
        "spec.verify.tolerance",
        "1s",
        "1h",
        lambda text: {"verify": {"slack": key("slack-app"), "tolerance": text}},
    ),
    *(
        Case(
            f"cidr-{name}",
            "Webhook",
            "spec.allowCIDRs[]",
            "must be a CIDR, such as 140.82.112.0/20",
            {"allowCIDRs": [accepted]},
            {"allowCIDRs": [accepted, refused]},
            at="spec.allowCIDRs[1]",
        )
        for name, accepted, refused in (
            ("no-length", "140.82.112.0/20", "140.82.112.0"),
            ("no-address", "2a0a:a440::/29", "github.com/20"),
            ("long", "192.0.2.1/32", "192.0.2.1/33"),
        )
    ),
)
