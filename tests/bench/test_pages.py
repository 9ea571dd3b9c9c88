"""The bench of search pages measures every part on a small catalogue, and its queries match what it says they do."""

import runpy
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "pages.py"


def test_every_cost_is_measured_and_queries_match_few_many_and_all_products() -> None:
    figures = runpy.run_path(str(SCRIPT))["run"](3_000, 1)
    assert 0 < figures["rare_matches"] < 20 < figures["common_matches"] < 1_000 < figures["browse_matches"] == 3_000
    assert all(value >= 0 for value in figures.values())
    assert {"build_facets_s", "filter_ms", "rare_page_of_facets_ms", "browse_page_of_groups_ms"} <= set(figures)
