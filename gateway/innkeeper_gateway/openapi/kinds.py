"""The kinds of values that replies and bodies are made of."""

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

ULID_PATTERN: Final = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
ULID_EXAMPLE: Final = "01KANP0V9J6VXG2T2Z0J8M4S5Q"

Ulid: TypeAlias = Annotated[str, Meta(pattern=ULID_PATTERN, examples=[ULID_EXAMPLE])]
Uuid: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"format": "uuid"}, examples=["00000000-0000-4000-b000-000000000000"])
]
Instant: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"format": "date-time"}, examples=["2026-11-22T10:33:08.432Z"])
]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Object: TypeAlias = dict[str, Any]


class Metadata(msgspec.Struct):
    """About the answer itself."""

    fetched_at: Annotated[Instant, Meta(description="When what is in the answer was read.")]


class Page(msgspec.Struct):
    """Where a list goes on. A page may be short, or empty, and have a cursor: go on while `has_more` is true."""

    cursor: Annotated[str | None, Meta(description="For the next page; null on the last.")]
    has_more: bool
    limit: Annotated[int, Meta(ge=1, description="How many entries the page has at most.")]


class Error(msgspec.Struct):
    """Why a request was refused."""

    error: Annotated[
        str,
        Meta(
            description="One sentence: what is wrong, where, and what would be right.",
            examples=[f"Run not found: {ULID_EXAMPLE}"],
        ),
    ]
    data: Annotated[Any, Meta(description="More of it where there is more, else null.")]
    status: Annotated[int, Meta(ge=400, le=599, description="The HTTP status.", examples=[404])]
