"""A sweep whose runs lie in an object store: another file system of fsspec stands in for s3."""

import json
import shutil

import pytest

from h2t import Error
from h2t.study.sweep import drive
from h2t.study.sweep import plan as sweeping
from h2t.study.sweep.pool import Pool
from h2t.study.sweep.store import Store
from tests.study.sweeps import cli, found, recipe


def test_another_machine_goes_on_with_a_sweep_from_the_store(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/bucket/sweep"
    file = recipe(tmp_path, run=url, seed=0, fusion_ratio=[0.2, 0.4])
    monkeypatch.setenv("H2T_SCRATCH", str(tmp_path / "one"))
    result = cli("sweep", file, "--plain")
    assert result.exit_code == 0 and f"2 runs over fusion_ratio in {url}" in result.output, (
        result.output
    )
    first = sweeping.plan(file, books=None).root
    here, there = found(first), found(tmp_path / "bucket" / "sweep")
    assert here == there and len(here) == 8
    monkeypatch.setenv("H2T_SCRATCH", str(tmp_path / "two"))
    assert sweeping.plan(file, books=None).todo == ()  # the marks alone say what is done
    more = sweeping.plan(file, {"fusion_ratio": [0.2, 0.4, 0.6]}, books=None)
    assert [more.jobs[n].kind for n in more.todo] == ["run"]
    assert drive.sweep(more, Pool(notebooks=False), progress=False) == {}
    assert len(more.done) == 3 and found(more.root).items() >= here.items()
    adopted = json.loads((more.root / "fusion_ratio-0.6" / "stage1" / "result.json").read_text())
    assert (
        adopted["adopted_from"].startswith("../shared/stage1-")
        and len(list((tmp_path / "bucket").rglob("stage1-*"))) == 1
    )


def test_a_half_finished_run_is_copied_both_ways_and_a_finished_one_once(tmp_path):
    store = Store(f"file://{tmp_path}/bucket", tmp_path / "one")
    step = tmp_path / "one" / "a" / "stage1"
    step.mkdir(parents=True)
    (step / "checkpoint.pt").write_bytes(b"first")
    (tmp_path / "one" / "a" / ".lock").touch()
    with store.following("a"):
        (step / "checkpoint.pt").write_bytes(b"later")
    other = Store(f"file://{tmp_path}/bucket", tmp_path / "two")
    copied = tmp_path / "two" / "a" / "stage1" / "checkpoint.pt"
    copied.parent.mkdir(parents=True)
    copied.write_bytes(b"older")
    other.pull("a")
    assert copied.read_bytes() == b"later" and not (tmp_path / "two" / "a" / ".lock").exists()
    shutil.rmtree(tmp_path / "bucket")
    assert store.sizes() == {} and other.pull() is None


def test_what_has_not_changed_stays_and_what_is_gone_goes(tmp_path, monkeypatch):
    store = Store(f"file://{tmp_path}/bucket", tmp_path / "one")
    run = tmp_path / "one" / "a"
    run.mkdir(parents=True)
    (run / "weights").write_bytes(b"w")
    (run / "checkpoint.pt").write_bytes(b"c")
    store.push("a")
    assert set(store.sizes("a")) == {"a/weights", "a/checkpoint.pt"}
    (run / "checkpoint.pt").unlink()
    (run / "done.json").write_text("{}")
    put, names = store._fs.put_file, []
    monkeypatch.setattr(
        store._fs,
        "put_file",
        lambda here, there, **how: (
            names.append(there.rpartition("/")[2]),
            put(here, there, **how),
        ),
    )
    store.push("a")
    assert names == ["done.json"] and set(store.sizes("a")) == {"a/weights", "a/done.json"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nothing://bucket", "cannot reach nothing://bucket"),
        ("file:///proc/none/x", "cannot write"),
    ],
)
def test_a_store_that_cannot_be_used_is_named(url, message, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("x")
    with pytest.raises(Error, match=message):
        Store(url, tmp_path).push("a")
