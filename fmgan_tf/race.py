"""Trains contenders for equal time and sees who makes the better images (notebook 07).

The contenders: the network of a well-known tutorial, the prototype that cgan grew from, the ladder of changes
that lead from the one to cgan, and the course's recipes. Only train steps count as time; measuring and
drawing stop the clock. The folder of a race holds

    race.csv    a row for every measurement: contender, seed, seconds, steps, images, epochs, fid_fmnist; the
                last of a run has label_free_distance and recall as well
    race.png    FID-FMNIST against seconds and against epochs: mean over the seeds, and their range
    strip.png   the same noise at equal times, of every contender's first seed
    strips.npz  its images: by contender, uint8 (measurements, 10, 28, 28, 1)
    race.json   contenders with every hyper-parameter, minutes, seeds, samples, data source

A race that was stopped goes on when it is started again into the same folder, without its finished runs.
"""

import csv
import dataclasses
import io
import json
import pathlib
import sys
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib import ticker

from fmgan_tf import InputError, data, features, gan, generation, metrics, plots, recipes, write_whole

SAMPLES = 10_000  # images of each measurement, against all test images
FIRST = 5.0  # seconds before the first measurement; every later one comes after twice as long
STYLES = ("-", "--", "-.", ":")
COLORS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.GRAY, "black", "#CC79A7")


def _rates(rate):
    return {"generator_learning_rate": rate, "discriminator_learning_rate": rate}


TUTORIAL = recipes.Recipe(
    name="tutorial",
    summary="the network of the well-known DCGAN tutorial with its own optimizers",
    generator="build_tutorial_generator",
    discriminator="build_tutorial_discriminator",
    batch_size=256,
    beta_1=0.9,
    beta_2=0.999,
    ema_decay=0.0,
    **_rates(1e-4),
)
PROTOTYPE = recipes.Recipe(
    name="prototype",
    summary="the small conditional network that cgan grew from",
    generator="build_prototype_generator",
    discriminator="build_prototype_discriminator",
    conditional=True,
    loss="hinge",
    latent_dim=64,
    **_rates(4e-4),
)


def build_ladder():
    """From the tutorial to modulate, one change or one bundle at a time, then modulate without what one rung
    brought: dict from name to recipes.Recipe. What cgan has beyond modulate is in notebook 07."""
    rungs = [TUTORIAL]

    def climb(name, summary, **changes):
        rungs.append(dataclasses.replace(rungs[-1], name=name, summary=summary, **changes))

    adam = {"beta_1": 0.5, "beta_2": 0.99} | _rates(8e-4)
    climb("settings", "Adam at 8e-4 with 0.5 and 0.99, batches of 64", batch_size=64, **adam)
    networks = {"generator": "build_dcgan_generator", "discriminator": "build_dcgan_discriminator"}
    climb("narrow", "networks a quarter to half as wide, kernels of 4", **networks)
    climb("average", "the moving average of the generator", ema_decay=0.995)
    networks = {"generator": "build_cgan_generator", "discriminator": "build_projection_discriminator"}
    label = "the label, by projection, and with it a discriminator of one more convolution and a dense layer"
    climb("labels", label, **networks, conditional=True, latent_dim=64)
    climb("hinge", "the hinge loss", loss="hinge")
    climb("batch-32", "batches of 32", batch_size=32)
    climb("shift", "the discriminator sees images moved by up to one pixel", shift=1)
    classifying = {"discriminator": "build_classifying_discriminator", "label_weight": 1.0}
    climb("recognize", "a discriminator that also names the class, of half the weights", **classifying)
    generator = "build_modulated_generator"
    climb("modulate", "a generator in which noise and label act in every stage", generator=generator)
    top, projection = rungs[-1], {"discriminator": "build_projection_discriminator", "label_weight": 0.0}
    for name, changes in {
        "settings": {"beta_1": 0.9, "beta_2": 0.999} | _rates(1e-4),
        "average": {"ema_decay": 0.0},
        "hinge": {"loss": "non_saturating"},
        "batch-32": {"batch_size": 64},
        "shift": {"shift": 0},
        "recognize": projection,
    }.items():
        changes |= {"name": f"without-{name}", "summary": f"modulate without what {name} brought"}
        rungs.append(dataclasses.replace(top, **changes))
    return {rung.name: rung for rung in rungs[1:]}


LADDER = build_ladder()


def contender(name):
    """The recipe of a contender: of recipes.RECIPES on ten classes, the tutorial, the prototype or a rung."""
    known = {name: recipe for name, recipe in recipes.RECIPES.items() if recipe.classes == 10}
    return recipes.get(name, known | {"tutorial": TUTORIAL, "prototype": PROTOTYPE} | LADDER)


def moments(seconds):
    """When to measure in so many seconds: after 5, then after twice as long each time, and at the end."""
    times = []
    while (after := FIRST * 2 ** len(times)) < 0.75 * seconds:
        times.append(after)
    return [*times, seconds]


class _Clock(keras.callbacks.Callback):
    """Measures at the given moments, and stops at the last."""

    def __init__(self, moments, measure):
        super().__init__()
        self.moments, self.measure = list(moments), measure
        self.steps, self.spent = 0, 0.0

    def on_train_begin(self, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        float(logs["generator_loss"])  # waits until the step is really over
        self.steps += 1
        seconds = self.spent + time.perf_counter() - self.start
        if seconds >= self.moments[0]:
            while self.moments and seconds >= self.moments[0]:
                self.moments.pop(0)
            self.measure(self.model, seconds, self.steps)
            self.spent, self.start = seconds, time.perf_counter()
            self.model.stop_training = not self.moments


def run(
    recipe, seed, dataset, seconds, real, samples=SAMPLES, finish=lambda images, found: {}, extractors=None
):
    """Trains one contender for so many seconds of train steps.

    Args:
        recipe: recipes.Recipe.
        real: metrics.Moments of the features of the test images.
        samples: int, images of each measurement.
        finish: what gives the last measurement more scores: a function of images, uint8 (samples, 28, 28, 1),
            and their features to a dict.
        extractors: features.Extractors of the dataset, by default the shipped ones.
    Returns:
        (rows, images): list of dicts, see race.csv, and list of uint8 (10, 28, 28, 1), one a measurement.
    """
    images = tf.constant(data.to_tanh_range(dataset.train_images))  # the only copy
    model = gan.build(recipe, seed)
    labels = dataset.train_labels if recipe.conditional else None
    stream = data.batches(images, recipe.batch_size, seed, labels=labels)
    model.fit(stream, steps_per_epoch=1, shuffle=False, verbose=0)  # compiles; this step is not counted
    generator = generation.of_recipe(model.averaged_generator, recipe, dataset.class_names)
    extractors = extractors or features.Extractors.shipped()
    asked = np.arange(samples) % recipe.classes
    noise = generation.sample_noise(seed + 1000, samples, recipe.latent_dim)
    rows, strip = [], []

    def measure(model, seconds, steps):
        made = generation.sample_images(generator, noise, asked)
        found, _ = extractors.features(made)
        count = steps * recipe.batch_size
        row = {"contender": recipe.name, "seed": seed, "seconds": round(seconds, 2), "steps": steps}
        row |= {"images": count, "epochs": round(count / len(images), 3)}
        row[extractors.key] = round(metrics.frechet_distance(real, found), 4)
        rows.append(row if clock.moments else row | finish(made, found))
        strip.append(made[:10])
        measured = f"{row['epochs']:6.2f} epochs  {extractors.distance} {row[extractors.key]:8.3f}"
        print(f"{recipe.name:<16} seed {seed}  {seconds:6.0f} s  {measured}", flush=True)

    clock = _Clock(moments(seconds), measure)
    model.fit(stream, steps_per_epoch=sys.maxsize, shuffle=False, verbose=0, callbacks=[clock])
    return rows, strip


def race(contenders, dataset, output, minutes=3.0, seeds=1, samples=SAMPLES, extractors=None):
    """Lets contenders race, one after another, seed by seed, and returns the rows of race.csv, list of dicts.

    Args:
        contenders: list of recipes.Recipe.
        output: path of a folder, made if need be.
        minutes, samples: length of every run, and images of each measurement.
        seeds: int, runs of every contender, with seeds 0, 1, ...
        extractors: features.Extractors of the dataset, by default the shipped ones.
    Raises:
        InputError: the folder holds another race, or a damaged one.
    """
    output = pathlib.Path(output)
    record = {"contenders": [dataclasses.asdict(recipe) for recipe in contenders], "minutes": minutes}
    record |= {"seeds": seeds, "samples": samples, "data": dataset.source}
    record |= {"fingerprint": dataset.fingerprint} if dataset.is_own else {}
    output.mkdir(parents=True, exist_ok=True)
    path = output / "race.json"
    try:
        another = path.exists() and json.loads(path.read_text()) != record
        rows, strips = read(output)
    except Exception as error:  # a damaged JSON, CSV or zip, each with exceptions of its own
        raise InputError(f"The race in {output} is damaged ({error}). Choose another folder.") from error
    if another:
        raise InputError(f"{output} holds another race, see its race.json. Choose another folder.")
    write_whole(path, json.dumps(record, indent=2))
    extractors = extractors or features.Extractors.shipped()
    known, _ = extractors.features(dataset.test_images, "features of test images")
    label_free = metrics.Moments.of(extractors.label_free(dataset.test_images))
    real = metrics.Moments.of(known)

    def finish(images, found):
        distance = metrics.frechet_distance(label_free, extractors.label_free(images))
        _, recall = metrics.precision_recall(known[: len(found)], found)
        return {"label_free_distance": round(distance, 4), "recall": round(recall, 4)}

    done = {(row["contender"], row["seed"]) for row in rows}
    for seed in range(seeds):
        for recipe in contenders:
            if (recipe.name, seed) not in done:
                made, strip = run(recipe, seed, dataset, 60 * minutes, real, samples, finish, extractors)
                rows += made
                strips.setdefault(recipe.name, np.stack(strip))
                _save(output, rows, strips)
    return rows


def _save(output, rows, strips):
    table, kept = io.StringIO(), io.BytesIO()
    writer = csv.DictWriter(table, list(rows[-1]), lineterminator="\n")  # the last of a run has all columns
    writer.writeheader()
    writer.writerows(rows)
    np.savez_compressed(kept, **strips)
    write_whole(output / "strips.npz", kept.getvalue())
    write_whole(output / "race.csv", table.getvalue())
    plots.save_figure(output / "race.png", show(rows))
    plots.save_figure(output / "strip.png", show_strip(rows, strips))


def read(output):
    """(rows, strips) of the finished runs in a race's folder (pathlib.Path); empty where there are none."""
    if not (output / "race.csv").exists():
        return [], {}
    with open(output / "race.csv", newline="") as file:
        rows = [
            {key: value if key == "contender" else float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
    with np.load(output / "strips.npz", allow_pickle=False) as kept:
        return rows, dict(kept)


def show(rows):
    """Two distances of all contenders: FID-FMNIST over the seconds, mean and range of the seeds, and the
    label-free distance at the end, a dot for each seed; from rows of race.csv."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    names = list(dict.fromkeys(row["contender"] for row in rows))
    columns = list(rows[0])
    score = columns[columns.index("epochs") + 1]
    distance = "FID-FMNIST" if score == "fid_fmnist" else score.replace("fid_", "FID-").replace("_", " ")
    for number, name in enumerate(names):
        runs, color = {}, COLORS[number % len(COLORS)]
        for row in rows:
            if row["contender"] == name:
                runs.setdefault(row["seed"], []).append(row)
        points = min(map(len, runs.values()))
        seconds = np.mean([[row["seconds"] for row in one[:points]] for one in runs.values()], axis=0)
        values = np.array([[row[score] for row in one[:points]] for one in runs.values()])
        left.plot(seconds, values.mean(0), STYLES[number % 4], color=color, marker=".", label=name)
        left.fill_between(seconds, values.min(0), values.max(0), color=color, alpha=0.2)
        ends = [one[-1]["label_free_distance"] for one in runs.values() if "label_free_distance" in one[-1]]
        right.plot(ends, [number] * len(ends), "o", color=color, alpha=0.6)
        if not ends:
            right.annotate("no record", (0.02, number), xycoords=("axes fraction", "data"), va="center")
    left.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel=distance)
    left.legend(frameon=False)
    left.xaxis.set_minor_formatter(ticker.NullFormatter())  # on a short axis they would overlap
    right.margins(x=0.1)
    right.set(xlabel="label-free distance at the end", ylim=(len(names) - 0.5, -0.5))
    right.set_xlim(left=0)
    right.set_yticks(range(len(names)), names)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("A race at equal time, by two distances (lower is better)")
    figure.tight_layout()
    return figure


def show_strip(rows, strips, moments=5):
    """Rows of ten images at equal times, contender by contender, at so many moments at most."""
    sheet, names = [], []
    for name, images in strips.items():
        times = [row["seconds"] for row in rows if row["contender"] == name and row["seed"] == 0]
        for index in np.unique(np.linspace(0, len(images) - 1, moments).round().astype(int)):
            sheet.append(images[index])
            names.append(f"{name} {times[index]:.0f} s")
    return plots.show_images(np.concatenate(sheet), columns=10, row_labels=names)
