"""Languages of a shop's texts, detected by py3langid in samples of many titles each.

A single title is too short to tell; fifteen of them are not. Languages are those of a fair share of the samples.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import py3langid

SAMPLES, TEXTS_PER_SAMPLE = 60, 15
LEAST_SHARE = 0.15
"""A language of fewer samples is taken for a mistake of the classifier."""
FALLBACK = ("en",)
"""Taken where texts are too few or too odd to tell."""
MIN_LETTERS = 40
_CODES = {"nb": "no", "nn": "no"}


def shop_languages(texts: Sequence[str]) -> tuple[str, ...]:
    """ISO 639-1 codes of the languages of texts, the most frequent first.

    Args:
        texts: normalised titles; up to 900 of them are read, drawn evenly.
    """
    distinct = list(dict.fromkeys(text for text in texts if text))
    drawn = np.random.default_rng(0).permutation(len(distinct))[: SAMPLES * TEXTS_PER_SAMPLE]
    counts: Counter[str] = Counter()
    for start in range(0, len(drawn), TEXTS_PER_SAMPLE):
        sample = " . ".join(distinct[place] for place in drawn[start : start + TEXTS_PER_SAMPLE])
        if sum(map(str.isalpha, sample)) >= MIN_LETTERS:
            code = str(py3langid.classify(sample)[0])
            counts[_CODES.get(code, code)] += 1
    least = LEAST_SHARE * counts.total()
    return tuple(code for code, count in counts.most_common() if count >= least) or FALLBACK
