"""What a request may need, in the words of Kubernetes RBAC.

Runs are no objects of the API server. They are asked about as subresources of the custom resources that they belong to:
RBAC knows a subresource whether or not a URL serves it, a grant may name one function, and
`kubectl auth can-i create functions.innkeeper.dev/<name> --subresource=cancel` answers.
"""

from typing import Final, NamedTuple

GROUP: Final = "innkeeper.dev"


class Permission(NamedTuple):
    """A verb on a resource of the group `innkeeper.dev`, or on a subresource of it."""

    verb: str
    resource: str
    subresource: str = ""

    @property
    def is_change(self) -> bool:
        """Whether it lets somebody change something."""
        return self.verb not in ("get", "list", "watch")

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {what}"


SEE_RUNS: Final = Permission("list", "functions", "runs")
SEE_RUN: Final = Permission("get", "functions", "runs")
SEE_PAYLOADS: Final = Permission("get", "functions", "payload")
"""Events' data, results and outputs: they hold personal data, so who sees runs need not see these."""
CANCEL: Final = Permission("create", "functions", "cancel")
RERUN: Final = Permission("create", "functions", "rerun")
INVOKE: Final = Permission("create", "functions", "invoke")
SEE_FUNCTIONS: Final = Permission("list", "functions")
CHANGE_FUNCTION: Final = Permission("update", "functions")
SEE_APPS: Final = Permission("list", "inngestapps")
CHANGE_APP: Final = Permission("update", "inngestapps")
SEE_EVENTS: Final = Permission("list", "inngestapps", "events")
SEND_EVENTS: Final = Permission("create", "inngestapps", "events")
MAKE_WEBHOOKS: Final = Permission("create", "webhooks")

ALL: Final = (
    SEE_RUNS,
    SEE_RUN,
    SEE_PAYLOADS,
    CANCEL,
    RERUN,
    INVOKE,
    SEE_FUNCTIONS,
    CHANGE_FUNCTION,
    SEE_APPS,
    CHANGE_APP,
    SEE_EVENTS,
    SEND_EVENTS,
    MAKE_WEBHOOKS,
)


def how_to_ask(permission: Permission, namespace: str, name: str = "") -> str:
    """The command that tells whether somebody has this permission."""
    what = f"{permission.resource}.{GROUP}" + (f"/{name}" if name else "")
    sub = f" --subresource={permission.subresource}" if permission.subresource else ""
    return f"kubectl auth can-i {permission.verb} {what}{sub} -n {namespace}"
