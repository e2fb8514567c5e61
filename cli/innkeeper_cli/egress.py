"""Where apps may be, by a role's settings."""

import dataclasses

from innkeeper_apps.egress import EgressPolicy
from innkeeper_cli.settings import DevRole, Role


def app_egress(role: Role) -> EgressPolicy:
    """Where apps may be in a cluster: private addresses too, and what the operator of the platform allows."""
    return dataclasses.replace(EgressPolicy.users(role.egress_allow), allow_private=True)


def dev_egress(role: DevRole) -> EgressPolicy:
    """What a laptop may call: itself and its network, and what its owner allows."""
    allowed = EgressPolicy.users(role.egress_allow)
    dev = EgressPolicy.dev()
    return dataclasses.replace(dev, allow_networks=allowed.allow_networks, allow_hosts=allowed.allow_hosts)
