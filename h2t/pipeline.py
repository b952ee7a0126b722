"""A run from end to end, without notebooks."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h2t.base.errors import Error
from h2t.base.files import MARK, remove, resolve
from h2t.base.readers import sha256
from h2t.data.sources import ROOTED
from h2t.recipes.parameters import Data, Stage1, Stage2, variants
from h2t.runs import Run

if TYPE_CHECKING:  # what loads torch does so where it is used: a recipe's mistakes are told at once
    from h2t.train.rundata import RunData


def run_plain(parameters: dict[str, Any], *, again: bool = False, device: str = "auto") -> Run:
    """The steps of notebooks 01 to 03 as function calls; what is done is not done again.

    Arguments: ``parameters`` complete; ``again`` discards what the run holds. Raises: ``h2t.Error``
    for what does not go together or is not there, before any work.
    """
    from h2t.train.processes.ranks import ranks

    together, place = ranks(), parameters.get("run", "runs/run")
    first, second = Stage1.of(parameters), Stage2.of(parameters)
    together.check(first.batch_size)
    if again or not together.first(begun, place):
        together.first(check_files, parameters)
    new, run = not resolve(place).exists(), Run(place)
    if again:
        together.first(forget, run)
    try:
        data = _loaded(run, Data.of(parameters))
    except Error:
        if new and [p.name for p in run.path.glob("*")] == [MARK]:  # nothing came of it
            remove(run.path, [MARK])
        raise
    train_stage1(data, first, device=device)
    train_variants(data, second, parameters.get("control", False), device=device)
    return run


def _loaded(run: Run, wanted: Data) -> RunData:
    """The run's data, prepared by the first process, then read once on each other machine."""
    from h2t.train.prepare import prepare
    from h2t.train.processes.ranks import ranks
    from h2t.train.rundata import dataset

    together, found = ranks(), []

    def elsewhere() -> None:
        if not (run.path / "split.json").exists():
            raise Error(
                f"{run.path} on {platform.node()} does not hold what the first process wrote; "
                "put the run where all machines see it"
            )
        found.append(dataset(run))

    together.first(lambda: found.append(prepare(run, wanted)))
    together.each_machine(elsewhere)
    return found[0] if found else dataset(run)


def train_stage1(run: RunData | Run | str, config: Stage1, **how: Any) -> dict[str, Any]:
    """Stage 1 of a run: trained, or where the recipe names a ``checkpoint``, imported and evaluated
    in its place. Arguments, result and what it raises: as of ``h2t.train.stage1.train``."""
    from h2t.train import stage1
    from h2t.train.cached import encoded
    from h2t.train.processes.ranks import ranks
    from h2t.train.rundata import encoder_of, run_of

    if encoder_of(run):
        return encoded.train_stage1(_encoded(run, how), config, **how)
    together, again, device = ranks(), how.get("again", False), how.get("device", "auto")
    # what was begun by training is not thrown away for a checkpoint: the step itself refuses that
    if config.checkpoint and (again or not together.first(begun, run_of(run).path)):
        together.first(_imported, run, config, again, device)
        how["again"] = False
    elif not again:
        together.first(_checked, run, config, device)
    return stage1.train(run, config, **how)


def train_stage2(
    run: RunData | Run | str, config: Stage2, variant: str = "h2t", **how: Any
) -> dict[str, Any]:
    """Stage 2 of a run: exact, or with an encoder on its bank of features. Arguments, result and
    what it raises: as of ``h2t.train.stage2.train_stage2``."""
    from h2t.train import stage2
    from h2t.train.cached import encoded
    from h2t.train.rundata import encoder_of

    if encoder_of(run):
        return encoded.train_stage2(_encoded(run, how), config, variant, **how)
    return stage2.train_stage2(run, config, variant, **how)


def _encoded(run: RunData | Run | str, how: dict[str, Any]) -> RunData:
    """The data of a run with an encoder, which is trained without epochs to tell of."""
    from h2t.train.rundata import dataset

    how.pop("on_epoch", None)
    return dataset(run, progress=how.get("progress", True))


def train_variants(
    run: RunData | Run | str, config: Stage2, control: bool = False, seeds: int = 1, **how: Any
) -> dict[str, list[str]]:
    """The stage 2s that tell fusion from BN statistics (``h2t.recipes.parameters.variants``), for
    several seeds from that of ``config`` on.

    Arguments: ``seeds`` how many, one for method tau, which draws nothing; ``how`` as of
    ``train_stage2``. Returns: variant to its steps; all but the first end with ``-s<seed>``.
    """
    named = variants(config, control)
    made = {name: [] for name in named}
    for k in range(1 if config.stage2_method == "tau" else seeds):
        for name, stage2 in named.items():
            one = dataclasses.replace(stage2, seed=config.seed + k)
            called = f"{name}-s{one.seed}" if k else name
            train_stage2(run, one, called, **how)
            made[name].append(f"stage2-{called}")
    return made


def _imported(run: RunData | Run | str, config: Stage1, again: bool, device: str) -> None:
    from h2t.exchange.reference import import_checkpoint

    made = {"checkpoint": config.checkpoint}
    how = {"device": device, "precision": config.precision, "made": made}
    import_checkpoint(config.checkpoint, run, again=again, **how)


def _checked(run: RunData | Run | str, config: Stage1, device: str) -> None:
    """Refuse an imported stage 1 that is not the one asked for; measure one that is not yet."""
    from h2t.train.evaluate import evaluate
    from h2t.train.rundata import run_of

    step = run_of(run).step("stage1")
    imported = step.result.get("imported") if step.done else None
    if not imported:
        return
    wanted, by_recipe = config.checkpoint, step.params.get("checkpoint", "")
    if not wanted:  # `h2t import` needs no recipe that names it
        same = not by_recipe
    elif resolve(wanted).is_file():
        same = sha256(resolve(wanted)) == imported["sha256"]
    else:  # it may be gone by now
        same = Path(wanted).name == imported["file"]
    if not same:
        says = f"names {wanted}" if wanted else "names no checkpoint"
        raise Error(
            f"stage 1 of run {step.run.path} was imported from {by_recipe or imported['file']}, "
            f"and the recipe {says}; choose another run, or start over with `--again`"
        )
    if "last" not in step.result:
        evaluate(run, device=device, precision=config.precision)


def check_files(parameters: dict[str, Any]) -> None:
    """Raise ``h2t.Error`` for the first file or folder that complete parameters name and that is
    not there."""
    names = ("source", "root", "checkpoint", "pretrained")
    source, root, checkpoint, pretrained = (parameters.get(name) or "" for name in names)
    if source in ROOTED:
        _check_root(source, root)
    if checkpoint and not resolve(checkpoint).is_file():
        raise Error(
            f"there is no checkpoint {checkpoint}; set it with `-p checkpoint FILE`, "
            "or to nothing to train stage 1"
        )
    if Path(pretrained).suffix and not resolve(pretrained).is_file():
        raise Error(
            f"pretrained {pretrained} does not exist; name a file of weights, "
            "or torchvision's weights such as IMAGENET1K_V1"
        )


def _check_root(source: str, root: str) -> None:
    parts = [root] if source in ("npz", "features", "folder") else root.split(":")
    missing = [part for part in parts if not part or not resolve(part).exists()]
    if not missing:
        return
    if source == "features":
        raise Error(f"there is no file of features {root}; name one as features:FILE")
    raise Error(
        f"source is {source!r}, but there is nothing at root {missing[0]!r}; "
        "set it with `-p root PATH`"
    )


def begun(run: str | Path) -> bool:
    """Whether stage 1 is trained or goes on from a checkpoint: its files are not needed again."""
    step = resolve(run) / "stage1"
    return (step / "result.json").exists() or (step / "checkpoint.pt").exists()


def forget(run: Run) -> None:
    """Undo a run's steps, subset and marks of executed notebooks, so that all is made anew."""
    for mark in (run.path / "notebooks").glob("*.done"):
        mark.unlink()
    run.restart()
