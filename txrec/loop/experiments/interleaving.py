"""Team-draft interleaving: two rankings in one slate, credit by user, decided by a confidence sequence.

While both rankings have the same next product, it is placed and credits nobody. Where they differ, each picks its own,
in an order drawn by lot (team draft; Radlinski, Kurup, Joachims 2008), and a click credits the ranking that picked the
product: clicks without any preference credit both equally. Everybody sees both rankings, so that differences between
users cancel, and far fewer users are needed than where each user sees one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txrec.loop.experiments.confidence import Moments, radius
from txrec.loop.experiments.experiments import ExperimentDecision, conclude

SHARED = -1
"""Team of a product that both rankings had next."""


@dataclass(frozen=True)
class Interleaved:
    """A slate made of two rankings.

    Attributes:
        items: (K,) products, best first.
        team: (K,) 0 = picked by the first ranking, 1 = by the second, SHARED = by both.
    """

    items: tuple[str, ...]
    team: tuple[int, ...]


def team_draft(first: Sequence[str], second: Sequence[str], k: int, rng: np.random.Generator) -> Interleaved:
    """The first k products of two rankings by team draft.

    Args:
        first: product ids, best first, each once.
        second: the same of the other ranking.
        k: length; shorter where the rankings hold fewer products.
        rng: draws the order of every round.
    """
    team: dict[str, int] = {}
    rankings = (first, second)
    places = [0, 0]

    def candidate(side: int) -> str | None:
        ranking = rankings[side]
        while places[side] < len(ranking) and ranking[places[side]] in team:
            places[side] += 1
        return ranking[places[side]] if places[side] < len(ranking) else None

    while len(team) < k:
        picks = [candidate(0), candidate(1)]
        if picks[0] is None and picks[1] is None:
            break
        if picks[0] == picks[1]:
            team[str(picks[0])] = SHARED
            continue
        lot = int(rng.integers(2))
        for side in (lot, 1 - lot):
            item = picks[side]
            if item is not None and len(team) < k:
                team[item] = side
    return Interleaved(tuple(team), tuple(team.values()))


def user_preferences(
    user: NDArray[np.int64], team: NDArray[np.int64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Each user's preference for the second ranking, -1 to 1: its share of their credit less the first one's.

    Args:
        user: (C,) of each click or purchase, numbered 0..U-1; numbers without any credit have preference 0.
        team: (C,) 0, 1 or SHARED.
        weight: (C,) of the event, e.g. 1 per click.
    """
    size = int(user.max()) + 1 if len(user) else 0
    signed = np.bincount(user, weight * np.select([team == 1, team == 0], [1.0, -1.0], 0.0), size)
    total = np.bincount(user, weight * (team != SHARED), size)
    return np.divide(signed, total, out=np.zeros(size), where=total > 0)


@dataclass(frozen=True)
class InterleavingRules:
    """Rules of the decision of an interleaving experiment."""

    alpha: float = 0.05
    """Probability of a false decision over all looks."""
    min_users: int = 50
    """Users before which nothing is decided."""
    max_users: int = 0
    """Users at which it ends without a difference; 0 = never."""
    expected_users: float = 2_000.0
    """Users at which the interval is narrowest."""


def decide_interleaving(
    experiment: str,
    names: tuple[str, str],
    preference: Moments,
    rules: InterleavingRules = InterleavingRules(),
) -> ExperimentDecision:
    """Decision of an interleaving experiment from the sums of users' preferences for the second ranking.

    Args:
        experiment: its name.
        names: of the first ranking (control) and the second.
        preference: sums of `user_preferences`, one value per user who saw an interleaved slate.
        rules: of the decision.
    """
    n, mean = float(preference.n), float(preference.mean)
    low, high = (float(end) for end in watch_interleaving(preference, rules))
    action = conclude(low, high, 0.0, 0 < rules.max_users <= n)
    signs = {"promote": f"{low:.4g} > 0", "roll_back": f"{high:.4g} < 0"}
    sign = signs.get(action, f"0 within {low:.4g} to {high:.4g}")
    text = f"preference {mean:+.4g} ({low:+.4g} to {high:+.4g}): {sign}"
    users = (int(n), int(n))
    return ExperimentDecision(experiment, names[1], names[0], action, "preference", mean, low, high, 0.0, text, users)


def watch_interleaving(
    preference: Moments, rules: InterleavingRules
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high end of the mean preference at every look; infinite before `min_users`."""
    mean = preference.mean
    variance = (preference.yy / np.maximum(preference.n, 1) - mean**2) * preference.n / np.maximum(preference.n - 1, 1)
    known = (preference.n >= rules.min_users) & (variance > 0)
    width = np.where(
        known, radius(preference.n, np.where(known, variance, 1.0), rules.alpha, rules.expected_users), np.inf
    )
    return mean - width, mean + width
