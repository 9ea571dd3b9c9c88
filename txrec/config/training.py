"""Configuration of models and their training, retrieval included, and of the search of settings."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from txrec.config.section import Section


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
    """Estimates the probabilities of carts and purchases too, where the log has enough of them."""
    max_rare_cost: float = Field(0.03, ge=0, lt=1)
    """Share of the validation NDCG@10 that may be given up so that, without a query, rare and new products are not
    behind co-visitation and popularity; 0 = none."""

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
    """Candidate sources by their names in `txrec.index.source_registry`, in order of trust."""
    use_profiles: bool = True
    """true = with a users table the source `profile` proposes items by properties of the user and the request, and
    the ranker reads them."""
    new_items_frac: float = Field(0.1, ge=0, le=0.5)
    """Share of the first `ranker.num_candidates` places which is kept for products without events, the last of them, so
    that new ones are candidates at all; without such products nothing is kept."""
    half_life_days: float = Field(30.0, gt=0)
    """Counts of clicks and co-visits lose half their weight in this time, days."""


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
