"""Pixels, classes and batches."""

import sys

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from fmgan_tf import InputError, fashion_mnist


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


def select_classes(images, labels, classes):
    """The (images, labels) of some classes, given by name or number; labels keep their numbers."""
    keep = np.isin(labels, [fashion_mnist.class_index(label) for label in classes])
    return images[keep], labels[keep]


# Where a generator's range comes from its last activation: into it, and back to pixels.
RANGES = {"tanh": (to_tanh_range, from_tanh_range), "sigmoid": (to_unit_range, from_unit_range)}
VALIDATION_IMAGES = 5000


def parts(dataset, classes=10):
    """What to train on, to watch, and to test on: (Dataset, validation_images, validation_labels).

    With all ten classes the dataset's own training and test images; the first 5,000 training images, which
    are trained on as well, are watched. With fewer, the first `classes` are taken from all 70,000 images and
    split 80/10/10, stratified, the same way every time; the tenth to test on comes from the dataset's own
    test images, which no extractor of features has seen.
    """
    if classes == len(dataset.class_names):
        return dataset, dataset.train_images[:VALIDATION_IMAGES], dataset.train_labels[:VALIDATION_IMAGES]
    from sklearn.model_selection import train_test_split

    own = select_classes(dataset.train_images, dataset.train_labels, range(classes))
    unseen = select_classes(dataset.test_images, dataset.test_labels, range(classes))
    tenth = (len(own[1]) + len(unseen[1])) // 10
    seeded = {"train_size": tenth, "random_state": 0}
    test_x, more_x, test_y, more_y = train_test_split(*unseen, stratify=unseen[1], **seeded)
    images, labels = np.concatenate([own[0], more_x]), np.concatenate([own[1], more_y])
    watched_x, train_x, watched_y, train_y = train_test_split(images, labels, stratify=labels, **seeded)
    return dataset._make((train_x, train_y, test_x, test_y, *dataset[4:])), watched_x, watched_y


def alike(labels, wanted, seed=0):
    """Which of some real images, by their labels, int (N,), to take so that they have the class counts of
    wanted, int (M,): their places, int (M,), shuffled; of a class that has too few, all."""
    order = np.random.default_rng(seed).permutation(len(labels))
    counts = np.bincount(wanted)
    chosen = [order[labels[order] == label][:count] for label, count in enumerate(counts)]
    return np.random.default_rng(seed).permutation(np.concatenate(chosen))


def resize(images, image_size):
    """Square images, uint8 (N, size, size, 1), at another size, bilinear, antialiased."""
    if images.shape[1:3] == (image_size, image_size):
        return images
    # float32 copies of all 60,000 at once would take a gigabyte
    parts = np.array_split(images, max(1, len(images) // 5000))
    resized = [tf.image.resize(part, (image_size, image_size), antialias=True).numpy() for part in parts]
    return np.concatenate([np.clip(np.rint(part), 0, 255).astype("uint8") for part in resized])


def shift(images, offsets, reach):
    """Moves every image, float32 (batch, height, width, 1) in [-1, 1], by its own offset; what comes in is
    black.

    The offsets are int32 (batch, 2), rows up and columns to the left, in [-reach, reach]. The gradient goes
    to the pixels that stayed in the picture.
    """
    size = images.shape[1]
    images = tf.pad(images, [[0, 0], [reach, reach], [reach, reach], [0, 0]], constant_values=-1)
    for axis in (1, 2):
        first = reach + offsets[:, axis - 1 : axis]
        images = tf.gather(images, first + tf.range(size), axis=axis, batch_dims=1)
    return images


def in_batches(images, batch_size, label):
    """Cuts an array into batches, with a progress bar on stderr, named `label`, once it takes seconds."""
    wait = 2 if sys.stderr.isatty() else 10  # seconds; in a log or a notebook a bar is mostly noise
    with tqdm(total=len(images), desc=label, delay=wait, leave=False, dynamic_ncols=True) as bar:
        for first in range(0, len(images), batch_size):
            yield images[first : first + batch_size]
            bar.update(min(batch_size, len(images) - first))


def untuned(pipeline):
    """A tf.data.Dataset without the thread that tunes it. As that thread may overlook that it is to end, a
    program that drops an iterator would now and then stand still, for up to a minute (TensorFlow 2.21)."""
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
    return untuned(epochs.flat_map(indices).skip(first_step % steps).map(batch).prefetch(2))
