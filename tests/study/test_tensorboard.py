"""Learning curves as TensorBoard event files."""

import json
import os
import sys
import time

import pytest
from click.testing import CliRunner

import h2t
from h2t import Error
from h2t.cli import main
from h2t.study.report.tensorboard import FILE, export
from tests.study.test_report import ODD, two_runs


@pytest.fixture
def root(tmp_path):
    return two_runs(tmp_path / "my runs")


def test_event_files_hold_what_metrics_hold(root):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed: uv sync --group dev",
    )
    folder, steps = export(root)
    assert (
        folder == root / "tensorboard" and steps == 4 + 1 + 1
    )  # copied steps once; unfinished ones too
    found = {p.parent.relative_to(folder).as_posix() for p in folder.rglob("events.out.tfevents*")}
    assert (
        found >= {f"{ODD}/stage1", "deep/b/stage2-h2t", "failed/stage1"}
        and "deep/b/stage1" not in found
    )
    events = accumulator.EventAccumulator(str(folder / ODD / "stage1"))
    events.Reload()
    rows = [
        json.loads(line)
        for line in (root / ODD / "stage1" / "metrics.jsonl").read_text().splitlines()
    ]
    for tag in ("loss", "lr", "all", "few"):
        wanted = [(r["epoch"], r[tag]) for r in rows if r.get(tag) is not None]
        assert [(e.step, e.value) for e in events.Scalars(tag)] == [
            (k, pytest.approx(v)) for k, v in wanted
        ]
    times = [e.wall_time for e in events.Scalars("loss")]
    assert times[-1] - times[0] == pytest.approx(sum(r["seconds"] for r in rows[1:]))
    assert h2t.table(root, save=False)["run"].nunique() == 2  # the event files are no runs


def test_event_files_follow_a_run_that_goes_on(root):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: uv sync --group dev")
    folder, _ = export(root)
    event, log = (
        folder / "deep" / "b" / "stage2-h2t" / FILE,
        root / "deep" / "b" / "stage2-h2t" / "metrics.jsonl",
    )
    before, other = event.read_bytes(), (folder / ODD / "stage1" / FILE).stat().st_mtime_ns
    log.write_text(
        log.read_text() + json.dumps({"epoch": 4, "lr": 0.1, "loss": 0.5, "seconds": 1.0}) + "\n"
    )
    os.utime(log, ns=(time.time_ns() + 10**9, time.time_ns() + 10**9))
    export(root)
    assert (
        len(event.read_bytes()) > len(before)
        and (folder / ODD / "stage1" / FILE).stat().st_mtime_ns == other
    )


def test_without_tensorboard_or_curves_there_is_one_message(root, tmp_path, monkeypatch):
    (tmp_path / "none").mkdir()
    with pytest.raises(Error, match="holds no learning curve"):
        export(tmp_path / "none")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    out = CliRunner().invoke(main, ["report", str(root), "--tensorboard"])
    assert (
        out.exit_code == 2
        and "Error: tensorboard is not installed" in out.output
        and not (root / "report").exists()
    )
