"""A run that is killed anywhere goes on and leaves what an undisturbed one leaves."""

import os
import subprocess
import sys
from pathlib import Path


def test_a_sample_of_the_crash_points():
    """All of them: ``python -m tests.crash --every``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash"],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "6 tried, 0 differ" in done.stdout, done.stdout + done.stderr
