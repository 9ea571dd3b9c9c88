"""New products: those that nobody had bought before the test window, and how they are found.

    python bench/cold_start.py [configs/online-retail.toml] [dotted.key=value ...]

Needs the trained candidate of the configuration (`txrec train CONFIG`), which has seen no event of these products. A
case is a user who bought some of them in the window; their history before it is the question. Three tables:

- the whole catalogue is the answer's range. Chance, BM25 over the titles with the titles of the user's last products as
  the query, and the vectors know nothing but texts; new_items, candidates (before the ranker) and the recommender also
  know that a product is new;
- the new products alone are the range: how well their texts tell who wants which, whatever is known of newness;
- all requests of the window and all products: what it costs.

Then a product is added to the finished recommender and looked for at once.
"""

import json
import sys
import time

import numpy as np
from numpy.typing import NDArray

from txrec.config_loader import load
from txrec.data.prepared import PreparedData
from txrec.evals import metrics
from txrec.evals.answering import ask
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.index.source import Source, SourceQuery
from txrec.index.sources.lexical import Lexical
from txrec.recommender.recommender import Recommender, Request
from txrec.recommender.retrieval.retriever import BatchQueryVectors, RetrievalQuery
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
    every = eval_requests(data, Split.TEST, config.evaluate)
    requests, num_events = of_new(every.select(np.flatnonzero(every.query_idx == 0)), new)
    print(f"{int(new.sum())} new of {data.meta.num_items} products; {len(requests)} users bought {num_events} of them")
    answers, state = ask(recommender, data, requests, max(KS)), states(recommender, requests)
    sources = recommender.retriever.sources
    titled = {f"BM25 of the last {n} titles": by_titles(data, requests, n) for n in LAST}
    table = {name: first for name, (_, first) in titled.items()}
    proposing = {"vectors": "dense", "new_items": "new_items"}
    table |= {name: by_source(sources[of], requests, state) for name, of in proposing.items() if of in sources}
    table |= {"candidates": answers.retrieved, "recommender": answers.ranked}
    table_rows: dict[str, dict[str, float]] = {"chance": {f"recall@{k}": k / data.meta.num_items for k in KS}}
    table_rows |= {name: recalls(lists, requests) for name, lists in table.items()}
    show("the whole catalogue", table_rows)
    among = {"chance": {"auc": 0.5, "recall@10": 10 / new.sum()}}
    among |= {name: order(scores, requests, new) for name, (scores, _) in titled.items()}
    among["vectors"] = order(state @ recommender.retriever.dense.vectors.T, requests, new)
    show("new products alone", among)
    whole = ask(recommender, data, every, max(KS))
    names = ("ndcg@10", "recall@10", "recall@100")
    per_case = {"candidates": whole.retrieved, "recommender": whole.ranked}
    ordinary = {
        name: {
            key: float(value.mean()) for key, value in metrics.per_case(lists, every.truth, KS).items() if key in names
        }
        for name, lists in per_case.items()
    }
    show("all requests", ordinary)
    sizes = {"new": int(new.sum()), "cases": len(requests), "events": num_events}
    print(json.dumps({**sizes, "catalogue": table_rows, "among_new": among, "all": ordinary, **added(recommender)}))


def new_products(data: PreparedData) -> NDArray[np.bool_]:
    """(N + 1,) products whose every event lies in the test part."""
    events = data.sequences
    earlier = np.bincount(events.item_idx[events.split < Split.TEST], minlength=data.meta.num_items + 1)
    later = np.bincount(events.item_idx[events.split == Split.TEST], minlength=data.meta.num_items + 1)
    is_new: NDArray[np.bool_] = (earlier == 0) & (later > 0)
    is_new[0] = False
    return is_new


def of_new(requests: EvalRequests, new: NDArray[np.bool_]) -> tuple[EvalRequests, int]:
    """The cases with a history, their truth cut down to new products; and how many right answers there are."""
    kept = new[requests.truth.items]
    truth = type(requests.truth).group(requests.truth.case[kept], requests.truth.items[kept], len(requests))
    rows = np.flatnonzero((truth.counts > 0) & (requests.end > requests.start))
    chosen = requests.select(rows)
    return type(requests)(**{**chosen.__dict__, "truth": truth.select(rows)}), int(truth.counts[rows].sum())


def recalls(lists: NDArray[np.int32], requests: EvalRequests) -> dict[str, float]:
    hit = metrics.hits(lists, requests.truth)
    return {f"recall@{k}": float(metrics.recall(hit, requests.truth.counts, k).mean()) for k in KS}


def by_titles(data: PreparedData, requests: EvalRequests, last: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """(C, N + 1) scores, and the first products."""
    lexical, titles = Lexical.fit(data.items), data.items.column("title").to_pylist()
    texts = []
    for row in range(len(requests)):
        latest = list(dict.fromkeys(requests.items(row)[::-1].tolist()))[:last]
        texts.append(normalise(" ".join(titles[item - 1] or "" for item in latest)))
    scores = np.stack([np.append(0.0, lexical.scores(text)) for text in texts]).astype(np.float32)
    return scores, lexical.first(texts, max(KS))


def states(recommender: Recommender, requests: EvalRequests) -> NDArray[np.float32]:
    """(C, D) after each history."""
    retriever, parts = recommender.retriever, []
    for start in range(0, len(requests), BATCH):
        rows = range(start, min(start + BATCH, len(requests)))
        retrieval_queries = [RetrievalQuery(requests.history(row), "", int(requests.now_us[row])) for row in rows]
        parts.append(retriever.states(retrieval_queries, BatchQueryVectors(retriever.query_encoder)))
    return np.concatenate(parts)


def by_source(source: Source, requests: EvalRequests, state: NDArray[np.float32]) -> NDArray[np.int32]:
    """Proposals of one source after (C, D) states."""
    query = SourceQuery([""] * len(requests), state, [requests.items(row) for row in range(len(requests))])
    return source.search(query, max(KS), [None] * len(requests)).item_idx


def order(scores: NDArray[np.float32], requests: EvalRequests, new: NDArray[np.bool_]) -> dict[str, float]:
    """Mean AUC and recall@10 of the new products' order by (C, N + 1) scores, the other products left out."""
    ids, areas, recall = np.flatnonzero(new), [], []
    for row in range(len(requests)):
        own, right = scores[row, ids], np.isin(ids, requests.truth.of(row))
        areas.append(metrics.auc(own, right))
        recall.append(right[np.argsort(-own, kind="stable")[:10]].sum() / right.sum())
    return {"auc": float(np.mean(areas)), "recall@10": float(np.mean(recall))}


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    print(title)
    for name, figures in rows.items():
        print(f"  {name:28}" + "".join(f"  {key} {value:.4f}" for key, value in figures.items()))


def added(recommender: Recommender) -> dict[str, float]:
    """Milliseconds to add a product, and its places for a search by its title and in slates of a like-named one."""
    title = "ZANZIBAR PAPER LANTERN"
    started = time.perf_counter()
    grown = recommender.with_items([{"item_id": "new-lantern", "title": title, "price": 2.5}])
    taken = 1e3 * (time.perf_counter() - started)
    slate = grown.recommend([Request(query=title.lower(), top_k=100)])[0]
    place = [item.item_id for item in slate.items].index("new-lantern") + 1
    like = [item.item_id for item in grown.similar("new-lantern", top_k=5).items]
    titles = {str(key): grown.catalogue.titles[row] for row, key in enumerate(grown.catalogue.item_ids)}
    print(f"added in {taken:.0f} ms; place {place} for its title; like it: {', '.join(str(titles[i]) for i in like)}")
    return {"added_ms": taken, "added_place": place}


if __name__ == "__main__":
    main()
