"""Ranking fit after retrieval training: candidate sources, fusion weights, and the ranker if validation keeps it.

Count-based sources and features must not have seen the event that is being ranked. So the ranker's examples come from
windows of the log, each retrieved with sources that were fitted on what lies before it. What is tried:

1. Trained on the windows before the validation part, decided on the whole of that part: within one window an item's
   features tell it apart, and what sold that week would be learnt by heart. But history model and text encoder were
   trained on those windows, and how far their vectors can be trusted is not seen there. So this is tried with the
   vectors and the features that they decide, and without, and the better one counts.
2. Only if that is not kept or there are no such windows (no times, a short log): trained on the earlier part of the
   validation requests, decided on the later ones; without times, on those of users held out.

A ranker that never saw a new product wanted has learnt that nobody wants one, whatever is searched for. So where people
search and hardly any of the examples is about a product that was new then, the sources and counts behind those that it
learns from do not know the events of some products (`simulated_cold_items`; DropoutNet, Volkovs et al., NIPS 2017): new
ones are then wanted as often as others. The examples that decide and calibrate are as they were.

`txrec.train.ranker.listwise` trains and decides; where there are only judged pairs, `txrec.train.ranker.graded` does.

A kept ranker is trained again on all the examples of its trial for the epochs found, and the sources are fitted again
on everything before the test part, for the bundle.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from txrec.config import Config, RankerConfig
from txrec.data.prepared import PreparedData, Sequences
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.index.fuse import Fusion
from txrec.index.log import EventLog
from txrec.index.new_items import reserved_slots
from txrec.index.registry import fit_sources
from txrec.index.source import FitContext
from txrec.model.history_features import NEW_SEARCH_US
from txrec.model.ranker import CandidateBatch, Ranker
from txrec.model.retrieval import RetrievalModel
from txrec.model.text_encoder import load_vectors
from txrec.model.text_encoders import open_text_encoder
from txrec.progress import Progress, silent
from txrec.recommender.activity import Activity
from txrec.recommender.bundle import RankerDecision, Ranking
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.ranking import batch as candidate_batch
from txrec.recommender.ranking_features import REQUEST_FEATURES, RankingFeatures
from txrec.recommender.retriever import QueryEncoder, RetrievalQuery, Retriever
from txrec.recommender.types import Candidates, Request
from txrec.schema import PAD, EventKind, Split
from txrec.train.ranker import graded
from txrec.train.ranker.fusion import fit_fusion
from txrec.train.ranker.half_life import popularity_half_life
from txrec.train.ranker.listwise import Examples, calibrate, ndcg_at_10, train
from txrec.train.ranker.loop import METRIC, decide, in_order, scores_of
from txrec.train.ranker.windows import earlier_cases, known_vectors, searches_for_new, simulated_cold_items

HELD_OUT_FRAC = 0.4
"""Share of the validation requests, the latest ones, that choose the epoch, calibrate and decide."""
MIN_EXAMPLES = 50
"""With fewer requests than this no ranker is trained."""
RETRIEVE_BATCH = 64


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
        progress: told about every phase.
    """
    model = model.cpu().eval()
    with torch.inference_mode():
        vectors = model.item_vectors().numpy()
    texts, item_text = _texts(data, text_dir)
    first_ts = EventLog.before(data, Split.TEST).first_ts(data.meta.num_items)
    asked = eval_requests(data, Split.VALIDATION, config.evaluate).sample(config.ranker.max_examples, config.seed)
    half_life = popularity_half_life(data, asked, config.retrieval.half_life_days)
    parts = _Parts(config, model, vectors, texts, item_text, first_ts, half_life)
    progress("fitting sources", 0, 2)
    retriever, ranking_features = parts.before(data, Split.VALIDATION)
    held_out = _held_out(asked, config.seed)
    retriever.fusion = fusion = _fit_fusion(retriever, asked, ~held_out, config.seed, progress)
    if data.judged_only:
        ranker, decision = graded.fit_ranker(config.ranker, data, retriever, ranking_features, config.seed, progress)
    else:
        cfg = parts.ranked(retriever)
        attempts = _attempts(parts, cfg, data, retriever, ranking_features, asked, held_out, progress)
        ranker, decision = _fit_ranker(cfg, config.seed, held_out, attempts, progress)
    progress("fitting sources", 1, 2)
    retriever, ranking_features = parts.before(data, Split.TEST)
    progress("fitting sources", 2, 2)
    names = (*ranking_features.names, *REQUEST_FEATURES)
    return Ranking(retriever.sources, ranking_features.activity, fusion, ranker, decision, names)


@dataclass(frozen=True, eq=False)
class _Parts:
    """What stays the same while the log is cut at different times."""

    config: Config
    model: RetrievalModel
    vectors: NDArray[np.float32]
    texts: QueryEncoder
    item_text: NDArray[np.float32] | None
    first_ts: NDArray[np.int64]
    """(N + 1,) each product's first event before the test part, microseconds, 0 = none: it was not on sale earlier."""
    popularity_half_life_days: float
    """Of the popularity source."""

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
        """Retrieval and features that have seen nothing of a split or of what comes after it.

        Args:
            data: the log and the catalogue.
            split: where the log is cut.
            fusion: weights of the sources; None = all alike.
            hidden: (N + 1,) products of which they have seen no event at all; None = none.
        """
        cfg = self.config.retrieval
        seen = data.sequences.split < split
        log = EventLog.select(data, seen if hidden is None else seen & ~hidden[data.sequences.item_idx])
        vectors = known_vectors(self.model, data, log, self.vectors, self.item_text)
        later = self.first_ts > data.meta.test_start_ts if data.meta.split_kind == "global_time" else None
        context = FitContext(cfg, data, log, vectors, self.item_text, later, self.popularity_half_life_days)
        sources = fit_sources(context)
        activity = Activity.fit(log, data.meta.num_items, cfg.half_life_days)
        places = reserved_slots(self.config, list(sources))
        retriever = Retriever(self.model, self.texts, sources, fusion or Fusion(), cfg.num_candidates, places)
        catalogue = Catalogue(data.items, analyser=data.analyser)
        return retriever, RankingFeatures(catalogue, activity, vectors, self.item_text, sources, data.judged_only)


def examples(
    asked: EvalRequests,
    retriever: Retriever,
    ranking_features: RankingFeatures,
    sequences: Sequences,
    num_candidates: int,
    progress: Progress = silent,
) -> Examples:
    """Retrieves candidates for logged requests and lays them out with their outcomes.

    Args:
        asked: the requests, of the validation part of `sequences`.
        retriever: fitted on what lies before them.
        ranking_features: fitted alike.
        sequences: the log that says what was shown.
        num_candidates: candidates a request.
        progress: told after every batch.
    """
    parts = []
    for rows in _chunks(len(asked)):
        found = _retrieve(retriever, asked, rows, num_candidates)
        inputs = candidate_batch(found, ranking_features, num_candidates).padded(num_candidates)
        outcomes = np.zeros((2, len(rows), num_candidates), dtype=np.bool_)  # right, offered
        for place, (row, one) in enumerate(zip(rows.tolist(), found, strict=True)):
            ids, shown = one.item_idx[:num_candidates], shown_items(asked, sequences, row)
            right = np.isin(ids, asked.truth.of(row))
            outcomes[:, place, : len(ids)] = right, right | np.isin(ids, shown) if len(shown) else np.ones_like(right)
        parts.append((inputs, torch.from_numpy(outcomes)))
        progress("retrieving examples", int(rows[-1]) + 1, len(asked))
    positive, offered = torch.cat([outcomes for _, outcomes in parts], dim=1)
    return Examples(
        CandidateBatch.joined([inputs for inputs, _ in parts]), positive, offered, torch.from_numpy(asked.truth.counts)
    )


def shown_items(asked: EvalRequests, sequences: Sequences, row: int) -> NDArray[np.int32]:
    """Items that the log says were shown in answer to a request: until another query is named, or for a while."""
    part = slice(int(asked.end[row]), int(sequences.offsets[asked.user[row] + 1]))
    query, own, now = sequences.query_idx[part], asked.query_idx[row], asked.now_us[row]
    answered = sequences.split[part] == Split.VALIDATION
    if own != PAD:
        other = (query != PAD) & (query != own)
        answered &= ~np.maximum.accumulate(other) & (sequences.ts[part] <= now + NEW_SEARCH_US)
    else:
        answered &= query == PAD
    shown: NDArray[np.int32] = sequences.item_idx[part][answered & (sequences.event[part] == EventKind.IMPRESSION)]
    return shown


def _fit_ranker(
    cfg: RankerConfig,
    seed: int,
    held_out: NDArray[np.bool_],
    attempts: Iterator[list["_Trial"]],
    progress: Progress,
) -> tuple[Ranker | None, RankerDecision]:
    """The ranker of the first attempt that is kept; attempts that are not needed are not made."""
    count = len(held_out)
    least = 1 if cfg.mode == "on" else MIN_EXAMPLES
    if cfg.mode == "off" or min(held_out.sum(), (~held_out).sum()) < least:
        why = "ranker.mode = off" if cfg.mode == "off" else f"{count} requests, {least} a part are needed"
        return None, RankerDecision(False, METRIC, math.nan, math.nan, count, f"leave out the ranker: {why}")
    decision = RankerDecision(False, METRIC, 0.0, 0.0, count, "leave out the ranker: nothing right was retrieved")
    for trials in attempts:
        if not trials[0].fitting.positive.any():
            continue
        made = [(trial, *trial.run(cfg, seed, progress)) for trial in trials]
        trial, ranker, epochs, decision = max(made, key=lambda one: one[-1].ranked)
        if decision.keep:
            calibrate(ranker, trial.deciding)
            final, _ = train(cfg, trial.everything, None, epochs, seed, progress, trial.dropped_columns)
            final.calibration.copy_(ranker.calibration)
            return final, decision
    return None, decision


def _attempts(
    parts: _Parts,
    cfg: RankerConfig,
    data: PreparedData,
    retriever: Retriever,
    ranking_features: RankingFeatures,
    asked: EvalRequests,
    held_out: NDArray[np.bool_],
    progress: Progress,
) -> Iterator[list["_Trial"]]:
    """What is tried, each only if the one before it was not kept."""
    seed, earlier = parts.config.seed, earlier_cases(parts.config, data, cfg.max_examples - len(asked))
    asked_for = [(data, asked), *earlier]
    hides = data.meta.num_queries > 0 and sum(searches_for_new(*part) for part in asked_for) < MIN_EXAMPLES

    def learnable(window: PreparedData, some: EvalRequests) -> Examples:
        hidden = simulated_cold_items(window, seed) if hides else None
        found = parts.before(window, Split.VALIDATION, retriever.fusion, hidden)
        return examples(some, *found, window.sequences, cfg.num_candidates, progress)

    latest = examples(asked, retriever, ranking_features, data.sequences, cfg.num_candidates, progress)
    fitting = learnable(data, asked) if hides else latest
    if len(earlier) > 1:
        made = [learnable(*part) for part in earlier]
        windows, both = Examples.joined(made), Examples.joined([fitting, *made])
        dropped_columns = ((), tuple(ranking_features.model_derived_columns))
        yield [_Trial(windows, latest, both, columns) for columns in dropped_columns]
    early, late = (torch.from_numpy(np.flatnonzero(part)) for part in (~held_out, held_out))
    yield [_Trial(fitting.select(early), latest.select(late), fitting)]


@dataclass(frozen=True, eq=False)
class _Trial:
    fitting: Examples
    deciding: Examples
    everything: Examples
    """What a kept ranker is trained on again."""
    dropped_columns: Sequence[int] = ()
    """Features that are left out."""

    def run(self, cfg: RankerConfig, seed: int, progress: Progress) -> tuple[Ranker, int, RankerDecision]:
        ranker, epochs = train(cfg, self.fitting, self.deciding, cfg.max_epochs, seed, progress, self.dropped_columns)
        orders = scores_of(ranker, self.deciding.batch), in_order(self.deciding.batch)
        ranked, retrieved = (ndcg_at_10(scores, self.deciding).numpy() for scores in orders)
        return ranker, epochs, decide(cfg.mode, ranked, retrieved)


def _fit_fusion(
    retriever: Retriever, asked: EvalRequests, use: NDArray[np.bool_], seed: int, progress: Progress
) -> Fusion:
    rows = np.flatnonzero(use)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:4_000])
    found: list[Candidates] = []
    for part in _chunks(len(rows)):
        found.extend(_retrieve(retriever, asked, rows[part], 1))
        progress("fitting fusion", len(found), len(rows))
    return fit_fusion(found, [asked.truth.of(int(row)) for row in rows], retriever.names, seed)


def _retrieve(retriever: Retriever, asked: EvalRequests, rows: NDArray[np.int64], top_k: int) -> list[Candidates]:
    names = retriever.query_encoder.names
    size = len(retriever.dense.vectors)
    retrieval_queries = []
    for row in rows.tolist():
        history = asked.history(row)
        mask = None
        if asked.filter_seen:
            mask = np.ones(size, dtype=np.bool_)
            mask[asked.items(row)] = False
        retrieval_queries.append(
            RetrievalQuery(history, names[asked.query_idx[row]], int(asked.now_us[row]), mask, Request(top_k=top_k))
        )
    return retriever.retrieve(retrieval_queries)


def _held_out(asked: EvalRequests, seed: int) -> NDArray[np.bool_]:
    """Marks the latest requests; of those made at the first instant or without a time, a random share of the users'."""
    users, place = np.unique(asked.user, return_inverse=True)
    drawn = (np.random.default_rng(seed).random(len(users)) < HELD_OUT_FRAC)[place]
    first = asked.now_us == asked.now_us.min(initial=np.iinfo(np.int64).max)
    cut = np.quantile(asked.now_us[~first], 1 - HELD_OUT_FRAC) if not first.all() else 0
    marked: NDArray[np.bool_] = np.where(first, drawn, asked.now_us > cut)
    return marked


def _chunks(count: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + RETRIEVE_BATCH, count)) for start in range(0, count, RETRIEVE_BATCH)]


def _texts(data: PreparedData, text_dir: Path | None) -> tuple[QueryEncoder, NDArray[np.float32] | None]:
    known: Sequence[str] = data.queries.column("query").to_pylist()
    if text_dir is None:
        return QueryEncoder(known, None, None), None
    items, queries = load_vectors(text_dir)
    return QueryEncoder(known, queries, open_text_encoder(text_dir)), items
