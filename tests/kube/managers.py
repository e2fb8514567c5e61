"""Field managers: who owns which field, and what server-side apply makes of it.

The rules are those of structured-merge-diff: an ordinary write takes what it changed from everybody; an apply must not
change what somebody else owns, unless forced, shares what it applies with equal values, and removes what its manager
applied before, no longer sends, and nobody else owns.
"""

from typing import NamedTuple

from tests.kube.errors import Obj, apply_conflict
from tests.kube.fields import PRESENT, Leaves, Path, from_tree, leaves_of, printed, put, remove, to_tree


class Manager(NamedTuple):
    """Who writes: the same name by another operation or through another subresource is somebody else."""

    name: str
    operation: str
    """`Apply` or `Update`."""
    api_version: str
    """Of an `Update`; "" of an `Apply`, whose manager is one in all versions of a kind."""
    subresource: str = ""


class Owned(NamedTuple):
    """What one manager owns, in which version of the kind, and since when (RFC 3339, seconds)."""

    paths: frozenset[Path]
    api_version: str
    time: str


Managers = dict[Manager, Owned]
Stamp = tuple[str, str]
"""Version of the kind and time of a write."""


def parse_managers(entries: object) -> Managers:
    """The managers of an object's `metadata.managedFields`; entries that are no entries are left out."""
    found: Managers = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("operation") in {"Apply", "Update"}:
            version = str(entry.get("apiVersion", ""))
            who = Manager(
                str(entry.get("manager", "")),
                entry["operation"],
                version if entry["operation"] == "Update" else "",
                str(entry.get("subresource", "")),
            )
            paths = frozenset(from_tree(entry.get("fieldsV1") or {}))
            found[who] = Owned(paths, version, str(entry.get("time", "")))
    return found


def written_managers(managers: Managers) -> list[Obj]:
    """`metadata.managedFields`: applies first, then by time and name."""
    entries: list[Obj] = []
    for who, owned in sorted(
        managers.items(),
        key=lambda pair: (pair[0].operation, pair[1].time, pair[0].name, pair[0].subresource),
    ):
        entry: Obj = {
            "manager": who.name,
            "operation": who.operation,
            "apiVersion": owned.api_version,
            "time": owned.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_tree(owned.paths),
        }
        if who.subresource:
            entry["subresource"] = who.subresource
        entries.append(entry)
    return entries


def same_owners(one: Managers, other: Managers) -> bool:
    """Whether everybody owns the same, whatever the times."""
    return {who: owned[:2] for who, owned in one.items()} == {who: owned[:2] for who, owned in other.items()}


def after_update(managers: Managers, me: Manager, before: Leaves, after: Leaves, stamp: Stamp) -> Managers:
    """Owners after an ordinary write that turned `before` into `after`."""
    changed = frozenset(p for p, value in after.items() if p not in before or before[p] != value)
    removed = frozenset(p for p in before if p not in after)
    result = _without(managers, me, changed | removed)
    mine = managers.get(me, Owned(frozenset(), *stamp))
    paths = (mine.paths - removed) | changed
    if paths:
        moved = bool(changed or removed & mine.paths)
        result[me] = Owned(paths, *stamp) if moved else mine
    return result


def _without(managers: Managers, me: Manager, lost: frozenset[Path]) -> Managers:
    result: Managers = {}
    for who, owned in managers.items():
        if who != me and (kept := owned.paths - lost):
            result[who] = owned._replace(paths=kept)
    return result


def apply(
    live: Obj, applied: Obj, schema: Obj, managers: Managers, me: Manager, stamp: Stamp, *, force: bool
) -> Managers:
    """Make `live` what it is after `me` applied `applied`; returns who owns what then.

    Raises 409 with a cause per field if somebody else owns a field with another value and `force` is off.
    """
    mine = leaves_of(applied, schema)
    known = leaves_of(live, schema)
    changed = {path for path, value in mine.items() if _differs(path, value, known)}
    contested = {
        (who, path) for who, owned in managers.items() if who != me for path in owned.paths & changed
    }
    if contested and not force:
        raise apply_conflict([(_printed_owner(who), printed(path)) for who, path in contested])
    result = _without(managers, me, frozenset(path for _, path in contested))
    before = managers.get(me, Owned(frozenset(), *stamp))
    for path, value in mine.items():
        put(live, path, value)
    held = set(mine).union(*(owned.paths for owned in result.values()))
    # An item of a list before what is in it, since its key is what it is found by; it stays while anybody owns
    # something in it.
    for path in sorted(before.paths - mine.keys(), key=len):
        if not any(other[: len(path)] == path for other in held):
            remove(live, path, held)
    if mine:
        moved = bool(changed) or before.paths != mine.keys()
        result[me] = Owned(frozenset(mine), *stamp) if moved else before
    return result


def _differs(path: Path, value: object, known: Leaves) -> bool:
    if value is PRESENT:
        return not any(other[: len(path)] == path for other in known)
    return path not in known or known[path] != value


def _printed_owner(who: Manager) -> str:
    told = f'"{who.name}"'
    if who.subresource:
        told += f' with subresource "{who.subresource}"'
    return f"{told} using {who.api_version}" if who.api_version else told
