"""A head of one's own, as CONTRIBUTING says."""

import os
import re
import shutil
import subprocess
import sys

import pandas as pd

import h2t
from h2t import Data, Stage1
from tests.helpers import ROOT


def test_the_example_of_a_new_head_is_compared(tmp_path):
    """Its file and its entry in a copy of the package, and its command, on a run of one epoch."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text[text.index("## A head of your own") :]
    file = re.search(r"`(h2t/heads/\w+\.py)`", section)[1]
    code = re.search(r"```python\n(.*?)```", section, re.S)[1]
    entry = re.search(r'`("\w+": "[\w ]+",)`', section)[1]
    command = re.search(r"```sh\nuv run (h2t .*?)\n```", section, re.S)[1]
    assert len(code.splitlines()) < 30
    run = h2t.prepare(tmp_path / "runs" / "digits", Data(imbalance_factor=10), progress=False)
    short = Stage1(model="resnet20", stage1_epochs=1, precision="fp32")
    h2t.train_stage1(run, short, progress=False)
    shutil.copytree(ROOT / "h2t", tmp_path / "h2t", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / file).write_text(code)
    registry = tmp_path / "h2t" / "heads" / "__init__.py"
    registry.write_text(registry.read_text().replace('    "ce"', f'    {entry}\n    "ce"'))
    done = subprocess.run(
        [sys.executable, "-m", "h2t", *command.split()[1:], "--seeds", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "ridge regression" in done.stdout and "DR (cRT)" in done.stdout
    rows = pd.read_csv(tmp_path / "runs" / "heads" / "heads.csv")
    assert set(rows["head"]) == {"ridge", "crt"} and len(rows) == 4
