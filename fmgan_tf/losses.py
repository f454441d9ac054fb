"""What the two networks minimize. Each loss is a pair of pure functions of logits, and perhaps a penalty.

The discriminator gives one logit per image; sigmoid(logit) is its probability that the image is real. With
softplus(x) = log(1 + exp(x)), the two logarithms of the minimax game are

    -log D(x)       = softplus(-logit)
    -log(1 - D(x))  = softplus(logit)

which never overflow, where log(sigmoid(logit)) would. All functions take float logits (batch, 1) and return a
float scalar.

Sources: equation 1 and section 3 of Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661; for hinge Lim
and Ye 2017, https://arxiv.org/abs/1705.02894, and Miyato et al. 2018, equation 17,
https://arxiv.org/abs/1802.05957. Notebook 08 compares them all.
"""

from typing import Callable, NamedTuple

import keras
import tensorflow as tf

DAMPING = 0.3  # weight of the squares in damped_hinge_discriminator
GAMMA = 0.1  # weight of the zero-centered penalties, for pixels in [-1, 1]
LAMBDA = 10.0  # weight of unit_slope_penalty
CLIP = 0.01  # how large a weight of a clipped discriminator may be


class Loss(NamedTuple):
    """One adversarial loss: discriminator(real_logits, generated_logits), generator(generated_logits), and
    perhaps

    penalty(judge, real_images, generated_images): added to the discriminator's loss; judge(images) gives its
        logits, float (batch, 1).
    paired: both functions get, in the place of logits, by how much those of an image are above those of its
        neighbor in the other batch, see compare().
    constraint(weight): what every weight of the discriminator becomes after its step.
    """

    discriminator: Callable
    generator: Callable
    penalty: Callable | None = None
    paired: bool = False
    constraint: Callable | None = None

    def compare(self, real_logits, generated_logits):
        """What the two functions take, in the order of the arguments."""
        if self.paired:
            return real_logits - generated_logits, generated_logits - real_logits
        return real_logits, generated_logits


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


def least_squares_discriminator(real_logits, generated_logits):
    """Squares, target 1 for real and -1 for generated images. At least 0; 2 where all logits are 0.

    Source: Mao et al. 2017, equation 8 with a = -1, b = 1, c = 0, and twice as large,
    https://arxiv.org/abs/1611.04076.
    """
    real, generated = keras.ops.square(real_logits - 1.0), keras.ops.square(generated_logits + 1.0)
    return keras.ops.mean(real) + keras.ops.mean(generated)


def least_squares_generator(generated_logits):
    """Squares of generated images, target 0, halfway: at least 0. Source: as for its discriminator."""
    return keras.ops.mean(keras.ops.square(generated_logits))


def wasserstein_discriminator(real_logits, generated_logits):
    """-E logit of real plus E logit of generated images, of any sign. Where the logits' slope is at most 1
    everywhere, its lowest value is minus the Wasserstein distance of the two sets of images.

    Source: Arjovsky et al. 2017, equation 2, https://arxiv.org/abs/1701.07875. Its generator's loss is
    hinge_generator.
    """
    return keras.ops.mean(generated_logits) - keras.ops.mean(real_logits)


def clip_weight(weight):
    """A weight, any shape, clipped to [-CLIP, CLIP]. Source: Arjovsky et al. 2017, algorithm 1."""
    return keras.ops.clip(weight, -CLIP, CLIP)


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


def zero_centered_penalties(judge, real_images, generated_images):
    """zero_centered_penalty at the real and at the generated images: R1 + R2 of the same source."""
    real = zero_centered_penalty(judge, real_images, None)
    return real + zero_centered_penalty(judge, tf.stop_gradient(generated_images), None)


def unit_slope_penalty(judge, real_images, generated_images):
    """LAMBDA times the mean squared difference between 1 and the norm of the slope of the logits at images
    that mix a real and a generated one, each by a share that is uniform in [0, 1]: at least 0.

    The shares depend on the images alone, so that a resumed run draws the same.
    Source: Gulrajani et al. 2017, algorithm 1, https://arxiv.org/abs/1704.00028.
    """
    real, generated = tf.cast(real_images, "float32"), tf.cast(tf.stop_gradient(generated_images), "float32")
    seed = tf.bitcast(tf.stack([tf.reduce_sum(real), tf.reduce_sum(generated)]), "int32")
    share = tf.random.stateless_uniform((real.shape[0], *[1] * (real.shape.rank - 1)), seed)
    mixed = share * real + (1.0 - share) * generated
    with tf.GradientTape() as tape:
        tape.watch(mixed)
        logits = judge(mixed)
    slope = tf.reshape(tape.gradient(logits, mixed), (real.shape[0], -1))
    norm = tf.sqrt(tf.reduce_sum(slope**2, axis=1) + 1e-12)  # whose own slope is infinite at 0
    return LAMBDA * tf.reduce_mean((norm - 1.0) ** 2)


LOSSES = {
    "non_saturating": Loss(cross_entropy_discriminator, non_saturating_generator),
    "non_saturating_r1": Loss(cross_entropy_discriminator, non_saturating_generator, zero_centered_penalty),
    "minimax": Loss(cross_entropy_discriminator, minimax_generator),
    "hinge": Loss(hinge_discriminator, hinge_generator),
    "damped_hinge": Loss(damped_hinge_discriminator, hinge_generator),
    "least_squares": Loss(least_squares_discriminator, least_squares_generator),
    "wasserstein_clipped": Loss(wasserstein_discriminator, hinge_generator, constraint=clip_weight),
    "wasserstein_penalty": Loss(wasserstein_discriminator, hinge_generator, unit_slope_penalty),
    # softplus(-(real - generated)), twice for the discriminator: Huang et al. 2025, equation 2 and section
    # 2.2, https://arxiv.org/abs/2501.05441
    "relativistic": Loss(
        cross_entropy_discriminator, non_saturating_generator, zero_centered_penalties, paired=True
    ),
}


def chance_losses(name):
    """The (discriminator's, generator's) loss, a key of LOSSES, where the discriminator guesses: all logits
    are 0 then. Guessing the class costs either network label_weight * ln(classes) more."""
    zero = keras.ops.zeros((1, 1))
    loss = LOSSES[name]
    return float(loss.discriminator(zero, zero)), float(loss.generator(zero))
