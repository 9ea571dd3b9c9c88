"""Upper bound of scorers that read query and title alone, measured on people's grades.

    python bench/judges.py [configs/homedepot.toml] data.root=DIR [dotted.key=value ...]

Two products with the same words in their titles, judged for the same query, look alike to such a scorer. If
their grades differ as much as those of any two products of that query, titles tell nothing; if not at all, everything.
Between the two lies the intraclass correlation (Fisher 1925): 1 - V / W, V half the mean squared difference of grades
of pairs with the same title, W that of the other pairs of the same queries. Queries that have both kinds take part; its
95 % interval is a bootstrap over queries.

The second table is what an order by the *expected* grade of each title would reach within the test part's judged pairs,
for that correlation and both ends of its interval: true grades are shrunk towards their query's mean by the correlation
and spread by what is left of their variance, which is what a normal model says of the expectation given the grade.
Beside it BM25 and an order drawn by chance. Prints one JSON object as its last line.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from search import drawn_interval, prepared

from txrec.config_loader import load
from txrec.data.judgments import Judgments
from txrec.errors import ConfigError
from txrec.evals import judged
from txrec.evals.bootstrap import Interval
from txrec.schema import Split

RESAMPLES = 1_000
DRAWS = 5
"""Spreads of the expected grades that are drawn and averaged."""
_WORD = re.compile(r"\w+")


def main() -> None:
    arguments = sys.argv[1:]
    file = arguments.pop(0) if arguments and arguments[0].endswith(".toml") else "configs/homedepot.toml"
    config = load(file, arguments)
    data = prepared(config)
    named = np.array(["", *(" ".join(sorted(_WORD.findall(text or ""))) for text in data.items["text"].to_pylist())])
    parts = [Judgments.of(data, split) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)]
    pairs = [differences(part.grade[rows], named[part.item[rows]]) for part in parts for rows in judged.by_query(part)]
    both = np.array([one for one in pairs if one is not None])  # (Q, 3)
    if not len(both):
        raise ConfigError(f"{config.name}: no query has two judged products of one title and one of another")
    agreement = correlation(both)
    print(f"{int(both[:, 0].sum())} pairs of products of one title in {len(both)} queries: correlation of their grades")
    print(
        f"{agreement.mean:.3f} ({agreement.low:.3f}-{agreement.high:.3f}); a scorer of titles correlates"
        f" {agreement.mean**0.5:.2f} at most"
    )
    last = parts[-1]
    scores: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
        "chance": lambda rng: rng.random(len(last)),
        "BM25": lambda _: np.asarray(judged.by_words(data, last), np.float64),
        "expected grades, low end": lambda rng: expected(last, agreement.low, rng),
        "expected grades": lambda rng: expected(last, agreement.mean, rng),
        "expected grades, high end": lambda rng: expected(last, agreement.high, rng),
    }
    reached = {name: ndcg(score, last) for name, score in scores.items()}
    for name, value in reached.items():
        print(f"  {name:28}NDCG@{judged.K} {value:.4f}  over BM25 {value - reached['BM25']:+.4f}")
    print(
        json.dumps(
            {"config": config.name, "pairs": both[:, 0].sum(), "correlation": vars(agreement), "ndcg@10": reached}
        )
    )


def differences(grade: NDArray[np.float32], title: NDArray[np.str_]) -> tuple[float, float, float] | None:
    """Of one query's n products: pairs with one title, and the mean of (a - b) ** 2 / 2 over these and over the others.

    None where there are no pairs of one kind.
    """
    first, second = np.triu_indices(len(grade), k=1)
    same, half = title[first] == title[second], (grade[first] - grade[second]).astype(np.float64) ** 2 / 2
    if same.all() or not same.any():
        return None
    return float(same.sum()), float(half[same].mean()), float(half[~same].mean())


def correlation(pairs: NDArray[np.float64]) -> Interval:
    """Intraclass correlation of (Q, 3) `differences`, queries weighing by their pairs of one title; at least 0."""
    sums = pairs[:, :1] * pairs[:, 1:]
    rng = np.random.default_rng(0)
    drawn = [sums[rng.integers(0, len(sums), len(sums))].sum(axis=0) for _ in range(RESAMPLES)]
    within, between = np.stack([sums.sum(axis=0), *drawn]).T
    return drawn_interval(np.maximum(1 - within / between, 0.0))


def expected(judgments: Judgments, agreement: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(J,) a draw of each pair's expected grade, less its query's mean, given its grade."""
    offset = judgments.grade.astype(np.float64)
    cuts = judged.by_query(judgments)
    for rows in cuts:
        offset[rows] -= offset[rows].mean()
    free = len(judgments) - len(cuts)  # degrees of freedom within queries
    spread = np.sqrt(agreement * (1 - agreement) * (offset**2).sum() / free)
    return agreement * offset + spread * rng.standard_normal(len(judgments))


def ndcg(score: Callable[[np.random.Generator], NDArray[np.float64]], judgments: Judgments) -> float:
    """Mean NDCG@10 within the judged pairs, over queries and draws."""
    rng = np.random.default_rng(0)
    return float(np.mean([judged.graded_ndcg(score(rng), judgments).mean() for _ in range(DRAWS)]))


if __name__ == "__main__":
    main()
