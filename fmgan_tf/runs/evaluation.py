"""Evaluates images, or a generator, against the real test images: every figure with its uncertainty and
floor.

The floor is what real training images score in the place of the generated ones, as many and with the same
class counts: no generator can be expected to do better. It is not zero: distances between finite samples
never are, and the classifier knows the training images, which sets their features a little apart.
"""

import functools
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
# Name of its distance, what it is, and features float (N, dimensions) of (a Side, a text for the progress
# bar, what features.inception() returned)
EXTRACTORS = {
    "classifier": ("fid_fmnist", "Fashion-MNIST classifier", lambda side, label, model: side.features),
    "label-free": (
        "label_free_distance",
        "the shipped network that has seen no label",
        lambda side, label, model: features.label_free_features(side.images, label),
    ),
    "random": (
        "random_distance",
        "a convolutional network with random weights",
        lambda side, label, model: features.random_features(side.images, label),
    ),
    "inception": (
        "inception_distance",
        "keras.applications.InceptionV3",
        lambda side, label, model: features.inception_features(side.images, model=model, label=label),
    ),
}
NEIGHBOR_SUBSET = 2000  # images a side from which the uncertainty of neighbor figures is estimated
ACCURACY_STEPS = 320  # of 128 images: four passes over 10,000
MEMORIZATION_IMAGES = 2000
MEMORIZATION_PARTS = 5
UNSEEN = {"floor_is": "real test images, which the classifier has not seen"}
NAMES = {
    "fid_fmnist": "FID-FMNIST",
    "fid_fmnist_infinity": "FID-FMNIST, N to infinity",
    "label_free_distance": "label-free distance",
    "random_distance": "distance on random features",
    "inception_distance": "Inception distance",
    "kid": "KID",
    "label_agreement": "label agreement",
    "label_agreement_among_known": "the same, among known classes",
    "quick_accuracy_score": "quick accuracy score",
    "memorization_median_ratio": "memorization: median ratio",
    "memorization_nearer_fraction": "memorization: nearer fraction",
    "memorization_auc": "memorization: AUC",
    "memorization_copied_share": "memorization: copied share",
}


class Side(NamedTuple):
    """Images uint8 (N, 28, 28, 1), labels int (N,), and what the shipped classifier makes of them: features
    float32 (N, 128) and classes int (N,), which are also the labels of generated images that none were asked
    for."""

    images: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    recognized: np.ndarray

    @classmethod
    def of(cls, images, labels, what):
        """The side of images; `what` they are is for the progress bar."""
        found, recognized = features.classifier_features(images, label=f"features of {what} images")
        return cls(images, recognized if labels is None else labels, found, recognized)


class Sides(NamedTuple):
    """Generated images, the real test images to compare them to, and training images for the floor if wanted.

    asked: whether the labels of the generated images are those asked for.
    dataset: fashion_mnist.Dataset of the classes that are compared.
    remarks: list of str, what was assumed of the source and what should be said first."""

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
    """Draws `samples` images from a source and sets real ones of the same classes beside them.
    Args:
        source: sources.Source, or what sources.find takes.
        dataset: fashion_mnist.Dataset.
        fewest: int; fewer images than that, or a bad source, raise InputError.
    Returns:
        Sides.
    """
    source = sources.find(source)
    drawn = sources.draw(source, samples, seed)
    if len(drawn.images) < fewest:
        raise InputError(f"{source.name} gives {len(drawn.images)} images, expected at least {fewest}")
    dataset = sources.real_images(source, dataset, drawn.labels)
    if len(dataset.test_images) < fewest:
        few = f"{len(dataset.test_images)} real test images"
        raise InputError(f"{source.name} knows classes with {few}, expected at least {fewest}")
    random, count, asked = np.random.default_rng(seed), len(drawn.images), drawn.labels is not None
    if asked:
        test = data.alike(dataset.test_labels, drawn.labels, seed)
    else:
        test = random.permutation(len(dataset.test_images))[:count]
    real, floor = Side.of(dataset.test_images[test], dataset.test_labels[test], "test"), None
    if with_floor:
        # Where no labels were asked for, the generated images have to match those of the test images
        wanted = drawn.labels if asked else np.resize(dataset.test_labels[test], count)
        train = data.alike(dataset.train_labels, wanted, seed)
        floor = Side.of(dataset.train_images[train], dataset.train_labels[train], "training")
    if not asked:  # all sides alike: by what is recognized
        real = real._replace(labels=real.recognized)
        floor = floor and floor._replace(labels=floor.recognized)
    generated = Side.of(drawn.images, drawn.labels, "generated")
    remarks = [remark for remark in (sources.sameness(drawn.images, drawn.labels), drawn.assumed) if remark]
    return Sides(generated, real, floor, asked, dataset, remarks)


def figure(own, floor, samples, extractor, **more):
    """One figure as a dict of plain Python values; NaN becomes None. `own` and `floor` are (value, standard
    error) of the generated images and of real ones in their place; `samples` is how many, `more` what else
    should be said."""
    value, error, below, below_error = (float(n) if np.isfinite(n) else None for n in (*own, *floor))
    found = {"value": value, "standard_error": error, "samples": int(samples), "extractor": extractor}
    return found | {"floor": below, "floor_standard_error": below_error} | more


def _share(right):
    """(share, standard error) of a bool array; NaN for an empty one."""
    share = np.mean(right) if len(right) else np.nan
    return share, np.sqrt(share * (1 - share) / max(len(right), 1))


def _frechet(real, generated):
    """(Frechet distance, standard error) of features, float (N, dimensions)."""
    with threadpool_limits(1 if real.shape[1] < 1000 else None):
        return metrics.frechet_distance(real, generated), metrics.frechet_standard_error(real, generated)


def _neighbor_figures(real, generated):
    return *metrics.precision_recall(real, generated), *metrics.density_coverage(real, generated)


def distribution_figures(real, generated):
    """The figures that compare features, float (N, dimensions): a dict from "frechet", "infinity" (NaN of too
    few), "kid", "precision", "recall", "density" and "coverage" to (value, standard error)."""
    with threadpool_limits(1 if real.shape[1] < 1000 else None):
        infinity = np.nan, np.nan
        if len(generated) // 2 > real.shape[1]:
            at = metrics.frechet_at_infinity
            infinity = at(real, generated), metrics.jackknife(at, real, generated, groups=10)
    size = min(1000, len(real) // 4, len(generated) // 4)
    kid = metrics.kernel_distance(real, generated, subsets=30, subset_size=size)
    # Their jackknife takes minutes at full size: it is done on fewer, and scaled as 1 / sqrt(N)
    few = min(NEIGHBOR_SUBSET, len(real), len(generated))
    with threadpool_limits(1):  # on matrices this small, threads wait for one another longer than they work
        errors = metrics.jackknife(_neighbor_figures, real[:few], generated[:few], groups=10)
    errors *= np.sqrt(few / min(len(real), len(generated)))
    names, values = ("precision", "recall", "density", "coverage"), _neighbor_figures(real, generated)
    figures = {"frechet": _frechet(real, generated), "infinity": infinity, "kid": kid}
    return figures | dict(zip(names, zip(values, errors, strict=True), strict=True))


def class_distances(real, real_labels, generated, generated_labels, classes=10):
    """metrics.class_frechet_distances with standard errors, float64 (classes,); NaN for too few images."""

    def distances(real, generated):
        found = metrics.class_frechet_distances(real[:, 1:], real[:, 0], generated[:, 1:], generated[:, 0])
        return np.array([np.nan if found.get(label) is None else found[label] for label in range(classes)])

    real, generated = np.column_stack([real_labels, real]), np.column_stack([generated_labels, generated])
    with threadpool_limits(1):
        return distances(real, generated), metrics.jackknife(distances, real, generated)


def memorization_figures(train, test, generated):
    """metrics.memorization and metrics.copied_share on disjoint parts of the first 2,000 test and generated
    images, uint8 (N, 28, 28, 1): a dict from names to (mean, standard error) over the parts; empty where
    images are too few. On pixels halved to 14 x 14: a copied image has the very pixels of its model, and
    60,000 images need no features."""
    test, generated = test[:MEMORIZATION_IMAGES], generated[:MEMORIZATION_IMAGES]
    if min(len(test), len(generated)) < 20 * MEMORIZATION_PARTS:
        return {}

    def halve(images):
        halved = images.reshape(len(images), 14, 2, 14, 2).mean((2, 4), "float32")
        return halved.reshape(len(images), -1) / 255

    train, test, generated = halve(train), halve(test), halve(generated)
    count = MEMORIZATION_PARTS
    sides = [(train, test[part::count], generated[part::count]) for part in range(count)]
    parts = [metrics.memorization(*part) | {"copied_share": metrics.copied_share(*part)} for part in sides]
    values = {name: [part[name] for part in parts] for name in parts[0]}
    return {name: (np.mean(value), np.std(value, ddof=1) / np.sqrt(count)) for name, value in values.items()}


@functools.cache
def _quick_classifier(steps):
    """A compiled classifier whose learning rate falls to zero in so many steps; kept, so that TensorFlow
    compiles its train step once."""
    model = models.build_classifier(filters=8)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps))
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    optimizer.build(model.trainable_variables)
    return model


def quick_accuracy_score(images, labels, dataset, seed=0):
    """(accuracy, standard error) on the real test images of a small classifier trained on these images alone:
    uint8 (N, 28, 28, 1), int (N,). It trains for seconds, far from convergence: fmgan_tf.bench.accuracy has
    the long form. Source: Ravuri and Vinyals 2019, https://arxiv.org/abs/1905.10887."""
    model, shares, errors = _quick_classifier(ACCURACY_STEPS), [], []
    images, size = data.to_tanh_range(images), min(128, len(images))
    # Two trainings from different weights differ, more than the test images alone would tell
    for run in (2 * seed, 2 * seed + 1):
        keras.utils.set_random_seed(run)
        fresh = models.build_classifier(filters=8)
        for variable, value in zip(model.variables, fresh.variables, strict=True):
            variable.assign(value)
        for variable in model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        stream = data.batches(images, size, run, labels=labels)
        model.fit(stream, steps_per_epoch=ACCURACY_STEPS, shuffle=False, verbose=0)
        test = data.in_batches(data.to_tanh_range(dataset.test_images), 500, "recognized test images")
        recognized = np.concatenate([model.predict_on_batch(batch).argmax(1) for batch in test])
        share, error = _share(recognized == dataset.test_labels)
        shares.append(share)
        errors.append(error)
    return np.mean(shares), np.hypot(np.std(shares, ddof=1) / np.sqrt(2), np.mean(errors))


def class_figures(sides):
    """A dict from the name of every class to a dict from the name of a figure to what figure() gives."""
    generated, real, floor = sides.generated, sides.real, sides.floor
    names, extractor = sides.dataset.class_names, EXTRACTORS["classifier"][1]
    both = [
        class_distances(real.features, real.labels, side.features, side.labels, len(names))
        for side in (generated, floor)
    ]
    classes = {}
    for label in sides.classes:
        own, below = (np.transpose(found)[label] for found in both)
        rows = {"fid_fmnist": figure(own, below, np.sum(generated.labels == label), extractor)}
        shares = (_share(side.recognized == label) for side in (generated, floor))
        rows["recognized_share"] = figure(*shares, len(generated.images), extractor)
        if sides.asked:
            verdicts = [side.recognized[side.labels == label] == label for side in (generated, real)]
            rows["label_agreement"] = figure(*map(_share, verdicts), len(verdicts[0]), extractor, **UNSEEN)
        classes[names[label]] = rows
    return classes


def agreement_figures(sides):
    """Label agreement, and that among known classes for a generator of fewer, as figure() gives it."""
    both, verdicts = (sides.generated, sides.real), {}
    verdicts["label_agreement"] = [side.recognized for side in both]
    if len(sides.classes) < len(sides.dataset.class_names):  # a T-shirt called a shirt is no mistake of its
        among = [features.recognized_among(sides.classes, side.features) for side in both]
        verdicts["label_agreement_among_known"] = among
    how = len(sides.generated.images), EXTRACTORS["classifier"][1]
    figures = {}
    for key, found in verdicts.items():
        shares = (_share(side.labels == verdict) for side, verdict in zip(both, found, strict=True))
        figures[key] = figure(*shares, *how, **UNSEEN)
    return figures


def distances(sides, chosen, model=None):
    """What the extractors say of the sides: a dict from names to what figure() gives. It holds the distance
    on all features, InceptionV3's only if `chosen`, and distribution_figures on the chosen ones, a key of
    EXTRACTORS. `model` is what features.inception() returned."""
    figures, rest = {}, {}
    for key, (name, how, extract) in EXTRACTORS.items():
        if key == "inception" and key != chosen:
            continue
        sets = (("test", sides.real), ("generated", sides.generated), ("training", sides.floor))
        real, *both = (extract(side, f"{key}: {what} images", model) for what, side in sets)
        if key == chosen:
            own, below = (distribution_figures(real, side) for side in both)
        else:
            own, below = ({"frechet": _frechet(real, side)} for side in both)
        found = {what: figure(own[what], below[what], len(both[0]), how) for what in own}
        figures[name] = found.pop("frechet")
        if found:
            rest = {f"{name}_infinity": found.pop("infinity")} | found
    return figures | rest


def evaluate(
    source, dataset, samples=10_000, seed=0, extractor="classifier", inception_weights="imagenet", output=None
):
    """Every figure of one source, see prepare; evaluation.json, classes.png and realism.png go to the folder
    `output`.
    Args:
        extractor: key of EXTRACTORS, whose features KID, precision, recall, density and coverage are of;
            "inception" takes inception_weights, see features.inception.
    Returns:
        dict; its `figures`, and each value in `classes`, hold what figure() gives by the figure's name.
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
    labels = "asked for" if sides.asked else "recognized by the classifier, for none were asked for"
    report = {"source": source.name, "remarks": sides.remarks, "samples": len(generated.images)}
    report |= {"real_samples": len(real.images), "seed": seed, "labels": labels}
    report |= {"extractor": EXTRACTORS[extractor][1], "note": features.INCEPTION_NOTE if inception else None}
    classes = class_figures(sides)
    print("distances and neighbors...", file=sys.stderr, flush=True)
    figures = distances(sides, extractor, inception)
    if sides.asked:
        figures |= agreement_figures(sides)
    print("memorization...", file=sys.stderr, flush=True)
    expected = {"median_ratio": 1.0, "nearer_fraction": 0.01, "auc": 0.5, "copied_share": 0.5}
    looked_at = min(len(generated.images), MEMORIZATION_IMAGES)
    for key, value in memorization_figures(sides.dataset.train_images, real.images, generated.images).items():
        how = {"extractor": "pixels halved to 14 x 14", "floor_is": "real test images, by definition"}
        figures[f"memorization_{key}"] = figure(value, (expected[key], 0.0), looked_at, **how)
    if sides.asked:
        print("quick accuracy score...", file=sys.stderr, flush=True)
        scores = [quick_accuracy_score(*side[:2], sides.dataset, seed) for side in (generated, floor)]
        how = "a small classifier trained on them"
        figures["quick_accuracy_score"] = figure(*scores, len(generated.images), how)
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
    """The most and the least realistic images, by mean distance to the five nearest real ones in features."""
    search = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(real)
    order = np.argsort(search.kneighbors(generated)[0].mean(1))
    chosen = np.concatenate([order[:count], order[-count:][::-1]])
    names = ["most realistic"] * (count // 20) + ["least realistic"] * (count // 20)
    return plots.show_images(images[chosen], 20, "By distance to the nearest real images in features", names)


def table(report):
    """What evaluate() returned, as lines for people."""

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
        line = f"{name:<14}"
        for row in map(rows.get, columns):
            line += f"{cell(row['value'], row['standard_error']) + ' (' + cell(row['floor'], None) + ')':>30}"
        lines.append(line)
    return "\n".join(lines)
