"""The comparisons that notebook 04 quotes: python assets/make/comparisons.py {conditionings,rates} OUTPUT.csv

conditionings: ways to bring the label into cgan, as many steps each, five seeds each. Before that, how large
    the label's part of each of the three discriminators starts is chosen by runs of another seed, on training
    images.
rates: dense-cgan with three learning rates for either network, nine pairs, three seeds each.

Every run is a line of OUTPUT.csv as soon as it ends; the runs that the file has already are left out. The
first takes one to two hours, the second half an hour. Nothing depends on how fast a machine is.
"""

import csv
import dataclasses
import itertools
import pathlib

import numpy as np
import script
import ways
from ways import CGAN

from fmgan_tf import data, datasets, features, gan, generation, metrics, recipes

DENSE = dataclasses.replace(recipes.get("dense-cgan"), batch_size=256, ema_decay=0.995)  # as in notebook 04
STEPS, EPOCHS = 1000, 10
SEEDS, TUNING_SEED = range(5), 100
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)  # the label's part of a discriminator starts so many times as large
RATES = (1e-4, 4e-4, 1.6e-3)
SAMPLES = 10_000


def measured(real, model, recipe, asked, seed):
    """The scores of a trained model's averaged generator against real images, dict."""
    generator = generation.of_recipe(model.averaged_generator, recipe)
    noise = generation.sample_noise(seed + 100, len(asked), recipe.latent_dim)
    images = generation.sample_images(generator, noise, asked)
    (seen, _), (found, recognized) = map(features.classifier_features, (real, images))
    second_opinion = map(features.label_free_features, (real, images))
    return {
        "fid_fmnist": round(metrics.frechet_distance(seen, found), 3),
        "label_free": round(metrics.frechet_distance(*second_opinion), 3),
        "recall": round(metrics.precision_recall(seen, found)[1], 4),
        "label_agreement": round(metrics.label_agreement(asked, recognized, 10)[0], 4),
    }


def favorite_label(discriminator, dataset, count=2000):
    """How often the label that a discriminator likes best on a real test image is the right one: 0 to 1."""
    images, labels = data.to_tanh_range(dataset.test_images[:count]), dataset.test_labels[:count]
    if len(discriminator.outputs) == 2:
        verdicts = discriminator.predict([images, labels], verbose=0)[1]
    else:
        asked = [np.full(len(labels), label) for label in range(10)]
        verdicts = np.hstack([discriminator.predict([images, label], verbose=0) for label in asked])
    return round(float(np.mean(verdicts.argmax(1) == labels)), 4)


def conditionings(dataset, keep):
    """Trains the ways of ways.py. keep(row, run, *arguments) runs what is missing, returns all."""
    images = data.to_tanh_range(dataset.train_images)
    watched = dataset.train_images[np.random.default_rng(0).permutation(len(images))[:SAMPLES]]

    def run(way, factor, seed, real):
        model, no_labels = ways.game(way, factor, seed), way == "no labels"
        labels = np.zeros_like(dataset.train_labels) if no_labels else dataset.train_labels
        stream = data.batches(images, CGAN.batch_size, seed, labels=labels)
        model.fit(stream, steps_per_epoch=STEPS, shuffle=False, verbose=0)
        scores = measured(real, model, CGAN, np.arange(SAMPLES) % (1 if no_labels else 10), seed)
        return scores | {"favorite_label": favorite_label(model.discriminator, dataset)}

    factors = {}
    for way in ways.BUILDERS:
        row = {"purpose": "tuning", "way": way}
        for factor in FACTORS:
            more = {"factor": factor, "seed": TUNING_SEED, "steps": STEPS}
            rows = keep(row | more, run, way, factor, TUNING_SEED, watched)
        tuned = [kept for kept in rows if row.items() <= kept.items()]
        factors[way] = float(min(tuned, key=lambda kept: float(kept["fid_fmnist"]))["factor"])
    for seed, way in itertools.product(SEEDS, (*ways.BUILDERS, *ways.CHANGES)):
        factor = factors.get(way, factors["projection"])
        row = {"purpose": "comparison", "way": way, "factor": factor, "seed": seed, "steps": STEPS}
        keep(row, run, way, factor, seed, dataset.test_images)


def rates(dataset, keep):
    """Trains dense-cgan with every pair of RATES, like conditionings."""
    dataset, *_ = data.split_dataset(dataset, DENSE.classes)
    images = data.to_unit_range(dataset.train_images)
    asked = np.repeat([0, 1], len(dataset.test_images) // 2)

    def run(seed, *pair):
        changes = dict(zip(recipes.BOTH_RATES, pair, strict=True))
        model = gan.build(dataclasses.replace(DENSE, **changes), seed)
        stream = data.batches(images, DENSE.batch_size, seed, labels=dataset.train_labels)
        steps = len(images) // DENSE.batch_size
        model.fit(stream, epochs=EPOCHS, steps_per_epoch=steps, shuffle=False, verbose=0)
        return measured(dataset.test_images, model, DENSE, asked, seed)

    for seed, *pair in itertools.product(range(3), RATES, RATES):
        row = {"generator_rate": pair[0], "discriminator_rate": pair[1], "seed": seed}
        keep(row, run, seed, *pair)


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("conditionings", "rates"))
    parser.add_argument("output", type=pathlib.Path)
    arguments = parser.parse_args()
    rows = []
    if arguments.output.exists():
        with open(arguments.output, newline="") as file:
            rows = list(csv.DictReader(file))

    def keep(row, run, *run_arguments):
        if not any(all(kept[name] == str(value) for name, value in row.items()) for kept in rows):
            rows.append({name: str(value) for name, value in (row | run(*run_arguments)).items()})
            print(rows[-1], flush=True)
            with open(arguments.output, "w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        return rows

    {"conditionings": conditionings, "rates": rates}[arguments.what](datasets.load(), keep)


if __name__ == "__main__":
    script.run(main)
