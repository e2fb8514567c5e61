"""WATCH: the changes of a kind as JSON lines, from a version on, for as long as the client wants."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping

import orjson
from aiohttp import web

from tests.kube import builtin
from tests.kube.errors import ApiError, Obj
from tests.kube.lists import View, selection, too_large
from tests.kube.selectors import Predicate
from tests.kube.store import Change, Entry, Store

_INITIAL_END = {"k8s.io/initial-events-end": "true"}


class Watch:
    """One watch. What happens is queued at once; `stream` sends it."""

    def __init__(self, store: Store, view: View, namespace: str, query: Mapping[str, str]) -> None:
        self._store = store
        self._view = view
        self._namespace = namespace
        self._predicate: Predicate | None = selection(view.kind, query)
        self._bookmarks = query.get("allowWatchBookmarks") in {"true", "1"}
        self._lines: deque[bytes] = deque()
        self._woken = asyncio.Event()
        self._ended = False
        self._version = 0
        self._stop_listening: Callable[[], None] = lambda: None
        timeout = query.get("timeoutSeconds", "")
        self._timeout_s = int(timeout) if timeout.isdigit() and int(timeout) else 1800
        self._begin(query)

    def _begin(self, query: Mapping[str, str]) -> None:
        asked = query.get("resourceVersion") or "0"
        version = int(asked) if asked.isdigit() else 0
        if version > self._store.version:
            raise too_large(version, self._store.version)
        initial = query.get("sendInitialEvents") == "true"
        if version == 0 or initial:
            for entry in self._store.entries(self._view.kind.storage, self._namespace):
                if self._selected(entry):
                    self._send("ADDED", entry)
            self._version = self._store.version
            if initial:
                self.bookmark(_INITIAL_END)
        else:
            self._version = version
            try:
                missed = self._store.since(self._view.kind.storage, version)
            except ApiError as error:
                # As the real one: the answer has begun with 200, so the error is an event.
                self.fail(error)
                return
            for change in missed:
                self._noted(change)
        self._stop_listening = self._store.listen(self._view.kind.storage, self._noted)

    def _selected(self, entry: Entry | None) -> bool:
        if entry is None:
            return False
        if self._namespace and entry.obj["metadata"].get("namespace") != self._namespace:
            return False
        return self._predicate is None or self._predicate(builtin.from_storage(self._view.kind, entry.obj))

    def _noted(self, change: Change) -> None:
        """Send a change, as seen through the selectors: what stops to match is DELETED, what begins to is ADDED."""
        self._version = change.version
        before = self._selected(change.before)
        after = change.type != "DELETED" and self._selected(change.entry)
        if before and after:
            self._send("MODIFIED", change.entry)
        elif after:
            self._send("ADDED", change.entry)
        elif before:
            assert change.before is not None
            last = change.entry if change.type == "DELETED" else _as_of(change.before, change.version)
            self._send("DELETED", last)

    def _send(self, event: str, entry: Entry) -> None:
        self._lines.append(b'{"type":"%b","object":%b}\n' % (event.encode(), self._view.raw(entry)))
        self._woken.set()

    def bookmark(self, annotations: Mapping[str, str] | None = None) -> None:
        """Tell the client how far it has come, if it wants to know."""
        if not self._bookmarks:
            return
        metadata: Obj = {"resourceVersion": str(max(self._version, self._store.version))}
        if annotations:
            metadata["annotations"] = dict(annotations)
        kind = self._view.kind
        shown: Obj = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        if self._view.metadata_only:
            shown |= {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        self._lines.append(orjson.dumps({"type": "BOOKMARK", "object": shown}) + b"\n")
        self._woken.set()

    def fail(self, error: ApiError) -> None:
        """Send an ERROR event, and end."""
        self._lines.append(orjson.dumps({"type": "ERROR", "object": error.status()}) + b"\n")
        self.end()

    def end(self) -> None:
        """End after what is queued."""
        self._ended = True
        self._stop_listening()
        self._woken.set()

    async def stream(self, response: web.StreamResponse) -> None:
        """Send until the time is over, the watch is ended, or the client is gone (ConnectionError)."""
        deadline = time.monotonic() + self._timeout_s
        try:
            while True:
                self._woken.clear()
                lines = b"".join(self._lines)
                self._lines.clear()
                if lines:
                    await response.write(lines)
                    continue
                if self._ended:
                    return
                try:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        await self._woken.wait()
                except TimeoutError:
                    self.bookmark()
                    self.end()
        finally:
            self._stop_listening()


def _as_of(entry: Entry, version: int) -> Entry:
    obj = entry.copy()
    obj["metadata"]["resourceVersion"] = str(version)
    return Entry(obj)
