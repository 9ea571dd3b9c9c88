"""The built-in generated shop: raw files like any shop's, and the truth behind them.

    words       product types, brands, colours and their synonyms
    catalogue   products, which one follows which
    preference  the truth: P(next item) for any user, last item, query and time
    queries     spellings of searches; a test set of hard queries
    log         users' events, drawn from the truth
    files       the raw files, dirt included
    oracle      the best possible ranking, and its metrics

Everything follows from `ShopConfig`: the same settings give the same bytes.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from txrec.config import ShopConfig
from txrec.simulator import catalogue, files, log, preference, queries
from txrec.simulator.catalogue import Catalogue
from txrec.simulator.log import Actions, Log
from txrec.simulator.preference import Preference, Tastes
from txrec.simulator.queries import RobustQuery

__all__ = ["Shop", "robust_queries", "write"]


@dataclass(frozen=True, eq=False)
class Shop:
    """A generated shop: its products, its users' true preference and its log."""

    cfg: ShopConfig
    catalogue: Catalogue
    tastes: Tastes
    preference: Preference
    actions: Actions

    @classmethod
    def generate(cls, cfg: ShopConfig) -> "Shop":
        """Makes the shop that the settings describe; a few seconds at the default size."""
        rng = np.random.default_rng((cfg.seed, 0))
        products = catalogue.generate(cfg, rng)
        tastes = preference.generate_tastes(cfg, rng)
        truth = preference.generate(cfg, products, tastes, rng)
        return cls(cfg, products, tastes, truth, log.simulate(cfg, truth, rng))

    @cached_property
    def queries(self) -> NDArray[np.object_]:
        """(A,) the query of every search action as typed, None for other actions."""
        return log.texts(self.actions, self.preference, self.tastes, np.random.default_rng((self.cfg.seed, 1)))

    @cached_property
    def log(self) -> Log:
        """All events in time order."""
        return log.events(self.actions, self.queries, np.random.default_rng((self.cfg.seed, 2)))


def write(cfg: ShopConfig, folder: Path) -> None:
    """Writes the raw files of the shop that the settings describe into a folder; see `files`."""
    shop = Shop.generate(cfg)
    files.write(folder, shop.catalogue, shop.log, np.random.default_rng((cfg.seed, 4)))
    if shop.tastes.group is not None:
        files.write_users(folder, shop.tastes.group, np.random.default_rng((cfg.seed, 7)))


def robust_queries(cfg: ShopConfig, num: int = 400) -> list[RobustQuery]:
    """A test set of misspelt, reordered, inflected, mixed-script ... queries with the items that they ask for."""
    products = catalogue.generate(cfg, np.random.default_rng((cfg.seed, 0)))
    return queries.robust_queries(cfg, products, num)
