"""Base of every section of the configuration."""

from pydantic import BaseModel, ConfigDict

CHECKPOINT = "hf:"
"""Prefix of `text.encoder` that names a Hugging Face checkpoint."""


FINE_TUNING_LR = 1e-4
"""`pretrain.lr` of such a checkpoint; the rate of an untrained encoder would destroy its pre-training."""


class Section(BaseModel):
    """A part of the tree: frozen, closed, every field documented under its definition."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
