import gzip
import hashlib
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from txrec import simulator
from txrec.config import ShopConfig
from txrec.config_loader import load
from txrec.data.preparation import preparation
from txrec.simulator import Shop, files
from txrec.simulator.oracle import Oracle
from txrec.simulator.words import TYPES

SMALL = ShopConfig(num_items=480, num_users=300, num_events=12_000)


@pytest.fixture(scope="module")
def small() -> Shop:
    return Shop.generate(SMALL)


@pytest.fixture(scope="module")
def timed() -> tuple[Shop, float]:
    """The default shop, and the seconds of this process that it took."""
    started = time.process_time()
    return Shop.generate(ShopConfig()), time.process_time() - started


@pytest.fixture
def default(timed: tuple[Shop, float]) -> Shop:
    return timed[0]


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulator.write(ShopConfig(seed=seed, num_items=100, num_users=50, num_events=1_000), tmp_path / folder)
    digests = {folder: _digest(tmp_path / folder) for folder in "abc"}
    assert digests["a"] == digests["b"] != digests["c"]


def test_groups_of_tastes_change_what_users_like_and_nothing_else(tmp_path: Path) -> None:
    plain = ShopConfig(num_items=100, num_users=60, num_events=1_000)
    grouped = plain.model_copy(update={"taste_groups": 3, "taste_share": 0.9})
    one, other = Shop.generate(plain), Shop.generate(grouped)
    assert one.tastes.group is None
    assert one.catalogue.products == other.catalogue.products
    assert (one.tastes.brand == other.tastes.brand).all()
    assert (one.actions.second == other.actions.second).all()
    simulator.write(plain, tmp_path / "plain")
    simulator.write(grouped, tmp_path / "grouped")
    assert not (tmp_path / "plain" / "users.csv").exists()
    rows = (tmp_path / "grouped" / "users.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 61
    group = other.tastes.group
    assert group is not None
    assert rows[1].startswith(f"u00000,style-{group[0]},")
    same = group[:, None] == group
    alike, mixed = (np.asarray(np.corrcoef(shop.tastes.type)) for shop in (other, one))
    assert alike[same].mean() > alike[~same].mean() + 0.4
    assert mixed[same].mean() < mixed[~same].mean() + 0.1


@pytest.mark.slow
def test_the_default_shop_has_the_promised_size(default: Shop) -> None:
    assert len(default.catalogue) >= 2_000
    assert len(np.unique(default.log.user)) >= 5_000
    assert len(default.log) >= 200_000
    assert 59 < (default.log.second.max() - default.log.second.min()) / 86_400 < 60


@pytest.mark.slow
def test_the_default_shop_is_written_within_seconds(
    timed: tuple[Shop, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, seconds = timed
    monkeypatch.setattr(Shop, "generate", lambda _: shop)
    started = time.process_time()
    simulator.write(ShopConfig(), tmp_path)
    assert seconds + time.process_time() - started < 30


@pytest.mark.parametrize(("items", "users", "events"), [(50, 10, 500), (60, 200, 800), (480, 300, 12_000)])
def test_a_shop_of_any_size_has_at_least_the_events_asked_for(items: int, users: int, events: int) -> None:
    made = Shop.generate(ShopConfig(num_items=items, num_users=users, num_events=events))
    assert len(made.log) >= events
    assert len(made.catalogue) == items


def test_every_kind_of_event_occurs_and_searches_lead_to_clicks(small: Shop) -> None:
    log = small.log
    assert set(log.event) == {"view", "search", "click", "cart", "purchase"}
    assert set(log.request[log.event == "click"]) <= set(log.request[log.event == "search"])
    assert all(log.query[log.event == "search"])
    assert (log.item[log.event != "search"] >= 0).all()


def test_events_are_in_time_order_and_no_product_is_touched_before_its_launch(small: Shop) -> None:
    log = small.log
    assert (np.diff(log.second) >= 0).all()
    with_item = log.item >= 0
    launch = small.catalogue.launch_day[log.item[with_item]]
    assert (launch * 86_400 <= log.second[with_item]).all()


@pytest.mark.slow
def test_some_products_are_launched_only_in_the_last_days_and_are_seen_then(default: Shop) -> None:
    late = default.catalogue.launch_day > ShopConfig().days - 7
    assert 20 <= late.sum() <= 100
    assert np.isin(np.flatnonzero(late), default.log.item).mean() > 0.9


@pytest.mark.slow
def test_products_are_told_apart_by_model_number_and_some_have_chinese_titles(default: Shop) -> None:
    products = default.catalogue.products
    assert len({product.model for product in products}) == len(products)
    assert len({product.title for product in products}) == len(products)
    assert 100 < sum(not product.title.isascii() for product in products) < 400
    assert len({product.category for product in products}) == len(TYPES)


@pytest.mark.slow
def test_activity_is_heavy_tailed_and_popularity_modest(default: Shop) -> None:
    activity = np.sort(np.bincount(default.log.user))
    assert activity[-500:].sum() > 0.25 * activity.sum()
    popularity = np.sort(np.bincount(default.log.item[default.log.item >= 0], minlength=len(default.catalogue)))
    assert popularity[-100:].sum() < 0.25 * popularity.sum()


def test_the_log_follows_the_true_preference(small: Shop) -> None:
    # the mean true probability of what was drawn equals the mean of sum p^2, as it must for draws from p
    actions = small.actions
    rows = np.flatnonzero(~actions.searched)
    truth = small.preference.next_items(
        actions.user[rows], actions.last[rows], actions.same_session[rows], actions.second[rows] / 86_400
    )
    assert truth.sum(1) == pytest.approx(np.ones(len(rows)), abs=1e-4)
    drawn = truth[np.arange(len(rows)), actions.item[rows]].mean()
    assert drawn == pytest.approx((truth**2).sum(1).mean(), rel=0.05)


def test_accessories_and_next_volumes_follow_often(small: Shop) -> None:
    actions, successors = small.actions, small.catalogue.successors
    rows = np.flatnonzero(~actions.searched & (actions.last >= 0))
    rows = rows[(successors[actions.last[rows]] >= 0).any(1)]
    follows = (successors[actions.last[rows]] == actions.item[rows, None]).any(1)
    assert 0.4 < follows.mean() < 0.6


@pytest.mark.slow
def test_knowing_the_user_pays_ten_times_more_than_popularity(default: Shop) -> None:
    best = Oracle.of(default).ndcg()
    assert best["search"] > 0.5
    assert best["browse"] > 0.2
    assert best["all"] > 10 * best["popularity"]


def test_the_oracle_answers_for_searches_of_the_log_and_refuses_others(small: Shop) -> None:
    oracle = Oracle.of(small)
    log = small.log
    row = int(np.flatnonzero(log.event == "click")[0])
    search = int(np.flatnonzero((log.event == "search") & (log.request == log.request[row]))[0])
    time_us = int(files.START.timestamp() + log.second[search]) * 1_000_000
    user = files.user_id(int(log.user[search]))
    scores = oracle.searches([user], [time_us])
    assert scores.shape == (1, SMALL.num_items)
    assert scores[0, log.item[row]] > 0
    with pytest.raises(KeyError):
        oracle.searches([user], [time_us + 1_000_000])


def test_the_robust_query_set_has_every_corruption_and_reachable_targets(small: Shop) -> None:
    cases = simulator.robust_queries(SMALL, 80)
    assert Counter(case.corruption for case in cases) == dict.fromkeys(
        ("none", "typo", "word order", "plural", "model number", "synonym", "mixed script", "chinese"), 10
    )
    known = {product.item_id for product in small.catalogue.products}
    assert all(case.targets and case.targets <= known for case in cases)
    assert cases == simulator.robust_queries(SMALL, 80)


def test_raw_files_carry_every_kind_of_dirt(tmp_path: Path, small: Shop) -> None:
    simulator.write(SMALL, tmp_path)
    lines = [line for path in sorted(tmp_path.glob("events-*.csv.gz")) for line in _lines(path)]
    broken = len(lines) - len(small.log)
    assert len(files.DIRT) <= broken < 0.01 * len(small.log)
    assert any(line.split(",")[1] == "" for line in lines)
    assert any("heartbeat" in line for line in lines)
    assert any(line.startswith("not recorded") for line in lines)
    assert any(line.count(",") < len(files.HEADER) - 1 for line in lines)
    products = (tmp_path / "catalogue.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(products) == SMALL.num_items + len(files.BROKEN_PRODUCTS)
    assert json.loads(products[0]).keys() >= {"sku", "name", "category", "brand", "price"}


def test_prepare_rejects_the_dirt_and_nothing_else(tmp_path: Path, small: Shop) -> None:
    simulator.write(SMALL, tmp_path / "raw")
    overrides = [f"data.root={tmp_path / 'raw'}", f"runs_root={tmp_path / 'runs'}", "text.encoder=none"]
    config = load(Path(__file__).resolve().parents[3] / "configs" / "demo.toml", overrides)
    preparation.run(config, preparation.InProcess())
    report = json.loads((config.reports_dir / "data.json").read_text(encoding="utf-8"))
    assert report["kept"] == len(small.log) + SMALL.num_items
    assert report["rejected"].keys() == {
        "missing_user", "unknown_event", "unparsable_time", "wrong_field_count", "duplicate", "missing_item",
        "broken_json",
    }  # fmt: skip


def _digest(folder: Path) -> str:
    content = b"".join(path.name.encode() + path.read_bytes() for path in sorted(folder.iterdir()))
    return hashlib.sha256(content).hexdigest()


def _lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()[1:]
