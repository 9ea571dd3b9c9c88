"""Start of a training: from random weights, or from an earlier bundle (`train.start_from`)."""

import json
from dataclasses import dataclass
from pathlib import Path

from pipelines.runs.bundles import bundle_folder
from txrec.config import Config
from txrec.data.prepared import PreparedData
from txrec.errors import BundleError
from txrec.recommender.bundle import Bundle
from txrec.train.warm_start import FULL, WARM, Lineage, obstacle

_ORIGIN = "continued.json"
"""File in the text encoder's folder with the version that it continues."""


@dataclass(frozen=True, eq=False)
class Start:
    """Start of a training, with its reason.

    Attributes:
        earlier: the bundle that it continues from; None = a full training.
        reason: one sentence.
    """

    earlier: Bundle | None
    reason: str

    @property
    def version(self) -> str:
        """Version of the earlier bundle; empty without one."""
        return "" if self.earlier is None else self.earlier.manifest.version

    def lineage(self, reached: float | None, seconds: float) -> Lineage:
        """Origin of the model that was trained from here."""
        if self.earlier is None:
            return Lineage(FULL, self.reason, reference=reached, reached=reached, seconds=seconds)
        before = Lineage.of(self.earlier)
        return Lineage(WARM, self.reason, self.version, before.rounds + 1, before.reference, reached, seconds)


NO_START = Start(None, "")


def start_of(config: Config, data: PreparedData) -> Start:
    """The start that the configuration asks for, or a full training where that is not possible or has gone on too long.

    Raises:
        BundleError: `train.start_from` names a bundle that is not there, other than `production`.
    """
    name = config.train.start_from
    if not name:
        return NO_START
    try:
        earlier = Bundle.open(bundle_folder(config, name))
    except BundleError:
        if name != "production":
            raise
        return Start(None, "no bundle is in production yet")
    why_not = obstacle(config, data, earlier)
    if why_not:
        return Start(None, why_not)
    return Start(earlier, f"continues {earlier.manifest.version}")


def continues(text_dir: Path | None, start: Start) -> bool:
    """True where a text encoder is the one that a start needs: that of the same bundle, trained on."""
    if start.earlier is None or text_dir is None:
        return True
    file = text_dir / _ORIGIN
    return file.is_file() and bool(json.loads(file.read_text(encoding="utf-8")) == start.version)


def mark(text_dir: Path, start: Start) -> None:
    """Notes next to a text encoder which version it continues."""
    if start.earlier is not None:
        (text_dir / _ORIGIN).write_text(json.dumps(start.version), encoding="utf-8")
