"""Audience jobs: the parts together give what the library gives for all users, in a file."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import audience
from pipelines.__main__ import app
from txrec.config import Config
from txrec.errors import ConfigError, UnknownItemError
from txrec.recommender.lists.audiences import AudienceAnswer, AudienceRequest, Member
from txrec.recommender.recommender import Recommender

TENTS = AudienceRequest(category="tent", top_n=25)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(name="shop", runs_root=str(tmp_path / "runs"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers the parts in this process."""

    def answers(starts: list[int], bundle: str, request: AudienceRequest) -> Iterator[AudienceAnswer]:
        scorer = audience.Scorer(bundle, vars(request))
        for start in starts:
            (row,) = [
                {name: column[0] for name, column in scorer({"start": [start]}).items()}  # as Ray Data hands it over
            ]
            yield audience.answer_of(row)

    monkeypatch.setattr(audience, "_answers", answers)
    monkeypatch.setattr(audience, "PART_USERS", 50)


@pytest.mark.parametrize("name", ["audience.parquet", "audience.csv"])
def test_parts_of_the_users_give_the_audience_of_all(
    config: Config, tmp_path: Path, tiny_bundle: Path, in_process: None, name: str
) -> None:
    out = tmp_path / name
    summary = audience.run(config, TENTS, out, str(tiny_bundle))
    whole = Recommender.open(tiny_bundle).audience(TENTS)
    table = pl.read_parquet(out) if name.endswith("parquet") else pl.read_csv(out)
    assert table["user_id"].to_list() == [member.user_id for member in whole.members]
    assert table["score"].to_list() == pytest.approx([member.score for member in whole.members], rel=1e-4)
    assert (summary.num_members, summary.num_users, summary.num_items) == (25, 240, 10)
    assert "category 'tent'" in summary.headline()


def test_the_best_of_the_parts_are_kept_and_no_more() -> None:
    parts = [AudienceAnswer((Member(f"u{n}", n / 10, n, 0), Member(f"v{n}", 0.0, 0, 0)), 7) for n in range(1, 6)]
    best, considered = audience.merged(parts, 3, 5)
    assert best["user_id"].to_pylist() == ["u5", "u4", "u3"]
    assert considered == 35


def test_wrong_files_and_targets_are_refused_before_anything_starts(
    config: Config, tmp_path: Path, tiny_bundle: Path
) -> None:
    with pytest.raises(ConfigError, match=r"\.parquet or \.csv"):
        audience.run(config, TENTS, tmp_path / "audience.txt", str(tiny_bundle))
    with pytest.raises(UnknownItemError):
        audience.run(config, AudienceRequest(items=("none",)), tmp_path / "a.csv", str(tiny_bundle))


@pytest.mark.ray
def test_actors_write_the_audience_of_all_users(
    config: Config, tmp_path: Path, tiny_bundle: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "audience.parquet"
    audience.run(config, TENTS, out, str(tiny_bundle))
    whole = Recommender.open(tiny_bundle).audience(TENTS)
    assert pl.read_parquet(out)["user_id"].to_list() == [member.user_id for member in whole.members]


def test_the_command_takes_a_target_and_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(audience, "run", lambda *args: calls.append(args))
    monkeypatch.setattr("pipelines.__main__.show_job", lambda _config, _name, job: job(lambda *_: None))
    file = tmp_path / "shop.toml"
    file.write_text(f'name = "shop"\nruns_root = {json.dumps(str(tmp_path))}\n', encoding="utf-8")
    arguments = ["audience", str(file), "--item", "a", "--item", "b", "--top", "7", "--out", str(tmp_path / "x.csv")]
    result = CliRunner().invoke(app, [*arguments, "--exclude-buyers"])
    assert result.exit_code == 0, result.output
    ((_, request, out, bundle, _),) = calls
    assert request == AudienceRequest(("a", "b"), "", "", 7, True)
    assert (out, bundle) == (tmp_path / "x.csv", "")
