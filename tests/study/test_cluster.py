"""The same sweep on a Ray cluster: two simulated machines, one of which is lost."""

import os
import threading
import time

import pytest

from h2t import Error
from h2t.study.sweep import drive
from h2t.study.sweep import plan as sweeping
from h2t.study.sweep.cluster import Cluster
from h2t.study.sweep.pool import Pool
from tests.study.sweeps import found, recipe

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # read on import; see h2t.study.sweep.cluster
ray = pytest.importorskip("ray", reason="ray is not installed: uv sync --extra ray")


@pytest.fixture(scope="module")
def machines():
    from ray.cluster_utils import Cluster as Simulated

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Simulated()
        try:
            add_node(cluster, include_dashboard=False)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def add_node(cluster, **how):
    """A machine of one core; Ray gives up starting one after 30 s, which a busy machine needs."""
    for attempt in range(4):
        try:
            return cluster.add_node(num_cpus=1, **how)
        except Exception as e:
            if attempt == 3 or "timed out" not in str(e):
                raise


def test_a_sweep_goes_on_when_a_machine_is_lost(machines, tmp_path):
    here = sweeping.plan(recipe(tmp_path / "here", seed=[0, 1], fusion_ratio=0.3), books=None)
    drive.sweep(here, Pool(notebooks=False), progress=False)
    assert len(here.done) == 2
    second = add_node(machines)
    machines.wait_for_nodes()
    plan = sweeping.plan(recipe(tmp_path / "there", seed=[0, 1], fusion_ratio=0.3), books=None)
    pool = Cluster(machines.address)
    assert pool.slots == 2 and str(pool) == "2 at a time on 2 machines of a Ray cluster, 1 CPU each"

    def lose():
        while not list((tmp_path / "there").rglob("stage1/metrics.jsonl")):
            time.sleep(0.1)
        machines.remove_node(second, allow_graceful=False)

    thread = threading.Thread(target=lose)
    thread.start()
    failed = drive.sweep(plan, pool, progress=False)
    thread.join()
    assert failed == {} and len(plan.done) == 2
    assert found(tmp_path / "there" / "root") == found(tmp_path / "here" / "root")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at '127.0.0.1:1'"),
        ("here", "HOST:PORT or auto, not 'here'"),
    ],
)
def test_a_cluster_that_is_not_there_is_named(address, message):
    ray.shutdown()
    with pytest.raises(Error, match=message):
        Cluster(address)
