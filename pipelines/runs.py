"""Files of a run in object storage: which parts each machine fetches before it works, and shares afterwards."""

from txrec import object_storage
from txrec.config import Config

STAGES_FILE = "stages.json"
_PARTS = ("data", "checkpoints/text", "checkpoints/history", "checkpoints/tensorboard", "candidate", "reports")
_TRAINING_INPUTS = ("data", "checkpoints/text")


def fetch(config: Config) -> None:
    """Brings this machine's working copy of a run up to date; does nothing for a run on a file system.

    Raises:
        StorageError: the store cannot be reached, or refuses.
    """
    for part in (STAGES_FILE, *_PARTS):
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
    """Uploads what a stage has changed in this machine's working copy, stages.json last."""
    for part in (*_PARTS, STAGES_FILE):
        object_storage.share(config.run_dir / part)
