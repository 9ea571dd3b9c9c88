"""Page token: the products that follow a page, in order, so that later pages depend on nothing that changes.

The token is the state: no replica keeps it, and a restart or a new model between two pages changes nothing. It holds
raw ids with their scores, at most `MAX_FOLLOWING`, compressed (some 5 bytes per product), and a fingerprint of the
search that it belongs to.
"""

import base64
import binascii
import hashlib
import json
import math
import zlib
from dataclasses import dataclass

from txrec.errors import RequestError

MAX_FOLLOWING = 1_000
"""Products that can be reached by tokens from one page; an offset or narrower filters reach others."""
MAX_TOKEN_CHARS = 200_000
MAX_TOKEN_BYTES = 1_000_000
"""Longest content of a token, bytes; a longer one was not made here."""
MAX_OFFSET, MAX_SCORE = 100_000_000, 1e12
"""Greatest place and score of a token; greater ones were not made here."""
_VERSION = 1


@dataclass(frozen=True)
class Following:
    """Products after a page.

    Attributes:
        item_ids: raw ids, in order.
        scores: in the same order.
        offset: products before them.
    """

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    offset: int


def fingerprint(*parts: object) -> str:
    """Identity of a search: pages of one have the same."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def encode(following: Following, search: str) -> str:
    """A token.

    Args:
        following: contents of the token; of more than `MAX_FOLLOWING` products the first ones.
        search: fingerprint of the search.
    """
    ids = following.item_ids[:MAX_FOLLOWING]
    scores = [float(f"{score:.4g}") for score in following.scores[:MAX_FOLLOWING]]
    while scores and scores[-1] == 0:
        scores.pop()
    plain = json.dumps([_VERSION, search, following.offset, ids, scores], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(plain.encode(), 9)).decode()


def decode(token: str, search: str) -> Following:
    """Contents of a token.

    Raises:
        RequestError: it is no token, or one of another search.
    """
    wrong = RequestError("page_token", "is not a token of the API; expected the next_page_token of the page before")
    try:
        reader = zlib.decompressobj()
        plain = reader.decompress(base64.b64decode(token, altchars=b"-_", validate=True), MAX_TOKEN_BYTES)
        version, own, offset, ids, scores = json.loads(plain)
    except (binascii.Error, zlib.error, ValueError, TypeError, RecursionError):
        raise wrong from None
    if not reader.eof:  # cut off
        raise wrong
    if version != _VERSION or not _is_well_formed(offset, ids, scores):
        raise wrong
    if own != search:
        raise RequestError(
            "page_token", "belongs to another search; expected the same query, filters, sort and group_by as before"
        )
    return Following(tuple(ids), (*map(float, scores), *([0.0] * (len(ids) - len(scores)))), offset)


def _is_well_formed(offset: object, ids: object, scores: object) -> bool:
    return (
        type(offset) is int
        and 0 <= offset <= MAX_OFFSET
        and isinstance(ids, list)
        and isinstance(scores, list)
        and len(scores) <= len(ids) <= MAX_FOLLOWING
        and all(isinstance(item_id, str) for item_id in ids)
        and all(type(score) in (int, float) and abs(score) <= MAX_SCORE and math.isfinite(score) for score in scores)
    )
