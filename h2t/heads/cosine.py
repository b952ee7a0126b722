"""A cosine classifier on balanced batches: lengths, in which head classes gain, do not count."""

from h2t.heads.sgd import train

GRID = [
    {"scale": s, "lr": lr, "weight_decay": 5e-4}
    for s in (8.0, 16.0, 24.0, 32.0)
    for lr in (0.02, 0.1)
]


def fit(features, grid, seed):
    """Source: Gidaris and Komodakis 2018; Wang et al. 2021 (RIDE) use scale 30. Rows begin as the
    class means.
    """
    return train(features, grid, seed, cosine=True)
