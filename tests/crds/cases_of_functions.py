"""What the rules of Function are tried with."""

from typing import Final

from tests.crds.cases import Case, ranges

FUNCTIONS: Final = (
    Case(
        "batch-excludes-debounce",
        "Function",
        "spec",
        "batchEvents excludes cancelOn, debounce, priority and singleton",
        {"batchEvents": {"maxSize": 10, "timeout": "5s"}, "throttle": {"limit": 1, "period": "1m"}},
        {"batchEvents": {"maxSize": 10, "timeout": "5s"}, "debounce": {"period": "30s"}},
    ),
    Case(
        "batch-excludes-cancelOn",
        "Function",
        "spec",
        "batchEvents excludes cancelOn, debounce, priority and singleton",
        {"cancelOn": [{"event": "shop/order.cancelled"}], "priority": {"run": "120"}},
        {"batchEvents": {"maxSize": 10, "timeout": "5s"}, "cancelOn": [{"event": "shop/order.cancelled"}]},
    ),
    Case(
        "batch-excludes-priority",
        "Function",
        "spec",
        "batchEvents excludes cancelOn, debounce, priority and singleton",
        {"priority": {"run": "120"}, "debounce": {"period": "30s"}},
        {"batchEvents": {"maxSize": 10, "timeout": "5s"}, "priority": {"run": "120"}},
    ),
    Case(
        "batch-excludes-singleton",
        "Function",
        "spec",
        "batchEvents excludes cancelOn, debounce, priority and singleton",
        {"singleton": {"mode": "skip"}},
        {"batchEvents": {"maxSize": 10, "timeout": "5s"}, "singleton": {"mode": "skip"}},
    ),
    Case(
        "idempotency-excludes-rateLimit",
        "Function",
        "spec",
        "idempotency is a rate limit of 1 in 24h: set one of idempotency and rateLimit",
        {"idempotency": "event.data.cartId"},
        {"idempotency": "event.data.cartId", "rateLimit": {"limit": 1, "period": "4h"}},
    ),
    *(
        Case(
            f"{name}-set-and-unset",
            "Function",
            "spec",
            "a field cannot be both set and in unset",
            {name: value, "unset": [other]},
            {name: value, "unset": [other, name]},
        )
        for name, value, other in (
            ("concurrency", [{"limit": 1}], "throttle"),
            ("throttle", {"limit": 1, "period": "1m"}, "debounce"),
            ("rateLimit", {"limit": 1, "period": "1m"}, "idempotency"),
            ("debounce", {"period": "1m"}, "singleton"),
            ("batchEvents", {"maxSize": 2, "timeout": "1s"}, "cancelOn"),
            ("priority", {"run": "0"}, "batchEvents"),
            ("singleton", {"mode": "skip"}, "timeouts"),
            ("idempotency", "event.data.id", "rateLimit"),
            ("cancelOn", [{"event": "shop/a"}], "priority"),
            ("timeouts", {"start": "1m"}, "concurrency"),
        )
    ),
    Case(
        "appRef-changes",
        "Function",
        "spec.appRef",
        "appRef is immutable",
        {"appRef": {"name": "shop"}, "paused": True},
        {"appRef": {"name": "store"}},
        old={"appRef": {"name": "shop"}},
    ),
    Case(
        "id-changes",
        "Function",
        "spec.id",
        "id is immutable",
        {"id": "stripe/charge.updated", "retries": 0},
        {"id": "stripe/charge-updated"},
        old={"id": "stripe/charge.updated"},
    ),
    *(
        Case(f"{name}-twice", "Function", "spec.triggers", "a trigger is listed twice", accepted, refused)
        for name, accepted, refused in (
            (
                "no-trigger-event",
                {"triggers": []},
                {"triggers": [{"event": "a"}, {"cron": "0 * * * *"}, {"event": "a"}]},
            ),
            (
                "event-with-if",
                {
                    "triggers": [
                        {"event": "a"},
                        {"event": "a", "if": "event.data.b"},
                        {"event": "a", "if": "event.data.c"},
                    ]
                },
                {"triggers": [{"event": "a", "if": "event.data.b"}, {"event": "a", "if": "event.data.b"}]},
            ),
            (
                "cron",
                {"triggers": [{"cron": "0 * * * *"}, {"cron": "TZ=Europe/Paris 0 * * * *"}]},
                {"triggers": [{"cron": "0 * * * *"}, {"cron": "0 * * * *", "jitter": "1m"}]},
            ),
        )
    ),
    Case(
        "trigger-event-and-cron",
        "Function",
        "spec.triggers[]",
        "exactly one of event and cron must be set",
        {"triggers": [{"event": "shop/order.placed"}, {"cron": "0 12 * * 5"}]},
        {"triggers": [{"event": "shop/order.placed", "cron": "0 12 * * 5"}]},
        at="spec.triggers[0]",
    ),
    Case(
        "trigger-empty",
        "Function",
        "spec.triggers[]",
        "exactly one of event and cron must be set",
        {"triggers": [{"event": "*"}]},
        {"triggers": [{"event": "*"}, {}]},
        at="spec.triggers[1]",
    ),
    Case(
        "if-on-cron",
        "Function",
        "spec.triggers[]",
        "if belongs to an event trigger",
        {"triggers": [{"event": "shop/order.placed", "if": "event.data.total > 100"}]},
        {"triggers": [{"cron": "0 12 * * 5", "if": "event.data.total > 100"}]},
        at="spec.triggers[0]",
    ),
    Case(
        "jitter-on-event",
        "Function",
        "spec.triggers[]",
        "jitter belongs to a cron trigger",
        {"triggers": [{"cron": "0 12 * * 5", "jitter": "30s"}]},
        {"triggers": [{"event": "shop/order.placed", "jitter": "30s"}]},
        at="spec.triggers[0]",
    ),
    Case(
        "catchUp-on-event",
        "Function",
        "spec.triggers[]",
        "catchUp belongs to a cron trigger",
        {"triggers": [{"cron": "0 12 * * 5", "catchUp": "None"}]},
        {"triggers": [{"event": "shop/order.placed", "catchUp": "All"}]},
        at="spec.triggers[0]",
    ),
    *(
        Case(
            f"cron-with-{name}",
            "Function",
            "spec.triggers[]",
            "cron must have 5 fields, or 6 with seconds, after an optional TZ=<IANA zone>",
            {"triggers": [{"cron": accepted}]},
            {"triggers": [{"cron": refused}]},
            at="spec.triggers[0]",
        )
        for name, accepted, refused in (
            ("few-fields", "*/5 * * * *", "*/5 * * *"),
            ("many-fields", "30 */5 * * * *", "30 */5 * * * * *"),
            ("zone", "TZ=America/Argentina/Buenos_Aires 0 12 * * MON-FRI", "TZ=Europe/Paris  12 *"),
            ("word", "0 0 1 1 *", "@yearly"),
        )
    ),
    *(
        Case(
            f"event-space-{name}",
            "Function",
            "spec.triggers[]",
            "event must not begin or end with a space",
            {"triggers": [{"event": "shop/order placed"}]},
            {"triggers": [{"event": event}]},
            at="spec.triggers[0]",
        )
        for name, event in (("before", " shop/order.placed"), ("after", "shop/order.placed "))
    ),
    *ranges(
        "Function",
        "spec.triggers[].jitter",
        "1s",
        "5m",
        lambda text: {"triggers": [{"cron": "0 12 * * 5", "jitter": text}]},
    ),
    *(
        Case(
            f"concurrency-twice{name}",
            "Function",
            "spec.concurrency",
            "a concurrency limit is listed twice",
            {"concurrency": [{"limit": 1, **limit}, {"limit": 2, **limit}]},
            {"concurrency": [{"limit": 1, **limit}, {"limit": 1, **limit}]},
        )
        for name, limit in (("", {}), ("-with-key", {"key": "event.data.id", "scope": "env"}))
    ),
    *(
        Case(
            f"concurrency-{scope}-without-key",
            "Function",
            "spec.concurrency[]",
            "scope env and account need a key",
            {"concurrency": [{"limit": 1, "scope": "fn"}, {"limit": 5, "scope": scope, "key": '"openai"'}]},
            {"concurrency": [{"limit": 1, "scope": scope}]},
            at="spec.concurrency[0]",
        )
        for scope in ("env", "account")
    ),
    *ranges(
        "Function",
        "spec.throttle.period",
        "1s",
        "7d",
        lambda text: {"throttle": {"limit": 20, "period": text}},
    ),
    *ranges(
        "Function",
        "spec.rateLimit.period",
        "1s",
        "24h",
        lambda text: {"rateLimit": {"limit": 1, "period": text}},
    ),
    *ranges("Function", "spec.debounce.period", "1s", "7d", lambda text: {"debounce": {"period": text}}),
    Case(
        "debounce-timeout-longest",
        "Function",
        "spec.debounce.timeout",
        "timeout must be from 1s to 7d",
        {"debounce": {"period": "1s", "timeout": "168h"}},
        {"debounce": {"period": "1s", "timeout": "8d"}},
    ),
    Case(
        "debounce-timeout-shorter",
        "Function",
        "spec.debounce",
        "timeout must not be shorter than period",
        {"debounce": {"period": "60s", "timeout": "1m"}},
        {"debounce": {"period": "61s", "timeout": "1m"}},
    ),
    *ranges(
        "Function",
        "spec.batchEvents.timeout",
        "1s",
        "10m",
        lambda text: {"batchEvents": {"maxSize": 100, "timeout": text}},
    ),
    Case(
        "cancelOn-if-and-match",
        "Function",
        "spec.cancelOn[]",
        "if and match exclude each other",
        {
            "cancelOn": [
                {"event": "a", "if": "async.data.id == event.data.id"},
                {"event": "b", "match": "data.id"},
            ]
        },
        {"cancelOn": [{"event": "a", "if": "async.data.id == event.data.id", "match": "data.id"}]},
        at="spec.cancelOn[0]",
    ),
    *ranges(
        "Function",
        "spec.cancelOn[].timeout",
        "1s",
        "366d",
        lambda text: {"cancelOn": [{"event": "shop/order.cancelled", "timeout": text}]},
    ),
    Case(
        "timeouts-empty",
        "Function",
        "spec.timeouts",
        "start or finish must be set",
        {"timeouts": {"finish": "1h"}},
        {"timeouts": {}},
    ),
    *ranges("Function", "spec.timeouts.start", "1s", "366d", lambda text: {"timeouts": {"start": text}}),
    *ranges("Function", "spec.timeouts.finish", "1s", "366d", lambda text: {"timeouts": {"finish": text}}),
)
