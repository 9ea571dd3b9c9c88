"""Exception hierarchy of txrec. A user can always act on the message.

    TxrecError                    anything below; the command line prints its message and exits with `exit_code`
    ├── ConfigError               a TOML file or an override: unknown key, bad value
    ├── DataError                 a source that cannot be used: missing file, missing column, too much rejected
    ├── StorageError              object storage that cannot be used, or a place that machines do not share
    ├── ClusterError              a cluster whose machines cannot do the work: no package, no address, no Ray
    ├── StageError                a stage was started before the stage whose output it reads
    ├── TrainingError             training cannot go on: NaN loss, no training example
    ├── BundleError               a bundle that is missing, damaged or of another version
    └── RequestError              a request that cannot be answered; `field` names its offending field
        ├── UnknownItemError      an item_id that the catalogue does not hold
        ├── UnknownRuleError      a merchandising rule that does not exist
        ├── UnknownExperimentError  an experiment that does not exist
        ├── UnknownVersionError   a version that the registry does not hold
        ├── ConflictError         a change that the present state does not allow
        └── UnavailableError      a part of the system is down for now; trying again later is right

A message states the value found, the value expected and the remedy, and names file, row or field.
"""

from pydantic_core import PydanticCustomError

FIELD_ERROR = "field_of_several"
"""Type of pydantic's errors whose context names the field that a check of several fields refuses."""


def field_error(field: str, message: str) -> PydanticCustomError:
    """Error of a pydantic validator of several fields, which would otherwise name none of them."""
    return PydanticCustomError(FIELD_ERROR, "{message}", {"field": field, "message": message})


class InvariantError(Exception):
    """A contradiction inside txrec, e.g. rows lost between reading and writing: a bug to report, not the caller's.

    It is no TxrecError: the command line shows its traceback. Unlike `assert` it is raised under `python -O` too.
    """


class TxrecError(Exception):
    """Base of all errors that are the caller's to solve, not a bug of txrec."""

    exit_code = 1


class ConfigError(TxrecError):
    """A configuration that cannot be used. The message names file, key, value and the allowed values."""

    exit_code = 2


class DataError(TxrecError):
    """Input data that cannot be used. The message names the file and, where known, row and column."""

    exit_code = 3


class StorageError(TxrecError):
    """Storage that cannot be used. The message names the place and the setting or variable to change."""

    exit_code = 3


class ClusterError(TxrecError):
    """A cluster that cannot do the work. The message names the machine and what to change there."""

    exit_code = 3


class StageError(TxrecError):
    """A stage's input is not there yet. The message names the command that makes it."""

    exit_code = 4


class TrainingError(TxrecError):
    """Training cannot go on. The message names the step and the last good checkpoint."""

    exit_code = 5


class BundleError(TxrecError):
    """A bundle that cannot be opened or published. The message names the file and the mismatch."""

    exit_code = 6


class RequestError(TxrecError):
    """A request that cannot be answered.

    Attributes:
        field: dotted path of the offending field, e.g. `filters.price.min`.
    """

    exit_code = 7

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[type["RequestError"], tuple[str, str]]:
        return type(self), (self.field, str(self))  # it travels between processes


class UnknownItemError(RequestError):
    """An item_id that the catalogue does not hold."""

    @classmethod
    def of(cls, field: str, item_id: str, where: str = "") -> "UnknownItemError":
        """The error about an item_id in a field of a request; `where` names the part of a body that holds it."""
        return cls(field, f"{where}{item_id!r} is not in the catalogue; expected an item_id that it holds")


class UnknownRuleError(RequestError):
    """A merchandising rule that does not exist."""


class UnknownExperimentError(RequestError):
    """An experiment that does not exist."""


class UnknownVersionError(RequestError):
    """A version of a model that the registry does not hold."""


class ConflictError(RequestError):
    """A change that the present state does not allow, e.g. a bundle that may not take traffic. The message says why."""


class UnavailableError(RequestError):
    """A part of the system is down for now; the same request may succeed later."""
