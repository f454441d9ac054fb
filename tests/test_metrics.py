"""Metrics against closed forms, other libraries and brute force, and on inputs that break lesser ones."""

import tracemalloc

import keras
import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel

from fmgan_tf import metrics
from fmgan_tf.metrics import FrechetDistance, Moments, frechet_distance

few_examples = settings(max_examples=25, deadline=None, derandomize=True)


def rng(seed=0):
    return np.random.default_rng(seed)


def exact(mean, covariance, count=64, seed=0):
    """Samples whose mean and covariance are exactly these."""
    noise = rng(seed).normal(size=(count, len(mean)))
    white = np.linalg.qr(noise - noise.mean(axis=0))[0] * np.sqrt(count - 1)
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    return white @ (vectors * np.sqrt(np.maximum(values, 0))).T + mean


def cloud(count, dimensions, seed=0):
    """Correlated features away from the origin."""
    random = rng(seed)
    points = random.normal(size=(count, dimensions)) @ random.normal(size=(dimensions, dimensions))
    return points + random.normal(size=dimensions)


def rotation(dimensions, seed=0):
    return np.linalg.qr(rng(seed).normal(size=(dimensions, dimensions)))[0]


# Moments


@few_examples
@given(st.integers(1, 5), st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 99))
def test_moments_of_pieces_are_numpys(dimensions, sizes, seed):
    # The offset would cost sums of squares twelve digits
    features = cloud(sum(sizes) + 1, dimensions, seed) + 1e6
    moments = Moments(dimensions)
    for piece in np.split(features, np.cumsum(sizes)):
        moments.update(piece)
    assert moments.count == len(features) and moments.mean.dtype == moments.covariance.dtype == np.float64
    np.testing.assert_allclose(moments.mean, features.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.atleast_2d(np.cov(features.T)), rtol=1e-6, atol=1e-7)


def test_long_arrays_are_taken_in_pieces():
    features = cloud(10_000, 3)
    np.testing.assert_allclose(Moments.of(features).covariance, np.cov(features.T), rtol=1e-11)
    single = Moments.of(features.astype("float32"))
    np.testing.assert_allclose(single.covariance, np.cov(features.T), rtol=1e-5)


def test_memory_does_not_grow_with_the_number_of_samples():
    def peak(count, pieces):
        features = np.ones((count, 32), "float32")
        tracemalloc.start()
        moments = Moments(32)
        for _ in range(pieces):
            moments.update(features)
        bytes_used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return bytes_used

    base = peak(10_000, 1)
    assert peak(10_000, 30) < 1.1 * base  # 300,000 samples in pieces
    assert peak(100_000, 1) < 1.1 * base  # or many in one array


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_moments_refuse_what_is_not_finite_or_overflows(bad):
    features = cloud(9000, 3)
    moments = Moments.of(features)
    features[8000, 1] = bad  # in the second piece: the first must not be added either
    with pytest.raises(ValueError, match=r"contains (nan|-?inf|1e\+200); expected finite"):
        moments.update(features)
    assert moments.count == 9000


@pytest.mark.parametrize("shape", [(5,), (5, 4), (0, 3), (5, 3, 1), ()])
def test_moments_refuse_other_shapes(shape):
    with pytest.raises(ValueError, match=r"has shape \(.*expected \(samples, 3\)"):
        Moments(3).update(np.ones(shape))


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="covariance of 1 samples"):
        _ = Moments.of(np.ones((1, 3))).covariance


# Frechet distance


def test_equal_covariances_leave_the_means():
    covariance, gap = np.cov(cloud(40, 6).T), np.arange(6.0)
    sides = exact(np.zeros(6), covariance), exact(gap, covariance, seed=1)
    assert frechet_distance(*sides) == pytest.approx(gap @ gap, rel=1e-9)


@pytest.mark.parametrize(
    "first, second",
    [
        ([4.0], [25.0]),
        ([1.0, 4, 9, 0.01], [16.0, 1, 2, 7]),
        ([1.0, 2, 3], [1e16, 2e16, 3e16]),
        ([1.0, 4, 9, 16], [2.0, 0, 3, 0]),  # one side has no spread along two axes
        (np.logspace(0, -14, 12), np.logspace(-3, -10, 12)),
    ],
)
def test_covariances_with_the_same_axes(first, second):
    first, second = np.array(first), np.array(second)
    turn, middle = rotation(len(first)), np.zeros(len(first))
    x, y = (exact(middle, np.diag(values)) @ turn for values in (first, second))
    expected = ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("decades", [0, 2, 6, 12])
def test_the_root_is_at_least_as_right_as_scipys(decades):
    """Of A**2 and B = A**-1 T**2 A**-1 the trace is that of T: the root of A B A is T."""
    for seed in range(5):
        turn, other, scales = rotation(24, seed), rotation(24, seed + 50), np.logspace(0, -decades / 4, 24)
        root, inverse = (turn * scales) @ turn.T, (turn / scales) @ turn.T
        known = np.logspace(0, -decades / 2, 24)
        squared = (other * known**2) @ other.T
        first, second = root @ root, inverse @ squared @ inverse
        first, second = (first + first.T) / 2, (second + second.T) / 2
        ours = metrics.trace_of_root(first, second)
        theirs = np.trace(scipy.linalg.sqrtm(first @ second)).real
        assert abs(ours - known.sum()) <= abs(theirs - known.sum()) + 1e-10 * known.sum()
        assert ours == pytest.approx(known.sum(), rel=1e-6)


def test_few_images_of_many_dimensions_do_not_blow_up():
    """As of 64 images and their pixels, where scipy.linalg.sqrtm gave up to 1e44."""
    x, y = (rng(seed).uniform(0, 0.1, (64, 200)) for seed in (0, 1))
    first, second = np.cov(x.T), np.cov(y.T)
    # The singular values of the product of the centered samples are the roots of the eigenvalues
    centered = [(side - side.mean(0)) / np.sqrt(63) for side in (x, y)]
    expected = np.linalg.svd(centered[0] @ centered[1].T, compute_uv=False).sum()
    assert metrics.trace_of_root(first, second) == pytest.approx(expected, rel=1e-5)


def test_identical_sets_are_at_zero():
    features = cloud(500, 16)
    assert 0 <= frechet_distance(features, features.copy()) < 1e-6
    twice = np.tile(features, (1, 2))  # rank-deficient
    assert 0 <= frechet_distance(twice, twice) < 1e-6


@few_examples
@given(st.integers(1, 8), st.integers(0, 99))
def test_neither_order_nor_rotation_matters(dimensions, seed):
    x, y = cloud(40, dimensions, seed), cloud(30, dimensions, seed + 100)
    distance, turn = frechet_distance(x, y), rotation(dimensions, seed)
    assert distance > 0
    assert frechet_distance(y, x) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-60, 1e-8, 1e8, 1e60])
def test_the_distance_grows_with_the_square_of_the_scale(scale):
    x, y = cloud(60, 6), cloud(60, 6, 1)
    scaled = frechet_distance(x * scale, y * scale) / scale / scale
    assert scaled == pytest.approx(frechet_distance(x, y), rel=1e-10)


def test_a_dimension_that_holds_nothing_new_changes_nothing():
    for seed in range(20):
        x, y = rng(seed).normal(size=(2, 50, 8))
        wide = rotation(9, seed)[:8]
        assert frechet_distance(x @ wide, y @ wide) == pytest.approx(frechet_distance(x, y), rel=1e-6)


def test_a_collapsed_generator_is_finite_and_far():
    real, constant = exact(np.zeros(5), np.eye(5)), np.full((64, 5), 2.0)
    assert frechet_distance(real, constant) == pytest.approx(5 * 4 + 5, rel=1e-9)
    assert frechet_distance(constant, real) == pytest.approx(5 * 4 + 5, rel=1e-9)
    assert frechet_distance(constant, constant + 1) == pytest.approx(5, rel=1e-9)
    assert frechet_distance(constant, constant) == 0


def test_the_distance_names_the_side_at_fault():
    too_few = "generated has 8 samples in 8 dimensions; expected more than 8.*rank-deficient"
    with pytest.raises(ValueError, match=too_few):
        frechet_distance(cloud(9, 8), cloud(8, 8))
    assert frechet_distance(cloud(9, 8), cloud(9, 8, 1)) > 0
    with pytest.raises(ValueError, match="generated has 3 dimensions; expected 4"):
        frechet_distance(cloud(9, 4), cloud(9, 3))
    with pytest.raises(ValueError, match="generated contains nan"):
        frechet_distance(cloud(9, 3), np.full((9, 3), np.nan))


@pytest.mark.parametrize("shift, lowest, highest", [(1.0, 0.75, 1.3), (0.0, 0.9, 2.0)])
def test_the_standard_error_is_the_spread_over_fresh_draws(shift, lowest, highest):
    random = rng(3)
    draws = [(random.normal(size=(300, 6)), random.normal(size=(200, 6)) + shift) for _ in range(100)]
    spread = np.std([frechet_distance(*draw) for draw in draws], ddof=1)
    error = np.mean([metrics.frechet_standard_error(*draw) for draw in draws[:12]])
    assert lowest < error / spread < highest


def test_the_jackknife_of_means_whose_rows_come_sorted():
    real, generated = (
        np.sort(rng(seed).normal(size=(count, 1)), axis=0) for seed, count in ((0, 900), (1, 400))
    )
    one_out = metrics.jackknife(lambda x, y: x.mean(), real, generated[:1].repeat(900, axis=0), groups=900)
    assert one_out == pytest.approx(real.std(ddof=1) / 30, rel=1e-9)
    error = metrics.jackknife(lambda x, y: (y.mean() - x.mean(), 0), real, generated, groups=100)
    assert error[0] == pytest.approx(np.sqrt(1 / 900 + 1 / 400), rel=0.25) and error[1] == 0


# Kernel distance


def test_the_kernel_distance_is_scikit_learns():
    x, y = cloud(80, 4), cloud(80, 4, 1)
    mean, _ = metrics.kernel_distance(x, y, subsets=7, subset_size=30, seed=5)
    random, expected = rng(5), []
    for _ in range(7):
        a, b = x[random.choice(80, 30, replace=False)], y[random.choice(80, 30, replace=False)]
        within = [polynomial_kernel(z, degree=3, coef0=1)[~np.eye(30, dtype=bool)].mean() for z in (a, b)]
        expected.append(sum(within) - 2 * polynomial_kernel(a, b, degree=3, coef0=1).mean())
    assert mean == pytest.approx(np.mean(expected), rel=1e-10)


def test_the_kernel_distance_is_unbiased_and_its_error_the_real_spread():
    random = rng(4)
    same, differing, errors = [], [], []
    for _ in range(60):
        x, y = random.normal(size=(2, 200, 3))
        same.append(metrics.kernel_distance(x, y, 40, 50)[0])
        mean, error = metrics.kernel_distance(x, 1.5 * y, 40, 50)
        differing.append(mean)
        errors.append(error)
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(60)
    assert 0.75 < np.mean(errors) / np.std(differing) < 1.5


def test_the_kernel_distance_refuses_too_few_samples_and_overflow():
    with pytest.raises(ValueError, match="subset_size is 1000 for 500 samples; expected 2 to 250"):
        metrics.kernel_distance(cloud(500, 2), cloud(600, 2))
    with pytest.raises(ValueError, match=r"contains .*e\+30; expected finite"):
        metrics.kernel_distance(np.full((50, 2), 1e30), cloud(50, 2), subset_size=10)


# Neighbors


def brute_force(real, generated, k):
    """Precision, recall, density and coverage from all distances."""

    def radii(points):
        return np.sort(cdist(points, points), axis=1)[:, k] * (1 + 1e-12)  # column 0 is the point itself

    between = cdist(generated, real)
    inside, recalled = between <= radii(real), between <= radii(generated)[:, np.newaxis]
    density = inside.sum() / k / len(generated)
    return inside.any(1).mean(), recalled.any(0).mean(), density, inside.any(0).mean()


def both(real, generated, k):
    return metrics.precision_recall(real, generated, k) + metrics.density_coverage(real, generated, k)


sizes = st.integers(6, 60)


@few_examples
@given(st.integers(1, 6), sizes, sizes, st.integers(1, 5), st.booleans(), st.integers(0, 99))
def test_neighbors_are_those_of_brute_force(dimensions, real_count, generated_count, k, on_a_grid, seed):
    real, generated = cloud(real_count, dimensions, seed), cloud(generated_count, dimensions, seed + 100)
    if on_a_grid:  # duplicates and ties everywhere
        real, generated = np.round(real) + 1e9, np.round(generated) + 1e9
    np.testing.assert_allclose(both(real, generated, k), brute_force(real, generated, k), atol=1e-12)


def test_blocks_of_neighbors_agree_with_brute_force():
    real, generated = cloud(1100, 8), cloud(1300, 8, 0)[100:] * 1.2
    np.testing.assert_allclose(both(real, generated, 3), brute_force(real, generated, 3), atol=1e-12)


def test_copies_constants_and_strangers():
    real = (cloud(100, 20) + 1000).astype("float32")
    assert metrics.precision_recall(real, real[::-1]) == (1.0, 1.0)
    assert metrics.precision_recall(real, real + 1e6) == (0.0, 0.0)
    constant = np.full((50, 20), 0.1)
    assert metrics.precision_recall(constant, constant) == (1.0, 1.0)
    assert metrics.precision_recall(constant, constant + 1e-3) == (0.0, 0.0)
    assert metrics.density_coverage(constant, constant) == (10.0, 1.0)


@pytest.mark.parametrize("metric", [metrics.precision_recall, metrics.density_coverage])
def test_neighbors_refuse_bad_input(metric):
    with pytest.raises(ValueError, match="generated contains nan"):
        metric(cloud(20, 2), np.full((20, 2), np.nan))
    with pytest.raises(ValueError, match=r"generated has shape \(20, 3\); expected \(samples, 2\)"):
        metric(cloud(20, 2), cloud(20, 3))
    with pytest.raises(ValueError, match="neighbors is 5 for 5 samples; expected 1 to 4"):
        metric(cloud(5, 2), cloud(5, 2), neighbors=5)


def test_memorization_is_that_of_brute_force():
    train, test, generated = cloud(70, 3), cloud(40, 3, 0)[:30] + 0.1, cloud(50, 3, 2)
    held_out, made = (cdist(samples, train).min(axis=1) for samples in (test, generated))
    expected = {"median_ratio": np.median(made) / np.median(held_out)}
    expected["nearer_fraction"] = (made <= np.quantile(held_out, 0.01)).mean()
    expected["auc"] = (made[:, np.newaxis] < held_out).mean()
    assert metrics.memorization(train, test, generated) == pytest.approx(expected)


def test_memorization_knows_copies_from_fresh_samples():
    train, test, fresh = np.split(rng().normal(size=(2600, 4)).astype("float32"), [1000, 1800])
    honest = metrics.memorization(train, test, fresh)
    assert honest["auc"] == pytest.approx(0.5, abs=0.05) and honest["nearer_fraction"] < 0.03
    copied = {"median_ratio": 0, "nearer_fraction": 1, "auc": 1}
    assert metrics.memorization(train, test, train[:500]) == copied
    half = metrics.memorization(train, test, np.concatenate([train[:400], fresh[:400]]))
    assert half["nearer_fraction"] > 0.5 and half["auc"] > 0.7
    with pytest.raises(ValueError, match="expected held-out samples"):
        metrics.memorization(train, train[:50], fresh)


def test_small_distances_far_from_the_center_are_exact():
    train = cloud(60, 5) + np.repeat([[-1e4], [1e4]], 30, axis=0)
    test, generated = train + 1e-3 * rng().normal(size=(60, 5)), train + 2e-3 * rng(1).normal(size=(60, 5))
    expected = np.median(cdist(generated, train).min(axis=1)) / np.median(cdist(test, train).min(axis=1))
    assert metrics.memorization(train, test, generated)["median_ratio"] == pytest.approx(expected, rel=1e-8)


# Labels


def test_label_agreement():
    overall, per_class = metrics.label_agreement([0, 0, 1, 1, 2, 2], [0, 0, 1, 2, 0, 1], classes=4)
    assert overall == 0.5
    np.testing.assert_array_equal(per_class, [1, 0.5, 0, np.nan])


@pytest.mark.parametrize("asked, recognized", [([0, 1], [0]), ([[0], [1]], [[0], [1]]), (0, 0)])
def test_label_agreement_refuses_other_shapes(asked, recognized):
    with pytest.raises(ValueError, match=r"expected \(samples,\) twice"):
        metrics.label_agreement(asked, recognized, classes=10)


# The Keras metric


class Evaluated(keras.Model):
    """Takes (real, generated) features as its data."""

    def __init__(self, dimensions):
        super().__init__(dtype="float64")  # or features would be cast to float32 on their way
        self.fid = FrechetDistance(dimensions, name="fid")

    @property
    def metrics(self):  # else Keras logs the first replica's result in place of all of them
        return [self.fid]

    def test_step(self, data):
        real, generated = data
        self.fid.update_state(real, generated)
        return {"fid": self.fid.result()}


def batches(x, y, size=32):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


@pytest.mark.parametrize("offset", [0, 1e7])
def test_every_evaluate_of_the_keras_metric_starts_from_nothing(offset):
    x, y = cloud(150, 6) + offset, cloud(150, 6, 1) + offset
    model, expected = Evaluated(6), pytest.approx(frechet_distance(x, y), rel=1e-6)
    model.compile()
    for _ in range(2):
        assert model.evaluate(batches(x, y), verbose=0, return_dict=True)["fid"] == expected


def test_the_keras_metric_takes_float32_and_batches_of_different_size():
    x, y = cloud(90, 5).astype("float32"), cloud(70, 5, 1).astype("float32")
    metric = FrechetDistance(5)
    metric.update_state(x[:60], y[:10])
    assert np.isfinite(metric.result())
    metric.update_state(x[60:], y[10:])
    assert float(metric.result()) == pytest.approx(frechet_distance(x, y), rel=1e-6)
    assert FrechetDistance.from_config(metric.get_config()).dimensions == 5


def test_the_keras_metric_is_infinite_where_it_cannot_know():
    x, metric = cloud(20, 4), FrechetDistance(4)
    assert float(metric.result()) == np.inf
    metric.update_state(x, x[:4])
    assert float(metric.result()) == np.inf
    metric.update_state(x, x[4:])
    assert np.isfinite(metric.result())
    metric.update_state(x, np.full((1, 4), np.nan))
    assert float(metric.result()) == np.inf
    metric.reset_state()
    metric.update_state(x, x)
    assert float(metric.result()) == pytest.approx(0, abs=1e-6)


def test_the_keras_metric_of_rank_deficient_and_constant_features():
    wide = rotation(7)[:3]
    x, y, constant = cloud(40, 3) @ wide, cloud(40, 3, 1) @ wide, np.full((40, 7), 3.0)
    for real, generated in ((x, y), (x, constant), (constant, x), (constant, constant + 1)):
        metric = FrechetDistance(7)
        metric.update_state(real, generated)
        assert float(metric.result()) == pytest.approx(frechet_distance(real, generated), rel=1e-6)
