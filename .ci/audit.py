"""Audit of constraints.txt against the database of known vulnerabilities, by pip-audit.

    python .ci/audit.py        exit code 1: a pinned version has a known vulnerability

One package is looked up first. Where the vulnerability service cannot be reached, or does not know that package, the
audit says so and exits with 0: a machine without access to the service cannot fail because of it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
PROBE = "pydantic=="
"""Start of the line of constraints.txt that is looked up first."""


def audit(requirements: str) -> list[dict[str, Any]] | None:
    """What pip-audit says about exact requirements, one record per package; None = the service did not answer."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        options = ["-r", file.name, "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        command = [sys.executable, "-m", "pip_audit", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        records: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except json.JSONDecodeError:
        if "ConnectionError" in done.stderr or "ServiceError" in done.stderr:
            return None
        sys.stderr.write(done.stderr)
        raise SystemExit(done.returncode) from None
    return None if all("skip_reason" in record for record in records) else records


def main() -> int:
    """Prints the result and returns the exit code."""
    lines = [line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if "==" in line]
    probe = next(line for line in lines if line.startswith(PROBE))
    records = audit(probe) and audit("\n".join(lines))
    if not records:
        print("audit: the vulnerability service cannot be reached; nothing was audited")
        return 0
    vulnerable = [record for record in records if record.get("vulns")]
    for record in vulnerable:
        ids = ", ".join(found["id"] for found in record["vulns"])
        print(f"audit: {record['name']} {record['version']}: {ids}")
    print(f"audit: {len(records)} packages, {len(vulnerable)} with known vulnerabilities")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
