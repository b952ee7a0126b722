"""Everything worth knowing of h2t on a GPU, for the quarter of an hour in which one is lent.

    python -m tests.gpu --out "$OUT" --pack .pack/if50.npz --minutes 8   # where the GPU is
    python -m tests.gpu --out /tmp/x --device cpu --tiny                 # does it work?

Needs what h2t needs to train, no Jupyter, no network. ``--pack`` is what `h2t pack
notebooks/recipes/cifar100.yaml if50.npz -p imbalance_factor 50` writes (60 MiB): it stands for
imbalance factors 50, 100 and 200. gpu_check.json and gpu_check.md under --out are written anew
after each section.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from tests.gpu.lease import child, parent
from tests.gpu.plan import SECTIONS


def main() -> int:
    how = {"description": __doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(**how)
    parser.add_argument("--out", default=os.environ.get("OUT", "gpu_check_out"))
    parser.add_argument("--work", default="")
    parser.add_argument("--pack", default="")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--jobs", type=int, default=4, help="runs at a time on the one GPU")
    parser.add_argument("--epochs", type=int, default=0, help="of stage 1, in place of 200")
    parser.add_argument("--only", default="", help="sections, with commas")
    parser.add_argument("--more", action="store_true", help="go on with an earlier call's results")
    parser.add_argument("--tiny", action="store_true", help="toys, to try the script itself")
    for name in ("--sections", "--known-file"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    parser.add_argument("--ends", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out = str(Path(args.out).resolve())
    args.work = args.work or str(Path(os.environ.get("TMPDIR", "/tmp")) / "gpu_check_work")
    args.pack = str(Path(args.pack).resolve()) if args.pack else ""
    if args.tiny:
        SECTIONS.update({name: (3 * limit, need) for name, (limit, need) in SECTIONS.items()})
    if args.child:
        args.known = json.loads(Path(args.known_file).read_text())
        child(args)
        return 0
    return parent(args)


if __name__ == "__main__":
    sys.exit(main())
