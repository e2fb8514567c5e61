"""Asking an app for its functions at somebody's wish, where no operator does that."""

from collections.abc import Sequence

from innkeeper_apps.sync import Syncer, SyncError
from innkeeper_apps.wire.register import RegistrationError, parse_in_band
from innkeeper_engine.metrics import Metrics
from innkeeper_engine.model.clock import Clock
from innkeeper_engine.model.reach import Reach
from innkeeper_engine.registering import FunctionTakenError
from innkeeper_gateway.registrars import Registrar

_PLATFORMS = Reach()


class DirectSync:
    """Asks an app, in band where keys are shared, and has what it declares registered."""

    def __init__(
        self,
        syncer: Syncer,
        registrar: Registrar,
        clock: Clock,
        keys: Sequence[str],
        metrics: Metrics | None = None,
    ) -> None:
        """`keys`: the signing key, then its fallback. `metrics`: where the process counts, if anybody looks."""
        self._syncer = syncer
        self._registrar = registrar
        self._clock = clock
        self._keys = tuple(keys)
        self._metrics = metrics or Metrics()

    async def sync(self, env: str, url: str, reach: Reach = _PLATFORMS) -> bool:
        """Ask the app at `url` once; whether that has changed anything. `reach`: where it may be.

        An app that does not answer in band has registered itself with the gateway when this returns.

        Raises:
            SyncError: the app was not reached, or did not register.
            RegistrationError, FunctionTakenError: what it declares cannot be taken.
            StoreError, StoreUnavailableError: the store did not take it.
        """
        count = self._metrics.syncs.add
        try:
            modified = await self._sync(env, url, reach)
        except SyncError:
            count("Failed")
            raise
        except (RegistrationError, FunctionTakenError):
            count("Refused")
            raise
        except Exception:
            count("Broken")
            raise
        count("Answered")
        return modified

    async def _sync(self, env: str, url: str, reach: Reach) -> bool:
        synced = await self._syncer.sync_app(url, keys=self._keys, reach=reach)
        if not synced.in_band:
            return bool(synced.modified)
        registration = parse_in_band(synced.body)
        done = await self._registrar.register(env, registration, synced.body, self._clock.now_ms())
        return done.modified
