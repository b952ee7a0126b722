"""What a sweep shows of itself while it runs."""

import json

import pytest

from h2t import Run
from h2t.study.sweep import plan as sweeping
from h2t.study.sweep.board import Board
from h2t.study.sweep.pool import Pool
from tests.study.sweeps import recipe

DOING = "stage 1 of seed 0: stage 1: epoch 1/4, test top-1 43.2 %, 03:00 left"


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


def test_in_a_notebook_it_is_lines_that_are_replaced(at_work, monkeypatch, capsys):
    from tqdm.notebook import tqdm

    plan, job = at_work
    monkeypatch.setattr("tqdm.auto.tqdm", tqdm)

    def text(bar):
        return " ".join(str(part.value) for part in bar.container.children).replace("\u2007", " ")

    with Board(plan, Pool(2), True) as board:
        board.began(job.name)
        board.show([job.name])
        assert text(board._lines[0]).strip().endswith(DOING) and len(board._lines) == 2
        assert "0/8" in text(board._total) and "0 of 6 runs done" in text(board._total)
        board.ended(job.name, "")
        for name in plan.todo[1:]:
            board.ended(name, "it broke")
        board.show([])
        assert "8/8" in text(board._total) and "7 FAILED" in text(board._total)
    assert capsys.readouterr().err.count("it broke") == 7
    log = (plan.root / "sweep.log").read_text()
    assert log.count("it broke") == 7 and "stage 1 of seed 0: done in 0 s" in log


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
    assert "6 runs, 0 done already, 8 jobs to do: 2 at a time" in said
    assert "stopped: KeyboardInterrupt; run it again to go on" in said and "\r" not in said
    log = (plan.root / "sweep.log").read_text()
    assert f"0 of 6 runs done; {DOING}" in log
