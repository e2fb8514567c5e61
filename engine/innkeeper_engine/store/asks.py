"""What the operator is asked to do about apps, until it has done it: to look at one again, or to ask it right now.

`asks` is a hash, what and for which app -> a token that names just this wish. The bell is that of registrations, so the
operator waits at one list only.
"""

from typing import Final, Literal, NamedTuple

from innkeeper_engine.store.registrations import REGISTRATIONS_BELL
from innkeeper_engine.store.store import Store

What = Literal["look", "sync"]

_KINDS: Final[dict[str, What]] = {"look": "look", "sync": "sync"}

_ASK = """#!lua
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('LLEN', KEYS[2]) == 0 then redis.call('RPUSH', KEYS[2], '1') end
return 1
"""

_DONE = """#!lua flags=allow-oom
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
"""


class Wish(NamedTuple):
    """Something that the operator is asked to do about an app."""

    what: What
    """look: a switch of it has changed (`Store.configure` leaves this one). sync: ask it for its functions now."""
    env: str
    app_id: str
    token: str
    """Names just this one: a later one of the same app has another."""

    @property
    def field(self) -> str:
        """What it is kept under: one of each kind for each app."""
        # No name of an environment holds a line break; that of an app may.
        return f"{self.what}\n{self.env}\n{self.app_id}"


class Asks:
    """Wishes on their way from gateways to the operator, the latest of each app. One round trip each."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def leave(self, wish: Wish) -> None:
        """Leave a wish, in place of the one of its kind before it, and ring the bell."""
        bell = self._store.key(REGISTRATIONS_BELL)
        await self._store.command("EVAL", _ASK, 2, self._key, bell, wish.field, wish.token)

    async def left(self) -> list[Wish]:
        """All that wait, by kind, environment and app. Those of a kind that is not known here stay where they are."""
        flat = await self._store.command("HGETALL", self._key)
        found = []
        for field, token in zip(flat[::2], flat[1::2], strict=True):
            kind, env, app_id = field.decode().split("\n", 2)
            what = _KINDS.get(kind)
            if what is not None:
                found.append(Wish(what, env, app_id, token.decode()))
        return sorted(found)

    async def done(self, wish: Wish) -> bool:
        """Take a wish away; False where there is another one by now, or none."""
        return bool(await self._store.command("EVAL", _DONE, 1, self._key, wish.field, wish.token))

    @property
    def _key(self) -> str:
        return self._store.key("asks")
