import numpy as np
import pytest

from fmgan_tf import InputError, data, recipes
from fmgan_tf.runs import training


@pytest.mark.parametrize(
    "to_range, from_range, low",
    [(data.to_tanh_range, data.from_tanh_range, -1), (data.to_unit_range, data.from_unit_range, 0)],
)
def test_scaling_is_exactly_invertible(to_range, from_range, low):
    pixels = np.arange(256, dtype="uint8")
    scaled = to_range(pixels)
    assert scaled.dtype == np.float32
    assert scaled[0] == low and scaled[255] == 1
    np.testing.assert_allclose(np.diff(scaled), (1 - low) / 255, rtol=1e-4)
    restored = from_range(scaled)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored, pixels)
    np.testing.assert_array_equal(from_range(np.array([low - 0.5, 1.5])), [0, 255])


def test_select_classes():
    labels = np.array([0, 1, 2, 1, 0])
    images, kept = data.select_classes(np.arange(5), labels, ["Trouser", 0])
    np.testing.assert_array_equal(images, [0, 1, 3, 4])
    np.testing.assert_array_equal(kept, [0, 1, 1, 0])


@pytest.mark.parametrize("size", [28, 32, 64])
def test_resize(size):
    images = np.full((3, 28, 28, 1), 200, "uint8")
    resized = data.resize(images, size)
    assert resized.shape == (3, size, size, 1) and resized.dtype == np.uint8
    assert (resized == 200).all()


def numbered(count):
    return np.arange(count, dtype="float32").reshape(count, 1, 1, 1) * np.ones((1, 2, 2, 1), "float32")


def take(dataset, count):
    return np.array([batch[:, 0, 0, 0] for batch in dataset.take(count).as_numpy_iterator()])


def test_batches():
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
        np.testing.assert_array_equal(
            drawn[first_step:], take(data.batches(numbered(10), 3, 1, first_step), 9 - first_step)
        )


def test_no_pipeline_has_a_thread_that_may_hold_up_the_program(blobs):
    recipe = recipes.override(recipes.get("dcgan"), {"batch_size": 8})
    images, _, validation = training.training_data(recipe, blobs, dimensions=1)
    for pipeline in (data.batches(images, 8), validation):
        assert pipeline.options().autotune.enabled is False


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batches_refuses(batch_size):
    with pytest.raises(InputError, match=f"batch_size is {batch_size}, expected 1 to 10"):
        data.batches(numbered(10), batch_size)


def test_parts(blobs):
    dataset, images, labels = data.parts(blobs)
    assert (
        dataset is blobs and len(images) == len(labels) == 200
    )  # of as many training images as there are, at most 5,000
    dataset, images, labels = data.parts(
        blobs, classes=2
    )  # 50 of the 250 images are of the first two classes
    sizes = [len(part) for part in (dataset.train_images, images, dataset.test_images)]
    assert sizes == [40, 5, 5]
    for part in (dataset.train_labels, dataset.test_labels, labels):
        assert set(part.tolist()) == {0, 1} and abs(np.mean(part) - 0.5) <= 0.1
    again, *_ = data.parts(blobs, classes=2)
    np.testing.assert_array_equal(dataset.train_images, again.train_images)


def test_two_classes_are_tested_on_images_of_the_test_set(fashion_mnist):
    dataset, watched, watched_labels = data.parts(fashion_mnist, classes=2)
    test = {image.tobytes() for image in fashion_mnist.test_images}
    assert all(image.tobytes() in test for image in dataset.test_images)
    sizes = [len(part) for part in (dataset.train_labels, watched_labels, dataset.test_labels)]
    pairs = sum(sizes)
    assert sizes[1:] == [pairs // 10] * 2
    for part in (dataset.train_labels, watched_labels, dataset.test_labels):
        assert np.bincount(part).tolist() == pytest.approx([len(part) / 2] * 2, abs=1)


def test_alike_takes_as_many_of_every_class():
    labels = np.random.default_rng(0).integers(0, 4, 500)
    wanted = np.repeat([0, 2, 3], [10, 70, 40])
    chosen = data.alike(labels, wanted)
    assert len(set(chosen.tolist())) == 120
    np.testing.assert_array_equal(np.bincount(labels[chosen], minlength=4), [10, 0, 70, 40])
    np.testing.assert_array_equal(chosen, data.alike(labels, wanted))
    assert len(data.alike(labels, np.zeros(400, int))) == np.sum(labels == 0)


def test_batches_with_labels():
    images = np.arange(10, dtype="float32")[:, None, None, None] * np.ones((1, 2, 2, 1), "float32")
    labels = np.arange(10) % 3
    with_labels = iter(data.batches(images, 5, seed=1, labels=labels))
    without = iter(data.batches(images, 5, seed=1))
    for _ in range(4):
        batch, numbers = next(with_labels)
        np.testing.assert_array_equal(batch, next(without))
        np.testing.assert_array_equal(numbers, batch.numpy()[:, 0, 0, 0].astype(int) % 3)
