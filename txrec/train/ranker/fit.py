"""Ranking fit after retrieval training: candidate sources, fusion weights, and the ranker if validation keeps it.

Count-based sources and features must not have seen the event that is being ranked. So the ranker's examples come from
windows of the log, each retrieved with sources that were fitted on the log before it. The attempts:

1. Trained on the windows before the validation part, decided on the whole of that part: within one window the features
   identify an item, and a ranker would memorise that week's sales. But history model and text encoder were trained on
   those windows, so their vectors look better there than they are. So this is tried with the vectors and the features
   derived from them, and without, and the better one counts.
2. Only if that is not kept or there are no such windows (no times, a short log): trained on the earlier part of the
   validation requests, decided on the later ones; without times, on those of users held out.

A ranker whose examples hold no click on a new product learns never to show one. So where there are searches and hardly
any example is about a product that was new then, the sources and counts behind the training examples do not know the
events of some products (`simulated_cold_items`; DropoutNet, Volkovs et al., NIPS 2017), which are clicked as often as
others. The examples that decide and calibrate are not changed.

The history model of a bundle has not seen the validation part, its counts have: products that came out in between have
clicks and no id. In the examples too, products are without an id that came out within one validation length before the
window (`without_id`), so that the ranker learns what their clicks tell next to vectors made from text alone.

Without a query, rare and new products weigh more where a kept ranker is behind plain counts on them
(`txrec.train.ranker.rare`).

`txrec.train.ranker.listwise` trains and decides; where there are only judged pairs, `txrec.train.ranker.graded` does.
Heads of a kept ranker estimate carts and purchases (`txrec.train.ranker.outcomes`).

A kept ranker is trained again on all the examples of its trial for the same number of epochs, and the sources are
fitted again on the whole log before the test part, for the bundle.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from txrec.config import Config, RankerConfig
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.index.rank_fusion import Fusion
from txrec.index.source import FitContext, Source
from txrec.index.source_registry import fit_sources
from txrec.index.sources.new_items import reserved_slots
from txrec.index.training_log import EventLog
from txrec.model.ranker import Ranker
from txrec.model.retrieval import RetrievalModel
from txrec.model.text_encoder import load_vectors
from txrec.model.text_encoders import open_text_encoder
from txrec.progress import Progress, silent
from txrec.recommender.bundle import AUDIENCE, RankerDecision, Ranking
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.ranking.activity import Activity
from txrec.recommender.ranking.ranking_features import REQUEST_FEATURES, RankingFeatures
from txrec.recommender.retrieval.retriever import QueryEncoder, Retriever
from txrec.recommender.types import Candidates
from txrec.schema import DAY_US, PAD, Split
from txrec.train.audience_fit import fit_audience
from txrec.train.ranker import graded
from txrec.train.ranker.click_weights import ClickWeights
from txrec.train.ranker.examples import Outcomes, chunks, examples, retrieve
from txrec.train.ranker.fusion import MAX_REQUESTS, fit_fusion
from txrec.train.ranker.half_life import popularity_half_life
from txrec.train.ranker.listwise import Examples, TrainingRun, calibrate, ndcg_at_10, train
from txrec.train.ranker.loop import METRIC, decide, in_order, scores_of
from txrec.train.ranker.outcomes import fit_heads, refit_heads
from txrec.train.ranker.rare import MAX_STEPS, Weights, described, kinds_behind, raised, weighted
from txrec.train.ranker.windows import (
    earlier_cases,
    known_vectors,
    latest_requests,
    searches_for_new,
    simulated_cold_items,
    trained_before,
    without_few,
    without_id,
)

MIN_EXAMPLES = 50
"""Least requests that train a ranker."""


def fit_ranker(
    config: Config,
    data: PreparedData,
    model: RetrievalModel,
    text_dir: Path | None,
    progress: Progress = silent,
) -> Ranking:
    """Fits sources, fusion and ranker for a bundle.

    Args:
        config: sections `retrieval`, `ranker` and `evaluate` (what counts as a right answer).
        data: the prepared data set.
        model: the trained history model, moved to the CPU.
        text_dir: checkpoint of the text encoder; None where it is off.
        progress: called in every phase.
    """
    model = model.cpu().eval()
    with torch.inference_mode():
        vectors = model.item_vectors().numpy()
    texts, item_text = _texts(data, text_dir)
    first_ts = EventLog.before(data, Split.TEST).first_ts(data.meta.num_items)
    requests = eval_requests(data, Split.VALIDATION, config.evaluate).sample(config.ranker.max_examples, config.seed)
    requests = requests.with_profiles(data)
    earlier = earlier_cases(config, data, config.ranker.max_examples - len(requests))
    if config.ranker.mode == "auto":
        requests, earlier = without_few(requests, earlier, MIN_EXAMPLES)
    half_life = popularity_half_life([(data, requests), *earlier], config.retrieval.half_life_days)
    catalogue, browses = Catalogue(data.items, analyser=data.analyser), bool((requests.query_idx == PAD).any())
    parts = _Parts(config, model, vectors, texts, item_text, first_ts, half_life, catalogue, browses)
    progress("fitting sources", 0, 2)
    retriever, ranking_features = parts.before(data, Split.VALIDATION)
    held_out = latest_requests(requests, config.seed)
    words = {} if data.judged_only else {name: one.search_weight for name, one in retriever.sources.items()}
    retriever.fusion = fusion = _fit_fusion(retriever, requests, ~held_out, words, config.seed, progress)
    audience = fit_audience(data, retriever, ranking_features.item_vectors, config.seed)
    fatigue: tuple[float, ...] = ()
    if data.judged_only:
        ranker, decision = graded.fit_ranker(config.ranker, data, retriever, ranking_features, config.seed, progress)
    else:
        cfg = parts.ranked(retriever)
        validation = _Validation(data, requests, held_out, retriever, ranking_features)
        attempts = _Attempts(parts, cfg, validation, earlier, progress)
        ranker, decision = _fit_ranker(cfg, config.seed, held_out, attempts, progress)
        if ranker is not None and attempts.weights is not None:
            decision = replace(decision, reason=f"{decision.reason}; clicks weighted by {attempts.weights.bias}")
            fatigue = attempts.weights.fatigue
    progress("fitting sources", 1, 2)
    retriever, ranking_features = parts.before(data, Split.TEST)
    progress("fitting sources", 2, 2)
    names = (*ranking_features.names, *REQUEST_FEATURES)
    files = {} if audience is None else {AUDIENCE: audience.to_bytes()}
    fitted = retriever.sources, ranking_features.activity
    return Ranking(*fitted, fusion, ranker, decision, names, fatigue, files=files)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Model, vectors and settings, which are the same wherever the log is cut."""

    config: Config
    model: RetrievalModel
    vectors: NDArray[np.float32]
    texts: QueryEncoder
    item_text: NDArray[np.float32] | None
    first_ts: NDArray[np.int64]
    """(N + 1,) first event per product before the test part, microseconds, 0 = none: not on sale earlier."""
    popularity_half_life_days: float
    """Half-life of the popularity source."""
    catalogue: Catalogue
    """Every product, sold at the time or not."""
    browses: bool
    """True where there are requests without a query. In searches words and clicks rank new products well."""
    fitted: dict[str, Source] = field(default_factory=dict)
    """Sources that are the same wherever the log is cut, by name, as `FitContext.fitted`."""

    def ranked(self, retriever: Retriever) -> RankerConfig:
        """The ranker's section; items in reserved slots come on top of the candidates that it ranks."""
        cfg, reserved = self.config.ranker, retriever.reserved
        if reserved is None:
            return cfg
        more = min(reserved.count, retriever.sources[retriever.names[reserved.column]].num_reservable)
        return cfg.model_copy(update={"num_candidates": cfg.num_candidates + more})

    def before(
        self, data: PreparedData, split: Split, fusion: Fusion | None = None, hidden: NDArray[np.bool_] | None = None
    ) -> tuple[Retriever, RankingFeatures]:
        """Retrieval and features fitted on the log before a split.

        Args:
            data: the log and the catalogue.
            split: where the log is cut.
            fusion: weights of the sources; None = equal weights.
            hidden: (N + 1,) products whose events are left out; None = none.
        """
        cfg = self.config.retrieval
        seen = data.sequences.split < split
        log = EventLog.select(data, seen if hidden is None else seen & ~hidden[data.sequences.item_idx])
        trained = trained_before(data, split, log) if self.browses else np.ones(len(log), np.bool_)
        untrained = without_id(data, log, trained)
        vectors = known_vectors(self.model, data, untrained, self.vectors, self.item_text)
        later = self.first_ts > data.meta.test_start_ts if data.meta.split_kind == "global_time" else None
        half_life = self.popularity_half_life_days
        context = FitContext(cfg, data, log, vectors, self.item_text, later, half_life, self.fitted)
        sources = fit_sources(context)
        activity = Activity.fit(log, data.meta.num_items, cfg.half_life_days)
        places = reserved_slots(self.config, list(sources))
        retriever = Retriever(self.model, self.texts, sources, fusion or Fusion(), cfg.num_candidates, places)
        features = RankingFeatures(
            self.catalogue, activity, vectors, self.item_text, sources, data.judged_only, untrained=untrained
        )
        return retriever, features


@dataclass(frozen=True, eq=False)
class _Validation:
    """Validation requests with retrieval and features fitted on the log before them."""

    data: PreparedData
    requests: EvalRequests
    held_out: NDArray[np.bool_]
    """(n,) Requests that choose the epoch, calibrate and decide."""
    retriever: Retriever
    ranking_features: RankingFeatures


def _fit_ranker(
    cfg: RankerConfig, seed: int, held_out: NDArray[np.bool_], attempts: "_Attempts", progress: Progress
) -> tuple[Ranker | None, RankerDecision]:
    """The ranker of the first attempt that is kept; later attempts are not made."""
    count = len(held_out)
    least = 1 if cfg.mode == "on" else MIN_EXAMPLES
    if cfg.mode == "off" or min(held_out.sum(), (~held_out).sum()) < least:
        why = "ranker.mode = off" if cfg.mode == "off" else f"{count} requests, {least} per part are needed"
        return None, RankerDecision(False, METRIC, math.nan, math.nan, count, f"leave out the ranker: {why}")
    decision = RankerDecision(False, METRIC, 0.0, 0.0, count, "leave out the ranker: nothing right was retrieved")
    for trials in attempts:
        if not trials[0].fitting.positive.any():
            continue
        result = max([trial.run(cfg, seed, progress) for trial in trials], key=lambda one: one.decision.ranked)
        if result.decision.keep:
            result = _not_behind(result, cfg, seed, progress)
        decision = result.decision
        if decision.keep:
            return result.trained_again(cfg, seed, progress), decision
    return None, decision


def _not_behind(first: "_TrialResult", cfg: RankerConfig, seed: int, progress: Progress) -> "_TrialResult":
    """The result of a trial in which rare and new products weigh enough not to be behind counts, at a limited cost."""
    result, least = first, first.decision.ranked * (1 - cfg.max_rare_cost)
    for _ in range(MAX_STEPS if cfg.max_rare_cost > 0 else 0):
        trial = result.trial
        scores = scores_of(result.ranker, trial.deciding.batch)
        behind = kinds_behind(scores, trial.deciding, trial.feature_names)
        if not behind:
            break
        tried = replace(trial, weights=raised(trial.weights, behind)).run(cfg, seed, progress)
        if not tried.decision.keep or tried.decision.ranked < least:
            break
        result = tried
    if not result.trial.weights:
        return result
    cost = f"ndcg@10 {first.decision.ranked:.4f} without"
    reason = f"{result.decision.reason}; without a query {described(result.trial.weights)}, {cost}"
    return result._replace(decision=replace(result.decision, reason=reason))


@dataclass(frozen=True, eq=False)
class _Attempts:
    """Attempts at a ranker in order, each with its trials; an attempt is made when the iteration reaches it."""

    parts: _Parts
    cfg: RankerConfig
    validation: _Validation
    earlier: Sequence[tuple[PreparedData, EvalRequests]]
    """Windows before the validation part, with their requests."""
    progress: Progress

    def __iter__(self) -> Iterator[list["_Trial"]]:
        if self._has_windows:
            yield self._on_windows()
        yield self._on_held_out()

    def _on_windows(self) -> list["_Trial"]:
        """Trained on the windows before the validation part, with and without the model-derived features."""
        windows = [self._training_examples(*window) for window in self.earlier]
        fitting, everything = Examples.joined(windows), Examples.joined([self.own, *windows])
        dropped = ((), tuple(self.validation.ranking_features.model_derived_columns))
        names = self.validation.ranking_features.names
        return [_Trial(fitting, self.latest, everything, names, columns) for columns in dropped]

    def _on_held_out(self) -> list["_Trial"]:
        """Trained on the earlier validation requests, decided on those held out."""
        early = torch.from_numpy(np.flatnonzero(~self.validation.held_out))
        return [_Trial(self.own.select(early), self.late, self.own, self.validation.ranking_features.names)]

    @cached_property
    def weights(self) -> ClickWeights | None:
        """Weights of clicks in served slates; None without slates."""
        return ClickWeights.of(self.validation.data, self.parts.config.serve.monitor)

    @cached_property
    def hides_items(self) -> bool:
        """True where too few searches are for new products, so that training simulates cold ones."""
        windows = [(self.validation.data, self.validation.requests), *self.earlier]
        return self.validation.data.meta.num_queries > 0 and (
            sum(searches_for_new(*window) for window in windows) < MIN_EXAMPLES
        )

    @property
    def _has_windows(self) -> bool:
        return len(self.earlier) > 1

    @cached_property
    def latest(self) -> Examples:
        """The validation requests, which decide and calibrate where earlier windows train."""
        return self._deciding_examples(self.validation.requests)

    @cached_property
    def late(self) -> Examples:
        """The held-out validation requests, which decide and calibrate where the other ones train."""
        rows = np.flatnonzero(self.validation.held_out)
        if self._has_windows or not self.hides_items:  # all of them have been retrieved
            return self.latest.select(torch.from_numpy(rows))
        return self._deciding_examples(self.validation.requests.select(rows))

    @cached_property
    def own(self) -> Examples:
        """The validation requests as training examples."""
        if not self.hides_items:
            return self.latest
        return self._training_examples(self.validation.data, self.validation.requests)

    @property
    def _window_us(self) -> int:
        return int(self.parts.config.serve.monitor.purchase_h * DAY_US / 24)

    def _deciding_examples(self, requests: EvalRequests) -> Examples:
        now = self.validation
        log, count = Outcomes(now.data.sequences, self.weights, self._window_us), self.cfg.num_candidates
        return examples(requests, now.retriever, now.ranking_features, log, count, self.progress)

    def _training_examples(self, window: PreparedData, requests: EvalRequests) -> Examples:
        hidden = simulated_cold_items(window, self.parts.config.seed) if self.hides_items else None
        fitted = self.parts.before(window, Split.VALIDATION, self.validation.retriever.fusion, hidden)
        outcomes = Outcomes(window.sequences, self.weights, self._window_us)
        return examples(requests, *fitted, outcomes, self.cfg.num_candidates, self.progress)


@dataclass(frozen=True, eq=False)
class _Trial:
    """One training whose ranker may be kept."""

    fitting: Examples
    deciding: Examples
    everything: Examples
    """Examples that a kept ranker is trained on again."""
    feature_names: tuple[str, ...]
    dropped_columns: Sequence[int] = ()
    """Features that are left out."""
    weights: Weights = field(default_factory=dict)
    """Weights of right products by kind."""

    def run(self, cfg: RankerConfig, seed: int, progress: Progress) -> "_TrialResult":
        run = TrainingRun(cfg.max_epochs, seed, self.dropped_columns)
        ranker, num_epochs = train(cfg, weighted(self.fitting, self.weights), self.deciding, run, progress)
        orders = scores_of(ranker, self.deciding.batch), in_order(self.deciding.batch)
        ranked, retrieved = (ndcg_at_10(scores, self.deciding).numpy() for scores in orders)
        return _TrialResult(self, ranker, num_epochs, decide(cfg.mode, ranked, retrieved))


class _TrialResult(NamedTuple):
    trial: _Trial
    ranker: Ranker
    num_epochs: int
    decision: RankerDecision

    def trained_again(self, cfg: RankerConfig, seed: int, progress: Progress) -> Ranker:
        """A ranker trained on everything, with the calibration of the one that was decided on."""
        calibrate(self.ranker, self.trial.deciding)
        run = TrainingRun(self.num_epochs, seed, self.trial.dropped_columns)
        final = train(cfg, weighted(self.trial.everything, self.trial.weights), None, run, progress).ranker
        final.calibration.copy_(self.ranker.calibration)
        heads = fit_heads(self.ranker, self.trial.fitting, self.trial.deciding) if cfg.outcomes else None
        if heads is not None:
            final.outcomes = refit_heads(final, self.trial.everything, heads)
        return final


def _fit_fusion(
    retriever: Retriever,
    requests: EvalRequests,
    use: NDArray[np.bool_],
    search_weights: Mapping[str, float],
    seed: int,
    progress: Progress,
) -> Fusion:
    rng, searched = np.random.default_rng(seed), requests.query_idx != PAD
    kinds = [np.flatnonzero(use & kind) for kind in (searched, ~searched)]
    rows = np.sort(np.concatenate([rng.permutation(kind)[:MAX_REQUESTS] for kind in kinds]))
    candidates: list[Candidates] = []
    for part in chunks(len(rows)):
        candidates.extend(retrieve(retriever, requests, rows[part], 1))
        progress("fitting fusion", len(candidates), len(rows))
    return fit_fusion(candidates, [requests.truth.of(int(i)) for i in rows], retriever.names, search_weights, seed)


def _texts(data: PreparedData, text_dir: Path | None) -> tuple[QueryEncoder, NDArray[np.float32] | None]:
    known: Sequence[str] = data.queries.column("query").to_pylist()
    if text_dir is None:
        return QueryEncoder(known, None, None), None
    items, queries = load_vectors(text_dir)
    return QueryEncoder(known, queries, open_text_encoder(text_dir)), items
