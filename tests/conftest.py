import os
import sys
from pathlib import Path

# Where Python may not write bytecode beside its sources, each process that is started would compile
# torch, scikit-learn and JupyterLab anew, for up to twenty seconds.
if sys.dont_write_bytecode:
    bytecode = Path(__file__).parent.parent / ".pytest_cache" / "bytecode"
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(bytecode)
    os.environ["PYTHONPYCACHEPREFIX"] = str(bytecode)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Tests hold results against one another bit for bit, which GPUs do not promise: only those that are
# for a GPU see one, and only where they are asked for.
if os.environ.get("H2T_TEST_GPU", "0") in ("", "0"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# before anything imports torch, and for the processes that are started too: the networks of tests
# are so small that further threads wait for one another, on a busy machine many times as long
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

# the same examples every time, so that what fails has been broken;
# `--hypothesis-profile search` looks for new ones
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("h2t", settings.get_profile("search"), derandomize=True)
settings.load_profile("h2t")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data (CIFAR-100 and a trained checkpoint): ``$H2T_SHARED``, else
    ``../shared`` of the checkout.
    """
    folder = Path(os.environ.get("H2T_SHARED", Path(__file__).parent.parent.parent / "shared"))
    if not (folder / "data" / "cifar100.npz").exists():
        pytest.skip(f"real data are not at {folder} (set H2T_SHARED)")
    return folder


@pytest.fixture
def two_threads():
    """Two threads for torch; the tests have one each where several run at a time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


SLOW_FIRST = (
    "test_browser_lab",
    "test_rerun",
    "test_sweep_failures",
    "test_crash",
    "test_install",
    "test_main_job",
    "test_sweep",
    "test_cluster",
    "test_distributed",
    "test_gpu_check",
    "test_explorer",
    "test_explorer_page",
    "test_toy_page",
    "test_estimator",
    "test_training",
    "test_stage2_methods",
    "test_interrupted",
    "test_large_training",
    "test_large_files",
    "test_losses",
    "test_notebooks",
    "test_reference",
    "test_browser_report",
    "test_fuzz",
    "test_plots",
)


def pytest_collection_modifyitems(items) -> None:
    """The files that take longest first, so that no core ends with one of them alone."""
    rank = {name: k for k, name in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(SLOW_FIRST)))
