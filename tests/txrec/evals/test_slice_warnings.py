"""Slices behind a baseline: when they are warned of, and in which words."""

import numpy as np
import pytest

from txrec.evals.slice_warnings import Resampling, SliceWarning, compared, in_order

CASES = 40


def warning(
    own: float, bm25: float, popular: float = 0.0, cases: int = CASES, resamples: int = 200
) -> SliceWarning | None:
    spread = np.linspace(-0.1, 0.1, cases)
    per_case = {
        "test": own + spread,
        "bm25": bm25 + spread[::-1] * 0.5,
        "popularity": popular + np.zeros(cases),
    }
    return compared(
        "cold_item_searched", "ndcg@10", per_case, ("bm25", "popularity"), Resampling(np.arange(cases), resamples)
    )


def test_a_slice_clearly_behind_is_a_certain_warning_about_its_best_baseline() -> None:
    found = warning(0.5, 0.7, 0.6)
    assert found is not None
    assert found.certain
    assert str(found).startswith("cold item searched: ndcg@10 0.5000 behind bm25 0.7000 (-0.2000, -0.2")
    assert str(found).endswith("; 40 requests)")


def test_a_slice_ahead_of_every_baseline_is_no_warning() -> None:
    assert warning(0.7, 0.6, 0.65) is None
    assert warning(0.6, 0.6) is None


def test_a_difference_that_may_be_chance_is_said_to_be_so() -> None:
    found = warning(0.600, 0.601)
    assert found is not None
    assert not found.certain
    assert "may be chance" in str(found)


def test_slices_of_a_handful_of_requests_are_not_compared() -> None:
    assert warning(0.1, 0.9, cases=4) is None


def test_without_a_bootstrap_the_difference_stands_alone() -> None:
    found = warning(0.5, 0.7, resamples=0)
    assert found is not None
    assert not found.certain
    assert "(-0.2000, may be chance; 40 requests)" in str(found)


def test_a_warning_survives_the_way_through_json() -> None:
    for found in (warning(0.5, 0.7), warning(0.5, 0.7, resamples=0)):
        assert found is not None
        assert SliceWarning.of(found.to_dict()) == found


def test_certain_warnings_come_first_then_the_largest() -> None:
    small, large, chance = warning(0.5, 0.6), warning(0.5, 0.8), warning(0.6, 0.601)
    ordered = in_order([one for one in (chance, small, large) if one])
    assert [one.baseline_value for one in ordered] == pytest.approx([0.8, 0.6, 0.601])
