"""ARCHITECTURE.md names every module, and nothing that is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def _tree() -> set[str]:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = text.split("## The tree", 1)[1].split("```", 2)[1]
    folders: list[str] = []
    files = set()
    for line in block.strip().splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        folders = folders[:depth]
        if name.endswith("/"):
            folders.append(name)
        else:
            files.add("".join(folders) + name)
    return files


def test_the_tree_lists_exactly_the_modules() -> None:
    modules = {
        str(path.relative_to(ROOT))
        for package in ("txrec", "pipelines", "serve")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert _tree() == modules


def test_files_that_the_guide_sends_a_reader_to_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:txrec|pipelines|serve)/[\w/]+\.py)`", text))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
