"""Commands about one run's models and images."""

from __future__ import annotations

from pathlib import Path

import click

from h2t.cli import options
from h2t.cli.options import AGAIN, DEVICE, PARAMETERS, PATH, RUN, STEP, main, option, show


@main.command()
@RUN
@DEVICE
@option("--out", type=PATH, help="Write what was answered into this folder, without images.")
def evaluate(run, device, out):
    """Evaluate a run's finished steps on its test set."""
    from h2t.exchange.answers import write_answers
    from h2t.train.evaluate import evaluate

    if out:
        return click.echo("\n".join(map(str, write_answers(run, out))))
    show(evaluate(run, device=device))


@main.command()
@RUN
@click.argument("images", type=PATH)
@STEP
@option("--out", default="predictions.csv", type=PATH, help="Where the table is saved.")
@DEVICE
def predict(run, images, step, out, device):
    """Label new images, a file or a folder."""
    from h2t.base.files import write_atomic
    from h2t.exchange.predict import predict

    out = Path(out).resolve()
    table = predict(run, Path(images).resolve(), step, device=device)
    write_atomic(out, table.to_csv(index=False).encode())
    bad = int((table["error"] != "").sum())
    click.echo(table.drop(columns="error").head(10).to_string(index=False))
    unread = f"; {bad} could not be read, see its column error" if bad else ""
    click.echo(f"{len(table) - bad} images labelled by {table.attrs['step']} in {out}{unread}")


@main.command()
@RUN
@STEP
@option("--out", default="", type=PATH, help="The folder to write.", show_default="RUN/export")
@option("--onnx", is_flag=True, help="Also write model.onnx.")
def export(run, step, out, onnx):
    """Write a model for other software.

    As safetensors, checkpoint of the reference, and ONNX.
    """
    from h2t.exchange.export import describe, export

    click.echo(describe(export(run, step, out, onnx=onnx)))


@main.command("import")
@click.argument("file", type=PATH)
@option("--run", "run_", required=True, type=PATH, help="The run to import into.")
@option("--recipe", type=PATH, help="Prepare the run's data from this recipe first.")
@option("--indices", type=PATH, help="A .npy file: the training subset of the checkpoint.")
@PARAMETERS
@AGAIN
@DEVICE
def import_(file, run_, recipe, indices, parameters, again, device):
    """Make a checkpoint of the reference the stage 1 of a run."""
    from h2t.exchange.reference import import_checkpoint, read_checkpoint

    read_checkpoint(file)
    if recipe or parameters or indices:
        from h2t.base.readers import read_array
        from h2t.lab.books import execute as notebooks
        from h2t.recipes.parameters import Data, check
        from h2t.train.prepare import prepare

        if recipe:
            parameters = notebooks.complete(*notebooks.load_recipe(recipe, parameters))
        check(parameters, also=parameters if recipe else ())
        subset = read_array(Path(indices)) if indices else None
        prepare(run_, Data.of(parameters), indices=subset)
    how = dict(device=device, precision=parameters.get("precision", "auto"))
    result = import_checkpoint(file, run_, again=again, **how)
    if "last" in result:
        show({"stage1": result})
    click.echo(f"imported {file} as stage 1 of {run_}")


@main.command()
@options.RECIPE
@click.argument("file", type=PATH)
@PARAMETERS
def pack(recipe, file, parameters):
    """Write the images of a recipe to one file."""
    from h2t.base.files import resolve
    from h2t.lab.books import execute as notebooks
    from h2t.recipes.parameters import Data
    from h2t.train.prepare import pack

    whole = notebooks.complete(*notebooks.load_recipe(recipe, parameters))
    made, size = pack(Data.of(whole), resolve(file))
    click.echo(
        f"{sum(made.counts):,} training images and the test images in {resolve(file)}, "
        f"{size / 1e6:.1f} MB; there: -p source npz -p root {file}\n"
        "it stands for the whole set at this imbalance_factor and at larger ones"
    )


@main.command()
@RUN
@options.VIEWS
@PARAMETERS
@DEVICE
def bank(run, views, parameters, device):
    """Build the feature bank that the explorer trains on."""
    from h2t.recipes.parameters import check
    from h2t.train.cached.bank import build_bank
    from h2t.train.cached.steps import recipe_of

    check(parameters)
    built = build_bank(run, recipe_of(run, parameters), views, device=device)
    number, images, width = built.train.shape[:3]
    click.echo(f"{number} views of {images:,} images, {width} features, in {built.folder}")
