"""Distances between two sets of features: Fréchet (FVD), without its bias (FVD∞), and kernel (KVD)."""

import numpy as np

SPLITS = 10  # into halves, of `frechet_distance_infinity`


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [N, D] and [M, D], float64.

    It is biased: sets of few clips are further apart. Compare values of the same numbers of clips only, or
    see `frechet_distance_infinity`.

    With centred features A and B, divided by the roots of N - 1 and M - 1, the trace of the root is the sum
    of the singular values of A B^T: exact also for fewer clips than features.

    Raises ValueError for fewer than 2 clips in a set.
    """
    a, b = (_checked(features) for features in (first, second))
    mean = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    a, b = ((f - f.mean(axis=0)) / np.sqrt(len(f) - 1) for f in (a, b))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(mean + (a**2).sum() + (b**2).sum() - 2 * root)


def frechet_distance_infinity(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """The Fréchet distance at infinitely many clips, of features [N, D] twice (Chong and Forsyth 2020).

    The bias of F_N, the distance of N clips, falls as 1/N, so the line through two sizes has at 1/N = 0

        F = F_N - (F_N/2 - F_N) n / (N - n),    n = floor(N / 2)

    with F_N/2 the mean over both halves of random splits. Chong and Forsyth fit the line to 15 sizes; these
    two give the same mean with less variance. What is left of the bias falls as 1/N^2. The value may be
    slightly negative for equal distributions. A row is in the same half of both sets, so that sets of the
    same clips stay paired.

    Raises ValueError for sets of different sizes, or fewer than 4 clips.
    """
    a, b = (_checked(features) for features in (first, second))
    if len(a) != len(b) or len(a) < 4:
        raise ValueError(f"sets of {len(a)} and {len(b)} clips: pass as many of both, 4 or more")
    whole, half = frechet_distance(a, b), len(a) // 2
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(a)) for _ in range(SPLITS)]
    parts = [rows for order in orders for rows in (order[:half], order[half : 2 * half])]
    halves = float(np.mean([frechet_distance(a[rows], b[rows]) for rows in parts]))
    return whole - (halves - whole) * half / (len(a) - half)


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy of features [N, D] and [M, D] with the polynomial kernel
    (x . y / D + 1)^3 (Binkowski et al. 2018). It may be slightly negative for equal distributions.

    Raises ValueError for fewer than 2 clips in a set.
    """
    a, b = (_checked(features) for features in (first, second))

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        product: np.ndarray = (x @ y.T / x.shape[1] + 1) ** 3
        return product

    def within(x: np.ndarray) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


def _checked(features: np.ndarray) -> np.ndarray:
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features {features.shape}: pass [N, D] of 2 clips or more")
    return features.astype(np.float64)
