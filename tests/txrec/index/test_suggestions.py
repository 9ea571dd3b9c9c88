"""Completions: by prefix from the first letter, inside texts, with typing errors, in any script."""

import time

import numpy as np
import pytest

from txrec.index.suggestions import Suggestion, SuggestionIndex, complete


def index(*texts: str) -> SuggestionIndex:
    """Queries, the first one heaviest."""
    return SuggestionIndex(Suggestion(text, "query", float(len(texts) - place)) for place, text in enumerate(texts))


def completed(tested: SuggestionIndex, prefix: str, limit: int = 10) -> list[str]:
    return [suggestion.text for suggestion, _ in tested.complete(prefix, limit)]


def test_the_heaviest_completions_come_first_from_the_first_letter_on() -> None:
    tested = index("blue jeans", "black shoes", "blouse", "lamp")
    assert completed(tested, "b") == ["blue jeans", "black shoes", "blouse"]
    assert completed(tested, "bl", limit=2) == ["blue jeans", "black shoes"]
    assert completed(tested, "Blu") == ["blue jeans"]
    assert completed(tested, "") == ["blue jeans", "black shoes", "blouse", "lamp"]


def test_a_later_word_completes_too_with_less_weight() -> None:
    tested = index("blue jeans", "jeans", "jacket")
    assert completed(tested, "je") == ["jeans", "blue jeans"]


@pytest.mark.parametrize("typed", ["haedph", "headhp", "headdph", "hedph", "heaxph"])
def test_one_typing_error_is_forgiven(typed: str) -> None:
    assert completed(index("headphones", "lamp", "tent"), typed) == ["headphones"]


def test_an_exact_prefix_comes_before_a_corrected_one() -> None:
    tested = SuggestionIndex([Suggestion("lamp", "query", 1.0), Suggestion("lump", "query", 5.0)])
    assert completed(tested, "lamp") == ["lamp", "lump"]


@pytest.mark.parametrize(
    ("text", "typed"),
    [("蓝色牛仔裤", "牛仔"), ("กระเป๋าหนัง", "หนั"), ("ランプ 黒", "黒"), ("Straße", "stra"), ("лампа настольная", "нас")],
)
def test_any_script_completes(text: str, typed: str) -> None:
    assert completed(index(text, "lamp"), typed) == [text]


def test_two_spellings_of_one_query_are_one_completion() -> None:
    assert len(completed(index("Blue  Jeans", "blue jeans"), "blue")) == 1


def test_completions_of_short_and_long_prefixes_are_those_of_a_plain_scan() -> None:
    rng = np.random.default_rng(5)
    texts = sorted({"".join(rng.choice(list("abc"), rng.integers(1, 9))) for _ in range(400)})
    tested = SuggestionIndex(Suggestion(text, "query", float(rng.integers(1, 10**6))) for text in texts)
    for prefix in ("a", "ab", "abc", "abca", "bbbb"):
        expected = sorted((e for e in tested.entries if e.text.startswith(prefix)), key=lambda e: -e.weight)
        found = [suggestion for suggestion, _ in tested.complete(prefix, 5)]
        assert found[: len(expected)] == expected[:5], prefix


def test_the_work_of_a_completion_does_not_grow_with_the_length_of_its_range() -> None:
    tested = SuggestionIndex(Suggestion(f"lamp {n}", "query", 1.0) for n in range(30_000))
    started = time.process_time()
    for prefix in ("l", "la", "lamp", "lmap"):
        assert len(tested.complete(prefix)) == 10
    assert time.process_time() - started < 1.0


def test_of_two_indexes_the_heavier_entry_counts_once_and_exact_ones_stand_before_corrected_ones() -> None:
    fitted = SuggestionIndex([Suggestion("lamp", "query", 3.0), Suggestion("lump", "query", 50.0)])
    live = SuggestionIndex([Suggestion("Lamp", "query", 9.0), Suggestion("lamp oil", "query", 1.0)])
    completions = [(one.text, round(score, 1)) for one, score in complete([fitted, live], "lamp", 10)]
    assert completions == [("Lamp", 9.0), ("lamp oil", 1.0), ("lump", 5.0)]


def test_corrections_are_those_of_a_plain_search_over_all_edits() -> None:
    rng = np.random.default_rng(8)
    texts = sorted({"".join(rng.choice(list("abcde"), rng.integers(4, 9))) for _ in range(300)})
    tested = SuggestionIndex(Suggestion(text, "query", 1.0) for text in texts)
    keys = [entry.normal for entry in tested.entries]
    for typed in ("abcd", "aabbc", "dcbaa", "bdbdb"):
        edits = {typed[:n] + typed[n + 1 :] for n in range(1, len(typed) - 1)}
        edits |= {typed[:n] + typed[n + 1] + typed[n] + typed[n + 2 :] for n in range(1, len(typed) - 1)}
        for letter in "abcde":
            edits |= {typed[:n] + letter + typed[n + 1 :] for n in range(1, len(typed))}
            edits |= {typed[:n] + letter + typed[n:] for n in range(1, len(typed))}
        expected = {key for key in keys if any(key.startswith(edit) for edit in edits - {typed})}
        assert {one.normal for one, _ in tested.one_edit_away(typed)} == expected, typed


def test_a_prefix_typed_under_another_keyboard_layout_completes_by_its_keys() -> None:
    tested = index("lamp", "лампа", "blue jeans")
    assert completed(tested, "дф") == ["lamp"]
    assert completed(tested, "kfv") == ["лампа"]
    assert completed(tested, "xyz") == []
