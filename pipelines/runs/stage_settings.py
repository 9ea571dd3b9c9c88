"""Stage settings: the first stage whose result follows from each field of the configuration.

A changed field makes that stage and those after it outdated, never one before it. `OPERATIONAL` fields say where and
how work runs (folders, workers, retries, records, the server), not what comes out, and outdate nothing. A test compares
the table with the configuration tree, so that a new field needs a row.
"""

from typing import Any

from txrec.config import Config

OPERATIONAL = ""

_ROWS: dict[str, dict[str, str]] = {
    "": {OPERATIONAL: "name runs_root", "pretrain": "seed"},
    "data": {
        OPERATIONAL: "root",  # the state of the files themselves is part of the key
        "prepare": "shop events items items_from_events users judgments slates",
    },
    "prepare": {
        "prepare": "latest_time max_rejected_frac duplicate_window_s drop_duplicates session_gap_s"
        " robot_events_per_minute robot_item_flood min_user_events min_item_events split num_price_buckets"
        " num_partitions",
    },
    "text": {
        "prepare": "encoder languages synonyms vocab_size",  # the analyser and the tokenizer are fitted there
        "pretrain": "max_tokens dim num_layers num_heads dropout pooling ngram_buckets",
    },
    "pretrain": {
        "pretrain": "lr weight_decay betas warmup_frac min_lr_frac clip_norm accumulate masked_epochs"
        " contrastive_epochs batch_size mask_frac temperature noise_frac product_pairs_frac pairs_per_product"
        " hard_negatives max_steps",
    },
    "model": {
        "train": "dim num_layers num_heads max_length dropout id_dropout use_id use_text use_category use_time"
        " temperature",
    },
    "train": {
        OPERATIONAL: "num_workers cpus_per_worker use_gpu mlflow_uri max_failures start_from warm_start",
        "train": "lr weight_decay betas warmup_frac min_lr_frac clip_norm accumulate precision max_epochs batch_size"
        " patience validate_every metric loss num_negatives negatives gbce_calibration target_events item_optimizer"
        " shard_items ingest max_memory_bytes compile",
    },
    "ranker": {
        "train": "lr weight_decay betas warmup_frac min_lr_frac clip_norm accumulate mode num_candidates dim num_layers"
        " num_heads dropout max_epochs batch_size max_examples outcomes max_rare_cost",
    },
    "objective": {"train": "click cart purchase revenue"},  # the bundle holds it
    "retrieval": {"train": "num_candidates sources new_items_frac half_life_days use_profiles"},
    "evaluate": {
        # validation requests are made by the same protocol
        "train": "filter_seen target_events each_click fold_in max_cases",
        "evaluate": "ks bootstrap relevant_grade",
    },
    "exposure": {"evaluate": "attributes limits"},
    "publish": {"evaluate": "metric", "publish": "margin served_margin smoke_queries"},
}
_OPERATIONAL_SECTIONS = ("serve", "sample", "tune", "checks", "monitor", "experiments", "exploration", "loop")


def _table() -> dict[str, str]:
    rows: dict[str, str] = {}
    for section, by_stage in _ROWS.items():
        for stage, names in by_stage.items():
            for name in names.split():
                rows[f"{section}.{name}" if section else name] = stage
    return rows


FIRST_STAGE: dict[str, str] = _table()
"""Dotted field = name of the first stage that reads it, or OPERATIONAL."""


def fields_without_row() -> list[str]:
    """Dotted fields of the configuration tree that the table does not name."""
    return sorted(set(_fields()) - set(FIRST_STAGE))


def rows_without_field() -> list[str]:
    """Rows of the table that name no field of the configuration tree."""
    return sorted(set(FIRST_STAGE) - set(_fields()))


def settings_of(config: Config, stage: str) -> dict[str, Any]:
    """Values of the fields whose first stage this is, as JSON values by dotted name."""
    tree = config.model_dump(mode="json")
    return {field: _value(tree, field) for field, first in FIRST_STAGE.items() if first == stage}


def _fields() -> list[str]:
    fields = []
    for name, field in Config.model_fields.items():
        section = getattr(field.annotation, "model_fields", None)
        if name in _OPERATIONAL_SECTIONS:
            continue
        fields.extend([name] if section is None else [f"{name}.{inner}" for inner in section])
    return fields


def _value(tree: dict[str, Any], field: str) -> Any:
    for part in field.split("."):
        tree = tree[part]
    return tree
