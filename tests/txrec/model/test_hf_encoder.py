"""A local Hugging Face checkpoint does what the encoder trained here does."""

from pathlib import Path

import numpy as np
import pytest

from txrec.config import PretrainConfig, TextConfig
from txrec.data.prepared import PreparedData
from txrec.errors import ConfigError
from txrec.model.hf_encoder import HuggingFaceEncoder
from txrec.model.text_encoders import open_text_encoder
from txrec.train.text import pretrain
from txrec.train.text.corpus import Corpus
from txrec.train.text.pretrain import Pretrainer

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "acme", "kettle", "lamp", "##s", "red"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights and ten words, as `save_pretrained` writes it."""
    import torch

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})
    tokenizer.save_pretrained(folder)
    return folder


def test_a_local_checkpoint_encodes_like_any_encoder(checkpoint: Path, tmp_path: Path) -> None:
    encoder = HuggingFaceEncoder.from_config(TextConfig(encoder=f"hf:{checkpoint}"))
    texts = ["acme kettle", "", "Red LAMPS", "kettle " * 100]
    vectors = encoder.encode(texts)
    assert vectors.shape == (4, 16)
    assert not vectors[1].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 2, 3]], axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(texts[2:3])[0], vectors[2], atol=1e-5)
    encoder.save(tmp_path / "text")
    np.testing.assert_allclose(open_text_encoder(tmp_path / "text").encode(texts), vectors, atol=1e-6)


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json is not there"):
        HuggingFaceEncoder.from_config(TextConfig(encoder=f"hf:{tmp_path}"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a usable checkpoint"):
        HuggingFaceEncoder.from_config(TextConfig(encoder=f"hf:{tmp_path}"))


def test_a_checkpoint_is_fine_tuned_on_clicks_and_spared_the_masked_tokens(
    checkpoint: Path, tiny: PreparedData
) -> None:
    cfg = PretrainConfig(batch_size=16, contrastive_epochs=2)
    texts = Corpus.of(tiny, cfg)
    encoder = pretrain.build(TextConfig(encoder=f"hf:{checkpoint}"), None, texts, seed=0)
    trainer = Pretrainer(encoder, texts, cfg, seed=0)
    before = encoder.encode(["acme kettle"])
    trainer.run()
    assert list(trainer.losses) == ["queries and clicks"]
    assert np.abs(encoder.encode(["acme kettle"]) - before).max() > 1e-3
