"""What is killed anywhere goes on and leaves what an undisturbed one leaves: runs, sweeps and
their jobs, notebooks."""

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
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for kind, tries in (("run", 6), ("sweep", 2), ("inline", 1)):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{kind}: ")]
        assert line.endswith(f" crash points, {tries} tried, 0 differ"), said
