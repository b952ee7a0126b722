"""What tests/train/test_distributed.py starts in several processes: `-m tests.distributed_job KIND
FOLDER ARGUMENTS of h2t run`."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from h2t import Error, Run, models, train_stage1, train_stage2
from h2t.cli.training import run as main
from h2t.data import augment
from h2t.losses import EXPERT_LOSSES, LOSSES, bound
from h2t.train import device as stepping
from h2t.train import mixing
from h2t.train.processes import ranks as distributed
from h2t.train.processes.job import job
from tests.helpers import stage1_config, stage2_config

SIZES = (13, 2)  # images of a batch; of three processes the last one has none of two
BATCH = 68  # leaves one image to the last batch of 341
CASES = [(name, size) for name in LOSSES for size in SIZES]


@contextlib.contextmanager
def double():
    """All training in double precision, in which several processes and one must agree to many
    digits: in single precision training itself amplifies the rounding of sums in another order."""
    draws, cutmix = augment.mixup_draws, augment.cutmix_draws

    def wide(*given):
        mixed, boxes, kept = cutmix(*given)
        return mixed, boxes, kept.astype(np.float64)

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with (
            mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
            mock.patch.object(
                augment, "mixup_draws", lambda *given: draws(*given).astype(np.float64)
            ),
            mock.patch.object(augment, "cutmix_draws", wide),
        ):
            yield
    finally:
        torch.set_default_dtype(before)


@stepping.threads()
def gradient(name: str, size: int, ranks: distributed.Ranks = distributed.ALONE) -> dict:
    """The loss of one batch, its gradient, and the statistics of batch normalisation afterwards, in
    double precision."""
    g = torch.Generator().manual_seed(size)
    x, y = (
        torch.rand(size, 1, 8, 8, generator=g, dtype=torch.float64),
        torch.randint(5, (size,), generator=g),
    )
    model, head = {
        "ride": ("ride2_resnet20_narrow", "cosine"),
        "reslt": ("reslt_resnet20", "linear"),
    }.get(name, ("resnet20", "cosine"))
    model = (
        models.build(model, 5, head=head, in_channels=1, generator=torch.Generator().manual_seed(0))
        .double()
        .train()
    )
    model = ranks.prepare(model.to(memory_format=torch.channels_last), torch.device("cpu"))
    settings, counts = (
        {"ride_diversity": -0.2, "reslt_beta": 0.9, "smooth_head": 0.3, "smooth_tail": 0.1},
        torch.tensor([90, 40, 20, 7, 2]),
    )
    loss_function = bound(name, settings, torch.Generator().manual_seed(1))
    answer = (lambda x: model.head.each(model.backbone(x))) if name in EXPERT_LOSSES else model
    loss = loss_function(
        ranks.gather(answer(x[ranks.rank :: ranks.world]), size),
        y,
        counts,
        torch.linspace(0.5, 2, 5, dtype=torch.float64),
    )
    loss.backward()
    ranks.sum_gradients(model)
    state = {k: v for k, v in model.state_dict().items() if "running" in k}
    return {"loss": loss.detach(), **{k: p.grad for k, p in model.named_parameters()}, **state}


def train_others(run: Path) -> None:
    """Recipes with whatever else draws within a batch or looks at all of it: CMO, GCL, soft fusion,
    noise, mixup of stage 2, BN statistics estimated anew."""
    common = {"batch_size": BATCH, "precision": "fp32"}
    with mock.patch.multiple(mixing, CMO_FIRST=1, CMO_REST=0):
        train_stage1(
            run,
            stage1_config(
                stage1_epochs=1,
                mixup_alpha=0.0,
                cmo_probability=0.7,
                loss="gcl",
                head="cosine",
                **common,
            ),
            progress=False,
        )
    train_stage2(
        run,
        stage2_config(
            stage2_epochs=1, fusion="soft", fusion_ratio=0.5, stage2_mixup_alpha=1.0, **common
        ),
        "soft",
        progress=False,
    )
    train_stage2(
        run,
        stage2_config(
            stage2_epochs=1, fusion="noise", stage2_method="gcl", bn_statistics="balanced", **common
        ),
        "noise",
        progress=False,
    )


def collectives(ranks: distributed.Ranks, folder: Path) -> dict:
    """What each primitive gives in this process."""
    out = {}
    for total in range(1, 8):
        rows = torch.arange(total * 6.0).view(total, 2, 3)
        index = torch.randperm(total, generator=torch.Generator().manual_seed(total))
        own = rows[ranks.rank :: ranks.world]
        experts = rows.movedim(1, 0).contiguous()  # (2, B, 3)
        images = rows[..., None].contiguous(memory_format=torch.channels_last)
        out[f"gather {total}"] = ranks.gather(experts[:, ranks.rank :: ranks.world], total)
        out[f"gather bf16 {total}"] = ranks.gather(own.flatten(1).bfloat16(), total)
        out[f"take {total}"] = ranks.take(images[ranks.rank :: ranks.world], index)
    norm = torch.nn.BatchNorm2d(2)
    norm.running_mean += torch.tensor([3.0, 6.0]) * ranks.rank
    ranks.agree(norm)
    out["agree"] = norm.running_mean
    out["first"] = ranks.first(lambda: {"rank": ranks.rank, "rows": [torch.ones(2), "a", None]})

    def refuse():
        raise Error(f"refused in process {ranks.rank}")

    for name, call in {
        "refused": lambda: ranks.first(refuse),
        "locked": lambda: train_stage1(folder / "held", stage1_config(), progress=False),
    }.items():
        try:
            call()
        except Error as e:
            out[name] = str(e)
    return out


def units(folder: Path) -> None:
    with job("cpu", 2):
        ranks = distributed.ranks()
        holding = Run(folder / "held").lock() if ranks.rank == 0 else contextlib.nullcontext()
        with (
            holding
        ):  # a lock of the same process does not count as another's only if it is one object
            saved = collectives(ranks, folder)
        saved["gradients"] = {case: gradient(*case, ranks) for case in CASES}
        with double():
            train_others(folder / "run")
        torch.save(saved, folder / f"rank{ranks.rank}.pt")
        print(f"written by {ranks.rank}", flush=True)
        torch.distributed.barrier()
        if ranks.rank == 1:
            raise Error("process 1 alone has nothing to eat; feed it")
        torch.distributed.barrier()  # waits for a process that has ended


def killed(run: Path, *arguments) -> None:
    """Train a recipe; the second process is killed in its first step after the first checkpoint,
    unless it was started again."""
    real = distributed.Ranks.gather

    def dying(self, own, total):
        if (
            self.rank == 1
            and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
            and (run / "stage1" / "checkpoint.pt").exists()
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, own, total)

    with double(), mock.patch.object(distributed.Ranks, "gather", dying):
        main(arguments, standalone_mode=False)


def launch(processes: int, restarts: int, function, *arguments) -> bool:
    """What torchrun does, in processes forked from this one, which has imported everything.
    Returns: whether all went well."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    how = {
        "rdzv_backend": "c10d",
        "rdzv_endpoint": "localhost:0",
        "start_method": "fork",
        "max_restarts": restarts,
        "monitor_interval": 0.1,
    }
    try:
        elastic_launch(LaunchConfig(1, 1, processes, run_id=function.__name__, **how), function)(
            *arguments
        )
    except ChildFailedError:
        return False
    return True


if __name__ == "__main__":
    kind, folder, *rest = sys.argv[1:]
    if kind == "killed":  # under torchrun
        killed(Path(folder), *rest)
    else:
        import sklearn.datasets  # noqa: F401
        import torch._dynamo  # as an optimiser does

        torch.set_num_threads(1)
        print("trained:", launch(2, 1, killed, Path(folder) / "begun", *rest), flush=True)
        for stream in (sys.stdout, sys.stderr):
            print("==", file=stream, flush=True)
        print("units:", launch(3, 0, units, Path(folder)), flush=True)
