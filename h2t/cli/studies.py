"""Commands that open in a browser, and those about many runs."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from h2t.cli.options import DEVICE, LEDGER, PARAMETERS, PATH, ROOT, RUN, VIEWS, main, option


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(arguments):
    """Open the notebooks in JupyterLab.

    Outside a checkout a working copy of them is made here. ARGUMENTS are JupyterLab's own.
    """
    from h2t.lab.books.copies import command

    start = command(arguments)
    if os.name == "nt":  # exec there returns to the prompt at once
        sys.exit(subprocess.call(start))
    os.execv(start[0], start)  # Ctrl-C is Jupyter's own then


@main.command()
@RUN
@VIEWS
@option("--ip", default="127.0.0.1", help="Address to listen on; 0.0.0.0 lets other machines in.")
@option("--port", default=0, type=click.IntRange(0, 65535), help="0 takes a free one.")
@option("--no-browser", is_flag=True, help="Do not open a browser here.")
@option("--save", type=PATH, help="Write one file that opens anywhere, and stop.")
@PARAMETERS
def explore(run, views, ip, port, no_browser, save, parameters):
    """Open the fusion explorer of a run in a browser."""
    from h2t.lab import front, server
    from h2t.lab.explorer import page
    from h2t.lab.explorer.engine import Explorer
    from h2t.lab.explorer.session import Session
    from h2t.train.cached.steps import recipe_of

    if save:  # a bank takes minutes, so before it
        front.writable(save)
    engine = Explorer(run, recipe_of(run, parameters), views=views)
    if save:
        file = page.save(engine, save)
        return click.echo(f"saved: {file}, {file.stat().st_size / 1e6:.1f} MB")
    server.serve(page.page(engine), Session(engine), ip=ip, port=port, browser=not no_browser)


@main.command()
@option("--no-browser", is_flag=True, help="Do not open a browser here.")
@option("--save", type=PATH, help="Write one file that opens anywhere, and stop.")
def teach(no_browser, save):
    """Open the toy of notebook 00 in a browser.

    Two classes in the plane, whose points one drags.
    """
    from h2t.lab import front, server
    from h2t.lab.toy.front import page

    if save:
        return click.echo(f"saved: {front.write(save, page())}")
    server.serve(page(), browser=not no_browser)


@main.command()
@ROOT
@option("--out", default="", type=PATH, help="Its folder.", show_default="ROOT/report")
@option("--tensorboard", is_flag=True, help="Also write event files, into ROOT/tensorboard.")
@PARAMETERS
def report(root, out, tensorboard, parameters):
    """Compare runs in static HTML, with their notebooks."""
    from h2t.study.report.site import report

    if tensorboard:
        from h2t.study.report.tensorboard import export

        folder, steps = export(root)
        click.echo(f"event files of {steps} steps: tensorboard --logdir {folder}")
    click.echo(f"report: {report(root, out, parameters)}")


@main.command()
@click.argument("runs", nargs=-1, required=True, type=PATH)
@option("--seeds", default=5, help="Trainings of each head.")
@option("--objective", default="balanced", help="What counts: balanced or natural.")
@option("--only", default="", help="These heads alone, such as crt,mixup,h2t.")
@option("--out", default="runs/heads", type=PATH, help="Where the tables are saved.")
@DEVICE
def heads(runs, seeds, objective, only, out, device):
    """Compare all heads, tuned alike, on the features of runs."""
    from h2t.base import tables
    from h2t.heads import HEADS
    from h2t.study.compare import heads as comparing
    from h2t.study.compare import ledger

    names = only.split(",") if only else tuple(HEADS)
    comparing.check(names)  # before banks are built
    how = {"names": names, "seeds": range(seeds), "objective": objective}
    found = comparing.compare_heads(comparing.banks_of(runs, device=device), **how)
    tests = comparing.differences(found)
    click.echo(tables.plain(*ledger.texts(comparing.summary(found, tests), strong=""), left=2))
    click.echo("\n".join(comparing.verdict(found, tests)))
    click.echo(f"saved in {comparing.save(found, out)}")


@main.command()
@ROOT
@option("--ratio", type=float, help="Of this fusion ratio.", show_default="all, cached 0.25")
@option("--cached", is_flag=True, help="ROOT is a run: five cached stage 2s of each cell.")
@LEDGER
@PARAMETERS
def control(root, ratio, cached, out, parameters):
    """Tell the effect of fusion from that of BN statistics."""
    from h2t.study.compare import control as controlling
    from h2t.study.compare import ledger

    if cached:
        ratio = 0.25 if ratio is None else ratio
        found = controlling.summarise(controlling.cached_rows(root, ratio, overrides=parameters))
    else:
        found = controlling.control(root, ratio)
    click.echo(controlling.markdown(found))
    click.echo(f"saved as {controlling.save(found, root) / 'control.md'} and .png")
    if out:
        cells, effects = controlling.sheets(found)
        beside = out.removesuffix(".csv") + "_effects.csv"
        click.echo(f"ledger: {ledger.save(cells, out)}, {ledger.save(effects, beside)}")


@main.command()
@ROOT
def select(root):
    """Choose settings by the validation part of runs.

    The best are written as a recipe; the test set is not looked at.
    """
    from h2t.base.files import resolve
    from h2t.study.compare.select import markdown, select

    click.echo(markdown(select(root)))
    best = resolve(root) / "selected.yaml"
    click.echo(f"the best as a recipe: {best}; the test set was not looked at")
