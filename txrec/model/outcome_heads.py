"""Outcome heads: calibrated probabilities that a shown product is put into the cart, or bought.

Carts and purchases are rare compared with clicks, and follow them. So the probability of one is that of a click times
that of the event given a click (Ma et al., SIGIR 2018, "Entire space multi-task model"), and only the second factor is
learned here: a logistic function of what the ranker knows of a candidate. The product is calibrated on held-out
requests, over everything that was shown.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUTCOMES = ("cart", "purchase")
"""Kinds of events that heads estimate, where the log has them."""
PRIOR = 20.0
"""Inverse variance of the prior that holds the weights of a head to zero, in examples per unit."""
ITERATIONS = 100
"""Maximum of L-BFGS."""
LEAST = 1e-7
"""Probabilities are kept this far from 0 and 1."""


class OutcomeHeads(nn.Module):
    """Logistic heads over W inputs, one per kind of event."""

    calibration: Tensor

    def __init__(self, kinds: tuple[str, ...], width: int) -> None:
        """Takes the kinds of events, some of `OUTCOMES`, and W."""
        super().__init__()
        self.kinds = kinds
        self.given_click = nn.Linear(width, len(kinds))
        nn.init.zeros_(self.given_click.weight)
        nn.init.zeros_(self.given_click.bias)
        self.register_buffer("calibration", torch.tensor([[1.0, 0.0]] * len(kinds)))  # slope, intercept of the log-odds

    def forward(self, inputs: Tensor, click: Tensor) -> dict[str, Tensor]:
        """Kind = (B, K) calibrated probability, never above that of a click.

        Args:
            inputs: (B, K, W).
            click: (B, K) calibrated probabilities of a click.
        """
        odds = self.log_odds(inputs, click)
        slope, intercept = self.calibration.unbind(1)
        probabilities = torch.sigmoid(slope * odds + intercept)
        return {kind: torch.minimum(probabilities[..., column], click) for column, kind in enumerate(self.kinds)}

    def log_odds(self, inputs: Tensor, click: Tensor) -> Tensor:
        """(..., kinds) uncalibrated log-odds for (..., W) inputs and (...) probabilities of a click."""
        joint = click.unsqueeze(-1) * torch.sigmoid(self.given_click(inputs))
        return torch.logit(joint.clamp(LEAST, 1 - LEAST))

    def fit(self, inputs: Tensor, outcome: Tensor) -> None:
        """Fits the heads to their optimum, a convex problem.

        Args:
            inputs: (n, W) of clicked candidates.
            outcome: (n, kinds) bool, whether each event followed.
        """
        target = outcome.to(inputs.dtype)
        rate = (target.sum(0) + 1) / (len(target) + 2)
        with torch.no_grad():
            self.given_click.weight.zero_()
            self.given_click.bias.copy_(torch.logit(rate))
        level = self.given_click.bias.detach().clone()
        solver = torch.optim.LBFGS(self.given_click.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            solver.zero_grad()
            distance = (self.given_click.weight**2).sum() + ((self.given_click.bias - level) ** 2).sum()
            logits = self.given_click(inputs)
            loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") + PRIOR / 2 * distance
            loss = loss / len(target)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        solver.step(closure)  # type: ignore[no-untyped-call]


def platt(log_odds: Tensor, outcome: Tensor) -> Tensor:
    """Platt scaling (Platt, 1999): (2,) slope and intercept of calibrated log-odds; the order stays.

    Outcomes are drawn towards each other by as much as one more of either kind would, as in the paper: separable ones
    would give probabilities of 0 and 1, which nothing could be multiplied with.

    Args:
        log_odds: (n,) float64 of held-out candidates.
        outcome: (n,) float64 outcomes, 0 to 1.
    """
    num_positive = outcome.sum()
    highest, lowest = (num_positive + 1) / (num_positive + 2), 1 / (len(outcome) - num_positive + 2)
    target = lowest + (highest - lowest) * outcome
    parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.binary_cross_entropy_with_logits(parameters[0] * log_odds + parameters[1], target)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    slope, intercept = parameters.detach().tolist()
    return torch.tensor([max(slope, 1e-3), intercept])
