"""Trains the classifier on whose features FID-FMNIST is measured: python -m fmgan_tf.bench.classifier FOLDER

It sees the training images alone, moved by up to a pixel each way, and the test images once, after the last
step. No picture is mirrored: shoes point one way in this dataset, and the features must see when they do not.
It made what is in assets/classifier.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import keras
import tensorflow as tf
from sklearn.metrics import confusion_matrix

from fmgan_tf import InputError, data, fashion_mnist, models, plots
from fmgan_tf.runs.folder import RunError, save_model, versions, write_csv

RECIPE = {
    "name": "classifier",
    "filters": 32,  # depth of its first layer, see models.build_classifier
    "batch_size": 128,
    "epochs": 12,
    "learning_rate": 2e-3,  # of AdamW at its height; it rises over the first twelfth and falls as a cosine
    "weight_decay": 0.02,
    "shift": 1,  # pixels by which an image is moved, at most
}


def train(dataset, output, seed=0, verbose=2, **changes):
    """Trains a classifier into a folder: classifier.keras, history.csv, confusion.png and run.json, its
    content being returned, at the end. The seed is of weights, shifts and order; changes are other values
    than RECIPE's."""
    output, recipe = pathlib.Path(output), RECIPE | changes
    if (output / "run.json").exists():
        raise RunError(f"{output} holds a run already; choose another folder")
    output.mkdir(parents=True, exist_ok=True)
    images, labels = data.to_tanh_range(dataset.train_images), dataset.train_labels
    steps = recipe["epochs"] * (len(images) // recipe["batch_size"])
    keras.utils.set_random_seed(seed)
    model = models.build_classifier(recipe["filters"])
    peak = recipe["learning_rate"]
    warmup = {"warmup_target": peak, "warmup_steps": steps // 12}
    rate = keras.optimizers.schedules.CosineDecay(0.1 * peak, steps - steps // 12, **warmup)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe["weight_decay"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    batches = (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .shuffle(len(images), seed=seed)
        .batch(recipe["batch_size"], drop_remainder=True)
        .map(lambda batch, labels: (shift(batch, recipe["shift"]), labels))
        .prefetch(2)
    )
    start = time.perf_counter()
    history = model.fit(batches, epochs=recipe["epochs"], shuffle=False, verbose=verbose).history
    seconds = time.perf_counter() - start

    recognized = model.predict(data.to_tanh_range(dataset.test_images), batch_size=500, verbose=0).argmax(1)
    confusion = confusion_matrix(dataset.test_labels, recognized, labels=range(len(dataset.class_names)))
    bare = models.build_classifier(recipe["filters"])  # never compiled, so that no optimizer doubles the file
    bare.set_weights(model.get_weights())
    save_model(bare, output / "classifier.keras")
    rows = zip(range(1, recipe["epochs"] + 1), history["loss"], history["accuracy"], strict=True)
    write_csv(output / "history.csv", ("epoch", "loss", "accuracy"), rows)
    plots.save_figure(output / "confusion.png", plots.show_confusion(confusion, dataset.class_names))
    accuracies = (confusion.diagonal() / confusion.sum(1)).tolist()
    record = {"recipe": recipe, "seed": seed, "data": dataset.source, "versions": versions()}
    record |= {"cores": os.cpu_count(), "parameters": model.count_params(), "features": 4 * recipe["filters"]}
    record |= {"status": "complete", "seconds": round(seconds, 1)}
    record["test_accuracy"] = float((recognized == dataset.test_labels).mean())
    record["class_accuracy"] = dict(zip(dataset.class_names, accuracies, strict=True))
    plots.write_whole(output / "run.json", json.dumps(record, indent=2))
    return record


def shift(images, pixels):
    """Moves every image (batch, height, width, 1) in [-1, 1] by up to so many pixels, each its own way."""
    offsets = tf.random.uniform((tf.shape(images)[0], 2), -pixels, pixels + 1, tf.int32)
    return data.shift(images, offsets, pixels)


def main(arguments=None):
    """Runs the command line and returns its exit code: 0 or 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="fmgan_tf.bench.classifier", description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path, help="folder to train into")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args(arguments)
    try:
        record = train(fashion_mnist.load(), arguments.output, arguments.seed)
    except (InputError, OSError) as error:
        print(f"fmgan_tf.bench.classifier: {error}", file=sys.stderr)
        return 2
    print(f"Complete: {record['seconds']:.0f} s, {record['test_accuracy']:.2%} of the test images recognized")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
