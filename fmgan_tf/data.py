"""Pixels, classes and batches."""

import sys

import numpy as np
from tqdm import tqdm

from fmgan_tf import InputError, datasets


def to_tanh_range(images):
    """Scales pixels, uint8 in [0, 255] of any shape, to the range of tanh, [-1, 1]: float32 x / 127.5 - 1."""
    return np.asarray(images, "float32") / 127.5 - 1.0


def from_tanh_range(images):
    """The exact inverse of to_tanh_range, back to uint8, for all 256 values; clips the others."""
    return np.clip(np.rint((np.asarray(images, "float32") + 1.0) * 127.5), 0, 255).astype("uint8")


def to_unit_range(images):
    """Scales pixels, uint8 in [0, 255] of any shape, to the range of the sigmoid, [0, 1]: float32 x / 255."""
    return np.asarray(images, "float32") / 255.0


def from_unit_range(images):
    """The exact inverse of to_unit_range, back to uint8, for all 256 values; clips the others."""
    return np.clip(np.rint(np.asarray(images, "float32") * 255.0), 0, 255).astype("uint8")


def from_byte_range(images):
    """Rounds pixels in [0, 255] to uint8; clips the others."""
    return np.clip(np.rint(np.asarray(images, "float32")), 0, 255).astype("uint8")


# How the pixels of a generator are written: from uint8, and back
RANGES = {
    "tanh": (to_tanh_range, from_tanh_range),
    "unit": (to_unit_range, from_unit_range),
    "byte": (lambda images: np.asarray(images, "float32"), from_byte_range),
}
VALIDATION_IMAGES = 5000


def select_classes(images, labels, classes, class_names=datasets.CLASS_NAMES):
    """The (images, labels) of some classes, given by name or number; labels keep their numbers."""
    keep = np.isin(labels, [datasets.class_index(label, class_names) for label in classes])
    return images[keep], labels[keep]


def split_dataset(dataset, classes):
    """What to train on, to watch, and to test on: (Dataset, validation_images, validation_labels).

    With all classes the dataset's own training and test images; the first 5,000 training images, which are
    trained on as well, are watched. With fewer, the first `classes` are taken from all images and split
    80/10/10, stratified, the same way every time; the tenth to test on comes from the dataset's own test
    images, which no extractor of features has seen.
    """
    if classes == len(dataset.class_names):
        return dataset, dataset.train_images[:VALIDATION_IMAGES], dataset.train_labels[:VALIDATION_IMAGES]
    from sklearn.model_selection import train_test_split

    wanted = range(classes), dataset.class_names
    own = select_classes(dataset.train_images, dataset.train_labels, *wanted)
    unseen = select_classes(dataset.test_images, dataset.test_labels, *wanted)
    tenth = (len(own[1]) + len(unseen[1])) // 10
    seeded = {"train_size": tenth, "random_state": 0}
    test_x, more_x, test_y, more_y = train_test_split(*unseen, stratify=unseen[1], **seeded)
    images, labels = np.concatenate([own[0], more_x]), np.concatenate([own[1], more_y])
    watched_x, train_x, watched_y, train_y = train_test_split(images, labels, stratify=labels, **seeded)
    return dataset._make((train_x, train_y, test_x, test_y, *dataset[4:])), watched_x, watched_y


def match_class_counts(labels, wanted, seed=0):
    """Which of some images, by their labels, int (N,), to take so that they have the class counts of wanted,
    int (M,): their places, int (M,), shuffled; of a class that has too few, all."""
    order = np.random.default_rng(seed).permutation(len(labels))
    counts = np.bincount(wanted)
    chosen = [order[labels[order] == label][:count] for label, count in enumerate(counts)]
    return np.random.default_rng(seed).permutation(np.concatenate(chosen))


def resizing_weights(size, new_size):
    """The matrix, float32 (new_size, size), that resizes a row of pixels: bilinear, antialiased.

    A row of it is a triangle around the middle of one new pixel. It is as wide as a new pixel where the row
    shrinks, so that every old pixel counts, and as wide as an old one where it grows.
    """
    scale = size / new_size
    middles = (np.arange(new_size) + 0.5) * scale
    distances = np.abs(np.arange(size) + 0.5 - middles[:, None]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distances)
    return (weights / weights.sum(1, keepdims=True)).astype("float32")


def resize(images, image_size):
    """Images, uint8 (N, height, width, 1), as squares of another size: bilinear, antialiased."""
    height, width = images.shape[1:3]
    if height == width == image_size:
        return images
    down, across = resizing_weights(height, image_size), resizing_weights(width, image_size)
    resized = [from_byte_range(down @ image[..., 0].astype("float32") @ across.T) for image in images]
    return np.stack(resized)[..., None]


def shift(images, offsets, reach):
    """Moves every image, float (batch, height, width, 1) in [-1, 1], by its own offset; new pixels are black.

    The offsets are int32 (batch, 2), rows up and columns to the left, in [-reach, reach]. The gradient goes
    to the pixels that stayed in the picture.
    """
    import tensorflow as tf

    size = images.shape[1]
    images = tf.pad(images, [[0, 0], [reach, reach], [reach, reach], [0, 0]], constant_values=-1)
    for axis in (1, 2):
        first = reach + offsets[:, axis - 1 : axis]
        images = tf.gather(images, first + tf.range(size), axis=axis, batch_dims=1)
    return images


def in_batches(images, batch_size, progress):
    """Cuts an array into batches, with a progress bar on stderr, named `progress`, once it takes seconds."""
    wait = 2 if sys.stderr and sys.stderr.isatty() else 10  # seconds; in a log a bar is mostly noise
    with tqdm(total=len(images), desc=progress, delay=wait, leave=False, dynamic_ncols=True) as bar:
        for first in range(0, len(images), batch_size):
            yield images[first : first + batch_size]
            bar.update(min(batch_size, len(images) - first))


def without_autotune(pipeline):
    """A tf.data.Dataset without the thread that tunes it. As that thread may overlook that it is to end, a
    program that drops an iterator would now and then stand still, for up to a minute (TensorFlow 2.21)."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return pipeline.with_options(options)


def batches(images, batch_size, seed=0, first_step=0, labels=None):
    """An endless tf.data pipeline of training batches, shuffled anew in every epoch.

    The order depends on the seed and the epoch alone, so a run that was interrupted at step n goes on with
    the same images (first_step=n). Only indices are shuffled. Batches are always full (networks then have
    static shapes); the images left over at the end of an epoch get another chance in the next.

    Args:
        images: float32 (N, height, width, 1), scaled; an array is copied, a tensor is not.
        batch_size: int, at most N, else InputError.
        first_step: int, how many batches to skip.
        labels: int (N,), to go with the images.
    Returns:
        tf.data.Dataset of float32 (batch_size, height, width, 1), or of pairs of those and labels.
    """
    import tensorflow as tf

    if not 0 < batch_size <= len(images):
        raise InputError(f"batch_size is {batch_size}, expected 1 to {len(images)}, the number of images")
    steps = len(images) // batch_size
    arrays = tf.constant(images) if labels is None else (tf.constant(images), tf.constant(labels))

    def indices(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(len(images)), seed=[seed, epoch])
        return tf.data.Dataset.from_tensor_slices(
            tf.reshape(order[: steps * batch_size], (steps, batch_size))
        )

    def batch(index):
        return tf.nest.map_structure(lambda array: tf.gather(array, index), arrays)

    epochs = tf.data.Dataset.range(first_step // steps, np.iinfo("int64").max)
    return without_autotune(epochs.flat_map(indices).skip(first_step % steps).map(batch).prefetch(2))
