"""Fashion-MNIST: load, scale, filter, split, batch."""

import contextlib
import hashlib
import io
import os
import pathlib
import sys
import time
import urllib.request
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fmgan_tf import InputError, pretrained

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# The sum of all pixel values, which does not depend on the order of the images. MNIST under the same name, or an image
# lost on the way, gives another.
_PIXEL_SUMS = {"train": 3_431_114_169, "test": 573_469_082}
_COUNTS = {"train": 60_000, "test": 10_000}
_WITHOUT_HOST = (
    "Try again later, or put the four original files (train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
    "t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz) in a folder and set FMGAN_DATA_DIR to it."
)
STAND_IN = "stand-in: generated images, NOT Fashion-MNIST"


class DataError(InputError):
    """The dataset cannot be had, or what was found is not Fashion-MNIST. The message says how to mend it."""


class _NoDownload(DataError):
    """The dataset cannot be downloaded here and now."""


class StandInWarning(UserWarning):
    """Generated images stand in for the dataset. The message says why, what that means, and how to get the real one."""


class FashionMNIST(NamedTuple):
    """The dataset in memory: 60,000 training and 10,000 test images, and where they came from.

    train_images, test_images: uint8 (N, 28, 28, 1) in [0, 255], 0 being the background.
    train_labels, test_labels: int64 (N,) in [0, 9], indices into CLASS_NAMES.
    source: where the images came from, for people and records.
    folder: where they are kept.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str
    folder: str

    @property
    def is_stand_in(self):
        """Whether these are generated images, which no figure should be computed on, and not Fashion-MNIST."""
        return self.source == STAND_IN


def load_fashion_mnist():
    """Loads Fashion-MNIST through TensorFlow Datasets and verifies it.

    Three sources, in this order: what TFDS prepared before (in TFDS_DATA_DIR, by default ~/tensorflow_datasets); the four
    original files in the folder that the environment variable FMGAN_DATA_DIR names; a download of 30 MB. Where none of
    them is to be had, images of the shipped conditional generator stand in, with a StandInWarning, so that everything
    can be tried without a network.

    Returns:
        FashionMNIST. Its is_stand_in is True, and its source STAND_IN, where the images are generated.

    Raises:
        DataError: FMGAN_DATA_DIR holds a missing, truncated or foreign file; the download failed and no generator is
            shipped; or the images are not Fashion-MNIST's. Nothing half-prepared is left behind.

    Source: Xiao, Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder("fashion_mnist")
    local = os.environ.get("FMGAN_DATA_DIR")
    if pathlib.Path(builder.data_dir, "dataset_info.json").exists():
        source = "TFDS cache"
    elif local:
        _check_files(pathlib.Path(local).expanduser(), builder)
        _prepare(builder, "the files in FMGAN_DATA_DIR", manual_dir=local)
        source = "the four original files in FMGAN_DATA_DIR, through TFDS"
    else:
        try:
            _check_host(builder)
            _prepare(builder, "a download of 30 MB")
        except _NoDownload as error:
            if "cgan" not in pretrained.shipped():
                raise
            return _stand_in(pathlib.Path(builder.data_dir).parents[1] / "fmgan_stand_in", error)
        source = "download, through TFDS"

    mend = f"Delete the folder {builder.data_dir} and run this again."
    try:
        splits = {name: builder.as_dataset(name, batch_size=-1) for name in ("train", "test")}
        arrays = {(name, key): split[key].numpy() for name, split in splits.items() for key in ("image", "label")}
    except Exception as error:  # a damaged cache fails in many ways: OSError, tf.errors.DataLossError, json errors…
        raise DataError(f"The prepared dataset in {builder.data_dir} cannot be read ({error}). {mend}") from error
    for name in ("train", "test"):
        images = arrays[name, "image"]
        pixel_sum = int(images.sum(dtype=np.int64))
        if images.shape != (_COUNTS[name], 28, 28, 1) or pixel_sum != _PIXEL_SUMS[name]:
            raise DataError(
                f"{builder.data_dir} does not hold Fashion-MNIST: its {name} images have shape {images.shape} and pixel "
                f"sum {pixel_sum:,}, expected {(_COUNTS[name], 28, 28, 1)} and {_PIXEL_SUMS[name]:,}. {mend}"
            )
        counts = np.bincount(arrays[name, "label"], minlength=len(CLASS_NAMES)).tolist()
        if counts != [_COUNTS[name] // 10] * 10:
            raise DataError(f"{builder.data_dir} is damaged: its {name} labels count {counts} per class. {mend}")
    return FashionMNIST(
        arrays["train", "image"],
        arrays["train", "label"],
        arrays["test", "image"],
        arrays["test", "label"],
        source,
        str(builder.data_dir),
    )


def _check_files(folder, builder):
    """Refuses the folder unless it holds the four files that TFDS knows, before anything is written anywhere."""
    mend = "Put the four original files there, or unset FMGAN_DATA_DIR to download them."
    if not folder.is_dir():
        raise DataError(f"FMGAN_DATA_DIR is {str(folder)!r}, which is not a folder. {mend}")
    for url, info in builder.url_infos.items():
        path = folder / url.rsplit("/", 1)[-1]
        if not path.is_file():
            raise DataError(f"{path} is missing. {mend}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}). {mend}") from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != info.checksum:
            raise DataError(
                f"{path} is not Fashion-MNIST's: it has {len(content):,} bytes and SHA-256 {digest}, expected "
                f"{int(info.size):,} bytes and {info.checksum}. A truncated download, or MNIST under the same name? {mend}"
            )


def _check_host(builder):
    """Refuses at once where the dataset's host cannot be reached: TFDS would try again for minutes, in silence."""
    url = next(iter(builder.url_infos))
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20).close()
    except OSError as error:
        raise _NoDownload(f"The dataset's host cannot be reached ({error}). {_WITHOUT_HOST}") from error


def _prepare(builder, origin, manual_dir=None):
    """Lets TFDS download (or take from manual_dir), verify and convert the files."""
    import tensorflow_datasets as tfds

    print(f"Fashion-MNIST: preparing it once from {origin}, about half a minute…", file=sys.stderr, flush=True)
    if not sys.stderr.isatty():  # in a log or a notebook a progress bar is only noise
        tfds.disable_progress_bar()
    start = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    except Exception as error:  # requests, TFDS and the file system each have exceptions of their own
        if isinstance(error, OSError) and error.errno == 28:
            raise DataError(
                f"The disk is full: {builder.data_dir} needs 150 MB. Free some, or set TFDS_DATA_DIR."
            ) from error
        raise _NoDownload(f"Fashion-MNIST could not be prepared from {origin} ({error}). {_WITHOUT_HOST}") from error
    print(f"Fashion-MNIST: ready after {time.perf_counter() - start:.0f} s in {builder.data_dir}", file=sys.stderr)


def _stand_in(folder, reason):
    """Generated images in the form of the dataset, from the folder where an earlier call has put them, and the warning.

    The file's name is the generator's hash, so that another generator's images are never taken for this one's.
    """
    path = folder / f"{pretrained.SHA256['cgan/generator.keras'][:12]}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = [kept[name] for name in FashionMNIST._fields[:4]]
    except Exception:  # not there yet, or damaged, which shows in many ways: OSError, ValueError, zipfile.BadZipFile…
        arrays = None
    if arrays is None:
        arrays = _draw_stand_in(reason)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")  # renamed when whole; others may be drawing as well
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez(file, **dict(zip(FashionMNIST._fields, arrays, strict=False)))
            os.replace(part, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise DataError(
                f"{path}, 55 MB, cannot be written ({error.strerror}). Free some disk, or set TFDS_DATA_DIR."
            ) from error
    message = f"These are generated images, NOT Fashion-MNIST: figures computed on them mean nothing. {reason}"
    warnings.warn(" ".join(message.split()), StandInWarning, stacklevel=3)
    return FashionMNIST(*arrays, STAND_IN, str(folder))


def _draw_stand_in(reason):
    """Images, labels, images, labels, like the first fields of FashionMNIST: every class as often as in the dataset."""
    try:
        generator = pretrained.load_pretrained("cgan")
    except InputError as error:
        raise DataError(f"{reason} No generated images can stand in for it either: {error}") from error
    print(
        "Fashion-MNIST: not to be had; generating 70,000 images that stand in for it, once, about half a minute…",
        file=sys.stderr,
        flush=True,
    )
    random = np.random.default_rng(0)
    arrays = []
    for name, count in _COUNTS.items():
        labels = random.permutation(np.arange(count) % len(CLASS_NAMES))
        noise = random.standard_normal((count, generator.inputs[0].shape[-1]), dtype="float32")
        images = [
            from_tanh_range(generator.predict_on_batch([noise[batch], labels[batch]]))
            for batch in in_batches(np.arange(count), 250, f"generated {name} images")
        ]
        arrays += [np.concatenate(images), labels]
    return arrays


def to_tanh_range(images):
    """Scales pixels from [0, 255] to [-1, 1], the range of tanh.

    Args:
        images: any shape, uint8 in [0, 255].

    Returns:
        float32 of the same shape: x / 127.5 - 1.
    """
    return np.asarray(images, "float32") / 127.5 - 1.0


def from_tanh_range(images):
    """Scales pixels from [-1, 1] back to [0, 255]: the exact inverse of to_tanh_range for all 256 values.

    Args:
        images: any shape, float in [-1, 1]. Values outside are clipped.

    Returns:
        uint8 of the same shape.
    """
    return np.clip(np.rint((np.asarray(images, "float32") + 1.0) * 127.5), 0, 255).astype("uint8")


def to_unit_range(images):
    """Scales pixels from [0, 255] to [0, 1], the range of the sigmoid.

    Args:
        images: any shape, uint8 in [0, 255].

    Returns:
        float32 of the same shape: x / 255.
    """
    return np.asarray(images, "float32") / 255.0


def from_unit_range(images):
    """Scales pixels from [0, 1] back to [0, 255]: the exact inverse of to_unit_range for all 256 values.

    Args:
        images: any shape, float in [0, 1]. Values outside are clipped.

    Returns:
        uint8 of the same shape.
    """
    return np.clip(np.rint(np.asarray(images, "float32") * 255.0), 0, 255).astype("uint8")


def class_index(label):
    """The index of a class given by name or number.

    Args:
        label: an int in [0, 9], its digit, or a name of CLASS_NAMES in any case.

    Returns:
        int in [0, 9].

    Raises:
        InputError: no such class; the message lists all ten and the nearest.
    """
    import difflib

    by_name = {name.lower(): index for index, name in enumerate(CLASS_NAMES)}
    text = str(label).strip().lower()
    if text in by_name:
        return by_name[text]
    if text.isdecimal() and int(text) < len(CLASS_NAMES):
        return int(text)
    near = difflib.get_close_matches(text, by_name, n=1, cutoff=0.0)[0]
    listing = ", ".join(f"{index} {name}" for index, name in enumerate(CLASS_NAMES))
    raise InputError(f"No class {label!r}. The classes are {listing}. Did you mean {CLASS_NAMES[by_name[near]]!r}?")


def select_classes(images, labels, classes):
    """Keeps the images of some classes, in their order.

    Args:
        images: (N, …).
        labels: int (N,).
        classes: class names or numbers, see class_index.

    Returns:
        (images, labels) of those classes; labels keep their numbers.

    Raises:
        InputError: unknown class.
    """
    keep = np.isin(labels, [class_index(label) for label in classes])
    return images[keep], labels[keep]


def stratified_split(images, labels, fractions=(0.8, 0.1, 0.1), seed=0):
    """Splits into train, validation and test with the same share of every class in each.

    Args:
        images: (N, …).
        labels: int (N,).
        fractions: three floats that sum to 1.
        seed: int; the same seed gives the same split.

    Returns:
        Three (images, labels) pairs: disjoint, shuffled, together all of the input.

    Raises:
        InputError: the fractions do not sum to 1, or a class has too few images to be in all three.
    """
    from sklearn.model_selection import train_test_split

    if len(fractions) != 3 or min(fractions) <= 0 or not np.isclose(sum(fractions), 1.0):
        raise InputError(
            f"fractions is {fractions}, expected three positive numbers that sum to 1, like (0.8, 0.1, 0.1)"
        )
    train_x, rest_x, train_y, rest_y = train_test_split(
        images, labels, train_size=fractions[0], stratify=labels, random_state=seed
    )
    share = fractions[1] / (fractions[1] + fractions[2])
    validation_x, test_x, validation_y, test_y = train_test_split(
        rest_x, rest_y, train_size=share, stratify=rest_y, random_state=seed
    )
    return (train_x, train_y), (validation_x, validation_y), (test_x, test_y)


# Where a generator's range comes from its last activation: into it, and back to pixels.
RANGES = {"tanh": (to_tanh_range, from_tanh_range), "sigmoid": (to_unit_range, from_unit_range)}
VALIDATION_IMAGES = 5000


def parts(dataset, classes=10):
    """What to train on, to watch, and to test on.

    With all ten classes the dataset's own training and test images; the first 5,000 training images, which are trained on
    as well, are watched. With fewer, those classes are taken from all 70,000 images and split 80/10/10, stratified, the
    same way every time.

    Args:
        dataset: FashionMNIST.
        classes: int, how many of the first classes.

    Returns:
        (dataset, validation_images, validation_labels): FashionMNIST with the training and test part, uint8 (M, 28, 28, 1),
        int64 (M,).
    """
    if classes == len(CLASS_NAMES):
        return dataset, dataset.train_images[:VALIDATION_IMAGES], dataset.train_labels[:VALIDATION_IMAGES]
    images = np.concatenate([dataset.train_images, dataset.test_images])
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    train, validation, test = stratified_split(*select_classes(images, labels, range(classes)))
    part = dataset._replace(train_images=train[0], train_labels=train[1], test_images=test[0], test_labels=test[1])
    return part, *validation


def resize(images, image_size):
    """Resizes square images: bilinear, antialiased.

    Args:
        images: uint8 (N, height, width, 1) in [0, 255].
        image_size: int, the new height and width in pixels.

    Returns:
        uint8 (N, image_size, image_size, 1) in [0, 255]; the input itself if it has that size.
    """
    if images.shape[1:3] == (image_size, image_size):
        return images
    parts = np.array_split(
        images, max(1, len(images) // 5000)
    )  # float32 copies of all 60,000 at once would take a gigabyte
    resized = [tf.image.resize(part, (image_size, image_size), antialias=True).numpy() for part in parts]
    return np.concatenate([np.clip(np.rint(part), 0, 255).astype("uint8") for part in resized])


def shift(images, offsets, reach):
    """Moves every image by its own offset; what comes in is black.

    Args:
        images: float32 tensor (batch, height, width, 1) in [-1, 1].
        offsets: int32 (batch, 2), rows up and columns to the left, in [-reach, reach].
        reach: int, pixels.

    Returns:
        float32 tensor of the same shape. Its gradient goes to the pixels that stayed in the picture.
    """
    size = images.shape[1]
    images = tf.pad(images, [[0, 0], [reach, reach], [reach, reach], [0, 0]], constant_values=-1)
    for axis in (1, 2):
        first = reach + offsets[:, axis - 1 : axis]
        images = tf.gather(images, first + tf.range(size), axis=axis, batch_dims=1)
    return images


def in_batches(images, batch_size, label):
    """Cuts an array into batches and, from the third second on, reports progress on stderr.

    Args:
        images: array (N, …).
        batch_size: int.
        label: str, what is being done.

    Yields:
        arrays (batch_size or fewer, …).
    """
    start = printed = time.perf_counter()
    on_terminal = sys.stderr.isatty()
    for first in range(0, len(images), batch_size):
        yield images[first : first + batch_size]
        now, done = time.perf_counter(), min(first + batch_size, len(images))
        if now - printed > (2 if on_terminal else 10) or (printed > start and done == len(images)):
            printed = now
            left = (now - start) * (len(images) / done - 1)
            text = f"{label}: {done:,} of {len(images):,}, {left:.0f} s left"
            print(
                f"\r\x1b[K{text}" if on_terminal else text, end="" if on_terminal else "\n", file=sys.stderr, flush=True
            )
    if on_terminal and printed > start:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def batches(images, batch_size, seed=0, first_step=0, labels=None):
    """An endless tf.data pipeline of training batches, shuffled anew in every epoch.

    The order depends on the seed and the epoch alone, so a run that was interrupted at step n goes on with the same
    images as one that was not. All images stay in memory; only indices are shuffled. Batches are always full (networks
    then have static shapes); the images left over at the end of an epoch get another chance in the next.

    Args:
        images: float32 (N, height, width, 1), scaled; an array is copied, a tensor is not.
        batch_size: int, at most N.
        seed: int.
        first_step: int, how many batches to skip.
        labels: int (N,), to go with the images.

    Returns:
        tf.data.Dataset of float32 (batch_size, height, width, 1), or of such images and their labels (batch_size,),
        infinite.

    Raises:
        InputError: fewer images than batch_size.
    """
    if not 0 < batch_size <= len(images):
        raise InputError(f"batch_size is {batch_size}, expected 1 to {len(images)}, the number of images")
    steps = len(images) // batch_size
    arrays = tf.constant(images) if labels is None else (tf.constant(images), tf.constant(labels))

    def indices(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(len(images)), seed=[seed, epoch])
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order[: steps * batch_size], (steps, batch_size)))

    def batch(index):
        return tf.nest.map_structure(lambda array: tf.gather(array, index), arrays)

    epochs = tf.data.Dataset.range(first_step // steps, np.iinfo("int64").max)
    return epochs.flat_map(indices).skip(first_step % steps).map(batch).prefetch(2)
