"""Experiments on the live world: false decisions of A/A tests, power and time of A/B tests, and interleaving.

    python bench/experiments.py [--runs 1000] [--users 20000] [--shop-users 5000] [--shop-items 2400]
                                [--shared-errors 0.9] [--small]

Somebody looks after every user, so a run is a false decision as soon as any look decides. Outcomes of one user:

- `clicks`: of users of the world within a week, ranked by true preference with noise; the past is the week before;
- `revenue`: zero for most users and log-normal for the others, without a past;
- `rare`: one user in a hundred, without a past.

An A/B test compares two rankings by true preference plus an error per user and product. The variant's error is
smaller, and `--shared-errors` of its variance is the control's own error too, as with two versions of one model. Beside
it stands a fixed-horizon test of 80 % power for the same difference. Interleaving shows both rankings in one slate; how
many users it saves depends on how much the rankings share. Prints one JSON object as its last line.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txrec.config import ShopConfig
from txrec.loop.experiments.confidence import Moments, difference, fixed_horizon_users
from txrec.loop.experiments.experiments import Figure, Rules, watched
from txrec.loop.experiments.interleaving import InterleavingRules, team_draft, user_preferences, watch_interleaving
from txrec.simulator import Shop
from txrec.simulator.world import Visits, World

Floats = NDArray[np.float64]
K = 10
ERROR = {"control": 3.0, "variant": 2.7}
"""Standard deviation of each ranking's error on the log preference of a user and a product."""
BATCH = 1_000
RULES = Rules(Figure("clicks"))
MIN_PREFERENCES = 50


@dataclass(frozen=True)
class Pool:
    """Users of the world: what they did the week before, and in the week of the experiment under each ranking."""

    past: Floats  # (U,)
    outcome: dict[str, Floats]  # ranking -> (U,)
    preference: Floats  # (U,) for the variant, of interleaved slates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("runs", 1_000), ("users", 20_000), ("shop-users", 5_000), ("shop-items", 2_400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--shared-errors", type=float, default=0.9)
    parser.add_argument("--small", action="store_true", help="few runs on a small shop")
    arguments = parser.parse_args()
    if arguments.small:
        arguments = argparse.Namespace(runs=20, users=2_000, shop_users=500, shop_items=200, shared_errors=0.9)
    events = 40 * arguments.shop_users
    shop = Shop.generate(ShopConfig(num_items=arguments.shop_items, num_users=arguments.shop_users, num_events=events))
    pool = live(shop, arguments.shared_errors)
    figures = {
        "aa_false_decisions": false_decisions(pool, arguments.runs, arguments.users),
        "ab": power(pool, arguments.runs, arguments.users),
    }
    figures["interleaving"] = interleaving(pool, arguments.runs, figures["ab"])
    show(figures)
    print(json.dumps({"runs": arguments.runs, "users": arguments.users, **figures}))


def live(shop: Shop, shared: float) -> Pool:
    """Lets the shop's users live a week under the control, then the next week three times, side by side."""
    num = 4 * shop.cfg.num_users
    counts: dict[str, Floats] = {}
    for name, ranking, seed in (("past", "control", 1), ("control", "control", 2), ("variant", "variant", 3)):
        world = World(shop, seed=seed)
        visits = world.visits(num, 7.0)
        clicked = world.respond(visits, ranked(world, visits, ranking, shared)).clicked.sum(axis=1)
        counts[name] = np.bincount(visits.user, clicked, shop.cfg.num_users).astype(np.float64)
    return Pool(counts.pop("past"), counts, interleaved(shop, num, shared))


def ranked(world: World, visits: Visits, ranking: str, shared: float, k: int = K) -> NDArray[np.int64]:
    """(B, k) products by true preference with an error that is fixed for each user and product."""
    common, own = (
        np.random.default_rng(seed).standard_normal(world.browse.shape, dtype=np.float32)
        for seed in (6, 7 + list(ERROR).index(ranking))
    )
    errors = np.float32(ERROR[ranking]) * (np.float32(shared**0.5) * common + np.float32((1 - shared) ** 0.5) * own)
    slates = []
    for start in range(0, len(visits), BATCH):
        batch = visits.take(slice(start, start + BATCH))
        score = np.log(world.preference(batch) + 1e-12) + errors[batch.user]
        slates.append(np.argsort(-score, axis=1)[:, :k])
    return np.concatenate(slates)


def interleaved(shop: Shop, num: int, shared: float) -> Floats:
    """(U,) each user's preference for the variant after a week of interleaved slates."""
    world = World(shop, seed=4)
    visits = world.visits(num, 7.0)
    rankings = [ranked(world, visits, name, shared) for name in ("control", "variant")]
    slates, teams = np.zeros_like(rankings[0]), np.zeros_like(rankings[0])
    for row, (first, second) in enumerate(zip(*(ranking.astype(str).tolist() for ranking in rankings), strict=True)):
        draft = team_draft(first, second, K, world.rng)
        slates[row], teams[row] = [int(item) for item in draft.items], draft.team
    rows, places = np.nonzero(world.respond(visits, slates).clicked)
    known = user_preferences(visits.user[rows], teams[rows, places], np.ones(len(rows)))
    result = np.zeros(shop.cfg.num_users)
    result[: len(known)] = known
    return result[np.unique(visits.user)]


def false_decisions(pool: Pool, runs: int, users: int) -> dict[str, float]:
    """Share of A/A runs in which any look decides, by outcome."""
    rng = np.random.default_rng(0)

    def from_world() -> tuple[Floats, Floats]:
        drawn = rng.integers(len(pool.past), size=users)
        return pool.outcome["control"][drawn], pool.past[drawn]

    def revenue() -> tuple[Floats, Floats]:
        return np.where(rng.random(users) < 0.05, rng.lognormal(3.5, 1.0, users), 0.0), np.zeros(users)

    def rare() -> tuple[Floats, Floats]:
        return (rng.random(users) < 0.01).astype(np.float64), np.zeros(users)

    outcomes: dict[str, Callable[[], tuple[Floats, Floats]]] = {"clicks": from_world, "revenue": revenue, "rare": rare}
    return {
        name: float(np.mean([bool(look(draw_users(), draw_users())[0] >= 0) for _ in range(runs)]))
        for name, draw_users in outcomes.items()
    }


def look(control: tuple[Floats, Floats], variant: tuple[Floats, Floats], adjust: bool = True) -> tuple[int, int]:
    """The users of both variants at the first look that decides, and its sign; (-1, 0) if none does."""
    first, second = (Moments.cumulative(outcome, past if adjust else None) for outcome, past in (control, variant))
    low, high = watched(first, second, RULES).interval(RULES.alpha, RULES.expected_users)
    decided = np.flatnonzero((low > 0) | (high < 0))
    return (2 * int(decided[0]) + 2, 1 if low[decided[0]] > 0 else -1) if len(decided) else (-1, 0)


def power(pool: Pool, runs: int, users: int) -> dict[str, float]:
    """Power of an A/B test, share and time of its decisions for the better variant, next to a fixed-horizon test."""
    rng = np.random.default_rng(1)
    size = len(pool.past)
    both = [Moments.of(pool.outcome[name], pool.past) for name in ("control", "variant")]
    effect = float(both[1].mean - both[0].mean)
    variance = {
        name: float(difference(both[0], both[1], adjust=name == "cuped").variance) * size / 2
        for name in ("raw", "cuped")
    }
    decided: dict[str, list[tuple[int, int]]] = {"raw": [], "cuped": []}
    for _ in range(runs):
        drawn = [rng.integers(size, size=users) for _ in range(2)]
        sample = [(pool.outcome[name][rows], pool.past[rows]) for name, rows in zip(pool.outcome, drawn, strict=True)]
        for name, looks in decided.items():
            looks.append(look(sample[0], sample[1], adjust=name == "cuped"))
    figures = {"control_clicks": float(both[0].mean), "lift": effect / float(both[0].mean)}
    for name, looks in decided.items():
        fixed = fixed_horizon_users(variance[name], effect, RULES.alpha)
        times = np.array([time if sign > 0 else np.inf for time, sign in looks])
        figures |= {
            f"{name}_fixed_horizon_users": fixed,
            f"{name}_power_at_fixed_horizon": float((times <= fixed).mean()),
            f"{name}_power": float(np.isfinite(times).mean()),
            f"{name}_wrong": float(np.mean([sign < 0 for _, sign in looks])),
            f"{name}_median_users": float(np.quantile(times, 0.5, method="higher")),
            f"{name}_p80_users": float(np.quantile(times, 0.8, method="higher")),
        }
    return figures


def interleaving(pool: Pool, runs: int, ab: dict[str, float]) -> dict[str, float]:
    """Users until interleaving decides for the variant, next to the A/B test."""
    rng = np.random.default_rng(2)
    times, wrong = [], 0
    for _ in range(runs):
        sample = Moments.cumulative(pool.preference[rng.integers(len(pool.preference), size=5_000)])
        low, high = watch_interleaving(
            sample, InterleavingRules(RULES.alpha, min_users=MIN_PREFERENCES, expected_users=500)
        )
        decided = np.flatnonzero((low > 0) | (high < 0))
        right = len(decided) > 0 and low[decided[0]] > 0
        wrong += len(decided) > 0 and not right
        times.append(float(decided[0] + 1) if right else np.inf)
    median = float(np.quantile(times, 0.5, method="higher"))
    return {
        "mean_preference": float(pool.preference.mean()),
        "power": float(np.isfinite(times).mean()),
        "wrong": wrong / runs,
        "median_users": median,
        "ab_users_per_interleaving_user": ab["cuped_median_users"] / median,
        "raw_ab_users_per_interleaving_user": ab["raw_median_users"] / median,
    }


def show(figures: dict[str, dict[str, float]]) -> None:
    for part, values in figures.items():
        print(part)
        for name, value in values.items():
            print(f"  {name:36}{value:>14,.4g}")


if __name__ == "__main__":
    main()
