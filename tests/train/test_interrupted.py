"""Steps that were interrupted, finished, begun otherwise or went wrong: what goes on, and what is
refused."""

import multiprocessing as mp
import shutil
import signal
import time

import pytest
import torch

from h2t import Error, Run, train_stage1, train_stage2
from h2t.train.rundata import dataset
from tests.helpers import (
    die_in_the_third_checkpoint,
    digits_run,
    processes,
    same_weights,
    stage1_config,
    stage2_config,
    train_and_tell,
)


def copy_of(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def test_a_finished_step_is_not_run_again(trained):
    path = Run(trained).step("stage1").path / "weights.safetensors"
    before = path.stat().st_mtime_ns
    assert (
        train_stage1(trained, stage1_config(), progress=False) == Run(trained).step("stage1").result
    )
    assert path.stat().st_mtime_ns == before


def test_a_run_of_a_version_without_a_parameter_had_its_default(trained, tmp_path):
    run = copy_of(trained, tmp_path)
    file = Run(run).step("stage1").path / "params.yaml"
    file.write_text(
        "".join(
            line for line in file.read_text().splitlines(True) if not line.startswith("drw_from")
        )
    )
    assert train_stage1(run, stage1_config()) == Run(run).step("stage1").result
    with pytest.raises(Error, match="begun with drw_from = 1.0, not 0.5"):
        train_stage1(run, stage1_config(drw_from=0.5))


def kill(kind, run, delay=None):
    """Train a stage in a process of its own and kill it ``delay`` seconds after it reports an
    epoch, or, without one, right there.
    Returns: its exit code."""
    here, there = mp.Pipe()
    process = processes().Process(target=train_and_tell, args=(kind, run, there, delay is None))
    process.start()
    there.close()
    here.recv()
    time.sleep(delay or 0)
    process.kill()
    process.join()
    here.close()
    return process.exitcode


@pytest.mark.parametrize(("kind", "name"), [("stage1", "stage1"), ("stage2", "stage2-h2t")])
def test_a_killed_stage_goes_on_and_ends_bit_for_bit_as_if_undisturbed(
    trained, tmp_path, kind, name
):
    if kind == "stage1":
        run, _ = digits_run(tmp_path / "run")
        undisturbed = Run(trained).step("stage1")
        finish = lambda: train_stage1(run, stage1_config(), progress=False)  # noqa: E731
    else:
        run, other = copy_of(trained, tmp_path), copy_of(trained, tmp_path / "other")
        train_stage2(other, stage2_config(), "h2t", progress=False)
        undisturbed = Run(other).step(name)
        finish = lambda: train_stage2(run, stage2_config(), "h2t", progress=False)  # noqa: E731
    assert kill(kind, run) == -signal.SIGKILL
    kill(
        kind, run, 0.05
    )  # somewhere in the next epoch, or after the last where the machine was busy elsewhere
    done = finish()
    assert done == Run(run).step(name).result
    assert same_weights(Run(run).step(name), undisturbed)

    def strip(rows):
        return [{k: v for k, v in r.items() if "seconds" not in k} for r in rows]

    assert strip(Run(run).step(name).history()) == strip(undisturbed.history())


@pytest.mark.parametrize("moment", ["torch.save", "os.replace"])
def test_a_kill_while_the_checkpoint_is_written_loses_nothing(trained, tmp_path, moment):
    """The process kills itself inside the third write of the checkpoint, before and at the
    rename."""
    run, _ = digits_run(tmp_path / "run")
    process = processes().Process(target=die_in_the_third_checkpoint, args=(run, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert Run(run).step("stage1").load_checkpoint()["epoch"] == 2
    train_stage1(run, stage1_config(), progress=False)
    assert same_weights(Run(run).step("stage1"), Run(trained).step("stage1"))
    assert not [p for p in (run / "stage1").iterdir() if "tmp" in p.name or "part" in p.name]


def test_a_loss_that_turns_nan_stops_with_the_step_and_keeps_the_last_good_checkpoint(
    tmp_path, monkeypatch
):
    run, _ = digits_run(tmp_path / "run")
    from h2t.losses import loss_of
    from h2t.train import stage1

    real, calls = loss_of("ce"), [0]

    def broken(logits, labels, counts, weight):
        calls[0] += 1
        return real(logits, labels, counts) * (float("nan") if calls[0] > 14 else 1)

    monkeypatch.setattr(stage1, "bound", lambda *given: broken)
    steps = -(-len(dataset(Run(run)).train) // 64)
    with pytest.raises(
        Error,
        match=rf"stage 1 diverged: the loss is nan at step 15 \(epoch {14 // steps + 1}, .*_lr",
    ):
        train_stage1(run, stage1_config(mixup_alpha=0.0), progress=False)
    step = Run(run).step("stage1")
    assert not step.done and step.load_checkpoint()["epoch"] == 14 // steps
    assert all(torch.isfinite(v).all() for v in step.load_checkpoint()["model"].values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, t: train_stage1(t / "none", stage1_config()), "no run directory"),
        (
            lambda r, t: train_stage1(Run(t / "empty"), stage1_config()),
            "has no data yet; prepare it",
        ),
        (
            lambda r, t: train_stage2(Run(t / "empty"), stage2_config()),
            "stage1 of run .* is not finished",
        ),
        (
            lambda r, t: train_stage1(r, stage1_config(stage1_lr=0.3)),
            "begun with stage1_lr = 0.1, not 0.3",
        ),
        (lambda r, t: train_stage2(r, stage2_config(), "../x"), "variant is '../x'"),
        (lambda r, t: train_stage1(r, stage1_config(), device="tpu9"), "device is 'tpu9'"),
    ],
)
def test_mistakes_end_in_one_message(trained, tmp_path, call, message):
    with pytest.raises(Error, match=message):
        call(trained, tmp_path)


def test_stage2_of_a_retrained_stage1_is_not_taken_for_done(trained, tmp_path):
    run = copy_of(trained, tmp_path)
    train_stage2(run, stage2_config(), "h2t", progress=False)
    train_stage1(run, stage1_config(seed=5), again=True, progress=False)
    with pytest.raises(Error, match="stage2-h2t .* begun with stage1_weights"):
        train_stage2(run, stage2_config(), "h2t", progress=False)
