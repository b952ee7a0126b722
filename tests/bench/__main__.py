"""``python -m tests.bench WHAT [--check]``: what is timed, beside what, with stated targets."""

import functools
import importlib
import sys

import click

from h2t.base.errors import Error
from h2t.train.device import pick_device
from tests.bench.harness import Rows

WHAT = ("steps", "loader", "encoders", "explorer", "sweep", "table")
option = functools.partial(click.option, show_default=True)


@click.command()
@click.argument("what", type=click.Choice(WHAT), default="steps")
@option("--check", is_flag=True, help="Exit 1 where a stated target is missed.")
@option("--out", help="Where the rows are saved.  [default: runs/bench_WHAT.csv]")
@option("--run", "run_", default="runs/digits", help="explorer: the run to open.")
@option("--steps", default=4, help="steps: timed steps of each loop a turn.")
@option("--device", default="auto", help="auto, cpu or cuda.")
def bench(what, check, out, run_, steps, device):
    """Time training steps beside a plain loop of the kind the field publishes, the loader of image
    files beside torchvision's, encoders beside timm and onnxruntime, the moves of the explorer,
    what a sweep costs beyond its training, or the table of 10,000 runs.
    """
    timed = getattr(importlib.import_module(f"tests.bench.{what}"), f"bench_{what}")
    own = {"steps": {"steps": steps}, "explorer": {"run": run_}}
    try:
        chosen = pick_device(device)
        rows = Rows(out or f"runs/bench_{what}.csv", str(chosen))
        timed(rows, **own.get(what, {}), **_device(what, chosen))
    except Error as e:
        click.echo(f"Error: {e}", err=True)
        sys.exit(2)
    click.echo(f"rows saved to {rows.path}")
    if check and not rows.met:
        sys.exit(1)


def _device(what: str, chosen) -> dict:
    return {"device": chosen} if what in ("steps", "loader", "encoders") else {}


if __name__ == "__main__":
    bench()
