"""t-SNE maps into which new points can be placed."""

from __future__ import annotations

import numpy as np

from h2t.base.errors import Error

MIN_POINTS = 10


def fit_map(z: np.ndarray, seed: int = 0, perplexity: float = 30.0):
    """A t-SNE map of features (openTSNE, Policar et al. 2019), which can place further points without moving these.

    Arguments: ``z`` (n, D) features, n >= 10; ``perplexity`` is lowered to fit small n. Returns: an openTSNE embedding,
    an array (n, 2) with ``transform``. Raises: ``h2t.Error`` for too few points, or where openTSNE is not installed.
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
            f"a t-SNE map needs at least {MIN_POINTS} points, got {len(z)}; choose classes with more images"
        )
    perplexity = min(perplexity, (len(z) - 1) / 3)
    # Barnes-Hut: below some 10,000 points it is faster than the interpolation
    return TSNE(
        perplexity=perplexity,
        initialization="pca",
        random_state=seed,
        n_jobs=1,
        negative_gradient_method="bh",
        n_iter=350,
    ).fit(z)


def place(embedding, z: np.ndarray) -> np.ndarray:
    """Place new features (n, D) into a finished map, near their neighbours there. Returns: (n, 2)."""
    before = np.array(embedding)
    placed = np.array(embedding.transform(np.asarray(z, np.float64)))
    # openTSNE recentres the finished map in place when it places into it; put both back where the map was drawn
    placed -= (np.asarray(embedding) - before).mean(0)
    embedding[:] = before
    return placed
