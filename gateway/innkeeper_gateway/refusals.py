"""Which refusals of registrations have been told: an app that is refused asks again every few seconds."""

import hashlib

MOST_KNOWN = 1_024
"""Apps whose last refusal is remembered; names of apps come from outside."""


class Refusals:
    """Remembers of each app what its registration was refused for last; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], bytes] = {}

    def is_news(self, env: str, app: str, why: str) -> bool:
        """Whether this app has not been refused for just this before; from now on it has."""
        key, digest = _key(env, app), hashlib.sha256(why.encode(errors="replace")).digest()
        told = self._told.pop(key, None)
        if len(self._told) >= MOST_KNOWN:
            del self._told[next(iter(self._told))]
        self._told[key] = digest
        return told != digest

    def forget(self, env: str, app: str) -> None:
        """The app has registered: its next refusal is news."""
        self._told.pop(_key(env, app), None)


def _key(env: str, app: str) -> tuple[str, str]:
    return env, app[:500]
