"""``python -m tests.bench WHAT [--check]``: what is timed, beside what, with stated targets."""

import sys

import click

DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")


@click.command()
@click.argument(
    "what",
    type=click.Choice(["steps", "gpu", "loader", "explorer", "sweep", "table"]),
    default="steps",
)
@click.option("--check", is_flag=True, help="Exit 1 where a stated target is missed.")
@click.option(
    "--out", type=click.Path(), help="Where the rows are saved.  [default: runs/bench_WHAT.csv]"
)
@click.option(
    "--run",
    "run_",
    type=click.Path(),
    default="runs/digits",
    show_default=True,
    help="explorer: the run to open.",
)
@click.option(
    "--root",
    default="",
    help="gpu: a file of CIFAR-100's images for the whole run.  [default: random pixels]",
)
@click.option(
    "--steps", default=4, show_default=True, help="steps: timed steps of each loop a turn."
)
@DEVICE
def bench(what, check, out, run_, root, steps, device):
    """Time training steps beside a plain loop of the kind the field publishes, everything on a GPU, the loader of image files beside
    torchvision's, the moves of the explorer, what a sweep costs beyond its training, or the table of 10,000 runs."""
    out = out or f"runs/bench_{what}.csv"
    if what == "steps":
        from tests.bench.steps import bench_steps

        met = bench_steps(out, steps=steps, device=device)
    elif what == "gpu":
        from tests.bench.gpu import bench_gpu

        met = bench_gpu(out, root=root, device=device)
    elif what == "loader":
        from tests.bench.loader import bench_loader

        met = bench_loader(out, device=device)
    elif what == "sweep":
        from tests.bench.sweep import bench_sweep

        met = bench_sweep(out)
    elif what == "table":
        from tests.bench.table import bench_table

        met = bench_table(out)
    else:
        from tests.bench.explorer import bench_explorer

        met = bench_explorer(run_, out)
    if check and not met:
        sys.exit(1)


if __name__ == "__main__":
    bench()
