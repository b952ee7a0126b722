"""A sample of damaged files of every kind; many more: ``python -m tests.fuzz KIND --count N``."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_sample_of_damaged_files_is_named_or_read():
    kinds = ("bank", "checkpoints", "runs")
    command = [sys.executable, "-m", "tests.fuzz", *kinds, "--count", "60", "--seconds", "20"]
    how = {"cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True}
    done = subprocess.run(command, capture_output=True, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in kinds:
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{kind}: ")]
        assert ", 0 faults" in line, line
