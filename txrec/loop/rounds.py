"""Rounds of retraining as a durable state machine: after kill -9 at any point a restart goes on, and nothing is twice.

    loop/
    ├── .lock            held by the one process that runs the loop
    ├── state.json       the present or last round: next step and the results of the steps before
    └── journal.jsonl    one line per finished step, with the inequality that decided

A step is done first, then written to the journal, then left in the state. A process that dies in between does the last
step again, so that steps must give the same result when they are done twice; the journal holds each step of a round
once all the same.
"""

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from txrec.errors import StageError
from txrec.storage import make_folder, write_text

Outcome = Literal["done", "wait", "end"]
FINISHED = "finished"


@dataclass(frozen=True)
class StepResult:
    """Result of one step.

    Attributes:
        outcome: done = go on with the next step; wait = ask again later; end = the round ends, with the last step
            alone to come.
        text: for people, with the inequality where the step decided something.
        fields: for later steps, as JSON holds them.
    """

    outcome: Outcome
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        number: from 1.
        trigger: why it started.
        started_us: microseconds since 1970 UTC.
        step: the next one, or `finished`.
        results: fields of the steps that are done.
    """

    number: int
    trigger: str
    started_us: int
    step: str
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """True where no step is left."""
        return self.step == FINISHED

    def result(self, step: str, name: str) -> Any:
        """Field of a step that is done.

        Raises:
            StageError: the state does not hold it, as another version wrote it or somebody changed it.
        """
        try:
            return self.results[step][name]
        except KeyError:
            raise StageError(
                f"round {self.number}: its state has no results.{step}.{name}, which step {self.step!r} needs; another "
                "version of txrec wrote it: finish the round with that one, or remove loop/state.json for a new round"
            ) from None


@dataclass(frozen=True)
class Entry:
    """A line of the journal.

    Attributes:
        round: its number.
        step: that was done.
        at_us: when, microseconds since 1970 UTC.
        outcome: `done` or `end`.
        text: action or decision.
    """

    round: int
    step: str
    at_us: int
    outcome: Outcome
    text: str


Step = Callable[[Round], StepResult]


def _first(error: ValidationError | UnicodeDecodeError) -> str:
    """First reason of an error, with the field where it names one."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8 text"
    reason = error.errors()[0]
    return ": ".join(part for part in (".".join(map(str, reason["loc"])), reason["msg"]) if part)


class RoundStore:
    """State and journal of a loop in one folder."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder; it need not exist yet."""
        self.folder = folder
        self._state = folder / "state.json"
        self._journal = folder / "journal.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Excludes other loops; a lock of a process that died is free.

        Raises:
            StageError: another loop runs.
        """
        make_folder(self.folder)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StageError(f"{self.folder}: another `txrec loop` of this run is under way; let it end") from None
            yield

    def read(self) -> Round | None:
        """The present or last round; None before the first.

        Raises:
            StageError: the file is damaged, or of a version that this one cannot read.
        """
        if not self._state.is_file():
            return None
        try:
            text = self._state.read_text(encoding="utf-8")
            return TypeAdapter(Round).validate_json(text, extra="ignore")  # fields of later versions do no harm
        except (ValidationError, UnicodeDecodeError) as error:
            raise StageError(
                f"{self._state}: is no state of `txrec loop` ({_first(error)}); remove it to begin a new "
                "round: registered versions stay, and the journal goes on"
            ) from None

    def save(self, round_: Round) -> Round:
        """Writes the round durably and returns it."""
        write_text(self._state, json.dumps(asdict(round_), indent=1))
        return round_

    def journal(self) -> list[Entry]:
        """All entries, oldest first; a line that a dying process did not finish is left out.

        Raises:
            StageError: the file cannot be read, or a line of it is no entry.
        """
        if not self._journal.is_file():
            return []
        try:
            lines = self._journal.read_text(encoding="utf-8").split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            raise StageError(f"{self._journal}: cannot be read ({error}); repair it, or move it away") from None
        entries = []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                entries.append(self._entry(number, line))
        return entries

    def _entry(self, number: int, line: str) -> Entry:
        try:
            return TypeAdapter(Entry).validate_json(line, extra="ignore")
        except ValidationError as error:
            raise StageError(
                f"{self._journal}, line {number}: is no entry of the journal ({_first(error)}); remove the line, or "
                "move the file away to begin a new one"
            ) from None

    def record(self, entry: Entry) -> bool:
        """Adds an entry unless the journal holds that step of that round; whether it was added."""
        present = self.journal()
        if any((one.round, one.step) == (entry.round, entry.step) for one in present):
            return False
        text = "".join(json.dumps(asdict(one)) + "\n" for one in (*present, entry))
        write_text(self._journal, text)
        return True


def advance(
    store: RoundStore,
    round_: Round,
    steps: Sequence[tuple[str, Step]],
    now_us: Callable[[], int],
    notify: Callable[[Entry], None],
) -> Round:
    """Does the steps of a round until it is finished or a step waits; returns the round as it stands then.

    Args:
        store: state and journal, locked by this process.
        round_: as `store` holds it.
        steps: names and functions in order; the last one is done whatever the others decide.
        now_us: microseconds since 1970 UTC.
        notify: told of every step; after a crash perhaps once more.

    Raises:
        StageError: the round waits for a step that there is not.
    """
    names = [name for name, _ in steps]
    functions = dict(steps)
    if round_.step not in (*names, FINISHED):
        raise StageError(
            f"{store.folder / 'state.json'}: the next step is {round_.step!r}, which this version of txrec has not; "
            f"expected one of {', '.join(names)}; finish the round with the version that began it, or remove the file"
        )
    while not round_.finished:
        name = round_.step
        result = functions[name](round_)
        if result.outcome == "wait":
            return round_
        entry = Entry(round_.number, name, now_us(), result.outcome, result.text)
        store.record(entry)
        notify(entry)
        following = [*names[names.index(name) + 1 :], FINISHED]
        step = names[-1] if result.outcome == "end" and name != names[-1] else following[0]
        round_ = store.save(replace(round_, step=step, results={**round_.results, name: dict(result.fields)}))
    return round_
