"""Trains contenders for equal time and sees who makes the better images: python -m fmgan_tf race.

Only train steps count as time; measuring and drawing stop the clock. The output folder holds
    race.csv    a row for every measurement: contender, seed, seconds, steps, images, epochs, fid_fmnist; the
                last of a run has label_free_distance and recall as well
    race.png    FID-FMNIST against seconds and against epochs: mean over the seeds, and their range
    strip.png   the same noise at equal times, of every contender's first seed
    strips.npz  its pictures, for going on: by contender, uint8 (measurements, 10, 28, 28, 1)
    race.json   contenders with every hyper-parameter, minutes, seeds, versions, data source
A race that was stopped goes on when it is started again into the same folder, without its finished runs.
"""

import csv
import dataclasses
import io
import json
import pathlib
import sys
import time
import types
import zipfile

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib import ticker

from fmgan_tf import InputError, data, features, generation, metrics, models, plots, recipes
from fmgan_tf.bench import rivals
from fmgan_tf.runs import callbacks, training
from fmgan_tf.runs.folder import alone_in, versions, write_csv

SAMPLES = 10_000  # images of each measurement, against all test images
FIRST = 5.0  # seconds before the first measurement; every later one comes after twice as long
STYLES = ("-", "--", "-.", ":")
COLORS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.GRAY, "black", "#CC79A7")


def contender(name):
    """The recipe of a contender: of recipes.RECIPES on ten classes, rivals.RIVALS or rivals.LADDER.
    NAME@FACTOR is NAME with both learning rates multiplied by a number."""
    name, at, factor = name.partition("@")
    known = rivals.RIVALS | {name: recipe for name, recipe in recipes.RECIPES.items() if recipe.classes == 10}
    known |= rivals.LADDER
    if name not in known:
        near = f"Did you mean {recipes.nearest(name, known)!r}?"
        raise InputError(f"No contender {name!r}; there are {', '.join(known)}. {near}")
    if not at:
        return known[name]
    try:
        rates = {rate: getattr(known[name], rate) * float(factor) for rate in recipes.BOTH_RATES}
    except ValueError:
        message = f"{name}@{factor}: expected a number after the @, a factor for both learning rates"
        raise InputError(message) from None
    return dataclasses.replace(recipes.override(known[name], rates), name=f"{name}@{factor}")


def build(recipe, seed):
    """Builds and compiles a contender as training.build_gan does, without the average where it has none."""
    builders = types.SimpleNamespace(**vars(models) | vars(rivals))
    model = training.build_gan(recipe, seed, builders)
    if not recipe.ema_decay:
        model.averaged_generator, model.update_average = model.generator, lambda: None
    return model


def moments(seconds):
    """When to measure in so many seconds: after 5, then after twice as long each time, and at the end."""
    times = []
    while (after := FIRST * 2 ** len(times)) < 0.75 * seconds:
        times.append(after)
    return [*times, seconds]


class _Clock(keras.callbacks.Callback):
    """Measures at the given moments, and stops at the last."""

    def __init__(self, recipe, moments, measure):
        super().__init__()
        self.recipe, self.moments, self.measure, self.end = recipe, list(moments), measure, moments[-1]
        self.steps, self.spent = 0, 0.0

    def on_train_begin(self, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_begin(self, batch, logs=None):
        seconds = self.spent + time.perf_counter() - self.start
        callbacks.cool(self.model, self.recipe, min(1.0, seconds / self.end))

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


def run(recipe, seed, dataset, seconds, real, samples=SAMPLES, more=None):
    """Trains one contender for so many seconds of train steps.
    Args:
        recipe: recipes.Recipe.
        real: metrics.Moments of the features of the test images.
        samples: int, images of each measurement.
        more: None, or what gives the last measurement more figures: a function of images, uint8 (samples, 28,
            28, 1), and their features to a dict.
    Returns:
        (rows, pictures): list of dicts, see race.csv, and list of uint8 (10, 28, 28, 1), one a measurement.
    """
    images = tf.constant(data.to_tanh_range(dataset.train_images))  # the only copy
    model = build(recipe, seed)
    labels = dataset.train_labels if recipe.conditional else None
    stream = data.batches(images, recipe.batch_size, seed, labels=labels)
    model.fit(stream, steps_per_epoch=1, shuffle=False, verbose=0)  # compiles; this step is not counted
    generator = generation.of_recipe(model.averaged_generator, recipe)
    asked = np.arange(samples) % recipe.classes
    noise = generation.sample_noise(seed + 1000, samples, recipe.latent_dim)
    rows, pictures = [], []

    def measure(model, seconds, steps):
        made = generation.sample_images(generator, noise, asked)
        found, _ = features.classifier_features(made)
        count = steps * recipe.batch_size
        row = {"contender": recipe.name, "seed": seed, "seconds": round(seconds, 2)}
        row |= {"steps": steps, "images": count, "epochs": round(count / len(images), 3)}
        row["fid_fmnist"] = round(metrics.frechet_distance(real, found), 4)
        if more and not clock.moments:
            row |= more(made, found)
        rows.append(row)
        pictures.append(made[:10])
        measured = f"{row['epochs']:6.2f} epochs  FID-FMNIST {row['fid_fmnist']:8.3f}"
        print(f"{recipe.name:<11} seed {seed}  {seconds:6.0f} s  {measured}", flush=True)

    clock = _Clock(recipe, moments(seconds), measure)
    model.fit(stream, steps_per_epoch=sys.maxsize, shuffle=False, verbose=0, callbacks=[clock])
    return rows, pictures


def race(names, dataset, output, minutes=3.0, seeds=1, samples=SAMPLES, validation=False):
    """Lets contenders race, one after another, seed by seed, and returns the rows of race.csv, list of dicts.
    Args:
        names: list of str, see contender.
        output: path of a folder, made if need be.
        minutes, samples: length of every run, and images of each measurement.
        seeds: int, runs of every contender, with seeds 0, 1, …
        validation: whether to measure against as many training images in the place of the test images, as for
            choosing settings.
    Raises:
        InputError: an unknown contender, or the folder holds another race, a damaged one, or one going on.
    """
    output = pathlib.Path(output)
    contenders = [contender(name) for name in dict.fromkeys(names)]
    record = {"contenders": [dataclasses.asdict(recipe) for recipe in contenders], "minutes": minutes}
    record |= {"seeds": seeds, "samples": samples, "data": dataset.source, "versions": versions()}
    if validation:
        record["against"] = "training images"
        known = slice(-len(dataset.test_images), None)
        dataset = dataset._replace(
            test_images=dataset.train_images[known], test_labels=dataset.train_labels[known]
        )
    output.mkdir(parents=True, exist_ok=True)
    with alone_in(output):
        return _race(contenders, record, dataset, output)


def _race(contenders, record, dataset, output):
    path = output / "race.json"
    try:
        another = path.exists() and json.loads(path.read_text()) != record
        rows, strips = read(output)
        done = {(row["contender"], row["seed"]) for row in rows}
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"The race in {output} is damaged ({error}). Choose another folder.") from error
    if another:
        other = "another length, other contenders or versions"
        raise InputError(f"{output} holds another race: {other}. Choose another folder.")
    plots.write_whole(path, json.dumps(record, indent=2))
    known, _ = features.classifier_features(dataset.test_images, label="features of test images")
    label_free = metrics.Moments.of(features.label_free_features(dataset.test_images))
    real, seconds = metrics.Moments.of(known), 60 * record["minutes"]

    def more(images, found):
        distance = metrics.frechet_distance(label_free, features.label_free_features(images))
        _, recall = metrics.precision_recall(known[: len(found)], found)
        return {"label_free_distance": round(distance, 4), "recall": round(recall, 4)}

    for seed in range(record["seeds"]):
        for recipe in contenders:
            if (recipe.name, seed) in done:
                continue
            made, pictures = run(recipe, seed, dataset, seconds, real, record["samples"], more)
            rows += made
            if seed == 0:
                strips[recipe.name] = np.stack(pictures)
            kept = io.BytesIO()
            np.savez_compressed(kept, **strips)
            plots.write_whole(output / "strips.npz", kept.getvalue())
            columns = list(rows[-1])
            cells = [[row.get(column, "") for column in columns] for row in rows]
            write_csv(output / "race.csv", columns, cells)
            plots.save_figure(output / "race.png", show(rows))
            plots.save_figure(output / "strip.png", show_strip(rows, strips))
    return rows


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
    """FID-FMNIST of all contenders against seconds and epochs, on logarithmic axes, from rows of race.csv."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for number, name in enumerate(dict.fromkeys(row["contender"] for row in rows)):
        runs = {}
        for row in rows:
            if row["contender"] == name:
                runs.setdefault(row["seed"], []).append(row)
        points = min(map(len, runs.values()))
        for axis, key in zip(axes, ("seconds", "epochs"), strict=True):
            places = np.mean([[row[key] for row in one[:points]] for one in runs.values()], axis=0)
            values = np.array([[row["fid_fmnist"] for row in one[:points]] for one in runs.values()])
            color = COLORS[number % len(COLORS)]
            axis.plot(places, values.mean(0), STYLES[number % 4], color=color, marker=".", label=name)
            axis.fill_between(places, values.min(0), values.max(0), color=color, alpha=0.2)
    axes[0].set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="FID-FMNIST")
    axes[1].set(xscale="log", xlabel="epochs")
    axes[0].legend(frameon=False)
    for axis in axes:
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())  # on a short axis they would overlap
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def show_strip(rows, strips, moments=5):
    """Rows of ten images at equal times, contender by contender, at so many moments at most."""
    sheet, names = [], []
    for name, pictures in strips.items():
        times = [row["seconds"] for row in rows if row["contender"] == name and row["seed"] == 0]
        for index in np.unique(np.linspace(0, len(pictures) - 1, moments).round().astype(int)):
            sheet.append(pictures[index])
            names.append(f"{name} {times[index]:.0f} s")
    return plots.show_images(np.concatenate(sheet), columns=10, row_labels=names)
