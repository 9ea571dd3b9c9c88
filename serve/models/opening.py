"""Opening of bundles for serving: checksums, smoke queries, and the identity of a model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from serve.types import Model, SupportsRecommend
from txrec import object_storage
from txrec.errors import BundleError
from txrec.recommender.bundle import Manifest
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Request
from txrec.registry import bundle_cache


def open_bundle(path: str, device: str = "cpu") -> tuple[Recommender, Model]:
    """Opens a bundle at a path or URI, verifies its checksums and tries the smoke queries.

    Args:
        path: of a bundle; object storage is fetched first.
        device: that its networks compute on.

    Raises:
        BundleError: there is no bundle, it is damaged, or a smoke query has no answer.
    """
    recommender = Recommender.open(bundle_cache.bring(object_storage.local_path(path)), device)
    model = replace(describe(recommender.bundle.manifest), num_items=len(recommender.catalogue))
    try_out(recommender, recommender.config.publish.smoke_queries)
    return recommender, model


def describe(manifest: Manifest) -> Model:
    """Identity of a bundle that is not open: its number of products is unknown."""
    return Model(manifest.version, manifest.created, 0, _numbers(manifest.metrics))


def try_out(recommender: SupportsRecommend, queries: Sequence[str]) -> None:
    """Checks the answers to smoke queries and to a request without user and query.

    Raises:
        BundleError: an answer is empty, or a score is not finite.
    """
    requests = [Request(top_k=1), *(Request(query=query, top_k=1) for query in queries)]
    for request, slate in zip(requests, recommender.recommend(requests), strict=True):
        subject = f"the query {request.query!r}" if request.query else "a request without user"
        if not slate.items:
            raise BundleError(f"the bundle has no answer to {subject}")
        if not all(math.isfinite(item.score) for item in slate.items):
            raise BundleError(f"the bundle answers {subject} with scores that are no numbers; its weights are damaged")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The test metrics of a report, or a flat mapping of numbers."""
    table = metrics.get("test", metrics)
    return {name: float(value) for name, value in table.items() if isinstance(value, int | float)}
