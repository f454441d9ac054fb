"""Do the scores rank sets of images alike? python assets/make/agreement.py assets/agreement.json

Every set is kept as a line that says how to make it anew, no image is stored: checkpoints of one training,
rungs of the ladder, the shipped generators, one of them with its noise truncated, real training images, and
those with damages of known strength. The record holds all scores of all sets, and the rank correlation
(Spearman's) of every two scores with the interval in which 95 % of 2,000 bootstrap draws of the sets lie.
"""

import itertools
import json
import pathlib

import numpy as np
import script
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from fmgan_tf import data, datasets, features, gan, generation, metrics, race, write_whole
from fmgan_tf.runs import evaluation
from fmgan_tf.runs.folder import versions

SAMPLES = 10_000
TRAINED = {"cgan": (300, 1000, 3000), "narrow": (1000,), "labels": (1000,)}  # contender: after how many steps
TRUNCATIONS = (0.5, 0.75, 1.25)  # times the noise
EXTRACTORS = {
    "FID-FMNIST": lambda images: features.classifier_features(images)[0],
    "label-free distance": features.label_free_features,
    "random-features distance": features.random_features,
}
HIGHER = ("precision", "recall", "quick accuracy score")  # better the higher they are


def trained_sets(dataset, samples):
    """(name, how, images, labels or None) of contenders' averaged generators in the course of training."""
    images, asked = data.to_tanh_range(dataset.train_images), np.arange(samples) % 10
    for name, steps in TRAINED.items():
        recipe, done = race.contender(name), 0
        labels, known = (asked, dataset.train_labels) if recipe.conditional else (None, None)
        model = gan.build(recipe)
        noise = generation.sample_noise(1000, samples, recipe.latent_dim)
        for count in steps:
            stream = data.batches(images, recipe.batch_size, 0, done, known)
            model.fit(stream, steps_per_epoch=count - done, shuffle=False, verbose=0)
            generator, done = generation.of_recipe(model.averaged_generator, recipe), count
            made, how = generation.sample_images(generator, noise, labels), f"{count} train steps"
            yield f"{name} after {count} steps", f"contender {name}, seed 0, {how}", made, labels


def shipped_sets(samples):
    """The same of shipped generators, and of cgan with shorter or longer noise."""
    for name, factor in [(name, 1.0) for name in generation.shipped()] + [("cgan", f) for f in TRUNCATIONS]:
        generator, times = generation.load_generator(name), "" if factor == 1 else f" {factor}"
        labels = np.arange(samples) % generator.classes if generator.classes else None
        noise = factor * generation.sample_noise(1000, samples, generator.latent_dim)
        made = generation.sample_images(generator, noise.astype("float32"), labels)
        how = f"shipped {name}, noise of seed 1000" + (times and f" times{times}")
        yield name + (times and f", noise x{times}"), how, made, labels


def damaged_sets(dataset, samples):
    """The same of real training images, the last ones, whole and damaged."""
    images, labels = dataset.train_images[-samples:], dataset.train_labels[-samples:]
    random, pixels = np.random.default_rng(0), images.astype("float32")
    hole = pixels.copy()
    hole[:, 10:14, 10:14] = 0
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
        damaged = data.from_byte_range(damaged)
        yield f"training images, {name}", f"the last training images, {name}", damaged, labels
    few = np.concatenate([np.flatnonzero(labels == label)[:50] for label in range(10)])
    drawn = random.choice(few, len(images))
    yield "training images, 50 a class", "copies of 50 images of every class", images[drawn], labels[drawn]


def measure(images, labels, dataset, real):
    """The scores of one set beside the test images, whose features are `real`: a dict of floats."""
    found = {name: extract(images) for name, extract in EXTRACTORS.items()}
    scores = {name: metrics.frechet_distance(real[name], found[name]) for name in found}
    seen, found = real["FID-FMNIST"], found["FID-FMNIST"]
    scores["precision"], scores["recall"] = metrics.precision_recall(seen[: len(found)], found)
    if labels is None:  # by the classifier: it measures the images, not the labels
        labels = features.Extractors.shipped().recognized_among(range(10), found)
    scores["quick accuracy score"] = float(evaluation.quick_accuracy_score(images, labels, dataset)[0])
    return scores


def correlate(rows, draws=2000):
    """Rank correlation of every two scores over the sets, rows being dicts of floats: list of dicts of both
    names, value and interval. Those that are better the higher they are count reversed: agreement is
    positive everywhere."""
    values = {name: np.array([(-1 if name in HIGHER else 1) * row[name] for row in rows]) for name in rows[0]}
    picks, found = np.random.default_rng(0).integers(0, len(rows), (draws, len(rows))), []
    for one, other in itertools.combinations(values, 2):
        drawn = [spearmanr(values[one][pick], values[other][pick])[0] for pick in picks]
        value, interval = spearmanr(values[one], values[other])[0], np.nanquantile(drawn, (0.025, 0.975))
        found.append({"figures": [one, other], "correlation": float(value), "interval": interval.tolist()})
    return found


def compare(dataset, samples=SAMPLES):
    """The record of all sets, dict."""
    real, rows = {name: extract(dataset.test_images) for name, extract in EXTRACTORS.items()}, []
    sets = trained_sets(dataset, samples), shipped_sets(samples), damaged_sets(dataset, samples)
    for name, how, images, labels in itertools.chain(*sets):
        scores = measure(images, labels, dataset, real)
        rows.append({"set": name, "made": how, "figures": scores})
        print(name, *(f"{key} {value:.3g}" for key, value in scores.items()), sep="  ", flush=True)
    record = {"samples": samples, "sets": rows, "correlations": correlate([row["figures"] for row in rows])}
    return record | {"data": dataset.source, "versions": versions()}


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path, help="JSON file to write")
    output = parser.parse_args().output
    record = {"command": f"python assets/make/agreement.py {output}"} | compare(datasets.load())
    write_whole(output, json.dumps(record, indent=2))


if __name__ == "__main__":
    script.run(main)
