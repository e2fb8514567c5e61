"""Where requests for an app may go: which class its URL is of, and what its environment is granted beyond that."""

import msgspec


class Reach(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is looked at before a request of an environment is dialled.

    There are two classes of URLs. The platform's (a Service of the app's own namespace, or what whoever runs the
    platform has named) may be at private addresses. A person's (`endpoint.url`, an app that registered itself, what
    `step.fetch` and `step.ai` name, and any redirect to another host or port) may be at public ones, and at `allow`.
    """

    env: str = ""
    """The environment, its branches included: names that one looks up take nothing from another."""
    allow: tuple[str, ...] = ()
    """Networks (CIDR), addresses and host names that the environment's policy grants persons."""
    public_only: bool = False
    """Whether the URL is a person's."""
