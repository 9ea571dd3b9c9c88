"""Stems per language: Snowball's algorithms through PyStemmer, and number alone for English.

Every language of the shop stems every word of its script, because a query of two words does not tell its language. A
word therefore has one stem or a few, and two words meet where they share one.
"""

import re
from collections.abc import Sequence

import Stemmer

SNOWBALL: dict[str, str] = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fa": "persian",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "uk": "russian",
    "yi": "yiddish",
}
"""ISO 639-1 code -> Snowball algorithm; languages without one are searched by their whole words.

Snowball has none for Ukrainian; most of its endings of nouns and adjectives are those that the Russian one takes off.
"""
_SINGULARS: dict[str, tuple[tuple[str, str], ...]] = {
    "es": (("ces", "z"),),
    "pt": (("oes", "ao"), ("aes", "ao"), ("ais", "al"), ("eis", "el"), ("ois", "ol"), ("ns", "m")),
}
"""Folded plural endings that change a stem, with their singular: `luces` -> `luz`, `balões` -> `balão`."""
HEAD_LAST = frozenset({"da", "de", "en", "et", "fi", "hu", "nl", "no", "sv"})
"""Languages whose compounds and phrases name the kind of thing last: a scissor lift is a lift."""
COMPOUNDING = frozenset({"da", "de", "et", "fi", "hu", "nl", "no", "sv"})
"""Languages that write compounds as one word."""
_LATIN = ("a", "\u024f")
_ARABIC, _DEVANAGARI = ("\u0600", "\u06ff"), ("\u0900", "\u097f")
_SCRIPTS = {
    "ar": _ARABIC,
    "el": ("\u0370", "\u03ff"),
    "fa": _ARABIC,
    "hi": _DEVANAGARI,
    "hy": ("\u0530", "\u058f"),
    "ne": _DEVANAGARI,
    "ru": ("\u0400", "\u04ff"),
    "uk": ("\u0400", "\u04ff"),
    "ta": ("\u0b80", "\u0bff"),
    "yi": ("\u0590", "\u05ff"),
}
"""First and last code point of the languages' scripts other than Latin."""

_PLURALS = (
    "mice:mouse geese:goose feet:foot teeth:tooth oxen:ox lice:louse men:man mens:man women:woman womens:woman"
    " gentlemen:gentleman children:child childrens:child knives:knife wives:wife lives:life shelves:shelf"
    " bookshelves:bookshelf leaves:leaf loaves:loaf wolves:wolf halves:half calves:calf scarves:scarf elves:elf"
    " thieves:thief hooves:hoof dwarves:dwarf selves:self lens:lense buses:bus busses:bus gases:gas canvas:canvas"
    " canvases:canvas atlas:atlas atlases:atlas iris:iris irises:iris quizzes:quiz matrices:matrix indices:index"
    " vertices:vertex cacti:cactus fungi:fungus pennies:penny potatoes:potato tomatoes:tomato heroes:hero"
    " mosquitoes:mosquito dominoes:domino mangoes:mango volcanoes:volcano cargoes:cargo echoes:echo"
)
_IRREGULAR = dict(pair.split(":") for pair in _PLURALS.split())
"""English words whose number no rule tells. `lens` takes the e of `lenses`."""
_SIBILANTS = ("ss", "x", "ch", "sh", "z")


def english_stem(word: str) -> str:
    """An English word without its plural ending, spelled the same for both numbers.

    Number alone is taken off: Snowball's English also takes off `-ed` and `-ing`, and a brushed tap is no brush.

    >>> [english_stem(word) for word in ("batteries", "battery", "movies", "movie", "boxes", "knives", "glass")]
    ['battery', 'battery', 'movy', 'movy', 'box', 'knife', 'glass']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 3 and word[-1] == "s" and word[-2:] not in ("ss", "us", "is"):
        word = word[:-1]
    if len(word) > 4 and word.endswith("ie"):
        return word[:-2] + "y"
    if len(word) > 3 and word[-1] == "e" and word[:-1].endswith(_SIBILANTS):
        return word[:-1]
    return word


class Stems:
    """Stems of folded words in the languages of a shop."""

    def __init__(self, languages: Sequence[str]) -> None:
        """Takes ISO 639-1 codes; those without a Snowball algorithm change nothing."""
        known = [code for code in languages if code in SNOWBALL]
        self._stemmers = [(code, *_SCRIPTS.get(code, _LATIN), Stemmer.Stemmer(SNOWBALL[code])) for code in known]

    def __call__(self, word: str) -> tuple[str, ...]:
        """Distinct stems of a word, the main language's first; the word itself where no language stems its script.

        >>> Stems(["en"])("batteries"), Stems(["en"])("battery")
        (('battery',), ('battery',))
        """
        stems = []
        for code, first, last, stemmer in self._stemmers:
            if not first <= word[0] <= last:
                continue
            forms = _spellings(code, word)
            for form in forms:
                stem = english_stem(form) if code == "en" else stemmer.stemWord(form)
                if stem and stem not in stems:
                    stems.append(stem)
        return tuple(stems) or (word,)


def _spellings(code: str, word: str) -> tuple[str, ...]:
    """A word as its language's algorithm takes it, with the spelling of its other forms where the stem changes."""
    if code in _SINGULARS:
        return (word, *_singulars(code, word))
    if code == "cs":
        return (word, word.replace("ů", "o")) if "ů" in word else (word,)
    if code == "uk":
        closed = _CLOSED.sub(r"\1о\2", word)
        fleeting = word.removesuffix("ець") + "ц" if word.endswith("ець") else word
        fleeting = fleeting[:-2] + "льц" if fleeting.endswith("лц") else fleeting
        return tuple(dict.fromkeys(one.translate(_TO_RUSSIAN) for one in (word, closed, fleeting)))
    return (word,)


_CLOSED = re.compile(r"^([бвгґджзклмнпрстфхцчшщ]{1,3})і([бвгґджзклмнпрстфхцчшщ]{1,2}ь?)$")
"""Ukrainian words of one syllable whose і is о in other forms: `ніж`, `ножі`."""
_TO_RUSSIAN = str.maketrans("іїєґ", "ииег")
"""Letters of Ukrainian as the Russian algorithm knows its vowels."""


def _singulars(code: str, word: str) -> list[str]:
    return [
        word.removesuffix(plural) + singular
        for plural, singular in _SINGULARS[code]
        if word.endswith(plural) and len(word) > len(plural)
    ]
