"""Validation during training: the whole catalogue ranked for every case, NDCG and recall.

A case is a request of the validation part: a history, possibly a query, and the items that count as right answers.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from txrec import features
from txrec.evals.protocol import Cases
from txrec.model.retrieval import RetrievalModel
from txrec.schema import PAD

BATCH = 256
"""Cases encoded together."""


@torch.no_grad()
def measure(
    model: RetrievalModel,
    cases: Cases,
    query_vectors: Tensor | None,
    k: int = 10,
) -> Tensor:
    """Sums over the cases: (3,) float64 of NDCG@k, recall@k and the number of cases.

    NDCG has binary gains and the ideal order of min(k, answers) hits below it; recall is hits / min(k, answers).
    """
    was_training = model.training
    model.eval()
    vectors = model.item_vectors()
    totals = torch.zeros(3, dtype=torch.float64)
    for rows in _by_length(cases):
        part = cases.select(rows)
        top = _top(model, vectors, part, query_vectors, k)
        totals += torch.tensor([*_gains(top, part, k), len(rows)])
    model.train(was_training)
    return totals


def figures(totals: Tensor, k: int = 10) -> dict[str, float]:
    """Means from the sums that `measure` returns (those of several workers may be added first)."""
    ndcg, recall, count = totals.tolist()
    return {f"ndcg@{k}": ndcg / max(count, 1), f"recall@{k}": recall / max(count, 1)}


def _by_length(cases: Cases) -> Iterator[NDArray[np.int64]]:
    order = np.argsort(cases.end - cases.start, kind="stable")
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


def _top(
    model: RetrievalModel, vectors: Tensor, cases: Cases, query_vectors: Tensor | None, k: int
) -> NDArray[np.int64]:
    histories = cases.histories()
    batch = features.collate(histories, query_vectors, model.cfg, cases.query, cases.now_us).to(vectors.device)
    scores = model.last_state(batch) @ vectors.T
    scores[:, PAD] = -torch.inf
    if cases.filter_seen:
        for place, history in enumerate(histories):
            scores[place, torch.from_numpy(history.item.astype(np.int64))] = -torch.inf
    top: NDArray[np.int64] = scores.topk(min(k, scores.shape[1] - 1)).indices.cpu().numpy()
    return top


def _gains(top: NDArray[np.int64], cases: Cases, k: int) -> tuple[float, float]:
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ndcg = recall = 0.0
    for place, row in enumerate(top):
        answers = cases.truth.of(place)
        hits = np.isin(row, answers)
        possible = min(len(answers), k)
        ndcg += float((hits * discounts[: len(row)]).sum() / discounts[:possible].sum())
        recall += float(hits.sum() / possible)
    return ndcg, recall
