"""Speed of the text analyser, and of BM25 with it: how many texts per second, how long a query.

    python bench/analyser.py [--config configs/bestbuy-catalogue.toml] [--data DIR] [--queries 2000]

Prepares the catalogue where that has not been done, fits the analyser on it, analyses every text once, and searches
with three random words of a product each time; with `--small` over 2,000 products of the generated shop instead. Words
of scripts without blanks: n-grams of letters next to BudouX, where it is installed. Prints one JSON object at the end.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from search import prepared

from txrec.config import TextConfig
from txrec.config_loader import load
from txrec.index.sources.lexical import Lexical
from txrec.text import Analyser, normalise

SMALL = ("data.shop.num_items=2000", "data.shop.num_users=50", "data.shop.num_events=2000")
THAI = ("เสื้อยืด", "กางเกง", "รองเท้า", "กระเป๋า", "หมวก", "นาฬิกา", "ผ้าห่ม", "หมอน", "ผ้าขนหนู", "โคมไฟ")
CHINESE = ("手机壳", "耳机", "保温杯", "羽绒服", "台灯", "电饭煲", "行李箱", "牙刷", "咖啡机", "登山鞋")
JAPANESE = (
    "スマホケース",
    "イヤホン",
    "水筒",
    "羽毛布団",
    "電気スタンド",
    "炊飯器",
    "掃除機",
    "歯ブラシ",
    "運動靴",
    "折りたたみ傘",
)
QUALITIES = {
    "th": ("ผู้ชาย", "ผู้หญิง", "เด็ก", "รุ่นใหม่", "สีแดง", "สีดำ"),
    "zh-hans": ("男士", "女士", "儿童", "新款", "红色", "黑色"),
    "ja": ("メンズ", "レディース", "子供用", "新型", "赤", "黒"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/bestbuy-catalogue.toml")
    parser.add_argument("--data", default="data", help="folder above the data sets")
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    config = load("configs/demo.toml", SMALL) if args.small else load(args.config, [f"data.root={args.data}"])
    items = prepared(config).items
    figures = speed(items, args.queries) | {"unspaced": unspaced()}
    print(json.dumps(figures))


def speed(items: Any, num_queries: int) -> dict[str, float]:
    """Seconds to fit, texts per second, and microseconds or milliseconds of a query."""
    texts, titles = ([text or "" for text in items.column(name).to_pylist()] for name in ("text", "title"))
    fit_s = timed(lambda: Analyser.of_catalogue(TextConfig(), items))
    analyser = Analyser.of_catalogue(TextConfig(), items)
    first_s = timed(
        lambda: [analyser.document_tokens(text, title.lower()) for text, title in zip(texts, titles, strict=True)]
    )
    index = Lexical.fit(items, analyser).with_synonyms(analyser.synonyms)  # an analyser of its own, nothing cached
    rng = np.random.default_rng(0)
    rows = rng.integers(len(texts), size=num_queries)
    queries = [" ".join(rng.permutation(texts[row].split())[:3]) for row in rows]
    analysis = [timed(partial(analyser.query_terms, text)) for text in queries]
    search = [timed(partial(index.first, [text], 100)) for text in queries]
    figures = {
        "texts": len(texts),
        "words": len(analyser.vocabulary.counts),
        "fit_s": fit_s,
        "texts_per_s": len(texts) / first_s,
        "query_us_p50": 1e6 * float(np.quantile(analysis, 0.5)),
        "query_us_p99": 1e6 * float(np.quantile(analysis, 0.99)),
        "bm25_ms_p50": 1e3 * float(np.quantile(search, 0.5)),
        "bm25_ms_p99": 1e3 * float(np.quantile(search, 0.99)),
    }
    for name, value in figures.items():
        print(f"{name:<14} {value:12,.2f}")
    return figures


def unspaced() -> dict[str, dict[str, float]]:
    """Share of the first ten that are right, by n-grams and by BudouX, where titles are noun and quality in one."""
    results: dict[str, dict[str, float]] = {}
    for language, nouns in (("th", THAI), ("zh-hans", CHINESE), ("ja", JAPANESE)):
        titles = [noun + one + two for noun in nouns for one in QUALITIES[language] for two in QUALITIES[language]]
        results[language] = {"ngrams": precision(titles, nouns, Analyser((language[:2],)).tokens)}
        parse = budoux(language)
        if parse is not None:
            results[language]["budoux"] = precision(titles, nouns, parse)
        print(language, results[language])
    return results


def budoux(language: str) -> Callable[[str], Sequence[str]] | None:
    """BudouX's phrases of a text; None where it is not installed."""
    try:
        library = importlib.import_module("budoux.parser")
    except ImportError:
        return None
    names = {"th": "thai", "zh-hans": "simplified_chinese", "ja": "japanese"}
    parser = getattr(library, f"load_default_{names[language]}_parser")()
    return lambda text: parser.parse(normalise(text))


def precision(titles: Sequence[str], nouns: Sequence[str], tokens: Callable[[str], Sequence[str]]) -> float:
    """Mean share of the first ten titles that have the noun, by shared tokens."""
    documents = [set(tokens(title)) for title in titles]
    shares = []
    for noun in nouns:
        own = set(tokens(noun))
        best = sorted(range(len(titles)), key=lambda row: -len(own & documents[row]))[:10]
        shares.append(np.mean([noun in titles[row] and bool(own & documents[row]) for row in best]))
    return float(np.mean(shares))


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
