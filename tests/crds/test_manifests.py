"""Every manifest that the repository shows to people is one that an API server would take."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.crds.rules import Json, load_crds, schema_of, validate
from tests.crds.schemas import fields

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference" / "custom-resources.md"

_FENCE = re.compile(r"^(?P<indent> *)```ya?ml[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE)
_SKIPPED = {"node_modules", ".venv"}


def _documents(file: Path) -> Iterator[tuple[int, Json]]:
    """The YAML documents of a manifest, or of the fenced blocks of a page, with the line where each text begins."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        texts = [
            (text.count("\n", 0, block.start("text")) + 1, block["text"]) for block in _FENCE.finditer(text)
        ]
    else:
        texts = [(1, text)]
    for line, part in texts:
        yield from (
            (line, document)
            for document in yaml.load_all(part, yaml.CSafeLoader)
            if isinstance(document, dict)
        )


def _manifests() -> Iterator[tuple[str, Json]]:
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    files += [file for suffix in ("yaml", "yml", "md") for file in (ROOT / "examples").rglob(f"*.{suffix}")]
    for file in sorted(file for file in files if not _SKIPPED & set(file.parts)):
        for line, document in _documents(file):
            if str(document.get("apiVersion", "")).startswith("innkeeper.dev/"):
                name = (
                    f"{file.relative_to(ROOT)}:{line} {document.get('kind')} {document['metadata']['name']}"
                )
                yield name, document


MANIFESTS = list(_manifests())


@pytest.mark.parametrize("manifest", [found for _, found in MANIFESTS], ids=[name for name, _ in MANIFESTS])
def test_a_shown_manifest_is_valid(manifest: Json) -> None:
    assert validate(manifest) == []


def test_manifests_are_found_in_pages_and_examples() -> None:
    places = {name.split(":", 1)[0] for name, _ in MANIFESTS}
    assert "docs/reference/custom-resources.md" in places
    assert any(place.startswith("examples/") for place in places)


def test_the_reference_shows_every_field_of_every_spec() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    documents = [document for _, document in _documents(REFERENCE)]
    for kind, crd in load_crds().items():
        shown = {name for document in documents if document.get("kind") == kind for name in document["spec"]}
        known = {
            field.path.split(".")[1]
            for field in fields(schema_of(crd))
            if re.fullmatch(r"spec\.\w+", field.path)
        }
        assert shown == known
        assert all(f"`{name}`" in text for name in known)
