"""What is called so: BM25 over the words of a product's text and the character trigrams of its title.

Index and scoring are bm25s (eagerly scored sparse columns). Words carry precision, the title's trigrams carry typos,
both in one index, because BM25's own idf makes a rare word outweigh its trigrams' noise. Products that came after the
index was built are scored beside it with the index's own document frequencies.
"""

from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec.index.source import NOTHING, Hits, Mask, SourceQuery, best
from txrec.index.tokens import MAX_CHARS, word_trigrams, words
from txrec.text import normalise

K1, B = 1.2, 0.75


class Lexical:
    """A BM25 index over the catalogue, dense id = row + 1."""

    def __init__(self, index: bm25s.BM25, added: dict[int, list[str]] | None = None) -> None:
        """Takes the built index and the tokens of products added or changed since, by dense id."""
        self._index = index
        self._added = added or {}
        self._num_docs = int(index.scores["num_docs"])
        self._df = np.diff(index.scores["indptr"])

    @classmethod
    def fit(cls, items: pa.Table) -> "Lexical":
        """Indexes `title` and `text` of a table like schema.PREPARED_ITEMS."""
        index = bm25s.BM25(k1=K1, b=B, method="lucene")
        index.index(documents(items), show_progress=False)
        return cls(index)

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """BM25 of the query text; nothing for requests without one."""
        rows = [self._search_one(text, k, mask) for text, mask in zip(queries.texts, allowed, strict=True)]
        return Hits.stack(rows, k)

    def extended(self, ids: NDArray[np.int32], items: pa.Table) -> "Lexical":
        """An index that also knows the products of `items` under dense ids `ids` (n,), new or changed."""
        new = dict(zip(ids.tolist(), documents(items), strict=True))
        return Lexical(self._index, self._added | new)

    def save(self, path: Path) -> None:
        """bm25s's own files (NumPy arrays and JSON, no pickles)."""
        path.mkdir(parents=True, exist_ok=True)
        self._index.save(str(path), show_progress=False)

    @classmethod
    def open(cls, path: Path) -> "Lexical":
        """Reads what `save` wrote."""
        return cls(bm25s.BM25.load(str(path), show_progress=False))

    def _search_one(self, text: str, k: int, mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        tokens = query_tokens(text)
        known = [self._index.vocab_dict[token] for token in tokens if token in self._index.vocab_dict]
        ids, values = NOTHING
        if known:
            scores = self._index.get_scores_from_ids(known)
            found = np.flatnonzero(scores).astype(np.int32)
            ids, values = found + 1, scores[found]
        if self._added:
            ids, values = self._with_added(ids, values, set(tokens))
        return best(ids, values, k, mask)

    def _with_added(
        self, ids: NDArray[np.int32], values: NDArray[np.float32], tokens: set[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        fresh = [(item_id, self._score(document, tokens)) for item_id, document in self._added.items()]
        fresh = [(item_id, score) for item_id, score in fresh if score > 0]
        current = ~np.isin(ids, list(self._added))
        added_ids = np.array([item_id for item_id, _ in fresh], dtype=np.int32)
        added = np.array([score for _, score in fresh], dtype=np.float32)
        return np.concatenate([ids[current], added_ids]), np.concatenate([values[current], added])

    def _score(self, document: list[str], tokens: set[str]) -> float:
        """BM25 of one document outside the index, at average length."""
        total = 0.0
        for token in tokens.intersection(document):
            row = self._index.vocab_dict.get(token)
            frequency = document.count(token)
            df = int(self._df[row]) if row is not None else 0
            idf = np.log1p((self._num_docs - df + 0.5) / (df + 0.5))
            total += idf * frequency / (frequency + K1)
        return total


def documents(items: pa.Table) -> list[list[str]]:
    """Tokens of every product: words of the whole text, trigrams of the title's words."""
    texts = items.column("text").to_pylist()
    titles = items.column("title").to_pylist()
    return [
        [*words(text or ""), *word_trigrams(normalise(title or ""))] for text, title in zip(texts, titles, strict=True)
    ]


def query_tokens(text: str) -> list[str]:
    """Tokens of a normalised query, each once."""
    text = text[:MAX_CHARS]
    return list(dict.fromkeys([*words(text), *word_trigrams(text)]))
