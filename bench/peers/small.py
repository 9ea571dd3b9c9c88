"""A small generated shop, on which scripts that set a peer next to txrec are tried in seconds."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from txrec import simulator
from txrec.config import Config
from txrec.config_loader import load
from txrec.data.preparation import preparation

ROOT = Path(__file__).resolve().parents[2]
SHOP = ("data.shop.num_items=200", "data.shop.num_users=300", "data.shop.num_events=8000", "data.shop.days=30")


def prepared(overrides: Sequence[str] = ()) -> Config:
    """Generates and prepares it anew below `.bench/small`; its configuration, with more settings on top."""
    root = ROOT / ".bench" / "small"
    shutil.rmtree(root, ignore_errors=True)
    own = [*SHOP, *overrides, f"runs_root={root}/runs", f"data.root={root}/raw"]
    config = load(ROOT / "configs" / "demo.toml", own)
    assert config.data.shop is not None
    simulator.write(config.data.shop, Path(config.data.root))
    preparation.run(config, preparation.InProcess())
    return config
