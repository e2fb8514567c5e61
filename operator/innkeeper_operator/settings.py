"""What one operator is told."""

from typing import Any, Literal

import msgspec

SecretMode = Literal["Labelled", "Named"]
AutoRegister = Literal["Never", "Existing", "Always"]


class OperatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of an operator, checked."""

    namespaces: tuple[str, ...] = ()
    """The namespaces to look after; none: all."""
    secret_mode: SecretMode = "Labelled"  # noqa: S105 - a mode, no secret
    """Labelled: Secrets with the label `innkeeper.dev/key`. Named: those that apps name, one by one."""
    generate_keys: bool = True
    """Make a namespace's keys where there are none."""
    auto_register: AutoRegister = "Existing"
    """What the registration of an app is worth that nobody has declared."""
    base_url: str = ""
    """Where apps reach the gateway, for the environment variables made for them."""
    webhooks_url: str = ""
    """Where providers reach the gateway, for the URLs of Webhooks; empty: where apps do."""
    lease_namespace: str = "default"
    lease_name: str = "innkeeper-operator"
    default_account: str = ""
    """The account of environments whose Namespace names none."""
    environments: dict[str, str] = {}
    """Environment by namespace, for an operator that may not read Namespaces."""
    policies: dict[str, dict[str, Any]] = {}
    """What namespaces are granted, fields of `Policy` by namespace, for such an operator."""
    status_counters: bool = True
    """Write how many runs there are into the status of Functions, and when the last request came into a Webhook's."""
    cluster_domain: str = "cluster.local"
    workers: int = 16
    """Apps that are looked at at the same time."""
    asks: int = 10
    """Apps that are asked for their functions at the same time."""
