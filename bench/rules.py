"""Cost of merchandising rules per request: matching and application with ten thousand rules of every kind.

    python bench/rules.py                     10,000 rules, 2,000 requests
    python bench/rules.py --rules 1000 --requests 200

Rules have mixed conditions (exact, contains, pattern, category, placement, segment) and effects; requests hold the
words of some of them. The last line is one JSON object: milliseconds per request, median and 99th percentile, and the
number of rules that acted.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from txrec.recommender.rules.rule_application import RuleBook
from txrec.recommender.rules.rule_index import RuleContext, RuleIndex
from txrec.recommender.rules.rule_types import Rule
from txrec.recommender.types import Request, Slate, SlateItem

NUM_PRODUCTS = 20_000
NUM_WORDS = 5_000


class Catalogue:
    """Products without filters."""

    def __init__(self) -> None:
        self.idx_of = {f"p{n}": n for n in range(1, NUM_PRODUCTS + 1)}
        self.titles = np.array([None, *self.idx_of], object)

    def price_of(self, item_idx: int) -> float | None:  # noqa: ARG002 - no product has a price
        """No price."""
        return None

    def mask(self, filters: object, excluded: object) -> None:
        """Everything may be shown."""


def make_rule(number: int, rng: np.random.Generator) -> Rule:
    """A rule with a random condition and a random effect."""
    word = f"word{rng.integers(NUM_WORDS)}"
    conditions = [
        {"query": {"exact": f"{word} word{rng.integers(NUM_WORDS)}"}},
        {"query": {"contains": word}},
        {"query": {"pattern": rf"^{word}\b.*s?$"}},
        {"category": [f"category{rng.integers(500)}"]},
        {"placement": ["home"], "segment": [f"segment{rng.integers(500)}"]},
        {"placement": [f"place{rng.integers(50)}"], "period": {"start": "2026-01-01"}},
    ]
    item = f"p{rng.integers(1, NUM_PRODUCTS)}"
    effects = [
        {"type": "boost", "products": {"items": [item]}, "factor": 2},
        {"type": "bury", "products": {"items": [item]}, "factor": 0.5},
        {"type": "block", "products": {"items": [item]}},
        {"type": "pin", "items": [item], "position": int(rng.integers(1, 10))},
        {"type": "promote", "products": {"items": [item]}, "share": 0.2},
        {"type": "synonyms", "words": [word, f"word{rng.integers(NUM_WORDS)}"]},
    ]
    when, effect = conditions[number % len(conditions)], effects[int(rng.integers(len(effects)))]
    return Rule.model_validate({"rule_id": str(number), "when": when, "effect": effect})


def run(num_rules: int, num_requests: int, seed: int) -> dict[str, float]:
    """Builds the rules, answers the requests, and returns the figures."""
    rng = np.random.default_rng(seed)
    started = time.perf_counter()
    book, catalogue = RuleBook(RuleIndex(tuple(make_rule(n, rng) for n in range(num_rules)))), Catalogue()
    built_s = time.perf_counter() - started
    slate = Slate(
        tuple(SlateItem(f"p{n}", 1.0 / n) for n in rng.choice(np.arange(1, NUM_PRODUCTS), 100, replace=False))
    )
    times, acted = [], 0
    for _ in range(num_requests):
        query = " ".join(f"word{n}" for n in rng.integers(0, NUM_WORDS, rng.integers(1, 5)))
        categories = frozenset({f"category{rng.integers(500)}"})
        segments = frozenset({f"segment{rng.integers(500)}"})
        place = rng.choice(["home", f"place{rng.integers(50)}"])
        request = Request(query=query, top_k=24)
        started = time.perf_counter()
        context = RuleContext(query, categories, str(place), segments, int(time.time() * 1e6))
        active = book.match(context, catalogue)
        if active is not None:
            active.prepare(request, 100)
            acted += len(active.apply(slate, request).rules)
        times.append(1e3 * (time.perf_counter() - started))
    return {
        "rules": num_rules,
        "requests": num_requests,
        "build_s": round(built_s, 3),
        "median_ms": round(float(np.median(times)), 4),
        "p99_ms": round(float(np.percentile(times, 99)), 4),
        "rules_acted": acted,
    }


def main() -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="a hundred rules")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.rules, arguments.requests = 100, 100
    figures = run(arguments.rules, arguments.requests, arguments.seed)
    for name, value in figures.items():
        print(f"{name:>12}  {value:,}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
