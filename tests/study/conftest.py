"""What several files of this room are tested on."""

import pytest

from tests.study.sweeps import cli, recipe


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep with nothing in its way. Returns: its recipe, its root and what it printed."""
    file = recipe(tmp_path_factory.mktemp("sweep"))
    out = cli("sweep", file, "--plain")
    assert out.exit_code == 0, out.output
    return file, file.parent / "root", out.stdout
