"""Offline evaluation of a bundle on one split: answers, baselines, metrics, slices and confidence intervals.

Answers come from the code that serves (`Recommender.retrieve_dense`, `rank_dense`), over the whole catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.config import Config
from txrec.data.judgments import Judgments
from txrec.data.prepared import PreparedData
from txrec.errors import ConfigError, StageError
from txrec.evals import bootstrap, judged, metrics
from txrec.evals.answering import Answering, InProcess, Lists, ask, dense_indices
from txrec.evals.exposure_figures import exposure_figures
from txrec.evals.metrics import Floats
from txrec.evals.outcome_figures import outcome_figures
from txrec.evals.protocol import EvalRequests, GroundTruth, eval_requests
from txrec.evals.slice_warnings import Resampling, SliceWarning, compared, in_order
from txrec.evals.slices import slices
from txrec.progress import Progress, silent
from txrec.recommender.recommender import Recommender
from txrec.schema import PAD, Split


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of an evaluation; `figures` is the content of metrics.json."""

    data: PreparedData
    cases: EvalRequests
    lists: Lists
    systems: Mapping[str, NDArray[np.int32]]
    """Name = (C, K) lists of `test`, `retrieval`, `production` where there is one, and every baseline."""
    per_case: Mapping[str, Mapping[str, Floats]]
    """System = metric = (C,) figures."""
    figures: dict[str, Any]
    metric: str
    """The figure that decides."""


def evaluate(
    config: Config,
    data: PreparedData,
    recommender: Recommender,
    split: Split = Split.TEST,
    production: Recommender | None = None,
    answering: Answering | None = None,
) -> Evaluation:
    """Measures a recommender, the one in production and the baselines on all requests of a split.

    Args:
        config: of the run.
        data: the prepared data set.
        recommender: the bundle to measure.
        split: validation or test.
        production: the bundle in production, if there is one to compare with.
        answering: where the requests are answered; None = in this process.
    """
    metric, ks = config.publish.metric, config.evaluate.ks
    answering = answering or InProcess()
    progress = answering.progress
    requests = eval_requests(data, split, config.evaluate)
    recommenders = {"test": recommender} | ({} if production is None else {"production": production})
    answers = answering.answers(recommenders, data, requests, max(ks), split)
    lists = answers.lists["test"]
    systems = {"test": lists.ranked, "retrieval": lists.retrieved}
    systems |= {name: one.ranked for name, one in answers.lists.items()}
    systems |= answers.baselines
    per_case = {name: metrics.per_case(ids, requests.truth, ks) for name, ids in systems.items()}
    check_metric(metric, per_case["test"])
    figures: dict[str, Any] = {
        "test": list_figures(lists, requests, data, recommender, per_case["test"], ks),
        "retrieval": metrics.means(per_case["retrieval"]),
        "baselines": {name: metrics.means(values) for name, values in per_case.items() if name not in OWN_SYSTEMS},
        "slices": _slice_figures(data, requests, systems, ks),
        "behind_baselines": [one.to_dict() for one in behind_baselines(config, data, requests, systems)],
        "outcomes": outcome_figures(config, data, recommender, requests),
        "exposure": exposure_figures(config, data, requests, lists.ranked, units(requests)),
        "requests": _description(config, requests, split, recommender, lists),
    }
    if production is not None:
        figures["production"] = {"bundle": production.version, **metrics.means(per_case["production"])}
    figures |= _certainty(config, requests, per_case, metric, progress)
    return Evaluation(data, requests, lists, systems, per_case, figures, metric)


OWN_SYSTEMS = ("test", "retrieval", "production")


@dataclass(frozen=True, eq=False)
class PromotionMetric:
    """The figure that decides whether a bundle is promoted, of every request of the test part."""

    metric: str
    values: Floats  # (C,)
    unit: NDArray[np.int64]  # (C,) unit that is resampled

    @property
    def mean(self) -> float:
        """Over all requests."""
        return float(self.values.mean())

    def over(self, other: "PromotionMetric", config: Config) -> bootstrap.Paired:
        """Difference from another bundle's on the same requests."""
        return bootstrap.paired(self.values, other.values, self.unit, max(config.evaluate.bootstrap, 1), config.seed)


def deciding(
    config: Config, data: PreparedData, recommender: Recommender, progress: Progress = silent
) -> PromotionMetric:
    """Measures it: `publish.metric` over the whole catalogue, or NDCG@10 within judged pairs where there is no log.

    Where people graded some products, all others count as wrong over the whole catalogue, however good they are.
    """
    if data.judged_only:
        judgments = Judgments.of(data, Split.TEST)
        if not len(judgments):
            raise StageError(f"{data.path}: no judged pair lies in the test part; nothing to decide by")
        ndcg = judged.graded_ndcg(judged.by_recommender(recommender, data, judgments, progress), judgments)
        return PromotionMetric(judged.METRIC, ndcg, np.arange(len(ndcg)))
    metric, ks = config.publish.metric, config.evaluate.ks
    requests = eval_requests(data, Split.TEST, config.evaluate)
    values = metrics.per_case(ask(recommender, data, requests, max(ks), progress).ranked, requests.truth, ks)
    check_metric(metric, values)
    return PromotionMetric(metric, values[metric], units(requests))


def best_of(systems: Mapping[str, Mapping[str, float]], metric: str) -> str:
    """Name of the system with the highest figure."""
    return max(systems, key=lambda name: systems[name][metric])


def check_metric(metric: str, figures: Mapping[str, object]) -> None:
    """Raises ConfigError if the deciding metric is not among those measured."""
    if metric not in figures:
        raise ConfigError(f"publish.metric = {metric!r}: not measured; expected one of {', '.join(figures)}")


def list_figures(
    lists: Lists,
    requests: EvalRequests,
    data: PreparedData,
    recommender: Recommender,
    per_case: Mapping[str, Floats],
    ks: Sequence[int],
) -> dict[str, float]:
    """Means of the per-case metrics, and the metrics of all lists together."""
    num_items, ranked = data.meta.num_items, lists.ranked
    train_count = np.append(0, np.asarray(data.items.column("train_count")))
    vectors = _vectors(recommender, data)
    means = metrics.means(per_case)
    for k in ks:
        means[f"coverage@{k}"] = metrics.coverage(ranked, num_items, k)
        means[f"gini@{k}"] = metrics.gini(ranked, num_items, k)
        means[f"novelty@{k}"] = metrics.novelty(ranked, train_count, k)
        means[f"popularity_bias@{k}"] = metrics.popularity_bias(ranked, train_count, requests.truth, k)
        if k > 1:
            means[f"intra_list_diversity@{k}"] = metrics.intra_list_diversity(ranked, vectors, k)
    means["auc"] = metrics.global_auc(lists.scores, ranked, requests.truth, num_items)
    auc_per_case = metrics.catalogue_auc(ranked, requests.truth, num_items)
    means["auc_per_user"] = float(metrics.by_user(auc_per_case, units(requests)).mean()) if len(requests) else 0.0
    return means | _probability_figures(lists, requests.truth)


def scored_pairs(lists: Lists, truth: GroundTruth) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(n,) click probabilities of the listed items of cases that a ranker answered, and (n,) whether each is right."""
    ids = lists.ranked[lists.by_ranker]
    right = metrics.hits(ids, truth.select(np.flatnonzero(lists.by_ranker)))
    return lists.scores[lists.by_ranker][ids != PAD], right[ids != PAD]


def _probability_figures(lists: Lists, truth: GroundTruth) -> dict[str, float]:
    probability, right = scored_pairs(lists, truth)
    if not len(probability):
        return {}
    return {
        "log_loss": metrics.log_loss(probability, right),
        "calibration_error": metrics.calibration_error(probability, right),
    }


def _vectors(recommender: Recommender, data: PreparedData) -> NDArray[np.float32]:
    """(N + 1, D) the recommender's item vectors by the data set's dense indices; zeros where it has none."""
    own, bundle_vectors = dense_indices(recommender, data), recommender.retriever.dense.vectors
    vectors = np.zeros((data.meta.num_items + 1, bundle_vectors.shape[1]), np.float32)
    vectors[own] = bundle_vectors[: len(own)]
    vectors[PAD] = 0.0
    return vectors


def _slice_figures(
    data: PreparedData, requests: EvalRequests, systems: Mapping[str, NDArray[np.int32]], ks: Sequence[int]
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for part in slices(data, requests):
        by_system = {
            name: metrics.means(metrics.per_case(ids[part.rows], part.truth, ks)) for name, ids in systems.items()
        }
        others = {name: values for name, values in by_system.items() if name not in OWN_SYSTEMS}
        figures[part.name] = {
            "num_cases": len(part.rows),
            **{name: by_system[name] for name in OWN_SYSTEMS if name in by_system},
            "baselines": others,
        }
    return figures


def behind_baselines(
    config: Config, data: PreparedData, requests: EvalRequests, systems: Mapping[str, NDArray[np.int32]]
) -> list[SliceWarning]:
    """Slices in which a baseline is above the recommender, by the deciding figure."""
    names = [name for name in systems if name not in OWN_SYSTEMS]
    metric, unit, warnings = config.publish.metric, units(requests), []
    for part in slices(data, requests):
        per_case = {
            name: metrics.per_case(systems[name][part.rows], part.truth, config.evaluate.ks)[metric]
            for name in ("test", *names)
        }
        resamples = config.evaluate.bootstrap
        warning = compared(part.name, metric, per_case, names, Resampling(unit[part.rows], resamples, config.seed))
        if warning is not None:
            warnings.append(warning)
    return in_order(warnings)


def _description(
    config: Config, requests: EvalRequests, split: Split, recommender: Recommender, lists: Lists
) -> dict[str, Any]:
    most = config.evaluate.max_cases
    return {
        "split": split.label,
        "num_cases": len(requests),
        "num_users": len(np.unique(requests.user)),
        "with_query": int((requests.query_idx != PAD).sum()),
        "sampled": 0 < most <= len(requests),
        "filter_seen": requests.filter_seen,
        "bundle": recommender.version,
        "ranker": recommender.ranker is not None,
        "cases_per_s": round(len(requests) / lists.seconds, 1) if lists.seconds else 0.0,
    }


def units(requests: EvalRequests) -> NDArray[np.int64]:
    """(C,) unit that is resampled: the user of each case, the case itself where it has no user."""
    return np.where(requests.user >= 0, requests.user, -1 - np.arange(len(requests)))


def _certainty(
    config: Config,
    requests: EvalRequests,
    per_case: Mapping[str, Mapping[str, Floats]],
    metric: str,
    progress: Progress,
) -> dict[str, Any]:
    """Intervals of the recommender's figures and of every system's deciding one; paired tests against it."""
    resamples, unit = config.evaluate.bootstrap, units(requests)
    if not resamples or not len(requests):
        return {"intervals": {}, "comparisons": {}}
    progress("bootstrap", 0, 2)
    own = bootstrap.intervals(per_case["test"], unit, resamples, config.seed)
    deciding = {name: values[metric] for name, values in per_case.items()}
    everybody = bootstrap.intervals(deciding, unit, resamples, config.seed)
    progress("bootstrap", 1, 2)
    compared = {
        name: bootstrap.paired(per_case["test"][metric], values[metric], unit, resamples, config.seed)
        for name, values in per_case.items()
        if name != "test"
    }
    return {
        "intervals": {
            "test": {name: vars(interval) for name, interval in own.items()},
            metric: {name: vars(interval) for name, interval in everybody.items()},
        },
        "comparisons": {name: {"metric": metric, **values.to_dict()} for name, values in compared.items()},
    }
