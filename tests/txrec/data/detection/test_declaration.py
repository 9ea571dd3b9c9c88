"""Detection of shops' files: right without editing on most of them, with questions where it cannot tell."""

from pathlib import Path
from typing import Any

import pytest

from tests.txrec.data.detection import data_sets, exports, platforms  # noqa: F401 - they register their cases
from tests.txrec.data.detection.shop_files import CASES, Expected, write
from txrec.config import Config
from txrec.config_loader import load
from txrec.data.check import Check
from txrec.data.detection.declaration import Declaration, declare
from txrec.errors import ConfigError, DataError

LEAST_SHARE = 0.8
"""Share of the shops that must be read right."""


def differences(made: Declaration, expected: Expected) -> list[str]:
    """How the first rows, read by the configuration, differ from what a right one reads."""
    check: Check | None = made.check
    if check is None:
        return ["the files cannot be read"]
    logs = [one for one in check.sources if one.table == "events"]
    events: dict[str, int] = {}
    for one in logs:
        for kind, count in one.events.items():
            events[kind] = events.get(kind, 0) + count
    users = {user for one in logs for user in one.users}
    items = {item for one in logs for item in one.items}
    catalogue = [one for one in check.sources if one.table == "items"]
    from_log = len(items) if "title" in made.config.data.items_from_events else 0
    titles = sum(one.num_titles for one in catalogue if one.items >= items) or from_log
    first = min((one.span()[:16] for one in logs), default="")
    actual: dict[str, Any] = {"events": events, "users": len(users), "items": len(items), "first": first}
    wanted: dict[str, Any] = {
        "events": expected.events, "users": expected.users, "items": expected.items, "first": expected.first,
    }  # fmt: skip
    wrong = [f"{name}: {actual[name]}, expected {value}" for name, value in wanted.items() if actual[name] != value]
    wrong += [f"titles: {titles}, expected {expected.titles}"] if titles != expected.titles else []
    sources = [*made.config.data.events, *made.config.data.items]
    for canonical, name in expected.columns.items():
        if not any(source.columns.get(canonical) == name or canonical == name for source in sources):
            wrong.append(f"{canonical}: not {name}")
    return wrong


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for name, case in CASES.items():
        folder = tmp_path_factory.mktemp(name)
        files, expected = case()
        try:
            made[name] = differences(declare(write(folder, files), "shop"), expected)
        except (ConfigError, DataError) as error:
            made[name] = [f"{type(error).__name__}: {error}"]
    return made


@pytest.mark.parametrize("name", CASES)
def test_a_shop_is_read_right_without_editing(name: str, outcomes: dict[str, list[str]]) -> None:
    assert outcomes[name] == []


def test_at_least_four_of_every_five_shops_are_read_right(outcomes: dict[str, list[str]]) -> None:
    right = sum(not wrong for wrong in outcomes.values())
    assert right >= LEAST_SHARE * len(outcomes), {name: wrong for name, wrong in outcomes.items() if wrong}


def test_the_written_file_is_the_configuration_that_was_checked(tmp_path: Path) -> None:
    files, _ = CASES["german_semicolons"]()
    made = declare(write(tmp_path, files), "shop")
    (tmp_path / "shop.toml").write_text(made.text, encoding="utf-8")
    written: Config = load(tmp_path / "shop.toml")
    assert written == made.config
