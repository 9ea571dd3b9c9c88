"""Text encoder training: masked-token modelling, then contrastive learning of queries and clicked products.

1. *Masked-token modelling* (Devlin et al. 2019) on the texts of trained products and training queries: the Transformer
   learns which words go together. Only for `SubwordEncoder`; a Hugging Face checkpoint has that behind it.
2. *Contrastive fine-tuning* on distinct pairs of the training part, (query, clicked product) and (product, product that
   the same user went to before or after it): softmax over the products of the batch. A product that makes a known
   pair is never a negative, and scores are corrected by the log frequency of a product among the pairs (Yi et al.
   2019), because frequent products are negatives more often. A share of the queries gets typing errors, and each may
   get hard negatives of its own (Karpukhin et al. 2020).

Only the training part is read (`corpus.py`). Every step draws from generators seeded by (seed, phase, step),
so a run that was interrupted and resumed equals an uninterrupted one.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from txrec.config import CHECKPOINT, Config, PretrainConfig, TextConfig
from txrec.data.prepared import PreparedData
from txrec.errors import TrainingError
from txrec.model.hf_encoder import HuggingFaceEncoder
from txrec.model.subword_encoder import SubwordEncoder
from txrec.model.text_encoder import TextEncoder, TextVectors, save_vectors
from txrec.model.text_encoders import open_text_encoder
from txrec.progress import Progress, silent
from txrec.storage import replace_folder
from txrec.text import MASK_TOKEN, PAD_TOKEN, SPECIAL_TOKENS
from txrec.train import checkpoint
from txrec.train.optimizer import adamw, lr_at, set_lr
from txrec.train.seeds import step_seed
from txrec.train.text.corpus import Corpus

_REPORT_EVERY = 10
_BUCKET_BATCHES = 16  # this many batches of shuffled texts are sorted by length together


def build(cfg: TextConfig, tokenizer: Tokenizer | None, texts: Corpus, seed: int) -> TextEncoder:
    """The untrained encoder that `text.encoder` asks for.

    Raises:
        TrainingError: a Transformer is to be trained and there is no text.
    """
    if cfg.encoder.startswith(CHECKPOINT):
        return HuggingFaceEncoder.from_config(cfg)
    if tokenizer is None or not (texts.products or texts.queries):
        raise TrainingError('the prepared data has no text to train an encoder on; set text.encoder = "none"')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = SubwordEncoder(cfg, tokenizer)
    encoder.weigh_ngrams(texts.products or texts.queries)
    return encoder


class Phase(Protocol):
    """One kind of training, with a schedule of its own."""

    name: str
    num_steps: int

    def loss(self, step: int) -> Tensor:
        """Loss of a step, deterministic by its number (dropout aside, which `Pretrainer` seeds)."""


class MaskedTokens:
    """Predict masked tokens from their neighbours; the output layer is the token table."""

    name = "masked tokens"

    def __init__(self, encoder: SubwordEncoder, texts: Corpus, cfg: PretrainConfig, seed: int) -> None:
        self.cfg, self.seed = cfg, seed
        self.encoder = encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = _MaskedHead(encoder)
        self.texts = [*texts.products, *texts.queries]
        self.steps_per_epoch = -(-len(self.texts) // cfg.batch_size)
        self.num_steps = _limit(cfg.masked_epochs * self.steps_per_epoch, cfg.max_steps)

    def loss(self, step: int) -> Tensor:
        """Cross-entropy over the masked tokens."""
        rows = self._order(step // self.steps_per_epoch)[step % self.steps_per_epoch]
        tokens = self.encoder.tokens([self.texts[row] for row in rows])
        rng = np.random.default_rng([self.seed, 1, step])
        table = self.encoder.token.weight
        masked_tokens, targets = mask_tokens(tokens, self.cfg.mask_frac, len(table), rng)
        guessed = targets != PAD_TOKEN
        states = self.encoder.hidden(masked_tokens)[guessed[tokens != PAD_TOKEN]]
        return F.cross_entropy(self.head(states, table), targets[guessed])

    def _order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Batches of texts of like length, in random order."""
        rng = np.random.default_rng([self.seed, 0, epoch])
        lengths = np.fromiter(map(len, self.texts), dtype=np.int64, count=len(self.texts))
        order = rng.permutation(len(self.texts))
        window = _BUCKET_BATCHES * self.cfg.batch_size
        windows = [order[start : start + window] for start in range(0, len(order), window)]
        batches = [part for rows in windows for part in _split(rows[np.argsort(lengths[rows])], self.cfg.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]


class _MaskedHead(nn.Module):
    """Scores every token for a masked place."""

    def __init__(self, encoder: SubwordEncoder) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.GELU(), nn.RMSNorm(encoder.dim))
        self.bias = nn.Parameter(torch.zeros(encoder.token.num_embeddings))

    def forward(self, states: Tensor, table: Tensor) -> Tensor:
        """States (M, Dt) and the token table (V, Dt) to logits (M, V)."""
        return F.linear(self.mix(states), table, self.bias)


def mask_tokens(tokens: Tensor, mask_frac: float, vocab_size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Hides tokens: of those chosen, 80 % become MASK, 10 % a random token, 10 % stay (Devlin et al. 2019).

    At least one token of the batch is chosen, never a special one.

    Returns:
        (n, T) int64 token ids to read; (n, T) int64 tokens to guess, PAD where none.
    """
    words = (tokens >= len(SPECIAL_TOKENS)).cpu().numpy()
    to_predict = words & (rng.random(words.shape) < mask_frac)
    if not to_predict.any() and words.any():
        to_predict[tuple(rng.choice(np.argwhere(words)))] = True
    fate = rng.random(words.shape)
    randoms = torch.from_numpy(rng.integers(len(SPECIAL_TOKENS), vocab_size, words.shape)).to(tokens)
    masked = torch.from_numpy(to_predict & (fate < 0.8)).to(tokens.device)
    swapped = torch.from_numpy(to_predict & (fate >= 0.9)).to(tokens.device)
    hidden = torch.where(masked, MASK_TOKEN, torch.where(swapped, randoms, tokens))
    return hidden, torch.where(torch.from_numpy(to_predict).to(tokens.device), tokens, PAD_TOKEN)


class Contrastive:
    """A query or product lies near the products taken with it, far from the other products of the batch."""

    name = "queries and clicks"

    def __init__(self, encoder: TextEncoder, texts: Corpus, cfg: PretrainConfig, seed: int) -> None:
        self.cfg, self.seed, self.corpus = cfg, seed, texts
        self.encoder = encoder
        self.steps_per_epoch = -(-len(texts.pairs) // cfg.batch_size)
        self.num_steps = _limit(cfg.contrastive_epochs * self.steps_per_epoch, cfg.max_steps)

    def loss(self, step: int) -> Tensor:
        """Softmax cross-entropy of the clicked product among the batch's products, weighted by log clicks."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 2, epoch]).permutation(len(self.corpus.pairs))
        rows = order[index * self.cfg.batch_size : (index + 1) * self.cfg.batch_size]
        rng = np.random.default_rng([self.seed, 3, step])
        anchors = self.corpus.pairs[rows, 0]
        products, target = np.unique(self.corpus.pairs[rows, 1], return_inverse=True)
        queries = self.encoder.embed(self._texts(anchors, rng))
        candidates = self.encoder.embed([self.corpus.products[row] for row in products])
        scores = queries @ candidates.T / self.cfg.temperature  # (B, C)
        often = len(rows) * self.corpus.product_share[products]  # expected places of each product in a batch
        scores = scores - torch.from_numpy(np.log(often)).to(scores)
        is_pair = self.corpus.is_pair(anchors[:, None], products[None, :])
        is_pair[np.arange(len(rows)), target] = False
        scores = scores.masked_fill(torch.from_numpy(is_pair).to(scores.device), -torch.inf)
        hard = [self._hard(anchors, queries, rng) for _ in range(self.cfg.hard_negatives)]
        scores = torch.cat([scores, *hard], dim=1)
        losses = F.cross_entropy(scores, torch.from_numpy(target).to(scores.device), reduction="none")
        weight = torch.from_numpy(self.corpus.weights[rows]).to(losses)
        return (losses * weight).sum() / weight.sum()

    def _hard(self, anchors: NDArray[np.int64], queries: Tensor, rng: np.random.Generator) -> Tensor:
        """(B, 1) scores of one hard negative of every anchor, -inf where it has none."""
        drawn = self.corpus.draw_hard(anchors, rng)
        has = np.flatnonzero(drawn >= 0)
        scores = queries.new_full((len(anchors), 1), -torch.inf)
        if not len(has):
            return scores
        products, place = np.unique(drawn[has], return_inverse=True)
        embedded = self.encoder.embed([self.corpus.products[row] for row in products])
        chosen = torch.from_numpy(has).to(scores.device)
        cosine = (queries[chosen] * embedded[torch.from_numpy(place).to(scores.device)]).sum(-1, keepdim=True)
        return scores.index_copy(0, chosen, cosine / self.cfg.temperature)

    def _texts(self, anchors: NDArray[np.int64], rng: np.random.Generator) -> list[str]:
        """Texts of the anchors, a share of the queries mistyped."""
        hit = (anchors < len(self.corpus.queries)) & (rng.random(len(anchors)) < self.cfg.noise_frac)
        texts = [self.corpus.anchors[row] for row in anchors]
        return [add_typo(text, rng) if noisy else text for text, noisy in zip(texts, hit, strict=True)]


def add_typo(text: str, rng: np.random.Generator) -> str:
    """A text with one typing error: a character dropped, doubled, replaced, or swapped with the next one.

    Blanks take part, so that words may run together. A text of fewer than four characters is returned as it is.
    """
    if len(text) < 4:
        return text
    at = int(rng.integers(1, len(text) - 1))
    before, char, after = text[:at], text[at], text[at + 1 :]
    kind = int(rng.integers(4))
    if kind == 0:
        return before + after
    if kind == 1:
        return before + char + char + after
    if kind == 2:
        return before + text[int(rng.integers(len(text)))] + after
    return before + after[0] + char + after[1:]


class Pretrainer:
    """Runs the phases one after the other; can stop after any step and go on from its checkpoint."""

    def __init__(self, encoder: TextEncoder, texts: Corpus, cfg: PretrainConfig, seed: int) -> None:
        self.encoder, self.cfg, self.seed = encoder, cfg, seed
        phases: list[Phase] = []
        modules: dict[str, nn.Module] = {"encoder": encoder}
        if isinstance(encoder, SubwordEncoder) and (texts.products or texts.queries):
            masked = MaskedTokens(encoder, texts, cfg, seed)
            modules["masked_head"] = masked.head
            phases.append(masked)
        if len(texts.pairs):
            phases.append(Contrastive(encoder, texts, cfg, seed))
        self.phases = [phase for phase in phases if phase.num_steps]
        self.phase, self.step = 0, 0
        self.losses: dict[str, float] = {}  # phase name = running mean of its loss
        self._model = nn.ModuleDict(modules).to(next(encoder.parameters()).device)
        self._optimizer = adamw(self._model.modules(), cfg)

    @property
    def done(self) -> bool:
        """True where nothing is left to train."""
        return self.phase >= len(self.phases)

    def run(
        self,
        progress: Progress = silent,
        save: Callable[[], None] | None = None,
        save_every_s: float = 30.0,
        max_steps: int | None = None,
    ) -> None:
        """Trains to the end, or for `max_steps` steps.

        Args:
            progress: receives phase, step, number of steps and loss.
            save: called after each phase and `save_every_s` after its last call, a good moment to `save` a checkpoint.
            save_every_s: seconds of training that may be lost.
            max_steps: stop after this many steps of this call.

        Raises:
            TrainingError: the loss is not a number.
        """
        left = max_steps if max_steps is not None else sum(phase.num_steps for phase in self.phases)
        saved = time.monotonic()
        self._model.train()
        with torch.random.fork_rng(devices=[]):
            while not self.done and left > 0:
                self._advance(progress)
                left -= 1
                if save and (self.step == 0 or time.monotonic() - saved >= save_every_s):
                    save()
                    saved = time.monotonic()
        self._model.eval()

    def save(self, folder: Path) -> None:
        """Writes a checkpoint."""
        state = {"phase": self.phase, "step": self.step, "losses": dict(self.losses)}
        checkpoint.save(folder, self._model, {}, self._optimizer, state)

    def restore(self, folder: Path) -> None:
        """Restores a checkpoint.

        Raises:
            TrainingError: there is none, or it belongs to other settings.
        """
        _, state = checkpoint.restore(folder, self._model, self._optimizer)
        self.phase, self.step, self.losses = state["phase"], state["step"], state["losses"]

    def _advance(self, progress: Progress) -> None:
        phase = self.phases[self.phase]
        loss = self._update(phase)
        self.losses[phase.name] = 0.9 * self.losses.get(phase.name, loss) + 0.1 * loss
        self.step += 1
        if self.step % _REPORT_EVERY == 0 or self.step == phase.num_steps:
            progress(phase.name, self.step, phase.num_steps, loss=self.losses[phase.name])
        if self.step == phase.num_steps:
            self.phase, self.step = self.phase + 1, 0

    def _update(self, phase: Phase) -> float:
        torch.manual_seed(step_seed(self.seed, self.phase, self.step))
        loss = phase.loss(self.step)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise TrainingError(f"{phase.name}: loss is {value} at step {self.step}; lower pretrain.lr ({self.cfg.lr})")
        set_lr(self._optimizer, lr_at(self.cfg, self.step / phase.num_steps))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._model.parameters(), self.cfg.clip_norm)
        self._optimizer.step()
        return value


def start_of(config: Config, data: PreparedData, texts: Corpus, earlier: Path | None = None) -> TextEncoder:
    """The encoder that training starts from: an untrained one, or one that was saved to a folder."""
    if earlier is None:
        return build(config.text, load_tokenizer(data), texts, config.seed)
    return open_text_encoder(earlier)


def fit(
    config: Config, data: PreparedData, folder: Path, progress: Progress = silent, earlier: Path | None = None
) -> Pretrainer:
    """Pre-trains an encoder in this process and writes it and the vectors of all texts into a folder.

    Args:
        config: sections `text`, `pretrain` and `seed`.
        data: the prepared data set.
        folder: for the encoder and the vectors.
        progress: called after steps.
        earlier: folder of the encoder that training continues from; None = an untrained one.

    Raises:
        TrainingError: there is no text to learn from, or the loss is not a number.
    """
    texts = Corpus.of(data, config.pretrain)
    trainer = Pretrainer(start_of(config, data, texts, earlier), texts, config.pretrain, config.seed)
    trainer.run(progress)
    write(trainer.encoder, data, folder)
    return trainer


def load_tokenizer(data: PreparedData) -> Tokenizer | None:
    """The tokenizer that `prepare` fitted; None where there was no text."""
    return Tokenizer.from_file(str(data.tokenizer_path)) if data.tokenizer_path.is_file() else None


def write(encoder: TextEncoder, data: PreparedData, folder: Path) -> None:
    """Writes an encoder and the vectors of all products and queries of the prepared data, in one rename."""
    with replace_folder(folder) as fresh:
        encoder.save(fresh)
        save_vectors(fresh, *encode_prepared(encoder, data))


def encode_prepared(encoder: TextEncoder, data: PreparedData) -> TextVectors:
    """Vectors of all products (N, Dt) and all queries (Q, Dt) of a prepared data set, cold and test ones included."""
    items, queries = data.items["text"].to_pylist(), data.queries["query"].to_pylist()
    return TextVectors(encoder.encode(items), encoder.encode(queries))


def _limit(steps: int, most: int) -> int:
    return min(steps, most) if most else steps


def _split(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
