"""A run from end to end by plain function calls: no notebook, no Jupyter, one process or several."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.recipes import parameters as config
from h2t.runs import Run


def run_plain(parameters: dict[str, Any], *, again: bool = False, device: str = "auto") -> Run:
    """The steps of notebooks 01 to 03, also under ``torchrun``; what is done already is not run again.

    Arguments: ``parameters`` complete, name to value; ``again`` begins anew.
    Raises: ``h2t.Error`` before any work for parameters or files that are wrong.
    """
    from h2t.train.prepare import dataset, prepare
    from h2t.train.processes.ranks import ranks
    from h2t.train.stage1 import train_stage1
    from h2t.train.stage2 import train_stage2

    place, stage1 = parameters.get("run", "runs/run"), config.Stage1.of(parameters)
    stage2s = config.variants(config.Stage2.of(parameters), parameters.get("control", False))
    ranks().check(stage1.batch_size)
    if again or not ranks().first(begun, place):
        ranks().first(check_files, parameters)
    run = Run(place)
    if again:
        ranks().first(forget, run)

    def prepared() -> None:
        prepare(run, config.Data.of(parameters))

    def elsewhere() -> None:
        if not (run.path / "split.json").exists():
            raise Error(
                f"{run.path} on {platform.node()} does not hold what the first process wrote; "
                f"put the run where all machines see it"
            )
        dataset(run)  # what is downloaded or decoded, once on each machine

    ranks().first(prepared)
    ranks().each_machine(elsewhere)
    train_stage1(run, stage1, device=device)
    for variant, stage2 in stage2s.items():
        train_stage2(run, stage2, variant, device=device)
    return run


def check_files(parameters: dict[str, Any]) -> None:
    """Files and folders that complete parameters name must be there before hours of work begin.

    Raises: ``h2t.Error`` with the first that is missing.
    """
    source, root, checkpoint, pretrained = (
        parameters.get(k) or "" for k in ("source", "root", "checkpoint", "pretrained")
    )
    if source in config.ROOTED:
        for part in [root] if source in ("npz", "folder") else root.split(":"):
            if not part or not resolve(part).exists():
                raise Error(
                    f"source is {source!r}, but there is nothing at root {part!r}; "
                    f"set it with `-p root PATH`"
                )
    if checkpoint and not resolve(checkpoint).is_file():
        raise Error(
            f"there is no checkpoint {checkpoint}; set it with `-p checkpoint FILE`, "
            f"or to nothing to train stage 1"
        )
    if Path(pretrained).suffix and not resolve(pretrained).is_file():
        raise Error(
            f"pretrained {pretrained} does not exist; name a file of weights, "
            f"or torchvision's weights such as IMAGENET1K_V1"
        )


def begun(run: str) -> bool:
    """Whether stage 1 is trained or has a checkpoint: the files it began with are needed no more."""
    step = resolve(run) / "stage1"
    return (step / "result.json").exists() or (step / "checkpoint.pt").exists()


def forget(run: Run) -> None:
    """Undo a run's steps, subset and marks of executed notebooks, so that all is made anew."""
    for mark in (run.path / "notebooks").glob("*.done"):
        mark.unlink()
    run.restart()
