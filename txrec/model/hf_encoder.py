"""Hugging Face text encoder from a local checkpoint: `text.encoder = "hf:PATH"`. Needs the extra `hf` (transformers).

Nothing is downloaded: PATH is a folder written by `save_pretrained`, model and fast tokenizer. `save` copies both, so
that a bundle stands alone. The vectors have the checkpoint's hidden size, whatever `text.dim` says.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from txrec.config import CHECKPOINT, TextConfig
from txrec.errors import ConfigError
from txrec.model.text_encoder import TextEncoder

_FOLDER = "hf"


class HuggingFaceEncoder(TextEncoder):
    """Pooled last hidden states of an `AutoModel`."""

    kind = "huggingface"

    def __init__(self, folder: Path, pooling: str, max_tokens: int) -> None:
        super().__init__()
        from transformers import AutoModel, AutoTokenizer

        self.pooling = pooling
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        self.max_tokens = min(max_tokens, self.model.config.max_position_embeddings)

    @classmethod
    def from_config(cls, cfg: TextConfig) -> Self:
        """The checkpoint named by `text.encoder`.

        Raises:
            ConfigError: transformers is not installed, or the folder holds no checkpoint.
        """
        folder = Path(cfg.encoder.removeprefix(CHECKPOINT)).expanduser()
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"text.encoder = {cfg.encoder!r}: {folder / 'config.json'} is not there; expected a folder written by"
                " save_pretrained() with model and tokenizer"
            )
        try:
            return cls(folder, cfg.pooling, cfg.max_tokens)
        except ImportError as error:
            raise ConfigError(f"text.encoder = {cfg.encoder!r}: {error}; pip install 'txrec[hf]'") from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"text.encoder = {cfg.encoder!r}: not a usable checkpoint: {error}") from None

    @property
    def dim(self) -> int:
        """Dt, the checkpoint's hidden size."""
        return int(self.model.config.hidden_size)

    def size_of(self, text: str) -> int:
        """Characters, which go with the number of subwords."""
        return len(text)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Differentiable vectors of normalised, non-empty texts: (n, Dt) float32 of length 1."""
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.model.device)
        states = self.model(**batch).last_hidden_state  # (n, T, Dt)
        if self.pooling == "cls":
            return F.normalize(states[:, 0], dim=-1)
        real = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
        return F.normalize((states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1), dim=-1)

    def _write(self, folder: Path) -> Mapping[str, Any]:
        self.model.save_pretrained(folder / _FOLDER)
        self.tokenizer.save_pretrained(folder / _FOLDER)
        return {"pooling": self.pooling, "max_tokens": self.max_tokens}

    @classmethod
    def read(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """The encoder that `save` wrote to a folder."""
        return cls(folder / _FOLDER, settings["pooling"], settings["max_tokens"])
