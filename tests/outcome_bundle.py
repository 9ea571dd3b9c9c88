"""A tiny bundle whose ranker estimates purchases: users of every second kind of product buy what they click."""

from pathlib import Path

from tests import tiny_bundle
from tests.tiny import tiny_data
from txrec.data.prepared import PreparedData


def data(folder: Path) -> PreparedData:
    """The tiny data set with purchases of kinds 0, 2 and 4 on every day."""
    return tiny_data(folder / "data", num_users=160, buys=lambda kind, day: kind % 2 == 0)


def write(folder: Path, outcomes: bool = True) -> Path:
    """Trains and writes `folder`/candidate."""
    ranker = tiny_bundle.CONFIG.ranker.model_copy(update={"outcomes": outcomes})
    return tiny_bundle.write(folder, data(folder), tiny_bundle.CONFIG.model_copy(update={"ranker": ranker}))
