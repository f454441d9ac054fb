"""What the two networks minimize. Each loss is a pair of pure functions of logits, and perhaps a penalty.

The discriminator gives one logit per image; sigmoid(logit) is its probability that the image is real. With
softplus(x) = log(1 + exp(x)), the two logarithms of the minimax game are

    -log D(x)       = softplus(-logit)
    -log(1 - D(x))  = softplus(logit)

which never overflow, where log(sigmoid(logit)) would. All functions take float logits (batch, 1) and return a
float scalar.

Sources: equation 1 and section 3 of Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661; for hinge Lim
and Ye 2017, https://arxiv.org/abs/1705.02894, and Miyato et al. 2018, equation 17,
https://arxiv.org/abs/1802.05957.
"""

from typing import Callable, NamedTuple

import keras
import tensorflow as tf

DAMPING = 0.3  # weight of the squares in damped_hinge_discriminator
GAMMA = 0.1  # weight of the zero-centered penalty, for pixels in [-1, 1]


class Loss(NamedTuple):
    """One adversarial loss: discriminator(real_logits, generated_logits), generator(generated_logits), and
    perhaps penalty(judge, real_images, generated_images), which is added to the discriminator's loss;
    judge(images) gives its logits, float (batch, 1)."""

    discriminator: Callable
    generator: Callable
    penalty: Callable | None = None


def cross_entropy_discriminator(real_logits, generated_logits):
    """Binary cross-entropy, target 1 for real and 0 for generated images: -E log D(x) - E log(1 - D(G(z))).
    At least 0; 2 ln 2 = 1.386 where the discriminator always says 1/2."""
    real, generated = keras.ops.softplus(-real_logits), keras.ops.softplus(generated_logits)
    return keras.ops.mean(real) + keras.ops.mean(generated)


def non_saturating_generator(generated_logits):
    """Binary cross-entropy of generated images with the target "real": -E log D(G(z)). At least 0; ln 2 =
    0.693 where the discriminator always says 1/2."""
    return keras.ops.mean(keras.ops.softplus(-generated_logits))


def minimax_generator(generated_logits):
    """What the minimax game asks of the generator: E log(1 - D(G(z))). Its gradient vanishes where D wins.
    At most 0; -ln 2 = -0.693 where the discriminator always says 1/2."""
    return -keras.ops.mean(keras.ops.softplus(generated_logits))


def hinge_discriminator(real_logits, generated_logits):
    """Hinge loss: E max(0, 1 - logit) over real plus E max(0, 1 + logit) over generated images.

    At least 0; 2 where all logits are 0. A logit beyond 1 on the right side teaches nothing: the
    discriminator works on what it gets wrong. Its sigmoid still orders images, but is no probability.
    """
    real, generated = keras.ops.relu(1.0 - real_logits), keras.ops.relu(1.0 + generated_logits)
    return keras.ops.mean(real) + keras.ops.mean(generated)


def damped_hinge_discriminator(real_logits, generated_logits):
    """Hinge loss plus DAMPING times the mean square of the logits of real and of generated images.

    At least 0; 2 where all logits are 0. Where real images have density p and generated ones q, the best
    logit is (p - q) / (2 DAMPING (p + q)), clipped to [-1, 1]; that of the hinge loss is the sign of p - q.

    Source: the drift term of Karras et al. 2018, appendix A.1, https://arxiv.org/abs/1710.10196, which is
    of real images alone and weighs 0.001.
    """
    real, generated = keras.ops.square(real_logits), keras.ops.square(generated_logits)
    squares = keras.ops.mean(real) + keras.ops.mean(generated)
    return hinge_discriminator(real_logits, generated_logits) + DAMPING * squares


def hinge_generator(generated_logits):
    """The generator's loss against a hinge discriminator: -E logit. Of any sign; 0 where all logits are 0."""
    return -keras.ops.mean(generated_logits)


def zero_centered_penalty(judge, real_images, generated_images):
    """GAMMA / 2 times the mean squared norm of the slope of the logits at the real images: at least 0; 0
    where the discriminator is flat there, as it is at the equilibrium.

    Source: R1 of Mescheder et al. 2018, equation 9, https://arxiv.org/abs/1801.04406.
    """
    with tf.GradientTape() as tape:
        tape.watch(real_images)
        logits = judge(real_images)
    slope = tape.gradient(logits, real_images)  # the shape of the images
    return GAMMA / 2 * keras.ops.sum(keras.ops.square(slope)) / slope.shape[0]


LOSSES = {
    "non_saturating": Loss(cross_entropy_discriminator, non_saturating_generator),
    "non_saturating_r1": Loss(cross_entropy_discriminator, non_saturating_generator, zero_centered_penalty),
    "minimax": Loss(cross_entropy_discriminator, minimax_generator),
    "hinge": Loss(hinge_discriminator, hinge_generator),
    "damped_hinge": Loss(damped_hinge_discriminator, hinge_generator),
}


def chance_losses(name):
    """The (discriminator's, generator's) loss, a key of LOSSES, where the discriminator guesses: all logits
    are 0 then. Guessing the class costs either network label_weight * ln(classes) more."""
    zero = keras.ops.zeros((1, 1))
    loss = LOSSES[name]
    return float(loss.discriminator(zero, zero)), float(loss.generator(zero))
