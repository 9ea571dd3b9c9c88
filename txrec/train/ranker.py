"""Fits what stands behind a trained history model: sources, fusion weights, and the ranker if it earns its place.

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
learns from do not know the events of some products (`HIDDEN_FRAC`; DropoutNet, Volkovs et al., NIPS 2017): new ones
are then wanted as often as others. The examples that decide and calibrate are as they were.

Where there are only judged pairs, `txrec.train.judged` trains and decides.

The loss is listwise over the retrieved candidates, hard negatives all. Where the log has impressions, what was shown
and passed over counts twice: half of the loss is then over the shown candidates alone.

A kept ranker is trained again on all the examples of its trial for the epochs found, and the sources are fitted again
on everything before the test part, for the bundle.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from txrec.bundle import RankerDecision, Ranking
from txrec.catalogue import Catalogue
from txrec.config import Config, OptimizerConfig, RankerConfig
from txrec.data.prepared import PreparedData, Sequences
from txrec.evals.protocol import Cases, cases
from txrec.evidence import NUM_REQUEST_FEATURES, Activity, Evidence
from txrec.features import NEW_SEARCH_US
from txrec.index.arrivals import NAME as ARRIVALS
from txrec.index.arrivals import Arrivals, reserved
from txrec.index.fit import fit_sources
from txrec.index.fuse import Fusion
from txrec.index.log import EventLog
from txrec.model.ranker import CandidateBatch, Ranker, RankerSizes, log_odds
from txrec.model.retrieval import RetrievalModel
from txrec.model.text_encoder import TextEncoder, load_vectors
from txrec.progress import Progress, silent
from txrec.rank import batch as candidate_batch
from txrec.retrieve import QueryTexts, Question, Retriever
from txrec.schema import PAD, EventKind, Split
from txrec.slate import Candidates, Request
from txrec.train import judged
from txrec.train.fusion import fit_fusion
from txrec.train.optimizer import adamw, lr_at, set_lr

HELD_OUT_FRAC = 0.4
"""Share of the validation requests, the latest ones, that choose the epoch, calibrate and decide."""
HIDDEN_FRAC = 0.1
"""Share of the products that are made new to a ranker's examples, drawn anew for every window."""
NUM_WINDOWS = 4
"""Windows before the validation part that give examples, each as long as the validation part."""
MIN_EXAMPLES = 50
"""With fewer requests than this no ranker is trained."""
PRIOR = 20.0
"""Inverse variance of the prior that holds the linear reading to retrieval order, in examples."""
LINEAR_ITERATIONS = 100
"""Of L-BFGS at most."""
PATIENCE = 3
"""Passes of the whole ranker without improvement before training stops."""
RETRIEVE_BATCH = 64
METRIC = "ndcg@10"


@dataclass(frozen=True, eq=False)
class Examples:
    """n candidate sets with their outcomes."""

    batch: CandidateBatch
    positive: Tensor  # (n, K) bool
    offered: Tensor  # (n, K) bool: right or shown; every candidate where the log does not tell what was shown
    num_right: Tensor  # (n,) right items of each request, retrieved or not

    def __len__(self) -> int:
        return len(self.positive)

    def select(self, rows: Tensor) -> "Examples":
        """Some of the examples."""
        parts = {name: getattr(self.batch, name)[rows] for name in CandidateBatch.__dataclass_fields__}
        return Examples(CandidateBatch(**parts), self.positive[rows], self.offered[rows], self.num_right[rows])


def fit(
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
    parts = _Parts(config, model, vectors, texts, item_text, first_ts)
    progress("fitting sources", 0, 2)
    retriever, evidence = parts.before(data, Split.VALIDATION)
    asked = cases(data, Split.VALIDATION, config.evaluate).sample(config.ranker.max_examples, config.seed)
    held_out = _held_out(asked, config.seed)
    retriever.fusion = fusion = _fit_fusion(retriever, asked, ~held_out, config.seed, progress)
    if data.judged_only:
        ranker, decision = judged.fit_ranker(config.ranker, data, retriever, evidence, config.seed, progress)
    else:
        cfg = parts.ranked(retriever)
        attempts = _attempts(parts, cfg, data, retriever, evidence, asked, held_out, progress)
        ranker, decision = _fit_ranker(cfg, config.seed, held_out, attempts, progress)
    progress("fitting sources", 1, 2)
    retriever, evidence = parts.before(data, Split.TEST)
    progress("fitting sources", 2, 2)
    return Ranking(retriever.sources, evidence.activity, fusion, ranker, decision)


@dataclass(frozen=True, eq=False)
class _Parts:
    """What stays the same while the log is cut at different times."""

    config: Config
    model: RetrievalModel
    vectors: NDArray[np.float32]
    texts: QueryTexts
    item_text: NDArray[np.float32] | None
    first_ts: NDArray[np.int64]
    """(N + 1,) each product's first event before the test part, microseconds, 0 = none: it was not on sale earlier."""

    def ranked(self, retriever: Retriever) -> RankerConfig:
        """The ranker's section; arrivals that have places are seen on top of its candidates, at nobody's cost."""
        cfg, arrivals, places = self.config.ranker, retriever.sources.get(ARRIVALS), retriever.reserved
        if places is None or not isinstance(arrivals, Arrivals) or not len(arrivals.ids):
            return cfg
        more = min(places.count, len(arrivals.ids))
        return cfg.model_copy(update={"num_candidates": cfg.num_candidates + more})

    def before(
        self, data: PreparedData, split: Split, fusion: Fusion | None = None, hidden: NDArray[np.bool_] | None = None
    ) -> tuple[Retriever, Evidence]:
        """Retrieval and features that have seen nothing of a split or of what comes after it.

        Args:
            data: the log and the catalogue.
            split: where the log is cut.
            fusion: weights of the sources; None = all alike.
            hidden: (N + 1,) products of which they have seen no event at all; None = none.
        """
        cfg = self.config.retrieval
        seen = data.sequences.split < split
        log = EventLog.select(data, seen if hidden is None else seen & ~hidden[data.sequences.item])
        vectors = known_vectors(self.model, data, log, self.vectors, self.item_text)
        later = self.first_ts > data.meta.test_start_ts if data.meta.split_kind == "global_time" else None
        sources = fit_sources(cfg, data, log, vectors, later)
        activity = Activity.fit(log, data.meta.num_items, cfg.half_life_days)
        places = reserved(self.config, list(sources))
        retriever = Retriever(self.model, self.texts, sources, fusion or Fusion(), cfg.num_candidates, places)
        return retriever, Evidence(Catalogue(data.items), activity, vectors, self.item_text, sources, data.judged_only)


def known_vectors(
    model: RetrievalModel,
    data: PreparedData,
    log: EventLog,
    vectors: NDArray[np.float32],
    item_text: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Item vectors as they would have been when a log ended: products new to it have no id, only what they are.

    Args:
        model: its training saw more than the log.
        data: the catalogue.
        log: what may be known.
        vectors: (N + 1, D) of the model.
        item_text: (N + 1, Dt) text vectors; None without text.
    """
    count = np.bincount(log.item, minlength=data.meta.num_items + 1)
    later = np.flatnonzero(count[1 : data.meta.num_trained_items + 1] == 0) + 1
    if not len(log) or not len(later):
        return vectors
    known = vectors.copy()
    text = None if item_text is None else item_text[later]
    known[later] = model.encode_items(data.items.take(pa.array(later - 1)), text).numpy()
    return known


def searches_for_new(data: PreparedData, asked: Cases) -> int:
    """Right answers of searches that had no event before the validation part."""
    new = np.bincount(EventLog.before(data, Split.VALIDATION).item, minlength=data.meta.num_items + 1) == 0
    return int((new[asked.truth.items] & (asked.query != PAD)[asked.truth.case]).sum())


def hidden_products(data: PreparedData, seed: int) -> NDArray[np.bool_]:
    """(N + 1,) the products made new to the examples of a window, `HIDDEN_FRAC` of all."""
    rng = np.random.default_rng([seed, data.meta.validation_start_ts])
    hidden: NDArray[np.bool_] = rng.random(data.meta.num_items + 1) < HIDDEN_FRAC
    hidden[PAD] = False
    return hidden


def earlier_windows(data: PreparedData, count: int) -> list[PreparedData]:
    """The data set as it stood before each of the windows that precede the validation part, latest first.

    In each of them the split says validation for the window, training before it and test after it. Windows that would
    leave less than two window lengths of log before them are not made.
    """
    start, end = data.meta.validation_start_ts, data.meta.test_start_ts
    if data.meta.split_kind != "global_time" or not data.meta.has_time or end <= start:
        return []
    times = data.sequences.ts
    first, length = int(times[times > 0].min(initial=end)), end - start
    starts = [start - (number + 1) * length for number in range(count)]
    return [_recut(data, at, at + length) for at in starts if at - 2 * length >= first]


def _recut(data: PreparedData, start_us: int, end_us: int) -> PreparedData:
    sequences = data.sequences
    split = np.where(
        sequences.ts < start_us, Split.TRAIN, np.where(sequences.ts < end_us, Split.VALIDATION, Split.TEST)
    )
    meta = data.meta.model_copy(update={"validation_start_ts": start_us, "test_start_ts": end_us})
    cut = PreparedData(data.path, meta)
    tables = {
        "items": data.items,
        "queries": data.queries,
        "sequences": replace(sequences, split=split.astype(np.int8)),
    }
    cut.__dict__.update(tables)  # what its cached properties would read from disk
    return cut


def examples(
    asked: Cases,
    retriever: Retriever,
    evidence: Evidence,
    sequences: Sequences,
    num_candidates: int,
    progress: Progress = silent,
) -> Examples:
    """Retrieves candidates for logged requests and lays them out with their outcomes.

    Args:
        asked: the requests, of the validation part of `sequences`.
        retriever: fitted on what lies before them.
        evidence: fitted alike.
        sequences: the log that says what was shown.
        num_candidates: candidates a request.
        progress: told after every batch.
    """
    parts = []
    for rows in _chunks(len(asked)):
        found = _retrieve(retriever, asked, rows, num_candidates)
        inputs = candidate_batch(found, evidence, num_candidates).padded(num_candidates)
        outcomes = np.zeros((2, len(rows), num_candidates), dtype=np.bool_)  # right, offered
        for place, (row, one) in enumerate(zip(rows.tolist(), found, strict=True)):
            ids, shown = one.ids[:num_candidates], shown_items(asked, sequences, row)
            right = np.isin(ids, asked.truth.of(row))
            outcomes[:, place, : len(ids)] = right, right | np.isin(ids, shown) if len(shown) else np.ones_like(right)
        parts.append((inputs, torch.from_numpy(outcomes)))
        progress("retrieving examples", int(rows[-1]) + 1, len(asked))
    joined = {name: torch.cat([getattr(p[0], name) for p in parts]) for name in CandidateBatch.__dataclass_fields__}
    positive, offered = torch.cat([outcomes for _, outcomes in parts], dim=1)
    return Examples(CandidateBatch(**joined), positive, offered, torch.from_numpy(asked.truth.counts))


def shown_items(asked: Cases, sequences: Sequences, row: int) -> NDArray[np.int32]:
    """Items that the log says were shown in answer to a request: until another query is named, or for a while."""
    part = slice(int(asked.end[row]), int(sequences.offsets[asked.user[row] + 1]))
    query, own, now = sequences.query[part], asked.query[row], asked.now_us[row]
    answered = sequences.split[part] == Split.VALIDATION
    if own != PAD:
        other = (query != PAD) & (query != own)
        answered &= ~np.maximum.accumulate(other) & (sequences.ts[part] <= now + NEW_SEARCH_US)
    else:
        answered &= query == PAD
    shown: NDArray[np.int32] = sequences.item[part][answered & (sequences.event[part] == EventKind.IMPRESSION)]
    return shown


def train(
    cfg: RankerConfig,
    training: Examples,
    held_out: Examples | None,
    num_epochs: int,
    seed: int,
    progress: Progress = silent,
    unread: Sequence[int] = (),
) -> tuple[Ranker, int]:
    """Trains a ranker on listwise softmax cross-entropy.

    Args:
        cfg: its section.
        training: examples; those without a retrieved right item teach nothing and are left out.
        held_out: picks the epoch, early stopping after three without improvement; None = the last epoch is taken.
        num_epochs: passes of the whole ranker over the examples; before them the linear reading is fitted alone.
        seed: of weights, order and dropout.
        progress: told after every epoch.
        unread: features, decided by trained vectors, that it shall not read; then it does not read vectors either.

    Returns:
        The ranker in inference mode, and the epochs that it was trained for.
    """
    torch.manual_seed(seed)
    useful = training.select(torch.nonzero(training.positive.any(1)).ravel())
    ranker = Ranker(cfg, _sizes(training.batch), by_vectors=not unread)
    ranker.fit_scaling(useful.batch, unread)
    fit_linear(ranker, useful)
    steps = math.ceil(len(useful) / cfg.batch_size)
    optimizer = adamw(ranker.modules(), cfg)
    best, best_epoch, kept = -1.0, num_epochs, copy.deepcopy(ranker.state_dict())
    for epoch in range(num_epochs + 1):
        if epoch:
            rates = _rates(cfg, epoch - 1, cfg.max_epochs, steps)
            progress("training ranker", epoch, num_epochs, loss=_epoch(ranker, useful, optimizer, rates))
        if held_out is None:
            continue
        ndcg = float(ndcg_at_10(_scores(ranker, held_out), held_out).mean())
        progress("training ranker", epoch, num_epochs, ndcg=ndcg)
        if ndcg > best:
            best, best_epoch, kept = ndcg, epoch, copy.deepcopy(ranker.state_dict())
        elif epoch - best_epoch >= PATIENCE:
            break
    if held_out is not None:
        ranker.load_state_dict(kept)
    return ranker.eval(), best_epoch


def fit_linear(ranker: Ranker, given: Examples) -> None:
    """Fits the linear reading alone, to the optimum: a convex problem, so no seed and no learning rate decide.

    Args:
        ranker: its scaling is fitted, its linear reading still retrieval order.
        given: examples, each with a right item among the candidates.
    """
    scaled, mask = ranker.scaled(given.batch), given.batch.mask
    weights = list(ranker.weights.parameters())
    start = [weight.detach().clone() for weight in weights]
    solver = torch.optim.LBFGS(weights, max_iter=LINEAR_ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        scores = ranker.reading(*scaled).masked_fill(~mask, -torch.inf)
        distance = sum(((now - before) ** 2).sum() for now, before in zip(weights, start, strict=True))
        loss = listwise_loss(scores, given.positive, given.offered) + PRIOR / len(given) * distance
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]


def ndcg_at_10(scores: Tensor, given: Examples) -> Tensor:
    """(n,) NDCG@10 of the orders by (n, K) scores; right items that were not retrieved count as missed."""
    k = min(10, scores.shape[1])
    discounts = 1 / torch.log2(torch.arange(2, 12, dtype=torch.float64))
    top = scores.topk(k, dim=1).indices
    gains = given.positive.gather(1, top) * discounts[:k]
    ideal = torch.cumsum(discounts, 0)[given.num_right.clamp(1, 10) - 1]
    return gains.sum(1) / ideal


def decide(mode: str, ranked: Tensor, retrieved: Tensor) -> RankerDecision:
    """Keeps the ranker if its mean (n,) metric beats retrieval order's by over one standard error of the gain."""
    count, gain = len(ranked), ranked - retrieved
    error = float(gain.std() / math.sqrt(count)) if count > 1 else math.inf
    mean_ranked, mean_retrieved = float(ranked.mean()), float(retrieved.mean())
    keep = mode == "on" or mean_ranked > mean_retrieved + error
    reason = (
        f"{'keep' if keep else 'leave out'} the ranker: {METRIC} {mean_ranked:.4f}"
        f" {'>' if mean_ranked > mean_retrieved + error else '<='} {mean_retrieved:.4f} + {error:.4f}"
        f" (retrieval order + one standard error, {count} held-out requests{', ranker.mode = on' * (mode == 'on')})"
    )
    return RankerDecision(keep, METRIC, mean_ranked, mean_retrieved, count, reason)


def calibrate(ranker: Ranker, held_out: Examples) -> None:
    """Platt scaling of the candidates' log-odds within their set, on held-out requests (Platt, 1999)."""
    counted = held_out.batch.mask & held_out.offered
    odds = log_odds(_scores(ranker, held_out))[counted].double()
    outcome = held_out.positive[counted].double()
    ranker.calibrate(odds, outcome)


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
            final, _ = train(cfg, trial.everything, None, epochs, seed, progress, trial.unread)
            final.calibration.copy_(ranker.calibration)
            return final, decision
    return None, decision


def _attempts(
    parts: _Parts,
    cfg: RankerConfig,
    data: PreparedData,
    retriever: Retriever,
    evidence: Evidence,
    asked: Cases,
    held_out: NDArray[np.bool_],
    progress: Progress,
) -> Iterator[list["_Trial"]]:
    """What is tried, each only if the one before it was not kept."""
    seed, earlier = parts.config.seed, _earlier_cases(parts.config, data, cfg.max_examples - len(asked))
    asked_for = [(data, asked), *earlier]
    hides = data.meta.num_queries > 0 and sum(searches_for_new(*part) for part in asked_for) < MIN_EXAMPLES

    def learnable(window: PreparedData, some: Cases) -> Examples:
        hidden = hidden_products(window, seed) if hides else None
        found = parts.before(window, Split.VALIDATION, retriever.fusion, hidden)
        return examples(some, *found, window.sequences, cfg.num_candidates, progress)

    latest = examples(asked, retriever, evidence, data.sequences, cfg.num_candidates, progress)
    fitting = learnable(data, asked) if hides else latest
    if len(earlier) > 1:
        made = [learnable(*part) for part in earlier]
        windows, both = joined(made), joined([fitting, *made])
        unread = ((), tuple(evidence.learnt_columns))
        yield [_Trial(windows, latest, both, columns) for columns in unread]
    early, late = (torch.from_numpy(np.flatnonzero(part)) for part in (~held_out, held_out))
    yield [_Trial(fitting.select(early), latest.select(late), fitting)]


@dataclass(frozen=True, eq=False)
class _Trial:
    fitting: Examples
    deciding: Examples
    everything: Examples
    """What a kept ranker is trained on again."""
    unread: Sequence[int] = ()
    """Features that are left out."""

    def run(self, cfg: RankerConfig, seed: int, progress: Progress) -> tuple[Ranker, int, RankerDecision]:
        ranker, epochs = train(cfg, self.fitting, self.deciding, cfg.max_epochs, seed, progress, self.unread)
        ranked, retrieved = (
            ndcg_at_10(scores, self.deciding) for scores in (_scores(ranker, self.deciding), _in_order(self.deciding))
        )
        return ranker, epochs, decide(cfg.mode, ranked, retrieved)


def _earlier_cases(config: Config, data: PreparedData, limit: int) -> list[tuple[PreparedData, Cases]]:
    """The windows before the validation part with what was asked in them, latest first, at most `limit` in all."""
    found: list[tuple[PreparedData, Cases]] = []
    for window in earlier_windows(data, NUM_WINDOWS):
        left = limit - sum(len(asked) for _, asked in found)
        asked = cases(window, Split.VALIDATION, config.evaluate)
        if left <= 0 or not len(asked):
            break
        found.append((window, asked.sample(left, config.seed)))
    return found


def joined(given: Sequence[Examples]) -> Examples:
    """One set of examples from several."""
    batch = {name: torch.cat([getattr(e.batch, name) for e in given]) for name in CandidateBatch.__dataclass_fields__}
    positive, offered = torch.cat([e.positive for e in given]), torch.cat([e.offered for e in given])
    return Examples(CandidateBatch(**batch), positive, offered, torch.cat([e.num_right for e in given]))


def _in_order(given: Examples) -> Tensor:
    """Scores that keep retrieval order."""
    count = given.positive.shape[1]
    return (-torch.arange(count).float()).expand(len(given), -1).masked_fill(~given.batch.mask, -torch.inf)


def _fit_fusion(retriever: Retriever, asked: Cases, use: NDArray[np.bool_], seed: int, progress: Progress) -> Fusion:
    rows = np.flatnonzero(use)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:4_000])
    found: list[Candidates] = []
    for part in _chunks(len(rows)):
        found.extend(_retrieve(retriever, asked, rows[part], 1))
        progress("fitting fusion", len(found), len(rows))
    return fit_fusion(found, [asked.truth.of(int(row)) for row in rows], retriever.names, seed)


def _retrieve(retriever: Retriever, asked: Cases, rows: NDArray[np.int64], top_k: int) -> list[Candidates]:
    names = retriever.texts.names
    size = len(retriever.dense.vectors)
    questions = []
    for row in rows.tolist():
        history = asked.history(row)
        mask = None
        if asked.filter_seen:
            mask = np.ones(size, dtype=np.bool_)
            mask[asked.items(row)] = False
        questions.append(Question(history, names[asked.query[row]], int(asked.now_us[row]), mask, Request(top_k=top_k)))
    return retriever.retrieve(questions)


def _held_out(asked: Cases, seed: int) -> NDArray[np.bool_]:
    """Marks the latest requests; of those made at the first instant or without a time, a random share of the users'."""
    users, place = np.unique(asked.user, return_inverse=True)
    drawn = (np.random.default_rng(seed).random(len(users)) < HELD_OUT_FRAC)[place]
    first = asked.now_us == asked.now_us.min(initial=np.iinfo(np.int64).max)
    cut = np.quantile(asked.now_us[~first], 1 - HELD_OUT_FRAC) if not first.all() else 0
    marked: NDArray[np.bool_] = np.where(first, drawn, asked.now_us > cut)
    return marked


def _chunks(count: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + RETRIEVE_BATCH, count)) for start in range(0, count, RETRIEVE_BATCH)]


def _sizes(batch: CandidateBatch) -> RankerSizes:
    return RankerSizes(batch.features.shape[2], NUM_REQUEST_FEATURES, batch.items.shape[2], batch.query.shape[1])


def _epoch(ranker: Ranker, given: Examples, optimizer: torch.optim.Optimizer, rates: Sequence[float]) -> float:
    ranker.train()
    total = 0.0
    for rows, rate in zip(torch.split(torch.randperm(len(given)), ranker.cfg.batch_size), rates, strict=True):
        set_lr(optimizer, rate)
        part = given.select(rows)
        loss = listwise_loss(ranker(part.batch), part.positive, part.offered)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(ranker.parameters(), ranker.cfg.clip_norm)
        optimizer.step()
        total += float(loss.detach()) * len(rows)
    ranker.eval()
    return total / len(given)


def _rates(cfg: OptimizerConfig, epoch: int, num_epochs: int, steps: int) -> list[float]:
    """Learning rate of each step of pass number `epoch`, from 0, where `num_epochs` are planned."""
    return [lr_at(cfg, (epoch + step / steps) / num_epochs) for step in range(steps)]


def listwise_loss(scores: Tensor, positive: Tensor, offered: Tensor) -> Tensor:
    """Softmax cross-entropy over each set, all of its right items weighing the same.

    Half of it is over all candidates, half over those that the user could choose from.
    """
    among_all = torch.log_softmax(scores, dim=-1).masked_fill(~positive, 0.0)
    among_offered = torch.log_softmax(scores.masked_fill(~offered, -torch.inf), dim=-1).masked_fill(~positive, 0.0)
    loss: Tensor = -((among_all + among_offered).sum(1) / (2 * positive.sum(1))).mean()
    return loss


@torch.no_grad()
def _scores(ranker: Ranker, given: Examples) -> Tensor:
    ranker.eval()
    parts = [ranker(given.select(rows).batch) for rows in torch.split(torch.arange(len(given)), 256)]
    return torch.cat(parts)


def _texts(data: PreparedData, text_dir: Path | None) -> tuple[QueryTexts, NDArray[np.float32] | None]:
    known: Sequence[str] = data.queries.column("query").to_pylist()
    if text_dir is None:
        return QueryTexts(known, None, None), None
    items, queries = load_vectors(text_dir)
    return QueryTexts(known, queries, TextEncoder.open(text_dir)), items
