"""Replies of SDKs to syncs as they were recorded, and the time at which their signatures are fresh."""

import json
from pathlib import Path

from tests.apps.rawserver import http

KEY = "signkey-prod-0123456789abcdef0123456789abcdef"
OTHER = "signkey-prod-" + "ab" * 16
NOW_S = 1_795_344_097
RECORDED = {
    sync["name"]: sync["response"]
    for sync in json.loads((Path(__file__).parent / "fixtures" / "wire-syncs.json").read_bytes())
}
SDK = {"x_inngest_sdk": "inngest-js:v4.24.0", "x_inngest_sdk_handled": "true"}
UNAUTHORIZED = http(401, b'{"message":"Unauthorized"}', x_inngest_sdk_handled="true")


class RecordedClock:
    """The time at which the replies were recorded: their signatures are fresh."""

    def now_ms(self) -> int:
        """In ms."""
        return NOW_S * 1000


def recorded(name: str) -> bytes:
    """A recorded reply as bytes; Python sends its JSON with spaces, and each SDK signs what it sends."""
    response = RECORDED[name]
    separators = (",", ":") if name.startswith("js") else None
    body = json.dumps(response["body"], separators=separators).encode()
    headers = {key.replace("-", "_"): value for key, value in response["headers"].items()}
    return http(response["status"], body, **headers)
