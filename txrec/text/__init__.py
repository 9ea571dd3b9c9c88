"""Text analysis: the one analyser behind BM25, trigrams, query statistics and the text encoder.

normal_form.py       one normal form of every text
segmentation.py      words and runs of words, marks kept; n-grams where a script separates no words
folding.py           spellings without accents, marks and case
chinese.py           simplified Chinese characters instead of traditional ones
skeletons.py         Hebrew and Arabic words without their inner vowels
stemming.py          stems per language
languages.py         the languages of a shop's texts
quantities.py        numbers with a unit
article_numbers.py   products by article number, whole or by beginning
vocabulary.py        the shop's words: joined and split spellings, compounds, beginnings
synonyms.py          the shop's own synonyms
keyboard.py          texts typed under another keyboard layout
trigrams.py          character trigrams
word_forms.py        index tokens of single words
query_terms.py       search terms of a query
analyser.py          all of them together: index tokens of a document, search terms of a query
subwords.py          the subword tokenizer of the text encoder
"""

from txrec.text.analyser import Analyser
from txrec.text.normal_form import normalise, normalise_column
from txrec.text.subwords import CLS_TOKEN, MASK_TOKEN, PAD_TOKEN, SPECIAL_TOKENS, UNK_TOKEN, fit_tokenizer, tokenize
from txrec.text.synonyms import Synonyms
from txrec.text.trigrams import trigrams, word_trigrams
from txrec.text.word_forms import QueryTerm

__all__ = [
    "CLS_TOKEN",
    "MASK_TOKEN",
    "PAD_TOKEN",
    "SPECIAL_TOKENS",
    "UNK_TOKEN",
    "Analyser",
    "QueryTerm",
    "Synonyms",
    "fit_tokenizer",
    "normalise",
    "normalise_column",
    "tokenize",
    "trigrams",
    "word_trigrams",
]
