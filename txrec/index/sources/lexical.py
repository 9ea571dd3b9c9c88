"""BM25 source over product texts: words, character trigrams of titles, and article numbers.

Index and weights are those of bm25s (eagerly scored sparse columns); a term of a query counts by the best of its
alternative tokens. Words give precision; trigrams, which weigh less, tolerate typos. Products that were added after
the index was built are scored apart from it, with the index's document frequencies.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bm25s
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from txrec.config import TextConfig
from txrec.index.source import (
    NO_ITEMS,
    NUM_TERM_MATCH,
    CatalogueUpdate,
    FitContext,
    Hits,
    Mask,
    OpenContext,
    Scored,
    Source,
    SourceQuery,
    Title,
    best,
)
from txrec.text import Analyser, QueryTerm, Synonyms, normalise
from txrec.text.article_numbers import ArticleNumbers, Match

K1, B = 1.2, 0.75
PLACEHOLDER = "\n"
"""Token of every product of a catalogue without texts; no query has it."""
_NUMBERS = "article_numbers.parquet"


Posting = tuple[NDArray[np.int32], NDArray[np.float32]]
"""(n,) dense indices of the products that hold a token, and (n,) how often each does."""
NO_NUMBERS = ArticleNumbers((), (), np.empty(0, np.int32))
NO_POSTING: Posting = (np.empty(0, np.int32), np.empty(0, np.float32))


@dataclass(frozen=True)
class Added:
    """Products that were added or changed since the index was built: an inverted index that grows by copies.

    Attributes:
        documents: dense index = tokens.
        postings: token = the products that hold it.
        numbers: article numbers of all that were added or changed.
        numbered: dense indices of those.
    """

    documents: Mapping[int, Sequence[str]] = field(default_factory=dict)
    postings: Mapping[str, Posting] = field(default_factory=dict)
    numbers: ArticleNumbers = NO_NUMBERS
    numbered: frozenset[int] = frozenset()

    def joined(self, new: Mapping[int, Sequence[str]], numbered: NDArray[np.int32], numbers: ArticleNumbers) -> "Added":
        """The index with further products, which replace those of the same indices; common tokens cost most.

        Args:
            new: tokens of products whose texts are new or changed.
            numbered: all products that are new or changed.
            numbers: their article numbers.
        """
        old = [item_idx for item_idx in new if item_idx in self.documents]
        touched: dict[str, Counter[int]] = {token: Counter() for one in old for token in self.documents[one]}
        for item_idx, document in new.items():
            for token in document:
                touched.setdefault(token, Counter())[item_idx] += 1
        postings = {token: self._posting(token, counts, old) for token, counts in touched.items()}
        changed = numbered.tolist()
        return Added(
            {**self.documents, **new},
            {**self.postings, **postings},
            self.numbers.joined(numbers, changed),
            self.numbered.union(changed),
        )

    def _posting(self, token: str, counts: Mapping[int, int], gone: Sequence[int]) -> Posting:
        item_idx, frequencies = self.postings.get(token, NO_POSTING)
        kept = ~np.isin(item_idx, gone)
        return (
            np.append(item_idx[kept], np.fromiter(counts, np.int32, len(counts))),
            np.append(frequencies[kept], np.fromiter(counts.values(), np.float32, len(counts))),
        )


class Lexical(Source):
    """A BM25 index over the catalogue, dense index = row + 1."""

    from_catalogue = True
    search_weight = 1.0

    def __init__(
        self, index: bm25s.BM25, analyser: Analyser, numbers: ArticleNumbers, added: Added | None = None
    ) -> None:
        """Takes the built index and products that came since.

        Args:
            index: over the tokens that `analyser` makes.
            analyser: of documents and queries.
            numbers: article numbers of the indexed products.
            added: products that came since the index was built.
        """
        self._index = index
        self.analyser = analyser
        self.numbers = numbers
        self._added = added or Added()
        self._num_docs = int(index.scores["num_docs"])
        ids = np.fromiter(self._added.documents, np.int64, len(self._added.documents))
        self._num_items = max([self._num_docs, *self._added.numbered])
        self._outdated = ids[ids <= self._num_docs] - 1  # rows of the index whose texts have changed
        self._indptr, self._indices, self._data = (index.scores[name] for name in ("indptr", "indices", "data"))
        self._df = np.diff(self._indptr)

    @classmethod
    def fit(cls, items: pa.Table, analyser: Analyser | None = None) -> "Lexical":
        """Indexes a catalogue.

        Args:
            items: `item_id`, `title`, `text` and, if there are any, `attributes`, like schema.PREPARED_ITEMS.
            analyser: the shop's; None = one fitted on these products.
        """
        analyser = analyser or Analyser.of_catalogue(TextConfig(), items)
        index = bm25s.BM25(k1=K1, b=B, method="lucene")
        tokens = documents(items, analyser)
        # bm25s cannot index documents without any token at all
        index.index(tokens if any(tokens) else [[PLACEHOLDER] for _ in tokens], show_progress=False)
        numbers = ArticleNumbers.fit(items, np.arange(1, items.num_rows + 1, dtype=np.int32), "item_id")
        return cls(index, analyser, numbers)

    @classmethod
    def fit_source(cls, context: FitContext) -> "Lexical":
        """The source fitted on a log."""
        return cls.fit(context.data.items, context.data.analyser)

    @classmethod
    def open_source(cls, path: Path, context: OpenContext) -> "Lexical":
        """The source that `save` wrote."""
        return cls.open(path, context.analyser)

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """BM25 of the query text, products named by their article number first; nothing without a text."""
        rows = [self._search_one(text, k, mask) for text, mask in zip(queries.texts, allowed, strict=True)]
        return Hits.stack(rows, k)

    def first(self, texts: Sequence[str], k: int) -> NDArray[np.int32]:
        """(B, k) items of bare normalised texts, without requests around them."""
        return Hits.stack([self._search_one(text, k, None) for text in texts], k).item_idx

    def scores(self, text: str) -> NDArray[np.float32]:
        """(N,) BM25 of all products that were indexed for a normalised text."""
        scores = self._indexed_scores(self.analyser.query_terms(text))
        return np.zeros(self._num_docs, np.float32) if scores is None else scores

    def with_synonyms(self, synonyms: Synonyms) -> "Lexical":
        """The same index searched with other synonyms."""
        return Lexical(self._index, self.analyser.with_synonyms(synonyms), self.numbers, self._added)

    def term_match(self, text: str, titles: Sequence[Title]) -> NDArray[np.float32]:
        """(K, NUM_TERM_MATCH) how K titles meet the words of a query, for the ranker.

        Columns: share of the words by their rarity, rarity of the rarest word missed, whether the last word (the kind
        of thing, in English) is there, and the share of the trigrams met of the last word, of the worst word and of all
        words on average.
        """
        terms = list(dict.fromkeys(self.analyser.terms(text)))
        if not terms:
            return np.zeros((len(titles), NUM_TERM_MATCH), np.float32)
        rarity = [self._rarity(term[0][0]) for term in terms]
        grams = [_grams(term[0][0]) for term in terms]
        alternatives = [frozenset(token for token, _ in term) for term in terms]
        rows = []
        for title in titles:
            met = [not tokens.isdisjoint(title.words) for tokens in alternatives]
            missed = [rare for rare, has in zip(rarity, met, strict=True) if not has]
            spelled = [_met(own, title.trigrams, has) for own, has in zip(grams, met, strict=True)]
            share = 1.0 - sum(missed) / sum(rarity)
            rows.append(
                (share, max(missed, default=0.0), met[-1], spelled[-1], min(spelled), sum(spelled) / len(terms))
            )
        return np.array(rows, np.float32).reshape(-1, NUM_TERM_MATCH)

    def knows(self, token: str) -> bool:
        """True where a product holds a token."""
        return token in self._index.vocab_dict or token in self._added.postings

    def holders(self, token: str) -> NDArray[np.int32]:
        """Items that hold a token, texts that changed since the index was built included."""
        column = self._index.vocab_dict.get(token)
        posting, _ = self._added.postings.get(token, NO_POSTING)
        if column is None or column >= len(self._df):  # bm25s gives the empty token a number without a column
            return posting
        rows = self._indices[self._indptr[column] : self._indptr[column + 1]]
        if len(self._outdated):
            rows = rows[~np.isin(rows, self._outdated)]
        return np.concatenate([rows.astype(np.int32) + 1, posting])

    def _rarity(self, token: str) -> float:
        """Inverse document frequency."""
        row = self._index.vocab_dict.get(token)
        df = int(self._df[row]) if row is not None else 0
        return float(np.log1p((self._num_docs - df + 0.5) / (df + 0.5)))

    def with_items(self, update: CatalogueUpdate) -> "Lexical":
        """An index that also knows the products of an update: new and changed texts, and all article numbers."""
        changed = update.text_changed
        texts = documents(update.items.filter(pa.array(changed)), self.analyser)
        new = dict(zip(update.item_idx[changed].tolist(), texts, strict=True))
        numbers = ArticleNumbers.fit(update.items, update.item_idx, "item_id")
        return Lexical(self._index, self.analyser, self.numbers, self._added.joined(new, update.item_idx, numbers))

    def save(self, path: Path) -> None:
        """bm25s's own files (NumPy arrays and JSON, no pickles) and article numbers; the analyser is saved apart."""
        path.mkdir(parents=True, exist_ok=True)
        self._index.save(str(path), show_progress=False)
        pq.write_table(self.numbers.to_table(), path / _NUMBERS)

    @classmethod
    def open(cls, path: Path, analyser: Analyser) -> "Lexical":
        """Reads the files that `save` wrote, to be searched with the analyser that they were made with."""
        numbers = ArticleNumbers.from_table(pq.read_table(path / _NUMBERS))
        return cls(bm25s.BM25.load(str(path), show_progress=False), analyser, numbers)

    def named(self, text: str) -> dict[int, Match]:
        """Dense indices of the products whose article numbers a normalised text names, and how closely it does."""
        if not text:
            return {}
        outdated, more = self._added.numbered, self._added.numbers.find(text)
        return {idx: match for idx, match in self.numbers.find(text).items() if idx not in outdated} | more

    def _search_one(self, text: str, k: int, mask: Mask) -> Scored:
        terms = self.analyser.query_terms(text)
        scores = self._indexed_scores(terms)
        if self._added.documents:
            scores = self._with_added(scores, terms)
        named = self.named(text)
        if named:
            scores = self._with_named(scores, named)
        if scores is None:
            return best(*NO_ITEMS, k, mask)
        rows = np.flatnonzero(scores).astype(np.int32)
        return best(rows + 1, scores[rows], k, mask)

    def _indexed_scores(self, terms: Iterable[QueryTerm]) -> NDArray[np.float32] | None:
        """(N,) BM25 of all indexed products; None if none of the tokens is known."""
        total, vocabulary = np.zeros(self._num_docs, np.float32), self._index.vocab_dict
        any_known = False
        for term in terms:
            known = [(vocabulary[token], weight) for token, weight in term if token in vocabulary]
            any_known |= bool(known)
            if len(known) == 1:
                ((column, weight),) = known
                place = slice(self._indptr[column], self._indptr[column + 1])
                total[self._indices[place]] += self._data[place] * np.float32(weight)
            elif known:
                total += self._best_of(known)
        return total if any_known else None

    def _best_of(self, columns: Iterable[tuple[int, float]]) -> NDArray[np.float32]:
        """(N,) highest weighted score of some tokens."""
        highest = np.zeros(self._num_docs, np.float32)
        for column, weight in columns:
            place = slice(self._indptr[column], self._indptr[column + 1])
            rows = self._indices[place]
            highest[rows] = np.maximum(highest[rows], self._data[place] * np.float32(weight))
        return highest

    def _with_added(self, indexed: NDArray[np.float32] | None, terms: Iterable[QueryTerm]) -> NDArray[np.float32]:
        """(N + more,) scores of all products. Those that came later are taken to be of average length."""
        scores = np.zeros(self._num_items, np.float32)
        if indexed is not None:
            scores[: self._num_docs] = indexed
            scores[self._outdated] = 0.0
        for term in terms:
            known = [
                (*self._added.postings[token], token, weight) for token, weight in term if token in self._added.postings
            ]
            values = [
                np.float32(weight * self._rarity(token)) * frequencies / (frequencies + np.float32(K1))
                for _, frequencies, token, weight in known
            ]
            if len(known) == 1:
                scores[known[0][0] - 1] += values[0]
            elif known:
                highest = np.zeros(self._num_items, np.float32)
                for (item_idx, *_), value in zip(known, values, strict=True):
                    highest[item_idx - 1] = np.maximum(highest[item_idx - 1], value)
                scores += highest
        return scores

    def _with_named(self, scores: NDArray[np.float32] | None, named: Mapping[int, Match]) -> NDArray[np.float32]:
        """Scores with products that the query names by article number before all others, the closest match first.

        A number that is only a part of the query counts like one more rare word.
        """
        with_names = np.zeros(self._num_items, np.float32) if scores is None else scores
        top, rare = float(with_names.max(initial=0.0)), self._rarity(PLACEHOLDER)
        for item_idx, match in named.items():
            own = with_names[item_idx - 1]
            with_names[item_idx - 1] = own + rare if match is Match.PART else top + match * rare + own / (1.0 + own)
        return with_names


def documents(items: pa.Table, analyser: Analyser) -> list[list[str]]:
    """Index tokens of every product."""
    columns = (items.column(name).to_pylist() for name in ("text", "title"))
    return [analyser.document_tokens(text or "", normalise(title or "")) for text, title in zip(*columns, strict=True)]


def _grams(word: str) -> frozenset[str]:
    return frozenset(word[i : i + 3] for i in range(len(word) - 2))


def _met(grams: frozenset[str], title: frozenset[str], whole: bool) -> float:
    """Share of a word's trigrams that a title has; words of one or two characters have to be there as they are."""
    return len(grams & title) / len(grams) if grams else float(whole)
