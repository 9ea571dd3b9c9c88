"""Remarks on a source's declaration: columns, words and rules that match nothing, and words that nothing knows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from txrec.config import SourceConfig
from txrec.config.files import TimeConfig
from txrec.data.formats import values
from txrec.data.formats.blocks import Block
from txrec.data.formats.times import other_unit
from txrec.data.sources.raw_columns import column_of, is_missing, text_of
from txrec.schema import Reason

_MOST_WORDS = 20
_SAMPLED_ROWS = 10_000
"""First rows of a block that are searched for numbers which can be read in two ways, and for rounded ids."""
_SHOWN_WORDS = 8
_SEPARATORS = (
    ("category", "category_separator"),
    ("category", "categories_separator"),
    ("segments", "segment_separator"),
)
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


@dataclass
class Remarks:
    """Matches of a source's declared columns, words and rules, and its unknown words."""

    matches: dict[str, int] = field(default_factory=dict)
    """Setting = rows that it matched."""
    unknown: dict[str, int] = field(default_factory=dict)
    """Words of availability that say neither yes nor no = rows."""
    open_numbers: dict[str, int] = field(default_factory=dict)
    """`price` = values that may be thousands or have three decimals (`1.299`); `price settled` = values that tell;
    `item_id rounded` = ids in the scientific notation of spreadsheets."""
    notes: dict[str, int] = field(default_factory=dict)
    """Message, with `{count}` and `{example}` for the number of rows and one of them = rows."""
    note_examples: dict[str, str] = field(default_factory=dict)
    """Message = its example."""

    @classmethod
    def of(cls, block: Block, source: SourceConfig, names: Mapping[str, str]) -> "Remarks":
        """Counts the values of declared columns and the declared words of a block of raw columns.

        Args:
            block: of the source.
            source: the declaration.
            names: canonical column = column of the block, where they are not the same.
        """
        raw, made = block.frame, cls(matches=dict(block.matches), notes=dict(block.notes))
        for canonical, name in source.columns.items():
            there = name in raw.columns
            made.matches[f"columns.{canonical} = {name!r}"] = raw.height - raw[name].null_count() if there else 0
        for canonical, words in source.values.items():
            name = source.columns.get(canonical, canonical)
            counts = (
                _word_counts(text_of(raw, name)) if name in raw.columns and canonical not in source.constants else {}
            )
            lower = {word.lower(): count for word, count in counts.items()}
            for word in words:
                count = counts.get(word, lower.get(word.lower(), 0) if canonical == "event" else 0)
                made.matches[f"values.{canonical}.{word!r}"] = count
        made._add_words(raw, source, names)
        made._add_infinite(raw, source)
        if not source.decimal:
            for canonical in ("price", "value"):
                name = source.columns.get(canonical, canonical)
                if name in raw.columns:
                    may_be_thousands, settled = values.open_numbers(raw[name].head(_SAMPLED_ROWS))
                    made.open_numbers |= {canonical: may_be_thousands, f"{canonical} settled": settled}
        for canonical in ("user_id", "item_id"):
            name = source.columns.get(canonical, canonical)
            if name in raw.columns and raw[name].dtype == pl.String:
                made.open_numbers[f"{canonical} rounded"] = values.num_rounded(raw[name].head(_SAMPLED_ROWS))
        return made

    @staticmethod
    def add_counts(total: "Counts", more: "Counts") -> None:
        """Adds the counts of a block to those of its source."""
        for name in ("matches", "unknown", "open_numbers", "notes"):
            counts: dict[str, int] = getattr(total, name)
            for key, count in getattr(more, name).items():
                counts[key] = counts.get(key, 0) + count
        for message, example in more.note_examples.items():
            total.note_examples.setdefault(message, example)

    def _add_words(self, raw: pl.DataFrame, source: SourceConfig, names: Mapping[str, str]) -> None:
        """Counts the rows with declared words for nothing, and with declared separators."""
        for canonical, words in source.missing.items():
            name = names.get(canonical, canonical)
            there = name in raw.columns and canonical not in source.constants
            for word in words:
                one = source.model_copy(update={"missing": {canonical: (word,)}})
                hits = int(is_missing(raw, canonical, one, name).sum()) if there else 0
                self.matches[f"missing.{canonical}.{word!r}"] = hits
        for canonical, setting in _SEPARATORS:
            separator = getattr(source, setting)
            if separator and setting in source.model_fields_set:
                column = column_of(raw, names.get(canonical, canonical))
                text = column if column.dtype == pl.String else pl.Series([], dtype=pl.String)
                hits = int(text.str.contains(separator, literal=True).sum() or 0)
                self.matches[f"{setting} = {separator!r}"] = hits

    def _add_infinite(self, raw: pl.DataFrame, source: SourceConfig) -> None:
        named = {name: source.columns.get(name, name) for name in ("price", "value")}
        for canonical, name in {**named, **{f"prices.{key}": name for key, name in source.prices.items()}}.items():
            count = int(values.infinite(raw[name]).sum() or 0) if name in raw.columns else 0
            if count:
                self.notes[f"{{count}} values of {canonical} are infinite, such as inf; they count as none"] = count

    def add_times(self, column: pl.Series, cfg: TimeConfig) -> None:
        """Counts the times that were rejected and that plainly are numbers of another unit than the declared one."""
        unit, example, count = other_unit(column, cfg)
        if count:
            message = (
                "{count} times such as {example} are rejected that look like "
                f'{_UNIT_NAMES[unit]} since 1970, while time.format = "{cfg.format}": '
                f'declare time = {{ format = "{unit}" }}'
            )
            self.notes[message], self.note_examples[message] = count, example

    def add_availability(self, column: pl.Series) -> None:
        """Counts the words of the column that say neither yes nor no."""
        if column.null_count() == len(column):
            return
        unknown = values.availability(column)[1]
        if unknown.any():
            for word, count in list(_word_counts(column.filter(unknown)).items())[:_MOST_WORDS]:
                self.unknown[word] = self.unknown.get(word, 0) + count

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


class Counts(Protocol):
    """Counters of `Remarks`, as the figures of chunks and of checked sources have them too."""

    matches: dict[str, int]
    unknown: dict[str, int]
    open_numbers: dict[str, int]
    notes: dict[str, int]
    note_examples: dict[str, str]


def warnings(parts: Iterable[tuple[str, Counts]]) -> list[str]:
    """Messages on settings of sources that match nothing, on unknown words of availability, and on open numbers.

    Args:
        parts: source such as `data.events.0` and counts of every chunk with rows.
    """
    sources: dict[str, Remarks] = {}
    for source, counts in parts:
        Remarks.add_counts(sources.setdefault(source, Remarks()), counts)
    made = [f"{source}.{setting} matches no row" for source, one in sources.items()
            for setting, count in one.matches.items() if not count]  # fmt: skip
    made += [message for source, one in sources.items() for message in _number_warnings(source, one.open_numbers)]
    for source, one in sources.items():
        for message, count in one.notes.items():
            filled = message.replace("{count}", f"{count:,}").replace("{example}", one.note_examples.get(message, ""))
            made.append(f"{source}: {filled}")
    for source, one in sources.items():
        if not one.unknown:
            continue
        most = sorted(one.unknown.items(), key=lambda pair: -pair[1])[:_SHOWN_WORDS]
        listed = ", ".join(f"{word!r} ({count:,} rows)" for word, count in most)
        made.append(
            f"{source}: words of availability that say neither yes nor no count as available: {listed}; "
            'say what they mean by values.available = { "WORD" = "true" }'
        )
    return made


def _number_warnings(source: str, counts: Mapping[str, int]) -> list[str]:
    return [
        f"{source}: {count:,} values of {name} such as 1.299 may be thousands or have three decimals; a comma is "
        'read as that of thousands, a point as that of decimals: say so by decimal = "." or decimal = ","'
        for name, count in counts.items()
        if count and not name.endswith((" settled", " rounded")) and not counts.get(f"{name} settled")
    ] + [
        f"{source}: {count:,} values of {name.removesuffix(' rounded')} are in scientific notation, as a spreadsheet "
        "writes 1.23457E+12: their last digits may be lost, and they meet no id written in full; export them as text"
        for name, count in counts.items()
        if count and name.endswith(" rounded")
    ]
