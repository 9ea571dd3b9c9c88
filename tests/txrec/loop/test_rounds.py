"""Rounds of retraining: killed at every step and restarted, they go on, and nothing is twice."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from txrec.errors import StageError
from txrec.loop.rounds import FINISHED, Entry, Round, RoundStore, StepResult, advance

NAMES = ("export", "prepare", "train", "evaluate", "off_policy", "publish", "canary", "decide", "prune")
KILLS = ("before the step", "after the step", "after the journal", "after the notification")


@dataclass
class Process:
    """Runs a round whose steps leave files, and dies by SIGKILL at one point."""

    folder: Path
    step: str = ""
    point: str = ""

    def dies(self, step: str, point: str) -> None:
        if (step, point) == (self.step, self.point):
            os.kill(os.getpid(), signal.SIGKILL)

    def work(self, name: str) -> Callable[[Round], StepResult]:
        def step(round_: Round) -> StepResult:
            self.dies(name, "before the step")
            number = len(round_.results)
            (self.folder / f"{name}.result").write_text(str(number))
            self.dies(name, "after the step")
            return StepResult("done", f"{name} is done", {"number": number})

        return step

    def run(self) -> Round:
        store = RoundStore(self.folder / "loop")
        record = store.record

        def recorded(entry: Entry) -> bool:
            added = record(entry)
            self.dies(entry.step, "after the journal")
            return added

        store.record = recorded  # type: ignore[method-assign]
        with store.locked():
            present = store.read() or store.save(Round(1, "test", 0, NAMES[0]))
            steps = [(name, self.work(name)) for name in NAMES]
            return advance(store, present, steps, lambda: 5, lambda one: self.dies(one.step, "after the notification"))


def in_child(process: Process) -> int:
    """Signal that ended a process of its own; 0 = none."""
    child = os.fork()
    if child == 0:
        try:
            process.run()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("point", KILLS)
@pytest.mark.parametrize("step", NAMES)
def test_a_round_that_is_killed_goes_on_after_a_restart_and_nothing_is_twice(
    tmp_path: Path, step: str, point: str
) -> None:
    assert in_child(Process(tmp_path, step, point)) == signal.SIGKILL
    finished = Process(tmp_path).run()
    assert finished.step == FINISHED
    assert {name: dict(fields) for name, fields in finished.results.items()} == {
        name: {"number": place} for place, name in enumerate(NAMES)
    }
    assert [one.step for one in RoundStore(tmp_path / "loop").journal()] == list(NAMES)
    assert [int((tmp_path / f"{name}.result").read_text()) for name in NAMES] == list(range(len(NAMES)))


def rounds_of(store: RoundStore, *outcomes: tuple[str, StepResult]) -> tuple[Round, list[Entry]]:
    told: list[Entry] = []
    steps = [(name, lambda _, result=result: result) for name, result in outcomes]
    present = store.read() or store.save(Round(1, "test", 0, outcomes[0][0]))
    return advance(store, present, steps, lambda: 5, told.append), told


def test_a_step_that_waits_is_asked_again_and_leaves_no_entry(tmp_path: Path) -> None:
    store = RoundStore(tmp_path)
    rest = (("b", StepResult("wait", "")), ("c", StepResult("done", "c")))
    waiting, told = rounds_of(store, ("a", StepResult("done", "a")), *rest)
    assert (waiting.step, [one.step for one in told]) == ("b", ["a"])
    assert store.read() == waiting
    going, _ = rounds_of(store, ("a", StepResult("done", "twice")), ("b", StepResult("done", "b")), rest[1])
    assert going.finished
    assert [one.text for one in store.journal()] == ["a", "b", "c"]


def test_a_decision_against_the_candidate_skips_to_the_last_step(tmp_path: Path) -> None:
    store = RoundStore(tmp_path)
    results = (("a", StepResult("end", "0.1 < 0.2")), ("b", StepResult("done", "b")), ("c", StepResult("done", "c")))
    finished, told = rounds_of(store, *results)
    assert finished.finished
    assert [(one.step, one.outcome) for one in told] == [("a", "end"), ("c", "done")]


def test_two_loops_never_run(tmp_path: Path) -> None:
    first, second = RoundStore(tmp_path), RoundStore(tmp_path)
    with first.locked(), pytest.raises(StageError, match="another `txrec loop`"), second.locked():
        pass
    with second.locked():
        pass


def test_a_line_that_a_dying_process_did_not_finish_is_left_out(tmp_path: Path) -> None:
    store = RoundStore(tmp_path)
    store.record(Entry(1, "a", 5, "done", "a"))
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('{"round": 1, "st')
    assert [one.step for one in store.journal()] == ["a"]
    assert store.record(Entry(1, "b", 5, "done", "b"))
    assert not store.record(Entry(1, "a", 9, "done", "again"))
    assert [one.step for one in store.journal()] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOF"),
        (b"{", "EOF"),
        (b"[]", "object"),
        (b"\xff\xfe", "no UTF-8 text"),
        (b'{"number": 1, "trigger": "first round", "started_us": 5}', "step: Field required"),
        (b'{"number": "one", "trigger": "t", "started_us": 5, "step": "export"}', "number"),
        (b'{"number": 1, "trigger": "t", "started_us": 5, "step": "export", "results": {"export": 3}}', "results"),
    ],
)
def test_a_damaged_state_is_named_with_the_remedy(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(StageError, match=r"state\.json: is no state of `txrec loop` .*remove it") as caught:
        RoundStore(tmp_path).read()
    assert reason in str(caught.value)
    assert (tmp_path / "state.json").read_bytes() == content


def test_a_state_with_fields_of_a_later_version_is_read(tmp_path: Path) -> None:
    store = RoundStore(tmp_path)
    store.save(Round(3, "schedule", 5, "train", {"export": {"until_us": 4}}))
    document = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({**document, "owner": "later"}))
    assert store.read() == Round(3, "schedule", 5, "train", {"export": {"until_us": 4}})


def test_a_step_of_another_version_is_refused_and_nothing_is_done(tmp_path: Path) -> None:
    store = RoundStore(tmp_path)
    present = store.save(Round(1, "first round", 5, "shadow"))
    with pytest.raises(StageError, match="next step is 'shadow', which this version of txrec has not"):
        advance(store, present, [("export", lambda _: StepResult("done", "never"))], lambda: 0, lambda _: None)
    assert store.read() == present
    assert store.journal() == []


def test_a_result_that_the_state_lacks_is_named() -> None:
    with pytest.raises(StageError, match=r"no results\.publish\.version, which step 'canary' needs"):
        Round(2, "schedule", 5, "canary", {"publish": {}}).result("publish", "version")


def test_a_line_of_the_journal_that_is_no_entry_is_named_by_its_number(tmp_path: Path) -> None:
    store = RoundStore(tmp_path)
    store.record(Entry(1, "export", 5, "done", "export is done"))
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write("{}\n")
    with pytest.raises(StageError, match=r"journal\.jsonl, line 2: is no entry of the journal"):
        store.record(Entry(1, "prepare", 6, "done", "prepare is done"))
    (tmp_path / "journal.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(StageError, match="cannot be read"):
        store.journal()


def test_on_a_full_disk_the_state_stays_as_it_was_and_no_part_is_left(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: a write beyond it fails in the same way."""
    store = RoundStore(tmp_path)
    before = store.save(Round(1, "first round", 5, "export"))
    script = (
        "import sys\nfrom pathlib import Path\nfrom txrec.loop.rounds import Round, RoundStore\n"
        "RoundStore(Path(sys.argv[1])).save(Round(2, 'x' * 100_000, 5, 'export'))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )
    assert "File too large" in ended.stderr
    assert store.read() == before
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
