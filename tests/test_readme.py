"""The README keeps its promises: its commands exist and its tree is the tree."""

import re
import subprocess
from pathlib import Path

from txrec.config import Config
from txrec.config_loader import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_first_two_commands_are_make_demo_and_make_test() -> None:
    assert BLOCKS[0].split("\n")[:2] == ["make demo", "make test"]


def test_make_knows_both_commands_and_what_they_run() -> None:
    for target, runs in (("demo", "txrec demo configs/demo.toml"), ("test", "python -m pytest")):
        dry = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
        assert runs in dry.stdout


def test_make_passes_data_and_once_on() -> None:
    command = ["make", "-n", "demo", "ONCE=1", "CONFIG=configs/bestbuy.toml", "DATA=/somewhere"]
    dry = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "txrec demo configs/bestbuy.toml data.root=/somewhere --once" in dry.stdout


def test_everything_in_the_tree_exists_and_every_package_is_in_it() -> None:
    tree = next(block for block in BLOCKS if block.startswith("txrec/ "))
    named = set()
    for line in tree.splitlines():
        *extra, last = [word for word in line.split("  ")[0].split() if word]
        named |= {*extra, last}
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []
    packages = {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")}
    assert packages <= named


def test_every_configuration_named_in_the_readme_loads() -> None:
    named = set(re.findall(r"configs/([\w.-]+\.toml)", README))
    assert named
    for name in named:
        assert isinstance(load(ROOT / "configs" / name), Config)


def test_the_example_configuration_is_valid(tmp_path: Path) -> None:
    example = next(block for block in BLOCKS if 'name = "shop"' in block)
    (tmp_path / "shop.toml").write_text(example)
    config = load(tmp_path / "shop.toml")
    assert config.data.events[0].columns["ts"] == "clicked_at"


def test_the_chinese_readme_has_the_same_commands_and_links() -> None:
    chinese = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", chinese, flags=re.MULTILINE | re.DOTALL)
    assert [_without_comments(block) for block in blocks] == [_without_comments(block) for block in BLOCKS]
    links = [set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh-CN.md"} for text in (README, chinese)]
    assert links[0] == links[1]


def _without_comments(block: str) -> list[str]:
    return [re.split(r"\s{2,}", line.strip())[0] for line in block.splitlines()]
