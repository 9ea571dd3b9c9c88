"""Graded relevance within judged pairs: NDCG@10 over the products graded for a query, of the recommender and of BM25.

NDCG@10 is graded: a pair gains 2 ** grade - 1, and ties of a score count as their mean order (McSherry and Najork,
2008). ROC-AUC asks, over all pairs at once, whether a right pair scores above a wrong one; a pair is right from
`evaluate.relevant_grade` on. Queries that were judged once, or the same for all products, take part: they score 1.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.arrays import dcg_discounts
from txrec.config import EvaluateConfig
from txrec.data.judgments import Judgments
from txrec.data.prepared import PreparedData
from txrec.evals import bootstrap, metrics
from txrec.evals.metrics import Floats
from txrec.index.sources.lexical import Lexical
from txrec.progress import Progress, silent
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.recommender import Recommender, Request
from txrec.recommender.retrieval.retriever import NO_HISTORY, RetrievalQuery
from txrec.schema import PAD, Split

K = 10
METRIC = f"ndcg@{K} of judged pairs"
HEAD = (f"ndcg@{K}", "95 % interval", "ROC-AUC", "p")
BATCH = 128
TOLERANCE = 1e-4
"""Tolerance of a grade such as 2.67, kept as float32."""


def judged(
    recommenders: Mapping[str, Recommender],
    data: PreparedData,
    split: Split,
    cfg: EvaluateConfig,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """NDCG@10 and ROC-AUC of recommenders and BM25 on a split's judgments; empty without any.

    Args:
        recommenders: name = recommender; `test` is the one that the others are compared with.
        data: the prepared data set.
        split: part of the judgments.
        cfg: grade of a right answer, resamples of the bootstrap.
        seed: of the bootstrap.
        progress: called after every batch.

    Returns:
        Figures per system, their intervals, and paired tests against `test`.
    """
    judgments = Judgments.of(data, split)
    if not len(judgments):
        return {}
    scores = {name: by_recommender(one, data, judgments, progress) for name, one in recommenders.items()}
    scores["bm25"] = by_words(data, judgments)
    ndcg = {name: graded_ndcg(values, judgments) for name, values in scores.items()}
    right = judgments.grade >= cfg.relevant_grade - TOLERANCE
    figures = {
        name: {f"ndcg@{K}": float(ndcg[name].mean()), "auc": metrics.auc(values, right)}
        for name, values in scores.items()
    }
    return {
        "num_pairs": len(judgments),
        "num_queries": len(ndcg["test"]),
        "right_frac": float(right.mean()),
        "baselines": {"bm25": figures.pop("bm25")},
        **figures,
        **_certainty(ndcg, cfg.bootstrap, seed),
    }


def _certainty(ndcg: Mapping[str, Floats], resamples: int, seed: int) -> dict[str, Any]:
    """Intervals of the NDCG of every system, with queries as units; paired tests against `test`."""
    if not resamples:
        return {"intervals": {}, "comparisons": {}}
    unit, metric = np.arange(len(ndcg["test"])), f"ndcg@{K}"
    intervals = bootstrap.intervals(ndcg, unit, resamples, seed)
    others = {name: values for name, values in ndcg.items() if name != "test"}
    compared = {name: bootstrap.paired(ndcg["test"], other, unit, resamples, seed) for name, other in others.items()}
    return {
        "intervals": {name: {metric: vars(interval)} for name, interval in intervals.items()},
        "comparisons": {name: {"metric": metric, **paired.to_dict()} for name, paired in compared.items()},
    }


def lines(figures: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """System = cells under `HEAD`, the recommender first, from the result of `judged`."""
    systems = {name: figures[name] for name in ("test", "production") if name in figures} | figures["baselines"]
    rows: dict[str, tuple[str, ...]] = {}
    for name, values in systems.items():
        interval, compared = figures["intervals"].get(name, {}).get(f"ndcg@{K}"), figures["comparisons"].get(name)
        sure = f"{interval['low']:.4f} to {interval['high']:.4f}" if interval else ""
        luck = f"{compared['p_value']:.3f}" if compared else ""
        rows[name] = (f"{values[f'ndcg@{K}']:.4f}", sure, f"{values['auc']:.4f}", luck)
    return rows


def graded_ndcg(scores: NDArray[Any], judgments: Judgments) -> Floats:
    """(Q,) graded NDCG@10 of each judged query, in the order of their ids."""
    gains, discounts = 2.0**judgments.grade - 1.0, dcg_discounts(K)
    values = []
    for rows in by_query(judgments):
        gain, places = gains[rows], np.zeros(len(rows))
        places[:K] = discounts[: len(rows)]
        best = np.sort(gain)[::-1] @ places
        values.append(_mean_of_ties(scores[rows], gain) @ places / best if best > 0 else 1.0)
    return np.array(values)


def _mean_of_ties(scores: NDArray[Any], gain: NDArray[Any]) -> Floats:
    """(n,) gains in the order of the scores, each replaced by the mean of those with the same score."""
    values, place = np.unique(-scores, return_inverse=True)
    mean = np.bincount(place, gain, len(values)) / np.bincount(place, minlength=len(values))
    return np.asarray(mean[np.sort(place)])


def by_recommender(
    recommender: Recommender, data: PreparedData, judgments: Judgments, progress: Progress = silent
) -> NDArray[np.float32]:
    """(J,) scores of ranking each query's judged products, as `Recommender.rank_items` does.

    The bundle may have been made from other data; products that it does not know score lowest.
    """
    dense = np.array([PAD, *(recommender.catalogue.idx_of.get(key, PAD) for key in data.items["item_id"].to_pylist())])
    in_catalogue = np.flatnonzero(dense[judgments.item] != PAD)
    own = judgments.select(in_catalogue)
    own = replace(own, item=dense[own.item].astype(np.int32))
    scores, done = np.full(len(judgments), -np.inf, np.float32), 0
    for part, retrieval_queries in judged_requests(own, data, recommender.catalogue):
        candidates = recommender.retriever.retrieve(retrieval_queries)
        for rows, one, order in zip(part, candidates, recommender.rank_dense(candidates), strict=True):
            score = dict(zip(one.item_idx[order.order].tolist(), order.scores.tolist(), strict=True))
            scores[in_catalogue[rows]] = [score.get(int(item), -np.inf) for item in own.item[rows]]
            done += len(rows)
        progress("judged pairs", done, len(judgments))
    return scores


def judged_requests(
    judgments: Judgments, data: PreparedData, catalogue: Catalogue
) -> Iterator[tuple[list[NDArray[np.int64]], list[RetrievalQuery]]]:
    """Every judged query as a question that only its judged products can answer, with the pairs' rows, in batches."""
    texts, cuts = data.queries["query"].to_pylist(), by_query(judgments)
    for start in range(0, len(cuts), BATCH):
        part = cuts[start : start + BATCH]
        yield (
            part,
            [
                RetrievalQuery(
                    NO_HISTORY,
                    texts[judgments.query[rows[0]] - 1],
                    mask=catalogue.only(judgments.item[rows].tolist()),
                    request=Request(top_k=len(rows)),
                )
                for rows in part
            ],
        )


def by_query(judgments: Judgments) -> list[NDArray[np.int64]]:
    """The rows of each judged query's pairs."""
    if not len(judgments):
        return []
    return np.split(np.arange(len(judgments)), np.flatnonzero(np.diff(judgments.query)) + 1)


def by_words(data: PreparedData, judgments: Judgments) -> NDArray[np.float32]:
    """(J,) BM25 of each judged product for its query."""
    lexical, texts = Lexical.fit(data.items, data.analyser), data.queries["query"].to_pylist()
    scores = np.zeros(len(judgments), np.float32)
    for rows in by_query(judgments):
        scores[rows] = lexical.scores(texts[judgments.query[rows[0]] - 1])[judgments.item[rows] - 1]
    return scores
