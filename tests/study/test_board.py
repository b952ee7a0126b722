"""What a sweep shows of itself while it runs."""

import json
from types import SimpleNamespace

import pytest

from h2t import Run
from h2t.study.sweep import plan as sweeping
from h2t.study.sweep.board import Board
from h2t.study.sweep.pool import Pool
from tests.study.sweeps import recipe

DOING = "stage 1 of seed 0: stage 1: epoch 1/4, test top-1 43.2 %, 3 min left"


@pytest.fixture
def at_work(tmp_path):
    """A sweep whose first job has trained an epoch. Returns: its plan and that job."""
    plan = sweeping.plan(recipe(tmp_path), books=None)
    job = plan.jobs[plan.todo[0]]
    step = Run(job.run).path / "stage1"
    step.mkdir()
    (step / "params.yaml").write_text("stage1_epochs: 4\n")
    row = {"epoch": 1, "seconds": 50.0, "eval_seconds": 10.0, "all": 43.21}
    (step / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return plan, job


def test_in_a_notebook_it_is_one_text_that_is_replaced(at_work, monkeypatch):
    import IPython

    plan, job = at_work
    texts = []
    there = SimpleNamespace(update=lambda data, raw: texts.append(data["text/plain"]))
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: there)
    with Board(plan, Pool(2), True) as board:
        board.began(job.name)
        board.show([job.name])
        assert texts[-1].splitlines()[1] == f"  {DOING}"
        assert texts[-1].startswith("jobs:   0%|") and "0/16" in texts[-1]
        assert "0 of 12 runs done" in texts[-1]
        board.ended(job.name, None)
        for name in plan.todo[1:]:
            board.ended(name, "it broke")
    assert "16/16" in texts[-1] and "FAILED" in texts[-1].splitlines()[0]
    assert texts[-1].count("it broke") == 12 and "earlier in" in texts[-1]
    log = (plan.root / "sweep.log").read_text()
    assert log.count("it broke") == 15 and "stage 1 of seed 0: done in 0 s" in log


def test_time_left_is_told_once_a_job_of_each_kind_is_done(at_work, monkeypatch):
    plan, _ = at_work
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("h2t.study.sweep.board.time.monotonic", lambda: clock.now)
    with Board(plan, Pool(2), True) as board:
        for name, seconds in zip(plan.todo, (60, 180), strict=False):
            assert "left" not in str(board._total.postfix)
            board.began(name)
            clock.now += seconds
            board.ended(name, None)
            board._draw([])
        # 3 stage 1s of 60 s and 11 runs of 180 s, two at a time
        assert "1 of 12 runs done, about 18 min left" in str(board._total.postfix)


def test_in_a_file_it_is_what_happened_and_the_log_has_the_state_once_a_minute(
    at_work, capsys, monkeypatch
):
    plan, job = at_work
    monkeypatch.setattr("h2t.study.sweep.board.EVERY", -1)
    with pytest.raises(KeyboardInterrupt), Board(plan, Pool(2), True) as board:
        board.began(job.name)
        board.show([job.name])
        raise KeyboardInterrupt
    said = capsys.readouterr().err
    assert "12 runs, 0 done already, 16 jobs to do: 2 at a time" in said
    assert "stopped: KeyboardInterrupt; run it again to go on" in said and "\r" not in said
    log = (plan.root / "sweep.log").read_text()
    assert f"0 of 12 runs done, 0 failed; {DOING}" in log
