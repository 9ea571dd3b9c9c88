"""The benches of lists and live counts run on a tiny generated shop and answer in the range of their figures."""

import runpy
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("bench")
    sizes = [f"data.shop.num_{name}" for name in ("items=120", "users=150", "events=3000")]
    return [f"data.root={root / 'shop'}", f"runs_root={root / 'runs'}", *sizes]


def test_most_products_that_rise_steeply_are_found_and_few_others(shop: list[str]) -> None:
    figures = runpy.run_path(str(BENCH / "trending.py"))["run"]("configs/demo.toml", shop, 5)
    steep = figures["16_per_hour"]
    assert steep["recall"][6] >= 0.8
    assert steep["precision"] > 0.5
    assert steep["median_minutes"] <= 180


def test_a_left_out_product_is_ranked_among_all_by_each_method(shop: list[str]) -> None:
    figures = runpy.run_path(str(BENCH / "complements.py"))["run"]("configs/demo.toml", shop, 50)
    for name in ("complements", "counts", "lift", "popular"):
        hits = [figures[f"{name} hit@{cut}"]["mean"] for cut in (5, 10, 20)]
        assert 0 <= hits[0] <= hits[1] <= hits[2] <= 1
