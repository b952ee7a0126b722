"""A run with a stage 1, from which several files of this room go on: trained once, not changed."""

import shutil

import pytest

from h2t import Stage1, prepare, train_stage1
from tests.helpers import digits_run, stage1_config
from tests.large import ONE, imagenet_lt, streamed_data


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Digits; to be read alone."""
    run, _ = digits_run(tmp_path_factory.mktemp("trained") / "run")
    train_stage1(run, stage1_config(), progress=False)
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy, to go on from."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A streamed run with a stage 1, and its image tree."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("H2T_WORKERS", "1")
        root = imagenet_lt(tmp_path_factory.mktemp("set"))
        run = tmp_path_factory.mktemp("runs") / "run"
        prepare(run, streamed_data(root), progress=False)
        train_stage1(run, Stage1(**ONE), progress=False)
    return run, root
