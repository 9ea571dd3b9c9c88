import subprocess
import sys
from itertools import product

from txrec.train.seeds import step_seed


def test_every_combination_of_seed_step_and_rank_has_a_seed_of_its_own() -> None:
    seeds = {step_seed(*numbers) for numbers in product(range(10), [*range(100), 500_009, 2**40], range(4))}
    assert len(seeds) == 10 * 102 * 4


def test_a_seed_is_the_same_in_another_process() -> None:
    code = "from txrec.train.seeds import step_seed; print(step_seed(-3, 7, 1))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == step_seed(-3, 7, 1)
