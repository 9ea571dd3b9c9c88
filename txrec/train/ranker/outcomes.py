"""Fit of a ranker's outcome heads: carts and purchases of clicked candidates, calibrated on held-out requests."""

import torch
from torch import Tensor

from txrec.model.outcome_heads import OUTCOMES, OutcomeHeads, platt
from txrec.model.ranker import Ranker
from txrec.train.ranker.listwise import Examples

MIN_EVENTS = 20
"""Events of a kind among the clicked training candidates, below which it is not estimated; half as many held out."""
CHUNK = 256
"""Candidate sets whose inputs are computed at once."""


def fit_heads(ranker: Ranker, training: Examples, held_out: Examples) -> OutcomeHeads | None:
    """Calibrated heads of the kinds that both sets of examples have enough of; None where there is none.

    Args:
        ranker: trained and calibrated.
        training: examples that the heads learn from.
        held_out: examples that calibrate them.
    """
    if training.outcomes is None or held_out.outcomes is None:
        return None
    enough = (training.outcomes.sum((0, 1)) >= MIN_EVENTS) & (held_out.outcomes.sum((0, 1)) >= MIN_EVENTS // 2)
    columns = torch.nonzero(enough).ravel().tolist()
    if not columns:
        return None
    heads = _fitted(ranker, training, training.outcomes, columns)
    counted = held_out.batch.mask & held_out.offered
    odds = torch.cat([_log_odds(ranker, heads, held_out.select(rows), counted[rows]) for rows in _chunks(held_out)])
    for place, column in enumerate(columns):
        happened = held_out.outcomes[..., column][counted].double()
        heads.calibration[place] = platt(odds[:, place].double(), happened)
    return heads


def refit_heads(ranker: Ranker, training: Examples, calibrated: OutcomeHeads) -> OutcomeHeads:
    """Heads of a ranker that was trained again, with the kinds and the calibration of the one before."""
    if training.outcomes is None:
        raise ValueError("examples without outcomes")
    heads = _fitted(ranker, training, training.outcomes, [OUTCOMES.index(kind) for kind in calibrated.kinds])
    heads.calibration.copy_(calibrated.calibration)
    return heads


def _fitted(ranker: Ranker, training: Examples, outcomes: Tensor, columns: list[int]) -> OutcomeHeads:
    heads = OutcomeHeads(tuple(OUTCOMES[column] for column in columns), ranker.outcome_width)
    inputs, outcome = [], []
    for rows in _chunks(training):
        part = training.select(rows)
        inputs.append(_inputs(ranker, part)[0][part.positive])
        outcome.append(outcomes[rows][part.positive][:, columns])
    heads.fit(torch.cat(inputs), torch.cat(outcome))
    return heads.eval()


@torch.no_grad()
def _inputs(ranker: Ranker, examples: Examples) -> tuple[Tensor, Tensor]:
    """(n, K, W) inputs of heads and (n, K) probabilities of a click."""
    scores, inputs = ranker.eval().scores_and_inputs(examples.batch)
    return inputs(), ranker.probabilities(scores)


@torch.no_grad()
def _log_odds(ranker: Ranker, heads: OutcomeHeads, examples: Examples, counted: Tensor) -> Tensor:
    """(counted candidates, kinds) uncalibrated log-odds."""
    inputs, click = _inputs(ranker, examples)
    return heads.log_odds(inputs[counted], click[counted])


def _chunks(examples: Examples) -> tuple[Tensor, ...]:
    return torch.split(torch.arange(len(examples)), CHUNK)
