"""Off-policy estimates on the live world: how often the 95 % interval holds the true value, and what exploration costs.

    python bench/off_policy.py [--runs 200] [--slates 4000] [--requests 8000] [--share 0.3]

The world's visits are served by one ranking, a share of them by Plackett-Luce exploration; the value of another ranking
of the same candidates is estimated from the clicks. Its true value is known: the expected clicks of the world, averaged
over the requests that every run draws from. Prints one JSON object as its last line.
"""

import argparse
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txrec.config import ShopConfig
from txrec.loop.exploration.exploration import Bounds, draw, prefix_probability, utilities
from txrec.loop.off_policy.estimators import Estimator, SlateLog, crossfit, estimate
from txrec.simulator import Shop
from txrec.simulator.world import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ESTIMATORS: tuple[Estimator, ...] = ("slate", "cascade", "position", "doubly_robust")
SERVED_ERROR, NEW_ERROR = 2.0, 1.0
"""Standard deviation of each ranking's error on the log preference of a user and a product."""
POOL, PLACES = 10, 4
REPORT_EVERY = 20
"""Runs between two lines of progress."""


@dataclass(frozen=True)
class Requests:
    """R requests with the served ranking's best products, and the new ranking's order of them."""

    user: Ints  # (R,)
    score: Floats  # (R, POOL) of the served ranking, best first
    expected: Floats  # (R, POOL, PLACES) click probability of a candidate at a place
    target: Ints  # (R, PLACES) candidates that the new ranking shows

    def value(self, place: Ints) -> float:
        """True clicks per slate of (R, PLACES) candidates."""
        clicks = np.take_along_axis(self.expected, place[:, :, None], axis=1)
        return float(np.diagonal(clicks, axis1=1, axis2=2).sum(axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("runs", 200), ("slates", 4_000), ("requests", 8_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--small", action="store_true", help="four runs")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.runs, arguments.slates, arguments.requests = 4, 500, 1_000
    shop = Shop.generate(ShopConfig(num_items=480, num_users=2_000, num_events=40_000))
    requests = served(World(shop), arguments.requests)
    bounds = Bounds(share=arguments.share, num_places=PLACES, pool=POOL, temperature=2.0)
    greedy = np.tile(np.arange(PLACES), (len(requests.user), 1))
    truth, sorted_truth = requests.value(requests.target), requests.value(greedy)
    figures: dict[str, dict[str, float]] = {
        "truth": {"new_ranking": truth, "served_ranking": sorted_truth, "lift": truth / sorted_truth - 1}
    }
    runs = []
    for seed in range(arguments.runs):
        runs.append(run(requests, bounds, arguments.slates, seed))
        if (seed + 1) % REPORT_EVERY == 0:
            covered = {name: np.mean([one[name].low <= truth <= one[name].high for one in runs]) for name in ESTIMATORS}
            print(
                f"after {seed + 1} runs: " + ", ".join(f"{name} {share:.3f}" for name, share in covered.items()),
                flush=True,
            )
    for name in ESTIMATORS:
        estimates = [one[name] for one in runs]
        figures[name] = {
            "coverage": float(np.mean([one.low <= truth <= one.high for one in estimates])),
            "bias": float(np.mean([one.value for one in estimates]) - truth),
            "half_width": float(np.mean([one.high - one.low for one in estimates]) / 2),
            "effective_slates": float(np.mean([one.effective for one in estimates])),
            "refused": float(np.mean([bool(one.refusal) for one in estimates])),
            "gain_found": float(np.mean([one.gain_low > 0 and not one.refusal for one in estimates])),
        }
    cost = [one["cost"] for one in runs]
    figures["exploration"] = {
        "estimated_cost": float(np.mean([one.gain for one in cost])),
        "true_cost": float(np.mean([one["true_cost"] for one in runs])),
        "new_products_seen": float(np.mean([one["seen"] for one in runs])),
    }
    for part, values in figures.items():
        print(part)
        for name, value in values.items():
            print(f"  {name:24}{value:>12,.4f}")
    print(json.dumps({"runs": arguments.runs, "slates": arguments.slates, **figures}))


def served(world: World, num: int) -> Requests:
    """Visits of the world with the candidates of the served ranking."""
    visits = world.visits(num, 7.0)
    known = np.log(world.preference(visits) + 1e-9)
    shape, rng = world.browse.shape, np.random.default_rng(6)
    errors = [rng.standard_normal(shape)[visits.user] for _ in range(2)]
    scores = known + SERVED_ERROR * errors[0]
    candidates = np.argsort(-scores, axis=1)[:, :POOL]
    new = np.take_along_axis(known + NEW_ERROR * errors[1], candidates, axis=1)
    attraction = world.attraction(visits, candidates)
    return Requests(
        user=visits.user,
        score=np.take_along_axis(scores, candidates, axis=1),
        expected=attraction[:, :, None] * world.behaviour.examination(PLACES),
        target=np.argsort(-new, axis=1)[:, :PLACES],
    )


def run(requests: Requests, bounds: Bounds, slates: int, seed: int) -> dict:
    """One log of exploration and everything that is estimated from it."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(requests.user), size=slates)
    utility = utilities(requests.score[rows], bounds)
    shown = draw(utility, bounds, rng)
    expected = requests.expected[rows][np.arange(slates)[:, None], shown.place, np.arange(PLACES)]
    reward = (rng.random(expected.shape) < expected).astype(np.float64)
    target, user = requests.target[rows], requests.user[rows]
    greedy = np.tile(np.arange(PLACES), (slates, 1))

    def log(probabilities: Ints) -> SlateLog:
        same = (shown.place == probabilities).astype(np.float64)
        scores = [np.take_along_axis(requests.score[rows], place, axis=1) for place in (shown.place, probabilities)]
        predicted, direct = crossfit(scores[0], scores[1], reward, user)
        possible = (prefix_probability(utility, probabilities, bounds) > 0).mean(axis=1)
        return SlateLog(
            reward, shown.prefix, shown.marginal, np.cumprod(same, axis=1), same, user, possible, predicted, direct
        )

    best = np.diagonal(requests.expected[rows], axis1=1, axis2=2).sum(axis=1)
    of_target = log(target)
    return {
        **{name: estimate(of_target, name) for name in ESTIMATORS},
        "cost": estimate(log(greedy), "position"),
        "true_cost": float((best - expected.sum(axis=1)).mean()),
        "seen": float((shown.place[shown.drawn] >= PLACES).mean()),
    }


if __name__ == "__main__":
    main()
