"""Record of exploration in one served slate, from which the probability of any other slate follows exactly."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from txrec.loop.exploration.exploration import Bounds, draw, utilities

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Record:
    """Exploration record of a slate: its candidates, their utilities and ranks.

    Attributes:
        share: of the slates that were drawn.
        first_place: first place that could change.
        num_places: places that could change.
        drawn: whether this slate was drawn.
        rank: place that each product has in the sorted slate, in the order shown.
        utility: log odds of each product of the sorted slate; None = could not be drawn.
        prefix: probability of the products of places 0..d in this order, d up to the last that could change.
        hidden: ids of the sorted slate's products that were not shown, in the order of the last of `rank`.
        hidden_scores: theirs.
    """

    share: float
    first_place: int
    num_places: int
    drawn: bool
    rank: tuple[int, ...]
    utility: tuple[float | None, ...]
    prefix: tuple[float, ...]
    hidden: tuple[str, ...] = ()
    hidden_scores: tuple[float, ...] = ()

    @property
    def shown_rank(self) -> tuple[int, ...]:
        """`rank` of the products that were shown."""
        return self.rank[: len(self.rank) - len(self.hidden)]

    @property
    def bounds(self) -> Bounds:
        """The bounds that probabilities follow from, `utility` instead of scores."""
        return Bounds(share=self.share, first_place=self.first_place, num_places=self.num_places, pool=len(self.rank))

    def to_json(self) -> str:
        """JSON text for the log."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Reads what `to_json` gave."""
        fields = json.loads(text)
        names = ("rank", "utility", "prefix", "hidden", "hidden_scores")
        lists = {name: tuple(fields.get(name, ())) for name in names}
        return cls(**{**fields, **lists})


def explore(
    scores: Sequence[float], views: Sequence[float], bounds: Bounds, rng: np.random.Generator, shown: int | None = None
) -> tuple[tuple[int, ...], Record | None]:
    """The order in which a sorted slate is shown.

    Args:
        scores: of the slate, best first: click probabilities, or any scores that do not exceed 1 or fall below 0.
        views: times that each product has been shown.
        bounds: of the shop; places and pool are cut to the slate.
        rng: draws.
        shown: places that will be shown; None = all.

    Returns:
        Places of the sorted slate in the order to show, and the record; None where nothing could change.
    """
    places = min(bounds.num_places, min(len(scores), shown or len(scores)) - bounds.first_place)
    order = tuple(range(len(scores)))
    if bounds.share <= 0 or places < 1 or len(scores) - bounds.first_place < 2:
        return order, None
    cut = replace(bounds, num_places=places)
    utility = utilities(log_odds(np.array([scores])), cut, np.array([views], np.float64))
    draws = draw(utility, cut, rng, marginals=False)
    head = draws.place[0].tolist()
    order = (*head, *(place for place in order if place not in set(head)))
    finite = [float(value) if np.isfinite(value) else None for value in utility[0]]
    record = Record(
        cut.share, cut.first_place, places, bool(draws.drawn[0]), order, tuple(finite), tuple(draws.prefix[0].tolist())
    )
    return order, record


def log_odds(scores: Floats) -> Floats:
    """Log odds of click probabilities; scores outside 0 to 1 stay as they are."""
    if ((scores <= 0) | (scores >= 1)).any():
        return scores
    return np.asarray(np.log(scores) - np.log1p(-scores))
