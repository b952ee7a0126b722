"""Progress bars, in notebooks and terminals."""

from __future__ import annotations

import os


def watched() -> bool:
    """Whether anybody looks at what is shown while it runs: not where ``$TQDM_DISABLE`` is set, as in the jobs of a sweep."""
    return os.environ.get("TQDM_DISABLE", "") in ("", "0")


def bar(*args, progress: bool = True, **how):
    """A tqdm bar for the notebook or terminal at hand, hidden where ``progress`` is False or nobody watches."""
    from tqdm.auto import tqdm

    return tqdm(*args, disable=not (progress and watched()), **how)
