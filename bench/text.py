"""Gain of each step of text pre-training: the product clicked for a query, retrieved by text alone.

    python bench/text.py configs/bestbuy.toml data.root=DIR [--steps both,none] [--small]
    python bench/text.py configs/demo.toml --spelling

Prepares the data where that has not been done, measures on the validation clicks, for all queries and for those that
training never saw, and prints one JSON object as its last line. BM25 and TF-IDF of character trigrams are compared.

With `--spelling`, instead, how often the search of the trained candidate (`txrec train CONFIG`) and its BM25 alone
understand a query by how it is spelled; the generated shop only.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import bm25s
import numpy as np
from search import SMALL, prepared
from sklearn.feature_extraction.text import TfidfVectorizer

from txrec.config import Config
from txrec.config_loader import load
from txrec.data.prepared import PreparedData
from txrec.errors import ConfigError
from txrec.evals import text_quality
from txrec.evals.query_robustness import robustness
from txrec.evals.text_quality import Scores
from txrec.index.sources.lexical import Lexical
from txrec.recommender.recommender import Recommender
from txrec.schema import Split
from txrec.train.text import pretrain
from txrec.train.text.corpus import Corpus
from txrec.train.text.pretrain import Pretrainer

STEPS: dict[str, dict[str, Any]] = {
    "none": {"masked_epochs": 0, "contrastive_epochs": 0},
    "masked only": {"contrastive_epochs": 0},
    "contrastive only": {"masked_epochs": 0},
    "both": {},
    "no product pairs": {"product_pairs_frac": 0.0},
    "hard negatives": {"hard_negatives": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.toml")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--small", action="store_true", help="a tiny generated shop, a few steps: a quick look")
    parser.add_argument("--spelling", action="store_true", help="hit rates of a trained candidate by kind of spelling")
    args = parser.parse_args()
    config = load(args.config, [*args.overrides, *(SMALL if args.small else ())])
    if args.spelling:
        spelling(config)
        return
    data = prepared(config)
    print(f"{'':<18} {'MRR':>7} {'NDCG@10':>8} {'MRR':>7} {'NDCG@10':>8}")
    print(f"{'':<18} {'all queries':>16} {'unseen queries':>16}   seconds")
    results = {}
    for name, scores, seconds in ways(config, data, args.steps.split(",")):
        every = text_quality.quality(scores, data, Split.VALIDATION)
        unseen = text_quality.quality(scores, data, Split.VALIDATION, unseen=True)
        cells = f"{every.mrr:7.4f} {every.ndcg_at_10:8.4f} {unseen.mrr:7.4f} {unseen.ndcg_at_10:8.4f}"
        print(f"{name:<18} {cells} {seconds:9.1f}", flush=True)
        results[name] = {"mrr": every.mrr, "unseen_mrr": unseen.mrr, "unseen_ndcg@10": unseen.ndcg_at_10, "s": seconds}
    clicks = {"num_clicks": every.num_clicks, "num_unseen": unseen.num_clicks}
    print(json.dumps({"config": config.name, **clicks, **results}))


def spelling(config: Config) -> None:
    if config.data.shop is None:
        raise ConfigError(
            f"{config.name}: no data.shop; queries of every spelling are known for the generated shop only"
        )
    rates = robustness(config.data.shop, Recommender.open(config.candidate_dir))
    kinds = list(rates["txrec"])
    print(f"{'':<8}" + "".join(f"{kind:>14}" for kind in kinds))
    for name in ("txrec", "bm25"):
        print(f"{name:<8}" + "".join(f"{rates[name][kind]:14.3f}" for kind in kinds))
    print(json.dumps({"config": config.name, **rates}))


def ways(config: Config, data: PreparedData, steps: Sequence[str]) -> Iterator[tuple[str, Scores, float]]:
    """Name, scores and seconds of training of everything compared."""
    texts = data.queries["query"].to_pylist()
    lexical = Lexical.fit(data.items)
    yield "BM25 over words", bm25(data), 0.0
    yield "BM25, trigrams too", lambda query_idx: lexical.scores(texts[query_idx - 1]), 0.0
    yield "TF-IDF trigrams", tfidf(data), 0.0
    for name in steps:
        cfg = config.pretrain.model_copy(update=STEPS[name])
        started = time.monotonic()
        corpus = Corpus.of(data, cfg)
        encoder = pretrain.build(config.text, pretrain.load_tokenizer(data), corpus, config.seed)
        Pretrainer(encoder, corpus, cfg, config.seed).run()
        seconds = time.monotonic() - started
        yield name, text_quality.cosines(*pretrain.encode_prepared(encoder, data)), seconds


def bm25(data: PreparedData) -> Scores:
    index = bm25s.BM25()
    index.index([data.analyser.tokens(text) for text in data.items["text"].to_pylist()], show_progress=False)
    queries = data.queries["query"].to_pylist()

    def scores(query_idx: int) -> np.ndarray:
        known = [
            token for token in dict.fromkeys(data.analyser.tokens(queries[query_idx - 1])) if token in index.vocab_dict
        ]
        return index.get_scores(known) if known else np.zeros(data.meta.num_items, np.float32)

    return scores


def tfidf(data: PreparedData) -> Scores:
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), dtype=np.float32)
    items = vectorizer.fit_transform(data.items["text"].to_pylist())
    queries = vectorizer.transform(data.queries["query"].to_pylist())
    return lambda query_idx: (items @ queries[query_idx - 1].T).toarray()[:, 0]


if __name__ == "__main__":
    main()
