"""Table of a shop under detection: its sample, kind and columns, and the choice of a column by its name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from txrec.data.detection.columns import Column
from txrec.data.detection.names import fit
from txrec.data.detection.sample import Sample

Kind = Literal["events", "items", "judgments", "users", "lines", "other"]
SURE, LIKELY = 0.75, 0.5


@dataclass(eq=False)
class Table:
    """A sample with its kind and the meaning of its columns."""

    sample: Sample
    kind: Kind = "other"
    columns: dict[str, str] = field(default_factory=dict)
    """Canonical column = source column."""
    remarks: dict[str, str] = field(default_factory=dict)
    """Canonical column or setting = how sure it is, and why."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Other settings of `SourceConfig`."""
    questions: list[str] = field(default_factory=list)
    """Open questions to the shop."""
    notes: list[str] = field(default_factory=list)
    """Files that were left out, with the reasons."""
    profile: dict[str, Column] = field(default_factory=dict)
    """Columns by name."""

    def take(self, role: str, name: str, remark: str) -> None:
        """Gives a canonical column its source column."""
        self.columns[role] = name
        self.remarks[role] = remark

    def rename(self, names: dict[str, str]) -> None:
        """Renames columns of a file without a header."""
        renamed = [names.get(name, name) for name in self.profile]
        self.sample.frame = self.sample.frame.rename(dict(zip(self.profile, renamed, strict=True)))
        self.sample.settings["names"] = tuple(renamed)
        for name, column in list(self.profile.items()):
            column.name = names.get(name, name)
            column.texts = column.texts.alias(column.name)
        self.profile = {column.name: column for column in self.profile.values()}


Chosen = tuple[str, str]
"""A column and the remark on its choice."""


def best(table: Table, role: str, fits: Callable[[Column], bool], least: float = 0.3) -> Chosen | None:
    """The column whose name fits a canonical column best and whose values allow it."""
    taken = set(table.columns.values())
    scores = {
        name: fit(role, name) * (1.0 if role == "query" else 0.5 + 0.5 * min(1.0, 2 * column.filled))
        for name, column in table.profile.items()
        if name not in taken and len(column.texts) and fits(column)
    }
    name = max(scores, key=lambda one: scores[one], default="")
    if not name or scores[name] < least:
        return None
    return name, remark(scores[name], table.profile[name])


def remark(score: float, column: Column) -> str:
    """The certainty of a choice by name, with two values as examples."""
    example = ", ".join(repr(text[:24]) for text in column.texts.unique(maintain_order=True).head(2).to_list())
    sure = "sure" if score >= SURE else "likely" if score >= LIKELY else "guess"
    return f"{sure}: by its name; {example}"
