"""The module tree: ARCHITECTURE.md shows it as it is, its folders stay small, and tests mirror it."""

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("txrec", "serve", "pipelines")
MAX_MODULES = 20
"""Modules in one folder, `__init__.py` among them: more than these are put into groups."""


def test_the_tree_is_the_one_that_docs_tree_writes() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "tree.py"))
    assert (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8") == generator["page"](), "run `python docs/tree.py`"


@pytest.mark.parametrize("package", [*PACKAGES, "txrec.data", "txrec.index", "txrec.recommender", "txrec.loop"])
def test_the_layers_name_every_folder_of_a_package(package: str) -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "tree.py"))
    folders = {path.parent.name for path in ROOT.joinpath(*package.split(".")).glob("*/__init__.py")}
    assert folders <= set(generator["layers"](package).split())


def test_no_folder_holds_more_modules_than_a_reader_can_take_in() -> None:
    folders = Counter(path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    assert {str(folder.relative_to(ROOT)): num for folder, num in folders.items() if num > MAX_MODULES} == {}


def test_folders_of_tests_have_the_names_of_the_packages_that_they_test() -> None:
    tests = [path.parent for package in PACKAGES for path in (ROOT / "tests" / package).rglob("test_*.py")]
    folders = {folder.relative_to(ROOT / "tests").as_posix() for folder in tests}
    assert folders
    assert [folder for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()] == []


def test_every_module_is_in_the_tree_with_a_description() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = text.split("## The tree", 1)[1].split("```", 2)[1]
    lines = [line.split(maxsplit=1) for line in block.strip().splitlines()]
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(lines) == len(modules)
    assert [name for name, *description in lines if not description] == []


def test_files_that_the_guide_sends_a_reader_to_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:txrec|pipelines|serve)/[\w/]+\.py)`", text))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
