"""What SOURCE means: a run folder, a shipped model, somebody else's generator, or images.

find() says in a moment, without TensorFlow, what a source is; images are read and checked there. Of our own
models run.json says everything. What nobody wrote down of others is told by strangers.py and arrays.py:
`assumed` says in one line what was taken for what, and a Reading overrules it. `source` is a Source, or what
find() takes.
"""

import dataclasses
import difflib
import functools
import json
import pathlib
import zipfile
from typing import NamedTuple

import numpy as np

from fmgan_tf import InputError, one_line, pretrained, recipes
from fmgan_tf.fashion_mnist import CLASS_NAMES
from fmgan_tf.runs import arrays, strangers
from fmgan_tf.runs.arrays import SIZE
from fmgan_tf.runs.strangers import SAVE_IMAGES, SAVE_WHOLE

OPTIONS = {"noise": "--noise", "label": "--label-as", "pixels": "--pixels", "fit": "--fit"}  # of a Reading
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
FORMATS = {  # that are not read: what they are, and the way out
    (".pt", ".pth", ".onnx", ".tflite", ".pb", ".safetensors"): ("a model of another library", SAVE_IMAGES),
    (".ckpt", ".index", ".data-00000-of-00001"): ("a TensorFlow checkpoint, weights alone", SAVE_WHOLE),
    (".json", ".yaml"): ("at most the layers of a model, without weights", SAVE_WHOLE),
    (".pkl", ".pickle", ".joblib"): ("a pickle, which can run code when it is read", SAVE_IMAGES),
    (".csv", ".tsv", ".mat", ".parquet"): ("a table", 'Save np.savez("images.npz", images=..., labels=...)'),
    (".zip", ".gz", ".tar", ".rar", ".7z"): ("packed", "Unpack it"),
    PICTURES: ("one picture", "Put a picture for every image into a folder, and name that"),
}


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a user says of a generator or of images that somebody else made; None leaves it to be told.

    noise: "normal", or "uniform" in [-1, 1].
    label: how it goes in: "none", "number", "one-hot", or "in-noise", one-hot at an end of the noise.
    pixels: "unit" for [0, 1], "tanh" for [-1, 1], "byte" for [0, 255].
    fit: "crop" cuts the middle 28 x 28 out of larger images, "resize" resizes them, empty border and all."""

    noise: str | None = None
    label: str | None = None
    pixels: str | None = None
    fit: str | None = None

    def refuse(self, names, why):
        """Raises InputError where one of these was given."""
        for name in names:
            if getattr(self, name) is not None:
                raise InputError(f"{why}; leave out {OPTIONS[name]}")


AS_TOLD = Reading()


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """What find() found. kind: "run", "shipped", "generator" or "images"; name: as the user gave it; path: of
    a shipped model its folder in assets/; recipe: of a run or a shipped model; images: uint8 (N, height,
    width, 1); labels: int64 (N,) in [0, 9] or None; assumed: one line on what was told of images, "" where
    nothing had to be."""

    name: str
    kind: str
    path: pathlib.Path
    reading: Reading = AS_TOLD
    recipe: recipes.Recipe | None = None
    images: np.ndarray | None = None
    labels: np.ndarray | None = None
    assumed: str = ""

    @functools.cached_property
    def generator(self):
        """The generation.Generator of this source, loaded once; InputError if it holds none that can be."""
        from fmgan_tf import generation

        if self.kind == "images":
            raise InputError(f"{self.name} holds images, expected a generator: a run folder or a .keras file")
        if self.kind == "generator":
            return strangers.load(self.path, self.reading)
        return generation.load_generator(self.path if self.kind == "run" else self.name)


class Drawn(NamedTuple):
    """Images uint8 (N, 28, 28, 1), labels int64 (N,) or None, and what was assumed, in one line."""

    images: np.ndarray
    labels: np.ndarray | None
    assumed: str


def find(name, reading=AS_TOLD):
    """What a source is, without TensorFlow. Images are read, and refused if need be, here.
    Args:
        name: path of a run folder, a .keras or .h5 generator, or an .npz, .npy or folder of images; or the
            name of a shipped recipe; or a Source, which stays what it is.
    Raises:
        InputError: nothing of the kind, or two readings are possible. The message says which, and what to do.
        OSError: it cannot be read.
    """
    if isinstance(name, Source):
        return name
    path, name, shipped = pathlib.Path(name), str(name), pretrained.shipped()
    if not path.exists() and name in shipped:
        path, kind = pretrained.ASSETS / name, "shipped"
    elif (path / "run.json").exists():
        kind = "run"
    elif path.exists():
        return _folder(path, reading) if path.is_dir() else _file(path, reading)
    else:
        near = "".join(f". Did you mean {word!r}?" for word in difflib.get_close_matches(name, shipped, n=1))
        raise InputError(f"{name} does not exist; expected {_expected()}{near}")
    reading.refuse(OPTIONS, f"{name} is a model of this package, of which nothing is guessed")
    return Source(name, kind, path, reading, _recipe(path))


def open_generator(source):
    """The generation.Generator of a source, loaded once for each Source."""
    return find(source).generator


def draw(source, samples, seed):
    """Images of any source, as figures are made of them: of a file that holds more than `samples`, a random
    choice, and all where it holds fewer. The seed is of noise, labels and choice."""
    from fmgan_tf import data, generation

    source = find(source)
    if source.kind == "images":
        # Shuffled even where all are taken: files are often sorted, and some figures take the first few
        chosen = np.random.default_rng(seed).permutation(len(source.images))[:samples]
        images, labels = source.images[chosen], None if source.labels is None else source.labels[chosen]
        assumed = source.assumed
    else:
        generator, labels = source.generator, None
        if generator.classes:
            # As many of every class as of any other, in an order that tells the classes apart from the noise
            labels = np.random.default_rng(seed).permutation(np.arange(samples) % generator.classes)
        noise = generation.sample_noise(seed, samples, generator.latent_dim)
        images, assumed = generation.sample_images(generator, noise, labels), generator.assumed
    side = images.shape[1]
    resized = "" if side == SIZE else f"{side} x {side} resized to {SIZE} x {SIZE}"
    return Drawn(data.resize(images, SIZE), labels, "; ".join(filter(None, (assumed, resized))))


def real_images(source, dataset, labels=None):
    """The Dataset of the classes that a source knows: for one of our models the parts that it was trained and
    is to be tested on, for others the classes asked for (labels, int (N,)), or all."""
    from fmgan_tf import data

    source = find(source)
    if source.recipe:
        return data.parts(dataset, source.recipe.classes)[0]
    if labels is None:
        return dataset
    asked = np.unique(labels)
    train = data.select_classes(dataset.train_images, dataset.train_labels, asked)
    test = data.select_classes(dataset.test_images, dataset.test_labels, asked)
    names = ("train_images", "train_labels", "test_images", "test_labels")
    return dataset._replace(**dict(zip(names, (*train, *test), strict=True)))


def _expected():
    shipped = ", ".join(pretrained.shipped())
    names = f", or a shipped model: {shipped}" if shipped else ""
    return f"a run folder, a .keras generator or an .npz of images{names}"


def _recipe(folder):
    """The recipe of a run that holds a generator."""
    if (folder / "classifier.keras").exists():
        raise InputError(f"{folder} holds a classifier, expected the run of a GAN, like runs/dcgan")
    if not (folder / "generator.keras").exists():
        finish = f"Finish it with train --resume --output {folder}"
        raise InputError(f"{folder} holds no generator.keras yet: its run was cut off. {finish}")
    try:
        return recipes.from_record(json.loads((folder / "run.json").read_text())["recipe"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'run.json'} is missing or damaged ({one_line(error)})") from error


def _folder(path, reading):
    """A folder that is no run: pictures, perhaps in a folder for every class, or what it is instead."""
    names = {item.name for item in path.iterdir()}
    if "saved_model.pb" in names:
        why = "which can write files when it runs: it is not loaded"
        raise InputError(f"{path} is a SavedModel, {why}. {SAVE_WHOLE}")
    if {"config.json", "model.weights.h5"} <= names:
        pack = f"cd {path} && python -m zipfile -c ../generator.keras *"
        raise InputError(f"{path} is an unpacked .keras file. Pack it: {pack}")
    if "checkpoint" in names:
        raise InputError(f"{path} holds a TensorFlow checkpoint, weights alone. {SAVE_WHOLE}")
    pictures = sorted(item for item in path.glob("*") if item.suffix.lower() in PICTURES)
    labels, told = None, []
    if not pictures:
        pictures = sorted(item for item in path.glob("*/*") if item.suffix.lower() in PICTURES)
        labels = arrays.as_labels(np.array([item.parent.name for item in pictures], "U"), len(pictures))
        told = ["labels from the names of their folders"]
        if labels is None:
            what = "not a run folder, like runs/dcgan, nor one of pictures"
            raise InputError(f"{path} is {what}; expected {_expected()}")
    told = [f"{len(pictures):,} pictures", *told]
    return _images(path, arrays.read_pictures(path, pictures), labels, told, reading)


def _file(path, reading):
    """A file, by its content, or by its name where the content is damaged."""
    with open(path, "rb") as file:
        start = file.read(8)
    try:
        members = zipfile.ZipFile(path).namelist() if start.startswith(b"PK") else []
    except Exception:  # damaged zips raise a dozen kinds
        members = []
    suffix = path.suffix.lower()
    if start == strangers.HDF5 or "config.json" in members or suffix in (".keras", ".h5", ".hdf5"):
        strangers.check(path)
        return Source(str(path), "generator", path, reading)
    packed = any(member.endswith(".npy") for member in members)
    if packed or start.startswith(b"\x93NUMPY") or suffix in (".npz", ".npy"):
        return _images(path, *arrays.choose(path, arrays.read_file(path)), reading)
    for suffixes, (what, way_out) in FORMATS.items():
        if suffix in suffixes:
            raise InputError(f"{path} is {what}; expected {_expected()}. {way_out}")
    raise InputError(f"{path} is something else; expected {_expected()}")


def _images(path, images, labels, told, reading):
    reading.refuse(("noise", "label"), f"{path} holds images, not a generator")
    images, also = arrays.normal_form(images, f"{path}: images", reading.pixels, reading.fit)
    assumed = "; ".join([*told, *also])
    return Source(str(path), "images", path, reading, images=images, labels=labels, assumed=assumed)


def different_images(images):
    """How many different images there are among images (N, ...): int, exact to the pixel."""
    return len({image.tobytes() for image in images})


def collapsed(images):
    """Whether images (N, ...) are mostly the same, at most one in ten being new."""
    different, among = _variety(images)
    return different <= 0.1 * among


def sameness(images, labels=None, class_names=CLASS_NAMES):
    """What has to be said first of uint8 (N, height, width, 1) that are all or mostly the same, or nearly all
    of one class: one line; "" where there is nothing to warn of."""
    different, among = _variety(images)
    lines = []
    if different <= 0.9 * among:
        told = "the generator has collapsed" if different <= 0.1 * among else "many come more than once"
        lines.append(f"{different:,} different image{'s' * (different != 1)} among {among:,}: {told}")
    counts = np.bincount([] if labels is None else labels, minlength=len(class_names))
    made = np.flatnonzero(counts)
    mean = counts[made].mean() if len(made) > 1 else 0
    if mean >= 10 and (counts.max() > 3 * mean or counts[made].min() < mean / 4):
        most, least = made[counts[made].argmax()], made[counts[made].argmin()]
        told = f"{counts[most]:,} of {class_names[most]}, {counts[least]:,} of {class_names[least]}"
        lines.append(f"uneven classes: among {len(labels):,} images {told}")
    return "; ".join(lines)


def _variety(images):
    """How many images are different, among how many: of all, or of 500 where they differ by a hair alone."""
    different, among = different_images(images), len(images)
    few = images[np.random.default_rng(0).permutation(among)[:500]]
    left, kinds = few.reshape(len(few), -1).astype("float32"), 0
    while len(left) and different > 0.9 * among:
        left, kinds = left[np.square(left - left[0]).mean(1) > 4**2], kinds + 1  # 4 gray levels
    return (kinds, len(few)) if 0 < kinds <= 0.1 * len(few) else (different, among)
