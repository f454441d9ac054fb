"""The runs with seeds that notebook 08 quotes: python assets/make/others.py {losses,flow} OUTPUT.json

losses: dcgan with every loss, for a minute of one core. The rate of both networks is chosen for each loss by
    the label-free distance of one run of another seed at each of four rates.
flow: flow and cgan, measured after 3, 10 and 30 minutes of one core; at the end also how well a network
    recognizes real images that was trained on generated ones alone, see accuracy.py. Of seed 0 some images
    are kept in the folder beside OUTPUT of that name, and flow's sampler is tried with other settings.

Time is that of one core, so start one process for each core: `taskset -c 0 python ...`, and with --seeds
another's seeds. A run is written as soon as it ends; the runs that OUTPUT has already are left out.
"""

import dataclasses
import json
import pathlib
import time

import accuracy
import numpy as np
import script
import tensorflow as tf

from fmgan_tf import InputError, data, datasets, features, gan, generation, metrics, models, plots, recipes
from fmgan_tf.runs.folder import versions

LOSSES = (*recipes.LOSSES[:1], *recipes.LOSSES[2:3], *recipes.LOSSES[4:], *recipes.MORE_LOSSES)
RATES, TUNING_SEED, LOSS_SECONDS = (2e-4, 4e-4, 8e-4, 1.6e-3), 100, 60
MINUTES = (3, 10, 30)
SAMPLERS = [(steps, 0.0) for steps in (1, 2, 3, 8, 16)] + [(4, guidance) for guidance in (0.5, 1.0, 2.0)]
IMAGES = 5000


class Judge:
    """Scores images against the test images."""

    def __init__(self, dataset, count=IMAGES):
        self.count = count
        self.features, _ = features.classifier_features(dataset.test_images)
        self.label_free = features.label_free_features(dataset.test_images)

    def __call__(self, images, labels=None):
        """Scores of uint8 (count, 28, 28, 1), dict; where labels were asked for, with their agreement."""
        found, classes = features.classifier_features(images)
        free = features.label_free_features(images)
        precision, recall = metrics.precision_recall(self.features[: self.count], found)
        scores = {"fid_fmnist": metrics.frechet_distance(self.features, found)}
        scores |= {"label_free": metrics.frechet_distance(self.label_free, free)}
        scores |= {"precision": precision, "recall": recall}
        return scores | ({} if labels is None else {"agreement": float((classes == labels).mean())})


def train(recipe, seed, dataset, seconds, judge, chunk=25):
    """One training of a recipe: yields its generation.Generator and a dict of steps, seconds of one core and
    scores, once after every one of `seconds`, rising; ends where a loss or an image is NaN."""
    model, images = gan.build(recipe, seed), tf.constant(data.to_tanh_range(dataset.train_images))
    labels, steps, spent = dataset.train_labels if recipe.conditional else None, 1, 0.0
    stream = iter(data.batches(images, recipe.batch_size, seed, labels=labels))
    step = tf.function(model.train_step, reduce_retracing=True)
    step(next(stream))  # compiles; its time does not count
    generator = generation.of_recipe(model.averaged_generator, recipe)
    asked = np.arange(judge.count) % recipe.classes if recipe.conditional else None
    for limit in seconds:
        while spent < limit:
            start = time.process_time()
            values = [step(next(stream)) for _ in range(chunk)][-1]
            spent, steps = spent + time.process_time() - start, steps + chunk
        noise = generation.sample_noise(seed + 1000, judge.count, recipe.latent_dim)
        where = {"steps": steps, "seconds": round(spent, 1)}
        if not all(np.isfinite(float(value)) for value in values.values()):
            yield generator, where | {"diverged": True}
            return
        yield generator, where | judge(generation.sample_images(generator, noise, asked), asked)


def compare_losses(seeds, known, dataset, judge, seconds=LOSS_SECONDS):
    """Yields a dict for every run of the losses that is not among those known."""

    def run(loss, rate, seed):
        settings = {"loss": loss, "learning_rate": rate}
        for found in known:
            if settings | {"seed": seed} == {key: found[key] for key in (*settings, "seed")}:
                return found
        recipe = recipes.override(recipes.get("dcgan"), settings)
        (_, scores), *_ = train(recipe, seed, dataset, [seconds], judge)
        known.append(settings | {"seed": seed} | scores)
        return known[-1]

    for loss in LOSSES:
        tried = {}
        for rate in RATES:
            tried[rate] = run(loss, rate, TUNING_SEED)
            yield tried[rate]
        best = min(RATES, key=lambda rate: tried[rate].get("label_free", np.inf))
        for seed in seeds:
            yield run(loss, best, seed)


def compare_systems(seeds, known, dataset, judge, strips, minutes=MINUTES, count=accuracy.IMAGES):
    """Yields a dict for every system, seed and time that is not among those known; strips: a folder."""
    for seed in seeds:
        for name in ("flow", "cgan"):
            if any((each["system"], each["seed"]) == (name, seed) for each in known):
                continue
            trained = train(recipes.get(name), seed, dataset, [60 * each for each in minutes], judge)
            for limit, (generator, scores) in zip(minutes, trained, strict=False):
                found = {"system": name, "seed": seed, "minutes": limit} | scores
                if not seed:
                    labels = np.repeat(np.arange(10), 2)
                    noise = generation.sample_noise(1, 20, generator.latent_dim)
                    sheet = plots.tile(generation.sample_images(generator, noise, labels), 20)
                    plots.save_png(strips / f"{name}-{limit}.png", sheet)
                if limit == minutes[-1]:
                    found["accuracy"] = convergence(generator, seed, dataset, count)
                    found |= (
                        {"samplers": try_samplers(generator, judge)} if name == "flow" and not seed else {}
                    )
                known.append(found)
                yield found


def convergence(generator, seed, dataset, count):
    """The accuracy on real images of a network that was trained on so many generated ones."""
    labels = np.random.default_rng(seed).permutation(np.arange(count) % generator.classes)
    noise = generation.sample_noise(seed + 2000, count, generator.latent_dim)
    images = generation.sample_images(generator, noise, labels)
    return accuracy.train(images, labels, dataset)["accuracy"]


def try_samplers(generator, judge):
    """Scores of the same velocity along other steps and with guidance: list of dicts."""
    velocity, found = generator.model.get_layer("velocity"), []
    noise, labels = (
        generation.sample_noise(1000, judge.count, generator.latent_dim),
        np.arange(judge.count) % 10,
    )
    for steps, guidance in SAMPLERS:
        sampler = models.build_sampler(velocity, generator.classes, steps, guidance)
        images = generation.sample_images(dataclasses.replace(generator, model=sampler), noise, labels)
        found.append({"steps": steps, "guidance": guidance} | judge(images, labels))
    return found


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["losses", "flow"])
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    if not options.output.parent.is_dir():
        raise InputError(f"{options.output.parent} is no folder")
    record = json.loads(options.output.read_text()) if options.output.exists() else {"runs": []}
    record |= {"versions": versions(), "images": IMAGES}
    dataset = datasets.load()
    arguments = [options.seeds, record["runs"], dataset, Judge(dataset)]
    if options.kind == "losses":
        runs = compare_losses(*arguments)
    else:
        strips = options.output.with_suffix("")
        strips.mkdir(exist_ok=True)
        runs = compare_systems(*arguments, strips)
    for run in runs:
        options.output.write_text(json.dumps(record, indent=1) + "\n")
        print(run, flush=True)


if __name__ == "__main__":
    script.run(main)
