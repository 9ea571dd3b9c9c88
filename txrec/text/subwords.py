"""Subword tokenizer: byte-level BPE fitted on the shop's own words. Any script can be written, nothing is unknown."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from txrec.config import TextConfig
from txrec.text.normal_form import normalise

SPECIAL_TOKENS: tuple[str, ...] = ("[PAD]", "[UNK]", "[MASK]", "[CLS]")
"""Token ids 0, 1, 2, 3."""
PAD_TOKEN, UNK_TOKEN, MASK_TOKEN, CLS_TOKEN = range(len(SPECIAL_TOKENS))


def fit_tokenizer(texts: Iterable[str], cfg: TextConfig) -> Tokenizer:
    """Learns byte-level BPE merges from texts, which are normalised here.

    Words, numbers and punctuation are kept apart, so that `xbox360` and `xbox 360` share their subwords.

    Args:
        texts: training texts only; a generator is read once and never held.
        cfg: `vocab_size` bounds the vocabulary, special tokens and the 256 byte symbols included.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[UNK_TOKEN]))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=cfg.vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((normalise(text) for text in texts), trainer)
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> NDArray[np.int32]:
    """Token ids of texts, which are normalised here.

    Returns:
        (N, T) int32, padded with 0 on the right; T is the longest text's length, at most `max_tokens`, at least 1.
    """
    encodings = tokenizer.encode_batch([normalise(text) for text in texts], add_special_tokens=False)
    rows = [encoding.ids[:max_tokens] for encoding in encodings]
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    tokens = np.zeros((len(rows), max(1, int(lengths.max(initial=0)))), dtype=np.int32)
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = np.concatenate([np.empty(0, np.int32), *rows])
    return tokens
