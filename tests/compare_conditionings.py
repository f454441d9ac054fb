"""Ways to condition cgan against each other: python tests/compare_conditionings.py OUTPUT.csv [--steps 2000]

Trains cgan with each of the three discriminators, and with label vectors ten times as loud in the generator,
for as many steps, three seeds each. Writes FID-FMNIST (10,000 images against the test images), recall
(likewise) and label agreement. Takes about twelve minutes on two cores.
"""

import argparse
import csv
import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np

from fmgan_tf import data, fashion_mnist, features, generation, metrics, recipes
from fmgan_tf.runs import training

WAYS = {  # name: builder of the discriminator, and how many times as loud the generator's label vectors start
    "concatenating": ("build_concatenating_discriminator", 1),
    "label maps": ("build_label_map_discriminator", 1),
    "projection": ("build_projection_discriminator", 1),
    "projection, loud labels": ("build_projection_discriminator", 10),
}
SAMPLES = 10_000
NOTEBOOK_04 = dataclasses.replace(  # the network that notebook 04 trains; the recipe has gone further
    recipes.get("cgan"),
    generator="build_cgan_generator",
    batch_size=64,
    shift=0,
    label_weight=0.0,
    ema_decay=0.995,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("--steps", type=int, default=2000)
    arguments = parser.parse_args()
    fashion = fashion_mnist.load()
    images = data.to_tanh_range(fashion.train_images)
    real, _ = features.classifier_features(fashion.test_images)
    asked = np.arange(SAMPLES) % 10
    rows = []
    for seed in range(3):
        for name, (discriminator, loudness) in WAYS.items():
            recipe = dataclasses.replace(NOTEBOOK_04, discriminator=discriminator)
            model = training.build_gan(recipe, seed)
            for network in (model.generator, model.averaged_generator):
                (table,) = [layer for layer in network.layers if isinstance(layer, keras.layers.Embedding)]
                table.set_weights([loudness * weight for weight in table.get_weights()])
            stream = data.batches(images, recipe.batch_size, seed, labels=fashion.train_labels)
            model.fit(stream, steps_per_epoch=arguments.steps, shuffle=False, verbose=0)
            noise = generation.sample_noise(seed + 100, SAMPLES, recipe.latent_dim)
            generated = model.averaged_generator.predict([noise, asked], batch_size=250, verbose=0)
            found, recognized = features.classifier_features(data.from_tanh_range(generated))
            row = {"way": name, "seed": seed, "steps": arguments.steps}
            row["fid_fmnist"] = round(metrics.frechet_distance(real, found), 3)
            row["recall"] = round(metrics.precision_recall(real, found)[1], 3)
            row["label_agreement"] = round(metrics.label_agreement(asked, recognized)[0], 4)
            rows.append(row)
            print(row, flush=True)
    with open(arguments.output, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
