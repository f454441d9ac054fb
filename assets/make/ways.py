"""The ways to bring the label into cgan that comparisons.py compares."""

import dataclasses

import keras
import tensorflow as tf
from keras import layers

from fmgan_tf import gan, losses, models, recipes

CGAN = dataclasses.replace(recipes.get("cgan"), batch_size=64, ema_decay=0.995)  # as in notebook 04
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
            pairs = (real_images, labels), (generated_images, labels), (real_images, other_labels(labels))
            real_logits, *rejected = (self.discriminator(pair, training=True) for pair in pairs)
            costs = [self.adversarial_loss.discriminator(real_logits, logits) for logits in rejected]
            discriminator_loss = (costs[0] + costs[1]) / 2
            generator_loss = self.adversarial_loss.generator(rejected[0])
        self.update(tape, discriminator_loss, generator_loss)
        return self.report(discriminator_loss, generator_loss, real_logits, rejected[0])


def build_auxiliary_discriminator():
    """Image and label to logit and class logits; it ignores the label (AC-GAN, Odena et al. 2017)."""
    image, label = models.image_and_label(28)
    found = models.build_image_features(1, 28)(image)
    return keras.Model([image, label], [layers.Dense(1)(found), layers.Dense(10)(found)])


def scale_labels(network, factor):
    """Makes what a network adds for the label start larger: its table, or the kernel over the label maps."""
    tables = [layer for layer in network.layers if isinstance(layer, layers.Embedding)]
    if tables:
        tables[0].set_weights([factor * tables[0].get_weights()[0]])
        return
    first = next(x for x in network.get_layer("image_features").layers if isinstance(x, layers.Conv2D))
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
    adam = (keras.optimizers.Adam(CGAN.generator_learning_rate, CGAN.beta_1, CGAN.beta_2) for _ in range(2))
    model.compile(*adam, losses.LOSSES["non_saturating" if way == "cross-entropy" else "hinge"])
    return model
