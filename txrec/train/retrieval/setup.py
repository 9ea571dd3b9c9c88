"""Retrieval training set-up from a configuration: model, examples, validation requests."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from txrec.config import Config
from txrec.data.judgments import judged_sequences
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.model.retrieval import RetrievalModel
from txrec.model.text_encoder import load_vectors
from txrec.recommender.bundle import Bundle
from txrec.schema import Split
from txrec.train.retrieval.examples import Examples
from txrec.train.retrieval.loop import Source, Trainer
from txrec.train.retrieval.next_item_objective import NextItem, product_dtype
from txrec.train.retrieval.stream import StreamedExamples, sampled_cases, shards_of, streams
from txrec.train.warm_start import take_weights

MAX_VALIDATION_CASES = 6_500
"""Validation during training looks at a seeded sample of this many cases at most."""


def trainer_for(
    config: Config, data: PreparedData, text_dir: Path | None, device: str = "cpu", earlier: Bundle | None = None
) -> Trainer:
    """A trainer that has not started.

    Args:
        config: sections `model`, `train`, `evaluate` (what counts as right) and `seed`.
        data: the prepared data set.
        text_dir: checkpoint of the text encoder with its vectors; None where it is off.
        device: torch device to train on.
        earlier: bundle whose weights are the start, with a text encoder that `text_dir` continues; None = random ones.
    """
    item_text, query_vectors = text_vectors(text_dir)
    torch.manual_seed(config.seed)
    model = RetrievalModel.for_data(config.model, data, item_text)
    if earlier is not None:
        take_weights(model, data, earlier)
    counts = torch.from_numpy(data.items["train_count"].to_numpy()[: model.sizes.num_competing].copy())
    objective = NextItem(model, config.train, counts, product_dtype(config.train.precision, device))
    ingest = _streamed if streams(config.train, data) else _in_memory
    examples, cases = ingest(config, data, query_vectors, device)
    return Trainer(objective, examples, cases, config.train, config.seed, device)


def _in_memory(
    config: Config, data: PreparedData, query_vectors: Tensor | None, device: str
) -> tuple[Source, EvalRequests]:
    sequences = judged_sequences(data) if data.judged_only else data.sequences
    examples = Examples.of(sequences, query_vectors, config.model, config.train, device)
    return examples, eval_requests(data, Split.VALIDATION, config.evaluate).sample(MAX_VALIDATION_CASES, config.seed)


def _streamed(
    config: Config, data: PreparedData, query_vectors: Tensor | None, device: str
) -> tuple[Source, EvalRequests]:
    vectors = None if query_vectors is None else query_vectors.to(device)
    examples = StreamedExamples(shards_of(data), vectors, config.model, config.train, device)
    cases = sampled_cases(data, Split.VALIDATION, config.evaluate, config.train, MAX_VALIDATION_CASES, config.seed)
    return examples, cases


def text_vectors(text_dir: Path | None) -> tuple[NDArray[np.float32] | None, Tensor | None]:
    """(N + 1, Dt) text vectors of items and (Q + 1, Dt) of queries; None without a text encoder."""
    if text_dir is None:
        return None, None
    items, queries = load_vectors(text_dir)
    return items, torch.from_numpy(queries)
