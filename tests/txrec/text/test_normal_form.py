"""The normal form and the tokenizer."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from txrec.config import TextConfig
from txrec.text import MASK_TOKEN, SPECIAL_TOKENS, fit_tokenizer, normalise, normalise_column, tokenize

ENGLISH = ["gears of war 3", "halo reach", "xbox 360 controller", "xbox live gold card"] * 5
CHINESE = ["无线蓝牙耳机", "蓝牙音箱", "无线鼠标", "无线键盘鼠标套装"] * 5
JAPANESE = ["ゲーム機 本体", "ワイヤレス イヤホン", "ワイヤレス マウス"] * 5


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("Gears  of\tWar ", "gears of war"),
        ("Ben &amp; Jerry&#39;s", "ben & jerry's"),
        ("&amp;amp;quot;", '"'),
        ("ＸＢＯＸ　３６０", "xbox 360"),
        ("a\x00b\x1fc\u200bd", "ab cd"),
        ("ﾜｲﾔﾚｽ", "ワイヤレス"),
        ("无线 耳机", "无线 耳机"),
        ("\ufeffid", "id"),
        ("broken \ud800 surrogate", "broken surrogate"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_a_text_gets_its_normal_form(raw: str, normal: str) -> None:
    assert normalise(raw) == normal


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_column_is_normalised_exactly_like_single_texts(texts: list[str | None]) -> None:
    column = normalise_column(pa.array(texts, pa.string()))
    assert column.to_pylist() == [None if text is None else normalise(text) for text in texts]


@given(st.lists(st.text(st.characters(max_codepoint=127)), min_size=1))
def test_the_fast_path_for_ascii_agrees_too(texts: list[str]) -> None:
    chunked = pa.chunked_array([pa.array(texts), pa.array(texts)])
    assert normalise_column(chunked).to_pylist() == [normalise(text) for text in texts] * 2


def test_special_tokens_have_fixed_ids() -> None:
    tokenizer = fit_tokenizer(ENGLISH, TextConfig())
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert MASK_TOKEN == 2


@pytest.mark.parametrize("texts", [ENGLISH, CHINESE, JAPANESE], ids=["english", "chinese", "japanese"])
def test_any_script_tokenises_without_unknown_tokens_and_learns_its_words(texts: list[str]) -> None:
    tokenizer = fit_tokenizer(texts, TextConfig())
    tokens = tokenize(tokenizer, texts, 32)
    assert not (tokens == 1).any()
    num_bytes = max(len(text.encode()) for text in texts)
    assert tokens.shape[1] < num_bytes / 2


def test_a_script_never_seen_in_training_still_tokenises() -> None:
    tokenizer = fit_tokenizer(ENGLISH, TextConfig())
    tokens = tokenize(tokenizer, ["сапоги"], 64)
    assert tokens.all()
    assert tokenizer.decode(tokens[0].tolist()) is not None


def test_tokens_are_cut_at_the_limit_and_padded_with_zero() -> None:
    tokenizer = fit_tokenizer(ENGLISH, TextConfig())
    tokens = tokenize(tokenizer, ["halo reach", "", "halo reach xbox live gold card gears of war"], 4)
    assert tokens.dtype == np.int32
    assert tokens.shape == (3, 4)
    assert (tokens[1] == 0).all()
    assert tokens[2].all()
    assert tokenize(tokenizer, [], 4).shape == (0, 1)


def test_numbers_stuck_to_a_word_share_their_subwords() -> None:
    tokenizer = fit_tokenizer(ENGLISH, TextConfig())
    stuck, apart = tokenize(tokenizer, ["xbox360", "xbox 360"], 8)
    assert stuck[0] == apart[0]


def test_fitting_twice_gives_the_same_tokenizer() -> None:
    assert fit_tokenizer(ENGLISH, TextConfig()).to_str() == fit_tokenizer(iter(ENGLISH), TextConfig()).to_str()
