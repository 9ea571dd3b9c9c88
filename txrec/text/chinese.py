"""Chinese characters: simplified forms of traditional ones, by the tables of OpenCC, which come with it."""

from functools import cache, lru_cache

from opencc import OpenCC

_HAN = (range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xF900, 0xFB00), range(0x2_0000, 0x3_23B0))


@cache
def _table() -> dict[int, str]:
    """Traditional character -> simplified one. Reading it takes a process 40 ms, once it meets such a text."""
    characters = [chr(code) for block in _HAN for code in block]
    simple = OpenCC("t2s").convert("\n".join(characters)).split("\n")
    return {ord(one): other for one, other in zip(characters, simple, strict=True) if one != other}


@lru_cache(maxsize=1 << 16)
def simplified(word: str) -> str:
    """A word with simplified characters instead of traditional ones, one by one.

    >>> simplified("手機殼")
    '手机壳'
    """
    return word.translate(_table())
