"""Module tree generator: writes the layers and the tree of ARCHITECTURE.md from pyproject.toml and the docstrings.

python docs/tree.py          rewrites ARCHITECTURE.md
"""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
PACKAGES = ("txrec", "pipelines", "serve")
LAYERS = {
    "txrec": "## Layers of the library",
    "txrec.data": "### Data",
    "txrec.index": "### Index",
    "txrec.recommender": "### Recommender",
    "txrec.loop": "### Loop",
    "serve": "## Layers of the server",
    "pipelines": "## Layers of the jobs",
}
"""Heading in ARCHITECTURE.md of the layers of each package."""
WIDTH = 120


def tree() -> str:
    """One line per folder and module, indented by depth: name and first line of its docstring."""
    return "\n".join(line for package in PACKAGES for line in _folder(ROOT / package, 0))


def layers(package: str) -> str:
    """The layers of a package from top to bottom, as import-linter holds them: each imports only from those below."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (contract,) = [contract for contract in contracts if contract.get("containers") == [package]]
    names = [[name.strip("( )") for name in re.split(r"[:|]", layer)] for layer in contract["layers"]]
    present = [[name for name in layer if _module(package, name).is_file()] for layer in names]
    return "\n".join(f"  {'   '.join(layer)}" for layer in present if layer)


def page() -> str:
    """ARCHITECTURE.md with the present layers and tree instead of those that it holds."""
    text = PAGE.read_text(encoding="utf-8")
    for package, heading in LAYERS.items():
        text = _with_block(text, heading, layers(package))
    return _with_block(text, "## The tree", tree())


def _with_block(text: str, heading: str, block: str) -> str:
    """The text with another first code block below a heading."""
    before, rest = text.split(f"{heading}\n", 1)
    between, _, after = rest.split("```", 2)
    return f"{before}{heading}\n{between}```\n{block}\n```{after}"


def _module(package: str, name: str) -> Path:
    folder = ROOT.joinpath(*package.split("."))
    return folder / f"{name}.py" if (folder / f"{name}.py").is_file() else folder / name / "__init__.py"


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
