"""The check on a GPU is never stale when one appears: its sections are there, and it runs here."""

import json
import subprocess
import sys

import pytest

from tests.gpu.lease import section
from tests.gpu.plan import GROUPS, SECTIONS
from tests.helpers import ROOT


def test_every_section_is_there_and_in_one_group():
    assert sorted(name for group in GROUPS for name in group) == sorted(SECTIONS)
    assert all(callable(section(name)) for name in SECTIONS)


def test_it_runs_on_the_cpu_and_saves_each_row_as_it_comes(tmp_path):
    command = [sys.executable, "-m", "tests.gpu", "--tiny", "--device", "cpu", "--minutes", "4"]
    command += [
        "--only",
        "facts,large,nccl",
        "--out",
        tmp_path / "out",
        "--work",
        tmp_path / "work",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "gpu_check.json").read_text())["sections"]
    assert all("result" in found[name] for name in ("facts", "large", "nccl")), found
    graph, eager = (found["large"]["result"][kind] for kind in ("graph", "eager"))
    assert graph["kind"] == "graph" and graph["last_loss"] == pytest.approx(eager["last_loss"])
    lines = (tmp_path / "work" / "results.jsonl").read_text().splitlines()
    assert len(lines) == 6  # begun and ended, each
    assert "## large" in (tmp_path / "out" / "gpu_check.md").read_text()
