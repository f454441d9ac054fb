"""How well a network recognizes real images that was trained on others alone, until it stops improving.

python assets/make/accuracy.py real --output assets/accuracy/real.json  # the yardstick: training images
python assets/make/accuracy.py cgan --output assets/accuracy/cgan.json

Of a conditional generator as many fresh images are drawn, equally many of every class; images with labels are
taken as they are. Source of the score: Ravuri and Vinyals 2019, https://arxiv.org/abs/1905.10887.
"""

import json
import pathlib
import time

import keras
import numpy as np
import script
from keras import layers

from fmgan_tf import InputError, data, datasets, write_whole
from fmgan_tf.runs import sources
from fmgan_tf.runs.folder import versions

IMAGES = 60_000
PATIENCE = 3  # epochs without a lower loss on the tenth of its images that it is not trained on
MOST_EPOCHS = 40


def build_network(classes=10):
    """Two convolutions with pooling and two dense layers: float32 (batch, 28, 28, 1) in [-1, 1] -> logits
    (batch, classes)."""
    convolution = {"kernel_size": 3, "padding": "same", "activation": "relu"}
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, **convolution),
            layers.MaxPooling2D(),
            layers.Conv2D(64, **convolution),
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
    history = model.fit(
        images[tenth:],
        labels[tenth:],
        batch_size=128,
        epochs=most_epochs,
        validation_data=(images[:tenth], labels[:tenth]),
        callbacks=[keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True)],
        verbose=2,
    )
    logits = model.predict(data.to_tanh_range(dataset.test_images), batch_size=500, verbose=0)
    accuracy = float((logits.argmax(1) == dataset.test_labels).mean())
    epochs, seconds = len(history.history["loss"]), round(time.perf_counter() - start)
    return {"seed": seed, "accuracy": accuracy, "epochs": epochs, "seconds": seconds}


def draw(name, dataset, count):
    """(images, labels) of a source; InputError, before an image is made, where it has no labels."""
    if name == "real":
        return dataset.train_images[:count], dataset.train_labels[:count]
    source = sources.open(name)
    if not (source.labels() if source.images is None else source.given is not None):
        raise InputError(f"{name} has no labels; expected a conditional generator, or images with labels")
    return source.sample(count, seed=0)


def score(name, dataset, seeds=2, count=IMAGES, most_epochs=MOST_EPOCHS):
    """The record of a source: what train() says of every seed, with their mean and, in "spread", the highest
    less the lowest accuracy."""
    images, labels = draw(name, dataset, count)
    runs = [train(images, labels, dataset, seed, most_epochs) for seed in range(seeds)]
    accuracies = [run["accuracy"] for run in runs]
    record = {"source": pathlib.Path(name).name, "images": len(images)}
    record |= {"accuracy": float(np.mean(accuracies)), "spread": max(accuracies) - min(accuracies)}
    return record | {"runs": runs, "data": dataset.source, "versions": versions()}


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="real, or a source with labels")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    command = f"python assets/make/accuracy.py {arguments.source} --output {arguments.output}"
    record = {"command": command} | score(arguments.source, datasets.load())
    write_whole(arguments.output, json.dumps(record, indent=2))
    print(f"{record['source']}: {record['accuracy']:.2%}, spread {record['spread']:.2%} over the seeds")


if __name__ == "__main__":
    script.run(main)
