"""Both classes of requests, for all environments: which rules a request goes by, and where its redirects may lead.

An app's answer is data of whoever wrote the app. So a redirect to another host or port is a person's URL, whichever
class the app is of: a Service of one's own would otherwise lead to everybody's.
"""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from innkeeper_apps.egress import EgressPolicy, LookupBudget, Resolver, system_lookup
from innkeeper_apps.egress import Lookup as LookupFunction
from innkeeper_engine.model.reach import Reach

MOST_KNOWN = 4_096
"""Environments whose resolver is kept."""

_log = structlog.get_logger(__name__)


class Routes(Protocol):
    """Says which resolver a request goes by."""

    def resolver(self, reach: Reach, *, elsewhere: bool = False) -> Resolver:
        """The one for a URL of this reach; with `elsewhere` for another host or port that it redirects to."""
        ...


class OneRoute:
    """The same rules for all requests."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def resolver(self, reach: Reach, *, elsewhere: bool = False) -> Resolver:  # noqa: ARG002
        """The only one."""
        return self._resolver


def routes_of(egress: EgressPolicy | Routes) -> Routes:
    """One policy for all requests, or the rules as they are given."""
    return OneRoute(Resolver(egress)) if isinstance(egress, EgressPolicy) else egress


class Classes:
    """The resolvers of both classes: one for the platform's URLs, one for the persons of each environment."""

    def __init__(
        self,
        platform: EgressPolicy,
        persons: EgressPolicy,
        *,
        advice: str = "",
        lookup: LookupFunction = system_lookup,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`persons`: what every environment's persons may reach; their own lists come on top, its deny list goes before.

        `advice`: where a person's URL is refused, what to set so that it is not.
        """
        self._persons = persons
        self._advice = advice
        self._lookup = lookup
        self._monotonic_s = monotonic_s
        self._platform = Resolver(platform, lookup, monotonic_s)
        # Environments share this one: each can use up a part of it, and none what the platform's URLs need.
        self._budget = LookupBudget()
        self._known: dict[str, tuple[tuple[str, ...], Resolver]] = {}

    def resolver(self, reach: Reach, *, elsewhere: bool = False) -> Resolver:
        """The one for a URL of this reach; with `elsewhere` for another host or port that it redirects to."""
        if not reach.public_only and not elsewhere:
            return self._platform
        known = self._known.get(reach.env)
        if known is not None and known[0] == reach.allow:
            return known[1]
        resolver = Resolver(
            self._persons.widened(_usable(reach)),
            self._lookup,
            self._monotonic_s,
            advice=self._advice,
            budget=self._budget,
        )
        self._known.pop(reach.env, None)
        if len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[reach.env] = (reach.allow, resolver)
        return resolver


def _usable(reach: Reach) -> Iterable[str]:
    """The entries of an environment's list that can be read: a later version may have written others."""
    for entry in reach.allow:
        try:
            EgressPolicy.users([entry])
        except ValueError as error:
            _log.error(
                "an entry of an environment's egress list grants nothing", env=reach.env, why=str(error)
            )
        else:
            yield entry
