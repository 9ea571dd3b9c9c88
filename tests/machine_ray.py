"""Ray's command line on a machine of the tests: raylets that it starts fork workers from the machine's fork server."""

import sys
from pathlib import Path


def main() -> None:
    sys.path[0] = str(Path(__file__).parent.parent)
    import pytest
    from ray.scripts import scripts

    from tests.workers import start_clients

    with pytest.MonkeyPatch.context() as patch:
        start_clients(patch)
        scripts.main()


if __name__ == "__main__":
    main()
