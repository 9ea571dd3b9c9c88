"""Keyboard layouts: texts that were typed while another layout was set, such as `дфьз` for `lamp`.

Keys of the Russian, Ukrainian, Greek and Hebrew layouts next to those of the US layout, by their places.
"""

_LATIN = "qwertyuiop[]asdfghjkl;'zxcvbnm,."
_LAYOUTS = (
    "йцукенгшщзхъфывапролджэячсмитьбю",
    "йцукенгшщзхїфівапролджєячсмитьбю",
    ";ςερτυθιοπ[]ασδφγηξκλ΄'ζχψωβνμ,.",
    "/'קראטוןםפ][שדגכעיחלךף,זסבהנמצתץ",
)
_TABLES = tuple(
    table for layout in _LAYOUTS for table in (str.maketrans(layout, _LATIN), str.maketrans(_LATIN, layout))
)


def other_layouts(text: str) -> list[str]:
    """Texts that the same keys give under another layout, where all letters are keys of it.

    >>> other_layouts("дфьз")[0], "лампа" in other_layouts("kfvgf")
    ('lamp', True)
    """
    texts: dict[str, None] = {}
    for table in _TABLES:
        letters = [letter for letter in text if letter.isalpha()]
        if letters and all(ord(letter) in table for letter in letters):
            texts[text.translate(table)] = None
    texts.pop(text, None)
    return list(texts)
