"""Where each role may send requests: the two classes of URLs, by what the role is told."""

import dataclasses
from typing import Final

from innkeeper_apps.classes import Classes
from innkeeper_apps.egress import EgressPolicy
from innkeeper_cli.settings import DevRole, ExecutorRole, GatewayRole, OperatorRole, Role, SyncRole

OWN_LISTS: Final = (
    "if it may be called, put the host or its network into INNKEEPER_APPS_ALLOW of gateways and executors "
    "(such as INNKEEPER_APPS_ALLOW=app.internal,10.1.0.0/16)"
)
"""What to do about a refused URL of an app where nobody declares apps."""
_DECLARED: Final = (
    "name the app's Service by endpoint.service in place of the URL; or whoever runs the platform allows the host or its "
    "network by the annotation innkeeper.dev/egress-allow of the Namespace, or by egress.apps of the chart "
    "(INNKEEPER_APPS_ALLOW)"
)
_OWN_REQUESTS: Final = "whoever runs this server allows more by INNKEEPER_EGRESS_ALLOW of the executors"
_REQUESTS: Final = (
    "whoever runs the platform allows more by the annotation innkeeper.dev/egress-allow of the Namespace, or by "
    "egress.allow of the chart (INNKEEPER_EGRESS_ALLOW)"
)


def persons_policy(role: Role) -> EgressPolicy:
    """Where apps may be whose URL is a person's."""
    return EgressPolicy.users((*role.egress_allow, *role.apps_allow))


def app_classes(role: ExecutorRole | GatewayRole | OperatorRole | SyncRole) -> Classes:
    """Where apps may be: the platform's URLs at private addresses too, persons' where the lists say."""
    persons = persons_policy(role)
    declared = role.managed or isinstance(role, OperatorRole)
    platform = dataclasses.replace(persons, allow_private=True)
    return Classes(platform, persons, advice=_DECLARED if declared else OWN_LISTS)


def request_classes(role: ExecutorRole) -> Classes:
    """Where `step.fetch` and `step.ai` may go: their URLs are persons', always."""
    users = EgressPolicy.users(role.egress_allow)
    return Classes(users, users, advice=_REQUESTS if role.managed else _OWN_REQUESTS)


def dev_policy(role: DevRole) -> EgressPolicy:
    """What a laptop may call: itself and its network, and what its owner allows."""
    return EgressPolicy.dev().widened((*role.egress_allow, *role.apps_allow))
