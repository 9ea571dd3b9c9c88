"""Query suggestions of an ingress replica: an index of queries, categories and products, and the user's own searches.

The index lives in the ingress, so that a suggestion costs no hop. It is built again, in a thread, when the model or the
catalogue has changed, and blocked words follow their document; both are looked at twice per second at most. So are the
queries that live events have taught, which are a small index of their own.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice

from serve.history.event_log import EventLog
from serve.observability.logs import log
from serve.types import Service
from txrec.errors import UnavailableError
from txrec.index.suggestions import Suggestion, SuggestionIndex, complete
from txrec.online.documents import DocumentStore
from txrec.text import normalise
from txrec.text.folding import fold
from txrec.text.segmentation import WORD, is_unspaced

KIND = "suggestions"
BLOCKED = "blocked words"
"""Name of the document that holds the blocked words."""
REFRESH_S = 0.5
LEAST_WAIT_S = 0.05
SPARE = 5
"""Completions per suggestion of an answer that are looked at: blocked ones and own searches fall away."""
_normalised = lru_cache(maxsize=50_000)(normalise)
MAX_CACHED_USERS = 10_000
"""Users whose searches in the training log are kept in memory."""
MAX_OWN = 3
"""Own searches of the user in one answer."""


@dataclass(frozen=True)
class BlockedTexts:
    """Blocked words and phrases, folded: `café` blocks `Cafe` too.

    Attributes:
        words: single words; a text is blocked that holds one as a whole word.
        phrases: words that are blocked next to each other only, with a blank before and after.
        parts: words of scripts that separate no words; a text is blocked that holds one anywhere.
    """

    words: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str]) -> "BlockedTexts":
        """Sorts blocked texts by kind."""
        folded = [" ".join(fold(word) for word in WORD.findall(normalise(text))) for text in texts]
        words = [text for text in folded if text and not is_unspaced(text)]
        return cls(
            frozenset(word for word in words if " " not in word),
            tuple(f" {word} " for word in words if " " in word),
            tuple(text for text in folded if text and is_unspaced(text)),
        )

    def forbids(self, text: str) -> bool:
        """True where a normalised text holds something blocked."""
        if not (self.words or self.phrases or self.parts):
            return False
        words = [fold(word) for word in WORD.findall(text)]
        joined = f" {' '.join(words)} "
        return (
            not self.words.isdisjoint(words)
            or any(phrase in joined for phrase in self.phrases)
            or any(part in joined for part in self.parts)
        )


class Suggester:
    """Completions for `GET /v1/suggest`.

    Args:
        service: knows queries, categories and products.
        event_log: knows the user's searches.
        documents: holds the blocked words.
        clock: seconds, for the time between two checks for changes.
    """

    def __init__(
        self,
        service: Service,
        event_log: EventLog,
        documents: DocumentStore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._event_log = event_log
        self._documents = documents
        self._clock = clock
        self._index: SuggestionIndex | None = None
        self._live = SuggestionIndex()
        self._live_entries: list[Suggestion] = []
        self._state: tuple[str, int] = ("", -1)
        self._blocked = BlockedTexts()
        self._trained: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._next_look = float("-inf")
        self._refreshing = asyncio.Lock()

    async def suggest(self, prefix: str, user_id: str | None, limit: int) -> list[Suggestion]:
        """Completions of a prefix, best first, the user's own searches before the others; blocked ones are left out.

        Raises:
            UnavailableError: no index is built yet and the recommender does not answer.
        """
        if self._index is None:
            await self.refresh()
        elif self._clock() >= self._next_look:
            self._next_look = self._clock() + REFRESH_S
            self._task = asyncio.create_task(self._refresh_later())
        own = await self._own(normalise(prefix), user_id)
        known = {suggestion.normal for suggestion in own}
        completions = complete([self._index or SuggestionIndex(), self._live], prefix, SPARE * limit)
        others = (one for one, _ in completions if one.normal not in known)
        allowed = (one for one in chain(own, others) if not self._blocked.forbids(one.normal))
        return list(islice(allowed, limit))

    async def watch(self) -> None:
        """Looks for changes twice per second from the first suggestion on, so that none after a pause is out of date.

        Runs until it is cancelled.
        """
        while True:
            await asyncio.sleep(max(REFRESH_S, LEAST_WAIT_S))
            if self._index is not None and self._clock() >= self._next_look:
                self._next_look = self._clock() + REFRESH_S
                await self._refresh_later()

    async def refresh(self) -> None:
        """Brings indexes and blocked words up to date.

        Raises:
            UnavailableError: the store or the recommender does not answer.
        """
        async with self._refreshing:
            self._blocked = BlockedTexts.of(await self.blocked())
            model = await self._service.model()
            state = model.version, model.last_change
            if self._index is None or state != self._state:
                entries = await self._service.suggestions()
                self._index = await asyncio.to_thread(SuggestionIndex, entries)
                self._state = state
                self._trained.clear()
            live_entries = await self._service.suggestions(live=True)
            if live_entries != self._live_entries:
                self._live = await asyncio.to_thread(SuggestionIndex, live_entries)
                self._live_entries = live_entries

    async def block(self, words: list[str]) -> None:
        """Replaces the blocked words, durably."""
        await asyncio.to_thread(self._documents.put, {BLOCKED: {"words": words}})
        self._next_look = float("-inf")

    async def blocked(self) -> list[str]:
        """The blocked words."""
        documents = await asyncio.to_thread(self._documents.all)
        return list(documents.by_name.get(BLOCKED, {}).get("words", []))

    async def _own(self, prefix: str, user_id: str | None) -> list[Suggestion]:
        try:
            live = await self._event_log.recent(user_id)
            if user_id is None or live.forgotten:
                return []
            trained = await self._trained_queries(user_id) if prefix else ()
        except UnavailableError:
            return []
        texts: dict[str, str] = {}
        for query in (*(event.query for event in reversed(live.events)), *trained):
            if query:
                texts.setdefault(_normalised(query), query)
        return [Suggestion(query, "query", 0.0) for text, query in texts.items() if text.startswith(prefix)][:MAX_OWN]

    async def _trained_queries(self, user_id: str) -> tuple[str, ...]:
        """The user's searches in the training log, latest first; read from the recommender once per user and model."""
        if user_id not in self._trained:
            history = await self._service.history(user_id, ())
            self._trained[user_id] = tuple(item.event.query for item in reversed(history) if item.event.query)
            if len(self._trained) > MAX_CACHED_USERS:
                self._trained.popitem(last=False)
        return self._trained[user_id]

    async def _refresh_later(self) -> None:
        try:
            await self.refresh()
        except UnavailableError as error:
            log.warning("suggestions are not kept up to date now: %s", error)
        except Exception:
            log.exception("suggestions are not kept up to date")
