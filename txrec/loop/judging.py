"""Relevance judgments: sampling of queries and pooling of products for people who grade them, agreement, and export.

A query is sampled where a grade tells most: a frequent query (head), one on which two rankings disagree, or one whose
scores are uncertain. Its products are pooled from the tops of all rankings (depth-k pooling, Sparck Jones and van
Rijsbergen, 1975) and shuffled per judge, so that a judge sees neither ranks nor models. Agreement is Krippendorff's
alpha for ordinal grades (Hayes and Krippendorff, 2007): 1 = perfect, 0 = chance.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import krippendorff
import numpy as np
import pyarrow as pa

JUDGMENTS_KIND = "judgments"
"""Kind of the documents that hold judgments."""
GRADES: Mapping[int, str] = {
    3: "exactly what was searched",
    2: "fits, with a difference",
    1: "related",
    0: "wrong",
}
"""Grades of a product for a query, and their meaning."""
POOL_DEPTH = 6
"""Products of each ranking that are pooled."""
Strategy = Literal["head", "disagreement", "uncertainty"]
STRATEGIES: tuple[Strategy, ...] = ("head", "disagreement", "uncertainty")
SCHEMA = pa.schema(
    [
        pa.field("query", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("grade", pa.float32(), nullable=False),
        pa.field("num_judges", pa.int32(), nullable=False),
    ]
)
"""Exported judgments; `query`, `item_id` and `grade` are the columns of a judgments source."""


@dataclass(frozen=True)
class Judgment:
    """The grades that one judge gave to products of one query.

    Attributes:
        judge: name of the judge.
        query: as it was shown.
        grades: item_id -> grade of `GRADES`; None = the judge could not tell.
        ts: seconds since 1970 UTC.
    """

    judge: str
    query: str
    grades: Mapping[str, int | None]
    ts: float

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Judgment":
        """Reads the document that a judgment is stored as."""
        return cls(str(document["judge"]), str(document["query"]), document["grades"], float(document["ts"]))


@dataclass(frozen=True)
class Rankings:
    """Rankings of one query's products by several models or stages, best first.

    Attributes:
        query: search text.
        frequency: searches in the log.
        orders: item ids of each ranking.
        scores: click probabilities of the final ranking, in its order.
    """

    query: str
    frequency: float
    orders: tuple[tuple[str, ...], ...]
    scores: tuple[float, ...]

    @property
    def disagreement(self) -> float:
        """Mean Jaccard distance between the tops of the rankings, 0 to 1."""
        tops = [set(order[:POOL_DEPTH]) for order in self.orders if order]
        pairs = [(one, other) for place, one in enumerate(tops) for other in tops[place + 1 :]]
        if not pairs:
            return 0.0
        return float(np.mean([1.0 - len(one & other) / len(one | other) for one, other in pairs]))

    @property
    def uncertainty(self) -> float:
        """Normalised entropy of the final scores, 0 to 1: 1 = the model cannot tell the products apart."""
        scores = np.clip(np.asarray(self.scores, float), 0.0, None)
        if len(scores) < 2 or scores.sum() <= 0:
            return 0.0
        share = scores[scores > 0] / scores.sum()
        return float(-(share * np.log(share)).sum() / np.log(len(scores)))


def select(sampled: Sequence[Rankings], strategy: Strategy) -> Rankings | None:
    """The sampled query that a strategy judges first; None without one that has products."""
    answered = [one for one in sampled if any(one.orders)]
    value = {
        "head": lambda one: one.frequency,
        "disagreement": lambda one: one.disagreement,
        "uncertainty": lambda one: one.uncertainty,
    }[strategy]
    return max(answered, key=value, default=None)


def pool(rankings: Rankings, judge: str) -> list[str]:
    """Item ids to grade: the tops of all rankings without repetition, in an order that depends on judge and query."""
    pooled = dict.fromkeys(key for order in rankings.orders for key in order[:POOL_DEPTH])
    salt = f"{judge}\n{rankings.query}\n"
    return sorted(pooled, key=lambda key: hashlib.sha256(f"{salt}{key}".encode()).digest())


def agreement(judgments: Iterable[Judgment]) -> float | None:
    """Krippendorff's alpha of ordinal grades over the pairs that several judges graded; None where it is undefined."""
    by_pair = _by_pair(judgments)
    shared = {pair: grades for pair, grades in by_pair.items() if len(grades) > 1}
    values = {grade for grades in shared.values() for grade in grades.values()}
    if not shared:
        return None
    if len(values) == 1:
        return 1.0
    judges = sorted({judge for grades in shared.values() for judge in grades})
    table = [[float(grades.get(judge, np.nan)) for grades in shared.values()] for judge in judges]
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal"))


def num_shared(judgments: Iterable[Judgment]) -> int:
    """Pairs that more than one judge graded."""
    return sum(len(grades) > 1 for grades in _by_pair(judgments).values())


def export(judgments: Iterable[Judgment]) -> pa.Table:
    """Mean grade of every graded pair as a table of `SCHEMA`, ordered by query and product."""
    rows = [
        {"query": query, "item_id": item_id, "grade": float(np.mean(list(grades.values()))), "num_judges": len(grades)}
        for (query, item_id), grades in sorted(_by_pair(judgments).items())
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _by_pair(judgments: Iterable[Judgment]) -> dict[tuple[str, str], dict[str, int]]:
    """(query, item_id) -> judge -> grade; without the products that a judge could not grade."""
    grades: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for judgment in judgments:
        for item_id, grade in judgment.grades.items():
            if grade is not None:
                grades[judgment.query, item_id][judgment.judge] = grade
    return grades
