"""Where a role answers probes and Prometheus."""

from collections.abc import Callable

from innkeeper_cli.errors import RoleError
from innkeeper_engine.exporting import Exporter
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.probes import Checks, Probes, ProbesStartError
from innkeeper_engine.store.store import Store


class Showing:
    """Serves `/live`, `/ready` and `/metrics` on each of some ports."""

    def __init__(
        self, ready: Callable[[], Checks], store: Store, *, host: str, ports: tuple[int | None, ...]
    ) -> None:
        """`ports`: where; None stands for nowhere, one that is named twice for itself."""
        exporter = Exporter(store, SystemClock(), store.metrics)
        wanted = dict.fromkeys(port for port in ports if port is not None)
        self._probes = [Probes(ready, exporter.text, host=host, port=port) for port in wanted]

    @property
    def ports(self) -> list[int]:
        """Where they are served, once `start` is over."""
        return [probes.port for probes in self._probes]

    async def start(self) -> None:
        """Listen.

        Raises:
            RoleError: an address is taken, or not this machine's.
        """
        try:
            for probes in self._probes:
                await probes.start()
        except ProbesStartError as error:
            raise RoleError(
                f"{error}; choose another with --port, --host or INNKEEPER_METRICS_PORT"
            ) from error

    async def stop(self) -> None:
        """Listen no more."""
        for probes in self._probes:
            await probes.stop()
