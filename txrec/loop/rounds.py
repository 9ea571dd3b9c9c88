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

from txrec.errors import StageError
from txrec.storage import write_text

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
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StageError(f"{self.folder}: another `txrec loop` of this run is under way; let it end") from None
            yield

    def read(self) -> Round | None:
        """The present or last round; None before the first."""
        if not self._state.is_file():
            return None
        return Round(**json.loads(self._state.read_text(encoding="utf-8")))

    def save(self, round_: Round) -> Round:
        """Writes the round durably and returns it."""
        write_text(self._state, json.dumps(asdict(round_), indent=1))
        return round_

    def journal(self) -> list[Entry]:
        """All entries, oldest first; a line that a dying process did not finish is left out."""
        if not self._journal.is_file():
            return []
        lines = self._journal.read_text(encoding="utf-8").split("\n")[:-1]
        return [Entry(**json.loads(line)) for line in lines if line]

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
    """
    names = [name for name, _ in steps]
    functions = dict(steps)
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
