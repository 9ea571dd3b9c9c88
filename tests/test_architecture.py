"""ARCHITECTURE.md shows the module tree as it is."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_tree_is_the_one_that_docs_tree_writes() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "tree.py"))
    assert (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8") == generator["page"](), "run `python docs/tree.py`"


def test_the_layers_name_every_package_of_the_library() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "tree.py"))
    packages = {path.parent.name for path in (ROOT / "txrec").glob("*/__init__.py")}
    assert packages <= set(generator["layers"]().split())


def test_every_module_is_in_the_tree_with_a_description() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = text.split("## The tree", 1)[1].split("```", 2)[1]
    lines = [line.split(maxsplit=1) for line in block.strip().splitlines()]
    modules = [path for package in ("txrec", "pipelines", "serve") for path in (ROOT / package).rglob("*.py")]
    assert len(lines) == len(modules)
    assert [name for name, *description in lines if not description] == []


def test_files_that_the_guide_sends_a_reader_to_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:txrec|pipelines|serve)/[\w/]+\.py)`", text))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
