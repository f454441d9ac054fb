"""Noise, a trained generator with how to use it, images from it, and the shipped models.

Keras is imported when a model is loaded, not before.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable

import numpy as np

from fmgan_tf import InputError, data, datasets, recipes

ASSETS = pathlib.Path(__file__).parent.parent / "assets"
SUMS = "SHA256SUMS"  # in ASSETS: a line for every shipped model, as sha256sum writes and checks them


@dataclasses.dataclass(frozen=True)
class Generator:
    """A trained generator and how to use it."""

    model: Callable  # keras.Model
    latent_dim: int  # noise values an image
    class_names: tuple  # of the labels that it knows; empty where it takes none
    feed: Callable  # (noise float32 (N, latent_dim), labels int (N,) or None) -> what the model takes
    read: Callable  # what the model gives -> uint8 (N, height, width, 1)

    @property
    def classes(self):
        """How many labels it knows."""
        return len(self.class_names)


@functools.cache
def digests():
    """The SHA-256 of every shipped model: dict from its name, like "cgan/generator.keras", to its digits."""
    path = ASSETS / SUMS
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def verified(name):
    """The path of a shipped file, a key of digests(), or an InputError if it is missing or damaged."""
    path, digest = ASSETS / name, ""
    if path.exists():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest or digest != digests().get(name):
        what = "is damaged" if digest and digests() else "is missing"
        raise InputError(
            f"The shipped file {path} {what}; the course needs a whole checkout, not the package alone. "
            "Clone its repository and run ./setup.sh there"
        )
    return path


def shipped():
    """The names of the recipes whose generators are shipped."""
    return tuple(name.split("/")[0] for name in digests() if name.endswith("/generator.keras"))


def load_pretrained(recipe):
    """The shipped generator of a recipe, one of shipped(): the moving average at the end of a full run.

    Returns:
        keras.Model, float32 noise (N, latent_dim), and with it int labels (N,) where the recipe is
        conditional -> float32 images (N, height, width, 1), in [-1, 1] or, of dense-cgan, in [0, 1].
    Raises:
        InputError: no generator of that recipe is shipped, or its file is missing or damaged.
    """
    if shipped():
        recipes.check_name(recipe, shipped(), "shipped generator")
    return load_model(verified(f"{recipe}/generator.keras"))


def load_model(path):
    """A model from a .keras file, in safe mode: no code from it is run. InputError if it cannot be loaded."""
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # of a damaged zip, HDF5 or JSON inside, or a foreign layer: all their own
        raise InputError(f"{path} cannot be loaded by Keras {keras.__version__} ({error})") from error


def load_generator(source):
    """The averaged Generator of a run folder, or the shipped one of a recipe of that name; InputError where
    it is neither, missing or damaged."""
    folder, name = pathlib.Path(source), str(source)
    if not folder.exists() and name in shipped():
        folder = ASSETS / name
    model = (
        load_pretrained(folder.name) if folder.parent == ASSETS else load_model(folder / "generator.keras")
    )
    return of_recipe(model, *read_recipe(folder))


def read_recipe(folder):
    """What the run.json of a folder says: (recipes.Recipe, names of the classes). InputError if it is missing
    or damaged."""
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text())
        return recipes.from_record(record["recipe"]), tuple(record.get("class_names", datasets.CLASS_NAMES))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is missing or damaged ({error})") from error


def of_recipe(model, recipe, class_names=datasets.CLASS_NAMES):
    """The Generator of a keras.Model that was trained by a recipe on data with these classes."""
    known = tuple(class_names[: recipe.classes]) if recipe.conditional else ()
    feed = (lambda noise, labels: [noise, labels]) if known else (lambda noise, labels: noise)
    return Generator(model, recipe.latent_dim, known, feed, data.RANGES[recipe.pixels][1])


def sample_images(generator, noise, labels=None, batch_size=250):
    """Images of a Generator, uint8 (N, height, width, 1), for noise, float32 (N, latent_dim), and labels, int
    (N,), where it takes some. InputError if it fails, or gives NaN."""
    import keras

    parts, name = [], generator.model.name
    for batch in data.in_batches(np.arange(len(noise)), batch_size, "generated images"):
        inputs = generator.feed(noise[batch], None if labels is None else np.asarray(labels)[batch])
        try:
            output = generator.model(inputs, training=False)
        except Exception as error:  # whatever the layers of somebody else's model raise
            raise InputError(f"The generator {name!r} fails ({error})") from error
        if not all(np.isfinite(part).all() for part in keras.tree.flatten(output)):
            raise InputError(f"The generator {name!r} gives values that are NaN or infinite")
        parts.append(generator.read(output))
    return np.concatenate(parts)


def sample_noise(seed, count, latent_dim):
    """Standard normal noise, float32 (count, latent_dim), the same on every machine."""
    return np.random.default_rng(seed).standard_normal((count, latent_dim), "float32")


def latent_walk(seed, count, latent_dim, stops=5, frames=16):
    """Noise vectors that wander from one random point to the next and back to the first.

    They move on great circles (slerp), because the length of a normal vector of many dimensions hardly varies
    and the generator has never seen the short ones in the middle of a straight line.

    Returns:
        float32 (stops * frames, count, latent_dim): `count` walks side by side, with `frames` steps from one
        of `stops` points to the next.
    Source: White 2016, Sampling Generative Networks, https://arxiv.org/abs/1609.04468.
    """
    points = sample_noise(seed, stops * count, latent_dim).reshape(stops, count, latent_dim)
    pairs = zip(points, np.roll(points, -1, axis=0), strict=True)
    walk = [slerp(start, end, share) for start, end in pairs for share in np.arange(frames) / frames]
    return np.stack(walk).astype("float32")


def slerp(start, end, share):
    """Interpolates between noise vectors (..., latent_dim) on a great circle: share 0 gives start, 1 end.
    Source: Shoemake 1985, Animating rotation with quaternion curves, https://doi.org/10.1145/325334.325242.
    """
    lengths = np.linalg.norm(start, axis=-1, keepdims=True) * np.linalg.norm(end, axis=-1, keepdims=True)
    angle = np.arccos(np.clip(np.sum(start * end, -1, keepdims=True) / lengths, -1.0, 1.0))
    if np.any(np.sin(angle) < 1e-6):  # parallel vectors span no circle
        return (1 - share) * start + share * end
    return (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)
