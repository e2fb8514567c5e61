"""What the document says of one route, besides its parameters and description, which are the route's own."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from innkeeper_gateway.openapi import kinds

Wrap = Literal["data", "page", "letters", "bare"]
Who = Literal["caller", "app", "path", "nobody"]


class Reply(msgspec.Struct, frozen=True):
    """One successful answer."""

    description: str
    type: Any = None
    """None: the body is empty."""
    wrap: Wrap = "data"
    """How the answer holds it: as `data`, as `data` with a `page`, or as it is."""
    media: str = "application/json"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What a route answers and takes."""

    id: str
    tag: str
    summary: str
    replies: Mapping[int, Reply]
    refusals: tuple[int, ...] = ()
    """Statuses of errors, besides those that all who are let in by the same credentials may get."""
    error: Any = kinds.Error
    """What the body of an error is."""
    body: Any = None
    """None: no body is read."""
    body_required: bool = True
    who: Who = "caller"
    """Who is let in: callers of the API, apps with a signing key, whoever knows the path, anybody."""
    description: str = ""
    """Of what has no route in FastAPI."""
    method_parameters: tuple[str, ...] = ()
    """Names of components: header parameters of its own."""


Key: TypeAlias = tuple[str, str]
"""Method and path."""
