"""Spellings of one word in one script: Chinese characters, Hebrew and Arabic vowels, signs that belong to a word."""

import pytest

from tests.txrec.text.test_analyser import FILLERS, first, index
from txrec.text import Synonyms, normalise
from txrec.text.article_numbers import squeeze
from txrec.text.segmentation import words


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("手機殼", ["透明手機殼", "透明手机壳"]),
        ("手机壳", ["透明手机壳", "透明手機殼"]),
        ("紅色沙發", ["紅色沙發", "红色沙发"]),
        ("红色沙发", ["红色沙发", "紅色沙發"]),
    ],
)
def test_traditional_and_simplified_chinese_find_each_other_and_the_typed_one_is_first(
    query: str, ordered: list[str]
) -> None:
    titles = [*FILLERS, "透明手机壳", "紅色沙發", "手套 机械", "透明手機殼", "红色沙发"]
    assert first(index(titles, "zh"), titles, query, 2) == ordered


def test_japanese_characters_are_not_taken_for_chinese_ones() -> None:
    titles = [*FILLERS, "洗濯機 白", "机 木製"]
    assert first(index(titles, "ja"), titles, "机", 5) == ["机 木製"]


@pytest.mark.parametrize(
    ("language", "query", "ordered"),
    [
        ("he", "שולחן", ["שולחן עץ", "שלחן עגול"]),
        ("he", "שלחן", ["שלחן עגול", "שולחן עץ"]),
        ("he", "טלוויזיה", ["טלויזיה 32"]),
        ("he", "שולחנות", ["שולחן עץ"]),
        ("ar", "كتاب", ["كتاب جديد", "كتب أطفال"]),
        ("ar", "كتب", ["كتب أطفال", "كتاب جديد"]),
        ("ar", "الأقلام", ["قلم أزرق"]),
    ],
)
def test_words_with_and_without_inner_vowels_meet_and_the_typed_one_is_first(
    language: str, query: str, ordered: list[str]
) -> None:
    semitic = ["שלט רחוק", "שולחן עץ", "שלחן עגול", "טלויזיה 32", "كتف خروف", "كتاب جديد", "كتب أطفال", "قلم أزرق"]
    titles = [*FILLERS, *semitic]
    assert first(index(titles, language), titles, query, len(ordered)) == ordered


def test_vowels_of_persian_words_are_not_left_out() -> None:
    tokens = index(["کتاب نو"], "fa").analyser.tokens(normalise("كتاب"))
    assert not any(token.startswith("*") for token in tokens)


@pytest.mark.parametrize(
    ("query", "product"),
    [
        ("C++", "C++ Primer"),
        ("c#", "C# in Depth"),
        ("C", "C Programming"),
        (".net", ".NET Micro services"),
        ("s10+", "Galaxy S10+ case"),
        ("s10", "Galaxy S10 case"),
        ("notepad", "Notepad++ handbook"),
    ],
)
def test_a_sign_that_belongs_to_a_word_tells_products_apart(query: str, product: str) -> None:
    names = ["C Programming", "C++ Primer", "C# in Depth", "Fishing net", ".NET Micro services", "Galaxy S10 case"]
    titles = [*FILLERS, *names, "Galaxy S10+ case", "Notepad++ handbook"]
    assert first(index(titles, "en"), titles, query) == [product]


def test_signs_between_words_and_at_the_end_of_sentences_are_no_parts_of_words() -> None:
    assert words("d3+k2, 1+1. end. #1 a++b") == ["d3", "k2", "1", "1", "end", "1", "a", "b"]
    assert words("c++17 and c++, f#.") == ["c++", "17", "and", "c++", "f#"]


def test_an_article_number_is_compared_without_the_signs_at_its_ends() -> None:
    assert squeeze("abc-12+") == squeeze("abc12") == "abc12"


def test_synonyms_work_in_scripts_that_separate_no_words() -> None:
    titles = [*FILLERS, "紅色沙發", "长椅 白", "television stand", "手套 机械"]
    synonyms = Synonyms.of([["沙发", "长椅"], ["电视", "television"], ["couch", "沙发"]])
    source = index(titles, "zh", synonyms=synonyms)
    assert first(source, titles, "红色沙发", 2) == ["紅色沙發", "长椅 白"]
    assert first(source, titles, "长椅", 2) == ["长椅 白", "紅色沙發"]
    assert first(source, titles, "电视") == ["television stand"]
    assert first(source, titles, "couch") == ["紅色沙發"]
    assert "紅色沙發" not in first(index(titles, "zh"), titles, "couch", 5)
