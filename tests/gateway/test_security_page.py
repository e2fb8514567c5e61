"""What docs/security.md says is tested is tested."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
TABLE = [line for line in PAGE.splitlines() if line.startswith("| API")]
NAMED = re.compile(r"`(tests/[^`:]+\.py)::(\w+)`")


@functools.cache
def functions(path: Path) -> set[str]:
    """The tests of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_table_has_the_ten_risks() -> None:
    assert [line.split()[1] for line in TABLE] == [f"API{n}" for n in range(1, 11)]


@pytest.mark.parametrize("line", TABLE, ids=[line.split()[1] for line in TABLE])
def test_each_risk_has_its_tests(line: str) -> None:
    named = NAMED.findall(line)
    assert len(named) >= 2
    assert len(named) == line.count("::")
    missing = [f"{path}::{name}" for path, name in named if name not in functions(ROOT / path)]
    assert not missing, "docs/security.md names tests that there are not"


def test_links_lead_somewhere() -> None:
    for page in ("docs/security.md", "SECURITY.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"
