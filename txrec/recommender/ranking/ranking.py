"""Candidates to an order: features, the ranker in one batch, and diversification.

Works in dense indices, for `txrec.recommender.recommender` and for evaluation alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from txrec.config import ObjectiveConfig
from txrec.index.rank_fusion import ReservedSlots, keep_slots
from txrec.model.ranker import NUM_REQUEST_FEATURES, CandidateBatch, Ranker
from txrec.recommender.ranking.name_order import NameOrder
from txrec.recommender.ranking.objective import expected_worth, not_estimated
from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.recommender.ranking.showings import fatigue_factor, num_showings
from txrec.recommender.types import Candidates, Request


@dataclass(frozen=True, eq=False)
class Ranked:
    """One request's candidates in their final order."""

    order: NDArray[np.int64]
    """(K,) places in `Candidates`, best first."""
    scores: NDArray[np.float32]
    """(K,) in the same order: expected worth where `estimates` are there, else click probabilities if `by_ranker`, else
    fused retrieval scores."""
    by_ranker: bool
    estimates: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """(K,) per kind of event, by place in `Candidates`, see `objective.Worth`; NaN for candidates that the ranker did
    not see. Empty unless an objective decided the order."""
    notes: tuple[str, ...] = ()
    """Parts of the objective that have no effect."""

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """(K,) click probabilities in the order, 0 = unknown; `scores` where no objective decided it."""
        if not self.estimates:
            return self.scores
        return np.nan_to_num(self.estimates["click"][self.order], nan=0.0)

    def reordered(self, places: NDArray[np.int64]) -> "Ranked":
        """The same candidates in another order: (K,) places in this one."""
        return replace(self, order=self.order[places], scores=self.scores[places])


def batch(candidates: Sequence[Candidates], ranking_features: RankingFeatures, num_candidates: int) -> CandidateBatch:
    """The ranker's input for B requests, padded to the largest candidate set.

    Args:
        candidates: of B requests, none empty.
        ranking_features: what features are made from.
        num_candidates: candidates per request that take part, at least its `top_k`.
    """
    counts = [min(len(c), max(num_candidates, c.request.top_k)) for c in candidates]
    width = max(counts)
    items = np.zeros((len(counts), width, ranking_features.item_vectors.shape[1]), np.float32)
    features = np.zeros((len(counts), width, ranking_features.num_features), np.float32)
    request = np.zeros((len(counts), NUM_REQUEST_FEATURES), np.float32)
    all_features, offset = ranking_features.compute(candidates, counts), 0
    for row, (one, count) in enumerate(zip(candidates, counts, strict=True)):
        items[row, :count] = ranking_features.item_vectors[one.item_idx[:count]]
        features[row, :count] = all_features[offset : offset + count]
        request[row] = ranking_features.request_features(one)
        offset += count
    return CandidateBatch(
        items=torch.from_numpy(items),
        features=torch.from_numpy(features),
        mask=torch.arange(width) < torch.tensor(counts)[:, None],
        state=torch.from_numpy(np.stack([c.state for c in candidates])),
        query=torch.from_numpy(np.stack([c.query_vector for c in candidates])),
        request=torch.from_numpy(request),
    )


@torch.inference_mode()
def rank(
    candidates: Sequence[Candidates],
    ranker: Ranker | None,
    ranking_features: RankingFeatures,
    reserved: ReservedSlots | None = None,
    objective: ObjectiveConfig | None = None,
    fatigue: Sequence[float] = (),
) -> list[Ranked]:
    """Reorders every request's candidates; items in reserved slots keep their slots regardless of score.

    Retrieval order where there is no ranker, nothing to go by, or no such request (a search, or none) in what the
    ranker learned from. Else by expected worth where the request or the bundle has an objective.

    Args:
        candidates: of B requests.
        ranker: None = retrieval order.
        ranking_features: input of the ranker.
        reserved: slots for products without events.
        objective: of requests that say none; None = by relevance.
        fatigue: factors on click probabilities after 0, 1, 2 ... showings in vain, for requests that ask for them.
    """
    default = objective or ObjectiveConfig()
    objectives = [default if one.request.objective is None else one.request.objective for one in candidates]
    ranked = _ranked(candidates, objectives, ranker, ranking_features, (reserved, fatigue))
    return [by_name(order, one, ranking_features) for order, one in zip(ranked, candidates, strict=True)]


def _ranked(
    candidates: Sequence[Candidates],
    objectives: Sequence[ObjectiveConfig],
    ranker: Ranker | None,
    ranking_features: RankingFeatures,
    settings: tuple[ReservedSlots | None, Sequence[float]],
) -> list[Ranked]:
    reserved, fatigue = settings
    ranked = [_retrieval_order(one, goal) for one, goal in zip(candidates, objectives, strict=True)]
    if ranker is None:
        return ranked
    learned = {has_query: ranker.has_learned(has_query) for has_query in (True, False)}
    usable = (len(one) and one.fallback is None and learned[bool(one.query)] for one in candidates)
    rows = [row for row, use in enumerate(usable) if use]
    if not rows:
        return ranked
    inputs = batch([candidates[row] for row in rows], ranking_features, ranker.cfg.num_candidates)
    on_device = inputs.to(next(ranker.parameters()).device)
    if any(objectives[row].is_set for row in rows):
        scores, by_kind = ranker.estimates(on_device)
    else:
        scores = ranker(on_device)
        by_kind = {"click": ranker.probabilities(scores)}
    chances = {kind: values.cpu().numpy() for kind, values in by_kind.items()}
    counts = inputs.mask.sum(dim=1).tolist()
    for place, (row, count, score) in enumerate(zip(rows, counts, scores.cpu().numpy(), strict=True)):
        own, relevance = {kind: values[place, :count] for kind, values in chances.items()}, score[:count]
        if candidates[row].request.fatigue and fatigue:
            factors = _factors(candidates[row], count, ranking_features, fatigue)
            own = {kind: values * factors for kind, values in own.items()}
            relevance = own["click"]
        ranked[row] = _by_worth(candidates[row], objectives[row], relevance, own, ranking_features)
        if reserved is not None:
            ranked[row] = _with_slots(ranked[row], candidates[row], reserved, count)
    return ranked


def _by_worth(
    candidates: Candidates,
    objective: ObjectiveConfig,
    scores: NDArray[np.float32],
    chances: Mapping[str, NDArray[np.float32]],
    ranking_features: RankingFeatures,
) -> Ranked:
    """Order of one request's candidates by relevance, or by expected worth where there is an objective."""
    if objective.is_set:
        catalogue = ranking_features.catalogue.at(candidates.request.context, candidates.now_us)
        prices = catalogue.prices[candidates.item_idx[: len(scores)]]
        worth = expected_worth(objective, chances, prices, catalogue.usual_price)
        if worth is not None:
            order = np.argsort(-worth.values, kind="stable")
            unseen = np.full(len(candidates) - len(scores), np.nan, np.float32)
            estimates = {kind: np.append(values, unseen) for kind, values in worth.estimates.items()}
            return replace(_with_rest(order, worth.values, candidates), estimates=estimates, notes=worth.notes)
    order = np.argsort(-scores, kind="stable")
    notes = tuple(not_estimated(kind) for kind, worth in objective.model_dump().items() if worth > 0)
    return replace(_with_rest(order, chances["click"], candidates), notes=notes)


def _factors(
    candidates: Candidates, count: int, ranking_features: RankingFeatures, fatigue: Sequence[float]
) -> NDArray[np.float32]:
    """(count,) factors of fatigue on the first candidates of a request."""
    showings = num_showings(candidates.history, candidates.request.shown, ranking_features.catalogue.idx_of)
    return fatigue_factor(showings, candidates.item_idx[:count], fatigue)


def _with_slots(ranked: Ranked, candidates: Candidates, reserved: ReservedSlots, count: int) -> Ranked:
    """An order in which items in reserved slots keep them; `count` candidates are ranked."""
    order = ranked.order[:count]
    ranks = candidates.ranks[order, reserved.column]
    kept = keep_slots(order, (ranks > 0) & (ranks <= reserved.count), min(reserved.within, count))
    place = np.empty(len(candidates), np.int64)
    place[ranked.order] = np.arange(len(candidates))
    return ranked.reordered(np.append(place[kept], np.arange(count, len(candidates))))


def by_name(ranked: Ranked, candidates: Candidates, ranking_features: RankingFeatures) -> Ranked:
    """An order in which the names of products hold whatever the ranker says; searches alone are changed.

    A product whose article number is the whole query stands first. A product with hardly any events whose title has
    every term of the query stands no later than among the lexical matches, but behind products that people chose for
    such queries: a ranker trained on clicks has hardly seen that a product without any is wanted.
    """
    if not candidates.query:
        return ranked
    name_order = NameOrder(ranking_features, candidates)
    order = name_order.named_first(name_order.learned_first(name_order.rare_by_lexical_rank(ranked.order)))
    if order is ranked.order:
        return ranked
    place = np.empty(len(order), np.int64)
    place[ranked.order] = np.arange(len(order))
    return ranked.reordered(place[order])


def diversify(ranked: Ranked, vectors: NDArray[np.float32], diversity: float, count: int) -> Ranked:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) over the first candidates.

    Args:
        ranked: the order by relevance.
        vectors: (K, D) L2-normalised item vectors in that order.
        diversity: 0 = relevance alone, 1 = dissimilarity alone (after the first item).
        count: length of the slate; at most four times as many candidates are considered.
    """
    if diversity <= 0 or len(ranked.order) < 2:
        return ranked
    pool = min(len(ranked.order), _pool(count))
    relevance = 1.0 - np.arange(pool) / pool  # by place: probabilities of a slate span orders of magnitude
    nearest = np.full(pool, -1.0)
    remaining = np.ones(pool, dtype=np.bool_)
    picks: list[int] = []
    for _ in range(min(count, pool)):
        gain = (1.0 - diversity) * relevance - (diversity * nearest if picks else 0.0)
        best = int(np.where(remaining, gain, -np.inf).argmax())
        picks.append(best)
        remaining[best] = False
        nearest = np.maximum(nearest, vectors[:pool] @ vectors[best])
    rest = np.setdiff1d(np.arange(len(ranked.order)), picks)
    return ranked.reordered(np.append(np.array(picks, dtype=np.int64), rest))


def candidates_needed(request: Request) -> int:
    """Candidates, by relevance, that can be in the request's slate."""
    return _pool(request.top_k) if request.diversity > 0 else request.top_k


def _pool(count: int) -> int:
    return max(4 * count, 50)


def _retrieval_order(candidates: Candidates, objective: ObjectiveConfig) -> Ranked:
    notes = ("objective: has no effect, the ranker does not answer such requests",) if objective.is_set else ()
    return Ranked(np.arange(len(candidates)), candidates.fused, by_ranker=False, notes=notes)


def _with_rest(order: NDArray[np.int64], values: NDArray[np.float32], candidates: Candidates) -> Ranked:
    """An order of ranked candidates by (k,) values, then those that the ranker did not see, below the least of them."""
    rest = np.arange(len(order), len(candidates))
    below = candidates.fused[rest] / max(float(candidates.fused[:1].max(initial=0.0)), 1e-9) * values.min()
    return Ranked(np.append(order, rest), np.append(values[order], below).astype(np.float32), by_ranker=True)
