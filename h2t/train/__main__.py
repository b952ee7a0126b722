"""`torchrun --nproc_per_node=N -m h2t.train RECIPE`: what `h2t run --plain` does, in several processes at once."""

from __future__ import annotations

import os
import sys

import click

from h2t import cli
from h2t.train.processes.job import job


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@cli.RECIPE
@cli.PARAMETERS
@click.option("--again", is_flag=True, help="Discard what the run directory holds and start over.")
@cli.DEVICE
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Minutes that a process waits for the others.",
)
def main(recipe, pairs, again, device, timeout):
    """Train both stages of a recipe, in as many processes as torchrun starts. Parameter batch_size is that of all together."""
    with job(device, timeout) as own:
        cli.run.callback(recipe, pairs, again, True, own)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except click.ClickException as e:
        if os.environ.get("RANK", "0") == "0":  # every process reads the same command line
            e.show()
        sys.exit(e.exit_code)
