"""The comparisons that notebook 04 quotes: python tests/compare.py {conditionings,rates} OUTPUT.csv

conditionings: ways to bring the label into cgan, as many steps each, five seeds each. Before that, how large
    the label's part of each of the three discriminators starts is chosen by runs of another seed, on training
    images.
rates: dense-cgan with three learning rates for either network, nine pairs, three seeds each.

Every run is a line of OUTPUT.csv as soon as it ends; the runs that the file has already are left out. The
first takes one to two hours, the second half an hour. Nothing depends on how fast a machine is.
"""

import argparse
import csv
import dataclasses
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fmgan_tf import data, fashion_mnist, features, gan, generation, losses, metrics, models, recipes
from fmgan_tf.runs import training

# The settings of notebook 04; the recipes have gone further
CGAN = dataclasses.replace(recipes.get("cgan"), batch_size=64, ema_decay=0.995)
DENSE = dataclasses.replace(recipes.get("dense-cgan"), batch_size=256, ema_decay=0.995)
STEPS, EPOCHS = 1000, 10
SEEDS, TUNING_SEED = range(5), 100
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)  # the label's part of a discriminator starts so many times as large
RATES = (1e-4, 4e-4, 1.6e-3)
SAMPLES = 10_000
BUILDERS = {
    "concatenating": models.build_concatenating_discriminator,
    "label maps": models.build_label_map_discriminator,
    "projection": models.build_projection_discriminator,
}
# Each is projection with that one change
CHANGES = ("loud labels", "no labels", "mismatched pairs", "cross-entropy", "auxiliary classifier")


def other_labels(labels):
    """For each of a batch of labels another class, each of the nine others about as often."""
    return (labels + 1 + tf.range(labels.shape[0], dtype=labels.dtype) % 9) % 10


class MismatchedGAN(gan.ConditionalGAN):
    """The discriminator also sees real images with the label of another class, and is to reject them."""

    def train_step(self, batch):
        real_images, labels = batch
        with tf.GradientTape(persistent=True) as tape:
            generated_images = self.generator([self.noise(real_images.shape[0]), labels], training=True)
            real_logits, generated_logits, mismatched_logits = (
                self.discriminator(pair, training=True)
                for pair in (
                    (real_images, labels),
                    (generated_images, labels),
                    (real_images, other_labels(labels)),
                )
            )
            rejected = [
                self.adversarial_loss.discriminator(real_logits, x)
                for x in (generated_logits, mismatched_logits)
            ]
            discriminator_loss = (rejected[0] + rejected[1]) / 2
            generator_loss = self.adversarial_loss.generator(generated_logits)
        self.update(tape, discriminator_loss, generator_loss)
        return self.report(discriminator_loss, generator_loss, real_logits, generated_logits)


def build_auxiliary_discriminator():
    """Image and label to logit and class logits; it ignores the label (AC-GAN, Odena et al. 2017)."""
    image, label = models.label_and_image(28)
    found = models.build_judge(1, 28)(image)
    return keras.Model([image, label], [layers.Dense(1)(found), layers.Dense(10)(found)])


def scale_labels(network, factor):
    """Makes what a network adds for the label start larger: its table, or the kernel over the label maps."""
    tables = [layer for layer in network.layers if isinstance(layer, layers.Embedding)]
    if tables:
        tables[0].set_weights([factor * tables[0].get_weights()[0]])
    else:
        first = next(layer for layer in network.get_layer("judge").layers if isinstance(layer, layers.Conv2D))
        kernel, bias = first.get_weights()
        kernel[:, :, 1:] *= factor
        first.set_weights([kernel, bias])


def game(way, factor, seed):
    """A compiled gan.ConditionalGAN of notebook 04, changed as the way says."""
    keras.utils.set_random_seed(seed)
    generator = models.build_cgan_generator(CGAN.latent_dim)
    discriminator = BUILDERS.get(way, models.build_projection_discriminator)()
    scale_labels(discriminator, factor)
    if way == "loud labels":
        scale_labels(generator, 10.0)
    if way == "auxiliary classifier":
        discriminator = build_auxiliary_discriminator()
    kind = MismatchedGAN if way == "mismatched pairs" else gan.ConditionalGAN
    model = kind(generator, discriminator, label_weight=1.0, ema_decay=CGAN.ema_decay, seed=seed)
    optimizers = [
        keras.optimizers.Adam(CGAN.generator_learning_rate, CGAN.beta_1, CGAN.beta_2) for _ in range(2)
    ]
    model.compile(*optimizers, losses.LOSSES["non_saturating" if way == "cross-entropy" else "hinge"])
    return model


def measured(real, model, asked, seed, to_pixels):
    """The figures of a trained model's averaged generator against real images, dict."""
    noise = generation.sample_noise(seed + 100, len(asked), model.latent_dim)
    images = to_pixels(model.averaged_generator.predict([noise, asked], batch_size=250, verbose=0))
    (real_features, _), (found, recognized) = (
        features.classifier_features(real),
        features.classifier_features(images),
    )
    second_opinion = [features.label_free_features(side) for side in (real, images)]
    return {
        "fid_fmnist": round(metrics.frechet_distance(real_features, found), 3),
        "label_free": round(metrics.frechet_distance(*second_opinion), 3),
        "recall": round(metrics.precision_recall(real_features, found)[1], 4),
        "label_agreement": round(metrics.label_agreement(asked, recognized)[0], 4),
    }


def favorite_label(discriminator, dataset, count=2000):
    """How often the label that a discriminator likes best on a real test image is the right one: 0 to 1."""
    images, labels = data.to_tanh_range(dataset.test_images[:count]), dataset.test_labels[:count]
    if len(discriminator.outputs) == 2:
        verdicts = discriminator.predict([images, labels], verbose=0)[1]
    else:
        asked = [np.full(count, label) for label in range(10)]
        verdicts = np.hstack([discriminator.predict([images, label], verbose=0) for label in asked])
    return round(float(np.mean(verdicts.argmax(1) == labels)), 4)


def conditionings(dataset, keep):
    """Trains what BUILDERS and CHANGES name. keep(row, run, *arguments) runs what is missing, returns all."""
    images = data.to_tanh_range(dataset.train_images)
    watched = dataset.train_images[np.random.default_rng(0).permutation(len(images))[:SAMPLES]]

    def run(way, factor, seed, real):
        model = game(way, factor, seed)
        labels = np.zeros_like(dataset.train_labels) if way == "no labels" else dataset.train_labels
        stream = data.batches(images, CGAN.batch_size, seed, labels=labels)
        model.fit(stream, steps_per_epoch=STEPS, shuffle=False, verbose=0)
        asked = np.zeros(SAMPLES, int) if way == "no labels" else np.arange(SAMPLES) % 10
        figures = measured(real, model, asked, seed, data.from_tanh_range)
        return figures | {"favorite_label": favorite_label(model.discriminator, dataset)}

    factors = {}
    for way in BUILDERS:
        for factor in FACTORS:
            row = {"purpose": "tuning", "way": way, "factor": factor, "seed": TUNING_SEED, "steps": STEPS}
            rows = keep(row, run, way, factor, TUNING_SEED, watched)
        tuned = [row for row in rows if row["purpose"] == "tuning" and row["way"] == way]
        factors[way] = float(min(tuned, key=lambda row: float(row["fid_fmnist"]))["factor"])
    for seed in SEEDS:
        for way in (*BUILDERS, *CHANGES):
            factor = factors.get(way, factors["projection"])
            row = {"purpose": "comparison", "way": way, "factor": factor, "seed": seed, "steps": STEPS}
            keep(row, run, way, factor, seed, dataset.test_images)


def rates(dataset, keep):
    """Trains dense-cgan with every pair of RATES, like conditionings."""
    dataset, *_ = data.parts(dataset, DENSE.classes)
    images = data.to_unit_range(dataset.train_images)
    asked = np.repeat([0, 1], len(dataset.test_images) // 2)

    def run(generator_rate, discriminator_rate, seed):
        chosen = {
            "generator_learning_rate": generator_rate,
            "discriminator_learning_rate": discriminator_rate,
        }
        model = training.build_gan(dataclasses.replace(DENSE, **chosen), seed)
        stream = data.batches(images, DENSE.batch_size, seed, labels=dataset.train_labels)
        steps = len(images) // DENSE.batch_size
        model.fit(stream, epochs=EPOCHS, steps_per_epoch=steps, shuffle=False, verbose=0)
        return measured(dataset.test_images, model, asked, seed, data.from_unit_range)

    for seed in range(3):
        for generator_rate in RATES:
            for discriminator_rate in RATES:
                row = {
                    "generator_rate": generator_rate,
                    "discriminator_rate": discriminator_rate,
                    "seed": seed,
                }
                keep(row, run, generator_rate, discriminator_rate, seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("conditionings", "rates"))
    parser.add_argument("output", type=pathlib.Path)
    arguments = parser.parse_args()
    rows = []
    if arguments.output.exists():
        with open(arguments.output, newline="") as file:
            rows = list(csv.DictReader(file))

    def keep(row, run, *run_arguments):
        if not any(all(kept[name] == str(value) for name, value in row.items()) for kept in rows):
            rows.append({name: str(value) for name, value in (row | run(*run_arguments)).items()})
            print(rows[-1], flush=True)
            with open(arguments.output, "w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        return rows

    {"conditionings": conditionings, "rates": rates}[arguments.what](fashion_mnist.load(), keep)


if __name__ == "__main__":
    main()
