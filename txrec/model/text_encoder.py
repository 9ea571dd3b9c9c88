"""Text encoder interface: product texts and queries to unit vectors, so that their cosine is a relevance score.

`TextEncoder` takes raw texts, returns unit vectors, and saves itself to a folder; `text_encoders.open_text_encoder`
reads that folder again. Implementations: `subword_encoder.py` (trained on the shop's own text) and `hf_encoder.py` (a
local Hugging Face checkpoint).

    text/
    ├── text_encoder.json        kind, format and settings
    ├── model.safetensors        weights           (hf: a `save_pretrained` folder, hf/)
    ├── tokenizer.json           subword tokenizer
    └── vectors.safetensors      items (N + 1, Dt) and queries (Q + 1, Dt) of the prepared data, row 0 zeros
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from txrec.errors import BundleError
from txrec.text import normalise

FORMAT = 1
DESCRIPTION_FILE = "text_encoder.json"
_VECTORS = "vectors.safetensors"
_ENCODE_BATCH = 256


class TextEncoder(nn.Module, ABC):
    """Texts to unit vectors. Subclasses say how; callers need nothing else."""

    kind: str
    """Name of the subclass in `text_encoder.json`."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dt, width of a text vector."""

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Differentiable vectors of normalised, non-empty texts: (n, Dt) float32 of length 1."""

    @abstractmethod
    def size_of(self, text: str) -> int:
        """Approximate length of a text; texts of one size are encoded together."""

    @abstractmethod
    def _write(self, folder: Path) -> Mapping[str, Any]:
        """Writes weights and tokenizer; returns the settings for `text_encoder.json`."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """The inverse of `_write`."""

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of raw texts; a text's vector does not depend on its neighbours.

        Args:
            texts: anything; normalised here, cut to the encoder's length.

        Returns:
            (n, Dt) float32, rows of length 1, or zeros where nothing visible is left of the text.
        """
        normal = [normalise(text) for text in texts]
        order = sorted((i for i, text in enumerate(normal) if text), key=lambda i: self.size_of(normal[i]))
        vectors = np.zeros((len(normal), self.dim), dtype=np.float32)
        was_training = self.training
        self.eval()
        for start in range(0, len(order), _ENCODE_BATCH):
            rows = order[start : start + _ENCODE_BATCH]
            vectors[rows] = self.embed([normal[i] for i in rows]).float().cpu().numpy()
        self.train(was_training)
        return vectors

    def save(self, folder: Path) -> None:
        """Writes everything that `open` needs; no pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        description = {"format": FORMAT, "kind": self.kind, "settings": dict(self._write(folder))}
        (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2), encoding="utf-8")


class TextVectors(NamedTuple):
    """Text vectors of a data set, float32."""

    items: NDArray[np.float32]
    queries: NDArray[np.float32]


def save_vectors(folder: Path, items: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    """Writes `vectors.safetensors` from the vectors of items 1..N and queries 1..Q; adds row 0, zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"items": _with_padding(items), "queries": _with_padding(queries)}
    save_file(tensors, folder / _VECTORS)


def load_vectors(folder: Path) -> TextVectors:
    """Text vectors by item_idx: items (N + 1, Dt) and queries (Q + 1, Dt), float32, row 0 zeros.

    Raises:
        BundleError: the folder holds none.
    """
    file = folder / _VECTORS
    if not file.is_file():
        raise BundleError(f"{file}: no text vectors here; run `txrec pretrain CONFIG`")
    tensors = load_file(file)
    return TextVectors(tensors["items"].numpy(), tensors["queries"].numpy())


def _with_padding(vectors: NDArray[np.float32]) -> Tensor:
    return F.pad(torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32)), (0, 0, 1, 0))
