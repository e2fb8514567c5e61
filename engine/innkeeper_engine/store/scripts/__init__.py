"""The Lua of the store: shared libraries, one function per effect, one file per verb, joined when loaded."""

import hashlib
import re
from collections.abc import Sequence
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


MOST_UPVALUES = 55
"""Names that a function of a script takes from those around it; Lua allows 60."""

_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)
_GOES_ON = r"(?:end|else|elseif|until)\b|[})]"
_STATEMENT = re.compile(rf"^(?!{_GOES_ON})\S.*\n(?:(?:{_GOES_ON}| ).*\n|\n)*", re.MULTILINE)
_LOCAL = re.compile(r"local (?:function (\w+)|([\w, ]+))")
_EFFECT = re.compile(r"^effects\.(\w+) = ", re.MULTILINE)
_WORD = re.compile(r"\w+")


class Script(NamedTuple):
    """A verb's whole source and its SHA-1, by which EVALSHA calls it."""

    name: str
    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """The script of one verb: what it uses of the libraries, and itself.

    Every call makes all of a script's functions anew, which takes longer than most of them do. So a verb has only those
    that it can come to. What they share is looked up among the open variables around them, which takes long where those
    are many; in functions of their own, one in another, the parts have it at hand.
    """
    root = resources.files(__name__)
    parts = [_read(root.joinpath("lib", part)) for part in _names("lib")]
    if name == "apply":
        parts.append(_effects([_read(root.joinpath("effects", part)) for part in _names("effects")]))
    parts.append(_read(root.joinpath("verbs", f"{name}.lua")))
    head = "#!lua flags=allow-oom" if name in WRITING_AT_FULL_MEMORY else "#!lua"
    source = f"{head}\n{join(parts)}"
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def join(parts: Sequence[str]) -> str:
    """One script of several parts, each of which may use what those before it define; without what none uses.

    A statement of a part begins in the first column. One that only makes a function or a constant (in capitals) is left
    out where none after it names it.
    """
    used: set[str] = set()
    kept: list[list[_Statement]] = []
    for part in reversed(parts):
        kept.insert(0, [])
        for statement in reversed(_statements(part)):
            if statement.is_needed or not used.isdisjoint(statement.defines):
                used |= statement.names
                kept[0].insert(0, statement)
    text: list[str] = []
    defined: set[str] = set()
    open_functions = 0
    for n, statements in enumerate(kept):
        later = {name for part in kept[n:] for statement in part for name in statement.names}
        if text and statements and len(later & defined) <= MOST_UPVALUES:
            text.append("return (function()")
            open_functions += 1
        text += [statement.text for statement in statements]
        defined |= {name for statement in statements for name in statement.defines}
    return "\n".join([*text, *["end)()"] * open_functions])


def _effects(files: Sequence[str]) -> str:
    """Each file as a function that makes its effects, and these functions by all the names that they make."""
    functions, made_by = [], []
    for n, text in enumerate(files):
        indented = "".join(f" {line}\n" for line in _COMMENT.sub("", text).splitlines() if line)
        functions.append(f"local function file_{n}()\n{indented}end\n")
        made_by += [f"{name} = file_{n}" for name in _EFFECT.findall(text)]
    return "".join(functions) + f"files = {{{', '.join(made_by)}}}\n"


class _Statement(NamedTuple):
    text: str
    defines: frozenset[str]
    names: frozenset[str]
    """Every word in it."""
    is_needed: bool


def _statements(part: str) -> list[_Statement]:
    found = []
    for text in _STATEMENT.findall(_COMMENT.sub("", part)):
        named = _LOCAL.match(text)
        defines = frozenset(_WORD.findall(named[1] or named[2])) if named else frozenset[str]()
        is_needed = not (named and (named[1] or named[2].isupper()))
        found.append(_Statement(text.rstrip(), defines, frozenset(_WORD.findall(text)), is_needed))
    return found


def _names(folder: str) -> list[str]:
    names = (entry.name for entry in resources.files(__name__).joinpath(folder).iterdir())
    return sorted(name for name in names if name.endswith(".lua"))


def _read(path: Traversable) -> str:
    return path.read_text("utf-8")


VERBS = ("append", *sorted(WRITING_AT_FULL_MEMORY))
