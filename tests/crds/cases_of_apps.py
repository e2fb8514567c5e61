"""What the rules of InngestApp are tried with."""

from typing import Any, Final

from tests.crds.cases import Case, key, ranges
from tests.crds.schemas import Json


def _service(port: Any) -> Json:
    return {"endpoint": {"service": {"name": "shop", "port": port}}}


def _url(url: str) -> Json:
    return {"endpoint": {"url": url}}


APPS: Final = (
    Case(
        "endpoint-service-and-url",
        "InngestApp",
        "spec.endpoint",
        "exactly one of service and url must be set",
        _service(3000),
        {"endpoint": {"service": {"name": "shop", "port": 3000}, "url": "https://shop.example.com"}},
    ),
    Case(
        "endpoint-empty",
        "InngestApp",
        "spec.endpoint",
        "exactly one of service and url must be set",
        _url("https://shop.example.com"),
        {"endpoint": {}},
    ),
    *(
        Case(
            f"port-{name}",
            "InngestApp",
            "spec.endpoint.service.port",
            "port must be 1 to 65535 or a port name",
            _service(accepted),
            _service(refused),
        )
        for name, accepted, refused in (("zero", 1, 0), ("high", 65535, 65536), ("name", "http-2", "HTTP"))
    ),
    *(
        Case(
            f"url-{name}",
            "InngestApp",
            "spec.endpoint.url",
            "url must be an absolute http or https URL",
            _url(accepted),
            _url(refused),
        )
        for name, accepted, refused in (
            ("scheme", "https://shop.example.com:8443/api/inngest", "ftp://shop.example.com"),
            ("relative", "http://192.0.2.7/x", "/api/inngest"),
            ("no-scheme", "http://[2001:db8::1]:3000/", "shop.example.com/api/inngest"),
            ("no-host", "http://localhost", "http:///api/inngest"),
            ("no-port", "http://localhost:1", "http://localhost:http/api/inngest"),
        )
    ),
    *(
        Case(
            f"url-credentials-{name}",
            "InngestApp",
            "spec.endpoint.url",
            "url must not carry credentials",
            _url("https://shop.example.com/api"),
            _url(refused),
        )
        for name, refused in (
            ("both", "https://user:word@shop.example.com"),
            ("user", "https://user@shop.example.com"),
        )
    ),
    *(
        Case(
            f"url-{name}",
            "InngestApp",
            "spec.endpoint.url",
            "url must have no query and no fragment",
            _url("https://shop.example.com/api"),
            _url(refused),
        )
        for name, refused in (
            ("query", "https://shop.example.com/?a=b"),
            ("fragment", "https://shop.example.com/#a"),
        )
    ),
    Case(
        "appId-changes",
        "InngestApp",
        "spec.appId",
        "appId is immutable: another app id is another InngestApp",
        {"appId": "shop", "paused": True},
        {"appId": "store"},
        old={"appId": "shop"},
    ),
    Case(
        "appId-goes",
        "InngestApp",
        "spec",
        "appId cannot be removed",
        {"appId": "shop"},
        {},
        old={"appId": "shop"},
    ),
    Case(
        "branch-changes",
        "InngestApp",
        "spec.branch",
        "branch is immutable",
        {"branch": "feature/x", "paused": False},
        {"branch": "feature/y"},
        old={"branch": "feature/x"},
    ),
    Case(
        "branch-goes", "InngestApp", "spec", "branch is immutable", {"branch": "x"}, {}, old={"branch": "x"}
    ),
    Case(
        "branch-comes",
        "InngestApp",
        "spec",
        "branch is immutable",
        {"appId": "shop"},
        {"branch": "x"},
        old={},
    ),
    Case(
        "fallback-alone",
        "InngestApp",
        "spec",
        "signingKeyFallback needs signingKey",
        {"signingKey": key("shop")},
        {"signingKeyFallback": key("shop")},
    ),
    Case(
        "fallback-is-the-key",
        "InngestApp",
        "spec",
        "signingKeyFallback must be another key than signingKey",
        {"signingKey": key("shop"), "signingKeyFallback": key("shop", "signing-key-fallback")},
        {"signingKey": key("shop"), "signingKeyFallback": key("shop")},
    ),
    Case(
        "fallback-of-another-secret",
        "InngestApp",
        "spec",
        "signingKeyFallback must be another key than signingKey",
        {"signingKey": key("shop"), "signingKeyFallback": key("shop-old")},
        {"signingKey": key("old", "k"), "signingKeyFallback": key("old", "k")},
    ),
    *ranges("InngestApp", "spec.sync.interval", "10s", "24h", lambda text: {"sync": {"interval": text}}),
    *ranges("InngestApp", "spec.drainTimeout", "0s", "7d", lambda text: {"drainTimeout": text}),
)
