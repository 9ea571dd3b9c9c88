"""Tables of judged pairs: query, product and a grade, as a number or a word."""

from txrec.data.detection.table import Chosen, Table

_GRADES = {
    "e": "3", "s": "2", "c": "1", "i": "0", "exact": "3", "perfect": "3", "excellent": "3", "substitute": "2",
    "good": "2", "highly relevant": "3", "relevant": "2", "partial": "1", "partially relevant": "1", "complement": "1",
    "fair": "1", "irrelevant": "0", "not relevant": "0", "bad": "0", "none": "0", "yes": "1", "no": "0",
}  # fmt: skip
"""Words of judges = grades."""


def judgments(table: Table, query: Chosen, item: Chosen, grade: Chosen) -> None:
    """Declares a table of judged pairs; unknown words of judges become questions."""
    table.kind = "judgments"
    for role, chosen in (("query", query), ("item_id", item), ("grade", grade)):
        table.take(role, chosen[0], chosen[1])
    column = table.profile[grade[0]]
    if column.is_number:
        return
    words = [str(word) for word in column.texts.unique().to_list()]
    known = {word: _GRADES[word.lower()] for word in words if word.lower() in _GRADES}
    if known:
        table.settings["values"] = {"grade": known}
        table.remarks["values"] = "likely: by the words themselves"
    for word in words:
        if word not in known:
            table.questions.append(f"{grade[0]} = {word!r}: which grade is it, 0 = irrelevant? Map it in values.grade")
