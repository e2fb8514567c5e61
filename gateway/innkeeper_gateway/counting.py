"""What the gateway counts of requests, under labels that no sender can make more of."""

from typing import Any, Final

from innkeeper_engine.exposition import shown
from innkeeper_engine.metrics import OTHER, Metrics
from innkeeper_engine.model.environments import Environment, shown_name

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

GONE: Final = 499
"""The status of a request whose sender has gone before there was an answer, as proxies write it."""


def route_of(scope: Any) -> str:
    """The template of the route that has answered; one for all paths that nothing is served at."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else OTHER


def count_request(metrics: Metrics, route: str, method: str, status: int, seconds: float) -> None:
    """Count one request that is over. `status` 0: its sender has gone."""
    metrics.http_requests.add(route, method if method in _METHODS else OTHER, str(status or GONE))
    metrics.http_seconds.add(seconds, route)


def env_label(environment: Environment, env: str) -> str:
    """What an environment that a key opens is called in a label: senders may name branches that nobody has declared."""
    if env == environment.name or shown_name(env) in environment.branches:
        return shown(env)
    return f"{environment.name}/{OTHER}"
