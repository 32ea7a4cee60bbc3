"""What `rag-app --help` costs beside a bare interpreter, as CPU time and as a ratio.

Each round runs both commands once, so that what else the machine does falls on both.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 15
LIMIT_MS = 150


def main() -> None:
    """Print both medians, their ratio, and whether the limit holds."""
    tool = str(Path(sys.executable).parent / "rag-app")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "rag-app --help": [tool, "--help"],
    }
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            spent[name].append(_cpu_ms(command))
    medians = {name: statistics.median(ms) for name, ms in spent.items()}
    for name, median in medians.items():
        print(f"{name:<16} {median:7.1f} ms CPU (median of {ROUNDS}, min {min(spent[name]):.1f})")
    ratio = medians["rag-app --help"] / medians["python -c pass"]
    verdict = "within" if medians["rag-app --help"] <= LIMIT_MS else "OVER"
    print(f"ratio {ratio:.1f}; {verdict} the limit of {LIMIT_MS} ms")


def _cpu_ms(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


if __name__ == "__main__":
    main()
