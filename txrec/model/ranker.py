"""Ranker: a permutation-invariant Transformer over the candidates of one request.

Candidates have no positions, so permuting them permutes the scores. The user/query state is one more token of the set.
A candidate's score is the cosine of its representation, with a feed-forward output added, and the state's, plus a
linear function of the features. Its weights depend on the request, because counts are worth more for known queries.
Before training the linear scorer is retrieval order and the cosine has weight 0. A click probability is calibrated on
held-out requests; where the log has carts or purchases, `outcome_heads` gives their probabilities too.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from txrec.config import RankerConfig
from txrec.errors import BundleError
from txrec.model.dropout import Dropout
from txrec.model.outcome_heads import OutcomeHeads, platt

FORMAT = 2
ORDER = 0
"""Column of a candidate's features that holds retrieval order, -log of the rank: an untrained ranker reproduces it."""
NUM_REQUEST_FEATURES = 6
"""R, features of the request as a whole."""
HAS_QUERY = 0
"""Column of the request's features that says whether it has a query."""
SHARP = 10.0
"""Inverse temperature of a cosine that says all there is to say."""


@dataclass(frozen=True, eq=False)
class CandidateBatch:
    """B candidate sets of at most K items."""

    items: Tensor  # (B, K, D) retrieval vectors, zeros at padding
    features: Tensor  # (B, K, F) unscaled
    mask: Tensor  # (B, K) bool, True = real candidate
    state: Tensor  # (B, D) state of the retrieval model
    query: Tensor  # (B, Dt) text vector, zeros without a query
    request: Tensor  # (B, R) features of the request

    def __len__(self) -> int:
        return len(self.mask)

    def padded(self, width: int) -> "CandidateBatch":
        """The same sets with room for `width` candidates each, at least as many as now."""
        more = width - self.mask.shape[1]
        return CandidateBatch(
            F.pad(self.items, (0, 0, 0, more)),
            F.pad(self.features, (0, 0, 0, more)),
            F.pad(self.mask, (0, more)),
            self.state,
            self.query,
            self.request,
        )

    def to(self, device: torch.device | str) -> "CandidateBatch":
        """The same sets on another device."""
        return CandidateBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def select(self, rows: Tensor | slice) -> "CandidateBatch":
        """Some of the candidate sets."""
        return CandidateBatch(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def joined(cls, batches: Sequence["CandidateBatch"]) -> "CandidateBatch":
        """One batch from several of the same width."""
        return cls(**{field.name: torch.cat([getattr(one, field.name) for one in batches]) for field in fields(cls)})


@dataclass(frozen=True)
class RankerSizes:
    """Widths of a ranker's inputs."""

    num_features: int
    num_request_features: int
    item_dim: int
    query_dim: int


class Ranker(nn.Module):
    """Scores candidate sets; `probabilities` turns scores into click probabilities."""

    feature_mean: Tensor
    feature_std: Tensor
    request_mean: Tensor
    request_std: Tensor
    calibration: Tensor
    outcomes: OutcomeHeads | None

    def __init__(self, cfg: RankerConfig, sizes: RankerSizes, graded: bool = False, by_vectors: bool = True) -> None:
        """Takes its section and the widths of its input.

        Args:
            cfg: width, depth, dropout.
            sizes: of the inputs.
            graded: trained on grades: a score rates a candidate by itself, whatever the other candidates are.
            by_vectors: reads the vectors of items, state and query, and not only the features.
        """
        super().__init__()
        self.cfg, self.sizes, self.graded, self.by_vectors = cfg, sizes, graded, by_vectors
        dim = cfg.dim
        self.register_buffer("feature_mean", torch.zeros(sizes.num_features))
        self.register_buffer("feature_std", torch.ones(sizes.num_features))
        self.register_buffer("request_mean", torch.zeros(sizes.num_request_features))
        self.register_buffer("request_std", torch.ones(sizes.num_request_features))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))  # slope, intercept of the log-odds
        self.read_features = nn.Sequential(nn.Linear(sizes.num_features, dim), nn.GELU(), nn.Linear(dim, dim))
        self.read_item = nn.Linear(sizes.item_dim, dim, bias=False)
        self.read_state = nn.Linear(sizes.item_dim + sizes.query_dim + sizes.num_request_features, dim)
        self.input_dropout = Dropout(cfg.dropout)
        self.blocks = nn.ModuleList([_SetBlock(cfg) for _ in range(cfg.num_layers)])
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.out_state = nn.Linear(dim, dim)
        self.weights = nn.Linear(sizes.num_request_features, sizes.num_features)  # of the linear scorer
        self.sharpness = nn.Parameter(torch.zeros(()))  # of the cosine, in units of SHARP
        self.outcomes = None  # of carts and purchases, fitted after everything else
        nn.init.zeros_(self.weights.weight)
        with torch.no_grad():
            self.weights.bias.copy_(F.one_hot(torch.tensor(ORDER), sizes.num_features))

    def fit_scaling(self, batch: CandidateBatch, dropped_columns: Sequence[int] = ()) -> None:
        """Sets mean and deviation of each feature over the real candidates and the requests of a batch.

        A feature that is constant in the batch is not read: products that are added later may have another value.

        Args:
            batch: the training examples.
            dropped_columns: other features that are not read.
        """
        real = batch.features[batch.mask]
        std = real.std(0)
        std[list(dropped_columns)] = 0
        self.feature_mean.copy_(real.mean(0))
        self.feature_std.copy_(std.clamp_min(1e-3).masked_fill(std == 0, torch.inf))
        self.request_mean.copy_(batch.request.mean(0))
        self.request_std.copy_(batch.request.std(0).clamp_min(1e-3))

    def has_learned(self, has_query: bool) -> bool:
        """True where requests with a query, or those without one, were among the examples that scaled its input."""
        share = float(self.request_mean[HAS_QUERY])
        return share > 0 if has_query else share < 1

    @property
    def outcome_width(self) -> int:
        """Width of the input of `OutcomeHeads`."""
        return self.sizes.num_features + self.cfg.dim + self.sizes.num_request_features

    def forward(self, batch: CandidateBatch) -> Tensor:
        """(B, K) scores, -inf at padding."""
        return self.scores_and_inputs(batch)[0]

    def estimates(self, batch: CandidateBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, K) scores, and kind of event = (B, K) calibrated probability of it, `click` first."""
        scores, inputs = self.scores_and_inputs(batch)
        by_kind = {"click": self.probabilities(scores)}
        if self.outcomes is not None:
            by_kind |= self.outcomes(inputs(), by_kind["click"])
        return scores, by_kind

    def scores_and_inputs(self, batch: CandidateBatch) -> tuple[Tensor, Callable[[], Tensor]]:
        """(B, K) scores, -inf at padding, and a function for the (B, K, `outcome_width`) input of outcome heads."""
        features, request = self.scaled(batch)
        items, state, query = batch.items, batch.state, batch.query
        if not self.by_vectors:
            items, state, query = torch.zeros_like(items), torch.zeros_like(state), torch.zeros_like(query)
        candidates = self.read_features(features) + self.read_item(items)
        state = self.read_state(torch.cat([state, query, request], dim=-1))
        tokens = self.input_dropout(torch.cat([state[:, None], candidates], dim=1))  # (B, 1 + K, D)
        mask = F.pad(batch.mask, (1, 0), value=True)[:, None, None]  # (B, 1, 1, 1 + K)
        for block in self.blocks:
            tokens = block(tokens, mask)
        refined = candidates + self.out(tokens[:, 1:])
        cosine = F.cosine_similarity(refined, self.out_state(tokens[:, :1]), dim=-1)
        scores: Tensor = SHARP * self.sharpness * cosine + self.linear_scores(features, request)

        def inputs() -> Tensor:
            wide = request[:, None].expand(-1, features.shape[1], -1)
            return torch.cat([features, F.layer_norm(refined, refined.shape[-1:]), wide], dim=-1)

        return scores.masked_fill(~batch.mask, -torch.inf), inputs

    def probabilities(self, scores: Tensor) -> Tensor:
        """(B, K) scores -> calibrated click probability; same order."""
        slope, intercept = self.calibration
        odds = scores if self.graded else log_odds(scores)
        probabilities: Tensor = torch.sigmoid(slope * odds + intercept)
        return probabilities

    def scaled(self, batch: CandidateBatch) -> tuple[Tensor, Tensor]:
        """(B, K, F) features and (B, R) features of the request as the ranker reads them."""
        features = ((batch.features - self.feature_mean) / self.feature_std).clamp(-8.0, 8.0)
        return features, ((batch.request - self.request_mean) / self.request_std).clamp(-8.0, 8.0)

    def linear_scores(self, features: Tensor, request: Tensor) -> Tensor:
        """(B, K) linear scores of scaled features, with weights that depend on the request."""
        scores: Tensor = (features @ self.weights(request).unsqueeze(-1)).squeeze(-1)
        return scores

    def calibrate(self, log_odds: Tensor, outcome: Tensor) -> None:
        """Platt scaling (Platt, 1999): fits slope and intercept of the click probability; the order stays.

        Args:
            log_odds: (n,) float64 of held-out candidates, as `probabilities` scales them.
            outcome: (n,) float64 outcomes, 0 to 1.
        """
        self.calibration.copy_(platt(log_odds, outcome))

    def save(self, path: Path) -> None:
        """Writes `ranker.safetensors` and `ranker.json` into a folder, creating it."""
        path.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, path / "ranker.safetensors"
        )
        plain = {
            "format": FORMAT,
            "ranker": self.cfg.model_dump(mode="json"),
            "sizes": self.sizes.__dict__,
            "graded": self.graded,
            "by_vectors": self.by_vectors,
            "outcomes": list(self.outcomes.kinds) if self.outcomes is not None else [],
        }
        (path / "ranker.json").write_text(json.dumps(plain, indent=2), encoding="utf-8")

    @classmethod
    def open(cls, path: Path) -> "Ranker":
        """Reads the files of `save`, ready for inference."""
        plain = json.loads((path / "ranker.json").read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            raise BundleError(f"{path / 'ranker.json'}: format {plain['format']}, expected {FORMAT}; run `txrec train`")
        sizes = RankerSizes(**plain["sizes"])
        ranker = cls(
            RankerConfig.model_validate(plain["ranker"]),
            sizes,
            plain.get("graded", False),
            plain.get("by_vectors", True),
        )
        if plain.get("outcomes"):
            ranker.outcomes = OutcomeHeads(tuple(plain["outcomes"]), ranker.outcome_width)
        ranker.load_state_dict(load_file(path / "ranker.safetensors"))
        return ranker.eval()


class _SetBlock(nn.Module):
    """Pre-norm self-attention and feed-forward over a set; no positions."""

    def __init__(self, cfg: RankerConfig) -> None:
        super().__init__()
        self.num_heads = cfg.num_heads
        self.norm = nn.LayerNorm(cfg.dim)
        self.qkv = nn.Linear(cfg.dim, 3 * cfg.dim)
        self.project = nn.Linear(cfg.dim, cfg.dim)
        self.ffn = nn.Sequential(
            nn.LayerNorm(cfg.dim), nn.Linear(cfg.dim, 2 * cfg.dim), nn.GELU(), nn.Linear(2 * cfg.dim, cfg.dim)
        )
        self.dropout = Dropout(cfg.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, dim = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=mask)
        x = x + self.dropout(self.project(mixed.transpose(1, 2).reshape(batch, length, dim)))
        out: Tensor = x + self.dropout(self.ffn(x))
        return out


def log_odds(scores: Tensor) -> Tensor:
    """Log-odds of each candidate's softmax share in its set: log(p / (1 - p)), stable at both ends."""
    log_share = torch.log_softmax(scores, dim=-1)
    return log_share - torch.log1p(-log_share.exp().clamp_max(1 - 1e-6))
