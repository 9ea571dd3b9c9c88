"""All configured candidate sources, fitted on the part of the log that lies before a split."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from txrec.config import RetrievalConfig
from txrec.data.prepared import PreparedData
from txrec.index.covisitation import Covisitation
from txrec.index.dense import Dense
from txrec.index.lexical import Lexical
from txrec.index.log import EventLog
from txrec.index.new_items import NewItems
from txrec.index.popularity import Popularity
from txrec.index.query_clicks import QueryClicks
from txrec.index.source import Source


def source_names(cfg: RetrievalConfig) -> tuple[str, ...]:
    """The configured sources; dense and popularity always take part: vectors are needed and slates must be filled."""
    return tuple(dict.fromkeys([*cfg.sources, "dense", "popularity"]))


def fit_sources(
    cfg: RetrievalConfig,
    data: PreparedData,
    log: EventLog,
    vectors: NDArray[np.float32],
    texts: NDArray[np.float32] | None,
    absent: NDArray[np.bool_] | None = None,
) -> dict[str, Source]:
    """Fits the sources.

    Args:
        cfg: which ones, and how fast counts decay.
        data: catalogue and queries.
        log: the events that count-based sources may see.
        vectors: (N + 1, D) L2-normalised item vectors.
        texts: (N + 1, Dt) L2-normalised text vectors; None without text.
        absent: (N + 1,) products known not to be on sale yet when the log ends; None = no such knowledge.
    """
    size, half_life = data.meta.num_items, cfg.half_life_days
    fits: dict[str, Callable[[], Source]] = {
        "dense": lambda: Dense.fit(vectors),
        "lexical": lambda: Lexical.fit(data.items, data.analyser),
        "query_clicks": lambda: QueryClicks.fit(log, data.queries, size, half_life),
        "covisitation": lambda: Covisitation.fit(log, size, half_life),
        "new_items": lambda: NewItems.fit(log, vectors, texts, absent),
        "popularity": lambda: Popularity.fit(log, size, half_life),
    }
    return {name: fits[name]() for name in source_names(cfg)}
