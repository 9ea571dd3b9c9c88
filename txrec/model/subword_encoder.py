"""Subword text encoder: a bidirectional Transformer and a bag of hashed character trigrams and words.

Both are trained on the shop's own text. The pre-norm Transformer over subwords learns meaning, the bag survives
typing errors (Huang et al. 2013, "Learning deep structured semantic models"; Bojanowski et al. 2017, "Enriching word
vectors with subword information"). The bag's rows are initialised as random directions whose length is the IDF of the
n-gram: texts that share rare trigrams are close before any training.
"""

import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from txrec.config import TextConfig
from txrec.model.dropout import Dropout
from txrec.model.text_encoder import TextEncoder
from txrec.text import CLS_TOKEN, PAD_TOKEN, tokenize
from txrec.text.folding import fold
from txrec.text.segmentation import clusters, is_unspaced, words

_WEIGHTS, _TOKENIZER = "model.safetensors", "tokenizer.json"
_CHARS_PER_TOKEN = 8  # a text is cut to `max_tokens` times as many characters before anything looks at it
_KEPT_TEXTS = 20_000  # parsed texts that are kept: training reads a product in every few steps


class _Parsed(NamedTuple):
    """A text as the encoder reads it."""

    tokens: NDArray[np.int32]  # at most `max_tokens` subwords
    ngrams: NDArray[np.int32]  # buckets of its character trigrams and words


class SubwordEncoder(TextEncoder):
    """A Transformer over subwords plus a bag of hashed character trigrams and words, trained on the shop's text."""

    kind = "subword"

    def __init__(self, cfg: TextConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.cfg = cfg
        self.tokenizer = tokenizer
        self._parsed: dict[str, _Parsed] = {}
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
            self.gate = nn.Parameter(torch.tensor(0.5))  # length of the Transformer's part relative to the bag's

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
            frequency[np.unique(self._ngrams(text))] += 1
        idf = np.log1p((len(texts) + 1) / (frequency + 1))
        with torch.no_grad():
            self.ngram.weight *= torch.from_numpy((idf / idf.max()).astype(np.float32))[:, None]

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(n, T) int64 token ids of normalised texts, CLS first, PAD on the right."""
        rows = [one.tokens for one in self._parse(texts)]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.full((len(rows), 1 + max(1, int(lengths.max(initial=0)))), PAD_TOKEN, np.int64)
        ids[:, 0] = CLS_TOKEN
        ids[:, 1:][np.arange(ids.shape[1] - 1) < lengths[:, None]] = np.concatenate([np.empty(0, np.int64), *rows])
        return torch.from_numpy(ids).to(self.token.weight.device)

    def _parse(self, texts: Sequence[str]) -> list[_Parsed]:
        """Texts as the encoder reads them; those of the last batches are kept."""
        new = [text for text in dict.fromkeys(texts) if text not in self._parsed]
        if new:
            if len(self._parsed) + len(new) > _KEPT_TEXTS:
                self._parsed = {text: self._parsed[text] for text in texts if text in self._parsed}
            most_chars = _CHARS_PER_TOKEN * self.cfg.max_tokens
            ids = tokenize(self.tokenizer, [text[:most_chars] for text in new], self.cfg.max_tokens)
            for text, row in zip(new, ids, strict=True):
                self._parsed[text] = _Parsed(row[row != PAD_TOKEN], self._ngrams(text))
        return [self._parsed[text] for text in texts]

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
        rows = [one.ngrams for one in self._parse(texts)]
        device = self.ngram.weight.device
        flat = torch.from_numpy(np.concatenate([np.empty(0, np.int32), *rows])).to(device)
        starts = torch.tensor([0, *map(len, rows)][:-1], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)
        return torch.as_tensor(self.ngram(flat, starts))  # (n, Dt)

    def _ngrams(self, text: str) -> NDArray[np.int32]:
        if not self.cfg.ngram_buckets:
            return np.empty(0, np.int32)
        surfaces = words(text[: _CHARS_PER_TOKEN * self.cfg.max_tokens])
        buckets = [bucket for word in surfaces for bucket in _buckets(fold(word), self.cfg.ngram_buckets)]
        return np.array(buckets, np.int32)

    def _write(self, folder: Path) -> Mapping[str, Any]:
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / _WEIGHTS)
        self.tokenizer.save(str(folder / _TOKENIZER), pretty=False)
        return self.cfg.model_dump(mode="json")

    @classmethod
    def read(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """The encoder that `save` wrote to a folder."""
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
    if is_unspaced(word):
        letters = clusters(word)
        grams += [first + second for first, second in pairwise(letters)]
    return tuple(zlib.crc32(gram.encode()) % num_buckets for gram in grams)
