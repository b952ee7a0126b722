"""Commands that train, and what they are told: recipes, methods, parameters."""

from __future__ import annotations

import os
import sys

import click

from h2t.base.errors import Error
from h2t.cli import options
from h2t.cli.options import AGAIN, DEVICE, PARAMETERS, RECIPE, main, option, show

MINUTES = click.FloatRange(min=0, min_open=True)
WAIT = "Under torchrun: minutes that a process waits for the others."


@main.command()
@RECIPE
@PARAMETERS
@AGAIN
@option("--plain", is_flag=True, help="Train without notebooks.")
@DEVICE
@option("--timeout", type=MINUTES, default=30.0, help=WAIT)
def run(recipe, parameters, again, plain, device, timeout):
    """Train a recipe through notebooks 01 to 04.

    In several processes: torchrun --nproc_per_node=4 -m h2t run RECIPE --plain
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return _run(recipe, parameters, again, plain, device)
    if not plain:
        raise Error("torchrun starts several processes, but notebooks run in one; add --plain")
    from h2t.train.processes.job import job

    with job(device, timeout) as own:
        _run(recipe, parameters, again, plain, own)


def _run(recipe, overrides, again, plain, device) -> None:
    from h2t.lab.books import execute as notebooks

    parameters, books = notebooks.load_recipe(recipe, overrides)
    if device != "auto":
        from h2t.train.device import pick_device

        pick_device(device)  # refuses one that is not there before any work
    if plain:
        from h2t.pipeline import run_plain

        done = run_plain(notebooks.complete(parameters, books), device=device, again=again)
    else:
        from h2t.lab.books.apart import run_recipe

        done = run_recipe(parameters, books, again=again, device=device)
    click.echo("\n".join(done.inputs["notes"]))
    results = done.results()
    if imported := results.get("stage1", {}).get("imported"):
        click.echo(f"stage 1 was imported from {imported['file']}, and not trained by this recipe")
    if not parameters.get("objective"):
        from h2t.study.compare.overview import ending

        click.echo(ending(done))
    else:
        from h2t.recipes.names import STEPS
        from h2t.study import own

        show({step: result for step, result in results.items() if step in STEPS})
        click.echo(f"run directory: {done.path}")
        click.echo(own.choose_head(done, objective=parameters["objective"], device=device))
        click.echo(f"next:\n{own.next_commands(done)}")


@main.command()
@RECIPE
@PARAMETERS
@options.JOBS
@option("--ray", "address", metavar="ADDRESS", help="Run on a Ray cluster: its address, or auto.")
@option("--notebooks", "books", default="01,02,03", help="Those to execute in each run, or all.")
@option("--plain", is_flag=True, help="Train without notebooks.")
@option("--dry-run", is_flag=True, help="Show the plan and stop.")
def sweep(recipe, parameters, jobs, address, books, plain, dry_run):
    """Train each run of a recipe that has lists or ranges.

    Stopped by anything, the same command goes on.
    """
    from h2t.study.sweep import plan as planning

    chosen = None if plain else planning.choose_books(books)
    plan = planning.plan(recipe, parameters, books=chosen)
    if address:
        from h2t.study.sweep.cluster import Cluster

        pool = Cluster(address, jobs)
    else:
        from h2t.study.sweep.pool import Pool

        pool = Pool(jobs, notebooks=not plain)
    click.echo(f"{plan}\n{pool}")
    if dry_run:
        return pool.close()
    from h2t.study.sweep.drive import sweep

    failed, done = sweep(plan, pool), plan.done
    if done:
        from h2t.study.compare.overview import overview

        click.echo(overview(plan.root))
    compare = f"; compare them: h2t report {plan.root}" if done else ""
    click.echo(f"{len(done)} of {len(plan.points)} runs are done in {plan.root}{compare}")
    _failures(failed)


def _failures(failed: dict[str, str]) -> None:
    """Name the jobs that failed and exit with 1, if there are any."""
    if failed:
        again = "run the same command again to try them again"
        click.echo(f"{len(failed)} jobs failed; {again}:", err=True)
        for name, reason in failed.items():
            click.echo(f"  {name}: {reason}", err=True)
        sys.exit(1)


@main.command()
@options.ROOT
@options.JOBS
@options.LEDGER
@PARAMETERS
def reproduce(root, jobs, out, parameters):
    """Hold runs against the published tables.

    ROOT may be a recipe: those of its runs that are missing are trained first.
    """
    from h2t.base.files import resolve
    from h2t.study.compare.ledger import save
    from h2t.study.compare.reproduce import markdown, reproduce, sheet

    failed = {}
    if not resolve(root).is_dir():
        from h2t.study.sweep.drive import sweep
        from h2t.study.sweep.plan import plan
        from h2t.study.sweep.pool import Pool

        planned = plan(root, parameters, books=None)
        click.echo(planned)
        root = planned.root
        failed = sweep(planned, Pool(jobs, notebooks=False))
    found = reproduce(root)
    click.echo(markdown(found))
    click.echo(f"saved as {resolve(root) / 'reproduced.md'}")
    if out:
        click.echo(f"ledger: {save(sheet(found), out)}")
    _failures(failed)


@main.command()
def recipes():
    """List the recipes that come with h2t."""
    from h2t.base.tables import plain
    from h2t.recipes.shipped import recipes

    click.echo(plain(("recipe", "what it is"), recipes().items(), left=2))
    click.echo("Train one with `h2t run NAME`, a sweep with `h2t sweep NAME`.")


@main.command()
@click.argument("name", default="")
@option("--imbalance-factor", default=100, help="At which imbalance factor.")
def methods(name, imbalance_factor):
    """List published methods, or the parameters of one."""
    from h2t.base.tables import plain
    from h2t.recipes import methods as recipes

    if name:
        import yaml

        settings = recipes.settings(name, imbalance_factor)
        how = dict(sort_keys=False, default_flow_style=None, width=200)
        return click.echo(yaml.safe_dump(settings, **how).strip())
    header, *rows = recipes.table()
    click.echo(plain(header, rows, left=len(header)))
    click.echo(
        "*: nobody published settings of one of its stages at this factor; they are those of the "
        "nearest.\nTrain one with `h2t run RECIPE -p method NAME`, without fusion and with H2T. "
        "`h2t methods NAME` lists its parameters."
    )


@main.command()
@click.argument("name", default="")
def parameters(name):
    """List the parameters of a run, or all that is known of one."""
    from h2t.recipes.listing import explained, listed

    click.echo(explained(name) if name else listed())
