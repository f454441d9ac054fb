import math

import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import losses

REAL = np.array([[2.0], [-1.0]], "float32")
GENERATED = np.array([[0.5], [-3.0]], "float32")


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_by_hand():
    discriminator = -(math.log(sigmoid(2)) + math.log(sigmoid(-1))) / 2
    discriminator -= (math.log(1 - sigmoid(0.5)) + math.log(1 - sigmoid(-3))) / 2
    assert float(losses.cross_entropy_discriminator(REAL, GENERATED)) == pytest.approx(discriminator, rel=1e-6)
    generator = -(math.log(sigmoid(0.5)) + math.log(sigmoid(-3))) / 2
    assert float(losses.non_saturating_generator(GENERATED)) == pytest.approx(generator, rel=1e-6)
    minimax = (math.log(1 - sigmoid(0.5)) + math.log(1 - sigmoid(-3))) / 2
    assert float(losses.minimax_generator(GENERATED)) == pytest.approx(minimax, rel=1e-6)


def test_a_discriminator_that_guesses():
    zero = np.zeros((4, 1), "float32")
    assert float(losses.cross_entropy_discriminator(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(losses.non_saturating_generator(zero)) == pytest.approx(math.log(2))
    assert float(losses.minimax_generator(zero)) == pytest.approx(-math.log(2))


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_extreme_logits_stay_finite(name, logit):
    logits = tf.fill((2, 1), logit)
    loss = losses.LOSSES[name]
    assert np.isfinite(loss.discriminator(-logits, logits)) and np.isfinite(loss.generator(logits))


def test_only_the_minimax_gradient_vanishes_where_the_discriminator_wins():
    logits = tf.constant(-20.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        minimax, non_saturating = losses.minimax_generator(logits), losses.non_saturating_generator(logits)
    assert abs(float(tape.gradient(minimax, logits))) < 1e-8
    assert float(tape.gradient(non_saturating, logits)) == pytest.approx(-1)
