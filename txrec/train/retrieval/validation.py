"""Validation during retrieval training: NDCG and recall with the whole catalogue ranked.

A case is a request of the validation part: a history, possibly a query, and the items that count as right answers.
The catalogue passes by in parts, each compared with all cases, so that neither all scores nor all item vectors are in
memory at once.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from txrec.arrays import ndcg
from txrec.evals.protocol import EvalRequests
from txrec.model import history_features
from txrec.model.retrieval import RetrievalModel
from txrec.schema import PAD

BATCH = 256
"""EvalRequests encoded together."""


@torch.no_grad()
def measure(
    model: RetrievalModel,
    cases: EvalRequests,
    query_vectors: Tensor | None,
    k: int = 10,
    least_cases: int = 0,
) -> Tensor:
    """Sums over the cases: (3,) float64 of NDCG@k, recall@k and the number of cases.

    NDCG has binary gains and the ideal order of min(k, answers) hits below it; recall is hits / min(k, answers).

    Args:
        model: its item table may be spread over processes; then all of them call this together.
        cases: of this process.
        query_vectors: that the cases' queries point into.
        k: length of the ranked lists.
        least_cases: of any process, so that all of them encode as many batches.
    """
    was_training = model.training
    model.eval()
    order = np.argsort(cases.end - cases.start, kind="stable")
    queries = [
        _ask(model, cases.select(order[start : start + BATCH]), query_vectors)
        for start in range(0, max(len(order), least_cases), BATCH)
    ]
    for first, vectors in model.item_vectors_in_parts():
        for questions in queries:
            questions.see(first, vectors, k)
    totals = torch.zeros(3, dtype=torch.float64)
    for questions in queries:
        totals += torch.tensor([*_gains(questions.best.cpu().numpy(), questions.cases, k), len(questions.cases)])
    model.train(was_training)
    return totals


def figures(totals: Tensor, k: int = 10) -> dict[str, float]:
    """Means from the sums that `measure` returns (those of several workers may be added first)."""
    ndcg, recall, count = totals.tolist()
    return {f"ndcg@{k}": ndcg / max(count, 1), f"recall@{k}": recall / max(count, 1)}


@dataclass(eq=False)
class _Questions:
    """A batch of cases and the best items for them among those seen so far."""

    cases: EvalRequests
    states: Tensor  # (B, D)
    row: Tensor  # (X,) together with `item`: what may not be answered
    item: Tensor  # (X,)
    scores: Tensor  # (B, <= k) of the best items, best first
    best: Tensor  # (B, <= k)

    def see(self, first: int, vectors: Tensor, k: int) -> None:
        """Takes the items first, first + 1, ... into account, given their vectors."""
        scores = self.states @ vectors.T
        here = (self.item >= first) & (self.item < first + len(vectors))
        scores[self.row[here], self.item[here] - first] = -torch.inf
        top = scores.topk(min(k, scores.shape[1]))
        both = torch.cat([self.scores, top.values], dim=1)
        self.scores, place = both.topk(min(k, both.shape[1]))
        self.best = torch.cat([self.best, top.indices + first], dim=1).gather(1, place)


def _ask(model: RetrievalModel, cases: EvalRequests, query_vectors: Tensor | None) -> _Questions:
    device = model.encoder.id_row.device
    histories = cases.histories()
    batch = history_features.collate(histories, query_vectors, model.cfg, cases.query_idx, cases.now_us).to(device)
    row = [np.arange(len(cases))]
    item = [np.full(len(cases), PAD)]
    if cases.filter_seen:
        row.append(np.repeat(row[0], [len(history.item_idx) for history in histories]))
        item += [history.item_idx for history in histories]
    return _Questions(
        cases=cases,
        states=model.last_state(batch),
        row=_indices(row).to(device),
        item=_indices(item).to(device),
        scores=torch.empty(len(cases), 0, device=device),
        best=torch.empty(len(cases), 0, dtype=torch.int64, device=device),
    )


def _indices(parts: list[NDArray[np.int64]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def _gains(top: NDArray[np.int64], cases: EvalRequests, k: int) -> tuple[float, float]:
    """Sums over the requests of NDCG@k and of recall@k, a share of the k best possible."""
    relevant = cases.truth.counts
    hit = np.array([np.isin(row, cases.truth.of(case)) for case, row in enumerate(top)]).reshape(top.shape)
    return float(ndcg(hit, relevant, k).sum()), float((hit.sum(axis=1) / np.minimum(relevant, k)).sum())
