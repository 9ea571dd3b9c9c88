"""Normal form of queries and product texts.

Unicode NFKC, lower case, HTML entities resolved, control and invisible characters gone, runs of
white space one blank. It is a fixed point: normalising twice changes nothing, so a text may pass through preparation,
index and server any number of times.
"""

import html
import re
import unicodedata
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

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
