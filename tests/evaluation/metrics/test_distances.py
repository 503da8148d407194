import numpy as np
import pytest
import scipy.linalg

from gencompositor_jax.evaluation.metrics import distances


def features(seed: int, count: int, width: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


def test_frechet_distance_is_the_formula_with_a_matrix_root():
    a, b = features(0, 50), features(1, 40)
    c1, c2 = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert distances.frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_fewer_clips_than_features():
    """The matrix root fails there; a rotation into the few dimensions that are used changes nothing."""
    few = features(2, 5, 4)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(20, 20)))[0][:4]
    other = features(4, 6, 4)
    expected = distances.frechet_distance(few, other)
    assert distances.frechet_distance(few @ turn, other @ turn) == pytest.approx(expected, rel=1e-8)
    assert distances.frechet_distance(few, few) == pytest.approx(0, abs=1e-8)


def test_kernel_distance_is_the_mean_over_pairs_without_a_clip_and_itself():
    a, b = features(5, 7), features(6, 5)

    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    within = [np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    expected = sum(within) - 2 * np.mean([k(x, y) for x in a for y in b])
    assert distances.kernel_distance(a, b) == pytest.approx(expected)


def test_both_grow_with_the_distance_between_the_sets():
    a = features(7, 200)
    for distance in (distances.frechet_distance, distances.kernel_distance):
        values = [distance(a, a + shift) for shift in (0, 1, 2)]
        assert values[0] < values[1] < values[2]


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.1, 1.0), (0.0, 1.4)])
def test_frechet_distance_at_infinity_is_unbiased(shift, scale):
    """Gaussians of known distance, whose deviations fall like those of logits; the plain one is biased."""
    deviations = np.arange(1, 31) ** -0.75
    known = 30 * shift**2 + ((scale - 1) ** 2 * deviations**2).sum()

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        first, second = np.random.default_rng(seed).normal(size=(2, 120, 30)) * deviations
        return first, scale * second + shift

    found = np.array(
        [
            [f(*draw(seed)) for f in (distances.frechet_distance_infinity, distances.frechet_distance)]
            for seed in range(16)
        ]
    )
    errors = found.mean(axis=0) - known
    deviation = found.std(axis=0, ddof=1) / 4  # of the means
    assert abs(errors[0]) < 3 * deviation[0]
    assert errors[1] > 5 * deviation[1] > 0


def test_frechet_distance_at_infinity_keeps_pairs_together():
    a = features(8, 21)
    assert distances.frechet_distance_infinity(a, a) == pytest.approx(0, abs=1e-8)
    assert distances.frechet_distance_infinity(a, a + 2) == pytest.approx(4 * 6)


@pytest.mark.parametrize("counts", [(3, 3), (8, 9)])
def test_halves_of_too_few_or_different_numbers_of_clips_are_refused(counts):
    with pytest.raises(ValueError, match="as many of both"):
        distances.frechet_distance_infinity(*(features(i, count) for i, count in enumerate(counts)))


@pytest.mark.parametrize("function", [distances.frechet_distance, distances.kernel_distance])
def test_single_clips_are_refused(function):
    with pytest.raises(ValueError, match="2 clips"):
        function(features(0, 1), features(1, 5))
