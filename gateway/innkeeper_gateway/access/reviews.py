"""Asks the API server who a token belongs to and what they may: TokenReview and SubjectAccessReview.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/ and .../authorization/: the gateway may create
these two reviews and nothing else. Answers are kept for seconds: a right that is taken away holds so long at most.
"""

import asyncio
import hashlib
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from innkeeper_gateway.access.permissions import GROUP, Permission

KEPT_S = 10.0
"""How long an answer of the API server counts."""
MOST_KEPT = 10_000
MOST_AT_ONCE = 16
"""Questions about people that the API server is asked at the same time, however many requests come in."""
MOST_WAITING = 200
"""Questions that wait for that; more requests are told to come again."""
MOST_STRANGERS_AT_ONCE = 4
MOST_STRANGERS_WAITING = 100
"""The same of tokens that nobody has heard of: who sends many of them keeps nobody but other strangers waiting."""
MOST_HEARD_OF = 10_000
"""Tokens that are remembered as somebody's, those that were used longest ago are forgotten first."""
MAX_TOKEN = 16_384
"""Characters of a token."""

T = TypeVar("T")


class ApiServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API server is, and who is asking it."""

    url: str
    token_file: Path
    """The gateway's own token. Kubernetes replaces it all the time: it is read for each question."""
    ca_file: Path | None = None
    audiences: tuple[str, ...] = ()
    """Whom callers' tokens must be meant for; none: the API server itself."""
    timeout_s: float = 5.0

    @classmethod
    def of_the_pod(cls, environ: dict[str, str]) -> "ApiServer":
        """As every pod is told (https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/).

        Raises:
            ValueError: this is no pod.
        """
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise ValueError("KUBERNETES_SERVICE_HOST is not set: this is no pod of a cluster")
        account = Path("/var/run/secrets/kubernetes.io/serviceaccount")
        address = f"[{host}]" if ":" in host else host
        return cls(url=f"https://{address}:{port}", token_file=account / "token", ca_file=account / "ca.crt")


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a token belongs to, as the API server says."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class ReviewError(Exception):
    """The API server could not be asked, or did not answer; the message says why, without a token."""


class Reviews:
    """The two questions, with short memories. An unknown token is remembered as such, too."""

    def __init__(
        self,
        server: ApiServer,
        *,
        client: httpx.AsyncClient | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._client = client or httpx.AsyncClient(
            base_url=server.url,
            verify=ssl.create_default_context(cafile=str(server.ca_file)) if server.ca_file else True,
            timeout=server.timeout_s,
            trust_env=False,
        )
        self._people: _Memory[str, Person | None] = _Memory(monotonic_s)
        self._answers: _Memory[tuple[Any, ...], bool] = _Memory(monotonic_s)
        self._of_people = _Queue(MOST_AT_ONCE, MOST_WAITING)
        self._of_strangers = _Queue(MOST_STRANGERS_AT_ONCE, MOST_STRANGERS_WAITING)
        self._heard_of: OrderedDict[str, None] = OrderedDict()

    async def who(self, token: str) -> Person | None:
        """Whom the token belongs to; None where it is nobody's.

        Raises:
            ReviewError: the API server could not be asked.
        """
        if len(token) > MAX_TOKEN:
            return None
        key = _digest(token)
        queue = self._of_people if key in self._heard_of else self._of_strangers
        person = await self._people.get(key, lambda: self._who(token, queue))
        if person is None:
            self._heard_of.pop(key, None)
        else:
            self._heard_of[key] = None
            self._heard_of.move_to_end(key)
            if len(self._heard_of) > MOST_HEARD_OF:
                self._heard_of.popitem(last=False)
        return person

    def has_heard_of(self, token: str) -> bool:
        """Whether it is known whose it is, or that it is nobody's, or whose it was a while ago."""
        key = _digest(token)
        return key in self._heard_of or self._people.has(key)

    async def may(self, person: Person, permission: Permission, namespace: str, name: str = "") -> bool:
        """Whether a person has this permission in a namespace; `name`: on that one object.

        Raises:
            ReviewError: the API server could not be asked.
        """
        key = (person, permission, namespace, name)
        return await self._answers.get(key, lambda: self._may(person, permission, namespace, name))

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()

    async def _who(self, token: str, queue: "_Queue") -> Person | None:
        spec: dict[str, Any] = {"token": token}
        if self._server.audiences:
            spec["audiences"] = list(self._server.audiences)
        status = await self._ask("authentication.k8s.io", "tokenreviews", "TokenReview", spec, queue)
        if status.get("authenticated") is not True:
            return None
        # Who asks for audiences must look whether the server knows of them at all.
        meant = status.get("audiences") or []
        if self._server.audiences and not set(meant) & set(self._server.audiences):
            return None
        user = status.get("user") or {}
        extra = user.get("extra") or {}
        return Person(
            name=str(user.get("username") or ""),
            uid=str(user.get("uid") or ""),
            groups=tuple(user.get("groups") or ()),
            extra=tuple(sorted((key, tuple(values or ())) for key, values in extra.items())),
        )

    async def _may(self, person: Person, permission: Permission, namespace: str, name: str) -> bool:
        spec = {
            "user": person.name,
            "uid": person.uid,
            "groups": list(person.groups),
            "extra": {key: list(values) for key, values in person.extra},
            "resourceAttributes": {
                "group": GROUP,
                "verb": permission.verb,
                "resource": permission.resource,
                "subresource": permission.subresource,
                "namespace": namespace,
                "name": name,
            },
        }
        kind = "SubjectAccessReview"
        status = await self._ask("authorization.k8s.io", "subjectaccessreviews", kind, spec, self._of_people)
        return status.get("allowed") is True and status.get("denied") is not True

    async def _ask(
        self, group: str, resource: str, kind: str, spec: dict[str, Any], queue: "_Queue"
    ) -> dict[str, Any]:
        async with queue.turn():
            return await self._post(f"/apis/{group}/v1/{resource}", f"{group}/v1", kind, spec)

    async def _post(self, path: str, version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        try:
            own = self._server.token_file.read_text("ascii").strip()
            response = await self._client.post(
                path,
                json={"apiVersion": version, "kind": kind, "spec": spec},
                headers={"Authorization": f"Bearer {own}"},
            )
            answer = response.json() if response.status_code in (200, 201) else None
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise ReviewError(f"the API server could not be asked ({type(error).__name__})") from error
        if answer is None:
            raise ReviewError(
                f"the API server answered a {kind} with {response.status_code}: the gateway's service account must "
                "be allowed to create it (chart: gateway.tokenReview)"
            )
        status = answer.get("status") if isinstance(answer, dict) else None
        if not isinstance(status, dict):
            raise ReviewError(f"the API server answered a {kind} without a status")
        return status


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class _Queue:
    """Some questions at the same time, and some that wait."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once = asyncio.Semaphore(at_once)
        self._most_waiting = waiting
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        if self._waiting >= self._most_waiting:
            raise ReviewError(f"{self._waiting} questions wait for the API server already")
        self._waiting += 1
        try:
            async with self._at_once:
                yield
        finally:
            self._waiting -= 1


K = TypeVar("K")


class _Memory(Generic[K, T]):
    """Answers for `KEPT_S`; one question at a time for each, whoever waits for it."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._known: OrderedDict[K, tuple[float, T]] = OrderedDict()
        self._asked: dict[K, asyncio.Task[T]] = {}

    def has(self, key: K) -> bool:
        known = self._known.get(key)
        return known is not None and self._monotonic_s() - known[0] < KEPT_S

    async def get(self, key: K, ask: Callable[[], Awaitable[T]]) -> T:
        known = self._known.get(key)
        if known is not None and self._monotonic_s() - known[0] < KEPT_S:
            return known[1]
        task = self._asked.get(key)
        if task is None:
            task = asyncio.ensure_future(self._learn(key, ask))
            self._asked[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        try:
            # Whoever goes away must not take the answer from those who wait with him.
            return await asyncio.shield(task)
        finally:
            del task  # an error that it keeps and this frame, and those around it, would hold each other

    async def _learn(self, key: K, ask: Callable[[], Awaitable[T]]) -> T:
        answer = await ask()
        self._known.pop(key, None)
        self._known[key] = (self._monotonic_s(), answer)
        while len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        return answer

    def _done(self, key: K, task: asyncio.Task[T]) -> None:
        self._asked.pop(key, None)
        if not task.cancelled():
            # Whoever waits has the error; where all have gone, nobody need know.
            task.exception()
