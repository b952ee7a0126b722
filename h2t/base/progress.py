"""Progress bars, in notebooks and terminals."""

from __future__ import annotations

import os


def watched() -> bool:
    """Whether anybody looks while it runs: not where ``$TQDM_DISABLE`` is set, as in a sweep."""
    return os.environ.get("TQDM_DISABLE", "") in ("", "0")


def bar(*args, progress: bool = True, **how):
    """A tqdm bar for the notebook or terminal, hidden without ``progress`` or who watches."""
    from tqdm.auto import tqdm

    return tqdm(*args, disable=not (progress and watched()), **how)
