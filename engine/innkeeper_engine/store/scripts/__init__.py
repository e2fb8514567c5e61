"""The Lua of the store: shared libraries, one function per effect, one file per verb, joined when loaded."""

import hashlib
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

WRITING_AT_FULL_MEMORY = frozenset(
    {
        "apply",
        "due",
        "peek",
        "waiters",
        "beat",
        "hello",
        "configure",
        "count",
        "heads",
        "replayable",
        "list_runs",
        "list_events",
        "backlog",
        "shed",
        "gauges",
        "watch",
    }
)
"""Finishing runs is what frees memory, so these go on when the server is full; `append` does not."""


class Script(NamedTuple):
    """A verb's whole source and its SHA-1, by which EVALSHA calls it."""

    name: str
    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """The script of one verb.

    Every call makes all of its functions anew. What they share is looked up among the open variables around them, which
    takes long where those are many; in a function of their own it is at hand: nearly half of what an empty script takes.
    """
    root = resources.files(__name__)
    parts = ["#!lua flags=allow-oom" if name in WRITING_AT_FULL_MEMORY else "#!lua"]
    shard, *libraries = [_read(root.joinpath("lib", part)) for part in _names("lib")]
    parts += [shard, "return (function()", *libraries]
    if name == "apply":
        parts += [_read(root.joinpath("effects", part)) for part in _names("effects")]
    parts.append(_read(root.joinpath("verbs", f"{name}.lua")))
    source = "\n".join([*parts, "end)()"])
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _names(folder: str) -> list[str]:
    names = (entry.name for entry in resources.files(__name__).joinpath(folder).iterdir())
    return sorted(name for name in names if name.endswith(".lua"))


def _read(path: Traversable) -> str:
    return path.read_text("utf-8")


VERBS = ("append", *sorted(WRITING_AT_FULL_MEMORY))
