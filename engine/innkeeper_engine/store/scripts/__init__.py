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

FUNCTIONS_TOGETHER = 8
"""So many at least are in one function around them."""

WITH_RARE_PARTS = frozenset({"apply", "due", "hello", "configure"})
"""Verbs with many functions, of which a call needs few."""

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
    that it can come to, and what is rare there (files named so) is made when it is asked for. What functions share is
    looked up among the open variables around them, which takes long where those are many; in functions of their own, one
    in another, the parts have it at hand.
    """
    root = resources.files(__name__)
    parts = [Part(part, _read(root.joinpath("lib", part))) for part in _names("lib")]
    if name == "apply":
        effects = [_read(root.joinpath("effects", part)) for part in _names("effects")]
        parts.append(Part("effects", _effects(effects)))
    parts.append(Part(name, _read(root.joinpath("verbs", f"{name}.lua"))))
    head = "#!lua flags=allow-oom" if name in WRITING_AT_FULL_MEMORY else "#!lua"
    source = f"{head}\n{join(parts, name in WITH_RARE_PARTS)}"
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


class Part(NamedTuple):
    """A file of Lua, whose statements begin in the first column."""

    name: str
    text: str

    @property
    def is_rare(self) -> bool:
        """Whether most calls can do without its functions."""
        return self.name.endswith(".rare.lua")


def join(parts: Sequence[Part], with_rare_parts: bool = True) -> str:
    """One script of several parts, each of which may use what those before it define; without what none uses.

    What only makes a function or a constant (in capitals) is left out where no statement after it names it. Where parts
    may be rare, calls of their functions from elsewhere become calls of what makes them.
    """
    kept = _used([_statements(part.text) for part in parts])
    if with_rare_parts:
        for n, part in enumerate(parts):
            if part.is_rare:
                used = {name for later in kept[n + 1 :] for statement in later for name in statement.names}
                kept[n], exported = _made_when_asked(n, kept[n], used)
                for later in range(n + 1, len(kept)):
                    kept[later] = [_with_calls(statement, n, exported) for statement in kept[later]]
    text: list[str] = []
    defined: set[str] = set()
    open_functions, since = 0, 0
    for n, statements in enumerate(kept):
        names = {name for later in kept[n:] for statement in later for name in statement.names}
        if statements and since >= FUNCTIONS_TOGETHER and len(names & defined) <= MOST_UPVALUES:
            text.append("return (function()")
            open_functions, since = open_functions + 1, 0
        text += [statement.text for statement in statements]
        since += sum(statement.is_function for statement in statements)
        defined |= {name for statement in statements for name in statement.defines}
    return "\n".join([*text, *["end)()"] * open_functions])


class _Statement(NamedTuple):
    text: str
    defines: frozenset[str] = frozenset()
    is_function: bool = False
    is_needed: bool = True

    @property
    def names(self) -> frozenset[str]:
        """Every word in it."""
        return frozenset(_WORD.findall(self.text))


def _statements(part: str) -> list[_Statement]:
    found = []
    for text in _STATEMENT.findall(_COMMENT.sub("", part)):
        named = _LOCAL.match(text)
        defines = frozenset(_WORD.findall(named[1] or named[2])) if named else frozenset[str]()
        is_function = named is not None and named[1] is not None
        is_needed = not (is_function or (named and named[2].isupper()))
        found.append(_Statement(text.rstrip(), defines, is_function, is_needed))
    return found


def _used(parts: Sequence[Sequence[_Statement]]) -> list[list[_Statement]]:
    used: set[str] = set()
    kept: list[list[_Statement]] = []
    for part in reversed(parts):
        kept.insert(0, [])
        for statement in reversed(part):
            if statement.is_needed or not used.isdisjoint(statement.defines):
                used |= statement.names
                kept[0].insert(0, statement)
    return kept


def _made_when_asked(
    n: int, statements: Sequence[_Statement], used: set[str]
) -> tuple[list[_Statement], frozenset[str]]:
    """What there must be from the beginning, and one function, `rare_<n>`, that makes those of the part; their names.

    `used`: names in what comes after the part. Variables that are not among them are made with the functions.
    """
    exported = frozenset(name for each in statements if each.is_function for name in each.defines)
    if not exported:
        return list(statements), exported
    inside = [each for each in statements if each.is_function or used.isdisjoint(each.defines)]
    outside = [each for each in statements if each not in inside]
    table = ", ".join(f"{name} = {name}" for name in sorted(exported & used))
    bodies = "\n".join(each.text for each in inside)
    once = f"if made_{n} then return made_{n} end"
    maker = f"local function rare_{n}()\n{once}\n{bodies}\nmade_{n} = {{{table}}}\nreturn made_{n}\nend"
    return [
        *outside,
        _Statement(f"local made_{n}", frozenset({f"made_{n}"})),
        _Statement(maker, frozenset({f"rare_{n}"}), is_function=True),
    ], exported


def _with_calls(statement: _Statement, n: int, exported: frozenset[str]) -> _Statement:
    names = "|".join(sorted(exported & statement.names))
    if not names:
        return statement
    return statement._replace(text=re.sub(rf"(?<![\w.:])(?:{names})\(", rf"rare_{n}().\g<0>", statement.text))


def _effects(files: Sequence[str]) -> str:
    """Each file as a function that makes its effects, and these functions by all the names that they make."""
    functions, made_by = [], []
    for n, text in enumerate(files):
        indented = "".join(f" {line}\n" for line in _COMMENT.sub("", text).splitlines() if line)
        functions.append(f"local function file_{n}()\n{indented}end\n")
        made_by += [f"{name} = file_{n}" for name in _EFFECT.findall(text)]
    return "".join(functions) + f"files = {{{', '.join(made_by)}}}\n"


def _names(folder: str) -> list[str]:
    names = (entry.name for entry in resources.files(__name__).joinpath(folder).iterdir())
    return sorted(name for name in names if name.endswith(".lua"))


def _read(path: Traversable) -> str:
    return path.read_text("utf-8")


VERBS = ("append", *sorted(WRITING_AT_FULL_MEMORY))
