"""What titles can tell of grades: the estimate finds the share that was put into made-up grades."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from txrec.data.judgments import Judgments
from txrec.evals.judged import by_query

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "judges.py"
QUERIES, TITLES = 2_000, 4


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def graded(share: float) -> tuple[Judgments, np.ndarray]:
    """Two products of each of four titles a query; titles make up `share` of the variance of grades."""
    rng = np.random.default_rng(0)
    size = (QUERIES, TITLES, 1)
    grade = share**0.5 * rng.standard_normal(size) + (1 - share) ** 0.5 * rng.standard_normal((QUERIES, TITLES, 2))
    flat = grade.ravel().astype(np.float32)
    query = np.repeat(np.arange(1, QUERIES + 1, dtype=np.int32), 2 * TITLES)
    title = np.tile(np.repeat(np.array(list("abcd")), 2), QUERIES)
    return Judgments(query, np.arange(1, len(flat) + 1, dtype=np.int32), flat, flat.astype(np.float64)), title


@pytest.mark.parametrize("share", [0.15, 0.8])
def test_the_share_of_titles_is_found(bench: dict[str, Any], share: float) -> None:
    given, title = graded(share)
    found = np.array([bench["differences"](given.grade[rows], title[rows]) for rows in by_query(given)])
    told = bench["correlation"](found)
    assert told.low < share < told.high
    assert told.high - told.low < 0.15


def test_a_query_without_pairs_of_both_kinds_says_nothing(bench: dict[str, Any]) -> None:
    grade = np.array([1, 2, 3], np.float32)
    assert bench["differences"](grade, np.array(["a", "b", "c"])) is None
    assert bench["differences"](grade, np.array(["a", "a", "a"])) is None
    assert bench["differences"](grade, np.array(["a", "a", "b"])) == (1.0, 0.5, 1.25)


def test_expected_grades_go_with_grades_as_well_as_titles_allow(bench: dict[str, Any]) -> None:
    given, _ = graded(0.3)
    drawn = bench["expected"](given, 0.3, np.random.default_rng(1))
    within = given.grade - np.repeat(given.grade.reshape(QUERIES, -1).mean(axis=1), 2 * TITLES)
    assert np.corrcoef(drawn, within)[0, 1] == pytest.approx(0.3**0.5, abs=0.03)
