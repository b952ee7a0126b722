"""A process that decodes images into memory it shares with the one that trains. It knows neither torch nor the index.

It is told what to do in lines of JSON on its standard input, the first of which describes the memory, answers each with
an error or an empty text, and ends when the input does: whatever becomes of the other process, none of these is left behind.
"""

from __future__ import annotations

import json
import mmap
import signal
import sys

import numpy as np

from h2t.base.errors import Error
from h2t.data.images import read_image


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other process to handle
    setup = json.loads(sys.stdin.readline())
    with open(setup["memory"], "r+b") as f:
        memory = mmap.mmap(f.fileno(), 0)
    slots = np.frombuffer(memory, np.uint8).reshape(setup["shape"])  # (slots, images, H, W, C)
    size, channels, fit = setup["image_size"], setup["channels"], setup["fit"]
    print(json.dumps(""), flush=True)
    for line in sys.stdin:
        slot, paths, crops = json.loads(line)
        error = ""
        try:
            for k, path in enumerate(paths):
                slots[slot, k] = read_image(path, size, channels, fit, crops[k] if crops else None)
        except Error as e:
            error = str(e)
        print(json.dumps(error), flush=True)
