"""Bundle of a generated shop for load tests: products in categories, users with tastes, trained for a minute or two."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from txrec import schema
from txrec.config import Config, ModelConfig, RankerConfig, TextConfig, TrainConfig
from txrec.data.prepared import Meta, PreparedData, write
from txrec.schema import EventKind, Split

ITEMS_PER_USER = 10
"""Products of the catalogue for each user."""
NUM_EVENTS = 50
NUM_QUERIES = 2_000
ITEMS_PER_CATEGORY = 200
WORDS_PER_CATEGORY = 12
TASTES = 3
"""Categories that a user likes."""
LOYALTY = 0.8
"""Share of a user's clicks in those."""
NUM_RANKED, NUM_ARRIVALS = 100, 9
"""Candidates that the ranker sees, and those of them that are products without events, on top of its own."""
START_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
CONFIG = Config(
    name="bench",
    text=TextConfig(dim=64, num_layers=1, num_heads=2, ngram_buckets=4_096),
    model=ModelConfig(dim=64, max_length=NUM_EVENTS),
    train=TrainConfig(max_epochs=2),
    ranker=RankerConfig(mode="on", num_candidates=NUM_RANKED - NUM_ARRIVALS, max_epochs=1, max_examples=400),
)


def make_bundle(folder: Path, num_items: int) -> Path:
    """A complete bundle over a generated catalogue and log, trained for a minute or two."""
    import torch
    from tokenizers import Tokenizer

    from txrec.model.text_encoder import save_vectors
    from txrec.recommender import bundle
    from txrec.train.ranker.fit import fit_ranker
    from txrec.train.retrieval.setup import trainer_for
    from txrec.train.text import pretrain
    from txrec.train.text.corpus import Corpus

    torch.manual_seed(0)
    data = make_data(folder / "data", num_items)
    texts = Corpus.of(data, CONFIG.pretrain)
    encoder = pretrain.build(CONFIG.text, Tokenizer.from_file(str(data.tokenizer_path)), texts, 0)
    encoder.eval()
    encoder.save(folder / "text")
    save_vectors(folder / "text", *pretrain.encode_prepared(encoder, data))
    trainer = trainer_for(CONFIG, data, folder / "text")
    trainer.run(lambda _, report: print(f"epoch {report.epoch}: {report.figures} {report.seconds:.0f} s", flush=True))
    model = trainer.objective.model.eval()
    ranking = fit_ranker(CONFIG, data, model, folder / "text")
    return bundle.write(folder / "candidate", CONFIG, data, model, folder / "text", ranking).path


def make_data(folder: Path, num_items: int) -> PreparedData:
    """Products whose categories have words and brands of their own; users who click, by popularity and mostly in the
    few categories that they like, half of the time after a search.
    """
    from txrec.text import fit_tokenizer

    rng = np.random.default_rng(0)
    words = np.array([f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u") for c in "klmnrstx"])
    num_categories = num_items // ITEMS_PER_CATEGORY
    category = np.arange(num_items) % num_categories
    num_users = num_items // ITEMS_PER_USER
    clicked = _clicks(rng, num_users, num_items, num_categories)
    counts = np.bincount(clicked[:, : NUM_EVENTS - 10].ravel(), minlength=num_items)
    by_count = np.argsort(-counts, kind="stable")  # dense indices: what was clicked most comes first
    item_idx = np.empty(num_items, np.int64)
    item_idx[by_count] = np.arange(1, num_items + 1)
    category, counts = category[by_count], counts[by_count]
    own = rng.choice(words, (num_categories, WORDS_PER_CATEGORY))
    named = own[category[:, None], rng.integers(0, WORDS_PER_CATEGORY, (num_items, 3))]
    titles = [" ".join(row) for row in np.concatenate([named, rng.choice(words, (num_items, 2))], axis=1)]
    queries = sorted({" ".join(row) for row in rng.choice(words, (NUM_QUERIES, 2))})
    searches = np.where(rng.random(clicked.shape) < 0.5, rng.integers(1, len(queries) + 1, clicked.shape), 0)
    times = START_US + HOUR_US * np.arange(NUM_EVENTS) + rng.integers(0, HOUR_US, (num_users, 1))
    split = np.repeat([Split.TRAIN, Split.VALIDATION, Split.TEST], [NUM_EVENTS - 10, 5, 5])
    tokenizer = fit_tokenizer([*titles[:5_000], *queries], CONFIG.text).to_str()
    sequences = pa.Table.from_pylist(
        [_user(u, item_idx[clicked[u]], searches[u], times[u], split) for u in range(num_users)],
        schema=schema.SEQUENCES,
    )
    query_rows = [{"query": query, "train_count": 1} for query in queries]
    return write(
        folder,
        _meta(num_users, counts, len(queries), num_categories),
        _items(titles, category, counts),
        pa.Table.from_pylist(query_rows, schema=schema.PREPARED_QUERIES),
        sequences,
        tokenizer,
    )


def _meta(num_users: int, counts: Any, num_queries: int, num_categories: int) -> Meta:
    return Meta(
        fingerprint="bench",
        num_users=num_users,
        num_items=len(counts),
        num_trained_items=int((counts > 0).sum()),
        num_queries=num_queries,
        num_events=num_users * NUM_EVENTS,
        num_categories=num_categories,
        num_brands=2 * num_categories,
        num_price_buckets=10,
        has_time=True,
        split_kind="global_time",
        validation_start_ts=START_US + HOUR_US * (NUM_EVENTS - 10),
        test_start_ts=START_US + HOUR_US * (NUM_EVENTS - 5),
        end_ts=START_US + HOUR_US * (NUM_EVENTS + 1),
    )


def _clicks(rng: np.random.Generator, num_users: int, num_items: int, num_categories: int) -> Any:
    """(users, events) products, from 0; the earlier ones of each category and of all are more popular."""
    shape = (num_users, NUM_EVENTS)

    def popular(size: int) -> Any:
        share = 1.0 / np.arange(1, size + 1) ** 0.8
        return rng.choice(size, shape, p=share / share.sum())

    liked = rng.integers(0, num_categories, (num_users, TASTES))
    chosen = np.take_along_axis(liked, rng.integers(0, TASTES, shape), axis=1)
    loyal = chosen + num_categories * popular(num_items // num_categories)
    return np.where(rng.random(shape) < LOYALTY, loyal, popular(num_items))


def _user(user: int, items: Any, queries: Any, times: Any, split: Any) -> dict[str, Any]:
    return {
        "user_id": f"u{user:06d}",
        "item_idx": items,
        "query_idx": queries,
        "event": np.full(NUM_EVENTS, EventKind.CLICK, np.int8),
        "ts": times,
        "value": np.zeros(NUM_EVENTS, np.float32),
        "split": split,
    }


def _items(titles: list[str], category: Any, counts: Any) -> pa.Table:
    rows = [
        {
            "item_id": f"p{number:07d}",
            "title": title,
            "category": ["shop", f"category {kind}"],
            "brand": f"brand {2 * kind + number % 2}",
            "price": 5.0 + number % 100,
            "available": True,
            "text": title,
            "category_idx": kind + 1,
            "brand_idx": 2 * kind + number % 2 + 1,
            "price_bucket": number % 10 + 1,
            "train_count": count,
        }
        for number, (title, kind, count) in enumerate(zip(titles, category.tolist(), counts.tolist(), strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=schema.PREPARED_ITEMS)
