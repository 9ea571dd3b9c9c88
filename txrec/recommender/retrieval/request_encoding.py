"""Request encoding: a request in the shop's ids becomes a retrieval query in dense indices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from txrec import schema
from txrec.data.profiles import PropertyValue, StoredProfiles, value_text
from txrec.errors import RequestError
from txrec.index.source import Mask
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.retrieval.request_history import StoredHistories
from txrec.recommender.retrieval.retriever import BatchQueryVectors, RetrievalQuery
from txrec.recommender.types import Request
from txrec.text import normalise


@dataclass(frozen=True, eq=False)
class RequestEncoder:
    """Encoder of requests for one state of the catalogue.

    Attributes:
        catalogue: dense indices of the products.
        view: the catalogue in the store or country of a request, at its time.
        histories: stored events of users.
        source_names: candidate sources of the model.
        end_us: time of requests without one, microseconds since 1970 UTC: just after the log.
        profiles: the users table; None without one.
        knows_profile: tells whether properties lead to candidates.
    """

    catalogue: Catalogue
    view: Callable[[Request], Catalogue]
    histories: StoredHistories
    source_names: Sequence[str]
    end_us: int
    profiles: StoredProfiles | None
    knows_profile: Callable[[Mapping[str, str]], bool]

    def retrieval_query(self, request: Request, batch_vectors: BatchQueryVectors) -> RetrievalQuery:
        """A request in dense indices: history, query, mask, and notes on ignored parts.

        Args:
            request: in the shop's ids.
            batch_vectors: takes up the texts of its searches.

        Raises:
            RequestError: a field that cannot be; names it.
        """
        _check(request)
        unknown = sorted(set(request.sources) - set(self.source_names))
        if unknown:
            names = ", ".join(self.source_names)
            raise RequestError("sources", f"the model has no candidate source {unknown[0]!r}; expected some of {names}")
        query = normalise(request.query or "")
        history, notes = self.histories.of_request(request, self.catalogue, batch_vectors)
        excluded = [
            self.catalogue.idx_of[key] for key in (*request.cart, *request.exclude) if key in self.catalogue.idx_of
        ]
        if request.exclude_seen:
            excluded.extend(int(item) for item in np.unique(history.item_idx) if item != schema.PAD)
            excluded.extend({self.catalogue.idx_of[key] for key, _ in request.shown if key in self.catalogue.idx_of})
        profile = self.properties(request)
        nothing = not query and not len(history.item_idx) and not self.knows_profile(profile)
        return RetrievalQuery(
            history=history,
            query=query,
            now_us=request.now_us or max(self.end_us, int(history.ts[-1]) if len(history.ts) else 0),
            mask=self.allowed(request, excluded),
            request=replace(request, blocked=None),
            fallback="unknown_user" if nothing else None,
            notes=notes,
            profile=profile,
            excluded=excluded,
        )

    def properties(self, request: Request) -> dict[str, str]:
        """Properties of a request's user, live ones or those of the users table, and its context, as texts."""
        if request.properties is None and self.profiles is not None:
            stored = self.profiles.of(request.user_id)
            values: Mapping[str, PropertyValue] = {} if stored is None else stored.properties
        else:
            values = request.properties or {}
        return {name: value_text(value) for name, value in {**values, **request.context}.items()}

    def allowed(self, request: Request, excluded: Sequence[int]) -> Mask:
        """(N + 1,) products that may be shown; None = all."""
        mask = self.view(request).mask(request.filters, excluded)
        if request.blocked is None:
            return mask
        allowed = ~request.blocked[: len(self.catalogue) + 1]
        allowed = np.append(allowed, np.ones(len(self.catalogue) + 1 - len(allowed), np.bool_))
        return allowed if mask is None else mask & allowed


def _check(request: Request) -> None:
    if request.top_k < 1:
        raise RequestError("top_k", f"top_k is {request.top_k}; expected at least 1")
    if not 0.0 <= request.diversity <= 1.0:
        raise RequestError("diversity", f"diversity is {request.diversity}; expected 0 to 1")
