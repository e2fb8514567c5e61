"""A cluster, apps that answer as SDKs do, and an operator between them.

API servers refuse loopback addresses in EndpointSlices. So pods have addresses of 192.0.2.0/24, and where the operator
dials, each of these leads to a listener on loopback: a *face*. What answers there is a `ScriptedApp`.
"""

import asyncio
import copy
import itertools
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from kubernetes.client import Configuration

from innkeeper_apps.classes import OneRoute
from innkeeper_apps.egress import EgressPolicy, Resolver
from innkeeper_apps.sealing import Sealer
from innkeeper_apps.sync import Syncer
from innkeeper_apps.transport import Transport
from innkeeper_apps.wire.keys import bearer_hash, sign, verify
from innkeeper_engine.limits import compile_queueing
from innkeeper_engine.model.clock import Clock, SystemClock
from innkeeper_engine.model.effects import Start
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.model.guards import NoGuard
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from innkeeper_operator.cluster import find_configuration
from innkeeper_operator.election import Timing
from innkeeper_operator.reconcile import Asks
from innkeeper_operator.service import Operator, Work
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.syncing import Asker
from tests.crds.schemas import load_crds
from tests.kube.cluster import Cluster
from tests.kube.threads import LoopThread

Json = dict[str, Any]

API = "innkeeper.dev/v1alpha1"
KEY = "signkey-test-" + "ab" * 32
SEALING = bytes(range(32))
WEBHOOK_SEALING = bytes(range(32, 64))
FACES = 40
PORT = 3000
PATIENCE_S = 60.0
"""How long tests wait for what must come: far more than it takes, for busy machines."""

_SDK = {"x-inngest-sdk": "inngest-js:v4.24.0", "x-inngest-framework": "express", "x-inngest-req-version": "2"}


def function(function_id: str, app_id: str = "shop", **config: Any) -> Json:
    """A function as an SDK declares it; `config` is what code says of it."""
    slug = f"{app_id}-{function_id}"
    return {
        "id": slug,
        "name": function_id,
        "triggers": [{"event": f"{app_id}/{function_id}"}],
        "steps": {
            "step": {
                "id": "step",
                "name": "step",
                "runtime": {
                    "type": "http",
                    "url": f"http://10.0.0.1:3000/api/inngest?fnId={slug}&stepId=step",
                },
                "retries": {"attempts": 4},
            }
        },
    } | config


class ScriptedApp:
    """An app behind one face or several. Change it at any time; every request is noted in `calls`."""

    def __init__(self, app_id: str = "shop", *functions: Json | str, keys: Sequence[str] = (KEY,)) -> None:
        self.app_id = app_id
        self.functions: list[Json] = []
        self.keys = list(keys)
        self.version = "1.0.0"
        self.url = "http://10.0.0.1:3000/api/inngest"
        """What it says of where it is."""
        self.status: int | None = None
        """Answer everything with this."""
        self.in_band = True
        self.calls: list[tuple[str, str]] = []
        """Method and the face's address, of each request."""
        self.declare(*functions)

    def declare(self, *functions: Json | str) -> None:
        """Serve these functions from now on."""
        self.functions = [
            function(each, self.app_id) if isinstance(each, str) else each for each in functions
        ]

    @property
    def asked(self) -> int:
        """How often it was asked for its functions."""
        return sum(1 for method, _ in self.calls if method == "PUT")

    def answer(self, method: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a request."""
        if self.status is not None:
            return self.status, {}, b"no"
        signed = (
            verify(headers.get("x-inngest-signature"), body, self.keys, int(time.time())) if self.keys else ""
        )
        if signed is None:
            return 401, _SDK | {"x-inngest-sdk-handled": "true"}, b'{"message":"Unauthorized"}'
        if method == "GET":
            about: Json = {
                "function_count": len(self.functions),
                "mode": "cloud",
                "has_signing_key": bool(self.keys),
            }
            return 200, _SDK, json.dumps(about).encode()
        if not self.in_band:
            return 200, _SDK, b'{"message":"Successfully registered","modified":true}'
        answer = {
            "app_id": self.app_id,
            "appVersion": self.version,
            "url": self.url,
            "functions": self.functions,
            "framework": "express",
            "sdk_author": "inngest",
            "sdk_language": "js",
            "sdk_version": "4.24.0",
            "sdk": "js:v4.24.0",
            "env": None,
            "capabilities": {"in_band_sync": "v1"},
            "inspection": {"signing_key_hash": bearer_hash(self.keys[0]) if self.keys else None},
        }
        sent = json.dumps(answer).encode()
        extra = {"x-inngest-sync-kind": "in_band"}
        if self.keys:
            extra["x-inngest-signature"] = sign(sent, self.keys[0], int(time.time()))
        return 200, _SDK | extra, sent


class Face:
    """An address that a pod may have."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.port = 0
        self.app: ScriptedApp | None = None


class AppHost:
    """Listens for every face, in a thread of its own."""

    def __init__(self) -> None:
        self._thread = LoopThread("apps")
        self._runners: list[web.ServerRunner] = []
        self.faces = [Face(f"192.0.2.{n}") for n in range(1, FACES + 1)]
        self._free = iter(self.faces)
        # Bound and never listening: connections to it are refused.
        self._closed = socket.socket()
        self._closed.bind(("127.0.0.1", 0))
        self._thread.run(self._serve)

    @property
    def dial(self) -> dict[str, str]:
        """Where each face really is."""
        closed = {f"192.0.2.250:{PORT}": f"127.0.0.1:{self._closed.getsockname()[1]}"}
        return closed | {f"{face.address}:{PORT}": f"127.0.0.1:{face.port}" for face in self.faces}

    def face(self, app: ScriptedApp) -> Face:
        """A face that no test has used yet, for an app."""
        face = next(self._free)
        face.app = app
        return face

    def close(self) -> None:
        """Listen no more."""

        async def end() -> None:
            for runner in self._runners:
                await runner.cleanup()

        self._thread.run(end)
        self._thread.close()
        self._closed.close()

    async def _serve(self) -> None:
        for face in self.faces:
            runner = web.ServerRunner(web.Server(self._handler(face), access_log=None))
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            assert site._server is not None
            face.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
            self._runners.append(runner)

    def _handler(self, face: Face) -> Callable[[web.BaseRequest], Any]:
        async def handle(request: web.BaseRequest) -> web.Response:
            body = await request.read()
            app = face.app
            if app is None:
                return web.Response(status=503)
            app.calls.append((request.method, face.address))
            headers = {name.lower(): value for name, value in request.headers.items()}
            status, answered, sent = app.answer(request.method, headers, body)
            return web.Response(
                status=status, headers=answered | {"Content-Type": "application/json"}, body=sent
            )

        return handle


class SkippingClock:
    """The machine's clock, which can be set ahead."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self.ahead_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._system.now_ms() + self.ahead_ms


class RunningOperator:
    """An operator in a thread of its own."""

    def __init__(self, build: Callable[[Clock], tuple[Operator, Transport]]) -> None:
        self._thread = LoopThread("operator")
        self._task: asyncio.Task[None] | None = None
        self.clock = SkippingClock()
        self.operator, self._transport = self._thread.call(lambda: build(self.clock))
        self.stopped = False

        async def start() -> None:
            self._task = asyncio.create_task(self.operator.run())

        self._thread.run(start)

    def settled(self) -> None:
        """Wait until it leads and has seen everything."""

        async def wait() -> None:
            assert self._task is not None
            settled = asyncio.ensure_future(self.operator.settled.wait())
            await asyncio.wait({self._task, settled}, return_when=asyncio.FIRST_COMPLETED)
            settled.cancel()
            if self._task.done():
                await self._task

        self._thread.run(wait)

    def idle(self) -> None:
        """Wait until nothing is due and nothing is going on."""

        async def wait() -> None:
            quiet = 0
            while quiet < 5:
                # Longer than the queue waits for further changes, and than a watch takes to tell of them.
                await asyncio.sleep(0.02)
                busy = self.operator.queue.depth or self.operator.reconciler.asking
                quiet = 0 if busy else quiet + 1

        self._thread.run(wait)

    def skip(self, ms: int) -> None:
        """Let time pass for what the operator decides; leases and signatures go by the real one."""

        def skip() -> None:
            self.clock.ahead_ms += ms
            # What is due by now is found at the next look at anything.
            self.operator.queue.add(("environments", "", ""))

        self._thread.call(skip)

    def look(self, key: Work) -> None:
        """Look at something although nothing has changed."""
        self._thread.call(lambda: self.operator.queue.add(key))
        self.idle()

    def write_received(self) -> None:
        """Write now when Webhooks took requests, as is done every minute."""
        self._thread.run(self.operator.received.write)

    @property
    def port(self) -> int:
        """Where probes are answered; waits until they are."""

        async def listening() -> int:
            while not self.operator.health.port:
                await asyncio.sleep(0.01)
            return self.operator.health.port

        return self._thread.run(listening)

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value; 0 if there is none yet."""
        return self.operator.metrics.registry.get_sample_value(f"innkeeper_operator_{name}", labels) or 0.0

    def ended(self) -> BaseException | None:
        """Wait until it has ended by itself; what it failed with."""

        async def wait() -> BaseException | None:
            assert self._task is not None
            await asyncio.wait({self._task})
            return self._task.exception()

        return self._thread.run(wait)

    def stop(self) -> None:
        """End it as a signal does."""

        async def end() -> None:
            assert self._task is not None
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._transport.close()

        self.stopped = True
        self._thread.run(end)
        self._thread.close()
        assert not self._thread.failures, self._thread.failures


class House:
    """Everything that a test needs."""

    def __init__(self, cluster: Cluster, configuration: Configuration, valkey: Address) -> None:
        self.cluster = cluster
        self.configuration = configuration
        self.valkey = valkey
        self.prefix = f"{{test-{secrets.token_hex(6)}}}:"
        self.apps = AppHost()
        self.lease_namespace = cluster.create_namespace("innkeeper")
        self._names = itertools.count(1)
        self._redis = LoopThread("redis")
        self._store = self._redis.call(lambda: Store(valkey, StoreSettings(prefix=self.prefix)))
        self._redis.run(self._store.open)
        self._running: list[RunningOperator] = []

    def operator(self, **options: Any) -> RunningOperator:
        """Start an operator; ended with the house, if not before."""
        address = options.pop("address", self.valkey)
        identity = options.pop("identity", f"op-{next(self._names)}")
        interval_ms = options.pop("counter_interval_ms", 30_000)
        received_ms = options.pop("received_interval_ms", 60_000)
        asker: Asks | None = options.pop("asker", None)
        settings = OperatorSettings(
            lease_namespace=self.lease_namespace,
            **{"base_url": "http://innkeeper.example", **options},
        )

        def build(clock: Clock) -> tuple[Operator, Transport]:
            system = SystemClock()
            resolver = Resolver(EgressPolicy.dev())
            transport = Transport(resolver, dial=self.apps.dial)
            operator = Operator(
                settings,
                address,
                self.configuration,
                asker=asker or Asker(Syncer(transport, system, server_kind="cloud"), clock),
                egress=OneRoute(resolver),
                sealer=Sealer(SEALING),
                webhook_sealer=Sealer(WEBHOOK_SEALING),
                identity=identity,
                store_settings=StoreSettings(prefix=self.prefix),
                clock=clock,
                timing=Timing(lease_ms=15_000, renew_ms=10_000, retry_ms=100),
                counter_interval_ms=interval_ms,
                received_interval_ms=received_ms,
            )
            return operator, transport

        running = RunningOperator(build)
        self._running.append(running)
        return running

    def close(self) -> None:
        """End everything."""
        for running in self._running:
            if not running.stopped:
                running.stop()
        self._redis.run(self._store.close)
        self._redis.close()
        self.apps.close()

    # ---- the registry

    def registry(self, env: str) -> dict[str, App]:
        """What is registered in an environment."""
        blobs = self._redis.run(lambda: self._store.registrations(env))
        return {app_id: msgspec.json.decode(blob, type=App) for app_id, blob in blobs.items()}

    def registered(self, env: str, slug: str) -> FunctionConfig | None:
        """A function as it is registered."""
        for app in self.registry(env).values():
            for each in app.functions:
                if each.slug == slug:
                    return each
        return None

    def store_run(self, work: Callable[[Store], Any]) -> Any:
        """Do something with the store."""
        return self._redis.run(lambda: work(self._store))

    def start_run(self, env: str, run: str, slug: str = "shop-charge", app: str = "shop") -> None:
        """Begin a run that nobody works on."""
        fn = f"{env}/{slug}"
        queueing = compile_queueing(FunctionConfig(slug=slug, name=slug, url=""), env, env)
        start = Start(
            run=run,
            env=env,
            fn=fn,
            slug_json=json.dumps(slug).encode(),
            app=app,
            events=((f"{run}-event", b"{}"),),
            start_partition=queueing.start_lane,
            step_partition=queueing.step_lane,
            order=0,
            due_ms=0,
            announces=False,
        )
        self.store_run(lambda store: store.apply(NoGuard(), [start]))

    def live_runs(self, env: str, slug: str = "shop-charge") -> int:
        """How many runs of a function have not ended."""
        counts: dict[str, int] = self.store_run(lambda store: store.live_runs(env, [slug]))
        return counts[slug]

    # ---- the cluster

    def namespace(self, *, keys: bool = True, **metadata: Json) -> str:
        """A namespace of the test's own, with a signing key that scripted apps know."""
        name = self.cluster.create_namespace("test", **metadata)
        if keys:
            self.keys(name)
        return name

    def keys(self, namespace: str, **values: str) -> None:
        """Make a namespace's keys these."""
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": "innkeeper-keys",
                    "namespace": namespace,
                    "labels": {"innkeeper.dev/key": "event.signing"},
                },
                "stringData": {"event-key": secrets.token_hex(16), "signing-key": _own_key(namespace)}
                | {name.replace("_", "-"): value for name, value in values.items()},
            },
            "admin",
            force=True,
        )

    def key(self, namespace: str) -> str:
        """The signing key of a namespace as `keys` makes it."""
        return _own_key(namespace)

    def app(self, namespace: str, *functions: Json | str, app_id: str = "shop") -> ScriptedApp:
        """An app that knows the namespace's key."""
        return ScriptedApp(app_id, *functions, keys=[_own_key(namespace)])

    def serve(self, namespace: str, service: str, pods: Iterable[tuple[str, str, str]]) -> None:
        """A Service with these ready pods behind it: name, revision, address."""
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": service, "namespace": namespace},
                "spec": {"ports": [{"name": "http", "port": PORT, "targetPort": PORT}]},
            },
            "admin",
            force=True,
        )
        given = list(pods)
        for name, revision, _ in given:
            if self.cluster.get("pods", namespace, name) is None:
                self.cluster.apply(
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "metadata": {
                            "name": name,
                            "namespace": namespace,
                            "labels": {"pod-template-hash": revision} if revision else {},
                        },
                        "spec": {
                            "containers": [{"name": "app", "image": "app"}],
                            "automountServiceAccountToken": False,
                        },
                    },
                    "admin",
                )
        self.cluster.apply(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{service}-1",
                    "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": service},
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": PORT}],
                "endpoints": [
                    {
                        "addresses": [address],
                        "conditions": {"ready": True},
                        **(
                            {"targetRef": {"kind": "Pod", "name": name, "namespace": namespace}}
                            if name
                            else {}
                        ),
                    }
                    for name, _, address in given
                ],
            },
            "admin",
            force=True,
        )

    def deploy(self, namespace: str, app: ScriptedApp, *, name: str = "shop", revision: str = "r1") -> Face:
        """One pod of an app behind a Service of that name."""
        face = self.apps.face(app)
        self.serve(namespace, name, [(f"{name}-{revision}-a", revision, face.address)])
        return face

    def declare(self, namespace: str, name: str = "shop", *, manager: str = "kubectl", **spec: Any) -> Json:
        """Apply an InngestApp for the Service of its name."""
        endpoint = spec.pop("endpoint", {"service": {"name": name, "port": PORT}})
        return self.cluster.apply(
            {
                "apiVersion": API,
                "kind": "InngestApp",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"endpoint": endpoint, **spec},
            },
            manager,
        )

    def declare_function(
        self,
        namespace: str,
        name: str,
        function_id: str,
        *,
        app: str = "shop",
        manager: str = "kubectl",
        force: bool = False,
        **spec: Any,
    ) -> Json:
        """Apply a Function."""
        return self.cluster.apply(
            {
                "apiVersion": API,
                "kind": "Function",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"appRef": {"name": app}, "id": function_id, **spec},
            },
            manager,
            force=force,
        )

    # ---- waiting

    def until(
        self,
        kind: str,
        namespace: str,
        name: str,
        holds: Callable[[Json], object],
        timeout_s: float = PATIENCE_S,
    ) -> Json:
        """Wait until something holds of an object that is there."""
        found = self.cluster.wait_for(
            kind, namespace, name, lambda obj: obj is not None and holds(obj), timeout_s
        )
        assert found is not None
        return found

    def until_gone(self, kind: str, namespace: str, name: str) -> None:
        """Wait until there is no such object."""
        self.cluster.wait_for(kind, namespace, name, lambda obj: obj is None, PATIENCE_S)

    def until_ready(self, namespace: str, name: str = "shop", **wanted: Any) -> Json:
        """Wait until an InngestApp is ready for its newest spec."""
        return self.until(
            "InngestApp",
            namespace,
            name,
            lambda app: says(app, "Ready", "True", **wanted) and seen_newest(app),
        )

    def until_app(self, namespace: str, name: str, condition: str, status: str, reason: str) -> Json:
        """Wait until a condition of an InngestApp is so."""
        return self.until(
            "InngestApp", namespace, name, lambda app: says(app, condition, status, reason=reason)
        )

    def until_function(
        self, namespace: str, name: str, condition: str, status: str, reason: str | None = None
    ) -> Json:
        """Wait until a condition of a Function is so, for its newest spec."""
        return self.until(
            "Function",
            namespace,
            name,
            lambda obj: (
                says(obj, condition, status, **({"reason": reason} if reason else {})) and seen_newest(obj)
            ),
        )


def _own_key(namespace: str) -> str:
    """A signing key that each namespace has for itself: a key opens one environment only."""
    return "signkey-test-" + namespace.encode().hex().ljust(64, "0")


def condition(obj: Json, kind: str) -> Json:
    """A condition of an object; empty where it says nothing of that kind."""
    found = (obj.get("status") or {}).get("conditions") or []
    return next((each for each in found if each["type"] == kind), {})


def says(obj: Json, kind: str, status: str, *, reason: str | None = None) -> bool:
    """Whether a condition is so."""
    found = condition(obj, kind)
    return found.get("status") == status and (reason is None or found.get("reason") == reason)


def seen_newest(obj: Json) -> bool:
    """Whether the status is about the newest spec."""
    generation: int = obj["metadata"]["generation"]
    return bool((obj.get("status") or {}).get("observedGeneration") == generation)


def read_configuration(cluster: Cluster, path: Any) -> Configuration:
    """The official client's configuration for a cluster of tests."""
    return find_configuration(str(cluster.kubeconfig(path)))


def crds(folder: Path) -> list[Json]:
    """The project's CustomResourceDefinitions, the caller's own to change."""
    return copy.deepcopy(list(load_crds(Path(folder)).values()))


StartOperator = Callable[..., RunningOperator]
"""Starts an operator with these settings."""
