"""Commands about many runs, about recipes, and what opens in a browser."""

from __future__ import annotations

import os
import sys

import click

from h2t.cli.options import DEVICE, LEDGER, PARAMETERS, PATH, ROOT, RUN, VIEWS, main, option


@main.command()
@ROOT
@option("--ratio", type=float, help="Only this fusion ratio.  [default: all; with --cached 0.25]")
@option("--cached", is_flag=True, help="ROOT is a run: train the four cells by cached stage 2s.")
@option("--seeds", default=5, help="With --cached: seeds of stage 2.")
@VIEWS
@LEDGER
@PARAMETERS
def control(root, ratio, cached, seeds, views, out, parameters):
    """Tell what fusion does from what the BN statistics do, over the runs under a folder."""
    from h2t.study.compare import control as controlling
    from h2t.study.compare import ledger

    if cached:
        ratios = (0.25 if ratio is None else ratio,)
        how = dict(views=views, overrides=parameters)
        rows = controlling.cached_rows(root, ratios, range(seeds), **how)
        found = controlling.summarise(rows)
    else:
        found = controlling.control(root, ratio)
    click.echo(controlling.markdown(found))
    click.echo(f"saved as {controlling.save(found, root) / 'control.md'}, .csv and .png")
    if out:
        cells, effects = controlling.sheets(found)
        beside = out.removesuffix(".csv") + "_effects.csv"
        click.echo(f"ledger: {ledger.save(cells, out)}, {ledger.save(effects, beside)}")


@main.command()
@click.argument("runs", nargs=-1, required=True, type=PATH)
@option("--seeds", default=5, help="Trainings of each head.")
@option("--views", default=2, help="Views of every training image.")
@option("--objective", default="balanced", help="balanced or natural.")
@option("--only", default="", help="These heads alone, such as crt,mixup,h2t.")
@option("--out", default="runs/heads", type=PATH)
@DEVICE
def heads(runs, seeds, views, objective, only, out, device):
    """Which head is best on the features of runs: all of them, tuned alike."""
    from h2t.base import tables
    from h2t.study.compare import heads as comparing
    from h2t.study.compare import ledger

    how = {"names": comparing.named(only), "seeds": range(seeds), "objective": objective}
    found = comparing.compare_heads(comparing.banks_of(runs, views, device=device), **how)
    tests = comparing.differences(found)
    click.echo(tables.plain(*ledger.texts(comparing.summary(found, tests), strong=""), left=2))
    click.echo("\n".join(comparing.verdict(found, tests)))
    click.echo(f"saved in {comparing.save(found, out)}")


@main.command()
@ROOT
def select(root):
    """Rank settings of runs by their validation part, and write the best as a recipe."""
    from h2t.base.files import resolve
    from h2t.study.compare.select import markdown, select

    click.echo(markdown(select(root)))
    best = resolve(root) / "selected.yaml"
    click.echo(f"the best as a recipe: {best}; the test set was not looked at")


@main.command()
def recipes():
    """List the recipes that h2t brings, each with a sentence."""
    from h2t.base.tables import plain
    from h2t.recipes.shipped import recipes

    click.echo(plain(("recipe", "what it is"), recipes().items(), left=2))
    click.echo("Run one with `h2t run NAME`, one with lists, a sweep, with `h2t sweep NAME`.")


@main.command()
@ROOT
@option("--out", default="", type=PATH, help="The report's folder.  [default: ROOT/report]")
@option("--tensorboard", is_flag=True, help="Also write event files, into ROOT/tensorboard.")
@PARAMETERS
def report(root, out, tensorboard, parameters):
    """Compare the runs under a folder and render them, with their notebooks, to static HTML."""
    from h2t.study.report.site import report

    if tensorboard:
        from h2t.study.report.tensorboard import export

        folder, steps = export(root)
        click.echo(f"event files of {steps} steps: tensorboard --logdir {folder}")
    click.echo(f"report: {report(root, out, parameters)}")


@main.command()
@RUN
@VIEWS
@option("--ip", default="127.0.0.1", help="Address to listen on; 0.0.0.0 lets other machines in.")
@option("--port", default=0, help="Port to listen on; 0 takes a free one.")
@option("--no-browser", is_flag=True, help="Do not open a browser here.")
@option("--save", default="", type=PATH, help="Write one file that opens anywhere, and stop.")
@PARAMETERS
def explore(run, views, ip, port, no_browser, save, parameters):
    """Open the fusion explorer of a run as a page in the browser, or save it as one file."""
    from h2t.lab import front, server
    from h2t.lab.explorer import saving
    from h2t.lab.explorer.engine import Explorer
    from h2t.lab.explorer.session import Session
    from h2t.recipes.parameters import check
    from h2t.train.cached.steps import recipe_of

    check(parameters)
    if save:  # a bank takes minutes, so before it
        front.writable(save)
    engine = Explorer(run, recipe_of(run, parameters), views=views)
    if save:
        file = Session.save_page(engine, save)
        return click.echo(f"saved: {file}, {file.stat().st_size / 1e6:.1f} MB")
    page = front.page(saving.title(engine), "explorer_page")
    server.serve(page, Session(engine), ip=ip, port=port, browser=not no_browser)


@main.command()
@option("--no-browser", is_flag=True, help="Do not open a browser here.")
@option("--save", default="", type=PATH, help="Write one file that opens anywhere, and stop.")
def teach(no_browser, save):
    """Open the toy of notebook 00, two classes whose points one drags, as a page in the browser."""
    from h2t.lab import front, server
    from h2t.lab.toy.front import page

    if save:
        return click.echo(f"saved: {front.write(save, page())}")
    server.serve(page(), browser=not no_browser)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(arguments):
    """Open the notebooks, or a working copy of them here, in JupyterLab.

    Further arguments go to it.
    """
    from h2t.lab.books.copies import command

    start = command(arguments)
    if sys.platform == "win32":  # exec there returns to the prompt at once
        import subprocess

        sys.exit(subprocess.call(start))
    os.execv(start[0], start)  # Ctrl-C is Jupyter's own then
