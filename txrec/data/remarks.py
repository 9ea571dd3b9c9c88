"""Remarks on a source's declaration: columns, words and rules that match nothing, and words that nothing knows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from txrec.config import SourceConfig
from txrec.data import values
from txrec.schema import Reason

_MOST_WORDS = 20
_SHOWN_WORDS = 8


@dataclass
class Remarks:
    """Matches of a source's declared columns, words and rules, and its unknown words."""

    matches: dict[str, int] = field(default_factory=dict)
    """Setting = rows that it matched."""
    unknown: dict[str, int] = field(default_factory=dict)
    """Words of availability that say neither yes nor no = rows."""

    @classmethod
    def of(cls, raw: pl.DataFrame, source: SourceConfig) -> "Remarks":
        """Counts the values of declared columns and the declared words of a block of raw columns."""
        made = cls()
        for canonical, name in source.columns.items():
            there = name in raw.columns
            made.matches[f"columns.{canonical} = {name!r}"] = raw.height - raw[name].null_count() if there else 0
        for canonical, words in source.values.items():
            name = source.columns.get(canonical, canonical)
            counts = _word_counts(raw[name]) if name in raw.columns and canonical not in source.constants else {}
            lower = {word.lower(): count for word, count in counts.items()}
            for word in words:
                count = counts.get(word, lower.get(word.lower(), 0) if canonical == "event" else 0)
                made.matches[f"values.{canonical}.{word!r}"] = count
        return made

    def add_availability(self, column: pl.Series) -> None:
        """Counts the words of the column that say neither yes nor no."""
        if column.null_count() == len(column):
            return
        unknown = values.availability(column)[1]
        if unknown.any():
            self.unknown.update(dict(list(_word_counts(column.filter(unknown)).items())[:_MOST_WORDS]))

    def add_rules(self, source: SourceConfig, checks: Sequence[tuple[Reason, pl.Series]]) -> None:
        """Counts the rows that each rule rejects."""
        hits = iter(hit for reason, hit in checks if reason is not Reason.UNPARSABLE_VALUE)
        for number, rule in enumerate(source.reject):
            what = f"matches = {rule.matches!r}" if rule.matches else f"below = {rule.below:g}"
            self.matches[f"reject.{number} ({rule.column}, {what})"] = int(next(hits).sum())


def _word_counts(column: pl.Series) -> dict[str, int]:
    text = values.as_text(column).str.strip_chars().drop_nulls().alias("word")
    counts = text.value_counts(sort=True)
    return dict(zip(counts["word"].to_list(), counts["count"].to_list(), strict=True))


def warnings(parts: Iterable[tuple[str, Mapping[str, int], Mapping[str, int]]]) -> list[str]:
    """Messages on settings of sources that match nothing, and on unknown words of availability.

    Args:
        parts: (source such as `data.events.0`, matches, unknown words) of every chunk with rows.
    """
    matches: dict[tuple[str, str], int] = {}
    unknown: dict[str, dict[str, int]] = {}
    for source, matched, words in parts:
        for setting, count in matched.items():
            matches[source, setting] = matches.get((source, setting), 0) + count
        for word, count in words.items():
            known = unknown.setdefault(source, {})
            known[word] = known.get(word, 0) + count
    made = [f"{source}.{setting} matches no row" for (source, setting), count in matches.items() if not count]
    for source, counts in unknown.items():
        most = sorted(counts.items(), key=lambda pair: -pair[1])[:_SHOWN_WORDS]
        listed = ", ".join(f"{word!r} ({count:,} rows)" for word, count in most)
        made.append(
            f"{source}: words of availability that say neither yes nor no count as available: {listed}; "
            'say what they mean by values.available = { "WORD" = "true" }'
        )
    return made
