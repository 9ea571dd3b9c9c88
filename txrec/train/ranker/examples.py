"""Examples of the ranker: candidates of logged requests, laid out with the outcomes that the log has of them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from txrec.data.prepared import Sequences
from txrec.evals.outcome_labels import has_outcome, outcome_items, shown_items
from txrec.evals.protocol import EvalRequests
from txrec.model.outcome_heads import OUTCOMES
from txrec.model.ranker import CandidateBatch
from txrec.progress import Progress, silent
from txrec.recommender.ranking.ranking import batch as candidate_batch
from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.recommender.retrieval.retriever import RetrievalQuery, Retriever
from txrec.recommender.types import Candidates, Request
from txrec.schema import DAY_US
from txrec.train.ranker.click_weights import ClickWeights
from txrec.train.ranker.listwise import Examples
from txrec.train.ranker.rare import ItemKind, item_kinds

RETRIEVE_BATCH = 64
"""Requests that are retrieved together."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Log after requests: impressions, clicks, and the weights of clicks."""

    sequences: Sequences
    weights: ClickWeights | None = None
    """None = all alike."""
    window_us: int = 7 * DAY_US
    """Microseconds after a search in which a cart or a purchase counts as its outcome."""


def examples(
    requests: EvalRequests,
    retriever: Retriever,
    ranking_features: RankingFeatures,
    outcomes: Outcomes,
    num_candidates: int,
    progress: Progress = silent,
) -> Examples:
    """Retrieves candidates for logged requests and lays them out with their outcomes.

    Args:
        requests: of the validation part of the log.
        retriever: fitted on what lies before them.
        ranking_features: fitted on the same.
        outcomes: the log, with impressions, and the weights of its clicks.
        num_candidates: candidates per request.
        progress: called after every batch.
    """
    parts, known, kinds = [], has_outcome(outcomes.sequences), item_kinds(ranking_features)
    for rows in chunks(len(requests)):
        candidates = retrieve(retriever, requests, rows, num_candidates)
        inputs = candidate_batch(candidates, ranking_features, num_candidates).padded(num_candidates)
        labels = np.zeros((2, len(rows), num_candidates), dtype=np.bool_)  # right, offered
        weight = np.ones((len(rows), num_candidates), np.float32)
        followed = np.zeros((len(rows), num_candidates, len(OUTCOMES)), dtype=np.bool_)
        kind = np.zeros((len(rows), num_candidates), np.int8)
        for place, (row, one) in enumerate(zip(rows.tolist(), candidates, strict=True)):
            ids, shown = one.item_idx[:num_candidates], shown_items(requests, outcomes.sequences, row)
            right = np.isin(ids, requests.truth.of(row))
            kind[place, : len(ids)] = kinds[ids]
            labels[:, place, : len(ids)] = right, right | np.isin(ids, shown) if len(shown) else np.ones_like(right)
            for column, items in enumerate(outcome_items(requests, outcomes.sequences, row, outcomes.window_us)):
                followed[place, : len(ids), column] = right & np.isin(ids, items) & known[OUTCOMES[column]]
            if outcomes.weights is not None:
                user, now = int(requests.user[row]), int(requests.now_us[row])
                weight[place, np.flatnonzero(right)] = outcomes.weights.at(user, ids[right], now)
        parts.append((inputs, *(torch.from_numpy(one) for one in (labels, weight, followed, kind))))
        progress("retrieving examples", int(rows[-1]) + 1, len(requests))
    batches, label_parts, weight_parts, followed_parts, kind_parts = zip(*parts, strict=True)
    positive, offered = torch.cat(label_parts, dim=1)
    return Examples(
        CandidateBatch.joined(batches),
        positive,
        offered,
        torch.from_numpy(requests.truth.counts),
        None if outcomes.weights is None else torch.cat(weight_parts),
        torch.cat(followed_parts),
        torch.cat(kind_parts),
        torch.from_numpy(_num_right_of_kind(requests, kinds)),
    )


def _num_right_of_kind(requests: EvalRequests, kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, len(ItemKind)) right items of each request by their kind."""
    truth, size = requests.truth, len(ItemKind)
    cell = truth.case * size + kinds[truth.items]
    return np.bincount(cell, minlength=len(requests) * size).reshape(len(requests), size)


def retrieve(retriever: Retriever, requests: EvalRequests, rows: NDArray[np.int64], top_k: int) -> list[Candidates]:
    """Candidates of logged requests, at least `top_k` of each."""
    names = retriever.query_encoder.names
    size = len(retriever.dense.vectors)
    retrieval_queries = []
    for row in rows.tolist():
        history = requests.history(row)
        mask = None
        if requests.filter_seen:
            mask = np.ones(size, dtype=np.bool_)
            mask[requests.items(row)] = False
        retrieval_queries.append(
            RetrievalQuery(
                history,
                names[requests.query_idx[row]],
                int(requests.now_us[row]),
                mask,
                Request(top_k=top_k),
                profile=requests.profile(row),
            )
        )
    return retriever.retrieve(retrieval_queries)


def chunks(count: int) -> list[NDArray[np.int64]]:
    """Rows 0 to `count` in parts that are retrieved together."""
    return [np.arange(start, min(start + RETRIEVE_BATCH, count)) for start in range(0, count, RETRIEVE_BATCH)]
