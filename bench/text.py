"""What each step of text pre-training adds: the product clicked for a query, found by text alone.

    python bench/text.py configs/bestbuy.toml data.root=DIR

Prepares the data where that has not been done, measures on the validation clicks, for all queries and for those that
training never saw, and prints one JSON object as its last line. BM25 and TF-IDF of character trigrams stand beside it.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bm25s
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from txrec.config import Config, load
from txrec.data import preparation, shop
from txrec.data.prepared import PreparedData
from txrec.index import lexical
from txrec.schema import Split
from txrec.train import pretrain
from txrec.train.pretrain import Pretrainer, Scores

STEPS = {"none": (0, 0), "masked only": (1, 0), "contrastive only": (0, 1), "both": (1, 1)}


def main() -> None:
    config = load(sys.argv[1], sys.argv[2:])
    data = prepared(config)
    print(f"{'':<18} {'MRR':>7} {'NDCG@10':>8} {'MRR':>7} {'NDCG@10':>8}")
    print(f"{'':<18} {'all queries':>16} {'unseen queries':>16}   seconds")
    results = {}
    for name, scores, seconds in ways(config, data):
        every = pretrain.quality(scores, data, Split.VALIDATION)
        unseen = pretrain.quality(scores, data, Split.VALIDATION, unseen=True)
        cells = f"{every.mrr:7.4f} {every.ndcg_at_10:8.4f} {unseen.mrr:7.4f} {unseen.ndcg_at_10:8.4f}"
        print(f"{name:<18} {cells} {seconds:9.1f}", flush=True)
        results[name] = {"mrr": every.mrr, "unseen_mrr": unseen.mrr, "unseen_ndcg@10": unseen.ndcg_at_10, "s": seconds}
    clicks = {"num_clicks": every.num_clicks, "num_unseen": unseen.num_clicks}
    print(json.dumps({"config": config.name, **clicks, **results}))


def prepared(config: Config) -> PreparedData:
    if not (config.data_dir / "meta.json").is_file():
        if config.data.shop is not None:
            shop.write(config.data.shop, Path(config.data.root))
        preparation.run(config, preparation.InProcess())
    return PreparedData.open(config.data_dir)


def ways(config: Config, data: PreparedData) -> Iterator[tuple[str, Scores, float]]:
    """Name, scores and seconds of training of everything compared."""
    texts = data.items["text"].to_pylist()
    yield "BM25 over words", bm25(data, [lexical.words(text) for text in texts]), 0.0
    yield "BM25, trigrams too", bm25(data, lexical.documents(data.items)), 0.0
    yield "TF-IDF trigrams", tfidf(data), 0.0
    corpus = pretrain.corpus(data, config.pretrain)
    for name, (masked, contrastive) in STEPS.items():
        cfg = config.pretrain.model_copy(
            update={
                "masked_epochs": masked * config.pretrain.masked_epochs,
                "contrastive_epochs": contrastive * config.pretrain.contrastive_epochs,
            }
        )
        started = time.monotonic()
        encoder = pretrain.build(config.text, pretrain.load_tokenizer(data), corpus, config.seed)
        Pretrainer(encoder, corpus, cfg, config.seed).run()
        seconds = time.monotonic() - started
        yield name, pretrain.cosines(*pretrain.encode_prepared(encoder, data)), seconds


def bm25(data: PreparedData, documents: list[list[str]]) -> Scores:
    index = bm25s.BM25()
    index.index(documents, show_progress=False)
    queries = data.queries["query"].to_pylist()

    def scores(query_id: int) -> np.ndarray:
        known = [token for token in lexical.query_tokens(queries[query_id - 1]) if token in index.vocab_dict]
        return index.get_scores(known) if known else np.zeros(data.meta.num_items, np.float32)

    return scores


def tfidf(data: PreparedData) -> Scores:
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), dtype=np.float32)
    items = vectorizer.fit_transform(data.items["text"].to_pylist())
    queries = vectorizer.transform(data.queries["query"].to_pylist())
    return lambda query_id: (items @ queries[query_id - 1].T).toarray()[:, 0]


if __name__ == "__main__":
    main()
