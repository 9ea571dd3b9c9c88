"""Text as every part of txrec sees it: one normal form, one subword tokenizer fitted on the shop's own words.

The normal form is Unicode NFKC, lower case, HTML entities resolved, control and invisible characters gone, runs of
white space one blank. It is a fixed point: normalising twice changes nothing, so a text may pass through preparation,
index and server any number of times. Subwords are byte-level BPE: any script can be written, nothing is unknown.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from txrec.config import TextConfig

SPECIAL_TOKENS: tuple[str, ...] = ("[PAD]", "[UNK]", "[MASK]", "[CLS]")
"""Token ids 0, 1, 2, 3."""
PAD_TOKEN, UNK_TOKEN, MASK_TOKEN, CLS_TOKEN = range(len(SPECIAL_TOKENS))

# Control characters that are not white space, lone surrogates, and the invisible ones that only steer the display.
# The zero-width joiner and non-joiner stay: Persian, the Indic scripts and emoji need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_PLAIN = r"^[\x00-\x25\x27-\x7f]*$"  # ASCII without the ampersand: Arrow's kernels and Python agree on all of it
_NORMAL = r"^(?:[!-%'-@\[-~]+(?: [!-%'-@\[-~]+)*)?$"  # plain, without capitals, single blanks inside: nothing to do
_PLAIN_INVISIBLE = r"[\x00-\x08\x0e-\x1b\x7f]"
_PLAIN_BLANKS = r"[\t-\r\x1c-\x20]+"


def normalise(text: str) -> str:
    r"""The normal form of a query or a product text; empty if nothing visible is left.

    >>> normalise("  Gears&nbsp;of\tWAR ３ ")
    'gears of war 3'
    """
    previous = None
    while text != previous:  # `&amp;amp;` and full-width ampersands need more than one pass
        previous = text
        text = unicodedata.normalize("NFKC", html.unescape(text)).lower()
        text = " ".join(_INVISIBLE.sub("", text).split())
    return text


def normalise_column(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """`normalise` over a string column, null staying null.

    Each distinct value is worked on once: plain ASCII in Arrow, everything else by `normalise` itself.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    encoded = array.cast(pa.string()).dictionary_encode()
    return _normalise_distinct(encoded.dictionary).take(encoded.indices)


def _normalise_distinct(values: pa.Array) -> pa.Array:
    odd = pc.invert(pc.match_substring_regex(values, _NORMAL))
    rest = values.filter(odd)
    return pc.replace_with_mask(values, odd, _normalise_odd(rest)) if len(rest) else values


def _normalise_odd(values: pa.Array) -> pa.Array:
    plain = pc.match_substring_regex(values, _PLAIN)
    text = pc.ascii_lower(values)
    text = pc.replace_substring_regex(text, _PLAIN_INVISIBLE, "")
    text = pc.ascii_trim(pc.replace_substring_regex(text, _PLAIN_BLANKS, " "), " ")
    odd = values.filter(pc.invert(plain))
    if not len(odd):
        return text
    return pc.replace_with_mask(text, pc.invert(plain), pa.array([_remembered(value) for value in odd.to_pylist()]))


@lru_cache(maxsize=1 << 17)
def _remembered(text: str) -> str:
    """`normalise` of a text that comes again: queries repeat from block to block."""
    return normalise(text)


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
