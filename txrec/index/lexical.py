"""Lexical source: BM25 over the words of a product's text and the character trigrams of its title.

Index and scoring are bm25s (eagerly scored sparse columns). Words carry precision, the title's trigrams, which weigh
less, carry typos. Products that came after the
index was built are scored beside it with the index's own document frequencies.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import bm25s
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec.index.source import NO_ITEMS, CatalogueUpdate, Hits, Mask, Scored, SourceQuery, best
from txrec.index.tokens import MAX_CHARS, word_trigrams, words
from txrec.text import normalise

K1, B = 1.2, 0.75
TRIGRAM_WEIGHT = 0.2
"""A trigram beside a word: a word has as many trigrams as letters, which together should not outweigh it."""

MIN_ID_LENGTH = 5
"""Shorter ids are no words of a query: `12` is not asked for as an article number."""
PLACEHOLDER_WORD = "\n"
"""The only token of a catalogue without texts; no query contains it."""
NUM_TERM_MATCH = 6

QueryTokens = tuple[tuple[tuple[str, ...], float], ...]
"""Groups of tokens and their weights."""


class Title(NamedTuple):
    """What a product is called, cut as queries are."""

    words: frozenset[str]
    trigrams: frozenset[str]


Posting = tuple[NDArray[np.int32], NDArray[np.float32]]
"""(n,) dense indices of the products that hold a token, and (n,) how often each does."""
NO_POSTING: Posting = (np.empty(0, np.int32), np.empty(0, np.float32))


@dataclass(frozen=True)
class Added:
    """Products that were added or changed since the index was built: an inverted index that grows by copies.

    Attributes:
        documents: dense index = tokens.
        postings: token = the products that hold it.
    """

    documents: Mapping[int, Sequence[str]] = field(default_factory=dict)
    postings: Mapping[str, Posting] = field(default_factory=dict)

    def joined(self, new: Mapping[int, Sequence[str]]) -> "Added":
        """Takes n products in, in place of those with the same ids; costs as much as their tokens are common."""
        old = [item_id for item_id in new if item_id in self.documents]
        touched: dict[str, Counter[int]] = {token: Counter() for one in old for token in self.documents[one]}
        for item_id, document in new.items():
            for token in document:
                touched.setdefault(token, Counter())[item_id] += 1
        postings = {token: self._posting(token, counts, old) for token, counts in touched.items()}
        return Added({**self.documents, **new}, {**self.postings, **postings})

    def _posting(self, token: str, counts: Mapping[int, int], gone: Sequence[int]) -> Posting:
        ids, frequencies = self.postings.get(token, NO_POSTING)
        kept = ~np.isin(ids, gone)
        return (
            np.append(ids[kept], np.fromiter(counts, np.int32, len(counts))),
            np.append(frequencies[kept], np.fromiter(counts.values(), np.float32, len(counts))),
        )


class Lexical:
    """A BM25 index over the catalogue, dense index = row + 1."""

    def __init__(self, index: bm25s.BM25, added: Added | None = None) -> None:
        """Takes the built index and what came since."""
        self._index = index
        self._added = added or Added()
        self._num_docs = int(index.scores["num_docs"])
        ids = np.fromiter(self._added.documents, np.int64, len(self._added.documents))
        self._num_items = max(self._num_docs, int(ids.max(initial=0)))
        self._outdated = ids[ids <= self._num_docs] - 1  # rows of the index that say what is true no more
        self._df = np.diff(index.scores["indptr"])

    @classmethod
    def fit(cls, items: pa.Table) -> "Lexical":
        """Indexes `title` and `text` of a table like schema.PREPARED_ITEMS."""
        index = bm25s.BM25(k1=K1, b=B, method="lucene")
        cut = documents(items)
        # an index of no token at all cannot be built: a catalogue without texts gets a placeholder
        index.index(cut if any(cut) else [[PLACEHOLDER_WORD] for _ in cut], show_progress=False)
        return cls(index)

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """BM25 of the query text; nothing for requests without one."""
        rows = [self._search_one(text, k, mask) for text, mask in zip(queries.texts, allowed, strict=True)]
        return Hits.stack(rows, k)

    def first(self, texts: Sequence[str], k: int) -> NDArray[np.int32]:
        """(B, k) items of bare normalised texts, without requests around them."""
        return Hits.stack([self._search_one(text, k, None) for text in texts], k).item_idx

    def scores(self, text: str) -> NDArray[np.float32]:
        """(N,) BM25 of all products that were indexed for a normalised text."""
        found = self._scores(query_tokens(text))
        return np.zeros(self._num_docs, np.float32) if found is None else found

    def term_match(self, text: str, titles: Sequence[Title]) -> NDArray[np.float32]:
        """(K, NUM_TERM_MATCH) how K titles meet the words of a query, for the ranker.

        Columns: share of the words by their rarity, rarity of the rarest word missed, whether the last word (what the
        thing is, in English) is there, and the share of the trigrams met of the last word, of the worst word and of all
        words on average.
        """
        asked = list(dict.fromkeys(words(text[:MAX_CHARS])))
        if not asked:
            return np.zeros((len(titles), NUM_TERM_MATCH), np.float32)
        rarity = [self._rarity(word) for word in asked]
        grams = [frozenset(word[i : i + 3] for i in range(len(word) - 2)) for word in asked]
        rows = []
        for title in titles:
            met = [word in title.words for word in asked]
            missed = [rare for rare, has in zip(rarity, met, strict=True) if not has]
            spelled = [_met(own, title.trigrams, has) for own, has in zip(grams, met, strict=True)]
            share = 1.0 - sum(missed) / sum(rarity)
            rows.append(
                (share, max(missed, default=0.0), met[-1], spelled[-1], min(spelled), sum(spelled) / len(asked))
            )
        return np.array(rows, np.float32).reshape(-1, NUM_TERM_MATCH)

    def _rarity(self, word: str) -> float:
        """Inverse document frequency."""
        row = self._index.vocab_dict.get(word)
        df = int(self._df[row]) if row is not None else 0
        return float(np.log1p((self._num_docs - df + 0.5) / (df + 0.5)))

    def with_items(self, update: CatalogueUpdate) -> "Lexical":
        """An index that also knows the products of an update whose texts are new or changed."""
        changed = update.text_changed
        added = documents(update.items.filter(pa.array(changed)))
        new = dict(zip(update.item_idx[changed].tolist(), added, strict=True))
        return Lexical(self._index, self._added.joined(new))

    def save(self, path: Path) -> None:
        """bm25s's own files (NumPy arrays and JSON, no pickles)."""
        path.mkdir(parents=True, exist_ok=True)
        self._index.save(str(path), show_progress=False)

    @classmethod
    def open(cls, path: Path) -> "Lexical":
        """Reads what `save` wrote."""
        return cls(bm25s.BM25.load(str(path), show_progress=False))

    def _search_one(self, text: str, k: int, mask: Mask) -> Scored:
        asked = query_tokens(text)
        scores = self._scores(asked)
        if self._added.documents:
            scores = self._with_added(scores, asked)
        if scores is None:
            return best(*NO_ITEMS, k, mask)
        found = np.flatnonzero(scores).astype(np.int32)
        return best(found + 1, scores[found], k, mask)

    def _scores(self, asked: QueryTokens) -> NDArray[np.float32] | None:
        """(N,) BM25 of all indexed products; None if none of the tokens is known."""
        total = None
        for tokens, weight in asked:
            known = [self._index.vocab_dict[token] for token in tokens if token in self._index.vocab_dict]
            if known:
                scores = weight * self._index.get_scores_from_ids(known)
                total = scores if total is None else total + scores
        return total

    def _with_added(self, indexed: NDArray[np.float32] | None, asked: QueryTokens) -> NDArray[np.float32]:
        """(N + more,) scores of all products. Those that came later are taken to be of average length."""
        scores = np.zeros(self._num_items, np.float32)
        if indexed is not None:
            scores[: self._num_docs] = indexed
            scores[self._outdated] = 0.0
        for token, weight in _weighted(asked):
            ids, frequencies = self._added.postings.get(token, NO_POSTING)
            if len(ids):
                scores[ids - 1] += weight * self._rarity(token) * frequencies / (frequencies + np.float32(K1))
        return scores


def _weighted(asked: QueryTokens) -> Iterator[tuple[str, float]]:
    return ((token, weight) for tokens, weight in asked for token in tokens)


def documents(items: pa.Table) -> list[list[str]]:
    """Tokens of every product: words of the whole text, trigrams of the title's words, its id if people may type it."""
    columns = (items.column(name).to_pylist() for name in ("item_id", "text", "title"))
    return [
        [*words(text or ""), *word_trigrams(normalise(title or "")), *_id_token(normalise(str(key)))]
        for key, text, title in zip(*columns, strict=True)
    ]


def _id_token(key: str) -> list[str]:
    """A product's id as a token: people paste article numbers into the search box."""
    return [key] if len(key) >= MIN_ID_LENGTH and key.isalnum() else []


def query_tokens(text: str) -> QueryTokens:
    """Words and trigrams of a normalised query, each once, with what they weigh."""
    text = text[:MAX_CHARS]
    return (tuple(dict.fromkeys(words(text))), 1.0), (tuple(dict.fromkeys(word_trigrams(text))), TRIGRAM_WEIGHT)


def _met(grams: frozenset[str], title: frozenset[str], whole: bool) -> float:
    """Share of a word's trigrams that a title has; words of one or two characters have to be there as they are."""
    return len(grams & title) / len(grams) if grams else float(whole)
