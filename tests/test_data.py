"""Pixels, classes and batches."""

import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import InputError, data, recipes
from fmgan_tf.runs import training


@pytest.mark.parametrize("pixels, low, high", [("tanh", -1, 1), ("unit", 0, 1), ("byte", 0, 255)])
def test_scaling_is_exactly_invertible(pixels, low, high):
    to_range, from_range = data.RANGES[pixels]
    levels = np.arange(256, dtype="uint8")
    scaled = to_range(levels)
    assert scaled.dtype == np.float32 and scaled[0] == low and scaled[255] == high
    np.testing.assert_allclose(np.diff(scaled), (high - low) / 255, rtol=1e-4)
    restored = from_range(scaled)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored, levels)
    np.testing.assert_array_equal(from_range(np.array([low - 0.5, high + 0.5])), [0, 255])


def test_select_classes():
    labels = np.array([0, 1, 2, 1, 0])
    images, kept = data.select_classes(np.arange(5), labels, ["Trouser", 0])
    np.testing.assert_array_equal(images, [0, 1, 3, 4])
    np.testing.assert_array_equal(kept, [0, 1, 1, 0])


@pytest.mark.parametrize("size, new_size", [(28, 32), (28, 64), (64, 28), (32, 28), (28, 14), (30, 11)])
def test_resizing_is_tensorflows(size, new_size):
    images = np.random.default_rng(0).integers(0, 256, (8, size, size, 1)).astype("uint8")
    images[0] = 255
    resized = data.resize(images, new_size)
    expected = tf.image.resize(images, (new_size, new_size), antialias=True).numpy()
    assert resized.shape == expected.shape and resized.dtype == np.uint8 and (resized[0] == 255).all()
    assert np.abs(resized - expected).max() <= 1


def test_resizing_makes_squares_and_leaves_what_has_the_size():
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1)).astype("uint8")
    assert data.resize(images, 28) is images
    wide = np.random.default_rng(0).integers(0, 256, (2, 40, 20, 1)).astype("uint8")
    expected = tf.image.resize(wide, (28, 28), antialias=True).numpy()
    assert np.abs(data.resize(wide, 28) - expected).max() <= 1


def test_shifts_move_every_image_its_own_way():
    images = np.full((9, 28, 28, 1), -1, "float32")
    images[:, 10, 12], images[:, 10, 13] = 1, 0.5
    offsets = np.array([(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)], "int32")
    moved = data.shift(tf.constant(images), tf.constant(offsets), 1).numpy()[..., 0]
    for image, (up, left) in zip(moved, offsets, strict=True):
        assert image[10 - up, 12 - left] == 1 and image[10 - up, 13 - left] == 0.5  # not mirrored
        assert (image == -1).sum() == 28 * 28 - 2
    np.testing.assert_array_equal(data.shift(tf.constant(images), tf.zeros((9, 2), "int32"), 0), images)


def numbered(count):
    return np.arange(count, dtype="float32").reshape(count, 1, 1, 1) * np.ones((1, 2, 2, 1), "float32")


def take(dataset, count):
    return np.array([batch[:, 0, 0, 0] for batch in dataset.take(count).as_numpy_iterator()])


def test_batches_are_shuffled_anew_in_every_epoch_and_repeat_with_the_seed():
    dataset = data.batches(numbered(10), 3, seed=1)
    assert dataset.element_spec.shape == (3, 2, 2, 1)
    drawn = take(dataset, 9)  # three epochs of three batches; one image is left over in each
    for epoch in drawn.reshape(3, 9):
        assert len(set(epoch)) == 9
    assert not np.array_equal(drawn[:3], drawn[3:6])
    assert set(drawn.ravel()) == set(range(10))
    np.testing.assert_array_equal(drawn, take(data.batches(numbered(10), 3, seed=1), 9))
    assert not np.array_equal(drawn, take(data.batches(numbered(10), 3, seed=2), 9))
    for first_step in (1, 3, 5):
        later = take(data.batches(numbered(10), 3, 1, first_step), 9 - first_step)
        np.testing.assert_array_equal(drawn[first_step:], later)


def test_labels_go_with_their_images():
    with_labels = data.batches(numbered(10), 5, seed=1, labels=np.arange(10) % 3)
    without = data.batches(numbered(10), 5, seed=1)
    for (images, labels), alone in zip(with_labels.take(4), without.take(4), strict=True):
        np.testing.assert_array_equal(images, alone)
        np.testing.assert_array_equal(labels, images.numpy()[:, 0, 0, 0].astype(int) % 3)


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batches_refuse_other_sizes(batch_size):
    with pytest.raises(InputError, match=f"batch_size is {batch_size}, expected 1 to 10"):
        data.batches(numbered(10), batch_size)


def test_no_pipeline_has_a_thread_that_may_hold_up_the_program(blobs):
    recipe = recipes.override(recipes.get("dcgan"), {"batch_size": 8})
    _, _, validation = training.training_data(recipe, blobs, dimensions=1)
    for pipeline in (data.batches(numbered(10), 8), validation):
        assert pipeline.options().autotune.enabled is False


def test_all_classes_are_split_as_the_dataset_is(blobs):
    dataset, images, labels = data.split_dataset(blobs, classes=10)
    assert dataset is blobs and len(images) == len(labels) == 200  # as many as there are, at most 5,000


def test_two_classes_are_split_anew_and_tested_on_images_of_the_test_set(fashion_mnist):
    dataset, watched, watched_labels = data.split_dataset(fashion_mnist, classes=2)
    test = {image.tobytes() for image in fashion_mnist.test_images}
    assert all(image.tobytes() in test for image in dataset.test_images)
    parts = dataset.train_labels, watched_labels, dataset.test_labels
    assert [len(part) for part in parts] == [11_200, 1400, 1400]
    for part in parts:
        assert np.bincount(part).tolist() == [len(part) // 2] * 2
    images = [
        image.tobytes() for part in (dataset.train_images, watched, dataset.test_images) for image in part
    ]
    assert len(set(images)) > 13_900  # a few images are twice in the dataset
    again, *_ = data.split_dataset(fashion_mnist, classes=2)
    np.testing.assert_array_equal(dataset.train_images, again.train_images)


def test_matching_class_counts_takes_as_many_of_every_class():
    labels = np.random.default_rng(0).integers(0, 4, 500)
    wanted = np.repeat([0, 2, 3], [10, 70, 40])
    chosen = data.match_class_counts(labels, wanted)
    assert len(set(chosen.tolist())) == 120
    np.testing.assert_array_equal(np.bincount(labels[chosen], minlength=4), [10, 0, 70, 40])
    np.testing.assert_array_equal(chosen, data.match_class_counts(labels, wanted))
    assert len(data.match_class_counts(labels, np.zeros(400, int))) == np.sum(labels == 0)
