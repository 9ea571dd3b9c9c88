"""A prepared data set of judged pairs alone: three products, two queries, no log; and a bundle over it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tests.tiny import _tokenizer
from txrec import schema
from txrec.config import Config, ModelConfig, RankerConfig, TextConfig
from txrec.data.prepared import Meta, PreparedData, training_queries
from txrec.model.retrieval import RetrievalModel
from txrec.recommender import bundle
from txrec.schema import Split
from txrec.text import Analyser
from txrec.train.ranker.fit import fit_ranker

CONFIG = Config(
    name="judged",
    text=TextConfig(encoder="none"),
    model=ModelConfig(dim=16, num_layers=1, num_heads=2),
    ranker=RankerConfig(mode="off"),
)
PAIRS = [
    ("lamp", "sku-1", 3.0, Split.TRAIN),
    ("lamp", "sku-2", 2.5, Split.TRAIN),
    ("lamp", "sku-3", 1.0, Split.TRAIN),
    ("lamps", "sku-1", 3.0, Split.TEST),
    ("lamps", "sku-2", 2.0, Split.TEST),
    ("lamps", "sku-3", 1.0, Split.TEST),
]


def judged_data(path: Path) -> PreparedData:
    """Writes and opens it; as `prepare` leaves it, without a folder of sequences."""
    titles = ["red lamp", "lamp shade", "drill"]
    items = pa.Table.from_pylist(
        [
            {"item_id": f"sku-{row}", "title": title, "text": title, "train_count": 0, "available": True}
            | dict.fromkeys(("category_idx", "brand_idx", "price_bucket"), 0)
            for row, title in enumerate(titles, start=1)
        ],
        schema=schema.PREPARED_ITEMS,
    )
    queries = pa.Table.from_pylist(
        [{"query": "lamp", "train_count": 3}, {"query": "lamps", "train_count": 0}], schema=schema.PREPARED_QUERIES
    )
    query, item, grade, split = zip(*PAIRS, strict=True)
    table = pa.table({"query": query, "item_id": item, "grade": pa.array(grade, pa.float32())}).cast(schema.JUDGMENTS)
    pq.write_table(items, path / "items.parquet")
    pq.write_table(queries, path / "queries.parquet")
    pq.write_table(table.append_column("split", pa.array(map(int, split), pa.int8())), path / "judgments.parquet")
    (path / "tokenizer.json").write_text(_tokenizer(items), encoding="utf-8")
    names = ("users", "trained_items", "events", "categories", "brands", "price_buckets")
    counts = dict.fromkeys((f"num_{name}" for name in names), 0) | {"num_items": 3, "num_queries": 2}
    times = dict.fromkeys(("validation_start_ts", "test_start_ts", "end_ts"), 0)
    meta = Meta(fingerprint="judged", has_time=False, split_kind="global_time", **counts, **times)
    Analyser.of_catalogue(TextConfig(), items, training_queries(queries)).save(path / "analyser.json")
    (path / "meta.json").write_text(meta.model_dump_json(), encoding="utf-8")
    return PreparedData.open(path)


def judged_bundle(path: Path, data: PreparedData) -> Path:
    """Writes `path`: nothing in it is trained, it finds products by their words."""
    torch.manual_seed(0)
    model = RetrievalModel.for_data(CONFIG.model, data, None)
    return bundle.write(path, CONFIG, data, model, None, fit_ranker(CONFIG, data, model, None)).path
