"""Batch recommendation: the online slates, in parts, restartable."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import recommend
from txrec.config import Config
from txrec.errors import ConfigError, DataError
from txrec.recommender.recommender import Recommender, Request
from txrec.registry.gate import Decision
from txrec.registry.registry import Registry


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(name="shop", runs_root=str(tmp_path / "runs"))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommend, "PART_USERS", 100)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Answers the parts in this process; gives those that were asked for."""
    asked: list[int] = []

    def answer(parts: list[int], settings: tuple[str, str, int, bool], *_: object) -> recommend.Done:
        asked.extend(parts)
        done = [recommend.Answerer(*settings).write(part) for part in parts]
        return recommend.Done(*(sum(getattr(each, name) for each in done) for name in ("users", "unknown", "seconds")))

    monkeypatch.setattr(recommend, "_answer", answer)
    return asked


def rows(out: Path) -> list[dict[str, object]]:
    return [row for part in sorted(out.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


@pytest.mark.ray
def test_every_user_gets_the_slate_that_he_would_get_online(
    config: Config, tmp_path: Path, tiny_bundle: Path, ray_cluster: None
) -> None:
    out = tmp_path / "out"
    summary = recommend.run(config, "all", out, recommend.BatchOptions(top_k=7, bundle=str(tiny_bundle)))
    found = {str(row["user_id"]): row for row in rows(out)}
    online = Recommender.open(tiny_bundle)
    assert summary.num_users == len(found) == len(online.known_users())
    assert summary.num_parts == 3
    assert [str(row["user_id"]) for row in rows(out)] == list(online.known_users())
    assert summary.actor_users_per_s > 0
    for user in online.known_users()[::20]:
        slate = online.recommend([Request(user_id=user, top_k=7)])[0]
        assert found[user]["item_id"] == [item.item_id for item in slate.items]
        assert found[user]["score"] == pytest.approx([item.score for item in slate.items], rel=1e-4)


def test_an_interrupted_job_does_only_what_is_missing(
    config: Config, tmp_path: Path, tiny_bundle: Path, in_process: list[int]
) -> None:
    out = tmp_path / "out"
    recommend.run(config, "all", out, recommend.BatchOptions(bundle=str(tiny_bundle)))
    before = rows(out)
    (out / "part-00001.parquet").unlink()
    (out / "part-00001.partial").write_bytes(b"half")
    in_process.clear()
    summary = recommend.run(config, "all", out, recommend.BatchOptions(bundle=str(tiny_bundle)))
    assert in_process == [1]
    assert summary.reused_parts == 2
    assert rows(out) == before


def test_another_job_never_mixes_with_what_is_there(
    config: Config, tmp_path: Path, tiny_bundle: Path, in_process: list[int]
) -> None:
    recommend.run(config, "all", tmp_path / "out", recommend.BatchOptions(bundle=str(tiny_bundle)))
    with pytest.raises(ConfigError, match="holds the parts of another job"):
        recommend.run(config, "all", tmp_path / "out", recommend.BatchOptions(top_k=3, bundle=str(tiny_bundle)))
    assert json.loads((tmp_path / "out" / "_job.json").read_text())["top_k"] == 25
    (tmp_path / "out" / "_job.json").unlink()
    with pytest.raises(ConfigError, match=r"holds parts without _job\.json"):
        recommend.run(config, "all", tmp_path / "out", recommend.BatchOptions(bundle=str(tiny_bundle)))


@pytest.mark.parametrize("form", ["txt", "csv", "parquet"])
def test_users_come_from_lines_csv_or_parquet(
    form: str, config: Config, tmp_path: Path, tiny_bundle: Path, in_process: list[int]
) -> None:
    users = ["user-003", 'nobody, "quoted"', "user-001"]
    file = tmp_path / f"users.{form}"
    if form == "txt":
        file.write_text("\n".join(users) + "\n")
    elif form == "csv":
        file.write_text('age,user_id\n1,user-003\n2,"nobody, ""quoted"""\n3,user-001\n')
    else:
        pq.write_table(pa.table({"user_id": users, "age": [1, 2, 3]}), file)
    summary = recommend.run(
        config, str(file), tmp_path / "out", recommend.BatchOptions(top_k=4, bundle=str(tiny_bundle))
    )
    found = rows(tmp_path / "out")
    assert [row["user_id"] for row in found] == users
    assert [row["fallback"] for row in found] == [None, "unknown_user", None]
    assert all(len(row["item_id"]) == 4 for row in found)  # type: ignore[arg-type]
    assert summary.unknown_users == 1


def test_seen_items_are_left_out_on_demand(
    config: Config, tmp_path: Path, tiny_bundle: Path, in_process: list[int]
) -> None:
    (tmp_path / "users.txt").write_text("user-000\n")
    recommend.run(
        config,
        str(tmp_path / "users.txt"),
        tmp_path / "out",
        recommend.BatchOptions(bundle=str(tiny_bundle), exclude_seen=True),
    )
    history = {event.item_id for event in Recommender.open(tiny_bundle).history("user-000")}
    assert not history & set(rows(tmp_path / "out")[0]["item_id"])  # type: ignore[call-overload]


def test_the_production_bundle_of_a_registry_answers(
    config: Config, tmp_path: Path, tiny_bundle: Path, in_process: list[int]
) -> None:
    registry = Registry(tmp_path / "registry")
    with registry.locked() as version:
        registry.add(tiny_bundle, {}, Decision(version, "ndcg@10", 0.2, 0.01, 100))
    (tmp_path / "users.txt").write_text("user-001\n")
    summary = recommend.run(
        config, str(tmp_path / "users.txt"), tmp_path / "out", recommend.BatchOptions(bundle=str(registry.path))
    )
    assert summary.bundle == "v1"


def test_a_missing_file_of_users_is_named(config: Config, tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(DataError, match=r"nobody.txt: no such file; expected `all`, or a file of user ids"):
        recommend.run(
            config, str(tmp_path / "nobody.txt"), tmp_path / "out", recommend.BatchOptions(bundle=str(tiny_bundle))
        )


def test_a_table_without_user_id_is_named(config: Config, tmp_path: Path, tiny_bundle: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "users.parquet")
    with pytest.raises(DataError, match="column user_id"):
        recommend.run(
            config, str(tmp_path / "users.parquet"), tmp_path / "out", recommend.BatchOptions(bundle=str(tiny_bundle))
        )
