"""Train the classifier on whose features FID-FMNIST is measured."""

import dataclasses
import json
import math
import os
import pathlib
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from fmgan_tf import data, models, plots
from fmgan_tf.training import RunError, save_model, versions, write_csv


def train(recipe, dataset, output, seed=0, epochs=None, minutes=None, verbose=True):
    """Trains a classifier on the training images into a folder; the test images are seen once, after the last step.

    The folder then holds classifier.keras (without the optimizer), history.csv (training loss and accuracy), confusion.png
    and run.json. Nothing is written before the end.

    Args:
        recipe: recipes.ClassifierRecipe.
        dataset: data.FashionMNIST.
        output: path of the run folder, made if need be.
        seed: int, of weights, shifts and the order of the images.
        epochs, minutes: how long, the learning rate fitted to it; at most one. Without both, the recipe's epochs.
        verbose: print progress.

    Returns:
        dict, the content of run.json.

    Raises:
        RunError: the folder holds a run already.
    """
    output = pathlib.Path(output)
    if (output / "run.json").exists():
        raise RunError(f"{output} holds a run already; choose another folder (--output).")
    output.mkdir(parents=True, exist_ok=True)
    if epochs is None and minutes is None:
        epochs = recipe.epochs
    images, labels = data.to_tanh_range(dataset.train_images), dataset.train_labels
    steps = len(images) // recipe.batch_size
    if not steps:
        raise RunError(f"batch_size is {recipe.batch_size}, expected at most {len(images)}, the number of images")
    keras.utils.set_random_seed(seed)
    model = models.build_classifier(recipe.filters)
    model.compile(
        keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    batches = (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .shuffle(len(images), seed=seed)
        .batch(recipe.batch_size, drop_remainder=True)
        .map(lambda batch, labels: (shift(batch, recipe.shift), labels))
        .prefetch(2)
    )
    schedule = _Schedule(recipe.learning_rate, steps, epochs, minutes, verbose)
    start = time.perf_counter()
    history = model.fit(
        batches,
        epochs=epochs if epochs is not None else sys.maxsize,
        shuffle=False,
        verbose=0,
        callbacks=[schedule],
    ).history
    seconds = time.perf_counter() - start

    recognised = model.predict(data.to_tanh_range(dataset.test_images), batch_size=500, verbose=0).argmax(1)
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (dataset.test_labels, recognised), 1)
    bare = models.build_classifier(recipe.filters)  # never compiled, so that no optimizer doubles the file
    bare.set_weights(model.get_weights())
    save_model(bare, output / "classifier.keras")
    write_csv(
        output / "history.csv",
        ("epoch", "loss", "accuracy"),
        [[epoch + 1, *row] for epoch, row in enumerate(zip(history["loss"], history["accuracy"], strict=True))],
    )
    plots.save_figure(output / "confusion.png", plots.show_confusion(confusion, data.CLASS_NAMES))
    record = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "epochs": epochs,
        "minutes": minutes,
        "data": dataset.source,
        "versions": versions(),
        "cores": os.cpu_count(),
        "parameters": model.count_params(),
        "features": 4 * recipe.filters,
        "status": "complete",
        "seconds": round(seconds, 1),
        "test_accuracy": float((recognised == dataset.test_labels).mean()),
        "class_accuracy": dict(zip(data.CLASS_NAMES, (confusion.diagonal() / confusion.sum(1)).tolist(), strict=True)),
    }
    plots.write_whole(output / "run.json", json.dumps(record, indent=2))
    return record


def shift(images, pixels):
    """Moves every image of a batch by up to so many pixels, each its own way, see data.shift.

    Args:
        images: float32 (batch, height, width, 1) in [-1, 1].
        pixels: int.

    Returns:
        float32 of the same shape.
    """
    offsets = tf.random.uniform((tf.shape(images)[0], 2), -pixels, pixels + 1, tf.int32)
    return data.shift(images, offsets, pixels)


class _Schedule(keras.callbacks.Callback):
    """The learning rate, fitted to epochs or minutes: up over the first twelfth, down as a cosine. Prints progress."""

    def __init__(self, learning_rate, steps_per_epoch, epochs, minutes, verbose):
        super().__init__()
        self.learning_rate, self.steps_per_epoch, self.verbose = learning_rate, steps_per_epoch, verbose
        self.epochs, self.minutes, self.step = epochs, minutes, 0
        self.started = self.printed = time.perf_counter()

    def progress(self):
        if self.minutes is not None:
            return min(1.0, (time.perf_counter() - self.started) / (60 * self.minutes))
        return self.step / (self.epochs * self.steps_per_epoch)

    def on_train_batch_begin(self, batch, logs=None):
        progress = self.progress()
        rising = 0.1 + 0.9 * 12 * progress
        falling = 0.5 + 0.5 * math.cos(math.pi * (12 * progress - 1) / 11)
        self.model.optimizer.learning_rate = self.learning_rate * (rising if progress < 1 / 12 else falling)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.minutes is not None and self.progress() >= 1:
            self.model.stop_training = True
        if self.verbose and time.perf_counter() - self.printed > 10:
            self.print_progress(f"step {self.step:,}", logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.verbose:
            self.print_progress(f"epoch {epoch + 1}" + (f"/{self.epochs}" if self.epochs else ""), logs)

    def print_progress(self, where, logs):
        self.printed = time.perf_counter()
        print(
            f"{self.progress():4.0%}  {self.printed - self.started:5.0f} s  {where:<14}  loss {logs['loss']:.3f}   "
            f"training accuracy {logs['accuracy']:.1%}",
            flush=True,
        )
