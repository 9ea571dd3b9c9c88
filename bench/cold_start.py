"""New products, found from their text alone: those that nobody had bought before the test window.

    python bench/cold_start.py [configs/online-retail.toml] [dotted.key=value ...]

Needs the trained candidate of the configuration (`txrec train CONFIG`), which has seen no event of these products. A
case is a user who bought some of them in the window; his history before it is the question, the whole catalogue the
answer's range. Beside the vectors alone and the whole recommender stand chance and BM25 over the titles with the titles
of the user's last products as the query. Then a product is added to the finished recommender and looked for at once.
"""

import json
import sys
import time

import numpy as np
from numpy.typing import NDArray

from txrec.config import load
from txrec.data.prepared import PreparedData
from txrec.evals import metrics
from txrec.evals.evaluation import query_texts
from txrec.evals.protocol import Cases, cases
from txrec.index.lexical import Lexical
from txrec.recommend import Recommender, Request
from txrec.retrieve import QueryBook, Question
from txrec.schema import Split
from txrec.text import normalise

KS = (10, 100)
LAST = (1, 5, 20)
"""Last products of the history whose titles are searched for; the best of them counts."""
BATCH = 256


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--small"] or ["configs/online-retail.toml"]
    config = load(arguments[0], arguments[1:])
    if "--small" in sys.argv and not config.candidate_dir.is_dir():
        print(f"nothing to look at in {config.candidate_dir}: `txrec train {arguments[0]}` takes minutes")
        return
    data, recommender = PreparedData.open(config.data_dir), Recommender.open(config.candidate_dir)
    new = new_products(data)
    every = cases(data, Split.TEST, config.evaluate)
    warm = every.select(np.flatnonzero(every.query == 0))
    asked, num_events = of_new(warm, new)
    print(f"{int(new.sum())} new of {data.meta.num_items} products; {len(asked)} users bought {num_events} of them")
    table = {
        "chance": None,
        **{f"BM25 of the last {n} titles": by_titles(data, asked, n) for n in LAST},
        "vectors": by_vectors(recommender, asked),
        "recommender": by_recommender(recommender, asked, query_texts(data)),
    }
    figures: dict[str, object] = {"new": int(new.sum()), "cases": len(asked)}
    for name, lists in table.items():
        found = chance(data) if lists is None else recalls(lists, asked)
        print(f"{name:28}" + "".join(f"  recall@{k} {found[k]:.4f}" for k in KS))
        figures[name] = {f"recall@{k}": found[k] for k in KS}
    warm_figures = recalls(by_vectors(recommender, warm), warm)
    figures["vectors, all products"] = {f"recall@{k}": warm_figures[k] for k in KS}
    print(f"{'vectors, all products':28}" + "".join(f"  recall@{k} {warm_figures[k]:.4f}" for k in KS))
    print(json.dumps(figures | added(recommender)))


def new_products(data: PreparedData) -> NDArray[np.bool_]:
    """(N + 1,) products whose every event lies in the test part."""
    events = data.sequences
    earlier = np.bincount(events.item[events.split < Split.TEST], minlength=data.meta.num_items + 1)
    later = np.bincount(events.item[events.split == Split.TEST], minlength=data.meta.num_items + 1)
    found: NDArray[np.bool_] = (earlier == 0) & (later > 0)
    found[0] = False
    return found


def of_new(asked: Cases, new: NDArray[np.bool_]) -> tuple[Cases, int]:
    """The cases with a history, their truth cut down to new products; and how many right answers there are."""
    kept = new[asked.truth.items]
    truth = type(asked.truth).group(asked.truth.case[kept], asked.truth.items[kept], len(asked))
    rows = np.flatnonzero((truth.counts > 0) & (asked.end > asked.start))
    chosen = asked.select(rows)
    return type(asked)(**{**chosen.__dict__, "truth": truth.select(rows)}), int(truth.counts[rows].sum())


def recalls(lists: NDArray[np.int32], asked: Cases) -> dict[int, float]:
    hit = metrics.hits(lists, asked.truth)
    return {k: float(metrics.recall(hit, asked.truth.counts, k).mean()) for k in KS}


def chance(data: PreparedData) -> dict[int, float]:
    return {k: k / data.meta.num_items for k in KS}


def by_titles(data: PreparedData, asked: Cases, last: int) -> NDArray[np.int32]:
    lexical, titles = Lexical.fit(data.items), data.items.column("title").to_pylist()
    texts = []
    for row in range(len(asked)):
        latest = list(dict.fromkeys(asked.items(row)[::-1].tolist()))[:last]
        texts.append(normalise(" ".join(titles[item - 1] or "" for item in latest)))
    return lexical.first(texts, max(KS))


def by_vectors(recommender: Recommender, asked: Cases) -> NDArray[np.int32]:
    """The items nearest to the history's state."""
    retriever, found = recommender.retriever, []
    for start in range(0, len(asked), BATCH):
        rows = range(start, min(start + BATCH, len(asked)))
        questions = [Question(asked.history(row), "", int(asked.now_us[row])) for row in rows]
        states = retriever.states(questions, QueryBook(retriever.texts))
        found.append(retriever.dense.nearest(states, max(KS), [None] * len(questions)).ids)
    return np.concatenate(found)


def by_recommender(recommender: Recommender, asked: Cases, names: list[str]) -> NDArray[np.int32]:
    """Every source and the ranker."""
    lists = np.zeros((len(asked), max(KS)), np.int32)
    for start in range(0, len(asked), BATCH):
        rows = range(start, min(start + BATCH, len(asked)))
        queries = [names[asked.query[row]] for row in rows]
        now = asked.now_us[rows.start : rows.stop]
        found = recommender.retrieve_dense([asked.history(row) for row in rows], queries, now, top_k=max(KS))
        for row, one, order in zip(rows, found, recommender.rank_dense(found), strict=True):
            ids = one.ids[order.order[: max(KS)]]
            lists[row, : len(ids)] = ids
    return lists


def added(recommender: Recommender) -> dict[str, float]:
    """Milliseconds to add a product, and its place for a search by its title and beside a product of like name."""
    title = "ZANZIBAR PAPER LANTERN"
    started = time.perf_counter()
    grown = recommender.with_items([{"item_id": "new-lantern", "title": title, "price": 2.5}])
    taken = 1e3 * (time.perf_counter() - started)
    slate = grown.recommend([Request(query=title.lower(), top_k=100)])[0]
    place = [item.item_id for item in slate.items].index("new-lantern") + 1
    like = [item.item_id for item in grown.similar("new-lantern", top_k=5).items]
    titles = {str(key): grown.catalogue.titles[row] for row, key in enumerate(grown.catalogue.keys)}
    print(f"added in {taken:.0f} ms; place {place} for its title; like it: {', '.join(str(titles[i]) for i in like)}")
    return {"added_ms": taken, "added_place": place}


if __name__ == "__main__":
    main()
