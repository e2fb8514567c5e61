"""Objects by kind, one counter of versions, the history of changes, and who watches."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import orjson

from tests.kube.errors import Obj, gone

Storage = tuple[str, str]
"""Group and plural: what versions of a kind share."""
Key = tuple[Storage, str, str]
"""Storage, namespace ("" for cluster-wide kinds), name."""


class Entry:
    """One version of one object. `obj` is never changed: a write makes another entry."""

    __slots__ = ("obj", "raw", "version")

    def __init__(self, obj: Obj) -> None:
        self.obj = obj
        self.raw = orjson.dumps(obj)
        self.version = int(obj["metadata"]["resourceVersion"])

    def copy(self) -> Obj:
        """The object, for changing."""
        return orjson.loads(self.raw)  # type: ignore[no-any-return]


class Change(NamedTuple):
    """One write: `entry` is the object after it (of a deletion: as it was last), `before` what it replaced."""

    version: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    storage: Storage
    entry: Entry
    before: Entry | None


class Store:
    """All objects of one emulated cluster. Not safe for threads: everything happens in one event loop."""

    def __init__(self, window: int) -> None:
        self.window = window
        """How many changes are kept for watches that start in the past."""
        self.version = 1
        self.floor = 0
        """Changes up to this version are forgotten: a watch from before it gets 410."""
        self.on_change: Callable[[Key, Change], None] | None = None
        """Told of each change of any kind, before those who watch."""
        self._objects: dict[Storage, dict[tuple[str, str], Entry]] = {}
        self._history: deque[Change] = deque()
        self._listeners: dict[Storage, set[Callable[[Change], None]]] = {}
        self._uids: dict[str, Key] = {}
        self._dependents: dict[str, set[Key]] = {}

    def get(self, key: Key) -> Entry | None:
        return self._objects.get(key[0], {}).get(key[1:])

    def entries(self, storage: Storage, namespace: str = "") -> list[Entry]:
        """The objects of a kind, of one namespace or all, in the order of lists: by namespace, then name."""
        found = self._objects.get(storage, {})
        return [entry for (where, _), entry in sorted(found.items()) if not namespace or where == namespace]

    def in_namespace(self, namespace: str) -> Iterator[Key]:
        """Every object in a namespace."""
        for storage, found in list(self._objects.items()):
            for where, name in list(found):
                if where == namespace:
                    yield storage, where, name

    def by_uid(self, uid: str) -> Key | None:
        """Which object has a uid; None if it is gone."""
        return self._uids.get(uid)

    def dependents(self, uid: str) -> list[Key]:
        """The objects that name a uid as an owner."""
        return sorted(self._dependents.get(uid, ()))

    def put(self, key: Key, obj: Obj) -> Entry:
        """Store an object, under the next version."""
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        before = self.get(key)
        entry = Entry(obj)
        self._objects.setdefault(key[0], {})[key[1:]] = entry
        self._index(key, before, entry)
        self._record(key, Change(self.version, "MODIFIED" if before else "ADDED", key[0], entry, before))
        return entry

    def remove(self, key: Key, last: Obj | None = None) -> Entry:
        """Take an object away, whose last state was `last`. Raises KeyError if it is not there."""
        before = self._objects[key[0]].pop(key[1:])
        self.version += 1
        obj = before.copy() if last is None else last
        obj["metadata"]["resourceVersion"] = str(self.version)
        entry = Entry(obj)
        self._index(key, before, None)
        self._record(key, Change(self.version, "DELETED", key[0], entry, before))
        return entry

    def since(self, storage: Storage, version: int) -> list[Change]:
        """The changes of a kind after a version. Raises 410 if they are not all kept."""
        if version < self.floor:
            raise gone(f"too old resource version: {version} ({self.floor})")
        return [c for c in self._history if c.version > version and c.storage == storage]

    def listen(self, storage: Storage, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` at each change of a kind, until what this returns is called."""
        listeners = self._listeners.setdefault(storage, set())
        listeners.add(listener)
        return lambda: listeners.discard(listener)

    def resize(self, window: int) -> None:
        """Keep that many changes from now on, and forget those that are more."""
        self.window = window
        self._forget()

    def _forget(self) -> None:
        while len(self._history) > self.window:
            self.floor = self._history.popleft().version

    def compact(self) -> None:
        """Forget all changes, and make every version that anybody has seen too old to watch from."""
        self.version += 1
        self.floor = self.version
        self._history.clear()

    def _index(self, key: Key, before: Entry | None, after: Entry | None) -> None:
        if before:
            self._uids.pop(before.obj["metadata"]["uid"], None)
            for uid in _owners(before.obj):
                self._dependents.get(uid, set()).discard(key)
        if after:
            self._uids[after.obj["metadata"]["uid"]] = key
            for uid in _owners(after.obj):
                self._dependents.setdefault(uid, set()).add(key)

    def _record(self, key: Key, change: Change) -> None:
        self._history.append(change)
        self._forget()
        if self.on_change is not None:
            self.on_change(key, change)
        for listener in list(self._listeners.get(change.storage, ())):
            listener(change)


def _owners(obj: Obj) -> list[str]:
    return [owner["uid"] for owner in obj["metadata"].get("ownerReferences") or []]
