"""The sections in the order of their worth, and what each may take."""

import os
from pathlib import Path

HERE = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """That of processes that use h2t: they find it, and what was carried along with it."""
    carried = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), carried)))}


# name: (seconds it may take, seconds that must be left for it to begin)
SECTIONS = {
    "facts": (60, 0),
    "parity": (110, 20),  # graph against eager, resume, GPU against CPU, host syncs of an epoch
    "steps": (90, 30),  # ms a step, kernels, busy share, what cheap changes would bring
    "end_to_end": (150, 60),  # IF 100, seed 0: both stages on real images, where the seconds go
    "bank": (60, 20),  # bank and curve of ratios on the GPU and the CPU; cached against exact
    "encoders": (60, 20),  # images/s of the frozen encoders
    "fallback": (60, 15),  # a loss that cannot be captured: does the run go on?
    "tests": (90, 25),  # the project's own GPU tests
    "large": (60, 25),  # ResNet-50 at 224 pixels, captured
    "streamed": (60, 25),  # pinned memory and decode workers against the resident loader
    "nccl": (40, 15),  # the collectives that several processes use, in a group of one
    "plain": (60, 20),  # the plain loop of the field, for the ratio
    "sharing": (60, 30),  # several seeds in threads of one process
    "runs": (900, 60),  # what the tables lack, in the order of its worth: all the time that is left
    "compile": (150, 100),  # torch.compile inside the captured graph
}
# a child process each, so that neither an exception nor a CUDA error nor a hang stops the next
GROUPS = (
    ("facts", "parity"),
    ("end_to_end",),
    ("tests",),
    ("steps",),
    ("bank", "encoders"),
    ("fallback",),
    ("plain", "large", "streamed"),
    ("nccl",),
    ("sharing",),
    ("runs",),
    ("compile",),
)
# those of the first of the two calls that fit into a quarter of an hour; the second does the rest
# and goes on with the runs
FIRST = ("facts", "parity", "end_to_end", "tests", "runs")
SECOND = ("steps", "bank", "encoders", "fallback", "plain", "large", "streamed", "nccl", "sharing")
SECOND += ("runs",)
RESERVE = 15  # seconds kept back from the runs for bringing them home
