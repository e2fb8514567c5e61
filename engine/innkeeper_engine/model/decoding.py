"""JSON as decisions look at it. Payloads themselves stay bytes and go through unread."""

import json
from typing import Any

import orjson


def decoded(raw: bytes) -> Any:
    """The value of stored JSON.

    JavaScript and Python may write half a character (a lone surrogate, `"\\ud83d"`, as cutting a text with an emoji
    leaves it), which no UTF-8 can hold. In what decisions see, and write into keys and notes, a `?` stands for it.

    Raises:
        ValueError: `raw` is not JSON.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return orjson.loads(json.dumps(json.loads(raw), ensure_ascii=False).encode(errors="replace"))


def shown(text: str, most: int) -> str:
    """A text as notes hold it: at most `most` characters, and `?` for half a character."""
    return text[:most].encode(errors="replace").decode()
