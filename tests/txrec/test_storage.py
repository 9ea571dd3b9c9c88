"""Atomic writes: readers see the old content or the new one, never a part."""

from pathlib import Path

import pytest

from txrec.storage import replace_file, replace_folder, write_text


def test_a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "report.json"
    write_text(file, "first")
    with replace_file(file) as fresh:
        fresh.write_text("second")
        assert file.read_text() == "first"
        assert list(file.parent.glob("*.json")) == [file]
    assert file.read_text() == "second"
    assert [path.name for path in file.parent.iterdir()] == ["report.json"]


def test_an_error_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    write_text(file, "first")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "half \ud800")
    assert file.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    for names in (["a", "b"], ["c"]):
        with replace_folder(folder) as fresh:
            for name in names:
                (fresh / name).write_text(name)
    assert [path.name for path in folder.iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_error_keeps_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with replace_folder(folder) as fresh:
        (fresh / "a").write_text("a")

    def broken() -> None:
        with replace_folder(folder) as fresh:
            (fresh / "b").write_text("b")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        broken()
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
