"""Quality of whole bundles on a test split, click by click, over several seeds.

    python bench/search.py configs/bestbuy.toml data.root=DIR [--seeds 0,1,2] [--small]

For every seed: prepare, pre-train, train, rank, and answer the test split by the code that serves. MAP@5 and
hit@1 are over clicks: where the clicked product stood in the list that it was clicked in. NDCG@10 is over requests: a
whole search, or with `evaluate.each_click` a click. Intervals are 95 % bootstrap over users, of the mean of the seeds;
"over" another system is the paired difference to it. "unseen" are queries without a click before the split, "new" is
over searches with a relevant product that has no event in training, relevant products of other kinds left out. "not
seen" leaves out what the user has clicked on before. What is already below `runs_root` is not made again. Judged pairs
are measured as `txrec.evals.judged` does, with intervals over queries. Prints a table, and one JSON object as its last
line.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec import simulator
from txrec.config import Config
from txrec.config_loader import load
from txrec.data.judgments import Judgments
from txrec.data.preparation import preparation
from txrec.data.prepared import PreparedData
from txrec.evals import baselines, bootstrap, judged, metrics
from txrec.evals.answering import ask, query_texts
from txrec.evals.evaluation import units
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.evals.slices import Slice, slices
from txrec.index.training_log import EventLog
from txrec.model.retrieval import RetrievalModel
from txrec.recommender import bundle
from txrec.recommender.recommender import Recommender
from txrec.schema import PAD, Split
from txrec.train.ranker.fit import fit_ranker
from txrec.train.retrieval.setup import trainer_for
from txrec.train.text import pretrain

K = 10
RESAMPLES, AUC_RESAMPLES = 1_000, 200
PEERS = ("retrieval order", "bm25", "query_heuristic")
"""Systems, and variants of them, that the ranked lists are set against one by one."""
TITLE = 32
SMALL = (
    "data.root=.bench/shop",
    "runs_root=.bench/runs",
    "data.shop.num_items=200",
    "data.shop.num_users=200",
    "data.shop.num_events=4000",
    "pretrain.max_steps=5",
    "train.max_epochs=1",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.toml")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--small", action="store_true", help="a tiny generated shop, a few steps: a quick look")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    configs = [load(args.config, [*args.overrides, *(SMALL if args.small else ()), f"seed={seed}"]) for seed in seeds]
    data = prepared(configs[0])
    if data.judged_only:
        print(json.dumps(graded(configs, data)))
        return
    requests = eval_requests(data, Split.TEST, configs[0].evaluate)
    systems: dict[str, list[NDArray[np.int32]]] = {"ranked": [], "retrieval order": []}
    for config in configs:
        lists = ask(Recommender.open(made(config, data)), data, requests, K)
        systems["ranked"].append(lists.ranked)
        systems["retrieval order"].append(lists.retrieved)
    fitted, texts = baselines.fit(data, Split.TEST), query_texts(data)[1:]
    for suffix, questions in ("", requests), (", not seen", replace(requests, filter_seen=True)):
        simple = baselines.answer(fitted, questions, texts, data.meta.num_items, K)
        systems |= {name + suffix: [ids] for name, ids in simple.items()}
    print(json.dumps(report(configs[0].name, seeds, systems, Questions.of(data, requests))))


def prepared(config: Config) -> PreparedData:
    if not (config.data_dir / "meta.json").is_file():
        if config.data.shop is not None:
            simulator.write(config.data.shop, Path(config.data.root))
        preparation.run(config, preparation.InProcess())
    return PreparedData.open(config.data_dir)


def made(config: Config, data: PreparedData) -> Path:
    """The bundle of a seed; text encoder and history model are kept next to it and reused."""
    text = config.checkpoints_dir / f"text{config.seed}" if config.text.encoder != "none" else None
    if text is not None and not text.is_dir():
        pretrain.fit(config, data, text)
    history = config.checkpoints_dir / f"model{config.seed}"
    if not history.is_dir():
        trainer = trainer_for(config, data, text)
        trainer.run(lambda *_: None)
        trainer.objective.model.cpu().save(history)
    model = RetrievalModel.open(history)
    ranking = fit_ranker(config, data, model, text)
    print(f"seed {config.seed}: {ranking.decision}", flush=True)
    path = config.candidate_dir.with_name(f"bundle{config.seed}")
    bundle.write(path, config, data, model, text, ranking)
    return path


@dataclass(frozen=True, eq=False)
class Questions:
    """Requests of the test part, and the parts of them with figures of their own."""

    requests: EvalRequests
    unseen: NDArray[np.bool_]
    """(C,) requests whose normalised query was never clicked on before the split."""
    cold: Slice | None
    """Searches for products without events in training; None = there are none."""

    @classmethod
    def of(cls, data: PreparedData, requests: EvalRequests) -> "Questions":
        """Requests of a prepared data set."""
        known = EventLog.before(data, Split.TEST).query_idx
        cold = next((part for part in slices(data, requests) if part.name == "cold_item_searched"), None)
        return cls(requests, (requests.query_idx != PAD) & ~np.isin(requests.query_idx, known), cold)


Figures = dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]
"""Name = values, and the user of each."""


def figures(lists: Sequence[NDArray[np.int32]], questions: Questions) -> Figures:
    """Every figure of a system, as the mean of its lists (one per seed): by click, or NDCG by search."""
    requests, new = questions.requests, questions.unseen
    case, user = requests.truth.case, units(requests)
    listed = np.stack([ids[case] == requests.truth.items[:, None] for ids in lists])  # (seeds, clicks, K)
    place = np.where(listed.any(axis=2), 1 + listed.argmax(axis=2), np.inf)
    at_5 = np.where(place <= 5, 1 / place, 0.0).mean(axis=0)  # of one right product: its reciprocal rank
    ndcg = np.mean([metrics.per_case(ids, requests.truth, [K])[f"ndcg@{K}"] for ids in lists], axis=0)
    click, cold = user[case], questions.cold
    new_ndcg = (np.empty(0), np.empty(0, np.int64))
    if cold is not None:
        each = [metrics.per_case(ids[cold.rows], cold.truth, [K])[f"ndcg@{K}"] for ids in lists]
        new_ndcg = np.mean(each, axis=0), user[cold.rows]
    return {
        "MAP@5": (at_5, click),
        "hit@1": ((place == 1).mean(axis=0), click),
        "NDCG@10": (ndcg, user),
        "unseen MAP@5": (at_5[new[case]], click[new[case]]),
        "new NDCG@10": new_ndcg,
    }


def report(
    name: str,
    seeds: Sequence[int],
    systems: dict[str, list[NDArray[np.int32]]],
    questions: Questions,
) -> dict[str, Any]:
    """Prints a line per system, and returns all the figures."""
    result: dict[str, Any] = {"config": name, "seeds": list(seeds)}
    result["clicks"] = int(questions.requests.truth.counts.sum())
    result["searches for new products"] = 0 if questions.cold is None else len(questions.cold.rows)
    ranked = figures(systems["ranked"], questions)
    print(f"{'':<{TITLE}}" + "".join(f"{title:>25}" for title in ranked))
    for system, lists in systems.items():
        own = figures(lists, questions)
        result[system] = {title: vars(_interval(*own[title])) for title in own}
        _line(system, result[system])
        if len(lists) > 1:
            result[system]["seeds"] = [_means(figures([ids], questions)) for ids in lists]
            print(*(f"{'':<{TITLE}}{json.dumps(one)}" for one in result[system]["seeds"]), sep="\n")
    for system in [name for name in systems if name.startswith(PEERS)]:
        own = figures(systems[system], questions)
        result[f"over {system}"] = {
            title: vars(bootstrap.paired(ranked[title][0], own[title][0], own[title][1], RESAMPLES).difference)
            for title in own
            if len(own[title][0])
        }
        _line(f"over {system}", result[f"over {system}"])
    return result


def graded(configs: Sequence[Config], data: PreparedData) -> dict[str, Any]:
    """Prints a line per system about the judged pairs of the test part, and returns all the figures."""
    judgments, (first, *_) = Judgments.of(data, Split.TEST), configs
    right = judgments.grade >= first.evaluate.relevant_grade - judged.TOLERANCE
    query = np.unique(judgments.query, return_inverse=True)[1]
    figures = [judged.by_recommender(Recommender.open(made(config, data)), data, judgments) for config in configs]
    scores = {"ranked": figures, "bm25": [judged.by_words(data, judgments)]}
    ndcg = {
        name: np.mean([judged.graded_ndcg(one, judgments) for one in lists], axis=0) for name, lists in scores.items()
    }
    unit = np.arange(len(ndcg["bm25"]))
    rng = np.random.default_rng(0)
    drawn = [rng.multinomial(len(unit), np.full(len(unit), 1 / len(unit)))[query] for _ in range(AUC_RESAMPLES)]
    auc = {
        name: np.mean([[metrics.auc(one, right, times) for times in (None, *drawn)] for one in lists], axis=0)
        for name, lists in scores.items()
    }
    result: dict[str, Any] = {
        "config": first.name,
        "seeds": [config.seed for config in configs],
        "pairs": len(judgments),
    }
    print(f"{'':<{TITLE}}{'NDCG@10':>25}{'ROC-AUC':>25}")
    better = {
        f"NDCG@{K}": bootstrap.paired(ndcg["ranked"], ndcg["bm25"], unit, RESAMPLES).difference,
        "ROC-AUC": drawn_interval(auc["ranked"] - auc["bm25"]),
    }
    for name in scores:
        result[name] = {f"NDCG@{K}": vars(_interval(ndcg[name], unit)), "ROC-AUC": vars(drawn_interval(auc[name]))}
        _line(name, result[name])
    for one in figures:
        print(f"{'':<{TITLE}}{judged.graded_ndcg(one, judgments).mean():25.4f}{metrics.auc(one, right):25.4f}")
    result["over bm25"] = {name: vars(interval) for name, interval in better.items()}
    _line("over bm25", result["over bm25"])
    return result


def drawn_interval(values: NDArray[np.float64]) -> bootstrap.Interval:
    """Of a figure and what it was in each resample."""
    low, high = np.quantile(values[1:], [(1 - bootstrap.LEVEL) / 2, (1 + bootstrap.LEVEL) / 2])
    return bootstrap.Interval(float(values[0]), float(low), float(high))


def _interval(values: NDArray[np.float64], user: NDArray[np.int64]) -> bootstrap.Interval:
    if not len(values):
        return bootstrap.Interval(0.0, 0.0, 0.0)
    return bootstrap.intervals({"": values}, user, RESAMPLES)[""]


def _means(figures_by_name: Figures) -> dict[str, float]:
    return {title: round(float(values.mean()), 4) for title, (values, _) in figures_by_name.items() if len(values)}


def _line(title: str, cells: dict[str, dict[str, float]]) -> None:
    spans = (f"{cell['mean']:.4f} ({cell['low']:.4f}-{cell['high']:.4f})" for cell in cells.values())
    print(f"{title:<{TITLE}}" + "".join(f"{span:>25}" for span in spans), flush=True)


if __name__ == "__main__":
    main()
