"""Evaluates a generator, or a heap of images, against the real test images: every figure with its uncertainty and floor.

The floor of a figure is what real training images score in the place of the generated ones, at the same number: no
generator can be expected to do better. It is not zero, because a distance between finite samples never is, and because
the classifier knows the training images, which sets their features a little apart.
"""

import json
import pathlib
import sys
import tempfile
import time

import keras
import numpy as np
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from fmgan_tf import InputError, data, features, generation, metrics, models, plots, pretrained, training

INCEPTION_FEATURES = 2048
CLASSES = len(data.CLASS_NAMES)
NEIGHBOUR_SUBSET = 2000  # images a side from which the uncertainty of neighbour figures is estimated
ACCURACY_STEPS = 320  # four passes over 10,000 images, more over fewer
MEMORISATION_IMAGES = 2000
MEMORISATION_PARTS = 5


def writable(folder):
    """Makes a folder, and finds out now, rather than when the work is done, whether files can be written to it.

    Args:
        folder: path.

    Returns:
        pathlib.Path.

    Raises:
        OSError: it cannot be made or written to.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    return folder


def read_images(path):
    """Reads images that somebody generated.

    Args:
        path: of an .npz with `images`, uint8 (N, height, width, 1) or (N, height, width), and maybe `labels`, int (N,)
            in [0, 9]: the classes that were asked for.

    Returns:
        (images, labels): uint8 (N, height, width, 1), and int64 (N,) or None.

    Raises:
        InputError: not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("images", "labels") if name in archive.files}
            names = archive.files
    except Exception as error:  # damaged zips and headers raise a dozen kinds, NotImplementedError among them
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as an .npz of plain arrays ({reason})") from error
    if "images" not in arrays:
        raise InputError(f"{path} holds {names}, expected `images`, uint8 (N, 28, 28, 1)")
    images, labels = arrays["images"], arrays.get("labels")
    if images.ndim == 3:
        images = images[..., None]
    square = images.ndim == 4 and images.shape[1] == images.shape[2] > 0 and images.shape[3] == 1
    if images.dtype != np.uint8 or not square:
        raise InputError(
            f"{path}: `images` is {images.dtype} {arrays['images'].shape}, expected uint8 (N, 28, 28, 1), 0 being the background"
        )
    if labels is not None:
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or not np.isin(labels, range(CLASSES)).all():
            raise InputError(
                f"{path}: `labels` is {labels.dtype} {labels.shape}, expected {len(images)} whole numbers from 0 to 9"
            )
        labels = labels.astype("int64")
    return images, labels


def images_of(source, samples, seed):
    """Images from any SOURCE of the command line.

    Args:
        source: path of a run folder, a .keras generator or an .npz of images, or the name of a shipped recipe.
        samples: int, how many; from a file that holds more, a random choice, and all where it holds fewer.
        seed: int, of noise, labels and choice.

    Returns:
        (images, labels): uint8 (N, height, width, 1), and int64 (N,) or None where no labels were asked for.

    Raises:
        InputError: nothing of the kind; the message says why.
    """
    source = pathlib.Path(source)
    if source.suffix == ".npz" and not source.is_dir():
        images, labels = read_images(source)
        # Shuffled even where all are taken: files are often sorted by class, and some figures take the first few
        chosen = np.random.default_rng(seed).permutation(len(images))[:samples]
        return images[chosen], labels if labels is None else labels[chosen]
    generator = generation.open_generator(source)
    # As many of every class as of any other, in an order that tells the classes apart from the noise
    labels = None
    if generator.label:
        labels = np.random.default_rng(seed).permutation(np.arange(samples) % generator.classes)
    noise = training.sample_noise(seed, samples, generator.latent_dim)
    return generation.sample_images(generator, noise, labels), labels


def real_images(source, dataset, labels=None):
    """The real images that a source has to be set against: of the classes it knows, and none that it was trained on.

    Args:
        source: see images_of.
        dataset: data.FashionMNIST.
        labels: int (N,), the classes that were asked for, if any.

    Returns:
        data.FashionMNIST with the training and test images of those classes. For a run on fewer than ten classes the parts
        that it was trained and is to be tested on; for images from elsewhere, of the dataset's own parts.
    """
    folder = pathlib.Path(source)
    if not folder.exists():
        folder = pretrained.ASSETS / folder
    if (folder / "run.json").exists():
        return data.parts(dataset, training.read_record(folder)["recipe"]["classes"])[0]
    if labels is None:
        return dataset
    asked = np.unique(labels)
    train = data.select_classes(dataset.train_images, dataset.train_labels, asked)
    test = data.select_classes(dataset.test_images, dataset.test_labels, asked)
    return dataset._replace(train_images=train[0], train_labels=train[1], test_images=test[0], test_labels=test[1])


def _figure(value, error, samples, extractor, floor, floor_error, **more):
    """One figure as a dict of plain Python values; NaN and None both become None."""

    def plain(number):
        return None if number is None or not np.isfinite(number) else float(number)

    return {
        "value": plain(value),
        "standard_error": plain(error),
        "samples": int(samples),
        "extractor": extractor,
        "floor": plain(floor),
        "floor_standard_error": plain(floor_error),
    } | more


def _neighbour_figures(real, generated):
    return *metrics.precision_recall(real, generated), *metrics.density_coverage(real, generated)


def distribution_figures(real, generated):
    """The figures that compare two sets of features.

    Args:
        real, generated: float (N, dimensions).

    Returns:
        dict from "frechet", "kid", "precision", "recall", "density", "coverage" to (value, standard error).
    """
    with threadpool_limits(1 if real.shape[1] < 1000 else None):
        figures = {
            "frechet": (metrics.frechet_distance(real, generated), metrics.frechet_standard_error(real, generated))
        }
    size = min(1000, len(real) // 4, len(generated) // 4)
    figures["kid"] = metrics.kernel_distance(real, generated, subsets=30, subset_size=size)
    # Their jackknife takes minutes at full size: it is done on fewer, and scaled as 1 / sqrt(N)
    few = min(NEIGHBOUR_SUBSET, len(real), len(generated))
    with threadpool_limits(1):  # on matrices this small, threads wait for one another longer than they work
        errors = metrics.jackknife(_neighbour_figures, real[:few], generated[:few], groups=10)
    errors *= np.sqrt(few / min(len(real), len(generated)))
    values = _neighbour_figures(real, generated)
    for name, value, error in zip(("precision", "recall", "density", "coverage"), values, errors, strict=True):
        figures[name] = value, error
    return figures


def class_distances(real, real_labels, generated, generated_labels):
    """metrics.class_frechet_distances as arrays, with standard errors.

    Returns:
        (distances, errors): float64 (10,), NaN for a class with no more images than dimensions.
    """

    def distances(real, generated):
        found = metrics.class_frechet_distances(real[:, 1:], real[:, 0], generated[:, 1:], generated[:, 0])
        return np.array([np.nan if found.get(label) is None else found[label] for label in range(CLASSES)])

    real, generated = np.column_stack([real_labels, real]), np.column_stack([generated_labels, generated])
    with threadpool_limits(1):
        return distances(real, generated), metrics.jackknife(distances, real, generated)


def memorisation_figures(train, test, generated):
    """metrics.memorisation on pixels halved to 14 x 14, over disjoint parts of the test and generated images.

    Pixels, because a copied image has the very pixels of its model, and because no features of 60,000 images are needed.

    Args:
        train, test, generated: uint8 (N, 28, 28, 1).

    Returns:
        dict from the names of metrics.memorisation to (mean, standard error) over the parts; None where there are too few.
    """
    if min(len(test), len(generated)) < 20 * MEMORISATION_PARTS:
        return None

    def halve(images):
        return images.reshape(len(images), 14, 2, 14, 2).mean((2, 4), "float32").reshape(len(images), -1) / 255

    train = halve(train)
    parts = [
        metrics.memorisation(train, halve(test[part::MEMORISATION_PARTS]), halve(generated[part::MEMORISATION_PARTS]))
        for part in range(MEMORISATION_PARTS)
    ]
    values = {name: [part[name] for part in parts] for name in parts[0]}
    return {name: (np.mean(value), np.std(value, ddof=1) / np.sqrt(len(parts))) for name, value in values.items()}


def classification_accuracy(images, labels, dataset, seed=0):
    """Classification accuracy score: a small classifier trained on these images alone, tested on the real test images.

    Args:
        images, labels: uint8 (N, 28, 28, 1), int (N,).
        dataset: data.FashionMNIST.
        seed: int.

    Returns:
        (accuracy, standard error).

    Source: Ravuri and Vinyals 2019, https://arxiv.org/abs/1905.10887.
    """
    steps = -(-len(images) // 128)
    epochs = max(1, ACCURACY_STEPS // steps)
    accuracies, errors = [], []
    for run in range(2):  # two trainings from different weights differ, more than the test images alone would tell
        keras.utils.set_random_seed(2 * seed + run)
        model = models.build_classifier(filters=8)
        rate = keras.optimizers.schedules.CosineDecay(3e-3, steps * epochs)
        model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(data.to_tanh_range(images), labels, batch_size=128, epochs=epochs, verbose=0)
        logits = model.predict(data.to_tanh_range(dataset.test_images), batch_size=500, verbose=0)
        right = logits.argmax(1) == dataset.test_labels
        accuracies.append(right.mean())
        errors.append(_binomial(right.mean(), len(right)))
    return np.mean(accuracies), np.hypot(np.std(accuracies, ddof=1) / np.sqrt(2), np.mean(errors))


def evaluate(
    source, dataset, samples=10_000, seed=0, extractor="classifier", inception_weights="imagenet", output=None
):
    """Every figure of one source.

    Args:
        source: see images_of.
        dataset: data.FashionMNIST.
        samples: int, how many generated images.
        seed: int.
        extractor: "classifier" or "inception".
        inception_weights: see features.inception.
        output: path of a folder for evaluation.json, classes.png and realism.png; made if need be.

    Returns:
        dict: source, samples, labels, extractor, note, figures, classes, seconds. `figures` and each value in `classes`
        hold, for every figure, its value, standard error, samples, extractor, floor and the floor's standard error.

    Raises:
        InputError: bad source, or too few images.
        OSError: nothing can be written to output; known before anything is measured.
    """
    start = time.perf_counter()
    if output is not None:
        output = writable(output)
    inception = features.inception(inception_weights) if extractor == "inception" else None
    dimensions = INCEPTION_FEATURES if inception else features.classifier_extractor()[1]
    if samples < _fewest(dimensions):
        raise InputError(
            f"{samples} samples are too few for {dimensions} features, expected at least {_fewest(dimensions)}"
        )
    images, labels = images_of(source, samples, seed)
    if len(images) < _fewest(dimensions):
        raise InputError(
            f"{source} holds {len(images)} images, too few for {dimensions} features; expected at least {_fewest(dimensions)}"
        )
    images = data.resize(images, 28)
    samples = len(images)
    dataset = real_images(source, dataset, labels)
    if len(dataset.test_images) < _fewest(dimensions):
        raise InputError(
            f"{source} knows classes with {len(dataset.test_images)} real test images, too few for {dimensions} features"
        )
    present = np.unique(dataset.test_labels)
    random = np.random.default_rng(seed)
    test = random.permutation(len(dataset.test_images))[:samples]
    train = random.permutation(len(dataset.train_images))[:samples]
    test_images, test_labels = dataset.test_images[test], dataset.test_labels[test]
    train_images, train_labels = dataset.train_images[train], dataset.train_labels[train]

    real, recognised_test = features.classifier_features(test_images, label="features of test images")
    floor, recognised_train = features.classifier_features(train_images, label="features of training images")
    generated, recognised = features.classifier_features(images, label="features of generated images")
    by = labels if labels is not None else recognised
    real_by, floor_by = (test_labels, train_labels) if labels is not None else (recognised_test, recognised_train)
    name = "Fashion-MNIST classifier"
    figures, classes = {}, {data.CLASS_NAMES[label]: {} for label in present}

    values, errors = class_distances(real, real_by, generated, by)
    floors, floor_errors = class_distances(real, real_by, floor, floor_by)
    counts, floor_counts = (np.bincount(found, minlength=CLASSES) for found in (recognised, recognised_train))
    for index, figure in zip(present, classes.values(), strict=True):
        figure["fid_fmnist"] = _figure(
            values[index], errors[index], np.sum(by == index), name, floors[index], floor_errors[index]
        )
        share, floor_share = counts[index] / samples, floor_counts[index] / len(train)
        figure["recognised_share"] = _figure(
            share, _binomial(share, samples), samples, name, floor_share, _binomial(floor_share, len(train))
        )
    if labels is not None:
        note = {"floor_is": "real test images, which the classifier has not seen"}
        verdicts = {"label_agreement": (recognised, recognised_test)}
        if len(present) < CLASSES:  # to call a T-shirt a shirt is no mistake of a generator that knows no shirts
            verdicts["label_agreement_among_known"] = [
                features.recognised_among(present, side) for side in (generated, real)
            ]
        for key, (verdict, floor_verdict) in verdicts.items():
            overall, _ = metrics.label_agreement(labels, verdict)
            floor_overall, _ = metrics.label_agreement(test_labels, floor_verdict)
            figures[key] = _figure(
                overall,
                _binomial(overall, samples),
                samples,
                name,
                floor_overall,
                _binomial(floor_overall, len(test)),
                **note,
            )
        _, per_class = metrics.label_agreement(labels, recognised)
        _, floor_per_class = metrics.label_agreement(test_labels, recognised_test)
        for index, figure in zip(present, classes.values(), strict=True):
            asked, floor_asked = np.sum(labels == index), np.sum(test_labels == index)
            figure["label_agreement"] = _figure(
                per_class[index],
                _binomial(per_class[index], asked),
                asked,
                name,
                floor_per_class[index],
                _binomial(floor_per_class[index], floor_asked),
                **note,
            )
    sides = real, generated, floor
    if inception:
        name = "keras.applications.InceptionV3"
        sides = [
            features.inception_features(side, model=inception, label=f"InceptionV3: {what} images")
            for side, what in ((test_images, "test"), (images, "generated"), (train_images, "training"))
        ]
    print("distances and neighbours…", file=sys.stderr, flush=True)
    own, floors = distribution_figures(sides[0], sides[1]), distribution_figures(sides[0], sides[2])
    distance = "inception_distance" if inception else "fid_fmnist"
    figures = {
        key if key != "frechet" else distance: _figure(*own[key], samples, name, *floors[key]) for key in own
    } | figures
    print("memorisation…", file=sys.stderr, flush=True)
    few = memorisation_figures(
        dataset.train_images, test_images[:MEMORISATION_IMAGES], images[: min(samples, MEMORISATION_IMAGES)]
    )
    if few:
        expected = {"median_ratio": 1.0, "nearer_fraction": 0.01, "auc": 0.5}
        for key, (value, error) in few.items():
            figures[f"memorisation_{key}"] = _figure(
                value,
                error,
                min(samples, MEMORISATION_IMAGES),
                "pixels halved to 14 x 14",
                expected[key],
                0.0,
                floor_is="real test images, by definition",
            )
    if labels is not None:
        print("classification accuracy score…", file=sys.stderr, flush=True)
        score, floor_score = (
            classification_accuracy(*side, dataset, seed) for side in ((images, labels), (train_images, train_labels))
        )
        figures["classification_accuracy"] = _figure(
            *score, samples, "a small classifier trained on them", *floor_score
        )
    report = {
        "source": str(source),
        "samples": samples,
        "real_samples": len(test),
        "seed": seed,
        "labels": "asked for" if labels is not None else "recognised by the classifier, for none were asked for",
        "extractor": name,
        "note": features.INCEPTION_NOTE if inception else None,
        "figures": figures,
        "classes": classes,
        "data": dataset.source,
        "versions": training.versions(),
        "seconds": round(time.perf_counter() - start, 1),
    }
    if output is not None:
        plots.write_whole(output / "evaluation.json", json.dumps(report, indent=2))
        columns = [
            [figure["fid_fmnist"][key] for figure in classes.values()] for key in ("value", "standard_error", "floor")
        ]
        plots.save_figure(
            output / "classes.png",
            plots.show_class_bars(
                list(classes), *np.array(columns, "float64"), "FID-FMNIST", f"Per class, {report['labels']}"
            ),
        )
        plots.save_figure(output / "realism.png", show_realism(images, generated, real))
    return report


def _fewest(dimensions):
    return int(np.ceil((dimensions + 2) / 0.95)) + 1  # the jackknife leaves out a twentieth


def _binomial(share, count):
    return np.sqrt(share * (1 - share) / count) if count else np.nan


def show_realism(images, generated, real, count=40):
    """The most and the least realistic images, by their mean distance to the five nearest real ones in features.

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

    names = {
        "fid_fmnist": "FID-FMNIST",
        "inception_distance": "Inception distance",
        "kid": "KID",
        "label_agreement": "label agreement",
        "label_agreement_among_known": "the same, among known classes",
        "classification_accuracy": "classification accuracy score",
        "memorisation_median_ratio": "memorisation: median ratio",
        "memorisation_nearer_fraction": "memorisation: nearer fraction",
        "memorisation_auc": "memorisation: AUC",
    }
    lines = [
        f"{report['source']}: {report['samples']:,} images against {report['real_samples']:,} real test images",
        f"features: {report['extractor']}; labels: {report['labels']}",
        *([report["note"]] if report["note"] else []),
        "",
        f"{'figure':<32}{'value ± standard error':>24}{'floor: real images':>24}{'N':>9}",
    ]
    for key, figure in report["figures"].items():
        lines.append(
            f"{names.get(key, key):<32}{cell(figure['value'], figure['standard_error']):>24}"
            f"{cell(figure['floor'], figure['floor_standard_error']):>24}{figure['samples']:>9,}"
        )
    columns = list(next(iter(report["classes"].values())))
    titles = {
        "fid_fmnist": "FID-FMNIST (floor)",
        "recognised_share": "recognised (floor)",
        "label_agreement": "agreement (floor)",
    }
    lines += ["", f"{'class':<14}" + "".join(f"{titles[key]:>30}" for key in columns)]
    for name, figures in report["classes"].items():
        cells = [
            f"{cell(figure['value'], figure['standard_error'])} ({cell(figure['floor'], None)})"
            for figure in (figures[key] for key in columns)
        ]
        lines.append(f"{name:<14}" + "".join(f"{text:>30}" for text in cells))
    return "\n".join(lines)
