"""How well a network recognizes real images that was trained on others alone, until it stops improving.

python -m fmgan_tf.bench.accuracy real --output assets/accuracy/real.json         # the yardstick
python -m fmgan_tf.bench.accuracy runs/cgan --output assets/accuracy/cgan.json

SOURCE is real (the training images) or what `generate` takes, of a conditional generator: as many fresh
images, equally many of every class.

Source of the score: Ravuri and Vinyals 2019, https://arxiv.org/abs/1905.10887.
"""

import argparse
import json
import pathlib
import sys
import time

import keras
import numpy as np
from keras import layers

from fmgan_tf import InputError, data, fashion_mnist, plots
from fmgan_tf.runs import sources
from fmgan_tf.runs.folder import versions

IMAGES = 60_000
PATIENCE = 3  # epochs without a lower loss on the tenth of its images that it is not trained on
MOST_EPOCHS = 40


def build_network(classes=10):
    """Two convolutions with pooling and two dense layers: float32 (batch, 28, 28, 1) in [-1, 1] -> logits
    (batch, classes)."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.4),
            layers.Dense(classes),
        ]
    )


def train(images, labels, dataset, seed=0, most_epochs=MOST_EPOCHS):
    """Trains on uint8 (N, 28, 28, 1) and int (N,): a dict of the accuracy on the test images, 0 to 1, of the
    epochs and of the seconds that it took."""
    start = time.perf_counter()
    keras.utils.set_random_seed(seed)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels, tenth = data.to_tanh_range(images[order]), labels[order], len(images) // 10
    model = build_network(len(dataset.class_names))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    patience = keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True)
    history = model.fit(
        images[tenth:],
        labels[tenth:],
        batch_size=128,
        epochs=most_epochs,
        validation_data=(images[:tenth], labels[:tenth]),
        callbacks=[patience],
        verbose=2,
    )
    logits = model.predict(data.to_tanh_range(dataset.test_images), batch_size=500, verbose=0)
    accuracy = float((logits.argmax(1) == dataset.test_labels).mean())
    epochs = len(history.history["loss"])
    return {
        "seed": seed,
        "accuracy": accuracy,
        "epochs": epochs,
        "seconds": round(time.perf_counter() - start),
    }


def score(source, dataset, seeds=2, count=IMAGES, most_epochs=MOST_EPOCHS):
    """The record of a source, see above: its name, count, and what train() says of every seed, with their
    mean and, in "spread", the highest less the lowest accuracy."""
    name = source
    if source == "real":
        images, labels = dataset.train_images[:count], dataset.train_labels[:count]
    else:
        source = sources.find(source)
        name = source.recipe.name if source.recipe else pathlib.Path(source.name).name
        labels = None
        if source.recipe is None or source.recipe.conditional:
            images, labels = sources.draw(source, count, seed=0)[:2]
        if labels is None:
            raise InputError(f"{name} takes no labels; expected a conditional generator")
    runs = [train(images, labels, dataset, seed, most_epochs) for seed in range(seeds)]
    accuracies = [run["accuracy"] for run in runs]
    record = {"source": name, "images": len(images), "accuracy": float(np.mean(accuracies))}
    record |= {"spread": max(accuracies) - min(accuracies), "runs": runs}
    return record | {"data": dataset.source, "versions": versions()}


def main(arguments=None):
    """Runs the command line and returns its exit code: 0 or 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="fmgan_tf.bench.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("source", help="real, or a conditional generator")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON file to write")
    arguments = parser.parse_args(arguments)
    try:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        command = f"python -m fmgan_tf.bench.accuracy {arguments.source} --output {arguments.output}"
        record = {"command": command} | score(arguments.source, fashion_mnist.load())
        plots.write_whole(arguments.output, json.dumps(record, indent=2))
    except (InputError, OSError) as error:
        print(f"fmgan_tf.bench.accuracy: {error}", file=sys.stderr)
        return 2
    print(f"{record['source']}: {record['accuracy']:.2%}, spread {record['spread']:.2%} over the seeds")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
