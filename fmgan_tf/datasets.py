"""The dataset: what it is, and Fashion-MNIST from wherever it is. No TensorFlow before it is loaded."""

import contextlib
import difflib
import hashlib
import io
import os
import pathlib
import re
import sys
import tempfile
import time
import warnings
from typing import NamedTuple

import numpy as np

from fmgan_tf import InputError, fetch
from fmgan_tf.fetch import DataError

NAME, DEFAULT = "Fashion-MNIST", "fashion_mnist"  # for people, and for --data
CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
CLASS_NAMES += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
STAND_IN = "stand-in: generated images, NOT Fashion-MNIST"
COUNTS = {"train": 60_000, "test": 10_000}
PIXEL_SUMS = {"train": 3_431_114_169, "test": 573_469_082}  # whatever the order; those of MNIST are others
ORIGIN_FILE = "fmgan_source.txt"  # beside the prepared dataset: where its files came from


class StandInWarning(UserWarning):
    """Generated images stand in for the dataset. The message says why, and how to get the real one."""


class Dataset(NamedTuple):
    """Images, labels, and what they are."""

    train_images: np.ndarray  # uint8 (N, height, width, 1) in [0, 255], 0 being the background
    train_labels: np.ndarray  # int64 (N,), indices into class_names
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str  # where the images came from, for people and run.json
    folder: str = ""  # where they are kept
    name: str = NAME
    class_names: tuple = CLASS_NAMES  # a single one where the images have no labels
    argument: str = DEFAULT  # what --data says to load it again

    @property
    def is_own(self):
        """Whether these are other images than Fashion-MNIST or what stands in for it."""
        return self.argument != DEFAULT

    @property
    def is_labeled(self):
        """Whether there are classes to tell apart."""
        return len(self.class_names) > 1

    @property
    def is_stand_in(self):
        """Whether these are generated images, on which no score should be computed."""
        return self.source == STAND_IN

    @property
    def fingerprint(self):
        """SHA-256 of the training images and labels, hexadecimal: other images have another."""
        return hashlib.sha256(self.train_images.tobytes() + self.train_labels.tobytes()).hexdigest()


def class_index(label, class_names=CLASS_NAMES):
    """The index of a class given by number or name, or by the only name with a word that begins so; in any
    case. InputError if there is none: it lists them all and the nearest."""
    by_name = {name.lower(): index for index, name in enumerate(class_names)}
    text = str(label).strip().lower()
    if text not in by_name and text.isdecimal() and int(text) < len(class_names):
        return int(text)
    begin = [name for name in by_name if text and re.search(rf"(^|[ /]){re.escape(text)}", name)]
    if text in by_name or len(begin) == 1:
        return by_name[text if text in by_name else begin[0]]
    near = class_names[by_name[difflib.get_close_matches(text, by_name, n=1, cutoff=0.0)[0]]]
    listing = ", ".join(f"{index} {name}" for index, name in enumerate(class_names))
    raise InputError(f"No class {label!r}. The classes are {listing}. Did you mean {near!r}?")


def load():
    """Fashion-MNIST, verified, through TensorFlow Datasets: Dataset, 60,000 and 10,000 images of 28 x 28.

    What TFDS prepared before, in TFDS_DATA_DIR or ~/tensorflow_datasets, comes first. Where that is missing,
    or cannot be used, fetch.find() fills that folder, or fmgan/ beside what is there. Where it finds none,
    images of the shipped conditional generator stand in (is_stand_in), with a StandInWarning.

    Raises:
        DataError: FMGAN_DATA_DIR lacks a file or holds another; TFDS's folder cannot be written or holds
            something else; or the dataset is nowhere and no generator can stand in.
    Source: Xiao, Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747.
    """
    import tensorflow_datasets as tfds

    fix = "Set TFDS_DATA_DIR to a folder that can be written."
    try:
        home = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    except RuntimeError as error:  # no HOME, and the system knows none
        raise DataError(f"{error} {fix}") from error
    own = home / "fmgan"  # of another course, ArrayRecord for one: it stays theirs, ours lies beside it
    for place in (home, own):
        try:
            builder = tfds.builder("fashion_mnist", data_dir=place)
            if not os.path.exists(builder.data_dir):
                break
            return _read_prepared(builder)
        except Exception as error:  # a damaged cache shows in many ways: OSError, DataLossError, JSON errors
            problem = f"{place / 'fashion_mnist'} cannot be read, or is not {NAME} ({error})"
    else:
        raise DataError(f"{problem}. Delete that folder and run this again.")
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise DataError(f"{NAME} cannot be kept in {place} ({error.strerror}). {fix}") from error
    try:
        contents, origin = fetch.find(host=next(iter(builder.url_infos)).rpartition("/")[0])
    except fetch.Nowhere as error:
        folder = home / "fmgan_stand_in"
        return Dataset(*_stand_in(folder, error), STAND_IN, str(folder))
    _prepare(builder, contents, origin)
    dataset = _read_prepared(tfds.builder("fashion_mnist", data_dir=place))
    return dataset._replace(source=f"{origin}, through TFDS")


def _read_prepared(builder):
    """The Dataset of a prepared TFDS builder; ValueError if its images are others."""
    arrays = []
    for name, count in COUNTS.items():
        split = builder.as_dataset(name, batch_size=-1)
        images, labels = split["image"].numpy(), split["label"].numpy()
        arrays += [images, labels]
        found = images.shape, int(images.sum(dtype=np.int64)), np.bincount(labels).tolist()
        expected = (count, 28, 28, 1), PIXEL_SUMS[name], [count // 10] * 10
        if found != expected:
            raise ValueError(f"{name} images, sum of pixels, labels: {found}, expected {expected}")
    file = pathlib.Path(builder.data_dir, ORIGIN_FILE)
    origin = f" (from {file.read_text()})" if file.exists() else ""
    return Dataset(*arrays, f"TFDS cache{origin}", str(builder.data_dir))


def _prepare(builder, contents, origin):
    """Lets a TFDS builder write the dataset as it does from its own download."""
    import tensorflow_datasets as tfds

    def examples(part):
        images = np.frombuffer(contents[f"{part}-images-idx3-ubyte"], "uint8", offset=16)
        labels = np.frombuffer(contents[f"{part}-labels-idx1-ubyte"], "uint8", offset=8)
        for index, image in enumerate(images.reshape(-1, 28, 28, 1)):
            yield index, {"image": image, "label": labels[index]}

    def split_generators(download_manager):
        # Into a folder that gets its name when all of it is written
        pathlib.Path(builder.data_dir, ORIGIN_FILE).write_text(origin)
        return {"train": examples("train"), "test": examples("t10k")}

    builder._split_generators = split_generators  # TFDS's own takes nothing but the .gz files, byte for byte
    fetch.say(f"verified, from {origin}; preparing it once, about half a minute")
    if not sys.stderr.isatty():  # in a log or a notebook a progress bar is only noise
        tfds.disable_progress_bar()
    start = time.monotonic()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except Exception as error:  # TFDS, TensorFlow and the file system each have exceptions of their own
        if not os.path.exists(builder.data_dir):  # else another process was faster
            fix = "It takes 150 MB: free some disk, or set TFDS_DATA_DIR to another folder."
            raise DataError(f"{builder.data_dir} cannot be prepared ({error}). {fix}") from error
    fetch.say(f"ready after {time.monotonic() - start:.0f} s in {builder.data_dir}")


def _stand_in(folder, reason):
    """Images, labels, images, labels of the shipped cgan in the form of the dataset, kept in a folder, with a
    warning that says why; the reason, a Nowhere, is raised where that generator is missing as well."""
    from fmgan_tf import generation

    try:
        path = folder / f"{generation.digests()['cgan/generator.keras'][:12]}.npz"  # one for every generator
        generator = generation.load_generator("cgan")
    except (InputError, OSError, KeyError) as error:
        raise DataError(f"{reason} No generated images can stand in for it either: {error}") from error
    if not path.exists():
        fetch.say("generating 70,000 images that stand in for it, once, about half a minute")
        labels = [np.random.default_rng(0).permutation(np.arange(count) % 10) for count in COUNTS.values()]
        noise = [
            generation.sample_noise(seed, len(part), generator.latent_dim) for seed, part in enumerate(labels)
        ]
        train, test = (generation.sample_images(generator, *each) for each in zip(noise, labels, strict=True))
        folder.mkdir(exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, train_images=train, train_labels=labels[0], test_images=test, test_labels=labels[1])
        os.replace(part, path)
    message = f"These are generated images, NOT Fashion-MNIST: scores computed on them mean nothing. {reason}"
    warnings.warn(message, StandInWarning, stacklevel=3)
    with np.load(path, allow_pickle=False) as kept:
        return [kept[name] for name in ("train_images", "train_labels", "test_images", "test_labels")]
