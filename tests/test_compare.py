"""The script behind the comparisons of notebook 04, in short."""

import compare
import numpy as np
import pytest
import tensorflow as tf


def test_mismatched_labels_are_never_the_right_ones():
    labels = np.arange(90) // 9
    others = compare.other_labels(tf.constant(labels)).numpy()
    assert (others != labels).all()
    pairs, counts = np.unique(np.stack([labels, others]), axis=1, return_counts=True)
    assert pairs.shape == (2, 90) and (counts == 1).all()  # each of the nine others


@pytest.mark.parametrize("way", [*compare.BUILDERS, *compare.CHANGES])
def test_every_way_takes_a_step(way):
    model = compare.game(way, 0.3, seed=0)
    before = [weight.numpy() for weight in model.generator.trainable_weights]
    values = model.train_step((tf.zeros((8, 28, 28, 1)), tf.range(8)))
    assert all(np.isfinite(float(value)) for value in values.values())
    after = model.generator.trainable_weights
    assert any((old != new.numpy()).any() for old, new in zip(before, after, strict=True))


def test_a_factor_changes_the_part_of_the_label_alone():
    for way in compare.BUILDERS:
        one, three = (compare.game(way, factor, seed=0).discriminator for factor in (1.0, 3.0))
        changed = [
            (old, new)
            for old, new in zip(one.get_weights(), three.get_weights(), strict=True)
            if not np.array_equal(old, new)
        ]
        ((old, new),) = changed
        label = np.s_[:, :, 1:] if old.ndim == 4 else np.s_[:]
        np.testing.assert_allclose(new[label], 3 * old[label], rtol=1e-6)
        if old.ndim == 4:
            np.testing.assert_array_equal(new[:, :, :1], old[:, :, :1])
