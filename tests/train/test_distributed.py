"""Training in several processes: the numbers of one, one writer, one message at the end, and no
hang."""

import shutil
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from h2t import Data, Error, Run, Stage1, prepare, train_stage1
from h2t.cli import main
from h2t.data.resident import Resident
from h2t.lab.books import execute as notebooks
from h2t.pipeline import run_plain
from h2t.train.processes.job import KEPT, own_device
from tests.distributed_job import BATCH, CASES, double, gradient, train_others
from tests.helpers import ROOT, digits_run, stop_after

RECIPE = ROOT / "notebooks" / "recipes" / "digits.yaml"
QUICK = {
    "stage1_epochs": 2,
    "stage2_epochs": 1,
    "eval_every": 1,
    "imbalance_factor": 20.0,
    "batch_size": 64,
    "precision": "fp32",
}


def start(*arguments, torchrun=()):
    """Start processes, one or those of torchrun, and wait for what they write."""
    command = [sys.executable, *torchrun, "-m", "tests.distributed_job", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def recipe(run, **changes):
    return [
        str(RECIPE),
        "--plain",
        *(str(x) for k, v in {**QUICK, "run": run, **changes}.items() for x in ("-p", k, v)),
    ]


def whole(**changes):
    parameters, books = notebooks.load_recipe(RECIPE, {**QUICK, **changes})
    return notebooks.complete(parameters, books)


def same_numbers(run, other, steps) -> None:
    """Two runs agree in every measure of every epoch and in the weights, to the rounding of double
    precision."""
    for name in steps:
        a, b = Run(run).step(name), Run(other).step(name)
        for row, like in zip(a.history(), b.history(), strict=True):
            assert {k: v for k, v in row.items() if "seconds" not in k} == pytest.approx(
                {k: v for k, v in like.items() if "seconds" not in k}, rel=1e-6
            ), name
        assert (
            a.result["last"] == pytest.approx(b.result["last"], rel=1e-6)
            and a.result["per_class"] == b.result["per_class"]
        )
        x, y = a.weights(), b.weights()
        assert x.keys() == y.keys()
        for k in x:
            assert torch.allclose(x[k], y[k], rtol=1e-6, atol=1e-8), (name, k)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One process to the end, and the same run interrupted after its first epoch."""
    top = tmp_path_factory.mktemp("single")
    with double():
        run_plain(whole(run=str(top / "run")))
        parameters = whole(run=str(top / "begun"))
        prepare(top / "begun", Data.of(parameters), progress=False)
        with pytest.raises(KeyboardInterrupt):
            train_stage1(
                top / "begun", Stage1.of(parameters), progress=False, on_epoch=stop_after(1)
            )
    return top


STEPS = ("stage1", "stage2-dr", "stage2-dr-both", "stage2-h2t")


@pytest.fixture(scope="module")
def launched(single, tmp_path_factory):
    """Two processes that go on with a run of one, and then three that try everything else, of which
    one fails at last.

    Returns: the folder, each one's numbers, and for both jobs what was written to standard output
    and error.
    """
    folder = tmp_path_factory.mktemp("launched")
    shutil.copytree(single / "begun", folder / "begun")
    for name in ("run", "alone", "local", "held"):
        _, data = digits_run(folder / name, imbalance_factor=25.0)
    assert len(data.train) % BATCH == 1, len(
        data.train
    )  # the last batch leaves two of the three without an image
    out = start("launch", folder, *recipe(folder / "begun"))
    assert out.returncode == 0, out.stderr
    with double():
        train_others(folder / "alone")
    texts = zip(*[text.split("==\n") for text in (out.stdout, out.stderr)], strict=True)
    return folder, [torch.load(folder / f"rank{r}.pt") for r in range(3)], *texts


def test_two_processes_go_on_with_a_run_of_one_are_started_again_and_end_with_its_numbers(
    single, launched
):
    folder, _, (out, err), _ = launched
    assert "trained: True" in out, err
    run = folder / "begun"
    same_numbers(run, single / "run", STEPS)
    assert (
        Run(run).step("stage1").result["processes"] == 2
        and Run(single / "run").step("stage1").result["processes"] == 1
    )
    assert out.count("test accuracy, %") == 1 and out.count("run directory:") == 1
    assert err.count(KEPT) == 1  # one was killed at first
    assert not [p for p in run.rglob("*") if "tmp" in p.name]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_loss_has_the_gradient_of_one_process(launched, case):
    want = gradient(*case)
    for saved in launched[1]:
        got = saved["gradients"][case]
        assert got.keys() == want.keys()
        for k in want:
            assert torch.allclose(
                got[k], want[k], rtol=1e-6, atol=1e-9 * want[k].abs().max().item() + 1e-12
            ), k


def test_rows_are_gathered_in_order_and_taken_from_wherever_they_are(launched):
    for r, saved in enumerate(launched[1]):
        for total in range(1, 8):
            rows = torch.arange(total * 6.0).view(total, 2, 3)
            index = torch.randperm(total, generator=torch.Generator().manual_seed(total))
            assert torch.equal(saved[f"gather {total}"], rows.movedim(1, 0))
            assert torch.equal(saved[f"gather bf16 {total}"], rows.flatten(1).bfloat16())
            assert torch.equal(saved[f"take {total}"], rows[..., None][index[r::3]])
        assert saved["agree"].tolist() == [3.0, 6.0]


def test_the_first_process_speaks_for_all(launched):
    for saved in launched[1]:
        assert saved["first"]["rank"] == 0 and torch.equal(saved["first"]["rows"][0], torch.ones(2))
        assert saved["refused"] == "refused in process 0"
        assert "is in use by another process" in saved["locked"]


def test_what_draws_within_a_batch_or_looks_at_all_of_it_gives_the_numbers_of_one_process(launched):
    folder, _, _, (out, _) = launched
    same_numbers(folder / "run", folder / "alone", ("stage1", "stage2-soft", "stage2-noise"))
    assert "written by 0" in out and "written by 1" not in out


def test_an_error_of_one_process_is_said_once_and_ends_all(launched):
    out, err = launched[3]
    assert "units: False" in out
    assert err.count("Error: process 1 alone has nothing to eat; feed it") == 1
    assert KEPT not in err


def test_a_killed_process_ends_the_job_with_a_message_and_one_process_goes_on_from_its_checkpoint(
    single, launched, tmp_path
):
    run = tmp_path / "run"
    out = start(
        "killed",
        run,
        *recipe(run),
        torchrun=["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"],
    )
    assert out.returncode != 0
    assert out.stderr.count(KEPT) == 1, out.stderr
    assert Run(run).step("stage1").load_checkpoint()["epoch"] == 1
    with double():
        train_stage1(run, Stage1.of(whole(run=str(run))), progress=False)
    same_numbers(run, single / "run", ["stage1"])


@pytest.mark.parametrize("world", [2, 3, 5])
def test_shares_of_an_epoch_are_disjoint_and_together_the_whole(world, tmp_path):
    _, data = digits_run(tmp_path / "run")
    order, draw = (
        torch.arange(len(data.train)).flip(0)[:101],
        lambda: torch.Generator().manual_seed(0),
    )
    loader = lambda shard: Resident(data.train, [0.0], [1.0], padding=1, shard=shard)  # noqa: E731
    shares = [list(loader((r, world)).epoch(order, 16, draw())) for r in range(world)]
    for k, (x, y) in enumerate(loader((0, 1)).epoch(order, 16, draw())):
        assert all(torch.equal(share[k][1], y) for share in shares)
        for r in range(world):
            assert torch.equal(shares[r][k][0], x[r::world])
    everything = torch.cat([x for x, _ in loader((0, 1)).batches(50)])
    for r in range(world):
        assert torch.equal(
            torch.cat([x for x, _ in loader((r, world)).batches(50)]), everything[r::world]
        )


def test_each_process_takes_a_gpu_of_its_own(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert own_device("auto", 1, 2) == own_device("cuda", 1, 2) == "cuda:1" and chosen == [1, 1]
    assert own_device("cpu", 3, 4) == "cpu"
    with pytest.raises(
        Error,
        match=r"4 processes on a machine with 2 GPUs; start at most that many \(",
    ):
        own_device("auto", 0, 4)
    with pytest.raises(Error, match="device is 'cuda:1', but each process takes a GPU of its own"):
        own_device("cuda:1", 0, 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device("auto", 0, 4) == "auto"  # which is the CPU


def test_more_processes_than_images_in_a_batch_are_refused():
    from h2t.train.processes.ranks import Ranks

    Ranks(0, 4).check(4)
    with pytest.raises(
        Error, match="batch_size 2 leaves some of 4 processes without images; start at most 2"
    ):
        Ranks(0, 4).check(2)


def test_mistakes_are_one_message_without_torchrun_and_notebooks_run_in_one_process(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    result = CliRunner().invoke(main, ["run", *recipe(tmp_path / "run", fusion_ratio=2)])
    assert result.exit_code == 2 and result.output.splitlines() == [
        "Error: fusion_ratio is 2; it must be in [0, 1]"
    ]
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(main, ["run", str(RECIPE), "-p", "run", str(tmp_path / "run")])
    assert result.exit_code == 2 and "add --plain" in result.output
    assert not (tmp_path / "run").exists()
