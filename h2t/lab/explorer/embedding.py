"""Maps of features in the plane: PCA at once, t-SNE as it converges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from h2t.base.errors import Error

MIN_POINTS = 10
STEP = 50  # iterations from one look at a map to the next


def pca(z: np.ndarray) -> np.ndarray:
    """The first two principal components (n, 2) of features (n, D), each at the scale of the
    first."""
    z = np.asarray(z, np.float64)
    z = z - z.mean(0)
    _, axes = np.linalg.eigh(z.T @ z)
    xy = z @ axes[:, :-3:-1]
    return xy / max(xy[:, 0].std(), 1e-12)


def fit_map(
    z: np.ndarray,
    seed: int = 0,
    perplexity: float = 30.0,
    on_step: Callable[[np.ndarray], bool] | None = None,
):
    """A t-SNE map of features (openTSNE, Policar et al. 2019).

    Arguments: ``z`` (n, D) features, n >= 10; ``perplexity`` is lowered to fit small n; ``on_step``
    is given the map (n, 2) every ``STEP`` iterations, and ends the work by returning True. Returns:
    (n, 2). Raises: ``h2t.Error`` for too few points, or where openTSNE is not installed.
    """
    try:
        from openTSNE import TSNE
    except ImportError:
        raise Error(
            "the t-SNE map needs the package openTSNE; install it with `pip install openTSNE`"
        ) from None
    z = np.asarray(z, np.float64)
    if len(z) < MIN_POINTS:
        raise Error(
            f"a t-SNE map needs at least {MIN_POINTS} points, got {len(z)}; "
            "choose classes with more images"
        )
    looking = {}
    if on_step:
        look = lambda iteration, error, xy: on_step(np.array(xy)) or None  # noqa: E731
        looking = {"callbacks": look, "callbacks_every_iters": STEP}
    # Barnes-Hut is the faster up to some thousand points, the interpolation beyond
    method = "bh" if len(z) < 4000 else "fft"
    found = TSNE(
        perplexity=min(perplexity, (len(z) - 1) / 3),
        initialization="pca",
        random_state=seed,
        n_jobs=1,
        negative_gradient_method=method,
        n_iter=350,
        **looking,
    ).fit(z)
    return np.array(found)
