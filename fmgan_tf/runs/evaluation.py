"""Evaluates a generator, or a set of images, against the real test images: every figure with its uncertainty
and floor.

The floor of a figure is what real training images score in the place of the generated ones, at the same
number: no generator can be expected to do better. It is not zero, because a distance between finite samples
never is, and because the classifier knows the training images, which sets their features a little apart.
"""

import json
import sys
import time
from typing import NamedTuple

import keras
import numpy as np
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from fmgan_tf import InputError, data, features, metrics, models, plots
from fmgan_tf.runs import sources
from fmgan_tf.runs.folder import versions, writable

INCEPTION_FEATURES = 2048
NEIGHBOR_SUBSET = 2000  # images a side from which the uncertainty of neighbor figures is estimated
ACCURACY_STEPS = 320  # four passes over 10,000 images, more over fewer
MEMORIZATION_IMAGES = 2000
MEMORIZATION_PARTS = 5
UNSEEN = {"floor_is": "real test images, which the classifier has not seen"}
NAMES = {
    "fid_fmnist": "FID-FMNIST",
    "inception_distance": "Inception distance",
    "kid": "KID",
    "label_agreement": "label agreement",
    "label_agreement_among_known": "the same, among known classes",
    "classification_accuracy": "classification accuracy score",
    "memorization_median_ratio": "memorization: median ratio",
    "memorization_nearer_fraction": "memorization: nearer fraction",
    "memorization_auc": "memorization: AUC",
}


class Side(NamedTuple):
    """One set of images, with what the shipped classifier says of them.

    images: uint8 (N, 28, 28, 1).
    labels: int (N,), the classes of real images or those that were asked for, else those recognized.
    features: float32 (N, 128).
    recognized: int (N,).
    """

    images: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    recognized: np.ndarray

    @classmethod
    def of(cls, images, labels, what):
        """The side of some images; `what` they are is for the progress bar."""
        found, recognized = features.classifier_features(images, label=f"features of {what} images")
        return cls(images, recognized if labels is None else labels, found, recognized)

    def counts(self, classes):
        """How many images are recognized as each class, int (classes,)."""
        return np.bincount(self.recognized, minlength=classes)


class Sides(NamedTuple):
    """Generated images, the real test images that they are set against, and real training images for the
    floor.

    generated, real, floor: Side; floor is None where nobody asked for it.
    asked: bool, whether the labels of the generated images are those asked for.
    dataset: fashion_mnist.Dataset with the training and test images of the classes that are compared.
    remarks: list of str, what was assumed of the source and what should be said first.
    """

    generated: Side
    real: Side
    floor: Side | None
    asked: bool
    dataset: tuple
    remarks: list

    @property
    def classes(self):
        """The classes that are compared, int (C,)."""
        return np.unique(self.real.labels)


def prepare(source, dataset, samples=10_000, seed=0, fewest=200, with_floor=False):
    """Draws images from a source and sets real images of the same classes beside them.

    Args:
        source: sources.Source, or what sources.find takes.
        dataset: fashion_mnist.Dataset.
        samples: int, how many generated images.
        seed: int.
        fewest: int, how many images there must be at least.
        with_floor: whether training images are wanted too.
    Returns:
        Sides.
    Raises:
        InputError: bad source, or too few images.
    """
    source = sources.find(source)
    drawn = sources.draw(source, samples, seed)
    if len(drawn.images) < fewest:
        raise InputError(f"{source.name} gives {len(drawn.images)} images, expected at least {fewest}")
    dataset = sources.real_images(source, dataset, drawn.labels)
    if len(dataset.test_images) < fewest:
        raise InputError(
            f"{source.name} knows classes with {len(dataset.test_images)} real test images, expected at "
            f"least {fewest}"
        )
    random = np.random.default_rng(seed)
    test, train = (
        random.permutation(len(images))[: len(drawn.images)]
        for images in (dataset.test_images, dataset.train_images)
    )
    asked = drawn.labels is not None
    real = Side.of(dataset.test_images[test], dataset.test_labels[test], "test")
    floor = (
        Side.of(dataset.train_images[train], dataset.train_labels[train], "training") if with_floor else None
    )
    if not asked:  # all sides alike: by what is recognized
        real = real._replace(labels=real.recognized)
        floor = floor and floor._replace(labels=floor.recognized)
    generated = Side.of(drawn.images, drawn.labels, "generated")
    remarks = [remark for remark in (sources.sameness(drawn.images, drawn.labels), drawn.assumed) if remark]
    return Sides(generated, real, floor, asked, dataset, remarks)


def figure(own, floor, samples, extractor, **more):
    """One figure as a dict of plain Python values; NaN becomes None.

    Args:
        own, floor: (value, standard error) of the generated images, and of real ones in their place.
        samples: int, how many images it was measured on.
        extractor: str, what it was measured with.
        more: what else should be said.
    Returns:
        dict.
    """
    value, error, below, below_error = (float(n) if np.isfinite(n) else None for n in (*own, *floor))
    found = {"value": value, "standard_error": error, "samples": int(samples), "extractor": extractor}
    return found | {"floor": below, "floor_standard_error": below_error} | more


def _share(right):
    """(share, standard error) of a bool array; NaN for an empty one."""
    share = np.mean(right) if len(right) else np.nan
    return share, np.sqrt(share * (1 - share) / max(len(right), 1))


def _neighbor_figures(real, generated):
    return *metrics.precision_recall(real, generated), *metrics.density_coverage(real, generated)


def distribution_figures(real, generated):
    """The figures that compare two sets of features.

    Args:
        real, generated: float (N, dimensions).
    Returns:
        dict from "frechet", "kid", "precision", "recall", "density", "coverage" to (value, standard error).
    """
    with threadpool_limits(1 if real.shape[1] < 1000 else None):
        distance = metrics.frechet_distance(real, generated), metrics.frechet_standard_error(real, generated)
    size = min(1000, len(real) // 4, len(generated) // 4)
    figures = {
        "frechet": distance,
        "kid": metrics.kernel_distance(real, generated, subsets=30, subset_size=size),
    }
    # Their jackknife takes minutes at full size: it is done on fewer, and scaled as 1 / sqrt(N)
    few = min(NEIGHBOR_SUBSET, len(real), len(generated))
    with threadpool_limits(1):  # on matrices this small, threads wait for one another longer than they work
        errors = metrics.jackknife(_neighbor_figures, real[:few], generated[:few], groups=10)
    errors *= np.sqrt(few / min(len(real), len(generated)))
    values = _neighbor_figures(real, generated)
    return figures | dict(
        zip(("precision", "recall", "density", "coverage"), zip(values, errors, strict=True), strict=True)
    )


def class_distances(real, real_labels, generated, generated_labels, classes=10):
    """metrics.class_frechet_distances as arrays, with standard errors.

    Returns:
        (distances, errors): float64 (classes,), NaN for a class with no more images than dimensions.
    """

    def distances(real, generated):
        found = metrics.class_frechet_distances(real[:, 1:], real[:, 0], generated[:, 1:], generated[:, 0])
        return np.array([np.nan if found.get(label) is None else found[label] for label in range(classes)])

    real, generated = np.column_stack([real_labels, real]), np.column_stack([generated_labels, generated])
    with threadpool_limits(1):
        return distances(real, generated), metrics.jackknife(distances, real, generated)


def memorization_figures(train, test, generated):
    """metrics.memorization on pixels halved to 14 x 14, over disjoint parts of the test and generated images.

    Pixels, because a copied image has the very pixels of its model, and because no features of 60,000 images
    are needed.

    Args:
        train, test, generated: uint8 (N, 28, 28, 1); of the last two the first 2,000 are looked at.
    Returns:
        dict from the names of metrics.memorization to (mean, standard error) over the parts; empty where
        there are too few images.
    """
    test, generated = test[:MEMORIZATION_IMAGES], generated[:MEMORIZATION_IMAGES]
    if min(len(test), len(generated)) < 20 * MEMORIZATION_PARTS:
        return {}

    def halve(images):
        return (
            images.reshape(len(images), 14, 2, 14, 2).mean((2, 4), "float32").reshape(len(images), -1) / 255
        )

    train = halve(train)
    parts = [
        metrics.memorization(
            train, halve(test[part::MEMORIZATION_PARTS]), halve(generated[part::MEMORIZATION_PARTS])
        )
        for part in range(MEMORIZATION_PARTS)
    ]
    values = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: (np.mean(value), np.std(value, ddof=1) / np.sqrt(len(parts))) for name, value in values.items()
    }


def classification_accuracy(images, labels, dataset, seed=0):
    """Classification accuracy score: a small classifier trained on these images alone, tested on the real
    test images.

    Args:
        images, labels: uint8 (N, 28, 28, 1), int (N,).
        dataset: fashion_mnist.Dataset.
        seed: int.
    Returns:
        (accuracy, standard error).
    Source: Ravuri and Vinyals 2019, https://arxiv.org/abs/1905.10887.
    """
    steps = -(-len(images) // 128)
    epochs = max(1, ACCURACY_STEPS // steps)
    shares, errors = [], []
    for run in range(
        2
    ):  # two trainings from different weights differ, more than the test images alone would tell
        keras.utils.set_random_seed(2 * seed + run)
        model = models.build_classifier(filters=8)
        rate = keras.optimizers.schedules.CosineDecay(3e-3, steps * epochs)
        model.compile(
            keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        model.fit(data.to_tanh_range(images), labels, batch_size=128, epochs=epochs, verbose=0)
        logits = model.predict(data.to_tanh_range(dataset.test_images), batch_size=500, verbose=0)
        share, error = _share(logits.argmax(1) == dataset.test_labels)
        shares.append(share)
        errors.append(error)
    return np.mean(shares), np.hypot(np.std(shares, ddof=1) / np.sqrt(2), np.mean(errors))


def class_figures(sides):
    """The figures of every class.

    Args:
        sides: Sides.
    Returns:
        dict from the name of a class to a dict from the name of a figure to what figure() gives.
    """
    generated, real, floor = sides.generated, sides.real, sides.floor
    names, extractor = sides.dataset.class_names, f"{sides.dataset.name} classifier"
    distances = [
        np.transpose(class_distances(real.features, real.labels, side.features, side.labels, len(names)))
        for side in (generated, floor)
    ]
    classes = {}
    for label in sides.classes:
        own, below = (share[label] for share in distances)
        rows = {"fid_fmnist": figure(own, below, np.sum(generated.labels == label), extractor)}
        shares = (_share(side.recognized == label) for side in (generated, floor))
        rows["recognized_share"] = figure(*shares, len(generated.images), extractor)
        if sides.asked:
            verdicts = [side.recognized[side.labels == label] == label for side in (generated, real)]
            rows["label_agreement"] = figure(*map(_share, verdicts), len(verdicts[0]), extractor, **UNSEEN)
        classes[names[label]] = rows
    return classes


def agreement_figures(sides):
    """Label agreement, and that among known classes where a generator knows fewer than the classifier.

    Args:
        sides: Sides, of images that were asked for.
    Returns:
        dict from the name of a figure to what figure() gives.
    """
    both, known = (sides.generated, sides.real), len(sides.classes) == len(sides.dataset.class_names)
    verdicts = {"label_agreement": [side.recognized for side in both]}
    if not known:  # to call a T-shirt a shirt is no mistake of a generator that knows no shirts
        among = [features.recognized_among(sides.classes, side.features) for side in both]
        verdicts["label_agreement_among_known"] = among
    return {
        key: figure(
            *(_share(side.labels == verdict) for side, verdict in zip(both, found, strict=True)),
            len(sides.generated.images),
            f"{sides.dataset.name} classifier",
            **UNSEEN,
        )
        for key, found in verdicts.items()
    }


def evaluate(
    source, dataset, samples=10_000, seed=0, extractor="classifier", inception_weights="imagenet", output=None
):
    """Every figure of one source.

    Args:
        source: sources.Source, or what sources.find takes.
        dataset: fashion_mnist.Dataset.
        samples: int, how many generated images.
        seed: int.
        extractor: "classifier" or "inception".
        inception_weights: see features.inception.
        output: path of a folder for evaluation.json, classes.png and realism.png; made if need be.
    Returns:
        dict: source, remarks, samples, labels, extractor, note, figures, classes, seconds. `figures` and each
        value in `classes` hold, for every figure, its value, standard error, samples, extractor, floor and
        the floor's standard error.
    Raises:
        InputError: bad source, or too few images.
        OSError: nothing can be written to output; known before anything is measured.
    """
    start = time.perf_counter()
    source = sources.find(source)
    if output is not None:
        output = writable(output)
    inception = features.inception(inception_weights) if extractor == "inception" else None
    dimensions = INCEPTION_FEATURES if inception else features.classifier_extractor()[1]
    fewest = int(np.ceil((dimensions + 2) / 0.95)) + 1  # the jackknife leaves out a twentieth
    if samples < fewest:
        raise InputError(
            f"{samples} samples are too few for {dimensions} features, expected at least {fewest}"
        )
    sides = prepare(source, dataset, samples, seed, fewest, with_floor=True)
    generated, real, floor = sides.generated, sides.real, sides.floor
    report = {
        "source": source.name,
        "remarks": sides.remarks,
        "samples": len(generated.images),
        "real_samples": len(real.images),
        "seed": seed,
        "labels": "asked for" if sides.asked else "recognized by the classifier, for none were asked for",
        "extractor": "keras.applications.InceptionV3" if inception else f"{dataset.name} classifier",
        "note": features.INCEPTION_NOTE if inception else None,
    }
    classes = class_figures(sides)
    points = real.features, generated.features, floor.features
    if inception:
        points = [
            features.inception_features(side.images, model=inception, label=f"InceptionV3: {what} images")
            for side, what in ((real, "test"), (generated, "generated"), (floor, "training"))
        ]
    print("distances and neighbors...", file=sys.stderr, flush=True)
    own, below = (distribution_figures(points[0], side) for side in points[1:])
    figures = {key: figure(own[key], below[key], len(generated.images), report["extractor"]) for key in own}
    figures = {"inception_distance" if inception else "fid_fmnist": figures.pop("frechet")} | figures
    if sides.asked:
        figures |= agreement_figures(sides)
    print("memorization...", file=sys.stderr, flush=True)
    expected = {"median_ratio": (1.0, 0.0), "nearer_fraction": (0.01, 0.0), "auc": (0.5, 0.0)}
    looked_at = min(len(generated.images), MEMORIZATION_IMAGES)
    for key, value in memorization_figures(sides.dataset.train_images, real.images, generated.images).items():
        how = "pixels halved to 14 x 14", {"floor_is": "real test images, by definition"}
        figures[f"memorization_{key}"] = figure(value, expected[key], looked_at, how[0], **how[1])
    if sides.asked:
        print("classification accuracy score...", file=sys.stderr, flush=True)
        scores = [classification_accuracy(*side[:2], sides.dataset, seed) for side in (generated, floor)]
        how = "a small classifier trained on them"
        figures["classification_accuracy"] = figure(*scores, len(generated.images), how)
    report |= {"figures": figures, "classes": classes, "data": dataset.source, "versions": versions()}
    report["seconds"] = round(time.perf_counter() - start, 1)
    if output is not None:
        _write(output, report, sides)
    return report


def _write(output, report, sides):
    """evaluation.json and pictures."""
    plots.write_whole(output / "evaluation.json", json.dumps(report, indent=2))
    distances = [row["fid_fmnist"] for row in report["classes"].values()]
    columns = [[row[key] for row in distances] for key in ("value", "standard_error", "floor")]
    title = f"{report['source']}: per class, {report['labels']}"
    bars = plots.show_class_bars(list(report["classes"]), *np.array(columns, "float64"), "FID-FMNIST", title)
    plots.save_figure(output / "classes.png", bars)
    realism = show_realism(sides.generated.images, sides.generated.features, sides.real.features)
    plots.save_figure(output / "realism.png", realism)


def show_realism(images, generated, real, count=40):
    """The most and the least realistic images, by their mean distance to the five nearest real ones in
    features.

    Args:
        images: uint8 (N, 28, 28, 1).
        generated, real: their features and those of real images, float (N, dimensions).
        count: int, how many of each.
    Returns:
        matplotlib Figure.
    """
    search = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(real)
    order = np.argsort(search.kneighbors(generated)[0].mean(1))
    chosen = np.concatenate([order[:count], order[-count:][::-1]])
    rows = 2 * (count // 20)
    return plots.show_images(
        images[chosen],
        columns=20,
        title="By distance to the nearest real images in features",
        row_labels=["most realistic" if row < rows // 2 else "least realistic" for row in range(rows)],
    )


def table(report):
    """The report for people.

    Args:
        report: what evaluate() returned.
    Returns:
        str, several lines.
    """

    def cell(value, error):
        if value is None:
            return "too few"
        digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 4
        return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")

    lines = [
        *report["remarks"],
        f"{report['source']}: {report['samples']:,} images against {report['real_samples']:,} real test "
        "images",
        f"features: {report['extractor']}; labels: {report['labels']}",
        *([report["note"]] if report["note"] else []),
        "",
        f"{'figure':<32}{'value ± standard error':>24}{'floor: real images':>24}{'N':>9}",
    ]
    for key, row in report["figures"].items():
        lines.append(
            f"{NAMES.get(key, key):<32}{cell(row['value'], row['standard_error']):>24}"
            f"{cell(row['floor'], row['floor_standard_error']):>24}{row['samples']:>9,}"
        )
    titles = {"fid_fmnist": "FID-FMNIST", "recognized_share": "recognized", "label_agreement": "agreement"}
    columns = list(next(iter(report["classes"].values())))
    lines += ["", f"{'class':<14}" + "".join(f"{titles[key] + ' (floor)':>30}" for key in columns)]
    for name, rows in report["classes"].items():
        cells = (
            f"{cell(rows[key]['value'], rows[key]['standard_error'])} ({cell(rows[key]['floor'], None)})"
            for key in columns
        )
        lines.append(f"{name:<14}" + "".join(f"{text:>30}" for text in cells))
    return "\n".join(lines)
