"""Trains the label-free extractor, a second opinion: python -m fmgan_tf.bench.label_free FOLDER

An autoencoder on the training images alone: a network squeezes each to 64 numbers, another rebuilds it from
them, and both minimize the mean squared error of pixels. No label is used and no image is moved or mirrored.
The first network is kept. It made what is in assets/label-free.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import keras
from keras import layers
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fmgan_tf import InputError, data, fashion_mnist, plots
from fmgan_tf.runs.folder import RunError, save_model, versions

RECIPE = {"name": "label-free", "features": 64, "batch_size": 128, "epochs": 12, "learning_rate": 2e-3}
PROBE_IMAGES = 10_000


def build_encoder(features=64):
    """Image to features: three strided convolutions and a dense layer, half of an autoencoder.

    Returns:
        keras.Model, float32 (batch, 28, 28, 1) in [-1, 1] -> (batch, features), of 164,576 parameters.
    """
    image = x = keras.Input((28, 28, 1), name="image")
    for filters in (32, 64, 64):
        x = layers.Conv2D(filters, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    return keras.Model(image, layers.Dense(features, name="features")(layers.Flatten()(x)), name="encoder")


def build_decoder(features=64):
    """Features to image, the other half: float32 (batch, features) -> (batch, 28, 28, 1) in [-1, 1]."""
    code = keras.Input((features,), name="features")
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(7 * 7 * 64)(code))
    x = layers.Reshape((7, 7, 64))(x)
    for filters in (32, 16):
        x = layers.Conv2DTranspose(filters, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    image = layers.Conv2D(1, 3, padding="same", activation="tanh", name="image")(x)
    return keras.Model(code, image, name="decoder")


def train(dataset, output, seed=0, verbose=2, **changes):
    """Trains into a folder: encoder.keras and run.json, whose content it returns. The seed is of weights and
    order; changes are other values than RECIPE's. The record also says how many of the test images a linear
    classifier of the features recognizes: it shows what they hold, and shapes nothing."""
    output, recipe = pathlib.Path(output), RECIPE | changes
    if (output / "run.json").exists():
        raise RunError(f"{output} holds a run already; choose another folder")
    output.mkdir(parents=True, exist_ok=True)
    images = data.to_tanh_range(dataset.train_images)
    keras.utils.set_random_seed(seed)
    encoder, decoder = build_encoder(recipe["features"]), build_decoder(recipe["features"])
    model = keras.Model(encoder.input, decoder(encoder.output))
    steps = recipe["epochs"] * -(-len(images) // recipe["batch_size"])
    rate = keras.optimizers.schedules.CosineDecay(recipe["learning_rate"], steps)
    model.compile(keras.optimizers.Adam(rate), "mse")
    start = time.perf_counter()
    history = model.fit(
        images, images, batch_size=recipe["batch_size"], epochs=recipe["epochs"], verbose=verbose
    ).history
    seconds = time.perf_counter() - start

    def features(images):
        return encoder.predict(data.to_tanh_range(images), batch_size=500, verbose=0)

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    probe.fit(features(dataset.train_images[:PROBE_IMAGES]), dataset.train_labels[:PROBE_IMAGES])
    save_model(encoder, output / "encoder.keras")
    record = {"recipe": recipe, "seed": seed, "data": dataset.source, "versions": versions()}
    record |= {"cores": os.cpu_count(), "parameters": encoder.count_params(), "status": "complete"}
    record |= {"seconds": round(seconds, 1), "squared_error": history["loss"][-1]}
    record["linear_probe_accuracy"] = float(probe.score(features(dataset.test_images), dataset.test_labels))
    plots.write_whole(output / "run.json", json.dumps(record, indent=2))
    return record


def main(arguments=None):
    """Runs the command line and returns its exit code: 0 or 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="fmgan_tf.bench.label_free", description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path, help="folder to train into")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args(arguments)
    try:
        record = train(fashion_mnist.load(), arguments.output, arguments.seed)
    except (InputError, OSError) as error:
        print(f"fmgan_tf.bench.label_free: {error}", file=sys.stderr)
        return 2
    print(f"Complete: {record['seconds']:.0f} s, mean squared error {record['squared_error']:.4f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
