"""A complete bundle over the tiny data set, trained in this process for a few seconds."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from txrec.config import Config, ModelConfig, PretrainConfig, RankerConfig, TextConfig, TrainConfig
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import eval_requests
from txrec.model.retrieval import RetrievalModel
from txrec.model.text_encoder import load_vectors, save_vectors
from txrec.recommender import bundle
from txrec.schema import Split
from txrec.train.ranker.fit import fit_ranker
from txrec.train.retrieval.examples import Examples
from txrec.train.retrieval.loop import Trainer
from txrec.train.retrieval.next_item_objective import NextItem
from txrec.train.text import pretrain
from txrec.train.text.corpus import Corpus

CONFIG = Config(
    name="tiny",
    text=TextConfig(dim=16, num_layers=1, num_heads=2, vocab_size=400, ngram_buckets=512),
    pretrain=PretrainConfig(masked_epochs=0, contrastive_epochs=2, batch_size=32),
    model=ModelConfig(dim=16, num_layers=1, num_heads=2, max_length=32),
    train=TrainConfig(max_epochs=8, batch_size=16, lr=1e-2),
    ranker=RankerConfig(mode="on", dim=16, num_candidates=30, max_epochs=2),
)


def write(folder: Path, data: PreparedData, config: Config = CONFIG) -> Path:
    """Trains text encoder, history model and ranker on the tiny data and writes `folder`/candidate."""
    torch.manual_seed(config.seed)
    text_dir = folder / "text"
    _train_text(text_dir, data, config)
    model = _train_model(text_dir, data, config)
    ranking = fit_ranker(config, data, model, text_dir)
    return bundle.write(folder / "candidate", config, data, model, text_dir, ranking).path


def _train_text(text_dir: Path, data: PreparedData, config: Config) -> None:
    texts = Corpus.of(data, config.pretrain)
    encoder = pretrain.build(config.text, Tokenizer.from_file(str(data.tokenizer_path)), texts, config.seed)
    pretrain.Pretrainer(encoder, texts, config.pretrain, config.seed).run()
    encoder.save(text_dir)
    items, queries = pretrain.encode_prepared(encoder, data)
    save_vectors(text_dir, items, queries)


def _train_model(text_dir: Path, data: PreparedData, config: Config) -> RetrievalModel:
    item_text, query_vectors = load_vectors(text_dir)
    model = RetrievalModel.for_data(config.model, data, item_text)
    counts = torch.from_numpy(np.array(data.items["train_count"].to_numpy()[: data.meta.num_trained_items]))
    examples = Examples.of(data.sequences, torch.from_numpy(query_vectors), config.model, config.train)
    shown = eval_requests(data, Split.VALIDATION, config.evaluate)
    Trainer(NextItem(model, config.train, counts), examples, shown, config.train, config.seed).run(lambda *_: None)
    return model.eval()
