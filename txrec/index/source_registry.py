"""Registry of candidate sources: their classes by the name that `retrieval.sources` and bundles use.

A source is one file with a subclass of `txrec.index.source.Source` and its line here. A program that uses the library
may add its own to `SOURCES` before it fits or opens bundles.
"""

import difflib

from txrec.config import RetrievalConfig
from txrec.errors import ConfigError
from txrec.index.source import FitContext, Source
from txrec.index.sources.covisitation import Covisitation
from txrec.index.sources.dense import Dense
from txrec.index.sources.lexical import Lexical
from txrec.index.sources.new_items import NewItems
from txrec.index.sources.popularity import Popularity
from txrec.index.sources.profile_affinity import NAME as PROFILE
from txrec.index.sources.profile_affinity import ProfileAffinity
from txrec.index.sources.query_clicks import QueryClicks

SOURCES: dict[str, type[Source]] = {
    "dense": Dense,
    "lexical": Lexical,
    "query_clicks": QueryClicks,
    "covisitation": Covisitation,
    "popularity": Popularity,
    "new_items": NewItems,
    "profile": ProfileAffinity,
}


def source_names(cfg: RetrievalConfig, has_profiles: bool = False) -> tuple[str, ...]:
    """The configured sources; dense and popularity always take part: vectors are needed and slates must be filled.

    Args:
        cfg: the configured ones.
        has_profiles: whether there is a users table or context of events; `profile` then takes part too, unless
            `use_profiles` is off.

    Raises:
        ConfigError: a name that no registered source has.
    """
    profile = [PROFILE] if has_profiles and cfg.use_profiles else []
    names = tuple(dict.fromkeys([*cfg.sources, "dense", "popularity", *profile]))
    for name in names:
        if name not in SOURCES:
            nearest = difflib.get_close_matches(name, SOURCES, 1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ConfigError(
                f"retrieval.sources: no candidate source is called {name!r}; expected {', '.join(SOURCES)}{hint}"
            )
    return names


def fit_sources(context: FitContext) -> dict[str, Source]:
    """The configured sources by name, fitted, in order of trust."""
    data = context.data
    names = source_names(context.config, data.profiles is not None or bool(data.contexts))
    return {name: _fitted(name, context) for name in names}


def _fitted(name: str, context: FitContext) -> Source:
    kind = SOURCES[name]
    if not kind.from_catalogue:
        return kind.fit_source(context)
    if name not in context.fitted:
        context.fitted[name] = kind.fit_source(context)
    return context.fitted[name]
