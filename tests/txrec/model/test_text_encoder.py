"""What every user of a text encoder relies on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from txrec.config import TextConfig
from txrec.data.prepared import PreparedData
from txrec.errors import BundleError
from txrec.model.subword_encoder import SubwordEncoder
from txrec.model.text_encoder import load_vectors, save_vectors
from txrec.model.text_encoders import open_text_encoder

TEXTS = ["acme kettle model 3", "Zenit  LAMP", "a", "drill " * 100, "索尼 无线耳机", "!!!", "tent"]


@pytest.fixture(scope="module", params=[{}, {"pooling": "cls"}, {"ngram_buckets": 0}], ids=["mean", "cls", "no ngrams"])
def encoder(request: pytest.FixtureRequest, tiny: PreparedData) -> SubwordEncoder:
    cfg = TextConfig(dim=32, num_layers=2, num_heads=2, **request.param)
    return SubwordEncoder(cfg, Tokenizer.from_file(str(tiny.tokenizer_path)))


def test_vectors_have_length_one_and_keep_the_order_of_the_texts(encoder: SubwordEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(vectors[::-1], encoder.encode(TEXTS[::-1]), atol=1e-5)


def test_a_text_alone_gets_the_vector_that_it_gets_among_others(encoder: SubwordEncoder) -> None:
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, encoder.encode(TEXTS), atol=1e-5)


def test_texts_of_nothing_become_zeros(encoder: SubwordEncoder) -> None:
    vectors = encoder.encode(["", " \t\n", "kettle", "\x00"])
    assert not vectors[[0, 1, 3]].any()
    assert vectors[2].any()
    assert encoder.encode([]).shape == (0, 32)


def test_case_width_and_white_space_do_not_matter(encoder: SubwordEncoder) -> None:
    plain, odd = encoder.encode(["zenit lamp 3", "  ZENIT\tLamp ３"])
    np.testing.assert_allclose(plain, odd, atol=1e-6)


def test_a_text_of_ten_thousand_characters_is_cut(encoder: SubwordEncoder) -> None:
    assert np.isfinite(encoder.encode(["kettle " * 2_000, "x" * 10_000])).all()


def test_a_mistyped_query_is_nearest_to_its_product_before_any_training(tiny: PreparedData) -> None:
    torch.manual_seed(0)
    encoder = SubwordEncoder(TextConfig(), Tokenizer.from_file(str(tiny.tokenizer_path)))
    titles = ["halo reach", "gears of war 3", "forza motorsport 4", "索尼无线耳机", "苹果手机壳"]
    encoder.weigh_ngrams(titles)
    queries = ["haloo reech", "gers of warr", "motorsprt forza", "无线耳机", "手机"]
    scores = encoder.encode(queries) @ encoder.encode(titles).T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]


def test_rare_trigrams_weigh_more_than_those_of_every_title(tiny: PreparedData) -> None:
    encoder = SubwordEncoder(TextConfig(), Tokenizer.from_file(str(tiny.tokenizer_path)))
    encoder.weigh_ngrams(["xbox halo", "xbox forza", "xbox fable"])
    norms = encoder.ngram.weight.detach().norm(dim=1)
    xbox, fable = (float(norms[encoder._ngrams(word)].mean()) for word in ("xbox", "fable"))
    assert fable > 1.5 * xbox


def test_what_was_saved_encodes_as_before(encoder: SubwordEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "text")
    opened = open_text_encoder(tmp_path / "text")
    np.testing.assert_array_equal(opened.encode(TEXTS), encoder.encode(TEXTS))
    assert sorted(file.name for file in (tmp_path / "text").iterdir()) == [
        "model.safetensors",
        "text_encoder.json",
        "tokenizer.json",
    ]


def test_opening_nothing_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="txrec pretrain"):
        open_text_encoder(tmp_path)
    with pytest.raises(BundleError, match="txrec pretrain"):
        load_vectors(tmp_path)


def test_opening_another_format_names_it(encoder: SubwordEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    (tmp_path / "text_encoder.json").write_text('{"format": 99, "kind": "subword"}')
    with pytest.raises(BundleError, match="format 99"):
        open_text_encoder(tmp_path)


def test_saved_vectors_are_addressed_by_dense_id(tmp_path: Path) -> None:
    save_vectors(tmp_path, np.ones((3, 4), np.float32), np.full((2, 4), 2.0, np.float32))
    items, queries = load_vectors(tmp_path)
    assert items.shape == (4, 4)
    assert queries.shape == (3, 4)
    assert not items[0].any()
    assert (queries[1:] == 2.0).all()
