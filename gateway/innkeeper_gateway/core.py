"""What every route works with."""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from innkeeper_apps.sandbox.pool import Sandbox
from innkeeper_apps.sealing import Sealer
from innkeeper_apps.sync import Syncer
from innkeeper_apps.wire.keys import bearer_digest
from innkeeper_engine.compiled import Registry
from innkeeper_engine.environments import Environments
from innkeeper_engine.model.clock import Clock, Ids
from innkeeper_engine.model.effects import Ids2
from innkeeper_engine.model.environments import Environment, parent_name
from innkeeper_engine.store.asks import Asks
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.intents import ANSWERED
from innkeeper_engine.store.letters import LetterStore
from innkeeper_engine.store.notices import Notices
from innkeeper_engine.store.registrations import RegistrationInbox
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_engine.tracing import Tracer
from innkeeper_gateway.access.callers import NAMESPACE_HEADER, Access, Caller
from innkeeper_gateway.access.reviews import Person, Reviews
from innkeeper_gateway.bodies import Header, Turns
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.ingest import Seed
from innkeeper_gateway.lists.filtering import Filters
from innkeeper_gateway.patience import Patience
from innkeeper_gateway.places import (
    BranchError,
    IpAddress,
    Place,
    networks,
    place_in,
    sender,
    wanted_branch,
)
from innkeeper_gateway.rates import EVENTS_BURST_S, REQUESTS_BURST_S, Rates
from innkeeper_gateway.refusals import Refusals
from innkeeper_gateway.registrars import DirectRegistrar, InboxRegistrar, Registrar
from innkeeper_gateway.settings import GatewaySettings
from innkeeper_gateway.syncing import DirectSync
from innkeeper_gateway.webhooks.letters import StoredLetters
from innkeeper_gateway.webhooks.source import Webhooks
from innkeeper_gateway.webhooks.taken import TakenTimes

UNKNOWN_TOKENS_PER_S: Final = 10
"""Tokens that the API server is asked about for one address, ten times as many in a row; those that were somebody's a
while ago do not count."""


class RegistrySource(Protocol):
    """Where the current registry comes from."""

    async def current(self, env: str) -> Registry:
        """The registry as it is now."""
        ...


class Core:
    """Settings, store, registry, environments, webhooks, clock and ids, and whether the server is about to stop."""

    def __init__(
        self,
        settings: GatewaySettings,
        store: Store,
        registries: RegistrySource,
        clock: Clock,
        ids: Ids,
        registrar: Registrar | None = None,
        reviews: Reviews | None = None,
        syncer: Syncer | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.settings = settings
        self.tracer = tracer
        """None where nothing is told of traces."""
        self.access = Access(reviews)
        self.store = store
        self.metrics = store.metrics
        self.registries = registries
        self.clock = clock
        self.ids = ids
        self.notices = Notices(store)
        self.own = settings.own_environment
        """The environment of the settings' own keys; in dev mode everybody's."""
        if settings.managed:
            self.environments = Environments(
                EnvironmentStore(store), self.notices, fixed=[self.own], timeout_s=settings.store_timeout_s
            )
            self.registrar = registrar or InboxRegistrar(RegistrationInbox(store))
        else:
            self.environments = Environments(fixed=[self.own])
            self.registrar = registrar or DirectRegistrar(store)
        self.asks = Asks(store)
        self.direct_sync = (
            DirectSync(syncer, self.registrar, clock, settings.signing_keys, self.metrics)
            if syncer is not None and not settings.managed
            else None
        )
        """Asks apps; None where an operator does, or nobody can."""
        key = settings.webhook_key
        self.webhook_sealer = None if key is None else Sealer(key)
        webhook_store = WebhookStore(store)
        self.webhooks = Webhooks(
            webhook_store,
            self.notices,
            self.environments,
            self.webhook_sealer,
            timeout_s=settings.store_timeout_s,
        )
        self.taken = TakenTimes(webhook_store, clock, timeout_s=settings.store_timeout_s)
        self.notices.tell(ANSWERED)
        self.sandbox = Sandbox(settings.sandbox)
        self.letter_store = LetterStore(store)
        self.letters = StoredLetters(self.letter_store, clock, ids, self.letters_keep_s)
        self.refusals = Refusals()
        self.rates = Rates(REQUESTS_BURST_S)
        """Of requests to the API, and of refusals."""
        self.event_rates = Rates(EVENTS_BURST_S)
        """Of events, and of requests to webhooks."""
        self.patience = Patience(self.rates, settings.refusals_rate)
        self.turns = Turns()
        self.filters = Filters()
        self._proxies = networks(settings.trusted_proxies)
        self.draining = False

    def sender(self, scope: Any) -> IpAddress | None:
        """Who sends a request, as far as is known (see `places.sender`)."""
        return sender(scope, self._proxies)

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Bounds what is asked of the store; `TimeoutError` where it does not answer."""
        async with asyncio.timeout(self.settings.store_timeout_s):
            yield

    def letters_keep_s(self, env: str) -> int:
        """How long an environment's dead letters are kept."""
        environment = self.environments.by_name(parent_name(env))
        granted = environment.policy.letters_keep_s if environment is not None else 0
        return granted or self.store.settings.letters_keep_s

    async def registry(self, env: str) -> Registry:
        """The current registry of an environment."""
        async with self.in_time():
            return await self.registries.current(env)

    async def declares(self, env: str, app_id: str) -> bool:
        """Whether an operator says that an app belongs to an environment, also one that has not synced yet.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: it could not be read.
        """
        if not self.settings.managed:
            return False
        # It may have been declared a moment ago.
        await self.environments.refresh()
        record = self.environments.by_name(env)
        return record is not None and app_id in record.apps

    async def admit(self, headers: list[Header], query: bytes) -> Place:
        """Where a request may work that must show a signing key; in dev mode any may work everywhere.

        SDKs show the hash of the key, with prefix (TypeScript) or without (Python); people the key itself.

        Raises:
            ApiError: 401, it shows no key that opens an environment; 400, it asks for a branch that cannot be.
            StoreError, StoreUnavailableError, TimeoutError: the key is not known, and the store could not be asked.
        """
        if self.settings.dev:
            return Place(self.settings.env)
        environment = await self._by_signing_key(_shown(headers))
        if environment is None:
            raise _unknown()
        return self._checked_place(environment, headers, query)

    async def caller(self, headers: list[Header], query: bytes, sent_from: IpAddress | None = None) -> Caller:
        """Who sends a request, by a signing key, the admin token or a token of the Kubernetes cluster.

        Raises:
            ApiError: 401, it shows none of these; 400, it does not say where it wants to work; 404, there is no such
                place; 429, too many unknown tokens have come from there; 503, the API server could not be asked.
            StoreError, StoreUnavailableError, TimeoutError: as `admit`.
        """
        if self.settings.dev:
            return Caller(kind="dev", name="dev", place=Place(self.settings.env))
        shown = _shown(headers)
        namespace = _header(headers, NAMESPACE_HEADER)
        if self.settings.is_admin_token(_token(shown)):
            environment = self.own if not self.settings.managed else await self._of_namespace(namespace)
            place = self._checked_place(environment, headers, query)
            return Caller(kind="admin", name="admin token", place=place, namespace=namespace)
        known = await self._by_signing_key(shown)
        if known is not None:
            place = self._checked_place(known, headers, query)
            return Caller(kind="signing-key", name=f"signing key of {known.name}", place=place)
        person = await self._person(_token(shown), sent_from) if _token(shown) else None
        if person is None:
            raise _unknown()
        place = self._checked_place(await self._of_namespace(namespace), headers, query)
        return Caller(kind="person", name=person.name, place=place, namespace=namespace, person=person)

    async def _person(self, token: str, sent_from: IpAddress | None) -> Person | None:
        """Whose token it is. One that nobody has heard of costs a question; so many may come from one address."""
        if self.access.has_heard_of(token):
            return await self.access.who(token)
        who = ("unknown token", sent_from)
        wait_s = self.rates.wait_s(who, UNKNOWN_TOKENS_PER_S)
        if wait_s:
            raise ApiError(
                429,
                "too many tokens that are not known have come from this address: wait, then try again",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )
        self.rates.take(who, UNKNOWN_TOKENS_PER_S, 1)
        return await self.access.who(token)

    async def _by_signing_key(self, shown: str) -> Environment | None:
        digest = bearer_digest(shown)
        return None if digest is None else await self.environments.by_signing_key(digest)

    async def _of_namespace(self, namespace: str) -> Environment:
        if not namespace:
            raise ApiError(
                400, f"the header {NAMESPACE_HEADER} is missing: name the namespace that the request is about"
            )
        environment = self.environments.by_namespace(namespace)
        if environment is None:
            await self.environments.refresh()
            environment = self.environments.by_namespace(namespace)
        if environment is None:
            raise ApiError(404, f"no environment has the namespace {namespace[:100]!r}")
        return environment

    def _checked_place(self, environment: Environment, headers: list[Header], query: bytes) -> Place:
        try:
            return self.place(environment, headers, query)
        except BranchError as error:
            raise ApiError(400, str(error)) from None

    def place(self, environment: Environment, headers: list[Header], query: bytes) -> Place:
        """The environment of a key, or the branch of it that a request asks for.

        Raises:
            BranchError: no branch can be called so.
        """
        if environment is self.own:
            return Place(environment.name)
        return place_in(environment, wanted_branch(headers, query))

    def end_ids(self) -> Ids2:
        """Ids for the events that the end of a run may emit."""
        now_ms = self.clock.now_ms()
        return self.ids.ulid(now_ms), self.ids.ulid(now_ms)

    def draw_seed(self, now_ms: int) -> Seed:
        """A seed for events that came without one.

        Ids of one process may follow each other without a gap, and a seed is counted up: hashing keeps the ranges
        of two requests apart.
        """
        return Seed(now_ms, hashlib.sha256(self.ids.ulid(now_ms).encode()).digest()[:10])


def _unknown() -> ApiError:
    return ApiError(
        401,
        "Authentication failed: send `Authorization: Bearer <signing key>`, or a token of the admin or of the cluster",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _header(headers: list[Header], wanted: str) -> str:
    name = wanted.encode()
    return next((value.decode("latin-1").strip() for each, value in headers if each == name), "")


def _shown(headers: list[Header]) -> str:
    return _header(headers, "authorization")


def _token(shown: str) -> str:
    """What stands behind `Bearer`; empty for anything else."""
    scheme, _, token = shown.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
