"""Evaluates images, or a generator, against the real test images: every score with its uncertainty and floor.

The floor is what real training images score in the place of the generated ones, as many, with the same class
counts, and taken through the same size: no generator can be expected to do better. It is not zero: distances
between finite samples never are, and the classifier knows the training images, which sets their features a
little apart.
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

from fmgan_tf import InputError, analysis, data, datasets, features, metrics, models, plots, write_whole
from fmgan_tf.runs.folder import versions, writable

NEIGHBOR_SUBSET = 2000  # images per set from which the uncertainty of precision and recall is estimated
ACCURACY_STEPS = 320  # of 128 images: four passes over 10,000
MEMORIZATION_IMAGES, MEMORIZATION_PARTS = 2000, 5
UNSEEN = {"floor_is": "real test images, which the classifier has not seen"}
NAMES = {
    "fid_fmnist": "FID-FMNIST",
    "label_free_distance": "label-free distance",
    "kid": "KID",
    "label_agreement": "label agreement",
    "label_agreement_among_known": "the same, among known classes",
    "quick_accuracy_score": "quick accuracy score",
    "memorization_median_ratio": "memorization: median ratio",
    "memorization_nearer_fraction": "memorization: nearer fraction",
    "memorization_auc": "memorization: AUC",
}


class Comparison(NamedTuple):
    """Generated images, the real test images to compare them with, and training images for the floor."""

    generated: analysis.ImageSet
    real: tuple
    floor: analysis.ImageSet | None
    asked: bool  # whether the labels of the generated images are those asked for
    dataset: datasets.Dataset  # of the classes that are compared
    remarks: list  # of str, what was assumed of the source and what should be said first
    extractors: features.Extractors  # whose features these are

    @property
    def classifier(self):
        """What a score on the main features says that it is measured on."""
        if self.extractors.classifier is None:
            return self.label_free
        return "Fashion-MNIST classifier" if not self.dataset.is_own else f"{self.dataset.name} classifier"

    @property
    def label_free(self):
        """The same of the other features."""
        own = f"an autoencoder of {self.dataset.name}"
        return own if self.dataset.is_own else "the shipped network that has seen no label"


def compare(source, dataset, samples, seed=0, fewest=200, with_floor=False, extractors=None):
    """Draws images from a Source and sets real ones of the same classes beside them, with their features. The
    floor takes the road of the generated images, through their size. InputError where there are fewer than
    `fewest`."""
    extractors = extractors or features.Extractors.shipped()
    images, labels = source.sample(samples, seed)
    remarks, asked = [source.assumed] if source.assumed else [], labels is not None
    if (different := len({image.tobytes() for image in images})) <= 0.9 * len(images):
        remarks.insert(0, f"only {different:,} different images among {len(images):,}")
    if source.recipe:
        dataset, *_ = data.split_dataset(dataset, min(source.recipe.classes, len(dataset.class_names)))
    elif asked:
        train, test = (
            data.select_classes(*part, np.unique(labels), dataset.class_names)
            for part in (dataset[:2], dataset[2:4])
        )
        dataset = dataset._replace(**dict(zip(dataset._fields, (*train, *test), strict=False)))
    test = np.random.default_rng(seed).permutation(len(dataset.test_images))[: len(images)]
    wanted = dataset.test_labels[test]
    if asked:  # as many of every class as both have
        kept = data.match_class_counts(labels, dataset.test_labels, seed)
        if len(kept) < len(images):
            remarks.append(
                f"{len(kept):,} of {len(images):,} images: of some classes there are fewer real ones"
            )
            images, labels = images[kept], labels[kept]
        test, wanted = data.match_class_counts(dataset.test_labels, labels, seed), labels
    if min(len(images), len(test)) < fewest:
        found = f"{len(images)} images and {len(test)} real test images of their classes"
        raise InputError(f"{source.name} gives {found}, expected at least {fewest} of either")
    size = images.shape[1]
    remarks += (
        [] if size == features.SIZE else [f"{size} x {size} resized to {features.SIZE} x {features.SIZE}"]
    )
    real = analysis.ImageSet.of(
        data.resize(dataset.test_images[test], features.SIZE),
        dataset.test_labels[test],
        "features of test images",
        extractors,
    )
    generated = analysis.ImageSet.of(
        data.resize(images, features.SIZE), labels, "features of generated images", extractors
    )
    floor = None
    if with_floor:
        train = data.match_class_counts(dataset.train_labels, np.resize(wanted, len(images)), seed)
        through = data.resize(data.resize(dataset.train_images[train], size), features.SIZE)
        floor = (through, dataset.train_labels[train], "features of training images", extractors)
        floor = analysis.ImageSet.of(*floor)
    if not asked:  # labels of all by what is recognized
        real = real._replace(labels=real.recognized)
        floor = floor and floor._replace(labels=floor.recognized)
    small = {
        part: data.resize(getattr(dataset, part), features.SIZE) for part in ("train_images", "test_images")
    }
    dataset = dataset._replace(**small)
    return Comparison(generated, real, floor, asked, dataset, remarks, extractors)


def score(own, floor, samples, extractor, **more):
    """One score as a dict of plain Python values; NaN becomes None. `own` and `floor` are (value, standard
    error) of the generated images and of real ones in their place; `samples` is how many, `more` what else
    should be said."""
    value, error, below, below_error = (float(n) if np.isfinite(n) else None for n in (*own, *floor))
    found = {"value": value, "standard_error": error, "samples": int(samples), "extractor": extractor}
    return found | {"floor": below, "floor_standard_error": below_error} | more


def _share(right):
    """(share, standard error) of a bool array; NaN for an empty one."""
    share = np.mean(right) if len(right) else np.nan
    return share, np.sqrt(share * (1 - share) / max(len(right), 1))


def frechet(real, generated):
    """(Frechet distance, standard error) of features, float (N, dimensions); NaN of too few."""
    if min(len(real), len(generated)) * 0.95 <= real.shape[1] + 1:
        return np.nan, np.nan
    with threadpool_limits(1):  # on matrices this small, threads wait for one another longer than they work
        return metrics.frechet_distance(real, generated), metrics.frechet_standard_error(real, generated)


def neighbor_scores(real, generated):
    """KID, precision, recall, density and coverage of features, float (N, dimensions): a dict to (value,
    standard error)."""

    def both(real, generated):
        return *metrics.precision_recall(real, generated), *metrics.density_coverage(real, generated)

    size = min(1000, len(real) // 4, len(generated) // 4)
    found = {"kid": metrics.kernel_distance(real, generated, subsets=30, subset_size=size)}
    # Their jackknife takes minutes at full size: it is done on fewer, and scaled as 1 / sqrt(N)
    few = min(NEIGHBOR_SUBSET, len(real), len(generated))
    with threadpool_limits(1):
        errors = metrics.jackknife(both, real[:few], generated[:few], groups=10)
    errors *= np.sqrt(few / min(len(real), len(generated)))
    names = "precision", "recall", "density", "coverage"
    return found | dict(zip(names, zip(both(real, generated), errors, strict=True), strict=True))


def memorization_scores(train, test, generated):
    """metrics.memorization on disjoint parts of the first 2,000 test and generated images, uint8 (N, 28, 28,
    1), halved to 14 x 14 pixels (a copied image has the very pixels of its model): a dict from names to
    (mean, standard error) over the parts; empty where images are too few or the real ones copies."""
    test, generated = test[:MEMORIZATION_IMAGES], generated[:MEMORIZATION_IMAGES]
    if min(len(test), len(generated)) < 20 * MEMORIZATION_PARTS:
        return {}

    def halve(images):
        halved = images.reshape(len(images), 14, 2, 14, 2).mean((2, 4), "float32")
        return halved.reshape(len(images), -1) / 255

    train, test, generated = halve(train), halve(test), halve(generated)
    count = MEMORIZATION_PARTS
    parts = [(train, test[part::count], generated[part::count]) for part in range(count)]
    try:
        parts = [metrics.memorization(*part) for part in parts]
    except ValueError:  # most test images are in train, too: people's folders hold copies
        return {}
    values = {name: [part[name] for part in parts] for name in parts[0]}
    return {name: (np.mean(value), np.std(value, ddof=1) / np.sqrt(count)) for name, value in values.items()}


@functools.cache
def _quick_classifier(classes):
    """A compiled classifier whose learning rate falls to zero in ACCURACY_STEPS; kept, so that TensorFlow
    compiles its train step once."""
    model = models.build_classifier(filters=8, classes=classes)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, ACCURACY_STEPS))
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    optimizer.build(model.trainable_variables)
    return model


def quick_accuracy_score(images, labels, dataset, seed=0):
    """(accuracy, standard error) on the real test images of a small classifier trained on these images alone:
    uint8 (N, 28, 28, 1), int (N,). It trains for seconds, far from convergence: assets/make/accuracy.py has
    the long form. Source: Ravuri and Vinyals 2019, https://arxiv.org/abs/1905.10887."""
    model, shares, errors = _quick_classifier(len(dataset.class_names)), [], []
    images, size = data.to_tanh_range(images), min(128, len(images))
    # Two trainings from different weights differ, more than the test images alone would tell
    for run in (2 * seed, 2 * seed + 1):
        keras.utils.set_random_seed(run)
        fresh = models.build_classifier(filters=8, classes=len(dataset.class_names))
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


def class_scores(sets):
    """A dict from the name of every class to a dict from the name of a score to what score() gives."""
    classes = {}
    for label in np.unique(sets.real.labels):
        rows, real = {}, sets.real.features[sets.real.labels == label]
        own, below = (each.features[each.labels == label] for each in (sets.generated, sets.floor))
        both = frechet(real, own), frechet(real, below)
        rows[sets.extractors.key] = score(*both, len(own), sets.classifier)
        shares = (_share(each.recognized == label) for each in (sets.generated, sets.floor))
        if sets.extractors.classifier is not None:
            rows["recognized_share"] = score(*shares, len(sets.generated.images), sets.classifier)
        if sets.asked:
            right = [each.recognized[each.labels == label] == label for each in (sets.generated, sets.real)]
            rows["label_agreement"] = score(*map(_share, right), len(own), sets.classifier, **UNSEEN)
        classes[sets.dataset.class_names[label]] = rows
    return classes


def agreement_scores(sets):
    """Label agreement, and that among known classes for a generator of fewer, as score() gives it."""
    both, known = (sets.generated, sets.real), np.unique(sets.real.labels)
    recognized = {"label_agreement": [each.recognized for each in both]}
    if len(known) < len(sets.dataset.class_names):  # a T-shirt called a shirt is no mistake of its
        among = [sets.extractors.recognized_among(known, each.features) for each in both]
        recognized["label_agreement_among_known"] = among
    found = {}
    for key, verdicts in recognized.items():
        shares = (_share(each.labels == verdict) for each, verdict in zip(both, verdicts, strict=True))
        found[key] = score(*shares, len(sets.generated.images), sets.classifier, **UNSEEN)
    return found


def evaluate(source, dataset, samples=10_000, seed=0, extractor="classifier", output=None, extractors=None):
    """Every score of one sources.Source, see compare; evaluation.json, classes.png and realism.png go to the
    folder `output`.

    Args:
        extractor: "classifier" or "label-free", whose features KID, precision, recall, density and coverage
            are of.
        extractors: features.Extractors of the dataset, by default the shipped ones.
    Returns:
        dict; its `scores`, and each value in `classes`, hold what score() gives by the score's name.
    Raises:
        InputError: bad source, or too few images.
        OSError: nothing can be written to output; known before anything is measured.
    """
    start = time.perf_counter()
    if output is not None:
        output = writable(output)
    extractors = extractors or features.Extractors.shipped()
    fewest = int((extractors.dimensions + 2) / 0.95) + 1  # the jackknife leaves out a twentieth
    sets = compare(source, dataset, samples, seed, fewest, with_floor=True, extractors=extractors)
    labels = "asked for" if sets.asked else "recognized by the classifier, for none were asked for"
    labels = labels if dataset.is_labeled else "none"
    report = {"source": source.name, "remarks": sets.remarks, "samples": len(sets.generated.images)}
    report |= {"real_samples": len(sets.real.images), "seed": seed, "labels": labels, "extractor": extractor}
    report["classes"] = class_scores(sets) if dataset.is_labeled else {}
    report["scores"] = _scores(sets, extractor, seed)
    report |= {
        "data": dataset.source,
        "versions": versions(),
        "seconds": round(time.perf_counter() - start, 1),
    }
    if output is not None:
        _write(output, report, sets)
    return report


def _scores(sets, extractor, seed):
    def progress(what):
        print(f"{what}...", file=sys.stderr, flush=True)

    progress("distances and neighbors")
    three, count = (sets.real, sets.generated, sets.floor), len(sets.generated.images)
    found = [each.features for each in three]
    second = [sets.extractors.label_free(each.images) for each in three]
    scores = {}
    for name, how, (real, own, below) in (
        (sets.extractors.key, sets.classifier, found),
        ("label_free_distance", sets.label_free, second),
    ):
        scores[name] = score(frechet(real, own), frechet(real, below), count, how)
    real, own, below = found if extractor == "classifier" else second
    how = sets.classifier if extractor == "classifier" else sets.label_free
    floor = neighbor_scores(real, below)
    scores |= {key: score(value, floor[key], count, how) for key, value in neighbor_scores(real, own).items()}
    if sets.asked:
        scores |= agreement_scores(sets)
    progress("memorization")
    expected = {"median_ratio": 1.0, "nearer_fraction": 0.01, "auc": 0.5}
    images = (sets.dataset.train_images, sets.real.images, sets.generated.images)
    for key, value in memorization_scores(*images).items():
        how = {"extractor": "pixels halved to 14 x 14", "floor_is": "real test images, by definition"}
        seen = min(count, MEMORIZATION_IMAGES)
        scores[f"memorization_{key}"] = score(value, (expected[key], 0.0), seen, **how)
    if sets.asked:
        progress("quick accuracy score")
        both = [quick_accuracy_score(*each[:2], sets.dataset, seed) for each in (sets.generated, sets.floor)]
        scores["quick_accuracy_score"] = score(*both, count, "a small classifier trained on them")
    return scores


def _write(output, report, sets):
    """evaluation.json and figures."""
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / "evaluation.json", json.dumps(report, indent=2))
    if classes := report["classes"]:
        rows, keys = (
            [row[sets.extractors.key] for row in classes.values()],
            ("value", "standard_error", "floor"),
        )
        columns = np.array([[row[key] for row in rows] for key in keys], float)
        title = f"{report['source']}: per class, {report['labels']}"
        bars = plots.show_class_bars(list(classes), *columns, sets.extractors.distance, title)
        plots.save_figure(output / "classes.png", bars)
    search = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(sets.real.features)
    order = np.argsort(search.kneighbors(sets.generated.features)[0].mean(1))
    chosen = sets.generated.images[np.concatenate([order[:40], order[-40:][::-1]])]
    title, names = (
        "By distance to the nearest real images in features",
        2 * ["most realistic"] + 2 * ["least realistic"],
    )
    plots.save_figure(output / "realism.png", plots.show_images(chosen, 20, title, names))


def table(report):
    """What evaluate() returned, as lines for people."""

    def cell(value, error=None):
        if value is None:
            return "too few"
        digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 4
        return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")

    def name(key):
        return NAMES.get(key, key.replace("fid_", "FID-"))

    against = f"{report['samples']:,} images against {report['real_samples']:,} real test images"
    lines = [*report["remarks"], f"{report['source']}: {against}; labels: {report['labels']}", ""]
    lines.append(f"{'score':<32}{'value ± standard error':>24}{'floor: real images':>24}{'N':>9}")
    for key, row in report["scores"].items():
        own, below = (
            cell(row["value"], row["standard_error"]),
            cell(row["floor"], row["floor_standard_error"]),
        )
        lines.append(f"{name(key):<32}{own:>24}{below:>24}{row['samples']:>9,}")
    if not report["classes"]:
        return "\n".join(lines)
    titles = {"recognized_share": "recognized", "label_agreement": "agreement"}
    columns = list(next(iter(report["classes"].values())))
    lines += [
        "",
        f"{'class':<14}" + "".join(f"{titles.get(key, name(key)) + ' (floor)':>30}" for key in columns),
    ]
    for label, rows in report["classes"].items():
        cells = [
            f"{cell(row['value'], row['standard_error'])} ({cell(row['floor'])})" for row in rows.values()
        ]
        lines.append(f"{label:<14}" + "".join(f"{text:>30}" for text in cells))
    return "\n".join(lines)
