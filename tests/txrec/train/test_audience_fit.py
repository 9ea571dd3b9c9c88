"""Audience model: its regression, its fit on the validation window, and the scores of users by it."""

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import tiny_data
from txrec.data.prepared import PreparedData
from txrec.recommender.audience_model import FEATURES, AudienceRegressions, Regression, features
from txrec.recommender.lists.audiences import Audience, AudienceRequest, KnownUsers, Target, before, wider_weights
from txrec.recommender.recommender import Recommender
from txrec.schema import Split
from txrec.train import audience_fit


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def test_the_regression_finds_rare_events_by_what_they_follow_from() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(4_000, 3)) * [1.0, 50.0, 0.1] + [3.0, -200.0, 0.0]
    logits = 1.5 * (rows[:, 0] - 3.0) - 4.0
    positive = rng.random(4_000) < 1 / (1 + np.exp(-logits))
    fitted = Regression.fit(rows, positive)
    assert fitted.coefficients[0] == pytest.approx(1.5, abs=0.25)
    assert np.abs(fitted.coefficients[1:]).max() < 0.25
    assert fitted.probability(rows).mean() == pytest.approx(positive.mean(), rel=1e-3)
    assert fitted.num_positives == positive.sum()


def test_a_constant_feature_and_no_event_at_all_do_not_break_the_regression() -> None:
    rows = np.column_stack([np.ones(50), np.arange(50.0)])
    for positive in (np.zeros(50, bool), np.ones(50, bool), np.arange(50) > 40):
        found = Regression.fit(rows, positive).probability(rows)
        assert np.isfinite(found).all()
    assert found.argmax() == 49


def test_wider_products_are_those_of_the_same_categories() -> None:
    weights, category = np.array([0.0, 0.5, 1.0, 0.0, 0.0, 0.0]), np.array([0, 1, 2, 1, 2, 0])
    assert wider_weights(weights, category).tolist() == [0.0, 0.5, 1.0, 0.5, 1.0, 0.0]
    alone = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])  # a product without a category
    assert wider_weights(alone, category).tolist() == alone.tolist()


def test_features_separate_recent_from_old_events_and_own_from_others(tiny: PreparedData) -> None:
    users = before(tiny.sequences, Split.TEST)
    kettles = np.append(0.0, np.arange(tiny.items.num_rows) < 10)
    rows = features(users, kettles, kettles, int(users.ts.max()), np.full(len(users), 0.1))
    assert rows.shape == (len(users), len(FEATURES))
    fans = np.array([int(str(user).removeprefix("user-")) % 6 == 0 for user in users.user_id])
    own = FEATURES.index("own")
    assert rows[fans, own].min() > rows[~fans, own].max()
    later = features(users, kettles, kettles, int(users.ts.max()) + 30 * 86_400_000_000, np.full(len(users), 0.1))
    lost = (rows - later)[fans].mean(axis=0)
    assert lost[FEATURES.index("own recent")] > lost[own] > lost[FEATURES.index("own slow")] > 0


def test_the_fit_ranks_users_of_a_category_by_events_before_the_window(
    recommender: Recommender, tiny: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience_fit, "LEAST_POSITIVES", 20)
    vectors = recommender.ranking_features.item_vectors
    fitted = audience_fit.fit_audience(tiny, recommender.retriever, vectors, seed=0)
    assert fitted is not None
    assert fitted.days == pytest.approx(1.0)
    assert fitted.by_kind["category"].num_positives == len(tiny.sequences)  # everybody clicks in the window
    stored = AudienceRegressions.of_bytes(fitted.to_bytes())
    assert stored is not None
    monkeypatch.setitem(recommender.bundle.__dict__, "audience", stored)
    target = Target.of(recommender, AudienceRequest(category="tent"))
    known = KnownUsers.of(recommender).users
    scored = Audience(recommender, target, recommender.bundle.meta.end_ts)
    scores = scored.scores(known, scored.habits(known))
    fans = np.array([int(str(user).removeprefix("user-")) % 6 == 3 for user in known.user_id])
    assert scores.max() <= 1.0
    assert scores[fans].min() > scores[~fans].max()


def test_nothing_is_fitted_without_times_or_with_few_events(
    recommender: Recommender, tiny: PreparedData, tmp_path: Path
) -> None:
    vectors = recommender.ranking_features.item_vectors
    assert audience_fit.fit_audience(tiny, recommender.retriever, vectors, seed=0) is None, "fewer than LEAST_POSITIVES"
    timeless = tiny_data(tmp_path / "data", num_users=12, has_time=False, split_kind="leave_one_out")
    assert audience_fit.fit_audience(timeless, recommender.retriever, vectors, seed=0) is None


def test_regressions_on_other_features_are_not_used() -> None:
    one = AudienceRegressions(7.0, {}).to_bytes()
    assert AudienceRegressions.of_bytes(one.replace(b'"rate"', b'"heartbeats"')) is None
