"""What several files of this room are tested on."""

import subprocess

import pytest

from tests.helpers import ROOT
from tests.study.sweeps import COMMAND, recipe


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep from the command line, nothing in its way. Returns: its recipe, root and output."""
    file = recipe(tmp_path_factory.mktemp("sweep"))
    command = [*COMMAND, str(file), "--plain"]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr
    return file, file.parent / "root", out
