"""Lists, in pages if asked, and how objects are shown: whole, or their metadata alone."""

import base64
from collections.abc import Mapping

import orjson

from tests.kube import builtin
from tests.kube.errors import ApiError, Obj, bad_request, gone
from tests.kube.kinds import Kind
from tests.kube.selectors import Predicate, field_selector, label_selector
from tests.kube.store import Entry, Store

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter."
)


def selection(kind: Kind, query: Mapping[str, str]) -> Predicate | None:
    """The predicate of a request's label and field selectors; None if all objects are wanted. Raises 400."""
    label = label_selector(query.get("labelSelector", ""))
    field = field_selector(query.get("fieldSelector", ""), kind.selectable)
    if label is None or field is None:
        return label or field

    def both(obj: Obj) -> bool:
        return label(obj) and field(obj)

    return both


class View:
    """How one request sees the objects of a kind."""

    def __init__(self, kind: Kind, *, metadata_only: bool) -> None:
        self.kind = kind
        self.metadata_only = metadata_only

    def object(self, obj: Obj) -> Obj:
        """An object, as it is shown."""
        if self.metadata_only:
            return {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": obj["metadata"],
            }
        return builtin.from_storage(self.kind, obj)

    def raw(self, entry: Entry) -> bytes:
        """An object as JSON."""
        if not self.metadata_only and entry.obj.get("apiVersion") == self.kind.api_version:
            return entry.raw
        return orjson.dumps(self.object(entry.obj))

    def item(self, entry: Entry) -> bytes:
        """An object as JSON within a list, where those of built-in kinds do not say what they are."""
        if self.kind.schema is not None or self.metadata_only:
            return self.raw(entry)
        shown = self.object(entry.obj)
        return orjson.dumps({k: v for k, v in shown.items() if k not in {"apiVersion", "kind"}})

    def list(self, entries: list[Entry], metadata: Obj) -> bytes:
        """A list of objects as JSON."""
        if self.metadata_only:
            head: Obj = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        else:
            head = {"kind": self.kind.list_kind, "apiVersion": self.kind.api_version}
        head["metadata"] = metadata
        items = b",".join(self.item(entry) for entry in entries)
        return orjson.dumps(head)[:-1] + b',"items":[' + items + b"]}"


class Lists:
    """LIST, with the rest of each list that was cut by `limit` kept for who asks on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rest: dict[str, tuple[int, list[Entry]]] = {}

    def answer(self, view: View, namespace: str, query: Mapping[str, str]) -> bytes:
        """The list that a request asks for, as JSON. Raises 400 and 410."""
        kind = view.kind
        token = query.get("continue", "")
        if token:
            version, entries = self._continued(token)
        else:
            version = self._store.version
            self._check_version(query, version)
            predicate = selection(kind, query)
            entries = self._store.entries(kind.storage, namespace if kind.namespaced else "")
            if predicate is not None:
                entries = [e for e in entries if predicate(builtin.from_storage(kind, e.obj))]
        metadata: Obj = {"resourceVersion": str(version)}
        limit = _number(query, "limit")
        if limit and len(entries) > limit:
            entries, rest = entries[:limit], entries[limit:]
            metadata["continue"] = self._keep(version, rest)
            if "labelSelector" not in query and "fieldSelector" not in query:
                metadata["remainingItemCount"] = len(rest)
        return view.list(entries, metadata)

    def forget(self) -> None:
        """Let no list go on that has begun."""
        self._rest.clear()

    def _keep(self, version: int, rest: list[Entry]) -> str:
        last = rest[0].obj["metadata"]
        told = {"v": "meta.k8s.io/v1", "rv": version, "start": f"{last.get('namespace', '')}/{last['name']}"}
        token = base64.urlsafe_b64encode(orjson.dumps(told)).decode().rstrip("=")
        self._rest[token] = (version, rest)
        return token

    def _continued(self, token: str) -> tuple[int, list[Entry]]:
        # Not taken out: a client may ask for the same page again.
        found = self._rest.get(token)
        if found is None or found[0] < self._store.floor:
            raise gone(_TOO_OLD)
        return found

    def _check_version(self, query: Mapping[str, str], version: int) -> None:
        asked = _number(query, "resourceVersion")
        if asked > version:
            raise too_large(asked, version)
        if query.get("resourceVersionMatch") == "Exact" and asked != version:
            raise gone(f"too old resource version: {asked} ({version})")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name) or "0"
    if not text.isdigit():
        raise bad_request(f'{name}: Invalid value: "{text}": must be a number')
    return int(text)


def too_large(asked: int, version: int) -> ApiError:
    """What a version of the future is answered with (by a real server after a while)."""
    message = f"Too large resource version: {asked}, current: {version}"
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    return ApiError(504, "Timeout", message, {"causes": causes}, retry_after_s=1)
