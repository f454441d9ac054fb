"""The runs with seeds that notebook 03 quotes: python assets/make/lessons.py {ring,clothes} OUTPUT.json

ring: ten seeds of the notebook's own game on the ring, by the code of its cells, in five ways.
clothes: dcgan for 700 steps, three seeds, each time with one thing changed. How strong the penalty is was
    chosen before by runs of another seed, by the label-free distance.

Every run is written as soon as it ends; the runs that OUTPUT has already are left out. Nothing depends on how
fast a machine is but the seconds. Either takes about half an hour.
"""

import json
import pathlib
import time

import keras
import nbformat
import numpy as np
import script
import tensorflow as tf

from fmgan_tf import InputError, data, datasets, features, gan, generation, losses, metrics, recipes
from fmgan_tf.runs.folder import versions

NOTEBOOK = pathlib.Path(__file__).parents[2] / "notebooks" / "03_adversarial_training.ipynb"
RING = {
    "as it is": {},
    "five generator steps": {"generator_steps": 5},
    "five generator steps, and the spread": {"generator_steps": 5, "spread": True},
    "beta_1 0": {"beta_1": 0.0},
    "beta_1 0.9": {"beta_1": 0.9},
    "penalty": {"gamma": 0.1},
}
CLOTHES = {
    "as it is": {},
    "beta_1 0": {"beta_1": 0.0},
    "beta_1 0.9": {"beta_1": 0.9},
    "penalty": {"loss": "non_saturating_r1"},
    "minimax": {"loss": "minimax"},
}
RING_STEPS, STEPS, IMAGES = 1500, 700, 5000
GAMMAS, TUNING_SEED = (0.01, 0.1), 100


def cells(*names):
    """What the code cells of these ids define, dict."""
    found = {cell.id: cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
    space = {"np": np, "tf": tf, "keras": keras, "layers": keras.layers}
    for name in names:
        exec(found[name], space)
    return space


def play(settings, seed, steps=RING_STEPS):
    """One game on the ring: how it ends, and at how many of its looks nearly all points were at one place."""
    game = cells("parameters", "ring", "play")
    _, looks = game["play"](seed=seed, steps=steps, **settings)
    collapsed = [look["fullest"] for look in looks if look["at fullest"] > 0.8]
    end = {name: looks[-1][name] for name in ("modes", "at a place", "width")}
    return {"looks": len(looks), "collapsed onto": collapsed, **end}


def both_features(images):
    return features.classifier_features(images)[0], features.label_free_features(images)


def train(settings, seed, dataset, real, steps=STEPS, count=IMAGES):
    """One training of dcgan with some settings changed: its scores, from `count` images."""
    recipe = recipes.override(recipes.get("dcgan"), settings)
    model, images = gan.build(recipe, seed), tf.constant(data.to_tanh_range(dataset.train_images))
    start = time.perf_counter()
    model.fit(data.batches(images, recipe.batch_size, seed), steps_per_epoch=steps, shuffle=False, verbose=0)
    seconds = round(time.perf_counter() - start)
    generator = generation.of_recipe(model.averaged_generator, recipe)
    made = generation.sample_images(generator, generation.sample_noise(seed + 1000, count, recipe.latent_dim))
    found = both_features(made)
    scores = [metrics.frechet_distance(*pair) for pair in zip(real, found, strict=True)]
    recall = metrics.precision_recall(real[0][:count], found[0])[1]
    return {"fid_fmnist": scores[0], "label_free": scores[1], "recall": recall, "seconds": seconds}


def plan(kind):
    """(name, settings, seed, gamma) of every run."""
    if kind == "ring":
        return [(name, settings, seed, None) for name, settings in RING.items() for seed in range(10)]
    tuning = [("penalty", CLOTHES["penalty"], TUNING_SEED, gamma) for gamma in GAMMAS]
    return tuning + [(name, settings, seed, None) for seed in range(3) for name, settings in CLOTHES.items()]


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["ring", "clothes"])
    parser.add_argument("output", type=pathlib.Path)
    options = parser.parse_args()
    if not options.output.parent.is_dir():
        raise InputError(f"{options.output.parent} is no folder")
    record = json.loads(options.output.read_text()) if options.output.exists() else {"runs": []}
    record |= {"versions": versions(), "steps": RING_STEPS if options.kind == "ring" else STEPS}
    dataset = datasets.load() if options.kind == "clothes" else None
    real = both_features(dataset.test_images) if dataset else None
    for name, settings, seed, gamma in plan(options.kind):
        tuned = [run for run in record["runs"] if run["seed"] == TUNING_SEED]
        if dataset and gamma is None and name == "penalty":
            gamma = min(tuned, key=lambda run: run["label_free"])["gamma"]
        run = {"name": name, "seed": seed} | ({} if gamma is None else {"gamma": gamma})
        if any(run.items() <= known.items() for known in record["runs"]):
            continue
        losses.GAMMA = gamma or losses.GAMMA
        run |= train(settings, seed, dataset, real) if dataset else play(settings, seed)
        record["runs"].append(run)
        options.output.write_text(json.dumps(record, indent=1) + "\n")
        print(run, flush=True)


if __name__ == "__main__":
    script.run(main)
