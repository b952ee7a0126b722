"""Everything worth knowing of h2t on a GPU, for the quarter of an hour in which one is lent.

    python -m tests.gpu --out /tmp/x --device cpu --tiny      # does it work?
    python -m tests.gpu --prepare .gpu --source FILE.npz      # what two calls need, on a machine
    bash .gpu/first/run.sh                                    # with a network; then where the GPU
    bash .gpu/second/run.sh                                   # is, one at once after the other

FILE.npz is CIFAR-100 in the MedMNIST layout. Each of the two folders holds all that its call needs
besides the checkout and PyTorch: packages that such a machine may lack, for its Python
(``--python 3.12``); the first one CIFAR-100-LT at imbalance factor 50, which stands for 100 and 200
too; the second one the weights of encoder lite0. With the checkout each is under 64 MiB. No
network, no Jupyter. The first call takes 8 minutes and some seconds; the second, in which the runs
go on, what is left of the quarter of an hour (``--minutes``, 3.5 unless said). They leave their
findings in $OUT, or in gpu_out: after each row gpu.csv (with device, versions, revision and command
in every line), gpu.json and the page gpu.md, at the end the runs' files and weights.

At home, ledgers of them: python -m tests.gpu --home gpu.json --out notebooks/results

A call by hand:

    python -m tests.gpu --out gpu_out --pack .gpu/first/pack.npz --minutes 9 [--only parity,steps]
"""

import argparse
import json
import os
import sys
from pathlib import Path

from tests.gpu.home import home
from tests.gpu.lease import child, parent
from tests.gpu.plan import SECTIONS
from tests.gpu.prepare import prepare


def parsed(given: list[str] | None = None) -> argparse.Namespace:
    how = {"description": __doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(**how)
    parser.add_argument("--out", default=os.environ.get("OUT", "gpu_out"))
    parser.add_argument("--work", default="", help="where the runs lie")
    parser.add_argument("--pack", default="", help="of --prepare; without, random images")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--jobs", type=int, default=6, help="runs at a time on the one GPU")
    parser.add_argument("--epochs", type=int, default=0, help="of stage 1, in place of 200")
    parser.add_argument("--only", default="", help="sections, with commas")
    parser.add_argument("--more", action="store_true", help="go on with an earlier call's results")
    parser.add_argument("--tiny", action="store_true", help="toys, to try the script itself")
    parser.add_argument("--prepare", default="", help="a folder to write for the two calls")
    parser.add_argument("--source", default="", help="CIFAR-100 as npz, for --prepare")
    parser.add_argument("--python", default="3.12", help="that of the machine, for --prepare")
    parser.add_argument("--home", default="", help="a gpu.json, to write its ledgers to --out")
    parser.add_argument("--revision", default="", help="of h2t, where there is no Git")
    for name in ("--sections", "--known-file"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    parser.add_argument("--ends", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(given)
    if unknown := set(filter(None, args.only.split(","))) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    args.out = str(Path(args.out).resolve())
    args.work = args.work or str(Path(os.environ.get("TMPDIR", "/tmp")) / "gpu_check_work")
    args.pack = str(Path(args.pack).resolve()) if args.pack else ""
    return args


def main() -> int:
    args = parsed()
    if args.home:
        return home(args.home, Path(args.out))
    if args.prepare:
        return prepare(Path(args.prepare), args.source, args.python)
    if args.tiny:
        SECTIONS.update({name: (3 * limit, need) for name, (limit, need) in SECTIONS.items()})
    if args.child:
        args.known = json.loads(Path(args.known_file).read_text())
        child(args)
        return 0
    return parent(args)


if __name__ == "__main__":
    sys.exit(main())
