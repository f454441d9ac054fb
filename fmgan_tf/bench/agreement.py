"""Do the figures rank sets of images alike? python -m fmgan_tf.bench.agreement assets/agreement.json

Every set is kept as a line that says how to make it anew, no image is stored: checkpoints of one training,
rungs of the ladder, the shipped generators, one of them with its noise truncated, real training images, and
those with damages of known strength. The record holds all figures of all sets, and the rank correlation
(Spearman's) of every two figures with the interval in which 95 % of 2,000 bootstrap draws of the sets lie.
InceptionV3's distance joins where --inception-weights says where its weights are.
"""

import argparse
import itertools
import json
import pathlib
import sys

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from fmgan_tf import (
    InputError,
    data,
    fashion_mnist,
    features,
    generation,
    metrics,
    plots,
    pretrained,
    recipes,
)
from fmgan_tf.bench import race
from fmgan_tf.runs import evaluation
from fmgan_tf.runs.folder import versions

SAMPLES = 10_000
CHECKPOINTS = (300, 1000, 3000)  # steps of cgan's train step
RUNGS = ("narrow", "labels")
RUNG_STEPS = 1000
TRUNCATIONS = (0.5, 0.75, 1.25)  # times the noise


def _trained(recipe, steps, dataset, samples):
    """(images, labels or None) of a contender's averaged generator after so many steps, int ascending."""
    images, labels = data.to_tanh_range(dataset.train_images), np.arange(samples) % 10
    known = dataset.train_labels if recipe.conditional else None
    model, done = race.build(recipe, seed=0), 0
    for count in steps:
        stream = data.batches(images, recipe.batch_size, 0, done, known)
        model.fit(stream, steps_per_epoch=count - done, shuffle=False, verbose=0)
        generator, done = generation.of_recipe(model.averaged_generator, recipe), count
        noise = generation.sample_noise(1000, samples, recipe.latent_dim)
        yield generation.sample_images(generator, noise, labels), labels if recipe.conditional else None


def trained_sets(dataset, samples):
    """(name, how, images, labels or None) of sets for which something has to be trained."""
    for name, steps in (("cgan", CHECKPOINTS), *((rung, (RUNG_STEPS,)) for rung in RUNGS)):
        recipe = race.contender(name)
        for count, made in zip(steps, _trained(recipe, steps, dataset, samples), strict=True):
            yield f"{name} after {count} steps", f"contender {name}, seed 0, {count} train steps", *made


def shipped_sets(samples):
    """The same of shipped generators, and of cgan with shorter or longer noise."""
    for name, factor in [(name, 1.0) for name in pretrained.shipped()] + [("cgan", f) for f in TRUNCATIONS]:
        generator, recipe = generation.load_generator(name), recipes.get(name)
        labels = np.arange(samples) % recipe.classes if recipe.conditional else None
        noise = factor * generation.sample_noise(1000, samples, recipe.latent_dim)
        how = f"shipped {name}, noise of seed 1000" + (f" times {factor}" if factor != 1 else "")
        made = generation.sample_images(generator, noise.astype("float32"), labels)
        yield f"{name}" + (f", noise x {factor}" if factor != 1 else ""), how, made, labels


def damaged_sets(dataset, samples):
    """The same of real training images, the last ones, whole and damaged."""
    images, labels = dataset.train_images[-samples:], dataset.train_labels[-samples:]
    random, pixels = np.random.default_rng(0), images.astype("float32")
    hole = pixels.copy()
    hole[:, 10:14, 10:14] = 0
    few = np.concatenate([np.flatnonzero(labels == label)[:50] for label in range(10)])
    damages = {
        "blur 0.5": gaussian_filter(pixels, (0, 0.5, 0.5, 0)),
        "blur 0.8": gaussian_filter(pixels, (0, 0.8, 0.8, 0)),
        "noise 10": pixels + random.normal(0, 10, pixels.shape),
        "noise 30": pixels + random.normal(0, 30, pixels.shape),
        "moved by 1 pixel": np.roll(pixels, 1, axis=2),
        "moved by 2 pixels": np.roll(pixels, 2, axis=2),
        "dimmed to 80 %": 0.8 * pixels,
        "hole of 4 x 4": hole,
        "mirrored": pixels[:, :, ::-1],
    }
    yield "training images", "the last training images", images, labels
    for name, damaged in damages.items():
        damaged = np.clip(np.rint(damaged), 0, 255).astype("uint8")
        yield f"training images, {name}", f"the last training images, {name}", damaged, labels
    drawn = random.choice(few, len(images))
    yield "training images, 50 a class", "copies of 50 images of every class", images[drawn], labels[drawn]


def measure(images, labels, dataset, real, inception=None):
    """The figures of one set beside the test images: a dict of floats."""
    found, recognized = features.classifier_features(images)
    precision, recall = metrics.precision_recall(real["classifier"][: len(found)], found)
    figures = {
        "FID-FMNIST": metrics.frechet_distance(real["classifier"], found),
        "label-free distance": metrics.frechet_distance(
            real["label-free"], features.label_free_features(images)
        ),
        "random-features distance": metrics.frechet_distance(
            real["random"], features.random_features(images)
        ),
        "precision": precision,
        "recall": recall,
    }
    # A set that none were asked for is labeled by the classifier: it measures the images, not the labels
    labels = recognized if labels is None else labels
    figures["quick accuracy score"] = evaluation.quick_accuracy_score(images, labels, dataset)[0]
    if inception is not None:
        found = features.inception_features(images, model=inception)
        figures["Inception distance"] = metrics.frechet_distance(real["inception"], found)
    return {name: float(value) for name, value in figures.items()}


def correlate(rows, draws=2000):
    """Rank correlation of every two figures over the sets, rows being dicts of floats: list of dicts of both
    names, value and interval. Figures that are better the higher they are (precision, recall, score) are
    reversed, so that agreement is positive everywhere."""
    higher = ("precision", "recall", "quick accuracy score")
    values = {name: [(-1 if name in higher else 1) * row[name] for row in rows] for name in rows[0]}
    values = {name: np.array(column) for name, column in values.items()}
    random, found = np.random.default_rng(0), []
    picks = random.integers(0, len(rows), (draws, len(rows)))
    for one, other in itertools.combinations(values, 2):
        drawn = [spearmanr(values[one][pick], values[other][pick])[0] for pick in picks]
        interval = np.nanquantile(drawn, (0.025, 0.975)).tolist()
        value = float(spearmanr(values[one], values[other])[0])
        found.append({"figures": [one, other], "correlation": value, "interval": interval})
    return found


def compare(dataset, samples=SAMPLES, weights=None):
    """The record of all sets, dict."""
    inception = features.inception(weights) if weights else None
    real = {
        "classifier": features.classifier_features(dataset.test_images)[0],
        "label-free": features.label_free_features(dataset.test_images),
        "random": features.random_features(dataset.test_images),
    }
    if inception is not None:
        real["inception"] = features.inception_features(dataset.test_images, model=inception)
    sets = trained_sets(dataset, samples), shipped_sets(samples), damaged_sets(dataset, samples)
    rows = []
    for name, how, images, labels in itertools.chain(*sets):
        rows.append({"set": name, "made": how, "figures": measure(images, labels, dataset, real, inception)})
        print(
            name, *(f"{key} {value:.3g}" for key, value in rows[-1]["figures"].items()), sep="  ", flush=True
        )
    record = {"samples": samples, "sets": rows, "correlations": correlate([row["figures"] for row in rows])}
    return record | {"data": dataset.source, "versions": versions()}


def main(arguments=None):
    """Runs the command line and returns its exit code: 0 or 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="fmgan_tf.bench.agreement", description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--inception-weights", help="file with InceptionV3's weights, or imagenet")
    arguments = parser.parse_args(arguments)
    try:
        weights = arguments.inception_weights
        command = f"python -m fmgan_tf.bench.agreement {arguments.output}"
        command += f" --inception-weights {weights}" if weights else ""
        record = {"command": command} | compare(fashion_mnist.load(), weights=weights)
        plots.write_whole(arguments.output, json.dumps(record, indent=2))
    except (InputError, OSError) as error:
        print(f"fmgan_tf.bench.agreement: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
