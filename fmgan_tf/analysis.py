"""What a generator has learned, beside real images: embeddings, clusters, biases, neighbors, latent space.

Thin over scikit-learn, SciPy and umap-learn; runs/report.py puts it all on one page. Throughout, points and
features are float (N, dimensions), images uint8 (N, height, width, 1), labels int (N,).
"""

import itertools
import warnings
from typing import NamedTuple

import keras
import numpy as np
from scipy import stats
from scipy.spatial import distance
from sklearn import cluster, decomposition, manifold, neighbors
from sklearn import metrics as scores

from fmgan_tf import InputError, data, features, generation, metrics

EMBEDDINGS = ("PCA", "t-SNE", "UMAP")
CLUSTERINGS = ("k-means", "HDBSCAN")
ATTRIBUTES = {
    "brightness": "mean pixel, 0 to 1",
    "filled area": "share of pixels above 0.1",
    "symmetry": "1 where left mirrors right, 0 where they share nothing",
    "edge density": "mean difference between neighboring pixels, 0 to 1",
}
PAIRS = 500  # images per class whose distances to one another are averaged
CLUSTERED, CLUSTER_PARTS = 10_000, 5  # images per set that are searched for clusters, in so many parts


class ImageSet(NamedTuple):
    """Images uint8 (N, 28, 28, 1), labels int (N,), and what a classifier makes of them: features float32 (N,
    dimensions) and classes int (N,), which are also the labels of generated images that were asked for
    none."""

    images: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    recognized: np.ndarray

    @classmethod
    def of(cls, images, labels, progress, extractors=None):
        """The set of images with labels or None; `progress` is what the progress bar says; the
        features.Extractors are the shipped ones if none are given."""
        found, recognized = (extractors or features.Extractors.shipped()).features(images, progress)
        return cls(images, recognized if labels is None else labels, found, recognized)


def embed(points, method, seed=0):
    """Places points in a plane, float (N, 2).

    Args:
        method: "PCA", "t-SNE" or "UMAP". The last two see the first 50 principal components.
    Raises:
        InputError: unknown method, or UMAP without umap-learn.
    Source: van der Maaten and Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html; McInnes, Healy
    and Melville 2018, https://arxiv.org/abs/1802.03426.
    """
    if method not in EMBEDDINGS:
        raise InputError(f"no embedding {method!r}; there are {', '.join(EMBEDDINGS)}")
    if method == "PCA":
        return decomposition.PCA(2, random_state=seed).fit_transform(points)
    points = decomposition.PCA(min(50, *points.shape), random_state=seed).fit_transform(points)
    if method == "t-SNE":
        perplexity = min(30.0, (len(points) - 1) / 3)
        return manifold.TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
    try:
        import umap
    except ImportError:
        raise InputError("UMAP needs umap-learn, which is not installed: pip install umap-learn") from None
    except RuntimeError as error:  # of numba, which keeps compiled code in a file
        fix = "Set NUMBA_CACHE_DIR to a folder that can be written"
        raise InputError(f"UMAP cannot start ({error}). {fix}") from error
    with warnings.catch_warnings():  # it says that a seed costs it its threads, and warns of its own future
        warnings.simplefilter("ignore")
        return umap.UMAP(n_neighbors=min(15, len(points) - 1), random_state=seed).fit_transform(points)


def find_clusters(points, labels, method, seed=0, dimensions=20):
    """Looks for clusters without the labels, then sets them against the labels.

    Args:
        method: "k-means", with as many clusters as there are labels, or "HDBSCAN", which finds their number
            itself and leaves out points in thin places. Both see the first `dimensions` principal components.
    Returns:
        dict: assigned, int (N,), -1 for points left out; clusters, their number; left_out, the share of such
        points; ari and nmi, the adjusted Rand index and the normalized mutual information of clusters and
        labels; silhouette, in [-1, 1]. The last three are NaN with fewer than two clusters.
    Raises:
        InputError: unknown method.
    Source: Hubert and Arabie 1985 (ARI); Rousseeuw 1987 (silhouette); Campello, Moulavi and Sander 2013
    (HDBSCAN).
    """
    labels = np.asarray(labels)
    points = decomposition.PCA(min(dimensions, *points.shape), random_state=seed).fit_transform(points)
    if method == "k-means":
        assigned = cluster.KMeans(len(np.unique(labels)), n_init=4, random_state=seed).fit_predict(points)
    elif method == "HDBSCAN":
        smallest = max(5, len(points) // 100)
        assigned = cluster.HDBSCAN(min_cluster_size=smallest, min_samples=5, copy=True).fit_predict(points)
    else:
        raise InputError(f"no clustering {method!r}; there are {', '.join(CLUSTERINGS)}")
    inside = assigned >= 0
    left_out = float(1 - inside.mean())
    points, labels, found = points[inside], labels[inside], assigned[inside]
    count = len(np.unique(found))
    result = {"assigned": assigned, "clusters": count, "left_out": left_out}
    if count < 2:
        return result | {"ari": np.nan, "nmi": np.nan, "silhouette": np.nan}
    size = min(3000, len(found))
    return result | {
        "ari": float(scores.adjusted_rand_score(labels, found)),
        "nmi": float(scores.normalized_mutual_info_score(labels, found)),
        "silhouette": float(scores.silhouette_score(points, found, sample_size=size, random_state=seed)),
    }


def cluster_table(real, generated, seed=0):
    """Clusters of two ImageSets, in pixels and in classifier features, beside their labels.

    Returns:
        list of dicts: space; images, "real" or "generated"; method; samples, how many images a part has; the
        means over five disjoint parts of what find_clusters gives; ari_error, the standard error of ARI's.
    """
    rows, sets = [], {"real": real, "generated": generated}
    for space, name in itertools.product(("pixels", "classifier features"), sets):
        points = sets[name].features
        if space == "pixels":
            points = data.to_unit_range(sets[name].images).reshape(len(points), -1)
        parts = np.array_split(np.arange(len(points))[:CLUSTERED], CLUSTER_PARTS)
        for method in CLUSTERINGS:
            found = [find_clusters(points[part], sets[name].labels[part], method, seed) for part in parts]
            row = {"space": space, "images": name, "method": method, "samples": len(parts[0])}
            for key in ("clusters", "left_out", "ari", "nmi", "silhouette"):
                row[key] = float(np.mean([result[key] for result in found]))
            error = np.std([result["ari"] for result in found], ddof=1) / CLUSTER_PARTS**0.5
            rows.append(row | {"ari_error": float(error)})
    return rows


def diversity(points):
    """Mean distance between two of up to 500 points: 0 where all are the same, NaN for fewer than two."""
    return float(distance.pdist(points[:PAIRS]).mean()) if len(points) > 1 else np.nan


def per_class(real, real_labels, generated, generated_labels):
    """Diversity and realism of every class, from the features of real and generated images.

    Returns:
        dict from class to a dict: diversity (over that of the real images), precision, recall and coverage
        (see metrics), all NaN with fewer than ten images in either set, and count, of generated images.
    """
    rows = {}
    for label in np.unique(real_labels):
        left, right = real[real_labels == label], generated[generated_labels == label]
        size = min(len(left), len(right))
        row = {"count": len(right)} | dict.fromkeys(("diversity", "precision", "recall", "coverage"), np.nan)
        if size >= 10:  # precision and recall compare at equal numbers only
            row["diversity"] = diversity(right) / diversity(left)
            row["precision"], row["recall"] = metrics.precision_recall(left[:size], right[:size])
            row["coverage"] = metrics.density_coverage(left[:size], right[:size])[1]
        rows[int(label)] = row
    return rows


def attributes(images):
    """What is seen without knowing what is shown: dict from ATTRIBUTES to float64 (N,), 0 to 1."""
    pixels = np.asarray(images)[..., 0].astype("float64") / 255
    mirrored = pixels[:, :, ::-1]
    total = np.maximum((pixels + mirrored).sum((1, 2)), 1e-9)
    edges = [np.abs(np.diff(pixels, axis=axis)).mean((1, 2)) for axis in (1, 2)]
    return {
        "brightness": pixels.mean((1, 2)),
        "filled area": (pixels > 0.1).mean((1, 2)),
        "symmetry": 1 - np.abs(pixels - mirrored).sum((1, 2)) / total,
        "edge density": (edges[0] + edges[1]) / 2,
    }


def effect_size(real, generated, tests=1):
    """How far generated values, float (N,), lie above real ones, float (M,): (d, low, high).

    Cohen's d is the difference of the means in (pooled) standard deviations, and low to high its 95 %
    interval. Of several comparisons, `tests`, all intervals together hold the true values in 95 % of cases
    (Bonferroni).
    Source: Cohen 1988, who calls 0.2 small, 0.5 medium and 0.8 large; the standard error: Hedges and Olkin
    1985, Statistical Methods for Meta-Analysis, chapter 5.
    """
    spread, count = np.sqrt((real.var() + generated.var()) / 2), len(real) + len(generated)
    d = float((generated.mean() - real.mean()) / spread) if spread else 0.0
    error = np.sqrt(count / (len(real) * len(generated)) + d**2 / (2 * count))
    reach = float(stats.norm.ppf(1 - 0.05 / (2 * tests)) * error)
    return d, d - reach, d + reach


def biases(real, real_labels, generated, generated_labels):
    """Attributes of generated against real images, in all classes together and in each.

    Returns:
        list of dicts: attribute; label, None for all; real and generated, the means; effect, low and high,
        see effect_size, for as many comparisons as the list is long; clear, whether low to high leaves out 0.
        Classes with fewer than ten images in either set are left out.
    """
    left, right = attributes(real), attributes(generated)
    rows, pairs = [], []
    for attribute in ATTRIBUTES:
        for label in (None, *np.unique(real_labels).tolist()):
            ours = left[attribute] if label is None else left[attribute][real_labels == label]
            theirs = right[attribute] if label is None else right[attribute][generated_labels == label]
            if min(len(ours), len(theirs)) >= 10:
                means = {"real": float(ours.mean()), "generated": float(theirs.mean())}
                rows.append({"attribute": attribute, "label": label} | means)
                pairs.append((ours, theirs))
    for row, pair in zip(rows, pairs, strict=True):
        row["effect"], row["low"], row["high"] = effect_size(*pair, len(rows))
        row["clear"] = row["low"] > 0 or row["high"] < 0
    return rows


def nearest(images, train_images):
    """The training image nearest to each image: (index, distance), int (N,) and float (N,), the root mean
    square difference of the pixels in [0, 1]; 0 is a copy."""
    flat, train = (data.to_unit_range(side).reshape(len(side), -1) for side in (images, train_images))
    search = neighbors.NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train)
    index = search.kneighbors(flat, return_distance=False)[:, 0]
    return index, np.sqrt(((flat - train[index]) ** 2).mean(1))


def interpolations(generator, seed=0, count=24, steps=17, extractors=None):
    """Walks of a generation.Generator between random noise vectors, `count` straight and on great circles.

    Returns:
        dict from "linear" and "spherical" to a dict: norm, float (steps,), mean length of the noise over that
        of the ends; length, float (count,), of the path through the classifier's features, over the distance
        between its ends (from 1); images, uint8 (steps, 28, 28, 1), of the first walk.
    """
    ends = generation.sample_noise(seed, 2 * count, generator.latent_dim).reshape(2, count, -1)
    shares = np.linspace(0, 1, steps)
    result = {}

    def straight(start, end, share):
        return (1 - share) * start + share * end

    for kind, between in (("linear", straight), ("spherical", generation.slerp)):
        walk = np.stack([between(*ends, share) for share in shares])  # (steps, count, latent_dim)
        labels = np.tile(np.arange(count) % generator.classes, steps) if generator.classes else None
        noise = walk.reshape(steps * count, -1).astype("float32")
        images = generation.sample_images(generator, noise, labels)
        extractors = extractors or features.Extractors.shipped()
        found, _ = extractors.features(images, f"features of {kind} walks")
        path = found.reshape(steps, count, -1)
        hops = np.linalg.norm(np.diff(path, axis=0), axis=-1).sum(0)
        norms = np.linalg.norm(walk, axis=-1)
        result[kind] = {
            "norm": (norms / norms[[0, -1]].mean()).mean(1),
            "length": hops / np.maximum(np.linalg.norm(path[-1] - path[0], axis=-1), 1e-9),
            "images": images.reshape(steps, count, *images.shape[1:])[:, 0],
        }
    return result


def hidden_layer(model):
    """The generator, a keras.Model, up to its first nonlinearity, or None where no layer looks like one."""
    for index, layer in enumerate(model.layers):
        if isinstance(layer, keras.Model):
            inner = hidden_layer(layer)
            return inner and keras.Model(model.inputs, inner(model.layers[index - 1].output))
        activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if isinstance(layer, keras.layers.ReLU | keras.layers.LeakyReLU) or activation != "linear":
            return keras.Model(model.inputs, layer.output)
    return None


def directions(generator, seed=0, count=4, samples=2000):
    """At most `count` directions in noise space along which most changes in a generation.Generator.

    The principal components of the activations of its first hidden layer for `samples` noise vectors, carried
    back to the noise by linear regression. InputError if it has no such layer.

    Returns:
        (directions, shares): float32 (count, latent_dim) of length 1, and float (count,), the share of the
        activations' variance along each.
    Source: Harkonen et al. 2020, GANSpace, https://arxiv.org/abs/2004.02546.
    """
    hidden = hidden_layer(generator.model)
    if hidden is None:
        raise InputError(f"{generator.model.name!r} has no hidden layer that could be looked into")
    noise = generation.sample_noise(seed, samples, generator.latent_dim)
    # One class: the difference between classes is not a direction of the noise
    inputs = keras.tree.flatten(generator.feed(noise, np.zeros(samples, int) if generator.classes else None))
    activations = np.asarray(hidden(inputs if len(inputs) > 1 else inputs[0], training=False))
    activations = activations.reshape(samples, -1)
    components = decomposition.PCA(min(count, *activations.shape), random_state=seed).fit(activations)
    shares = components.explained_variance_ratio_
    varied = shares > 1e-6  # a generator may have fewer directions than were asked for
    coordinates = components.transform(activations)[:, varied]  # (samples, count)
    solution, *_ = np.linalg.lstsq(coordinates, noise, rcond=None)  # (count, latent_dim)
    found = solution / np.linalg.norm(solution, axis=1, keepdims=True)
    return found.astype("float32"), shares[varied]
