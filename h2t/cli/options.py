"""The group of commands, their common options, and the table of a run's accuracies."""

from __future__ import annotations

import functools

import click

from h2t import __version__
from h2t.base.errors import Error

option = functools.partial(click.option, show_default=True)
PATH = click.Path()


def _values(ctx, param, pairs) -> dict:
    """Names and texts of ``-p`` as names and values."""
    from h2t.lab.books.execute import parse_value

    return {name: parse_value(text) for name, text in pairs}


RECIPE, RUN, ROOT = (click.argument(name, type=PATH) for name in ("recipe", "run", "root"))
_GIVEN = dict(nargs=2, multiple=True, metavar="NAME VALUE", callback=_values)
PARAMETERS = option("-p", "parameters", help="Set a parameter; may be repeated.", **_GIVEN)
DEVICE = option("--device", default="auto", help="auto, cpu or cuda.")
AGAIN = option("--again", is_flag=True, help="Start over: what the run holds is discarded.")
_MANY = "Runs at a time; 0: one to a GPU or core."
JOBS = option("--jobs", type=click.IntRange(min=0), default=0, help=_MANY)
BEST = "the best on the validation part"
STEP = option("--step", default="", help="The step to use.", show_default=BEST)
LEDGER = option("--out", type=PATH, help="Also write the table as CSV, with hashes.")
VIEWS = option("--views", default=4, help="Augmented views of each training image.")


class _Group(click.Group):
    """Turn h2t.Error into one message and exit status 2, and Ctrl-C into one line."""

    def list_commands(self, ctx):
        return list(self.commands)  # in the order of their files, not of the alphabet

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except Error as e:
            click.echo(f"Error: {e}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            on = "run the same command again to go on from the last checkpoint"
            click.echo(f"interrupted; {on}", err=True)
            ctx.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main():
    """Feature fusion from head to tail: a workbench for long-tailed recognition.

    Begin with `h2t run digits`. RECIPE is a name of `h2t recipes` or a file, RUN a run's folder,
    ROOT a folder of runs.
    """


def show(results) -> None:
    """Print accuracies in %, an empty group as such, beside those on a validation part."""
    from h2t.base.tables import number, plain
    from h2t.recipes.names import STEPS

    header, rows = ["test accuracy, %", "many", "medium", "few", "all", "ece"], []
    held_out = any("val" in r for r in results.values())
    for step, r in results.items():
        if "last" in r:
            values = [r["last"].get(k) for k in header[1:]]
            values += [r.get("val", {}).get("balanced")] if held_out else []
            rows.append([STEPS.get(step, step), *(number(v) or "empty" for v in values)])
    click.echo(plain(header + ["validation"] * held_out, rows))
