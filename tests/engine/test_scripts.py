"""How scripts are put together: what they can come to is there, and no more."""

import re
from importlib import resources

import pytest

from innkeeper_engine.store import scripts
from innkeeper_engine.store.scripts import Part, join


def test_what_nothing_names_is_left_out() -> None:
    first = "local A = 1\nlocal B = 2\nlocal function one() return A end\n\nlocal function two()\n  return B\nend\n"
    assert join([Part("10_a.lua", first), Part("verb", "return one()\n")]) == (
        "local A = 1\nlocal function one() return A end\nreturn one()"
    )


def test_what_is_done_and_not_only_defined_stays() -> None:
    source = join(
        [Part("10_a.lua", "local now = 1\nif now then\n  now = 2\nend\n"), Part("verb", "return 3\n")]
    )
    assert source == "local now = 1\nif now then\n  now = 2\nend\nreturn 3"


def test_rare_parts_are_made_by_the_first_call_of_one_of_their_functions() -> None:
    rare = "local T = {}\nlocal function a() return T end\nlocal function b() return a() end\nlocal function c() end\n"
    parts = [Part("10_x.rare.lua", rare), Part("verb", "local t = {}\nreturn t.b() + b() + b()\n")]
    source = join(parts)
    assert "local function c" not in source
    assert source.endswith("return t.b() + rare_0().b() + rare_0().b()")
    maker = source[source.index("local function rare_0") : source.index("local t")]
    # Among themselves they know each other, and what only they use is made with them.
    assert "local T = {}" in maker
    assert "return a() end" in maker
    assert "made_0 = {b = b}" in maker
    assert "rare_0" not in join(parts, with_rare_parts=False)


def test_functions_of_rare_parts_have_names_that_nothing_else_has() -> None:
    """Calls are found by their names alone."""
    texts = {}
    root = resources.files(scripts.__name__)
    for folder in ("lib", "effects", "verbs"):
        for file in root.joinpath(folder).iterdir():
            if file.name.endswith(".lua"):
                texts[file.name] = re.sub(r"--.*", "", file.read_text("utf-8"))
    names = [
        name
        for file, text in texts.items()
        if file.endswith(".rare.lua")
        for name in re.findall(r"^local function (\w+)", text, re.MULTILINE)
    ]
    assert len(names) > 40
    for name in names:
        defined = [file for file, text in texts.items() if re.search(rf"\bfunction {name}\b", text)]
        assert len(defined) == 1, (name, defined)
        as_variable = rf"\blocal {name}\b|\bfor [\w, ]*\b{name}\b|function[ \w.]*\([^)]*\b{name}\b"
        assert not [file for file, text in texts.items() if re.search(as_variable, text)], name


@pytest.mark.parametrize("verb", scripts.VERBS)
def test_no_function_takes_more_from_around_it_than_lua_allows(verb: str) -> None:
    """Lua says so when the script is loaded; here, which one it is. And no script has what it cannot come to."""
    source = scripts.load(verb).source
    defined = re.findall(r"^local function (\w+)", source, re.MULTILINE)
    unused = [name for name in defined if len(re.findall(rf"\b{name}\b", source)) < 2]
    assert not [name for name in unused if not name.startswith("rare_")]
    assert source.count("return (function()") == source.count("\nend)()")
