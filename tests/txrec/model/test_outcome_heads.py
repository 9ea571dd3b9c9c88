import torch

from txrec.model.outcome_heads import OutcomeHeads


def test_heads_learn_which_clicked_products_are_bought_and_calibration_corrects_them() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(4_000, 3)
    chance = torch.sigmoid(2 * inputs[:, 0] - 1)
    heads = OutcomeHeads(("purchase",), 3)
    heads.fit(inputs, torch.rand(4_000, 1) < chance[:, None])
    learned = heads(inputs[None], torch.ones(1, 4_000))["purchase"][0]
    assert (learned - chance).abs().mean() < 0.03
    heads.calibration.copy_(torch.tensor([[1.0, -3.0]]))
    assert (heads(inputs[None], torch.ones(1, 4_000))["purchase"][0] < learned).all()


def test_a_purchase_is_never_more_probable_than_a_click() -> None:
    heads = OutcomeHeads(("cart", "purchase"), 2)
    heads.calibration.copy_(torch.tensor([[1.0, 9.0], [1.0, 9.0]]))
    click = torch.tensor([[0.5, 0.01, 0.0]])
    for probability in heads(torch.zeros(1, 3, 2), click).values():
        assert (probability <= click).all()


def test_an_event_that_every_click_led_to_has_about_the_probability_of_the_click() -> None:
    heads = OutcomeHeads(("purchase",), 2)
    heads.fit(torch.randn(500, 2), torch.ones(500, 1, dtype=torch.bool))
    assert float(heads(torch.zeros(1, 1, 2), torch.tensor([[0.4]]))["purchase"].detach()) > 0.39
