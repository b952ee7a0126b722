"""A sample of damaged files of every kind; many more: ``python -m tests.fuzz KIND --count N``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["bank", "checkpoints", "runs"])
def test_a_sample_of_damaged_files_is_named_or_read(kind):
    command = [sys.executable, "-m", "tests.fuzz", kind, "--count", "60", "--seconds", "20"]
    how = {"cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True}
    done = subprocess.run(command, capture_output=True, **how)
    assert done.returncode == 0 and ", 0 faults" in done.stdout, done.stdout + done.stderr
