"""Live counts of a recommender: its count-based sources and ranker features with the shop's latest events."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from txrec.index.live_log import LiveEvent, LiveLog
from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.recommender.retrieval.retriever import Retriever


def with_live(
    retriever: Retriever,
    features: RankingFeatures,
    events: Sequence[LiveEvent],
    half_life_days: float,
    profile_of: Callable[[str], Mapping[str, str]],
) -> tuple[Retriever, RankingFeatures, LiveLog] | None:
    """Retriever and features whose counts include live events, and those events; None where no event counts.

    Args:
        retriever: without live counts.
        features: without live counts.
        events: of all users; those that the training log may hold are left out.
        half_life_days: of the slow decay.
        profile_of: properties of a user.
    """
    activity, idx_of = features.activity, features.catalogue.idx_of
    reads_profiles = any(source.profile_features for source in retriever.sources.values())
    of_user = profile_of if reads_profiles else None
    live = LiveLog.of(events, idx_of, activity.end_us, half_life_days, activity.slow, of_user)
    if live is None:
        return None
    retriever = copy.copy(retriever)
    retriever.sources = {name: source.with_live(live) for name, source in retriever.sources.items()}
    features = replace(features, activity=activity.with_live(live), sources=retriever.sources)
    features.warm()
    return retriever, features, live
