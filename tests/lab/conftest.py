"""Runs that the tests of this room share, each made once a process."""

import pytest

from h2t import train_stage1
from h2t.lab.explorer import page
from h2t.lab.explorer.engine import Explorer
from h2t.train.cached import bank as banking
from tests.helpers import digits_run, stage1_config, stage2_config


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Digits with a trained stage 1 and a bank of two views."""
    run, _ = digits_run(tmp_path_factory.mktemp("explorer") / "run")
    train_stage1(run, stage1_config(stage1_epochs=15), progress=False)
    banking.build_bank(run, stage2_config(), 2, progress=False)
    return run


@pytest.fixture(scope="session")
def engine(trained):
    return Explorer(trained, stage2_config(fusion_ratio=0.3), views=2)


@pytest.fixture(scope="session")
def saved(engine, tmp_path_factory):
    return page.save(engine, tmp_path_factory.mktemp("saved") / "explorer.html")
