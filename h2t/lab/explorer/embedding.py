"""Maps of features in the plane, by t-SNE."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from h2t.base.errors import Error

MIN_POINTS = 10
STEP = 50  # iterations from one look at a map to the next


def fit_map(z: np.ndarray, on_step: Callable[[np.ndarray], None] = lambda xy: None) -> np.ndarray:
    """A t-SNE map (n, 2) of features (n, D), by openTSNE (Policar et al. 2019).

    Arguments: ``on_step`` is given the map every ``STEP`` iterations, and ends the work by raising.
    Raises: ``h2t.Error`` for fewer than ``MIN_POINTS`` points.
    """
    from openTSNE import TSNE

    z = np.asarray(z, np.float64)
    if len(z) < MIN_POINTS:
        need = f"a t-SNE map needs at least {MIN_POINTS} points, got {len(z)}"
        raise Error(f"{need}; choose classes with more images")

    def look(iteration: int, error: float, xy: np.ndarray) -> None:
        on_step(np.array(xy))

    found = TSNE(
        perplexity=min(30.0, (len(z) - 1) / 3),
        initialization="pca",
        random_state=0,
        n_jobs=1,
        # Barnes-Hut is the faster up to some thousand points, the interpolation beyond
        negative_gradient_method="bh" if len(z) < 4000 else "fft",
        n_iter=350,
        callbacks=look,
        callbacks_every_iters=STEP,
    ).fit(z)
    return np.array(found)
