"""The command line: thin, and imports what a command needs only when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from h2t import __version__
from h2t.base.errors import Error

RECIPE = click.argument("recipe", type=click.Path())
RUN = click.argument("run", type=click.Path())
PARAMETERS = click.option(
    "-p",
    "--parameter",
    "pairs",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter of the recipe, as papermill does.",
)
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")


class _Group(click.Group):
    """Turn h2t.Error into one message and exit status 2, and Ctrl-C into one line."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except Error as e:
            click.echo(f"Error: {e}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo(
                "interrupted; run the same command again to go on from the last checkpoint",
                err=True,
            )
            ctx.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main():
    """Feature fusion from head to tail: a workbench for long-tailed recognition."""


@main.command()
@RECIPE
@PARAMETERS
@click.option("--again", is_flag=True, help="Discard what the run directory holds and start over.")
@click.option(
    "--plain", is_flag=True, help="Train without notebooks, for machines that lack Jupyter."
)
@DEVICE
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Under torchrun: minutes that a process waits for the others.",
)
def run(recipe, pairs, again, plain, device, timeout):
    """Run a recipe from images to analysis, through notebooks 01 to 04.

    With --plain also in several processes: torchrun --nproc_per_node=4 -m h2t run RECIPE --plain
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        _run(recipe, pairs, again, plain, device)
        return
    if not plain:
        raise Error("torchrun starts several processes, but notebooks run in one; add --plain")
    from h2t.train.processes.job import job

    with job(device, timeout) as own:
        _run(recipe, pairs, again, plain, own)


def _run(recipe, pairs, again, plain, device) -> None:
    from h2t.lab.books import execute as notebooks

    parameters, books = notebooks.load_recipe(
        recipe, {k: notebooks.parse_value(v) for k, v in pairs}
    )
    if plain:
        from h2t.pipeline import run_plain

        done = run_plain(notebooks.complete(parameters, books), device=device, again=again)
    else:
        done = notebooks.run_recipe(parameters, books, again=again)
    _show(done.results(), main_only=True)
    click.echo(f"run directory: {done.path}")


@main.command()
@RECIPE
@PARAMETERS
@click.option("--jobs", default=0, help="Runs at a time.  [default: one to a GPU or core]")
@click.option(
    "--ray", "address", metavar="ADDRESS", help="Run on a Ray cluster: its address, or auto."
)
@click.option(
    "--gpus",
    type=float,
    help="GPUs for each run: 1, a share such as 0.5, or 0.  [default: 1 where there are any]",
)
@click.option(
    "--notebooks",
    "books",
    default="01,02,03",
    show_default=True,
    help="Notebooks to execute in each run, by number; all.",
)
@click.option("--plain", is_flag=True, help="Train without notebooks.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
def sweep(recipe, pairs, jobs, address, gpus, books, plain, dry_run):
    """Run the grid of a recipe with lists or ranges; again to go on with it."""
    from h2t.lab.books import execute as notebooks
    from h2t.study.sweep import plan as sweeping
    from h2t.study.sweep.board import forecast
    from h2t.study.sweep.drive import sweep as drive

    chosen = None if plain else sweeping.choose_books(books)
    plan = sweeping.plan(recipe, {k: notebooks.parse_value(v) for k, v in pairs}, books=chosen)
    if address:
        from h2t.study.sweep.cluster import Cluster

        pool = Cluster(address, jobs, gpus)
    else:
        from h2t.study.sweep.pool import Pool

        pool = Pool(jobs, gpus, notebooks=not plain)
    click.echo(plan)
    click.echo(f"time: {forecast(plan, pool)}")
    if dry_run:
        pool.close()
        return
    outcome = drive(plan, pool)
    if outcome.done:
        from h2t.study.compare.overview import overview

        click.echo(overview(plan.root))
    click.echo(
        f"{len(outcome.done)} of {len(plan.points)} runs are done in {plan.root}"
        + (f"; compare them: h2t report {plan.root}" if outcome.done else "")
    )
    if outcome.failed:
        click.echo(
            f"{len(outcome.failed)} jobs failed; run the same command again to try them again:",
            err=True,
        )
        for name, reason in outcome.failed.items():
            click.echo(f"  {name}: {reason}", err=True)
        sys.exit(1)


@main.command()
@click.argument("root", type=click.Path())
@click.option(
    "--jobs", default=0, help="With a recipe: runs at a time.  [default: one to a GPU or core]"
)
@click.option(
    "--gpus", type=float, help="With a recipe: GPUs for each run: 1, a share such as 0.5, or 0."
)
@PARAMETERS
def reproduce(root, jobs, gpus, pairs):
    """Hold the runs under a folder against the published tables; or, of a recipe of runs, first train those that are missing."""
    from h2t.base.files import resolve
    from h2t.lab.books import execute as notebooks
    from h2t.study.compare.reproduce import markdown, reproduce

    failed = {}
    if resolve(root).is_file():
        from h2t.study.sweep import plan as sweeping
        from h2t.study.sweep.drive import sweep
        from h2t.study.sweep.pool import Pool

        plan = sweeping.plan(root, {k: notebooks.parse_value(v) for k, v in pairs}, books=None)
        click.echo(plan)
        root = plan.root
        try:
            failed = sweep(plan, Pool(jobs, gpus, notebooks=False)).failed
        except KeyboardInterrupt:
            click.echo(
                "interrupted; the table is of the runs that are done; run the same command again to go on",
                err=True,
            )
    click.echo(markdown(reproduce(root)))
    click.echo(f"saved as {resolve(root) / 'reproduced.md'} and .csv")
    for name, reason in failed.items():
        click.echo(f"failed: {name}: {reason}", err=True)
    if failed:
        sys.exit(1)


@main.command()
@click.argument("root", type=click.Path())
@click.option(
    "--ratio",
    type=float,
    help="Only this fusion ratio.  [default: all there are; with --cached 0.25]",
)
@click.option(
    "--cached", is_flag=True, help="ROOT is a run: train the four cells by the cached stage 2."
)
@click.option("--seeds", default=5, show_default=True, help="With --cached: seeds of stage 2.")
@click.option(
    "--views",
    default=4,
    show_default=True,
    help="With --cached: views of every training image in the two banks.",
)
@PARAMETERS
def control(root, ratio, cached, seeds, views, pairs):
    """Tell what fusion does from what the BN statistics do, over the runs under a folder."""
    from h2t.lab.books import execute as notebooks
    from h2t.study.compare import control as controlling

    if cached:
        overrides = {k: notebooks.parse_value(v) for k, v in pairs}
        rows = controlling.cached_rows(
            root,
            (0.25 if ratio is None else ratio,),
            range(seeds),
            views=views,
            overrides=overrides,
        )
        found = controlling.summarise(rows)
    else:
        found = controlling.control(root, ratio)
    click.echo(controlling.markdown(found))
    click.echo(f"saved as {controlling.save(found, root) / 'control.md'}, .csv and .png")


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path())
@click.option("--seeds", default=5, show_default=True, help="Trainings of each head.")
@click.option("--views", default=2, show_default=True, help="Views of every training image.")
@click.option("--objective", default="balanced", show_default=True, help="balanced or natural.")
@click.option("--out", default="runs/heads", show_default=True, type=click.Path())
@DEVICE
def heads(runs, seeds, views, objective, out, device):
    """Which head is best on the features of runs: all of them, tuned alike."""
    from h2t.base import tables
    from h2t.study.compare import heads as comparing

    banks = comparing.banks_of(runs, views, device=device)
    found = comparing.compare_heads(banks, seeds=range(seeds), objective=objective)
    shown = comparing.summary(found)
    click.echo(tables.plain(list(shown), shown.astype(str).values.tolist()))
    click.echo("\n".join(comparing.verdict(found, comparing.differences(found))))
    click.echo(f"saved in {comparing.save(found, out)}")


@main.command()
@click.argument("root", type=click.Path())
def select(root):
    """Rank the settings of the runs under a folder by their validation part, and write the best as a recipe."""
    from h2t.base.files import resolve
    from h2t.study.compare.select import markdown, select

    click.echo(markdown(select(root)))
    click.echo(
        f"the best as a recipe: {resolve(root) / 'selected.yaml'}; the test set was not looked at"
    )


@main.command()
@RECIPE
@click.argument("file", type=click.Path())
@PARAMETERS
def pack(recipe, file, pairs):
    """Write a recipe's long tail and test images to one small file, for a machine without the set."""
    from h2t.base.files import resolve
    from h2t.lab.books import execute as notebooks
    from h2t.recipes.parameters import Data
    from h2t.train.prepare import pack

    parameters = notebooks.complete(
        *notebooks.load_recipe(recipe, {k: notebooks.parse_value(v) for k, v in pairs})
    )
    made, size = pack(Data.of(parameters), resolve(file))
    click.echo(
        f"{sum(made.counts):,} training images and the test images in {resolve(file)}, {size / 1e6:.1f} MB; there: -p source npz -p root {file}"
    )
    click.echo(
        "it stands for the whole set at this imbalance_factor and at larger ones, with the same images"
    )


@main.command()
@click.argument("name", default="")
@click.option(
    "--imbalance-factor", default=100, show_default=True, help="At which imbalance factor."
)
def methods(name, imbalance_factor):
    """List the methods by name, each a stage 1 and a stage 2 with published settings; or the parameters that one stands for."""
    from h2t.recipes import methods as recipes

    if name:
        import yaml

        click.echo(
            yaml.safe_dump(
                recipes.settings(name, imbalance_factor),
                sort_keys=False,
                default_flow_style=None,
                width=200,
            ).strip()
        )
        return
    rows = recipes.table()
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    click.echo(
        "*: of one stage nobody published settings at this factor; they are those of the nearest one."
    )
    click.echo(
        "Take one with `h2t run RECIPE -p method NAME`; each is trained without fusion and with H2T. `h2t methods NAME` lists its parameters."
    )


@main.command("import")
@click.argument("file", type=click.Path())
@click.option(
    "--run", "run_", required=True, type=click.Path(), help="The run directory to import into."
)
@click.option("--recipe", type=click.Path(), help="Prepare the run's data from this recipe first.")
@click.option(
    "--indices", type=click.Path(), help="A .npy file: the training subset of the checkpoint."
)
@PARAMETERS
@click.option("--again", is_flag=True, help="Replace a stage 1 that the run already has.")
@DEVICE
def import_(file, run_, recipe, indices, pairs, again, device):
    """Import a checkpoint in the reference's layout as the stage 1 of a run."""
    from h2t.exchange import reference as published
    from h2t.lab.books import execute as notebooks

    published.read_checkpoint(file)
    parameters = {}
    if recipe or pairs or indices:
        from h2t.base.readers import read_array
        from h2t.recipes.parameters import Data, check
        from h2t.train.prepare import prepare

        overrides = {k: notebooks.parse_value(v) for k, v in pairs}
        parameters = (
            notebooks.complete(*notebooks.load_recipe(recipe, overrides)) if recipe else overrides
        )
        check(parameters, also=parameters if recipe else ())
        prepare(run_, Data.of(parameters), indices=read_array(Path(indices)) if indices else None)
    result = published.import_checkpoint(
        file, run_, again=again, device=device, precision=parameters.get("precision", "auto")
    )
    if "last" in result:
        _show({"stage1": result})
    click.echo(f"imported {file} as stage 1 of {run_}")


@main.command()
@RUN
@DEVICE
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    help="fp32, bf16, or auto: as each step was measured before.",
)
@click.option("--recorded", is_flag=True, help="From recorded answers; no images are needed.")
@click.option("--out", type=click.Path(), help="A folder for tables of classes and wrong images.")
def evaluate(run, device, precision, recorded, out):
    """Evaluate every finished step of a run on the test set."""
    from h2t.exchange import answers
    from h2t.train.evaluate import evaluate

    _show(answers.recorded(run) if recorded else evaluate(run, device=device, precision=precision))
    if out:
        click.echo("\n".join(map(str, answers.write_answers(run, out))))


@main.command()
@RUN
@click.argument("images", type=click.Path())
@click.option(
    "--step", default="", help="The step to use.  [default: the best on the validation part]"
)
@click.option(
    "--out",
    default="predictions.csv",
    show_default=True,
    type=click.Path(),
    help="Where the table is saved.",
)
@DEVICE
def predict(run, images, step, out, device):
    """Label new images, a file or a folder, and save a table of label and confidence."""
    from pathlib import Path

    from h2t.base.files import write_atomic
    from h2t.exchange.predict import predict

    table = predict(run, Path(images).resolve(), step, device=device)
    write_atomic(Path(out).resolve(), table.to_csv(index=False).encode())
    bad = int((table["error"] != "").sum())
    click.echo(table.drop(columns="error").head(10).to_string(index=False))
    click.echo(
        f"{len(table) - bad} images labelled by {table.attrs['step']} in {Path(out).resolve()}"
        + (f"; {bad} could not be read, see its column error" if bad else "")
    )


@main.command()
@RUN
@click.option(
    "--step", default="", help="The step to export.  [default: the best on the validation part]"
)
@click.option(
    "--out", default="", type=click.Path(), help="The folder to write.  [default: RUN/export]"
)
@click.option("--onnx", is_flag=True, help="Also write model.onnx.")
def export(run, step, out, onnx):
    """Write a trained model as safetensors, as a plain state dict, as a checkpoint of the reference, and as ONNX."""
    from h2t.exchange.export import describe, export

    click.echo(describe(export(run, step, out, onnx=onnx)))


@main.command()
@RUN
@click.option(
    "--views", default=4, show_default=True, help="Augmented views of every training image."
)
@PARAMETERS
@DEVICE
def bank(run, views, pairs, device):
    """Build the feature bank of a run, on which the explorer trains."""
    from h2t.lab.books import execute as notebooks
    from h2t.recipes.parameters import check
    from h2t.train.cached.bank import build_bank
    from h2t.train.cached.steps import recipe_of

    overrides = {k: notebooks.parse_value(v) for k, v in pairs}
    check(overrides)
    built = build_bank(run, recipe_of(run, overrides), views, device=device)
    click.echo(
        f"{built.train.shape[0]} views of {built.train.shape[1]:,} images, {built.train.shape[2]} features, in {built.folder}"
    )


@main.command()
@RUN
@click.option(
    "--views", default=4, show_default=True, help="Augmented views of every training image."
)
@click.option(
    "--ip",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 lets other machines in.",
)
@click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser here.")
@click.option(
    "--save", default="", type=click.Path(), help="Write one file that opens anywhere, and stop."
)
@PARAMETERS
def explore(run, views, ip, port, no_browser, save, pairs):
    """Open the fusion explorer of a run as a page in the browser, or save it as one file."""
    from h2t.lab.books import execute as notebooks
    from h2t.lab.explorer import front, server
    from h2t.lab.explorer.engine import Explorer
    from h2t.lab.explorer.session import Session
    from h2t.recipes.parameters import check
    from h2t.train.cached.steps import recipe_of

    overrides = {k: notebooks.parse_value(v) for k, v in pairs}
    check(overrides)
    engine = Explorer(run, recipe_of(run, overrides), views=views)
    if save:
        file = front.save_page(engine, save)
        click.echo(f"saved: {file}, {file.stat().st_size / 1e6:.1f} MB")
    else:
        server.serve(Session(engine), ip=ip, port=port, browser=not no_browser)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(arguments):
    """Open the notebooks in JupyterLab; further arguments go to it."""
    import subprocess

    from h2t.base.files import resolve

    try:
        sys.exit(
            subprocess.call(
                [sys.executable, "-m", "jupyterlab", str(resolve("notebooks")), *arguments]
            )
        )
    except KeyboardInterrupt:
        sys.exit(130)


@main.command()
@click.argument("root", type=click.Path())
@click.option(
    "--out", default="", type=click.Path(), help="The report's folder.  [default: ROOT/report]"
)
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Also write event files for TensorBoard, into ROOT/tensorboard.",
)
@PARAMETERS
def report(root, out, tensorboard, pairs):
    """Compare the runs under a folder and render them, with their notebooks, to static HTML."""
    from h2t.lab.books import execute as notebooks
    from h2t.study.report.site import report

    if tensorboard:
        from h2t.study.report.tensorboard import export

        folder, steps = export(root)
        click.echo(f"event files of {steps} steps: tensorboard --logdir {folder}")
    click.echo(f"report: {report(root, out, {k: notebooks.parse_value(v) for k, v in pairs})}")


NAMES = {
    "stage1": "stage 1",
    "stage2-dr": "stage 2, DR",
    "stage2-dr-both": "stage 2, DR, BN sees both",
    "stage2-h2t-balanced": "stage 2, DR + H2T, BN sees balanced",
    "stage2-h2t-both": "stage 2, DR + H2T, BN sees both",
    "stage2-h2t": "stage 2, DR + H2T",
}


def _show(results, main_only: bool = False) -> None:
    """Print accuracies in %, an empty group as such; ``main_only`` leaves out further stage-2 variants of the run. Where a
    validation part was held out, its mean over classes stands beside them."""
    held_out = any("val" in r for r in results.values())
    table = [
        [
            "test accuracy, %",
            "many",
            "medium",
            "few",
            "all",
            "ece",
            *(["validation"] if held_out else []),
        ]
    ]
    for name, r in results.items():
        if "last" in r and (name in NAMES or not main_only):
            cells = [r["last"].get(k) for k in ("many", "medium", "few", "all", "ece")] + (
                [r.get("val", {}).get("balanced")] if held_out else []
            )
            table.append(
                [NAMES.get(name, name), *("empty" if c is None else f"{c:.2f}" for c in cells)]
            )
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        click.echo(
            "  ".join(
                c.ljust(w) if i == 0 else c.rjust(w)
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
        )


if __name__ == "__main__":
    main()
