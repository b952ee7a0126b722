"""What all benches share: rows printed and saved as they come, and targets judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pandas as pd

from h2t.base.files import resolve, write_atomic
from h2t.base.machine import environment


class Rows:
    """The rows of a bench: each is printed and saved at once, so that one cut short leaves what it
    measured, as a ledger from which a README's table is written (tests/tables.py).
    Arguments: ``out`` a CSV file; ``device`` that is timed."""

    def __init__(self, out: str | Path, device: str = "cpu"):
        self.path, self.rows, self.met = resolve(out), [], True
        env = environment(device)
        cpu = f"{env['cpu']}, {env['cores']} cores, {env['threads']} threads"
        used = cpu if env["device"] == "cpu" else f"{env['device']}, {cpu}"
        made = {"revision": env["revision"], "h2t": env["h2t"], "torch": env["packages"]["torch"]}
        self.machine = {**made, "device_name": used}
        click.echo(", ".join(f"{k} {v}" for k, v in self.machine.items()))

    def add(self, **row: Any) -> None:
        """A row of measures by their names."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(self.rows).rename(columns=lambda c: c.replace("_", " "))
        table = table.assign(**self.machine)
        write_atomic(self.path, table.to_csv(index=False).encode())
        click.echo("  ".join(f"{k} {v}" for k, v in row.items() if v not in ("", None)))

    def judge(self, what: str, value: float, target: float, *, least: bool = False) -> None:
        """A measure beside its target, which it must not exceed, or with ``least`` must reach."""
        met = value >= target if least else value <= target
        self.met &= bool(met)
        goal = f"at {'least' if least else 'most'} {target:g}"
        self.add(what=what, value=round(value, 3), target=goal, verdict="met" if met else "missed")
