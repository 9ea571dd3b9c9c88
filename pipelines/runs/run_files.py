"""Files of a run in object storage: which parts each machine fetches before it works, and shares afterwards."""

from collections.abc import Sequence

from txrec import object_storage
from txrec.config import Config

STAGES_FILE = "stages.json"
ALL = ("data", "checkpoints/text", "checkpoints/history", "checkpoints/tensorboard", "candidate", "reports")
"""Parts of a run next to its registry, whose bundles are fetched when they are opened."""
MONITORED = ("data", "reports")
"""Parts that the monitoring report reads or adds to."""
NONE = ()
"""Parts of a command that needs the registry or the live state only."""
_TRAINING_INPUTS = ("data", "checkpoints/text")


def fetch(config: Config, parts: Sequence[str] = ALL) -> None:
    """Brings parts of this machine's working copy of a run up to date; does nothing for a run on a file system.

    Raises:
        StorageError: the store cannot be reached, or refuses.
    """
    for part in (STAGES_FILE, *parts) if parts else ():
        object_storage.fetch(config.run_dir / part)


def fetch_training_inputs(config: Config) -> None:
    """The same for the files that training reads, in a worker.

    Raises:
        StorageError: the store cannot be reached, or refuses; or this machine does not see the run's folder.
    """
    for part in _TRAINING_INPUTS:
        object_storage.fetch(config.run_dir / part)
    object_storage.require_seen(config.data_dir, "runs_root")


def share(config: Config) -> None:
    """Uploads changes of a stage in this machine's working copy, stages.json last."""
    for part in (*ALL, STAGES_FILE):
        object_storage.share(config.run_dir / part)
