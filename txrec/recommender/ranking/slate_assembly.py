"""Slates from ranked candidates: items with titles, scores, sources and reasons, and the candidates before ranking."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from txrec.recommender.catalogue import Catalogue
from txrec.recommender.ranking.explanations import Explainer
from txrec.recommender.ranking.ranking import Ranked
from txrec.recommender.retrieval.retriever import Retriever
from txrec.recommender.stage_timer import StageTimer
from txrec.recommender.types import Candidates, Request, Slate, SlateItem


@dataclass(frozen=True, eq=False)
class Decoration:
    """Slates in the shop's ids and texts.

    Attributes:
        catalogue_of: ids, titles and prices, for a request.
        retriever: names of the sources, and what reasons are made of.
        num_ranked: candidates per request that the ranker reorders.
    """

    catalogue_of: Callable[[Request], Catalogue]
    retriever: Retriever
    num_ranked: int

    def slate(self, candidates: Candidates, ranked: Ranked, timings: Mapping[str, float]) -> Slate:
        """The slate of one request.

        Args:
            candidates: of the request.
            ranked: their final order.
            timings: stage = milliseconds so far.
        """
        timer = StageTimer()
        catalogue = self.catalogue_of(candidates.request)
        explain = Explainer(catalogue, self.retriever, candidates) if candidates.request.explain else None
        top = ranked.order[: candidates.request.top_k]
        items = _with_estimates(self._items(candidates, top, ranked.scores, explain), top, ranked)
        proposed = self._proposed(candidates) if candidates.request.with_candidates else ()
        return Slate(
            items=items,
            candidates=proposed,
            fallback=candidates.fallback,
            timings_ms=timer.joined("decorate", {**candidates.timings_ms, **timings}),
            notes=(*candidates.notes, *ranked.notes),
        )

    def _proposed(self, candidates: Candidates) -> tuple[SlateItem, ...]:
        """Candidates in retrieval order, as far as the slate or the ranker looks."""
        kept = min(max(candidates.request.top_k, self.num_ranked), len(candidates))
        return self._items(candidates, np.arange(kept), candidates.fused, None)

    def _items(
        self,
        candidates: Candidates,
        places: NDArray[np.int64],
        scores: NDArray[np.float32],
        explain: Callable[[int], tuple[str, ...]] | None,
    ) -> tuple[SlateItem, ...]:
        """The candidates at some places, in this order, with as many scores or more."""
        catalogue = self.catalogue_of(candidates.request)
        names, keys, titles = self.retriever.names, catalogue.item_ids, catalogue.titles
        ranks, ids = candidates.ranks[places], candidates.item_idx[places]
        proposals = np.nonzero(ranks)
        sources: list[dict[str, float]] = [{} for _ in places]
        for row, source, value in zip(
            *(part.tolist() for part in proposals), candidates.scores[places][proposals].tolist(), strict=True
        ):
            sources[row][names[source]] = value
        placed_best = np.where(ranks > 0, ranks, np.iinfo(ranks.dtype).max).argmin(axis=1)
        columns = (places.tolist(), ids.tolist(), scores[: len(places)].tolist(), sources, placed_best.tolist())
        return tuple(
            SlateItem(
                item_id=str(keys[item]),
                score=score,
                title=titles[item],
                price=catalogue.price_of(item),
                source=names[best] if by_source else "",
                sources=by_source,
                reasons=explain(place) if explain else (),
            )
            for place, item, score, by_source, best in zip(*columns, strict=True)
        )


def _with_estimates(items: tuple[SlateItem, ...], places: NDArray[np.int64], ranked: Ranked) -> tuple[SlateItem, ...]:
    """Items with their estimated probabilities, where an objective decided the order and the ranker saw them."""
    if not ranked.estimates:
        return items
    own = [
        {kind: float(values[place]) for kind, values in ranked.estimates.items() if not np.isnan(values[place])}
        for place in places
    ]
    return tuple(replace(item, estimates=estimates) for item, estimates in zip(items, own, strict=True))
