"""Text to vectors: one encoder for product texts and queries, so that a cosine says how well they go together.

`TextEncoder` is what everything else knows: raw texts in, unit vectors out, a folder to save to and open from. Two
kinds exist. `SubwordEncoder` is trained here, from nothing, on the shop's own text: a bidirectional pre-norm
Transformer over subwords, which learns meaning, beside a bag of hashed character trigrams and words, which survives
typing errors (Huang et al. 2013, "Learning deep structured semantic models"; Bojanowski et al. 2017, "Enriching word
vectors with subword information"). The bag's rows start as random directions of length IDF: two texts that share rare
trigrams are close before any training, and training only has to improve on that. `txrec.model.hf_encoder` wraps a local
Hugging Face checkpoint.

    text/
    ├── text_encoder.json        kind, format and settings
    ├── model.safetensors        weights           (hf: a `save_pretrained` folder, hf/)
    ├── tokenizer.json           subword tokenizer
    └── vectors.safetensors      items (N + 1, Dt) and queries (Q + 1, Dt) of the prepared data, row 0 zeros
"""

import json
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from txrec.config import TextConfig
from txrec.errors import BundleError
from txrec.model.dropout import Dropout
from txrec.text import CLS_TOKEN, PAD_TOKEN, normalise, tokenize

FORMAT = 1
DESCRIPTION_FILE = "text_encoder.json"
_WEIGHTS, _TOKENIZER, _VECTORS = "model.safetensors", "tokenizer.json", "vectors.safetensors"
_CHARS_PER_TOKEN = 8  # a text is cut to `max_tokens` times as many characters before anything looks at it
_ENCODE_BATCH = 256
_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
)  # Thai to Hangul


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
        """Roughly how long a text is; texts of one size are encoded together."""

    @abstractmethod
    def _write(self, folder: Path) -> Mapping[str, Any]:
        """Writes weights and tokenizer; returns the settings for `text_encoder.json`."""

    @classmethod
    @abstractmethod
    def _read(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
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

    @staticmethod
    def open(folder: Path) -> "TextEncoder":
        """The encoder saved in a folder, ready to encode.

        Raises:
            BundleError: the folder holds none, or one of another format.
        """
        file = folder / DESCRIPTION_FILE
        if not file.is_file():
            raise BundleError(f"{file}: no text encoder here; run `txrec pretrain CONFIG`")
        description = json.loads(file.read_text(encoding="utf-8"))
        if description.get("format") != FORMAT or description.get("kind") not in _kinds():
            raise BundleError(
                f"{file}: format {description.get('format')!r}, kind {description.get('kind')!r}; this version reads"
                f" format {FORMAT} and kinds {', '.join(_kinds())}; run `txrec pretrain CONFIG` again"
            )
        return _kinds()[description["kind"]]._read(folder, description["settings"]).eval()


class SubwordEncoder(TextEncoder):
    """A Transformer over subwords plus a bag of hashed character trigrams and words, trained on the shop's text."""

    kind = "subword"

    def __init__(self, cfg: TextConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.cfg = cfg
        self.tokenizer = tokenizer
        self.token = nn.Embedding(tokenizer.get_vocab_size(), cfg.dim, padding_idx=PAD_TOKEN)
        self.position = nn.Embedding(cfg.max_tokens + 1, cfg.dim)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = nn.ModuleList(_Block(cfg) for _ in range(cfg.num_layers))
        self.norm = nn.RMSNorm(cfg.dim)
        self.dropout = Dropout(cfg.dropout)
        if cfg.ngram_buckets:
            self.ngram = nn.EmbeddingBag(cfg.ngram_buckets, cfg.dim, mode="sum")
            nn.init.normal_(self.ngram.weight, std=cfg.dim**-0.5)
            self.gate = nn.Parameter(torch.tensor(0.5))  # length of the Transformer's part beside the bag's

    @property
    def dim(self) -> int:
        """Dt, width of a text vector."""
        return self.cfg.dim

    def size_of(self, text: str) -> int:
        """Characters, which go with the number of subwords."""
        return len(text)

    def weigh_ngrams(self, texts: Sequence[str]) -> None:
        """Scales the untrained bag by inverse document frequency: a trigram of every title says little.

        Args:
            texts: normalised training texts of products.
        """
        if not self.cfg.ngram_buckets:
            return
        frequency = np.zeros(self.cfg.ngram_buckets)
        for text in texts:
            frequency[list(set(self._ngrams(text)))] += 1
        idf = np.log1p((len(texts) + 1) / (frequency + 1))
        with torch.no_grad():
            self.ngram.weight *= torch.from_numpy((idf / idf.max()).astype(np.float32))[:, None]

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(n, T) int64 token ids of normalised texts, CLS first, PAD on the right."""
        most_chars = _CHARS_PER_TOKEN * self.cfg.max_tokens
        ids = tokenize(self.tokenizer, [text[:most_chars] for text in texts], self.cfg.max_tokens)
        first = np.full((len(ids), 1), CLS_TOKEN, dtype=ids.dtype)
        return torch.from_numpy(np.concatenate([first, ids], axis=1).astype(np.int64)).to(self.token.weight.device)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Contextual states of the real tokens: (n, T) int64 to (M, Dt) float32, in reading order, padding left out."""
        real = tokens != PAD_TOKEN
        row, column = real.nonzero(as_tuple=True)
        x = self.dropout(self.token(tokens[row, column]) + self.position(column))
        for block in self.blocks:
            x = block(x, real)
        return torch.as_tensor(self.norm(x))

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Differentiable vectors of normalised, non-empty texts: (n, Dt) float32 of length 1."""
        tokens = self.tokens(texts)
        pooled = F.normalize(self._pool(self.hidden(tokens), tokens != PAD_TOKEN), dim=-1)
        if not self.cfg.ngram_buckets:
            return pooled
        bag = F.normalize(self._bag(texts), dim=-1)
        return F.normalize(self.gate * pooled + bag, dim=-1)

    def _pool(self, states: Tensor, real: Tensor) -> Tensor:
        """States of real tokens (M, Dt) to one a text, (n, Dt); a mean's divisor goes when the vector is normalised."""
        lengths = real.sum(dim=1)
        if self.cfg.pooling == "cls":
            return states[lengths.cumsum(0) - lengths]
        row = torch.repeat_interleave(lengths)
        return states.new_zeros(len(real), self.cfg.dim).index_add(0, row, states)

    def _bag(self, texts: Sequence[str]) -> Tensor:
        rows = [self._ngrams(text) for text in texts]
        device = self.ngram.weight.device
        flat = torch.tensor([bucket for row in rows for bucket in row], dtype=torch.int64, device=device)
        lengths = torch.tensor([0, *map(len, rows)][:-1], dtype=torch.int64, device=device)
        return torch.as_tensor(self.ngram(flat, lengths.cumsum(0)))  # (n, Dt)

    def _ngrams(self, text: str) -> list[int]:
        words = _WORD.findall(text[: _CHARS_PER_TOKEN * self.cfg.max_tokens])
        return [bucket for word in words for bucket in _buckets(word, self.cfg.ngram_buckets)]

    def _write(self, folder: Path) -> Mapping[str, Any]:
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / _WEIGHTS)
        self.tokenizer.save(str(folder / _TOKENIZER), pretty=False)
        return self.cfg.model_dump(mode="json")

    @classmethod
    def _read(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        encoder = cls(TextConfig.model_validate(settings), Tokenizer.from_file(str(folder / _TOKENIZER)))
        encoder.load_state_dict(load_file(folder / _WEIGHTS))
        return encoder


class _Block(nn.Module):
    """Pre-norm attention and SwiGLU (Shazeer 2020), bidirectional."""

    def __init__(self, cfg: TextConfig) -> None:
        super().__init__()
        self.num_heads = cfg.num_heads
        self.attention_norm, self.feed_norm = nn.RMSNorm(cfg.dim), nn.RMSNorm(cfg.dim)
        self.qkv = nn.Linear(cfg.dim, 3 * cfg.dim, bias=False)
        self.out = nn.Linear(cfg.dim, cfg.dim, bias=False)
        self.up = nn.Linear(cfg.dim, 4 * cfg.dim, bias=False)  # value and gate, 2 Dt each
        self.down = nn.Linear(2 * cfg.dim, cfg.dim, bias=False)
        self.dropout = Dropout(cfg.dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """States of the real tokens (M, D) and where they stand, (n, T) bool, to states (M, D).

        Queries are short and uneven: leaving padding out of all but the attention more than halves the arithmetic.
        """
        qkv = self.qkv(self.attention_norm(x))
        place = real.flatten().nonzero().squeeze(1)  # (M,) of n * T
        padded = qkv.new_zeros(real.numel(), qkv.shape[-1]).index_copy(0, place, qkv)
        heads = padded.view(*real.shape, 3, self.num_heads, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (n, H, T, D / H)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None, :])
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, place)))
        value, gate = self.up(self.feed_norm(x)).chunk(2, dim=-1)
        return torch.as_tensor(x + self.dropout(self.down(value * F.silu(gate))))


@lru_cache(maxsize=200_000)
def _buckets(word: str, num_buckets: int) -> tuple[int, ...]:
    """Hashed trigrams of ` word `, and the word itself; CRC-32, so that every process agrees.

    A script without blanks packs a sentence into a word and a word into two characters: there also pairs count.
    """
    padded = f" {word} "
    grams = [padded, *(padded[i : i + 3] for i in range(len(padded) - 2))]
    if _UNSPACED.search(word):
        grams += [word[i : i + 2] for i in range(len(word) - 1)]
    return tuple(zlib.crc32(gram.encode()) % num_buckets for gram in grams)


def _kinds() -> dict[str, type[TextEncoder]]:
    from txrec.model.hf_encoder import HuggingFaceEncoder

    return {kind.kind: kind for kind in (SubwordEncoder, HuggingFaceEncoder)}


def save_vectors(folder: Path, items: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    """Writes `vectors.safetensors` from the vectors of items 1..N and queries 1..Q; adds row 0, zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"items": _with_padding(items), "queries": _with_padding(queries)}
    save_file(tensors, folder / _VECTORS)


def load_vectors(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Text vectors by dense id: items (N + 1, Dt) and queries (Q + 1, Dt), float32, row 0 zeros.

    Raises:
        BundleError: the folder holds none.
    """
    file = folder / _VECTORS
    if not file.is_file():
        raise BundleError(f"{file}: no text vectors here; run `txrec pretrain CONFIG`")
    tensors = load_file(file)
    return tensors["items"].numpy(), tensors["queries"].numpy()


def _with_padding(vectors: NDArray[np.float32]) -> Tensor:
    return F.pad(torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32)), (0, 0, 1, 0))
