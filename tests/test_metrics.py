"""Metrics against closed forms, other libraries and brute force, and on the inputs that break lesser
implementations."""

import subprocess
import sys
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

few = settings(max_examples=25, deadline=None, derandomize=True)


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
    return random.normal(size=(count, dimensions)) @ random.normal(
        size=(dimensions, dimensions)
    ) + random.normal(size=dimensions)


def rotation(dimensions, seed=0):
    return np.linalg.qr(rng(seed).normal(size=(dimensions, dimensions)))[0]


# Moments


def test_moments_are_numpys():
    features = cloud(50, 5)
    moments = Moments.of(features.astype("float32"))
    assert moments.count == 50 and moments.mean.dtype == moments.covariance.dtype == np.float64
    np.testing.assert_allclose(moments.mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(Moments.of(features).covariance, np.cov(features.T), rtol=1e-12)


@few
@given(st.integers(1, 5), st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 99))
def test_streaming_equals_one_pass(dimensions, sizes, seed):
    features = (
        cloud(sum(sizes) + 1, dimensions, seed) + 1e6
    )  # the offset would cost sums of squares twelve digits
    moments = Moments(dimensions)
    for piece in np.split(features, np.cumsum(sizes)):
        moments.update(piece)
    assert moments.count == len(features)
    np.testing.assert_allclose(moments.mean, features.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.atleast_2d(np.cov(features.T)), rtol=1e-6, atol=1e-7)


def test_long_arrays_are_taken_in_pieces():
    features = cloud(10_000, 3)
    np.testing.assert_allclose(Moments.of(features).covariance, np.cov(features.T), rtol=1e-11)


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
    assert peak(10_000, 100) < 1.1 * base  # 1,000,000 samples in pieces
    assert peak(300_000, 1) < 1.1 * base  # or in one array


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_moments_refuse_what_is_not_finite_or_overflows(bad):
    features = cloud(9000, 3)
    moments = Moments.of(features)
    spoilt = features.copy()
    spoilt[8000, 1] = bad  # in the second piece: the first must not be added either
    with pytest.raises(ValueError, match=r"contains (nan|-?inf|1e\+200); expected finite"):
        moments.update(spoilt)
    assert moments.count == 9000


@pytest.mark.parametrize("shape", [(5,), (5, 4), (0, 3), (5, 3, 1), ()])
def test_moments_refuse_other_shapes(shape):
    with pytest.raises(ValueError, match=r"has shape \(.*expected \(samples, 3\)"):
        Moments(3).update(np.ones(shape))


def test_covariance_of_one_sample_is_refused():
    with pytest.raises(ValueError, match="covariance of 1 samples"):
        _ = Moments.of(np.ones((1, 3))).covariance


# Frechet distance


def test_equal_covariances_leave_the_means():
    covariance = np.cov(cloud(40, 6).T)
    gap = np.arange(6.0)
    assert frechet_distance(exact(np.zeros(6), covariance), exact(gap, covariance, seed=1)) == pytest.approx(
        gap @ gap, rel=1e-9
    )


def test_one_dimension():
    distance = frechet_distance(
        Moments.of(exact([1.0], [[4.0]])), Moments.of(exact([3.0], [[25.0]], count=90))
    )
    assert distance == pytest.approx((1 - 3) ** 2 + (2 - 5) ** 2, rel=1e-12)


def test_diagonal_covariances():
    first, second = np.array([1.0, 4, 9, 0.01]), np.array([16.0, 1, 2, 7])
    expected = 4 * 0.25 + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    distance = frechet_distance(
        exact(np.zeros(4), np.diag(first)), exact(np.full(4, 0.5), np.diag(second), seed=1)
    )
    assert distance == pytest.approx(expected, rel=1e-10)


def test_identical_sets_are_at_zero():
    features = cloud(500, 16)
    assert 0 <= frechet_distance(features, features.copy()) < 1e-6
    assert (
        0 <= frechet_distance(np.tile(features, (1, 2)), np.tile(features, (1, 2))) < 1e-6
    )  # rank-deficient


@few
@given(st.integers(1, 8), st.integers(0, 99))
def test_symmetry_rotation_and_sign(dimensions, seed):
    x, y = cloud(40, dimensions, seed), cloud(30, dimensions, seed + 100)
    distance = frechet_distance(x, y)
    turn = rotation(dimensions, seed)
    assert distance > 0
    assert frechet_distance(y, x) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize("dimensions", [2, 16, 48])
def test_scipys_matrix_square_root(dimensions):
    x, y = (
        Moments.of(rng().normal(size=(600, dimensions))),
        Moments.of(2 * rng(1).normal(size=(500, dimensions)) + 0.3),
    )
    root = scipy.linalg.sqrtm(x.covariance @ y.covariance)
    gap = x.mean - y.mean
    expected = gap @ gap + np.trace(x.covariance + y.covariance - 2 * root.real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("scale", [1e-90, 1e-8, 1e8, 1e90])
def test_scale(scale):
    x, y = cloud(60, 6), cloud(60, 6, 1)
    assert frechet_distance(x * scale, y * scale) / scale / scale == pytest.approx(
        frechet_distance(x, y), rel=1e-10
    )


def test_one_side_of_huge_scale():
    x, y = rng().normal(size=(60, 6)), 1e8 * rng(1).normal(size=(60, 6))
    assert frechet_distance(x, y) == pytest.approx(
        np.trace(np.cov(y.T)) + (y.mean(axis=0) ** 2).sum(), rel=1e-6
    )


def test_ill_conditioned():
    first, second = np.logspace(0, -14, 12), np.logspace(-3, -10, 12)
    turn = rotation(12)
    distance = frechet_distance(
        exact(np.zeros(12), np.diag(first)) @ turn, exact(np.zeros(12), np.diag(second)) @ turn
    )
    assert distance == pytest.approx(((np.sqrt(first) - np.sqrt(second)) ** 2).sum(), rel=1e-6)


def test_rank_deficient():
    for seed in range(20):  # rounding lets Cholesky pass some of them
        x, y = rng(seed).normal(size=(2, 50, 8))
        wide = rotation(9, seed)[:8]  # eight dimensions in nine: nothing changes
        assert frechet_distance(x @ wide, y @ wide) == pytest.approx(frechet_distance(x, y), rel=1e-10)


def test_one_side_rank_deficient():
    first, second = np.array([1.0, 4, 9, 16]), np.array([2.0, 0, 3, 0])
    turn = rotation(4)
    x, y = exact(np.zeros(4), np.diag(first)) @ turn, exact(np.zeros(4), np.diag(second)) @ turn
    expected = ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-6)


def test_collapsed_generator_is_finite_and_far():
    real, constant = exact(np.zeros(5), np.eye(5)), np.full((64, 5), 2.0)
    assert frechet_distance(real, constant) == pytest.approx(5 * 4 + 5, rel=1e-9)
    assert frechet_distance(constant, real) == pytest.approx(5 * 4 + 5, rel=1e-9)
    assert frechet_distance(constant, constant + 1) == pytest.approx(5, rel=1e-9)
    assert frechet_distance(constant, constant) == 0


def test_too_few_samples_are_refused():
    with pytest.raises(
        ValueError, match="generated has 8 samples in 8 dimensions; expected more than 8.*rank-deficient"
    ):
        frechet_distance(cloud(9, 8), cloud(8, 8))
    assert frechet_distance(cloud(9, 8), cloud(9, 8, 1)) > 0


def test_frechet_distance_names_the_side_at_fault():
    with pytest.raises(ValueError, match="generated has 3 dimensions; expected 4"):
        frechet_distance(cloud(9, 4), cloud(9, 3))
    with pytest.raises(ValueError, match="generated contains nan"):
        frechet_distance(cloud(9, 3), np.full((9, 3), np.nan))


@pytest.mark.parametrize("shift, lowest, highest", [(1.0, 0.75, 1.3), (0.0, 0.9, 2.0)])
def test_frechet_standard_error_is_the_spread_over_fresh_draws(shift, lowest, highest):
    random = rng(3)
    draws = [(random.normal(size=(300, 6)), random.normal(size=(200, 6)) + shift) for _ in range(100)]
    spread = np.std([frechet_distance(*draw) for draw in draws], ddof=1)
    error = np.mean([metrics.frechet_standard_error(*draw) for draw in draws[:12]])
    assert lowest < error / spread < highest


def test_the_distance_at_infinity_has_no_bias_from_the_number_of_samples():
    """Of equal distributions it is about 0 where the plain distance is far from it, whatever the number."""
    real = rng(0).normal(size=(20_000, 20))
    for count in (400, 2000):
        sets = [rng(seed).normal(size=(count, 20)) for seed in range(1, 9)]
        plain, ours = (
            np.mean([measure(real, made) for made in sets])
            for measure in (metrics.frechet_distance, metrics.frechet_at_infinity)
        )
        assert abs(ours) < 0.2 * plain
    moved = rng(1).normal(size=(400, 20)) + 3 * np.eye(20)[0]
    assert metrics.frechet_at_infinity(real, moved) == pytest.approx(9, rel=0.1)


def test_jackknife_of_a_mean_and_of_sorted_rows():
    real, generated = (
        np.sort(rng().normal(size=(900, 1)), axis=0),
        np.sort(rng(1).normal(size=(400, 1)), axis=0),
    )
    one_out = metrics.jackknife(lambda x, y: x.mean(), real, generated[:1].repeat(900, axis=0), groups=900)
    assert one_out == pytest.approx(real.std(ddof=1) / 30, rel=1e-9)
    error = metrics.jackknife(lambda x, y: (y.mean() - x.mean(), 0), real, generated, groups=100)
    assert error[0] == pytest.approx(np.sqrt(1 / 900 + 1 / 400), rel=0.25) and error[1] == 0


def test_class_distances_and_a_single_class():
    real, generated = cloud(60, 3), cloud(60, 3, 1)
    labels = np.arange(60) % 3
    distances = metrics.class_frechet_distances(real, labels, generated, labels)
    assert distances == {c: frechet_distance(real[labels == c], generated[labels == c]) for c in range(3)}
    collapsed = metrics.class_frechet_distances(real, labels, generated, np.ones(60, int))
    assert collapsed == {0: None, 1: frechet_distance(real[labels == 1], generated), 2: None}
    with pytest.raises(ValueError, match=r"generated_labels has shape \(59,\); expected \(60,\)"):
        metrics.class_frechet_distances(real, labels, generated, labels[1:])


# Kernel distance


def test_kernel_distance_against_scikit_learn():
    x, y = cloud(80, 4), cloud(80, 4, 1)
    mean, _ = metrics.kernel_distance(x, y, subsets=7, subset_size=30, seed=5)
    random, expected = rng(5), []
    for _ in range(7):
        a, b = x[random.choice(80, 30, replace=False)], y[random.choice(80, 30, replace=False)]
        within = [polynomial_kernel(z, degree=3, coef0=1)[~np.eye(30, dtype=bool)].mean() for z in (a, b)]
        expected.append(sum(within) - 2 * polynomial_kernel(a, b, degree=3, coef0=1).mean())
    assert mean == pytest.approx(np.mean(expected), rel=1e-10)


def test_kernel_distance_is_unbiased_and_its_error_the_real_spread():
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


def test_kernel_distance_refuses_too_few_samples_and_overflow():
    with pytest.raises(ValueError, match="subset_size is 1000 for 500 samples; expected 2 to 250"):
        metrics.kernel_distance(cloud(500, 2), cloud(600, 2))
    with pytest.raises(ValueError, match=r"contains .*e\+30; expected finite"):
        metrics.kernel_distance(np.full((50, 2), 1e30), cloud(50, 2), subset_size=10)


# Neighbors


def brute_force(real, generated, k):
    """Precision, recall, density and coverage from all distances."""

    def radii(points):
        return np.sort(cdist(points, points), axis=1)[:, k]  # column 0 is the point itself

    def tied(distances, radii):
        return distances <= radii * (1 + 1e-12)

    between = cdist(generated, real)
    inside = tied(between, radii(real))
    recalled = tied(between, radii(generated)[:, np.newaxis])
    return (
        inside.any(axis=1).mean(),
        recalled.any(axis=0).mean(),
        inside.sum() / k / len(generated),
        inside.any(axis=0).mean(),
    )


@few
@given(
    st.integers(1, 6),
    st.integers(6, 60),
    st.integers(6, 60),
    st.integers(1, 5),
    st.booleans(),
    st.integers(0, 99),
)
def test_neighbors_against_brute_force(dimensions, real_count, generated_count, k, on_a_grid, seed):
    real, generated = cloud(real_count, dimensions, seed), cloud(generated_count, dimensions, seed + 100)
    if on_a_grid:  # duplicates and ties everywhere
        real, generated = np.round(real) + 1e9, np.round(generated) + 1e9
    expected = brute_force(real, generated, k)
    found = metrics.precision_recall(real, generated, k) + metrics.density_coverage(real, generated, k)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_blocks_agree_with_brute_force():
    real, generated = cloud(1100, 8), cloud(1300, 8, 0)[100:] * 1.2
    found = metrics.precision_recall(real, generated) + metrics.density_coverage(real, generated, 3)
    np.testing.assert_allclose(found, brute_force(real, generated, 3), atol=1e-12)


def test_copies_constants_and_strangers():
    real = (cloud(100, 20) + 1000).astype("float32")
    assert metrics.precision_recall(real, real[::-1]) == (1.0, 1.0)
    assert metrics.precision_recall(real, real + 1e6) == (0.0, 0.0)
    constant = np.full((50, 20), 0.1)
    assert metrics.precision_recall(constant, constant) == (1.0, 1.0)
    assert metrics.precision_recall(constant, constant + 1e-3) == (0.0, 0.0)
    assert metrics.density_coverage(constant, constant) == (10.0, 1.0)


@pytest.mark.parametrize("scale", [1e-8, 1e8, 1e60])
def test_neighbors_do_not_depend_on_scale(scale):
    x, y = cloud(100, 4), cloud(90, 4, 1)
    assert metrics.precision_recall(x * scale, y * scale) == metrics.precision_recall(x, y)
    assert metrics.density_coverage(x * scale, y * scale) == metrics.density_coverage(x, y)


@pytest.mark.parametrize("metric", [metrics.precision_recall, metrics.density_coverage])
def test_neighbors_refuse_bad_input(metric):
    with pytest.raises(ValueError, match="generated contains nan"):
        metric(cloud(20, 2), np.full((20, 2), np.nan))
    with pytest.raises(ValueError, match=r"generated has shape \(20, 3\); expected \(samples, 2\)"):
        metric(cloud(20, 2), cloud(20, 3))
    with pytest.raises(ValueError, match="neighbors is 5 for 5 samples; expected 1 to 4"):
        metric(cloud(5, 2), cloud(5, 2), neighbors=5)


def test_memorization_against_brute_force():
    train, test, generated = cloud(70, 3), cloud(40, 3, 0)[:30] + 0.1, cloud(50, 3, 2)
    held_out, made = (cdist(samples, train).min(axis=1) for samples in (test, generated))
    found = metrics.memorization(train, test, generated)
    assert found == pytest.approx(
        {
            "median_ratio": np.median(made) / np.median(held_out),
            "nearer_fraction": (made <= np.quantile(held_out, 0.01)).mean(),
            "auc": (made[:, np.newaxis] < held_out).mean(),
        }
    )


def test_memorization_knows_copies_from_fresh_samples():
    train, test, fresh = np.split(rng().normal(size=(2600, 4)).astype("float32"), [1000, 1800])
    honest = metrics.memorization(train, test, fresh)
    assert honest["auc"] == pytest.approx(0.5, abs=0.05) and honest["nearer_fraction"] < 0.03
    assert metrics.memorization(train, test, train[:500]) == {
        "median_ratio": 0,
        "nearer_fraction": 1,
        "auc": 1,
    }
    assert (
        metrics.memorization(train, np.concatenate([test, train[:50]]), train[:500])["nearer_fraction"] == 1
    )
    half = metrics.memorization(train, test, np.concatenate([train[:400], fresh[:400]]))
    assert half["nearer_fraction"] > 0.5 and half["auc"] > 0.7
    with pytest.raises(ValueError, match="expected held-out samples"):
        metrics.memorization(train, train[:50], fresh)


def test_copied_share_against_brute_force():
    train, test, generated = cloud(70, 3), cloud(40, 3, 0)[:30] + 0.1, cloud(50, 3, 2)

    def ratios(samples, left_out):
        found = []
        for number, sample in enumerate(samples):
            model = train[np.linalg.norm(train - sample, axis=1).argmin()]
            others = np.delete(test, number, axis=0) if left_out else test
            found.append(np.linalg.norm(sample - model) / np.linalg.norm(others - model, axis=1).min())
        return np.array(found)

    expected = np.mean(ratios(generated, False) < np.median(ratios(test, True)))
    assert metrics.copied_share(train, test, generated) == pytest.approx(expected)


def test_copied_share_of_held_out_samples_is_a_half_and_of_copies_one():
    train, test, fresh = np.split(rng().normal(size=(2600, 4)), [1000, 1800])
    assert metrics.copied_share(train, test, fresh) == pytest.approx(0.5, abs=0.05)
    assert metrics.copied_share(train, test, train[:500]) == 1
    assert metrics.copied_share(train, test, 3 * fresh) < 0.2


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


@pytest.mark.parametrize(
    "asked, recognized", [([0, 10], [0, 1]), ([0, 1], [0, -1]), ([0.5], [0]), ([], []), ([0, 1], [0])]
)
def test_label_agreement_refuses_other_labels(asked, recognized):
    with pytest.raises(ValueError, match="expected"):
        metrics.label_agreement(asked, recognized)


# The Keras metric


class Evaluated(keras.Model):
    """Takes (real, generated) features as its data."""

    def __init__(self, dimensions):
        super().__init__(dtype="float64")  # or features would be cast to float32 on their way
        self.fid = FrechetDistance(dimensions, name="fid")
        self.weight = self.add_weight(shape=(), initializer="ones")

    def call(self, features):
        return features * self.weight

    @property
    def metrics(self):
        return [
            self.fid
        ]  # what test_step returns: else Keras logs the first replica's result in place of all of them

    def train_step(self, data):
        self.weight.assign_add(1)
        return {"loss": self.weight}

    def test_step(self, data):
        real, generated = data
        self.fid.update_state(real, self(generated))
        return {"fid": self.fid.result()}


def batches(x, y, size=32):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


@pytest.mark.parametrize("offset", [0, 1e7])
def test_keras_metric_in_evaluate(offset):
    x, y = cloud(150, 6) + offset, cloud(150, 6, 1) + offset
    model = Evaluated(6)
    model.compile()
    for _ in range(2):  # the second call starts from nothing
        assert model.evaluate(batches(x, y), verbose=0, return_dict=True)["fid"] == pytest.approx(
            frechet_distance(x, y), rel=1e-6
        )


def test_keras_metric_steers_callbacks():
    features = cloud(64, 3)
    model = Evaluated(3)
    model.compile()
    stop = keras.callbacks.EarlyStopping(monitor="val_fid", mode="min", patience=1, restore_best_weights=True)
    data = batches(5 * features, features)
    history = model.fit(
        data, validation_data=data, epochs=9, shuffle=False, verbose=0, callbacks=[stop]
    ).history
    assert (
        len(history["val_fid"]) == 3 and history["val_fid"][1] < 1e-6
    )  # the weight is 3, 5, 7 after each epoch
    assert float(model.weight) == 5


def test_keras_metric_takes_float32_and_batches_of_different_size():
    x, y = cloud(90, 5).astype("float32"), cloud(70, 5, 1).astype("float32")
    metric = FrechetDistance(5)
    metric.update_state(x[:60], y[:10])
    assert np.isfinite(metric.result())
    metric.update_state(x[60:], y[10:])
    assert float(metric.result()) == pytest.approx(frechet_distance(x, y), rel=1e-6)
    assert FrechetDistance.from_config(metric.get_config()).dimensions == 5


def test_keras_metric_is_infinite_where_it_cannot_know():
    x = cloud(20, 4)
    metric = FrechetDistance(4)
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


def test_keras_metric_of_rank_deficient_and_constant_features():
    wide = rotation(7)[:3]
    x, y, constant = cloud(40, 3) @ wide, cloud(40, 3, 1) @ wide, np.full((40, 7), 3.0)
    for real, generated in ((x, y), (x, constant), (constant, x), (constant, constant + 1)):
        metric = FrechetDistance(7)
        metric.update_state(real, generated)
        assert float(metric.result()) == pytest.approx(frechet_distance(real, generated), rel=1e-6)


DISTRIBUTED = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.test_metrics import Evaluated, batches, cloud
from fmgan_tf.metrics import frechet_distance
x, y = cloud(150, 6) + 1e7, cloud(150, 6, 1) + 1e7
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = Evaluated(6)
    model.compile()
fid = model.evaluate(batches(x, y), verbose=0, return_dict=True)["fid"]
np.testing.assert_allclose(fid, frechet_distance(x, y), rtol=1e-6)
"""


def test_keras_metric_on_two_replicas(pytestconfig):
    command = [sys.executable, "-c", DISTRIBUTED]
    done = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
