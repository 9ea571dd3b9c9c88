"""Module tree generator: writes the tree of ARCHITECTURE.md from the first lines of the modules' docstrings.

python docs/tree.py          rewrites ARCHITECTURE.md
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
PACKAGES = ("txrec", "pipelines", "serve")
WIDTH = 120


def tree() -> str:
    """One line per folder and module, indented by depth: name and first line of its docstring."""
    return "\n".join(line for package in PACKAGES for line in _folder(ROOT / package, 0))


def page() -> str:
    """ARCHITECTURE.md with the present tree in place of the one it holds."""
    before, rest = PAGE.read_text(encoding="utf-8").split("## The tree\n", 1)
    after = rest.split("```", 2)[2]
    return f"{before}## The tree\n\n```\n{tree()}\n```{after}"


def _folder(folder: Path, depth: int) -> list[str]:
    lines = [_line(f"{folder.name}/", folder / "__init__.py", depth)]
    modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    lines += [_line(path.name, path, depth + 1) for path in modules]
    for child in sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file()):
        lines += _folder(child, depth + 1)
    return lines


def _line(name: str, module: Path, depth: int) -> str:
    doc = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    line = f"{'  ' * depth}{name:<{30 - 2 * depth}} {doc.splitlines()[0] if doc else ''}".rstrip(". ")
    return line if len(line) <= WIDTH else line[: WIDTH - 3].rsplit(" ", 1)[0] + " ..."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
