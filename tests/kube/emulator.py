"""A Kubernetes API server for tests, in this process: objects in memory, HTTP on a loopback port, no cluster.

It serves what an operator and its clients use, and answers as kube-apiserver does: discovery, CRUD, lists with
selectors and pages, watches with bookmarks and 410, merge, JSON and strategic merge patches, server-side apply with
`managedFields` and conflicts, `status` subresources, generations, finalizers, preconditions, owners, namespaces that
terminate, CRD schemas (pruning, defaults, validation), RBAC by token, reviews.

What it does not do:

- CEL: `x-kubernetes-validations` hold only through `validator`. No admission webhooks or policies.
- CRD schemas are taken as they are: none is refused for not being structural, or for the cost of its rules. Objects
  are not validated less strictly where an update leaves a bad field as it was (ratcheting).
- No conversion between versions of a CRD except of `apiVersion`, no `scale` subresource, no tables, no protobuf, no
  OpenAPI documents (`kubectl explain`), no exec or logs, no ServiceAccount tokens. No TLS: so kubectl, which sends
  tokens over TLS alone, cannot log in.
- Built-in kinds are hardly validated (see `builtin.py`), and unknown fields of theirs are kept. For field managers
  each top-level field of their `spec`, `data` and `status` is one leaf; custom kinds go by their schema.
- Controllers: only the garbage collector, and the deletion of namespaces and CRDs. No Deployment makes Pods, no
  EndpointSlice appears for a Service, no Lease expires.
- All kinds share one history; a list at an exact old version is always too old. Bookmarks come at the end of a watch
  and when `send_bookmarks` is called, not every minute.
"""

import base64
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

import yaml
from aiohttp import web

from tests.kube.access import Asked, Identity, Rule
from tests.kube.api import Api, Validator
from tests.kube.calls import Call, Write
from tests.kube.deletion import CRDS, Controllers
from tests.kube.errors import Obj, gone
from tests.kube.kinds import Kinds
from tests.kube.patches import copied
from tests.kube.reviews import Reviewer
from tests.kube.server import Outage, Server
from tests.kube.store import Change, Key, Store
from tests.kube.threads import LoopThread

ADMIN = Identity(user="admin", groups=("system:masters", "system:authenticated"))
_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


class KubeEmulator:
    """One emulated cluster. Its methods may be called from any thread except the emulator's own.

    >>> with KubeEmulator() as emulator:
    ...     emulator.install_crds(crds)
    ...     emulator.kubeconfig(tmp_path / "kubeconfig")
    """

    def __init__(self, *, window: int = 10_000, clock: Callable[[], datetime] | None = None) -> None:
        self.token = secrets.token_hex(16)
        """The bearer token that may do everything."""
        self._identities = {self.token: ADMIN}
        self._store = Store(window)
        self._kinds = Kinds()
        self._api = Api(self._store, self._kinds)
        if clock is not None:
            self._api.clock = clock
        self._server = Server(self._api, self._identities)
        self._server.on_activity = self._tell
        self._waiting: list[threading.Event] = []
        self._thread = LoopThread("kube-emulator")
        self._controllers = Controllers(self._store, self._api.deletion, self._thread.loop.call_soon)
        self._runner: web.ServerRunner | None = None
        # Bound but never listening: while the server is stopped, nobody else can take the port.
        self._holder = _bound(0)
        self.port = self._holder.getsockname()[1]
        self._store.on_change = self._noted
        for name in _NAMESPACES:
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    @property
    def url(self) -> str:
        """Where it is; the same after a restart."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def reviewer(self) -> Reviewer:
        """Answers TokenReviews and SubjectAccessReviews: set `on_token`, `on_access`."""
        return self._server.reviewer

    # Running

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Serve, with the objects there are. After `stop`, it is the same API server, restarted."""

        async def serve() -> None:
            # Cancelled when the client is gone: else a watch would stay until it has something to send.
            server = web.Server(self._server.handle, handler_cancellation=True, access_log=None)
            runner = web.ServerRunner(server, shutdown_timeout=0.1)
            await runner.setup()
            await web.SockSite(runner, _bound(self.port)).start()
            self._runner = runner

        self._thread.run(serve)

    def stop(self) -> None:
        """Refuse connections and cut those there are; the objects stay."""

        async def halt() -> None:
            runner, self._runner = self._runner, None
            if runner is not None:
                assert runner.server is not None
                for site in list(runner.sites):
                    await site.stop()
                for watch in list(self._server.watches):
                    self._server.watches[watch].abort()
                for connection in runner.server.connections:
                    if connection.transport is not None:
                        connection.transport.abort()
                await runner.cleanup()

        self._thread.run(halt)

    def close(self) -> None:
        """End it for good. Raises what went wrong in the emulator itself, so that no test passes over it."""
        self.stop()
        self._thread.close()
        self._holder.close()
        if failures := self._server.failures + self._thread.failures:
            raise ExceptionGroup("the emulator itself failed", failures)

    # Trouble

    def compact(self) -> None:
        """Forget the history: every version that a client has seen is too old to watch or to page on from."""

        def forget() -> None:
            self._store.compact()
            self._server.lists.forget()

        self._thread.call(forget)

    def drop_watches(self) -> None:
        """Cut the connections of all watches."""

        def drop() -> None:
            for transport in list(self._server.watches.values()):
                transport.abort()

        self._thread.call(drop)

    def expire_watches(self) -> None:
        """End all watches with 410, after which their clients must list again."""

        def expire() -> None:
            self._store.compact()
            for watch in list(self._server.watches):
                watch.fail(gone("The resourceVersion for the provided watch is too old."))

        self._thread.call(expire)

    def send_bookmarks(self) -> None:
        """Send a bookmark on each watch that allows them; without this, one comes at a watch's end only."""

        def send() -> None:
            for watch in list(self._server.watches):
                watch.bookmark()

        self._thread.call(send)

    def refuse(
        self,
        status: int,
        times: int,
        *,
        retry_after_s: int | None = None,
        matches: Callable[[Asked], bool] | None = None,
    ) -> None:
        """Answer the next `times` requests (of those that match) with an error, such as 429, 500 or 503."""
        outage = Outage(status=status, times=times, retry_after_s=retry_after_s, matches=matches)
        self._thread.call(lambda: self._server.outages.append(outage))

    def relent(self) -> None:
        """Refuse nothing any more."""
        self._thread.call(self._server.outages.clear)

    def pause_controllers(self) -> None:
        """Let garbage and terminating namespaces be, until `resume_controllers`."""
        self._thread.call(lambda: setattr(self._controllers, "paused", True))

    def resume_controllers(self) -> None:
        """Collect garbage and empty namespaces again."""
        self._thread.call(self._controllers.resume)

    # Settings

    def install_crds(self, crds: Iterable[Obj]) -> None:
        """Store CustomResourceDefinitions and serve their kinds; those there are already are replaced."""
        for crd in crds:
            self.put(crd)

    def set_validator(self, validator: Validator | None) -> None:
        """Check custom objects that their schema accepts: `(crd, new, old) -> ["spec.id: Invalid value: ..."]`."""
        self._thread.call(lambda: setattr(self._api, "validator", validator))

    def set_window(self, changes: int) -> None:
        """How many changes are kept for watches that start in the past."""
        self._thread.call(lambda: self._store.resize(changes))

    def add_token(
        self, user: str, rules: Sequence[Rule] | None, groups: Sequence[str] = ("system:authenticated",)
    ) -> str:
        """A token for a user who may do what the rules say (None: everything)."""
        token = secrets.token_hex(16)
        known = Identity(user=user, groups=tuple(groups), rules=None if rules is None else tuple(rules))
        self._thread.call(lambda: self._identities.update({token: known}))
        return token

    def config(self, token: str = "", namespace: str = "default") -> Obj:
        """A kubeconfig for this server, with the token of an admin unless another is given."""
        context = {"cluster": "emulator", "user": "user", "namespace": namespace}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "emulator", "cluster": {"server": self.url}}],
            "users": [{"name": "user", "user": {"token": token or self.token}}],
            "contexts": [{"name": "emulator", "context": context}],
            "current-context": "emulator",
        }

    def kubeconfig(self, path: Path, token: str = "", namespace: str = "default") -> Path:
        """Write `config` to a file."""
        path.write_text(yaml.safe_dump(self.config(token, namespace)))
        return path

    # What tests look at and set up

    @property
    def requests(self) -> list[Asked]:
        """What was asked for since `reset`, as RBAC sees it; discovery is not counted."""
        return self._thread.call(lambda: list(self._server.requests))

    @property
    def writes(self) -> list[Write]:
        """What clients changed since `reset`; requests that changed nothing are none."""
        return self._thread.call(lambda: list(self._api.writes))

    def reset(self) -> None:
        """Begin `requests` and `writes` anew."""

        def clear() -> None:
            self._server.requests.clear()
            self._api.writes.clear()

        self._thread.call(clear)

    @property
    def watching(self) -> int:
        """How many watches are open."""
        return self._thread.call(lambda: len(self._server.watches))

    def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        """A stored object; `kind` as people write it: `Function`, `functions`, `ifn`, `functions.innkeeper.dev`."""

        def find() -> Obj | None:
            entry = self._store.get((self._kinds.named(kind).storage, namespace, name))
            return entry.copy() if entry else None

        return self._thread.call(find)

    def list(self, kind: str, namespace: str = "") -> list[Obj]:
        """The stored objects of a kind, by namespace and name."""
        return self._thread.call(
            lambda: [
                entry.copy() for entry in self._store.entries(self._kinds.named(kind).storage, namespace)
            ]
        )

    def put(self, obj: Obj) -> Obj:
        """Create an object, or replace one whatever its version; its `status` is stored as given.

        Not counted in `writes`. Raises ApiError as a request would, and KeyError for a kind that is not served.
        """

        def store() -> Obj:
            count = len(self._api.writes)
            call = self._call_about(obj)
            if self._store.get(call.key) is None:
                self._api.create(call)
            else:
                self._replace(call, obj)
            if call.kind.has_status and "status" in obj:
                call.subresource = "status"
                self._replace(call, obj)
            del self._api.writes[count:]
            return self._api.live(call).copy()

        return self._thread.call(store)

    def _call_about(self, obj: Obj) -> Call:
        kind = self._kinds.by_kind(obj["apiVersion"], obj["kind"])
        if kind is None:
            raise KeyError(f"no kind {obj['kind']} in {obj['apiVersion']} is served")
        return Call(
            kind=kind,
            namespace=obj["metadata"].get("namespace", "default") if kind.namespaced else "",
            name=obj["metadata"]["name"],
            body=copied(obj),
            manager="test",
            identity=ADMIN,
        )

    def _replace(self, call: Call, obj: Obj) -> None:
        call.body = copied(obj)
        call.body["metadata"]["resourceVersion"] = self._api.live(call).obj["metadata"]["resourceVersion"]
        self._api.replace(call)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete a stored object, as a client would. Raises KeyError if it is not there."""
        self._thread.call(
            lambda: self._api.deletion.delete((self._kinds.named(kind).storage, namespace, name))
        )

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """A stored Secret's values, decoded. Raises KeyError if it is not there."""
        found = self.get("secrets", namespace, name)
        if found is None:
            raise KeyError(f"no Secret {namespace}/{name}")
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}

    def until(self, holds: Callable[[], object], timeout_s: float = 10) -> None:
        """Wait until something holds of this emulator, asked after each request, change, and watch that begins or ends.

        >>> emulator.until(lambda: emulator.watching == 3)
        """
        deadline = time.monotonic() + timeout_s
        woken = threading.Event()
        self._waiting.append(woken)
        try:
            while not holds():
                if not woken.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"what was awaited did not hold within {timeout_s} s")
                woken.clear()
        finally:
            self._waiting.remove(woken)

    def _noted(self, key: Key, change: Change) -> None:
        if change.type == "DELETED" and key[0] == CRDS:
            self._kinds.uninstall(key[2])
        self._controllers.noted(change)
        self._tell()

    def _tell(self) -> None:
        for woken in tuple(self._waiting):
            woken.set()


def _bound(port: int) -> socket.socket:
    # Named as TCP, so that asyncio sends answers without delay.
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(("127.0.0.1", port))
    return found
