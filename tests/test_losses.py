import math

import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import losses

REAL = np.array([[2.0], [-1.0]], "float32")
GENERATED = np.array([[0.5], [-3.0]], "float32")


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_the_losses_by_hand():
    real = -(math.log(sigmoid(2)) + math.log(sigmoid(-1))) / 2
    minimax = (math.log(1 - sigmoid(0.5)) + math.log(1 - sigmoid(-3))) / 2
    found = float(losses.cross_entropy_discriminator(REAL, GENERATED))
    assert found == pytest.approx(real - minimax, rel=1e-6)
    assert float(losses.minimax_generator(GENERATED)) == pytest.approx(minimax, rel=1e-6)
    generator = -(math.log(sigmoid(0.5)) + math.log(sigmoid(-3))) / 2
    assert float(losses.non_saturating_generator(GENERATED)) == pytest.approx(generator, rel=1e-6)
    # max(0, 1 - 2) = 0, max(0, 1 + 1) = 2; max(0, 1 + 0.5) = 1.5, max(0, 1 - 3) = 0
    assert float(losses.hinge_discriminator(REAL, GENERATED)) == pytest.approx(2 / 2 + 1.5 / 2)
    assert float(losses.hinge_generator(GENERATED)) == pytest.approx(2.5 / 2)
    # 0.3 * ((4 + 1) / 2 + (0.25 + 9) / 2) on top of the hinge loss
    damped = 2 / 2 + 1.5 / 2 + 0.3 * (5 / 2 + 9.25 / 2)
    assert float(losses.damped_hinge_discriminator(REAL, GENERATED)) == pytest.approx(damped)
    # (2 - 1)², (-1 - 1)²; (0.5 + 1)², (-3 + 1)²; 0.5², 3²
    squares = (1 + 4) / 2 + (2.25 + 4) / 2
    assert float(losses.least_squares_discriminator(REAL, GENERATED)) == pytest.approx(squares)
    assert float(losses.least_squares_generator(GENERATED)) == pytest.approx(9.25 / 2)
    assert float(losses.wasserstein_discriminator(REAL, GENERATED)) == pytest.approx(-2.5 / 2 - 1 / 2)


def test_a_relativistic_loss_is_of_the_difference_of_two_logits():
    """The real one is 1.5 above the generated one, then 2 above it; see the source for the formula."""
    loss = losses.LOSSES["relativistic"]
    pair = loss.compare(REAL, GENERATED)
    discriminator = -(math.log(sigmoid(1.5)) + math.log(sigmoid(2))) / 2
    generator = -(math.log(sigmoid(-1.5)) + math.log(sigmoid(-2))) / 2
    assert float(loss.discriminator(*pair)) == pytest.approx(2 * discriminator)
    assert float(loss.generator(pair[1])) == pytest.approx(generator)
    assert losses.LOSSES["hinge"].compare(REAL, GENERATED) == (REAL, GENERATED)


def test_the_penalty_of_a_plane_is_that_of_its_slope():
    """The logits w . x have the slope w everywhere, also of points in place of images."""
    for shape in ((5, 4, 3, 1), (5, 2)):
        images = tf.random.stateless_normal(shape, (0, 1))
        weights = tf.random.stateless_normal(shape[1:], (2, 3))

        def judge(images, weights=weights):
            return tf.reshape(tf.tensordot(images, weights, images.ndim - 1), (-1, 1))

        expected = losses.GAMMA / 2 * float(tf.reduce_sum(weights**2))
        found = losses.zero_centered_penalty(judge, images, None)
        assert float(found) == pytest.approx(expected, rel=1e-5)
        others = images[::-1]
        assert float(losses.zero_centered_penalties(judge, images, others)) == pytest.approx(2 * expected)
        length = math.sqrt(2 * expected / losses.GAMMA)
        found = float(losses.unit_slope_penalty(judge, images, others))
        assert found == pytest.approx(losses.LAMBDA * (length - 1) ** 2, rel=1e-5)


def test_slopes_are_taken_at_mixtures_by_shares_that_depend_on_the_images_alone():
    seen = []

    def judge(images):
        seen.append(images)
        return tf.reduce_sum(images**2, axis=(1, 2, 3))[:, None]

    real, generated = tf.ones((200, 2, 2, 1)), -tf.ones((200, 2, 2, 1))
    for images in (real, real, 0.5 * real):
        losses.unit_slope_penalty(judge, images, generated)
    shares = (seen[0].numpy() + 1) / 2
    assert np.ptp(shares, axis=(1, 2, 3)).max() == 0 and 0 <= shares.min() and shares.max() <= 1
    spread = np.sort(shares[:, 0, 0, 0]) - (np.arange(200) + 0.5) / 200
    assert np.abs(spread).max() < 0.1  # uniform, as Kolmogorov and Smirnov would have it
    assert np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[0], seen[2] / 0.75 + 1 / 3)


def test_clipped_weights_stay_small():
    found = losses.clip_weight(tf.constant([-3.0, 0.004, 0.5])).numpy()
    np.testing.assert_allclose(found, [-losses.CLIP, 0.004, losses.CLIP])


def test_hinge_teaches_only_where_the_margin_is_missed():
    logits = tf.constant([[2.0], [0.5]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        real = losses.hinge_discriminator(logits, tf.fill((2, 1), -5.0))
        generated = losses.hinge_discriminator(tf.fill((2, 1), 5.0), -logits)
    np.testing.assert_allclose(tape.gradient(real, logits), [[0], [-0.5]])
    np.testing.assert_allclose(tape.gradient(generated, logits), [[0], [-0.5]])


@pytest.mark.parametrize("share", [0.1, 0.45, 0.5, 0.7, 1.0])
def test_the_best_damped_logit_grows_with_the_share_of_real_images(share):
    """Where a share p / (p + q) of the images is real. The plain hinge loss asks for -1 or 1."""
    far = np.float32([[10.0]])  # costs the other side the same everywhere

    def cost(loss, logit):
        logit = np.float32([[logit]])
        return float(share * loss(logit, -far) + (1 - share) * loss(far, logit))

    damped, plain = np.clip((2 * share - 1) / 0.6, -1, 1), np.sign(2 * share - 1) or 0.5
    for loss, best in ((losses.damped_hinge_discriminator, damped), (losses.hinge_discriminator, plain)):
        assert cost(loss, best) <= min(cost(loss, best + move) for move in (-1, -0.05, 0.05, 1)) + 1e-5


def test_the_losses_of_a_discriminator_that_guesses():
    zero = np.zeros((4, 1), "float32")
    assert float(losses.cross_entropy_discriminator(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(losses.non_saturating_generator(zero)) == pytest.approx(math.log(2))
    assert float(losses.minimax_generator(zero)) == pytest.approx(-math.log(2))
    assert losses.chance_losses("non_saturating") == pytest.approx((2 * math.log(2), math.log(2)))
    assert losses.chance_losses("hinge") == losses.chance_losses("damped_hinge") == (2, 0)
    assert losses.chance_losses("least_squares") == (2, 0)
    assert losses.chance_losses("relativistic") == losses.chance_losses("non_saturating")


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_extreme_logits_stay_finite(name, logit):
    logits = tf.fill((2, 1), logit)
    loss = losses.LOSSES[name]
    assert np.isfinite(loss.discriminator(-logits, logits)) and np.isfinite(loss.generator(logits))


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_loss_of_a_batch_is_the_mean_of_its_halves(name):
    """So the mean of what replicas find is the loss of the whole batch."""
    real, generated = np.random.default_rng(0).normal(size=(2, 8, 1)).astype("float32")
    loss = losses.LOSSES[name]
    halves = [loss.discriminator(real[half], generated[half]) for half in (np.s_[:4], np.s_[4:])]
    assert float(loss.discriminator(real, generated)) == pytest.approx(np.mean(halves), rel=1e-6)
    halves = [loss.generator(generated[half]) for half in (np.s_[:4], np.s_[4:])]
    assert float(loss.generator(generated)) == pytest.approx(np.mean(halves), rel=1e-6)


def test_only_the_minimax_gradient_vanishes_where_the_discriminator_wins():
    logits = tf.constant(-20.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        minimax, non_saturating = losses.minimax_generator(logits), losses.non_saturating_generator(logits)
    assert abs(float(tape.gradient(minimax, logits))) < 1e-8
    assert float(tape.gradient(non_saturating, logits)) == pytest.approx(-1)
