"""How far generated images are from real ones, computed from arrays of features; no models inside.

Features are arrays (samples, dimensions) of any real dtype, one row an image, whatever extractor they come
from; `real` and `generated` are such arrays everywhere. Anything else, or NaN, is a ValueError that says what
was expected. A score means something only beside its number of samples, its extractor, and the same score
for real images against other real ones.
"""

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

EPSILON = np.finfo(np.float64).eps


def _rows(features, name, dimensions=None):
    features = np.asarray(features)
    if features.ndim != 2 or 0 in features.shape or dimensions not in (None, features.shape[1]):
        raise ValueError(
            f"{name} has shape {features.shape}; expected (samples, {dimensions or 'dimensions'}), at least "
            "one. Flatten the features of each image to one row, and use one extractor for both sets."
        )
    return features


def _features(features, name, dimensions=None, largest=1e70):
    """Features as a float64 array, or what is wrong with them."""
    features = _rows(features, name, dimensions).astype(np.float64, copy=False)
    for extreme in (features.min(), features.max()):  # NaN passes through both
        if not abs(extreme) <= largest:
            raise ValueError(
                f"{name} contains {extreme}; expected finite numbers up to {largest:g}, whose powers float64 "
                "can hold. Check the generator's output and the scale of the images given to the extractor."
            )
    return features


class Moments:
    """Count, mean and covariance of features that arrive in pieces, in memory that does not grow with them.

    Each piece is centered on its own mean before it is merged (Chan, Golub and LeVeque 1979): sums of raw
    squares would lose the covariance of features whose mean is large against their spread.
    """

    def __init__(self, dimensions):
        self.count = 0
        self.mean = np.zeros(dimensions)
        self._scatter = np.zeros((dimensions, dimensions))

    @classmethod
    def of(cls, features):
        """The moments of one array (samples, dimensions)."""
        return cls(_rows(features, "features").shape[1]).update(features)

    def update(self, features):
        """Adds samples (N, dimensions) and returns the moments; of bad ones none is added."""
        features = _rows(features, "features", len(self.mean))
        # float64 copies of 4,096 rows, never of all; all are checked before the first is added
        pieces = [features[start : start + 4096] for start in range(0, len(features), 4096)]
        for piece in pieces:
            _features(piece, "features")
        for piece in pieces:
            mean = piece.mean(axis=0, dtype=np.float64)
            centered = piece - mean
            shift, total = mean - self.mean, self.count + len(piece)
            between = np.outer(shift, shift) * (self.count * len(piece) / total)
            self._scatter += centered.T @ centered + between
            self.mean = self.mean + shift * (len(piece) / total)
            self.count = total
        return self

    @property
    def covariance(self):
        """The unbiased covariance (divided by count - 1), float64 (dimensions, dimensions)."""
        if self.count < 2:
            raise ValueError(f"the covariance of {self.count} samples is not defined; expected 2 or more")
        return self._scatter / (self.count - 1)


def trace_of_root(first, second):
    """tr sqrt(first second) of two covariances, float: with A the symmetric root of the first, the sum of the
    square roots of the eigenvalues of A second A. All are real and none is negative, but for rounding."""
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ second @ root)
    return np.sqrt(np.clip(eigenvalues, 0, None)).sum()


def frechet_distance(real, generated):
    """Squared Frechet distance between the Gaussians with the moments of two sets (or Moments): float from 0.

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr sqrt(S1 S2), see trace_of_root. Biased upwards, the more so the fewer
    the samples; either set needs more of them than dimensions.

    Source: Dowson and Landau 1982; Heusel et al. 2017 (for generators, "FID" on Inception features).
    """
    real, generated = (
        side if isinstance(side, Moments) else Moments.of(_features(side, name))
        for name, side in (("real", real), ("generated", generated))
    )
    dimensions, others = len(real.mean), len(generated.mean)
    if others != dimensions:
        raise ValueError(f"generated has {others} dimensions; expected {dimensions}, as real has")
    for name, side in (("real", real), ("generated", generated)):
        if side.count <= dimensions:
            raise ValueError(
                f"{name} has {side.count} samples in {dimensions} dimensions; expected more than "
                f"{dimensions}. With fewer, its covariance is rank-deficient and the distance mostly bias: "
                "use more samples or a smaller extractor."
            )
    gap = real.mean - generated.mean
    first, second = real.covariance, generated.covariance
    return float(max(gap @ gap + np.trace(first) + np.trace(second) - 2 * trace_of_root(first, second), 0.0))


def jackknife(statistic, real, generated, groups=20, seed=0):
    """Standard error, over fresh draws of both sets, of a statistic in which a row drawn twice is a copy.

    Leaves out one random group in `groups` (2 or more) of both sets at a time: every value is taken at nearly
    the full size, where a bias that depends on the number of samples cancels. Itself uncertain by about
    1 / sqrt(2 groups). On Gaussians precision, recall, density and coverage get 0.9 to 1.9 times their real
    spread. float64, one for each number that `statistic`, like precision_recall, makes of (real, generated).

    Source: Tukey 1958.
    """
    rng = np.random.default_rng(seed)
    # Random groups: rows that come sorted by class would make each group one class
    real_groups, generated_groups = (rng.permutation(len(side)) % groups for side in (real, generated))
    pairs = ((real[real_groups != out], generated[generated_groups != out]) for out in range(groups))
    values = [statistic(*pair) for pair in pairs]
    return np.std(values, axis=0) * np.sqrt(groups - 1)


def frechet_standard_error(real, generated, groups=20, seed=0):
    """Standard error of frechet_distance over fresh draws of both sets, by the jackknife: float, at least 0.

    Resampled with repeated rows, the distance would come out too high. On Gaussians the jackknife agrees with
    the real spread where the sets differ, and is 1.2 to 1.9 times too large, on the safe side, where they are
    alike: there the distance has no slope and its spread is all curvature.
    """
    real, generated = _features(real, "real"), _features(generated, "generated")
    return float(jackknife(frechet_distance, real, generated, groups, seed))


def kernel_distance(real, generated, subsets=100, subset_size=1000, seed=0):
    """Kernel distance: unbiased squared MMD with the kernel (x.y / dimensions + 1)^3, over random subsets.

    Its expectation does not depend on the number of samples; it may fall slightly below 0. The standard error
    is over fresh draws of both sets: subsets overlap, so their spread over sqrt(subsets), often given, is too
    small; here it is rescaled from subset_size to the number of samples. Where the sets are alike it is up to
    sqrt(samples / subset_size) times too large, on the safe side.

    Returns:
        (mean, standard error), two floats.
    Source: Binkowski et al. 2018.
    """
    real = _features(real, "real", largest=1e25)  # the variance of a cubic kernel holds the 12th power
    generated = _features(generated, "generated", real.shape[1], largest=1e25)
    samples = min(len(real), len(generated))
    if not 2 <= subset_size <= samples / 2:
        raise ValueError(
            f"subset_size is {subset_size} for {samples} samples; expected 2 to {samples // 2}: nearly equal "
            "subsets tell nothing of the spread."
        )
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        x, y = (side[rng.choice(len(side), subset_size, replace=False)] for side in (real, generated))
        between = _cubic_kernel(x, y).mean()
        within = sum(kernel.sum() - np.trace(kernel) for kernel in (_cubic_kernel(x, x), _cubic_kernel(y, y)))
        values.append(within / (subset_size * (subset_size - 1)) - 2 * between)
    fraction = subset_size / samples  # drawn without replacement, subsets vary less, by 1 - fraction
    error = np.std(values, ddof=1) * np.sqrt(fraction / (1 - fraction) + 1 / subsets)
    return float(np.mean(values)), float(error)


def _cubic_kernel(x, y):
    kernel = x @ y.T / x.shape[1] + 1
    return kernel * kernel * kernel  # ten times as fast as ** 3


def _centered(*arrays):
    """The arrays less the mean of the first: products of large numbers would drown the distances."""
    names = ("real", "generated") if len(arrays) == 2 else ("train", "test", "generated")
    first = _features(arrays[0], names[0])
    rest = [_features(array, name, first.shape[1]) for array, name in zip(arrays[1:], names[1:], strict=True)]
    return [array - first.mean(axis=0) for array in (first, *rest)]


def _neighbor_distance(points, neighbors, queries=None):
    """Distance from each query, or each point (itself left out), to its neighbors-th nearest point."""
    most = len(points) - (queries is None)
    if not 1 <= neighbors <= most:
        raise ValueError(f"neighbors is {neighbors} for {len(points)} samples; expected 1 to {most}.")
    search = NearestNeighbors(n_neighbors=neighbors, algorithm="brute").fit(points)
    found = search.kneighbors(queries, return_distance=False)
    queries = points if queries is None else queries
    # The search goes by matrix products, which put duplicates some 1e-8 apart; subtraction does not
    return np.max([np.linalg.norm(queries - points[column], axis=1) for column in found.T], axis=0)


def _ball_counts(points, centers, radii):
    """How many balls are around each point, and how many points in each ball.

    A point is inside where |p|^2 - 2 p.c + |c|^2 - r^2 <= 0, a matrix product in blocks of 512 points (40 MB
    for 10,000 balls), or nearer to the rim than rounding: a copied image lies exactly on it.
    """
    balls, members = np.zeros(len(points), int), np.zeros(len(centers), int)
    less_rounding = 1 - (points.shape[1] + 10) * EPSILON
    squares, center_squares = ((array * array).sum(axis=1) * less_rounding for array in (points, centers))
    points = np.column_stack([points, squares, np.ones(len(points))])
    centers = np.column_stack([-2 * centers, np.ones(len(centers)), center_squares - radii * radii])
    for start in range(0, len(points), 512):
        inside = points[start : start + 512] @ centers.T <= 0
        balls[start : start + 512] = np.count_nonzero(inside, axis=1)
        members += np.count_nonzero(inside, axis=0)
    return balls, members


def precision_recall(real, generated, neighbors=3):
    """Precision (do generated images look real?) and recall (is all that is real generated?), 0 to 1.

    Precision is the fraction of generated samples inside a ball around some real sample that reaches to its
    neighbors-th nearest real one; recall swaps the roles. Compare at equal numbers of samples only.

    Source: Kynkaanniemi et al. 2019.
    """
    real, generated = _centered(real, generated)
    around_generated, _ = _ball_counts(generated, real, _neighbor_distance(real, neighbors))
    around_real, _ = _ball_counts(real, generated, _neighbor_distance(generated, neighbors))
    return float((around_generated > 0).mean()), float((around_real > 0).mean())


def density_coverage(real, generated, neighbors=5):
    """Density and coverage: as precision and recall, but one outlier with a wide ball cannot swing them.

    Density is the mean number of real balls around a generated sample, over `neighbors`; coverage the
    fraction of real balls with a generated sample inside. Floats, at least 0, and 0 to 1; equal distributions
    of equally many samples have about 1 and 1 - 2**-neighbors.

    Source: Naeem et al. 2020.
    """
    real, generated = _centered(real, generated)
    balls, members = _ball_counts(generated, real, _neighbor_distance(real, neighbors))
    return float(balls.mean() / neighbors), float((members > 0).mean())


def memorization(train, test, generated):
    """Are generated images nearer to the training images than fresh real ones (the test set) are?

    A sign of memorizing is an AUC well above 0.5 together with a nearer_fraction several times 0.01. Blurred,
    typical images raise the AUC too, for they are near everything; copies are what fills the lowest 1 %.

    Returns:
        dict of floats, from each sample's distance to its nearest training sample: "median_ratio", generated
        over test; "nearer_fraction", the part of generated samples no farther than the 1 % quantile of test
        (expected: 0.01); "auc", the probability that a generated sample is nearer than one of test (0.5).
    """
    train, test, generated = _centered(train, test, generated)
    yardstick, distances = (_neighbor_distance(train, 1, samples) for samples in (test, generated))
    if np.median(yardstick) == 0:
        raise ValueError("half or more of the test samples are in train; expected held-out samples.")
    is_generated = np.repeat([0, 1], [len(yardstick), len(distances)])
    return {
        "median_ratio": float(np.median(distances) / np.median(yardstick)),
        "nearer_fraction": float((distances <= np.quantile(yardstick, 0.01)).mean()),
        "auc": float(roc_auc_score(is_generated, -np.concatenate([yardstick, distances]))),
    }


def label_agreement(asked, recognized, classes):
    """How often a classifier recognizes the class, int (samples,), that a generator was asked for: (overall,
    per class), a float from 0 to 1 and float64 (classes,), NaN for a class never asked for."""
    asked, recognized = np.asarray(asked), np.asarray(recognized)
    if asked.ndim != 1 or asked.shape != recognized.shape:
        raise ValueError(
            f"asked has shape {asked.shape}, recognized {recognized.shape}; expected (samples,) twice"
        )
    right, per_class = asked == recognized, np.full(classes, np.nan)
    for label in np.unique(asked):
        per_class[label] = right[asked == label].mean()
    return float(right.mean()), per_class


class FrechetDistance(keras.metrics.Metric):
    """frechet_distance as a Keras metric, for test_step.

    Infinite, worse than anything measured, until both sides have more samples than dimensions, and when a
    feature is not finite: Keras asks for the result after every batch, so an error would end the first, and
    callbacks pass over NaN. Right under tf.distribute, where Keras adds up the replicas' variables.
    """

    def __init__(self, dimensions, name="frechet_distance"):
        super().__init__(name=name, dtype="float64")
        self.dimensions = dimensions
        # Sums are around a value near the mean, alike on all replicas: raw squares would drown the covariance
        self.origin = self._zeros((dimensions,), "origin", aggregation="mean")
        shapes = (), (dimensions,), (dimensions, dimensions)  # of count, sum and sum of squares
        self.real = [self._zeros(shape, f"real_{rank}") for rank, shape in enumerate(shapes)]
        self.generated = [self._zeros(shape, f"generated_{rank}") for rank, shape in enumerate(shapes)]

    def _zeros(self, shape, name, aggregation="sum"):
        return self.add_variable(shape, "zeros", dtype="float64", aggregation=aggregation, name=name)

    def update_state(self, real_features, generated_features):
        """Adds a batch of either side, (batch, dimensions); the two may differ in size."""
        real, generated = tf.cast(real_features, tf.float64), tf.cast(generated_features, tf.float64)
        first = tf.distribute.get_replica_context().all_reduce("mean", tf.reduce_mean(real, axis=0))
        self.origin.assign(tf.where(self.real[0] > 0, self.origin, first))
        for features, (count, total, squares) in ((real, self.real), (generated, self.generated)):
            features -= self.origin
            count.assign_add(tf.cast(tf.shape(features)[0], tf.float64))
            total.assign_add(tf.reduce_sum(features, axis=0))
            squares.assign_add(tf.matmul(features, features, transpose_a=True))

    def result(self):
        """The distance over all batches since the last reset, a float64 scalar, 0 to infinity."""
        enough = tf.minimum(self.real[0], self.generated[0]) > self.dimensions
        finite = tf.math.is_finite(tf.reduce_sum(self.real[2]) + tf.reduce_sum(self.generated[2]))
        return tf.cond(enough & finite, self._distance, lambda: tf.constant(np.inf, tf.float64))

    def _distance(self):
        (mean, first), (other_mean, second) = (self._moments(*side) for side in (self.real, self.generated))
        values, vectors = tf.linalg.eigh(first)
        noise = self.dimensions * EPSILON * values[-1]
        root = vectors * tf.sqrt(tf.where(values > noise, values, 0))  # Cholesky's fails on singular matrices
        eigenvalues = tf.linalg.eigvalsh(tf.matmul(root, second @ root, transpose_a=True))
        trace = tf.reduce_sum(tf.sqrt(tf.maximum(eigenvalues, 0)))
        gap = tf.reduce_sum((mean - other_mean) ** 2)
        return tf.maximum(gap + tf.linalg.trace(first) + tf.linalg.trace(second) - 2 * trace, 0)

    def _moments(self, count, total, squares):
        mean = total / count
        return mean, (squares - count * tf.tensordot(mean, mean, axes=0)) / (count - 1)

    def get_config(self):
        return {"name": self.name, "dimensions": self.dimensions}
