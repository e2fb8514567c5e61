"""`innkeeper operator`: custom resources become the registry."""

import os
import secrets
import socket

import structlog

from innkeeper_apps.sealing import Sealer
from innkeeper_apps.sync import Syncer
from innkeeper_apps.transport import Transport
from innkeeper_cli.egress import app_classes
from innkeeper_cli.errors import RoleError
from innkeeper_cli.settings import OperatorRole, ReleaseRole
from innkeeper_cli.stopping import Stop
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.store.connection import Address
from innkeeper_operator.cluster import Cluster, find_configuration
from innkeeper_operator.election import LeaseLostError
from innkeeper_operator.errors import ApiError, OperatorStoppedError
from innkeeper_operator.release import release
from innkeeper_operator.service import Operator
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.syncing import Asker

_log = structlog.stdlib.get_logger(__name__)


def operator_settings(role: OperatorRole) -> OperatorSettings:
    """The operator's own settings from the role's."""
    return OperatorSettings(
        namespaces=role.watch_namespaces,
        secret_mode=role.secret_mode,
        generate_keys=role.keys_generate and role.secret_mode == "Labelled",  # noqa: S105 - a mode
        auto_register=role.auto_register,
        base_url=role.base_url,
        webhooks_url=role.webhooks_url,
        lease_namespace=role.lease_namespace,
        lease_name=role.lease_name,
        default_account=role.default_account,
        environments=dict(role.environments),
        policies=dict(role.policies),
        status_counters=role.status_counters,
        cluster_domain=role.cluster_domain,
    )


async def serve(role: OperatorRole) -> None:
    """Run an operator until a signal ends it.

    Raises:
        StoreUnavailableError: no Redis or Valkey.
        RoleError: there is no way to the API server, it cannot listen, or another operator took over.
    """
    stop = Stop()
    stop.listen()
    clock = SystemClock()
    egress = app_classes(role)
    transport = Transport(egress)
    syncer = Syncer(transport, clock, server_kind="cloud")
    try:
        operator = Operator(
            operator_settings(role),
            Address.parse(role.redis_url.get_secret_value()),
            find_configuration(),
            asker=Asker(syncer, clock),
            egress=egress,
            sealer=Sealer(role.encryption_key.get_secret_value()),
            webhook_sealer=Sealer(role.webhook_key.get_secret_value()) if role.webhook_key else None,
            identity=identity(),
            host=role.host,
            port=role.port,
            metrics_port=role.metrics_port,
        )
        await stop.wait_or_fail(operator.run())
    except LeaseLostError as error:
        raise RoleError(f"{error}. This process has ended its work and should be started again") from error
    except OperatorStoppedError as error:
        raise RoleError(str(error)) from error
    finally:
        await transport.close()


def identity() -> str:
    """What this process is called in the Lease: its pod, and something that no other process of that name has."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"


async def release_all(role: ReleaseRole) -> None:
    """Take the finalizers off.

    Raises:
        RoleError: the API server cannot be reached, or refused.
    """
    try:
        cluster = Cluster(find_configuration(), SystemClock())
    except OperatorStoppedError as error:
        raise RoleError(str(error)) from error
    try:
        count = await release(cluster, role.watch_namespaces, lease=(role.lease_namespace, role.lease_name))
    except ApiError as error:
        raise RoleError(str(error)) from error
    finally:
        await cluster.close()
    _log.info("finalizers taken off", apps=count)
