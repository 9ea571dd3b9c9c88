"""Examples of the API name users and products that the generated shop of the demonstration has."""

from pathlib import Path

import pytest

from serve.api.base import ITEMS, NEW_ITEM, USER
from txrec.config import ShopConfig
from txrec.config_loader import load
from txrec.simulator import catalogue, files

DEMO = Path(__file__).parents[3] / "configs" / "demo.toml"


@pytest.fixture(scope="module")
def shop_config() -> ShopConfig:
    shop = load(DEMO).data.shop
    assert shop is not None
    return shop


def test_the_user_of_the_examples_is_a_user_of_the_demonstration(shop_config: ShopConfig) -> None:
    assert USER in {files.user_id(user) for user in range(shop_config.num_users)}


def test_the_products_of_the_examples_are_in_the_catalogue_of_the_demonstration(shop_config: ShopConfig) -> None:
    import numpy as np

    products = catalogue.generate(shop_config, np.random.default_rng((shop_config.seed, 0))).products
    ids = {product.item_id for product in products}
    assert set(ITEMS) <= ids
    assert NEW_ITEM not in ids
