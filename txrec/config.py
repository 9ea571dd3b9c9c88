"""The one configuration tree, shared by TOML files, the command line, Ray Train, Ray Tune and Serve.

Everything is frozen and unknown keys are errors. A component receives its own section (`HistoryDecoder(cfg.model)`),
never copied fields. `load` reads a TOML file, lays dotted overrides over it and names file, key and value when one of
them cannot be used.
"""

import codecs
import difflib
import hashlib
import json
import zoneinfo
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from txrec import object_storage
from txrec.schema import ITEMS, MARKET_COLUMNS, EventKind

CHECKPOINT = "hf:"
"""Prefix of `text.encoder` that names a Hugging Face checkpoint."""
FINE_TUNING_LR = 1e-4
"""`pretrain.lr` of such a checkpoint; the rate of an untrained encoder would destroy its pre-training."""


class Section(BaseModel):
    """A part of the tree: frozen, closed, every field documented under its definition."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@cache
def _time_zones() -> frozenset[str]:
    """IANA names; listing them reads hundreds of files."""
    return frozenset(zoneinfo.available_timezones())


class TimeConfig(Section):
    """Format of a source's times."""

    format: str = "iso"
    """`iso`, `s`, `ms`, `us`, `ns` (numbers since 1970 UTC), or a strptime pattern such as `%d/%m/%Y %H:%M`."""
    zone: str = "UTC"
    """Time zone of times that carry none (IANA name)."""
    clock: str = ""
    """Source column of the time of day, where the column of `ts` holds the day alone (`14:05:09`, or a number of
    `clock_unit` since midnight)."""
    clock_unit: Literal["s", "ms"] = "s"
    """Unit of a `clock` of numbers."""

    @model_validator(mode="after")
    def _known_zone(self) -> Self:
        if self.zone not in _time_zones():
            near = difflib.get_close_matches(self.zone, _time_zones(), 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"time.zone = {self.zone!r} is no IANA time zone such as Europe/Berlin or Etc/GMT-1{hint}")
        return self


def _check_text(delimiter: str, encoding: str) -> None:
    """Refuses delimiters and encodings that no text file can have."""
    if not delimiter or set(delimiter) & {"\n", "\r", '"'} or (len(delimiter) == 1 and not delimiter.isascii()):
        raise ValueError(
            f"delimiter = {delimiter!r}: expected one ASCII character such as ',' or '\\t', or several characters, "
            "without quotes and line breaks"
        )
    try:
        codecs.lookup(encoding)
        b"\xff".decode(encoding, errors="replace")
    except (LookupError, ValueError):
        raise ValueError(f"encoding = {encoding!r} is no text encoding; try utf-8, latin-1 or cp1252") from None


class JoinConfig(Section):
    """A second file whose columns are added to a source's rows by an equal key.

    A column that the source's own file has too is called `NAME:joined`. The file may be that of the source itself.
    """

    path: str
    """File, relative to `data.root`."""
    format: Literal["csv", "jsonl", "parquet"] = "csv"
    """csv covers TSV and any delimiter; fields of objects of the others are `outer.inner`."""
    delimiter: str = ","
    """csv: column delimiter; several characters are allowed."""
    header: bool = True
    """csv: true where the first line names the columns."""
    names: tuple[str, ...] = ()
    """csv: column names where there is no header."""
    encoding: str = "utf-8"
    """Text encoding."""
    ragged: bool = False
    """csv: true where rows may lack fields at their end, which are then empty."""
    multiline: bool = False
    """csv: true where quoted fields may hold line breaks."""
    on: tuple[str, str]
    """(column of the source, column of this file)."""
    required: bool = True
    """Rows without a match are rejected; otherwise their joined columns stay empty."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        _check_text(self.delimiter, self.encoding)
        return self


class RuleConfig(Section):
    """A row that matches is rejected."""

    column: str
    """Source column."""
    matches: str = ""
    """Regular expression that is searched in the value."""
    below: float | None = None
    """Or: least allowed number."""
    reason: Literal["cancellation", "negative_quantity", "not_a_product", "excluded_by_rule"] = "excluded_by_rule"
    """Reason in the quarantine and the report."""

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if bool(self.matches) == (self.below is not None):
            raise ValueError(f"the rule on column {self.column!r} needs either matches or below")
        if self.matches:
            try:
                pl.Series([""]).str.contains(self.matches)
            except pl.exceptions.PolarsError as error:
                why = next(
                    (line for line in str(error).splitlines() if line.startswith("error: ")), "it cannot be read"
                )
                raise ValueError(
                    f"matches = {self.matches!r} of the rule on column {self.column!r} is no regular expression: {why}"
                ) from None
        return self


class SourceConfig(Section):
    """One raw table and how its columns become canonical ones. No code is needed to read a shop's log."""

    path: str = ""
    """File, directory or glob relative to `data.root`, or an absolute or `s3://` URI.
    .gz, .zip, .zst and .tgz are read as they lie."""
    sql: str = ""
    """Instead of a path: a SELECT statement. One worker holds its whole result: read a table of many millions of rows
    through several sources, e.g. one a month."""
    connection_env: str = ""
    """Environment variable that holds the connection string of `sql` (`postgresql://...`,
    `sqlite:///file`)."""
    format: Literal["csv", "jsonl", "parquet", "sequence_text", "json_map"] = "csv"
    """csv covers TSV and any delimiter. sequence_text: a line is a user and their items in order, by spaces.
    json_map: one JSON object, key to list of values."""
    delimiter: str = ","
    """csv: column delimiter; several characters are allowed (`::`)."""
    quoting: bool = True
    """csv: whether `"` quotes fields."""
    escape: str = Field("", max_length=1)
    """csv: character that escapes a quote inside quotes, where that is not a doubled quote, e.g. a backslash."""
    multiline: bool = False
    """csv: whether quoted fields may hold line breaks; a file is then read as one stream, not in ranges."""
    header: bool = True
    """csv: whether the first line names the columns."""
    names: tuple[str, ...] = ()
    """csv: the column names where there is no header."""
    skip_lines: int = Field(0, ge=0)
    """csv: lines before the header (titles, dates of the export)."""
    comment: str = ""
    """csv: lines that begin with this are no rows, e.g. `#`."""
    ragged: bool = False
    """csv: whether rows may lack fields at their end, which are then empty; otherwise such rows are rejected."""
    rows: tuple[str, ...] = ()
    """jsonl, parquet: lists of a record whose elements become rows (`order.lines`); several lists stand side by
    side."""
    encoding: str = "utf-8"
    """Text encoding of the file."""
    columns: dict[str, str] = {}
    """Canonical column = source column. Columns not named here that already have a canonical name map to themselves."""
    missing: dict[str, tuple[str, ...]] = {}
    """Canonical column = words that stand for no value in it, whatever their case (`user_id = ["0", "guest"]`).
    They replace the usual ones (`NA`, `null`, `-1` and the like for users, `N/A` and the like elsewhere)."""
    decimal: Literal["", ".", ","] = ""
    """Decimal mark of prices and values; empty = detected from those that can be read in one way only (`19,90`)."""
    constants: dict[str, str] = {}
    """Canonical column = one value for all rows."""
    values: dict[str, dict[str, str]] = {}
    """Canonical column = {raw value = canonical value}, e.g. event names."""
    time: TimeConfig = TimeConfig()
    """Format of `ts`."""
    category_separator: str = ""
    """Splits one category string into a path, e.g. `|` or ` > `."""
    attributes: tuple[str, ...] = ()
    """items: source columns kept as attributes; lists are joined by `|`."""
    prices: dict[str, str] = {}
    """items: store or country = source column of the price there, where prices differ (`{ vienna = "price_vie" }`)."""
    stock: dict[str, str] = {}
    """items: store or country = source column of the stock there: a number of pieces, or a word of availability."""
    context: tuple[str, ...] = ()
    """events: source columns kept as circumstances of the event, e.g. device, store, country."""
    properties: tuple[str, ...] = ()
    """users: source columns kept as properties, e.g. country, tier."""
    segment_separator: str = "|"
    """users: splits one string of segments."""
    join: tuple[JoinConfig, ...] = ()
    """Files joined to the rows before mapping."""
    reject: tuple[RuleConfig, ...] = ()
    """Rules for rows that are no events; the first that applies gives the reason."""

    @model_validator(mode="after")
    def _has_lists(self) -> Self:
        if self.rows and self.format not in ("jsonl", "parquet"):
            raise ValueError(f"rows = {list(self.rows)} names lists, which format = {self.format!r} cannot hold")
        return self

    @model_validator(mode="after")
    def _known_events(self) -> Self:
        known = [kind.name.lower() for kind in EventKind]
        words = {f"values.event.{word}": kind for word, kind in self.values.get("event", {}).items()}
        words |= {"constants.event": self.constants["event"]} if "event" in self.constants else {}
        for key, kind in words.items():
            mapped = self.values.get("event", {}).get(kind, kind) if key == "constants.event" else kind
            if mapped not in known:
                near = difflib.get_close_matches(mapped, known, 1, 0.6)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{key} = {kind!r} is no kind of event; allowed are {', '.join(known)}{hint}")
        return self

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.path) == bool(self.sql):
            raise ValueError("a source needs either path or sql")
        if self.sql and not self.connection_env:
            raise ValueError(
                "a source with sql needs connection_env, the name of a variable with the connection string"
            )
        if self.format == "csv" and not self.sql and not self.header and not self.names:
            raise ValueError("a source without header needs names")
        _check_text(self.delimiter, self.encoding)
        if self.escape in ('"', "\n", "\r") or "\n" in self.comment:
            raise ValueError("escape cannot be a quote, and neither escape nor comment can hold a line break")
        if self.multiline and not (self.format == "csv" and self.quoting):
            raise ValueError(
                "multiline needs format csv with quoting: a line break inside a field must stand in quotes"
            )
        return self


class ShopConfig(Section):
    """The built-in generated shop: raw files with a known true preference, written under `data.root`."""

    seed: int = 7
    """Seed of the shop; everything about it follows from this number."""
    num_items: int = Field(2_400, ge=50)
    """Products."""
    num_users: int = Field(5_000, ge=10)
    """Users with stable tastes."""
    num_events: int = Field(200_000, ge=500)
    """Least number of events (views, searches, clicks, carts, purchases)."""
    days: int = Field(60, ge=10)
    """Time span of the log, days."""
    taste_groups: int = Field(0, ge=0, le=50)
    """Groups of users whose tastes are alike; `users.csv` declares them as the property `style`. 0 = every user has
    tastes of their own, and there is no such file."""
    taste_share: float = Field(0.7, ge=0, le=1)
    """With groups: share of a user's tastes that are those of the group."""


class SplitConfig(Section):
    """Division of events into training, validation and test."""

    kind: Literal["global_time", "leave_one_out"] = "global_time"
    """global_time: two instants cut all histories (leak-safe). leave_one_out: a user's last event is test,
    the one before validation (for published tables)."""
    test_days: float | None = Field(None, gt=0)
    """global_time: length of the test window at the end of the log, days; none = fitted to the log: a week, or as much
    longer as some hundred users need, or the last eighth of a short log. The data report states it."""
    validation_days: float | None = Field(None, gt=0)
    """global_time: length of the validation window before it, days; none = fitted like the test window, or a week next
    to a fixed test window."""
    test_start: str = ""
    """global_time: start of the test window, ISO 8601 UTC; overrides test_days."""
    judgments_test_frac: float = Field(0.2, gt=0, lt=1)
    """judgments are split by query: share of the queries in test; the same share again in validation."""


class PrepareConfig(Section):
    """Reading, validation, cleaning, splitting."""

    latest_time: str = ""
    """ISO 8601: a day after this, times are in the future; empty = the moment of preparation."""
    max_rejected_frac: float = Field(0.5, ge=0, le=1)
    """More rejected rows than this share stops the job with the top reasons."""
    duplicate_window_s: float = Field(0.0, ge=0)
    """The same user, item, event and query within this many seconds is a duplicate; 0 drops exact duplicates only."""
    drop_duplicates: bool = True
    """Off for files in which the same line may rightly come twice (no times)."""
    session_gap_s: float = Field(1_800.0, gt=0)
    """A pause longer than this starts a new session, seconds."""
    robot_events_per_minute: float = Field(0.0, ge=0)
    """Users with a minute of more events than this are robots and rejected; 0 = off."""
    robot_item_flood: int = Field(0, ge=0)
    """Users with more events than this on one item are rejected; 0 = off."""
    min_user_events: int = Field(1, ge=1)
    """k-core: users with fewer events are dropped (reported)."""
    min_item_events: int = Field(1, ge=1)
    """k-core: items with fewer events are dropped (reported)."""
    split: SplitConfig = SplitConfig()
    """Training, validation and test."""
    num_price_buckets: int = Field(16, ge=1)
    """Price quantiles of training items."""
    num_partitions: int = Field(0, ge=0, le=65_535)
    """Hash partitions by user; 0 chooses by the size of the data."""


class TextConfig(Section):
    """Tokenizer and text encoder."""

    encoder: str = "transformer"
    """`transformer` (pre-trained here), `none` (ids only), or `hf:PATH` (a local Hugging Face checkpoint)."""
    languages: tuple[str, ...] = ()
    """Languages of the shop's texts as ISO 639-1 codes (`["de", "en"]`), for stems and compounds; empty =
    detected in the titles."""
    synonyms: Path | None = None
    """Text file of the shop's own synonyms, one group per line (`sofa, couch`; `tv => television`); none = no such
    file. Relative to the working directory."""
    vocab_size: int = Field(8_192, ge=100)
    """Most subword tokens."""
    max_tokens: int = Field(32, ge=4, le=512)
    """Longer texts are cut."""
    dim: int = Field(128, ge=8)
    """Width of the encoder and of a text vector."""
    num_layers: int = Field(2, ge=1)
    """Depth."""
    num_heads: int = Field(4, ge=1)
    """Attention heads."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout."""
    pooling: Literal["mean", "cls"] = "mean"
    """A text's state: the mean over its tokens, or the first token's."""
    ngram_buckets: int = Field(16_384, ge=0)
    """Hashed character trigrams and words next to the Transformer, for typing errors; 0 = none."""

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.num_heads:
            raise ValueError(f"text.num_heads ({self.num_heads}) must divide text.dim ({self.dim})")
        return self


class ModelConfig(Section):
    """Item encoder, history decoder and retrieval head."""

    dim: int = Field(64, ge=8)
    """Width D of states and item vectors."""
    num_layers: int = Field(2, ge=1)
    """Blocks of the history decoder."""
    num_heads: int = Field(2, ge=1)
    """Attention heads."""
    max_length: int = Field(200, ge=2)
    """Most positions of a history; older ones are cut."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout in the decoder."""
    id_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of item ids replaced by the cold id in training, so that a product is usable from its text alone."""
    use_id: bool = True
    """Learned embedding per trained item."""
    use_text: bool = True
    """Projected text vector (needs text.encoder other than none)."""
    use_category: bool = True
    """Category, brand and price bucket embeddings."""
    use_time: bool = True
    """Relative time bias and time gaps, where the log has times."""
    temperature: float = Field(0.05, gt=0)
    """Cosine similarities are divided by this."""

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.num_heads:
            raise ValueError(f"model.num_heads ({self.num_heads}) must divide model.dim ({self.dim})")
        return self


class OptimizerConfig(Section):
    """AdamW with warm-up and cosine decay; every section that trains something has these fields."""

    lr: float = Field(1e-3, gt=0, le=1)
    """Peak learning rate."""
    weight_decay: float = Field(1e-4, ge=0)
    """Decoupled weight decay (not on norms, biases and embeddings)."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Adam moments."""
    warmup_frac: float = Field(0.05, ge=0, lt=1)
    """Share of all steps spent warming up."""
    min_lr_frac: float = Field(0.05, ge=0, le=1)
    """Learning rate at the end as a share of the peak."""
    clip_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this global norm."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients are added before one optimiser step."""


class PretrainConfig(OptimizerConfig):
    """Masked-token modelling on catalogue and query text, then contrastive query -> clicked product."""

    masked_epochs: int = Field(5, ge=0)
    """Passes over the texts with masked tokens."""
    contrastive_epochs: int = Field(6, ge=0)
    """Passes over (query, clicked product) pairs of the training part."""
    batch_size: int = Field(128, ge=2)
    """Texts per step."""
    mask_frac: float = Field(0.15, gt=0, lt=1)
    """Share of tokens masked."""
    temperature: float = Field(0.05, gt=0)
    """Contrastive temperature."""
    noise_frac: float = Field(0.8, ge=0, le=1)
    """Share of the queries of a contrastive step that get typing errors."""
    product_pairs_frac: float = Field(0.2, ge=0, lt=1)
    """Share of the contrastive pairs that join two products which a user took one after the other, most frequent first;
    where there are no queries, all pairs are such unless this is 0."""
    pairs_per_product: float = Field(1.5, gt=0)
    """Most contrastive pairs of a log without queries, as a multiple of the number of trained products."""
    hard_negatives: int = Field(0, ge=0)
    """Hard negatives of every query in a contrastive step: products judged badly for it, or ranked first by BM25 and
    not clicked."""
    max_steps: int = Field(3_000, ge=0)
    """Most steps of each phase, reached by large catalogues and logs; 0 = no limit, the epochs alone decide."""
    lr: float = Field(2e-3, gt=0, le=1)
    """Peak learning rate; where nothing is said and `text.encoder` names a checkpoint, 1e-4."""


class WarmStartConfig(Section):
    """Training that continues from an earlier bundle."""

    epochs_frac: float = Field(0.2, gt=0, le=1)
    """Epochs as a share of those of a full training, in text and history model."""
    lr_frac: float = Field(0.5, gt=0, le=1)
    """Peak learning rate as a share of that of a full training."""
    max_rounds: int = Field(20, ge=1)
    """Warm starts in a row; the next training is full."""
    min_known_frac: float = Field(0.7, ge=0, le=1)
    """Least share of the training events on products that the earlier bundle was trained on; below it, full."""
    tolerance: float = Field(0.05, ge=0, lt=1)
    """Share by which the validation figure may fall below that of the last full training; below it, full."""


class TrainConfig(OptimizerConfig):
    """Training the history model."""

    start_from: str = ""
    """Bundle that training continues from: `production`, a version such as v3, `candidate` or a folder; empty = none,
    a full training. `txrec train --from` sets it."""
    warm_start: WarmStartConfig = WarmStartConfig()
    """Conditions and settings of training that continues from it."""

    num_workers: int = Field(1, ge=1)
    """Ray Train workers (DDP)."""
    cpus_per_worker: float = Field(0.5, gt=0)
    """CPUs that Ray reserves for a worker; keep below 1 on small machines so that data loading is not starved."""
    use_gpu: bool = False
    """One GPU a worker."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Matrix products in bfloat16 (weights and sums stay float32); auto: where the hardware multiplies it natively."""
    max_epochs: int = Field(20, ge=1)
    """Passes over the training sequences; the cosine schedule spans them."""
    lr: float = Field(2e-3, gt=0, le=1)
    """Peak learning rate."""
    batch_size: int = Field(64, ge=1)
    """Sequences per step, shared by the workers; batches are cut by tokens, so that this many of mean length fit."""
    patience: int = Field(5, ge=1)
    """Early stopping: validations without improvement."""
    validate_every: int = Field(1, ge=1)
    """Epochs between validations."""
    metric: str = "ndcg@10"
    """Validation metric that picks the best checkpoint."""
    loss: Literal["auto", "full", "sampled", "gbce"] = "auto"
    """auto: full up to 50,000 trained items, sampled beyond. full: softmax over the whole catalogue. sampled: softmax
    over shared negatives with logQ correction. gbce: binary cross-entropy over shared negatives."""
    num_negatives: int = Field(512, ge=1)
    """sampled, gbce: negatives shared by the batch."""
    negatives: Literal["uniform", "popularity", "mixed"] = "uniform"
    """sampled, gbce: how negatives are drawn; mixed = half of each."""
    gbce_calibration: float = Field(0.75, ge=0, le=1)
    """gbce: 0 = plain binary cross-entropy, 1 = fully calibrated for the share of negatives drawn."""
    target_events: tuple[str, ...] = ()
    """Event kinds that count as targets; empty = every kind that has an item."""
    item_optimizer: Literal["auto", "adamw", "rowwise"] = "auto"
    """Optimiser of the item table. adamw: two moments per number, all rows at every step. rowwise: Adam with one moment
    per row, for the rows that a batch used; needs the loss sampled or gbce. auto: rowwise from 50,000 trained items."""
    shard_items: bool = False
    """Spreads the rows of the item table over the workers; needs the loss sampled or gbce."""
    ingest: Literal["auto", "memory", "stream"] = "auto"
    """memory: all sequences at once. stream: in loads of max_memory_bytes, in another order every epoch. auto: memory
    where they fit."""
    max_memory_bytes: int = Field(0, ge=0)
    """Memory for training sequences in each worker, bytes; 0 = a quarter of the machine's, divided by the workers."""
    compile: bool = False
    """torch.compile for the decoder's blocks: pays for wide or deep models on a GPU, after some ten seconds."""
    mlflow_uri: str = ""
    """Tracking server or folder of MLflow, in addition to TensorBoard (needs the extra `mlflow`); empty = none."""
    max_failures: int = Field(2, ge=0)
    """Worker crashes survived before the run fails."""


class RankerConfig(OptimizerConfig):
    """The Transformer over the candidate set."""

    mode: Literal["auto", "on", "off"] = "auto"
    """auto: kept only if it beats retrieval order on validation."""
    num_candidates: int = Field(100, ge=2)
    """Candidates reordered."""
    dim: int = Field(64, ge=8)
    """Width."""
    num_layers: int = Field(1, ge=1)
    """Blocks."""
    num_heads: int = Field(2, ge=1)
    """Attention heads."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout."""
    max_epochs: int = Field(10, ge=1)
    """Passes over the ranking examples."""
    batch_size: int = Field(64, ge=1)
    """Candidate sets per step."""
    max_examples: int = Field(20_000, ge=1)
    """Most recent training requests used."""
    outcomes: bool = True
    """Estimates the probabilities of carts and purchases beside that of a click, where the log has enough of them."""

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.num_heads:
            raise ValueError(f"ranker.num_heads ({self.num_heads}) must divide ranker.dim ({self.dim})")
        return self


class ObjectiveConfig(Section):
    """Worth of what users do with a product that they are shown, all in one unit, e.g. euros.

    Slates are ordered by expected worth. All zero = by relevance.
    """

    click: float = Field(0.0, ge=0, le=1e9)
    """Of a click."""
    cart: float = Field(0.0, ge=0, le=1e9)
    """Of an addition to the cart."""
    purchase: float = Field(0.0, ge=0, le=1e9)
    """Of a purchase, whatever its price."""
    revenue: float = Field(0.0, ge=0, le=1e9)
    """Of each unit of the price of a purchase, e.g. the margin 0.02."""

    @property
    def is_set(self) -> bool:
        """True if anything is worth something."""
        return max(self.click, self.cart, self.purchase, self.revenue) > 0


class RetrievalConfig(Section):
    """Candidate sources and their fusion."""

    num_candidates: int = Field(500, ge=1)
    """Candidates after fusion."""
    sources: tuple[str, ...] = (
        "dense",
        "lexical",
        "query_clicks",
        "covisitation",
        "popularity",
        "new_items",
    )
    """Candidate sources by their names in `txrec.index.registry`, in order of trust."""
    use_profiles: bool = True
    """true = with a users table the source `profile` proposes items by properties of the user and the request, and
    the ranker reads them."""
    new_items_frac: float = Field(0.1, ge=0, le=0.5)
    """Share of the first `ranker.num_candidates` places which is kept for products without events, the last of them, so
    that new ones are candidates at all; without such products nothing is kept."""
    half_life_days: float = Field(30.0, gt=0)
    """Counts of clicks and co-visits lose half their weight in this time, days."""


class EvaluateConfig(Section):
    """Measuring. The whole catalogue is ranked, always."""

    ks: tuple[int, ...] = (1, 5, 10, 20, 100)
    """Cut-offs."""
    filter_seen: bool = False
    """Leave out items of the user's history (published leave-one-out tables do)."""
    target_events: tuple[str, ...] = ()
    """Event kinds that count as relevant; empty = every kind that has an item."""
    each_click: bool = False
    """Ask before each click of a search, with its earlier clicks in the history; else once, for all of its clicks."""
    fold_in: bool | None = None
    """global_time, without a query: ask for users new in the window a second time, with the first half of their events
    there as history; none = where they are most of the users of a log without queries."""
    bootstrap: int = Field(1_000, ge=0)
    """Resamples for the intervals; 0 = none."""
    max_cases: int = Field(0, ge=0)
    """Evaluate a seeded sample of this many cases; 0 = all. Reports say so."""
    relevant_grade: float = 0.0
    """Judged pairs count as right for ROC-AUC from this grade on."""


class ExposureLimit(Section):
    """Bounds of the share of attention that one part of a product group gets."""

    group: str
    """`brand`, `category` (the broadest), `price`, `age`, `popularity`, or one of `exposure.attributes`."""
    part: str
    """Value, e.g. a brand."""
    floor: float = Field(0.0, ge=0, le=1)
    """Least share."""
    ceiling: float = Field(1.0, ge=0, le=1)
    """Largest share."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.floor > self.ceiling:
            raise ValueError(f"floor {self.floor} is above ceiling {self.ceiling}")
        return self


class ExposureConfig(Section):
    """Exposure of product groups in slates, in the reports of `evaluate` and `monitor`."""

    attributes: tuple[str, ...] = ()
    """Attributes of products that are groups too, e.g. `seller`."""
    limits: tuple[ExposureLimit, ...] = ()
    """Bounds; a share outside is an alarm, and `evaluate` states what keeping to them costs."""


class PublishConfig(Section):
    """The promotion gate."""

    metric: str = "ndcg@10"
    """Compared metric. Where there are judged pairs and no log, NDCG@10 within them is compared instead."""
    margin: float = Field(0.01, ge=0)
    """A new bundle may be worse by this share and still be promoted."""
    served_margin: float = Field(0.2, ge=0, le=1)
    """The metric may be worse by this share where the bundle's order of served slates would have earned at most
    `margin` less (`txrec loop` estimates that): clicks on production's own slates favour production."""
    smoke_queries: tuple[str, ...] = ()
    """Queries that must be answered by at least one item."""


class ExplorationConfig(Section):
    """Exploration with known propensities, within the shop's bounds."""

    share: float = Field(0.0, ge=0, le=1)
    """Share of the slates that are drawn instead of sorted; 0 = none."""
    first_place: int = Field(0, ge=0)
    """First place that may change, from 0."""
    num_places: int = Field(5, ge=1)
    """Places that may change."""
    pool: int = Field(20, ge=1)
    """Products that a draw chooses from."""
    temperature: float = Field(1.0, gt=0)
    """Temperature of the scores; higher = more equal chances."""
    floor: float = Field(0.0, ge=0, le=1)
    """Least odds of a product relative to the best one; a floor of quality."""
    bonus: float = Field(0.0, ge=0)
    """Added to the log odds of a product that no user has seen yet."""
    bonus_views: float = Field(20.0, gt=0)
    """Views after which half of the bonus is left."""


class MonitorConfig(Section):
    """Attribution of events to served slates, and the figures that follow."""

    view_h: float = Field(1.0, gt=0)
    """Hours after a slate in which a view is credited to it."""
    click_h: float = Field(1.0, gt=0)
    """Hours after a slate in which a click is credited to it."""
    cart_h: float = Field(24.0, gt=0)
    """Hours after a slate in which an addition to the cart is credited to it."""
    purchase_h: float = Field(168.0, gt=0)
    """Hours after a slate in which a purchase is credited to it."""
    attribution: Literal["last_touch", "shared"] = "last_touch"
    """Events without a request id belong to the latest slate that showed their product, or to all in equal parts."""
    reformulation_s: float = Field(300.0, gt=0)
    """A search without a click followed by another query within this time counts as reformulated, seconds."""
    head_share: float = Field(0.2, gt=0, le=1)
    """Share of the distinct queries, most frequent first, that make up the head."""
    live_h: float = Field(24.0, gt=0)
    """Hours that the server's live figures cover."""
    refresh_s: float = Field(60.0, ge=0)
    """The server's live figures are computed again by a request for them once they are older than this, seconds."""
    partitions: int = Field(0, ge=0)
    """Parts in which an export is attributed; 0 = one per 200,000 rows."""
    drift_alpha: float = Field(0.002, ge=0, lt=1)
    """Share of quiet days, one ending each hour, on which live traffic may be called different from the training log;
    0 = it is not compared."""


class ServeConfig(Section):
    """The HTTP application."""

    host: str = "127.0.0.1"
    """Address listened on."""
    port: int = Field(8000, ge=1, le=65535)
    """TCP port."""
    proxy: bool = False
    """Puts Ray Serve's proxy before the ingress replicas. It spreads requests over machines and holds them while a
    replica restarts, and takes about ten milliseconds per request on two cores."""
    max_batch_size: int = Field(16, ge=1)
    """Requests per batch; a batch holds the requests that arrived while others ran, and none is delayed to fill one."""
    state: str = ""
    """Store of the events that arrive over HTTP: a file, or `redis://host:port/db` for several nodes; empty =
    `state/history.sqlite` next to the bundle or its registry."""
    max_waiting: int = Field(256, ge=1)
    """Requests that may wait in an ingress replica; one more is answered 503 with Retry-After."""
    num_ingresses: int = Field(1, ge=1)
    """Replicas that speak HTTP. With 2 or more (about 430 MiB each) the others go on accepting connections while one
    restarts, where a single one refuses them for some seconds. `/metrics` then answers for whichever replica the
    connection went to, and the console, whose state is in one process, needs a single one."""
    num_retrievers: int = Field(1, ge=1)
    """Replicas that encode and search; each holds the whole bundle."""
    num_rankers: int = Field(1, ge=0)
    """Replicas that rank; 0 = retrievers rank their own candidates, which saves a call on a single machine."""
    use_gpu: bool = False
    """Retrievers and rankers compute on a GPU: text encoder, history model and ranker. Indexes stay in main memory."""
    gpus_per_replica: float = Field(0.25, gt=0)
    """Share of a GPU that each retriever and ranker reserves with `use_gpu`; several share one."""
    request_timeout_s: float = Field(10.0, gt=0)
    """A request that takes longer is answered 503."""
    ranker_timeout_s: float = Field(1.0, gt=0)
    """Longest wait for the ranker, then retrieval order is served with `fallback: "ranker_unavailable"`."""
    activation_timeout_s: float = Field(60.0, gt=0)
    """Longest wait until every replica has opened and tried a version that is to be served, seconds."""
    impression_days: int = Field(30, ge=0)
    """Slates that were answered are kept this many days, to be joined with the events that followed; 0 = not at all."""
    event_days: int = Field(0, ge=0)
    """Events that arrived over HTTP are kept this many days; 0 = until their user is forgotten. Export
    them for the next training before they are removed."""
    live_count_days: float = Field(28.0, ge=0)
    """Days whose live events are counted in addition to the training log: popularity, clicks after queries, products of
    one user. 0 = none. At most the last 200,000 events count."""
    max_top_k: int = Field(1_000, ge=1)
    """Largest slate a caller may ask for."""
    audience_users: int = Field(5_000, ge=1)
    """Users whose histories are read for an answer of /v1/audience, those with most to expect by their habits."""
    max_query_chars: int = Field(512, ge=1)
    """Longest query answered."""
    console: bool = True
    """Serve the console at /console (not where keys are needed: it would ask for whoever looks at it)."""
    keys_file: str = ""
    """File of API keys, a line `role:sha256` each, roles read, events and admin; the environment variable
    TXREC_API_KEYS holds more of them. Without any, no key is needed."""
    rate_limit_per_s: float = Field(0.0, ge=0)
    """Requests per second that a key may make (without keys: a network address) in each ingress replica, with bursts of
    one second's worth; more is answered 429 with Retry-After. 0 = as many as it likes."""
    body_timeout_s: float = Field(10.0, gt=0)
    """A request whose body takes longer to arrive is answered 408."""
    placements_file: str = ""
    """TOML file with the defaults of placements, a table per placement; empty = only those put over HTTP."""
    mcp: bool = True
    """Serve the tools for agents (Model Context Protocol) at /mcp."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the API from a browser, e.g. https://shop.example; empty = none."""
    experiment_check_s: float = Field(15.0, gt=0)
    """Running experiments are looked at this often, seconds: guards stop and decisions are made then."""
    monitor: MonitorConfig = MonitorConfig()
    """Attribution and live figures, also those of `txrec monitor`."""
    exploration: ExplorationConfig = ExplorationConfig()
    """Exploration in slates of recommend and search."""


class SampleConfig(Section):
    """The request that `txrec demo` answers on the terminal."""

    query: str = ""
    """Search text; empty = none."""
    user_id: str = ""
    """User; empty = the user with the longest history in the test part."""
    top_k: int = Field(10, ge=1)
    """Items shown."""


class TuneConfig(Section):
    """Hyperparameter search on validation."""

    space: dict[str, dict[str, Any]] = {}
    """Dotted path = {loguniform=[lo, hi]} | {uniform=[lo, hi]} | {randint=[lo, hi]} | {choice=[...]} | {grid=[...]}."""
    search: Literal["optuna", "random", "grid"] = "optuna"
    """Search algorithm."""
    num_trials: int = Field(20, ge=1)
    """Trials (grid: repetitions)."""
    max_concurrent: int = Field(0, ge=0)
    """Trials at once; 0 = as many as the CPUs and GPUs of the cluster hold, which more than that never run."""
    grace_epochs: int = Field(2, ge=1)
    """ASHA stops no trial before this many validations."""


class DataConfig(Section):
    """Places of the raw tables."""

    root: str = "data"
    """The folder above the data sets; relative source paths start here. Local or s3://."""
    shop: ShopConfig | None = None
    """Set: `prepare` first writes the generated shop's raw files under `data.root`."""
    events: tuple[SourceConfig, ...] = ()
    """Event sources."""
    items: tuple[SourceConfig, ...] = ()
    """Catalogue sources."""
    users: tuple[SourceConfig, ...] = ()
    """Sources of users: properties and segments that the shop knows next to the log."""
    items_from_events: dict[str, str] = {}
    """Canonical item column = source column of the event or judgment rows, where the log carries product fields.
    An item gets the value most frequent in training."""
    judgments: tuple[SourceConfig, ...] = ()
    """Graded (query, item) sources."""
    slates: str = ""
    """Served slates as `txrec export-events --impressions` writes them: file, folder or glob, relative to `data.root`.
    With them the ranker's clicks are weighted against position bias; empty = none."""

    @model_validator(mode="after")
    def _known_item_columns(self) -> Self:
        known = [name for name in ITEMS.names if name not in ("item_id", "attributes", *MARKET_COLUMNS)]
        for name in self.items_from_events:
            if name not in known:
                raise ValueError(f"items_from_events: {name!r} is no column of items; known are {', '.join(known)}")
        return self


class ChecksConfig(Section):
    """Every preparation is compared with the last one of the same sources and settings."""

    compare: bool = True
    """Off = preparations are not compared."""
    alpha: float = Field(0.005, gt=0, lt=1)
    """Share of quiet days that may raise a false alarm."""
    tolerance: float = Field(0.02, ge=0)
    """Share by which the volumes of days that the last preparation held may differ from it."""
    max_events: int = Field(500_000, ge=1)
    """Events that are looked at; a larger log is judged by a part of its users."""


FigureName = Literal[
    "clicks", "carts", "purchases", "revenue", "slates", "errors", "fallbacks", "empty_slates", "latency_ms"
]
"""Figures of one user that an experiment can be judged by."""


class FigureConfig(Section):
    """A figure per user that an experiment is judged by."""

    name: FigureName = "clicks"
    """Sum per user within the window; `latency_ms` is the user's mean."""
    window_h: float = Field(24.0, gt=0)
    """Hours after a user first took part in which the figure is counted."""
    higher_is_better: bool = True
    """Direction."""
    margin: float = Field(0.0, ge=0)
    """Primary figure: least gain for a promotion. Guard: largest loss that is allowed. In the figure's unit."""


class VariantConfig(Section):
    """One of the alternatives of an experiment."""

    name: str
    """Name in reports; unique within the experiment."""
    weight: float = Field(1.0, gt=0)
    """Share of the experiment's users, relative to the other weights."""
    version: str = ""
    """Version of the bundle that answers; empty = the one in production."""


class RampConfig(Section):
    """A step of a ramp-up."""

    after_h: float = Field(0.0, ge=0)
    """Hours after the start."""
    share: float = Field(1.0, gt=0, le=1)
    """Share of the experiment's segment that takes part from then on."""


class ExperimentConfig(Section):
    """An experiment: its share of the users, its variants, and the figures that decide."""

    name: str
    """Unique name."""
    variants: tuple[VariantConfig, ...] = Field(min_length=2)
    """The first one is the control."""
    layer: str = "default"
    """Experiments of one layer exclude each other."""
    start: float = Field(0.0, ge=0, lt=1)
    """Beginning of the segment of the layer, 0 to 1."""
    share: float = Field(1.0, gt=0, le=1)
    """Length of the segment, 0 to 1."""
    begins: str = ""
    """Instant of the beginning, ISO 8601; empty = always."""
    ramp: tuple[RampConfig, ...] = ()
    """Ramp-up; empty = the whole segment at once."""


class DecisionConfig(Section):
    """Figures and error rates that decide an experiment by always-valid tests."""

    primary: FigureConfig = FigureConfig()
    """The figure that decides."""
    guards: tuple[FigureConfig, ...] = (
        FigureConfig(name="errors", window_h=0.1, higher_is_better=False, margin=0.05),
        FigureConfig(name="fallbacks", window_h=0.1, higher_is_better=False, margin=0.05),
        FigureConfig(name="empty_slates", window_h=0.1, higher_is_better=False, margin=0.05),
        FigureConfig(name="latency_ms", window_h=0.1, higher_is_better=False, margin=100.0),
    )
    """Figures that must not become worse than their margins; a short window stops a bad variant early."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """Chance of a false decision on the primary figure, over all looks."""
    guard_alpha: float = Field(0.01, gt=0, lt=1)
    """Chance of a false stop per guard, over all looks."""
    min_users: int = Field(100, ge=2)
    """Users per variant before anything decides."""
    max_users: int = Field(0, ge=0)
    """Users of control and variant together at which an experiment ends without a difference; 0 = never."""
    expected_users: float = Field(10_000.0, gt=0)
    """Users of both at which the intervals are narrowest."""
    past_h: float = Field(168.0, ge=0)
    """Hours of each user's past that take noise out of the primary figure; 0 = none."""


class ExperimentsConfig(DecisionConfig):
    """Experiments that decide themselves."""

    running: tuple[ExperimentConfig, ...] = ()
    """Experiments that the shop's own code serves; a canary and those of /v1/experiments need no entry."""


class LoopConfig(Section):
    """`txrec loop`: retraining of a served shop, from export to decision."""

    every_h: float = Field(24.0, ge=0)
    """A round starts this long after the start of the last one, hours; 0 = not by time."""
    min_events: int = Field(0, ge=0)
    """A round starts when the server has kept this many events since the last export; 0 = not by number."""
    drift: bool = True
    """A round starts when live traffic has drifted from the training log of production (a fault of the data starts
    none)."""
    min_h: float = Field(6.0, ge=0)
    """Least time between the starts of two rounds that new events or drift ask for, hours."""
    poll_s: float = Field(60.0, gt=0)
    """Time between two looks at triggers and at a running canary, seconds."""
    url: str = ""
    """Address of the served application, e.g. http://127.0.0.1:8000; empty = the gate promotes, without a canary.
    Its key comes from the environment variable TXREC_API_KEY, and the webhook's address from TXREC_LOOP_WEBHOOK."""
    training: Literal["auto", "full"] = "auto"
    """auto = continue from the production bundle (`train.warm_start`) where that is possible and reaches the quality of
    the last full training; the journal says why not. full = always from random weights."""
    canary_share: float = Field(0.1, gt=0, lt=1)
    """Share of the users that the canary answers."""
    canary_max_h: float = Field(72.0, gt=0)
    """A canary that has not been decided by then is taken back, hours."""
    late_h: float = Field(48.0, ge=0)
    """Events that arrive this late are still exported: exports overlap by as much, and preparation drops duplicates."""
    keep_versions: int = Field(5, ge=2)
    """Registered versions that are kept, the latest ones; served ones and the one before production always are."""
    export_days: int = Field(0, ge=0)
    """Exports of the server's log whose rows are all older than this are removed, days; 0 = they are kept for good.
    Training then forgets what only they held."""


class Config(Section):
    """The whole tree."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run: its files live in `runs_root/name`."""
    runs_root: str = "runs"
    """Folder of all runs: a local path, or `s3://`, `gs://` or `az://` with a bucket."""
    seed: int = 0
    """Seed of everything random."""
    data: DataConfig = DataConfig()
    """Places of the raw tables."""
    prepare: PrepareConfig = PrepareConfig()
    """Reading, cleaning, splitting."""
    text: TextConfig = TextConfig()
    """Tokenizer and text encoder."""
    model: ModelConfig = ModelConfig()
    """Item encoder, history decoder, retrieval head."""
    pretrain: PretrainConfig = PretrainConfig()
    """Text pre-training."""
    train: TrainConfig = TrainConfig()
    """Training of the history model."""
    ranker: RankerConfig = RankerConfig()
    """The ranker."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """Worth of clicks, carts and purchases by which slates are ordered, unless a placement or a request says another;
    e.g. {click = 0.1, purchase = 1, revenue = 0.02}."""
    retrieval: RetrievalConfig = RetrievalConfig()
    """Candidate sources."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Measuring."""
    publish: PublishConfig = PublishConfig()
    """The promotion gate."""
    serve: ServeConfig = ServeConfig()
    """The HTTP application."""
    sample: SampleConfig = SampleConfig()
    """The demonstration's request."""
    tune: TuneConfig = TuneConfig()
    """Hyperparameter search."""
    checks: ChecksConfig = ChecksConfig()
    """Comparison of a preparation with the last one."""
    experiments: ExperimentsConfig = ExperimentsConfig()
    """Experiments on served traffic."""
    exposure: ExposureConfig = ExposureConfig()
    """Exposure of product groups."""
    loop: LoopConfig = LoopConfig()
    """Retraining of a served shop."""

    @model_validator(mode="before")
    @classmethod
    def _default_finetuning_lr(cls, tree: Any) -> Any:
        text, pretrain = (tree.get(name, {}) for name in ("text", "pretrain"))
        if not (isinstance(text, Mapping) and isinstance(pretrain, Mapping)):
            return tree
        if not str(text.get("encoder", "")).startswith(CHECKPOINT):
            return tree
        return {**tree, "pretrain": {"lr": FINE_TUNING_LR, **pretrain}}

    @property
    def run_dir(self) -> Path:
        """Folder of this run's files on this machine; of a run in object storage, its working copy."""
        return object_storage.local_path(self.runs_root) / self.name

    @property
    def data_dir(self) -> Path:
        """Prepared tables, written by `prepare`."""
        return self.run_dir / "data"

    @property
    def checkpoints_dir(self) -> Path:
        """`text/`, `history/`, `ranker/` checkpoints."""
        return self.run_dir / "checkpoints"

    @property
    def candidate_dir(self) -> Path:
        """The complete but unpublished bundle that `train` writes, `evaluate` measures and `publish` registers."""
        return self.run_dir / "candidate"

    @property
    def reports_dir(self) -> Path:
        """metrics.json, data.json, report.html ..."""
        return self.run_dir / "reports"

    @property
    def registry_dir(self) -> Path:
        """Published versions and the production pointer."""
        return self.run_dir / "registry"


def fingerprint(*parts: Any) -> str:
    """Sixteen hex digits that change whenever one of the parts (sections, dicts, strings) changes."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
