"""Judged pairs ranked among themselves: the products that people graded for a query, by the recommender and by BM25.

NDCG@10 is graded: a pair gains 2 ** grade - 1, and ties of a score count as their mean order (McSherry and Najork,
2008). ROC-AUC asks, over all pairs at once, whether a right pair scores above a wrong one; a pair is right from
`evaluate.relevant_grade` on. Queries that were judged once, or the same for all products, take part: they score 1.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.catalogue import Catalogue
from txrec.config import EvaluateConfig
from txrec.data.judgments import Judgments
from txrec.data.prepared import PreparedData
from txrec.evals import bootstrap, metrics
from txrec.evals.metrics import Floats
from txrec.index.lexical import Lexical
from txrec.progress import Progress, silent
from txrec.recommend import Recommender, Request
from txrec.retrieve import NO_HISTORY, Question
from txrec.schema import Split

K = 10
BATCH = 128
TOLERANCE = 1e-4
"""Of a grade such as 2.67, kept as float32."""

Scorer = Callable[[Judgments], NDArray[np.float32]]
"""Judged pairs to (J,) scores."""


def judged(
    recommender: Recommender,
    data: PreparedData,
    split: Split,
    cfg: EvaluateConfig,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """NDCG@10 and ROC-AUC of the recommender and of BM25 on a split's judgments, with intervals; empty without any."""
    given = Judgments.of(data, split)
    if not len(given):
        return {}
    scorers: dict[str, Scorer] = {
        "test": lambda pairs: by_recommender(recommender, data, pairs, progress),
        "bm25": lambda pairs: by_words(data, pairs),
    }
    scores = {name: scorer(given) for name, scorer in scorers.items()}
    ndcg = {name: graded_ndcg(found, given) for name, found in scores.items()}
    right = given.grade >= cfg.relevant_grade - TOLERANCE
    figures: dict[str, Any] = {
        name: {f"ndcg@{K}": float(ndcg[name].mean()), "auc": metrics.auc(found, right)}
        for name, found in scores.items()
    }
    if cfg.bootstrap:
        unit = np.arange(len(ndcg["test"]))
        better = bootstrap.paired(ndcg["test"], ndcg["bm25"], unit, cfg.bootstrap, seed)
        figures["comparison"] = {"metric": f"ndcg@{K}", **vars(better.difference), "p_value": better.p_value}
    return {"num_pairs": len(given), "num_queries": len(ndcg["test"]), "right_frac": float(right.mean()), **figures}


def graded_ndcg(scores: NDArray[Any], given: Judgments) -> Floats:
    """(Q,) graded NDCG@10 of each judged query, in the order of their ids."""
    starts = np.append(np.flatnonzero(np.append(True, np.diff(given.query) != 0)), len(given))
    gains, discounts = 2.0**given.grade - 1.0, 1.0 / np.log2(np.arange(2, K + 2))
    found = np.empty(len(starts) - 1)
    for row, (start, end) in enumerate(itertools.pairwise(starts)):
        own, gain = scores[start:end], gains[start:end]
        places = np.zeros(end - start)
        places[: min(K, end - start)] = discounts[: min(K, end - start)]
        best = np.sort(gain)[::-1] @ places
        found[row] = _mean_of_ties(own, gain) @ places / best if best > 0 else 1.0
    return found


def _mean_of_ties(scores: NDArray[Any], gain: NDArray[Any]) -> Floats:
    """(n,) gains in the order of the scores, each replaced by the mean of those with the same score."""
    values, place = np.unique(-scores, return_inverse=True)
    mean = np.bincount(place, gain, len(values)) / np.bincount(place, minlength=len(values))
    return np.asarray(mean[np.sort(place)])


def by_recommender(
    recommender: Recommender, data: PreparedData, given: Judgments, progress: Progress = silent
) -> NDArray[np.float32]:
    """(J,) scores of ranking each query's judged products, as `Recommender.rank_items` does."""
    scores, done = np.full(len(given), -np.inf, np.float32), 0
    for part, questions in asked(given, data, recommender.catalogue):
        candidates = recommender.retriever.retrieve(questions)
        for rows, one, order in zip(part, candidates, recommender.rank_dense(candidates), strict=True):
            score = dict(zip(one.ids[order.order].tolist(), order.scores.tolist(), strict=True))
            scores[rows] = [score.get(int(item), -np.inf) for item in given.item[rows]]
            done += len(rows)
        progress("judged pairs", done, len(given))
    return scores


def asked(
    given: Judgments, data: PreparedData, catalogue: Catalogue
) -> Iterator[tuple[list[NDArray[np.int64]], list[Question]]]:
    """Every judged query as a question that only its judged products can answer, with the pairs' rows, in batches."""
    texts, cuts = data.queries["query"].to_pylist(), by_query(given)
    for start in range(0, len(cuts), BATCH):
        part = cuts[start : start + BATCH]
        yield (
            part,
            [
                Question(
                    NO_HISTORY,
                    texts[given.query[rows[0]] - 1],
                    mask=catalogue.only(given.item[rows].tolist()),
                    request=Request(top_k=len(rows)),
                )
                for rows in part
            ],
        )


def by_query(given: Judgments) -> list[NDArray[np.int64]]:
    """The rows of each judged query's pairs."""
    return np.split(np.arange(len(given)), np.flatnonzero(np.diff(given.query)) + 1)


def by_words(data: PreparedData, given: Judgments) -> NDArray[np.float32]:
    """(J,) BM25 of each judged product for its query."""
    lexical, texts = Lexical.fit(data.items), data.queries["query"].to_pylist()
    scores = np.zeros(len(given), np.float32)
    for rows in by_query(given):
        scores[rows] = lexical.scores(texts[given.query[rows[0]] - 1])[given.item[rows] - 1]
    return scores
