"""The guide on forms of files: every file in it is read by the declaration below it, whole."""

from pathlib import Path

import pytest

from tests.documents import ROOT, Block, blocks
from txrec.config_loader import load
from txrec.data.preparation.source_check import Check, check


def _examples() -> list[list[Block]]:
    """Files and, last, the declaration that reads them."""
    made: list[list[Block]] = [[]]
    for block in blocks(ROOT / "docs" / "guides" / "files.md"):
        made[-1].append(block)
        if block.language == "toml":
            made.append([])
    return [example for example in made if example]


def _checked(folder: Path, example: list[Block]) -> Check:
    *files, declaration = example
    for file in files:
        path = folder / file.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
    (folder / "shop.toml").write_text(
        f'name = "shop"\n[data]\nroot = "{folder}"\n\n{declaration.text}', encoding="utf-8"
    )
    return check(load(folder / "shop.toml"))


@pytest.mark.parametrize("example", _examples(), ids=lambda example: example[0].title)
def test_an_example_is_read_whole_and_without_a_warning(example: list[Block], tmp_path: Path) -> None:
    made = _checked(tmp_path, example)
    assert [one.rejected for one in made.sources] == [{}]
    assert made.sources[0].num_kept >= 1
    assert made.warnings() == []


def test_the_guide_has_an_example_of_every_section() -> None:
    assert len(_examples()) >= 9
    assert {example[-1].text.split("\n", 1)[0] for example in _examples()} == {"[[data.events]]", "[[data.items]]"}
