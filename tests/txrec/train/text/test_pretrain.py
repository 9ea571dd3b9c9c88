"""Text pre-training: what it reads, that it learns, that it can be interrupted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from tests.judged import judged_data
from txrec.config import PretrainConfig, TextConfig
from txrec.data.prepared import PreparedData
from txrec.errors import TrainingError
from txrec.evals import text_quality
from txrec.schema import Split
from txrec.text import MASK_TOKEN
from txrec.train.text import pretrain
from txrec.train.text.corpus import Corpus
from txrec.train.text.pretrain import Pretrainer

TEXT = TextConfig(dim=32, num_layers=1, num_heads=2, ngram_buckets=1_024)
SHORT = PretrainConfig(batch_size=16, masked_epochs=2, contrastive_epochs=4, lr=3e-3)

NO_HARD = (np.zeros(1, np.int64), np.empty(0, np.int64))


def _trainer(data: PreparedData, cfg: PretrainConfig = SHORT, seed: int = 0, texts: Corpus | None = None) -> Pretrainer:
    texts = texts or Corpus.of(data, cfg)
    encoder = pretrain.build(TEXT, Tokenizer.from_file(str(data.tokenizer_path)), texts, seed)
    return Pretrainer(encoder, texts, cfg, seed)


def test_only_the_training_part_is_read(tiny: PreparedData) -> None:
    texts = Corpus.of(tiny, SHORT.model_copy(update={"product_pairs_frac": 0.0}))
    events = tiny.sequences
    chosen = (events.split == Split.TRAIN) & (events.item_idx > 0) & (events.query_idx > 0)
    expected = {
        (tiny.queries["query"][int(q) - 1].as_py(), tiny.items["text"][int(i) - 1].as_py())
        for q, i in zip(events.query_idx[chosen], events.item_idx[chosen], strict=True)
    }
    found = {(texts.queries[q], texts.products[p]) for q, p in texts.pairs}
    assert found == expected
    assert np.expm1(texts.weights - 1).sum() + len(texts.pairs) == pytest.approx(chosen.sum())  # 1 + log clicks
    assert len(texts.products) == np.count_nonzero(np.asarray(tiny.items["train_count"]))


def test_products_taken_one_after_the_other_are_pairs_too(tiny: PreparedData) -> None:
    texts = Corpus.of(tiny, SHORT)
    among_products = texts.pairs[:, 0] >= len(texts.queries)
    assert among_products.mean() == pytest.approx(SHORT.product_pairs_frac, abs=0.01)
    for anchor, product in texts.pairs[among_products]:
        first, second = texts.anchors[anchor].split(), texts.products[product].split()
        assert first[1] == second[1]  # the tiny users stay with one kind
        assert (int(first[3]) - int(second[3])) % 10 in (1, 9)  # and walk through it in order


def test_without_queries_the_pairs_are_products_alone(tiny: PreparedData, tmp_path: Path) -> None:
    silent = replace(tiny, path=tmp_path)
    silent.__dict__["items"] = tiny.items
    silent.__dict__["queries"] = tiny.queries.slice(0, 0)
    silent.__dict__["sequences"] = replace(tiny.sequences, query_idx=np.zeros_like(tiny.sequences.query_idx))
    texts = Corpus.of(silent, SHORT)
    assert texts.queries == []
    assert len(texts.pairs) > 0
    assert len(Corpus.of(silent, SHORT.model_copy(update={"product_pairs_frac": 0.0})).pairs) == 0
    few = Corpus.of(silent, SHORT.model_copy(update={"pairs_per_product": 0.5}))
    assert len(few.pairs) == round(0.5 * len(few.products))
    assert few.weights.min() >= np.median(texts.weights)  # the most frequent ones stay


def test_hard_negatives_are_products_that_bm25_ranks_first_and_nobody_clicked(tiny: PreparedData) -> None:
    texts = Corpus.of(tiny, SHORT.model_copy(update={"hard_negatives": 1}))
    clicked = {tuple(pair) for pair in texts.pairs.tolist()}
    for query, text in enumerate(texts.queries):
        own = texts.hard[texts.hard_offsets[query] : texts.hard_offsets[query + 1]].tolist()
        assert all((query, product) not in clicked for product in own)
        assert all(text in texts.products[product] for product in own)  # a query of the tiny data is a word of titles
    assert not len(Corpus.of(tiny, SHORT).hard)


def test_an_anchor_draws_its_own_hard_negatives_and_none_where_it_has_none() -> None:
    texts = Corpus(["a", "b", "c"], ["q"], np.array([[0, 0]]), np.ones(1), np.array([0, 2, 2, 2, 2]), np.array([1, 2]))
    drawn = texts.draw_hard(np.repeat([0, 1], 50), np.random.default_rng(0))
    assert set(drawn[:50].tolist()) == {1, 2}
    assert (drawn[50:] == -1).all()


@pytest.mark.slow
def test_hard_negatives_take_part_in_training_and_in_resuming(tiny: PreparedData, tmp_path: Path) -> None:
    cfg = SHORT.model_copy(update={"hard_negatives": 2, "masked_epochs": 0})
    texts = Corpus.of(tiny, cfg)
    assert not len(texts.hard)  # all that BM25 ranks first here is clicked
    num_queries, num_anchors = len(texts.queries), len(texts.anchors)
    others = np.arange(num_queries)[::-1] * (len(texts.products) // num_queries)  # a product of another kind for each
    texts = replace(texts, hard=others, hard_offsets=np.arange(num_anchors + 1).clip(max=num_queries))
    whole, first, second = (_trainer(tiny, cfg, texts=texts) for _ in range(3))
    whole.run()
    first.run(max_steps=2)
    first.save(tmp_path)
    second.restore(tmp_path)
    second.run()
    assert second.losses == whole.losses
    with_hard = _trainer(tiny, cfg, texts=texts)
    without = _trainer(tiny, cfg.model_copy(update={"hard_negatives": 0}), texts=texts)
    losses = []
    for untrained in (with_hard, without):
        untrained.encoder.eval()
        losses.append(untrained.phases[0].loss(0).item())
    assert losses[0] > losses[1] + 1e-3  # more negatives for the same queries


def test_judged_pairs_are_learned_from_by_their_grade_where_there_is_no_log(tmp_path: Path) -> None:
    data = judged_data(tmp_path)
    texts = Corpus.of(data, SHORT.model_copy(update={"hard_negatives": 1}))
    found = {(texts.queries[q], texts.products[p]): w for (q, p), w in zip(texts.pairs, texts.weights, strict=True)}
    assert found == {("lamp", "red lamp"): 1.0, ("lamp", "lamp shade"): 0.75}
    assert [texts.products[p] for p in texts.hard] == ["drill"]
    assert texts.products == ["red lamp", "lamp shade", "drill"]


def test_known_pairs_are_recognised() -> None:
    texts = Corpus(["a", "b", "c"], ["q", "r"], np.array([[0, 1], [1, 0], [1, 2]]), np.ones(3), *NO_HARD)
    found = texts.is_pair(np.array([[0], [1], [2]]), np.array([[0, 1, 2]]))  # anchor 2 is product 0 itself
    assert found.tolist() == [[False, True, False], [True, False, True], [True, False, False]]
    np.testing.assert_allclose(texts.product_share, [1 / 3, 1 / 3, 1 / 3])


def test_masking_hides_words_only_and_remembers_them() -> None:
    tokens = torch.tensor([[3, 10, 11, 12, 0, 0], [3, 20, 21, 22, 23, 24]]).repeat(200, 1)
    hidden, targets = pretrain.mask_tokens(tokens, 0.15, 30, np.random.default_rng(0))
    chosen = targets != 0
    assert torch.equal(targets[chosen], tokens[chosen])
    assert not chosen[tokens < 4].any()
    assert torch.equal(hidden[~chosen], tokens[~chosen])
    assert 0.12 < chosen.sum() / (tokens >= 4).sum() < 0.18
    assert 0.7 < (hidden[chosen] == MASK_TOKEN).float().mean() < 0.9


def test_a_batch_of_one_short_text_still_has_something_to_guess() -> None:
    _, targets = pretrain.mask_tokens(torch.tensor([[3, 9]]), 0.01, 30, np.random.default_rng(0))
    assert targets.tolist() == [[0, 9]]


def test_a_typo_is_one_small_edit_and_short_texts_are_spared() -> None:
    rng = np.random.default_rng(0)
    typos = {pretrain.add_typo("halo reach", rng) for _ in range(200)}
    assert {"haloreach", "halo raech"} <= typos
    assert all(abs(len(typo) - 10) <= 1 and typo[0] == "h" for typo in typos)
    assert pretrain.add_typo("ps3", rng) == "ps3"


@pytest.mark.slow
def test_training_brings_queries_near_their_products(tiny: PreparedData) -> None:
    trainer = _trainer(tiny, SHORT.model_copy(update={"contrastive_epochs": 20}))
    trainer.run()
    assert trainer.done
    items, queries = pretrain.encode_prepared(trainer.encoder, tiny)
    top = (queries @ items.T).argsort(axis=1)[:, -10:]  # a query of the tiny data names one of six kinds
    kinds = np.asarray(tiny.items["category_idx"])[top]
    assert (kinds == np.arange(1, 7)[:, None]).mean() > 0.95


def test_interrupted_and_resumed_equals_uninterrupted(tiny: PreparedData, tmp_path: Path) -> None:
    whole = _trainer(tiny)
    whole.run()
    steps = sum(phase.num_steps for phase in whole.phases)
    for stop in (1, whole.phases[0].num_steps, steps - 1):  # in the first phase, between the two, before the end
        first = _trainer(tiny)
        first.run(max_steps=stop)
        first.save(tmp_path / str(stop))
        second = _trainer(tiny)
        second.restore(tmp_path / str(stop))
        second.run()
        for name, tensor in second.encoder.state_dict().items():
            assert torch.equal(tensor, whole.encoder.state_dict()[name]), name
        assert second.losses == whole.losses


def test_checkpoints_are_due_after_each_phase_and_after_some_seconds(
    tiny: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, due = [0.0], list[tuple[int, int]]()
    monkeypatch.setattr("txrec.train.text.pretrain.time.monotonic", lambda: now[0])
    trainer = _trainer(tiny, SHORT.model_copy(update={"max_steps": 4}))

    def progress(phase: str, step: int, total: int | None, **figures: float) -> None:
        now[0] += 100.0  # at the end of each phase

    trainer.run(progress, lambda: due.append((trainer.phase, trainer.step)), save_every_s=50.0)
    assert due == [(1, 0), (2, 0)]
    trainer = _trainer(tiny, SHORT.model_copy(update={"max_steps": 4}))
    due.clear()
    trainer.run(save=lambda: due.append((trainer.phase, trainer.step)), save_every_s=0.0)
    assert due == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]


def test_the_same_seed_gives_the_same_encoder_and_another_seed_another(tiny: PreparedData) -> None:
    runs = []
    for seed in (0, 0, 1):
        trainer = _trainer(tiny, seed=seed)
        trainer.run(max_steps=4)
        runs.append(trainer.encoder.encode(["acme kettle"]))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2])


def test_max_steps_bounds_each_phase_and_progress_is_told(tiny: PreparedData) -> None:
    told: list[tuple[str, int, int | None]] = []
    trainer = _trainer(tiny, SHORT.model_copy(update={"max_steps": 3, "masked_epochs": 9}))
    trainer.run(lambda phase, step, total, **figures: told.append((phase, step, total)) if figures["loss"] else None)
    assert told == [("masked tokens", 3, 3), ("queries and clicks", 3, 3)]


def test_a_loss_that_is_no_number_stops_with_the_step(tiny: PreparedData) -> None:
    trainer = _trainer(tiny)
    torch.nn.init.constant_(trainer.encoder.get_parameter("token.weight"), float("nan"))
    with pytest.raises(TrainingError, match="masked tokens: loss is nan at step 0"):
        trainer.run()


def test_no_text_is_an_error_that_says_what_to_set() -> None:
    nothing = Corpus([], [], np.empty((0, 2), np.int64), np.empty(0), *NO_HARD)
    with pytest.raises(TrainingError, match=r'text\.encoder = "none"'):
        pretrain.build(TEXT, None, nothing, 0)


def test_text_quality_is_the_mean_reciprocal_rank_of_the_clicked_products(tiny: PreparedData) -> None:
    events = tiny.sequences
    chosen = (events.split == Split.VALIDATION) & (events.item_idx > 0) & (events.query_idx > 0)

    def by_number(query_idx: int) -> np.ndarray:
        return -np.arange(tiny.meta.num_items, dtype=np.float32)  # item 1 first, item 2 second ...

    found = text_quality.quality(by_number, tiny, Split.VALIDATION)
    assert found.num_clicks == chosen.sum()
    assert found.mrr == pytest.approx((1 / events.item_idx[chosen]).mean())
    equal = text_quality.quality(lambda _: np.zeros(tiny.meta.num_items, np.float32), tiny, Split.VALIDATION)
    assert equal.mrr == pytest.approx(1 / ((tiny.meta.num_items + 1) / 2))
    assert equal.ndcg_at_10 == 0.0
    assert text_quality.quality(by_number, tiny, Split.VALIDATION, unseen=True).num_clicks == 0
