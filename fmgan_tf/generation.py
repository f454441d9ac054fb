"""Noise, a trained generator with how to use it, and images from it."""

import dataclasses
import json
import pathlib
import zipfile
from collections.abc import Callable

import keras
import numpy as np

from fmgan_tf import InputError, data, one_line, pretrained, recipes


@dataclasses.dataclass(frozen=True)
class Generator:
    """A trained generator and how to use it."""

    model: keras.Model
    latent_dim: int  # noise values an image
    classes: int  # how many labels it knows; 0 where it takes none
    feed: Callable  # (noise float32 (N, latent_dim), labels int (N,) or None) -> what the model takes
    read: Callable  # what the model gives -> uint8 (N, height, width, 1)
    assumed: str = ""  # one line on what was guessed of a generator that somebody else trained


def of_recipe(model, recipe):
    """The Generator of a keras.Model that was trained by a recipe: nothing about it has to be guessed."""
    classes = recipe.classes if recipe.conditional else 0
    feed = (lambda noise, labels: [noise, labels]) if classes else (lambda noise, labels: noise)
    return Generator(model, recipe.latent_dim, classes, feed, data.RANGES[recipe.pixels][1])


def load_generator(source):
    """The averaged Generator of a run folder, or the shipped one of a recipe of that name; InputError where
    it is neither, missing or damaged."""
    folder, name = pathlib.Path(source), str(source)
    if not folder.exists() and name in pretrained.shipped():
        record, model = pretrained.ASSETS / name / "run.json", pretrained.load_pretrained(name)
    else:
        record, model = folder / "run.json", load_model(folder / "generator.keras")
    try:
        recipe = recipes.from_record(json.loads(record.read_text())["recipe"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{record} is missing or damaged ({one_line(error)})") from error
    return of_recipe(model, recipe)


def load_model(path):
    """A model from a .keras file, in safe mode: no code from it is run. InputError if it cannot be loaded."""
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # of a damaged zip, HDF5 or JSON inside, or a foreign layer: all their own
        raise InputError(f"{path} cannot be loaded{_other_keras(path)} ({one_line(error)})") from error


def _other_keras(path):
    """What a .keras file says of the Keras that saved it, if it was another than this: a likely reason."""
    try:
        with zipfile.ZipFile(path) as archive:
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])[:20]
    except Exception:  # damaged, see above: then nothing is known
        return ""
    return f" by Keras {keras.__version__}; it was saved by {version}" if version != keras.__version__ else ""


def sample_images(generator, noise, labels=None, batch_size=250):
    """Images of a Generator, uint8 (N, height, width, 1), for noise, float32 (N, latent_dim), and labels, int
    (N,), where it takes some. InputError if it fails, or gives NaN."""
    parts, name = [], generator.model.name
    for batch in data.in_batches(np.arange(len(noise)), batch_size, "generated images"):
        inputs = generator.feed(noise[batch], None if labels is None else np.asarray(labels)[batch])
        try:
            output = generator.model(inputs, training=False)
        except Exception as error:  # whatever the layers of a stranger raise
            raise InputError(f"The generator {name!r} fails ({one_line(error)})") from error
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
