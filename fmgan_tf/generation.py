"""Images from a trained generator: as a grid, as arrays, as a walk through the latent space."""

import io
import pathlib
from typing import NamedTuple

import keras
import numpy as np

from fmgan_tf import InputError, data, features, plots, training

FRAMES = 16  # of a latent walk, from one noise vector to the next


def load_generator(source):
    """Loads the averaged generator of a run.

    Args:
        source: path of a run folder.

    Returns:
        keras.Model, float32 noise (N, latent_dim) -> float32 images (N, height, width, 1) in [-1, 1].

    Raises:
        InputError: it is not a run folder, or its generator is missing or damaged.
    """
    source = pathlib.Path(source)
    path = source / "generator.keras"
    if not source.is_dir() or not (source / "run.json").exists():
        raise InputError(f"{source} is not a run folder; expected one that `train` made, like runs/dcgan")
    if (source / "classifier.keras").exists():
        raise InputError(f"{source} holds a classifier, expected the run of a GAN, like runs/dcgan")
    if not path.exists():
        raise InputError(
            f"{source} holds no generator.keras yet: its run was cut off. Finish it with train --resume --output {source}"
        )
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged zip, HDF5 or JSON inside each has exceptions of its own
        raise InputError(f"{path} is damaged ({error})") from error


class Generator(NamedTuple):
    """A generator that anybody trained, and how to use it.

    model: keras.Model.
    latent_dim: int, the number of noise values.
    noise_input: int, which of its inputs is the noise; the other one is the label.
    label: None, "number" (an input of one value) or "one-hot" (of ten).
    """

    model: keras.Model
    latent_dim: int
    noise_input: int
    label: str | None


def open_generator(source):
    """Loads the generator of a run folder, or one that somebody else saved.

    Args:
        source: path of a run folder, or of a .keras file: noise -> images, or noise and label, in either order.

    Returns:
        Generator.

    Raises:
        InputError: it is neither, cannot be loaded safely, or is no generator.
    """
    source = pathlib.Path(source)
    if source.is_dir():
        model = load_generator(source)
    elif not source.exists() or source.suffix != ".keras":
        raise InputError(
            f"{source} {'is something else' if source.exists() else 'does not exist'}; expected a run folder, a .keras "
            "generator or an .npz of images"
        )
    else:
        try:
            model = keras.models.load_model(source, compile=False)  # safe mode: no code from the file is run
        except (
            Exception
        ) as error:  # a damaged zip, HDF5 or JSON inside, a foreign layer: each has exceptions of its own
            raise InputError(f"{source} cannot be loaded ({_one_line(error)})") from error
    return _recognise(model, source)


def _one_line(error):
    return " ".join(str(error).split())[:300]


def _recognise(model, source):
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or []]
    outputs = [tuple(tensor.shape) for tensor in getattr(model, "outputs", None) or []]
    found = f"{source} is no generator: it turns inputs of shape {shapes} into {outputs}"
    image = outputs[0][1:] if len(outputs) == 1 else ()
    if len(image) not in (2, 3) or image[0] != image[1] or image[2:] not in ((), (1,)):
        raise InputError(f"{found}, expected images (N, 28, 28, 1) to come out")
    # A label is one number an image, or ten
    kinds = ["number" if shape[1:] in ((), (1,)) else "one-hot" if shape[1:] == (10,) else None for shape in shapes]
    if len(shapes) == 1:
        noise_input, label = 0, None
    elif len(shapes) == 2 and (kinds.count(None) == 1 or set(kinds) == {"number", "one-hot"}):
        label_input = kinds.index("number") if "number" in kinds else kinds.index("one-hot")
        noise_input, label = 1 - label_input, kinds[label_input]
    else:
        raise InputError(f"{found}, expected noise, or noise and one label (a number or ten values), to go in")
    noise = shapes[noise_input]
    if len(noise) != 2 or noise[1] is None:
        raise InputError(f"{found}, expected noise (N, latent_dim) to go in")
    return Generator(model, noise[1], noise_input, label)


def _last_activation(model):
    """Name of the activation that the output went through last, or None where the layers do not tell."""
    for layer in reversed(model.layers):
        if isinstance(layer, keras.Model):
            return _last_activation(layer)
        if not isinstance(layer, keras.layers.Reshape | keras.layers.Flatten | keras.layers.Cropping2D):
            return getattr(getattr(layer, "activation", None), "__name__", None)
    return None


def sample_images(generator, noise, labels=None, batch_size=250):
    """Runs any generator over many noise vectors, with progress on stderr.

    Args:
        generator: Generator.
        noise: float32 (N, latent_dim).
        labels: int (N,), where the generator takes some.
        batch_size: int.

    Returns:
        uint8 (N, height, width, 1). The range of its output is told by its last activation, tanh or sigmoid, or else by
        the values: with negative ones [-1, 1], without [0, 1], and [0, 255] where they go beyond 2.

    Raises:
        InputError: it fails, or gives NaN.
    """
    parts = []
    for batch in features.in_batches(np.arange(len(noise)), batch_size, "generated"):
        inputs = [noise[batch]]
        if generator.label:
            label = np.eye(10, dtype="float32")[labels[batch]] if generator.label == "one-hot" else labels[batch]
            wanted = generator.model.inputs[1 - generator.noise_input]
            inputs.insert(1 - generator.noise_input, label.reshape(-1, *wanted.shape[1:]).astype(wanted.dtype))
        try:
            part = generator.model(inputs if len(inputs) > 1 else inputs[0], training=False)
        except Exception as error:  # whatever the layers of a stranger raise
            raise InputError(f"The generator {generator.model.name!r} fails ({_one_line(error)})") from error
        parts.append(np.asarray(part, "float32"))
    images = np.concatenate(parts)
    if not np.isfinite(images).all():
        raise InputError(f"The generator {generator.model.name!r} gives values that are NaN or infinite")
    images = images.reshape(*images.shape[:3], 1)
    activation = _last_activation(generator.model)
    if activation == "tanh" or (activation != "sigmoid" and images.min() < 0):
        return data.from_tanh_range(images)
    return data.from_unit_range(images / 255 if images.max() > 2 else images)


def make_images(generator, noise, batch_size=250):
    """Runs a generator over many noise vectors.

    Args:
        generator: keras.Model, noise -> images in [-1, 1].
        noise: float32 (N, latent_dim).
        batch_size: int, how many at a time.

    Returns:
        uint8 (N, height, width, 1) in [0, 255].
    """
    parts = [generator(noise[start : start + batch_size], training=False) for start in range(0, len(noise), batch_size)]
    return np.concatenate([data.from_tanh_range(part) for part in parts])


def latent_walk(seed, count, latent_dim, stops=5, frames=FRAMES):
    """Noise vectors that wander from one random point to the next and back to the first.

    They move on great circles (slerp), because the length of a normal vector of many dimensions hardly varies and the
    generator has never seen the short ones in the middle of a straight line.

    Args:
        seed: int.
        count: how many walks side by side.
        latent_dim: int.
        stops: random points on the way.
        frames: steps from a point to the next.

    Returns:
        float32 (stops * frames, count, latent_dim).

    Source: White 2016, Sampling Generative Networks, https://arxiv.org/abs/1609.04468.
    """
    points = training.sample_noise(seed, stops * count, latent_dim).reshape(stops, count, latent_dim)
    return np.concatenate(
        [
            [slerp(points[stop], points[(stop + 1) % stops], share) for share in np.arange(frames) / frames]
            for stop in range(stops)
        ]
    ).astype("float32")


def slerp(start, end, share):
    """Interpolates between noise vectors on a great circle.

    Args:
        start, end: float (…, latent_dim).
        share: float in [0, 1], 0 giving start and 1 end.

    Returns:
        float (…, latent_dim).

    Source: Shoemake 1985, Animating rotation with quaternion curves, https://doi.org/10.1145/325334.325242.
    """
    cosine = np.sum(start * end, -1, keepdims=True) / (
        np.linalg.norm(start, axis=-1, keepdims=True) * np.linalg.norm(end, axis=-1, keepdims=True)
    )
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if np.any(np.sin(angle) < 1e-6):  # parallel vectors span no circle
        return (1 - share) * start + share * end
    return (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)


def generate(source, count, seed, output):
    """Writes generated images to a file.

    Args:
        source: path of a run folder.
        count: int, how many images; in a .gif, how many walk side by side.
        seed: int; the same seed gives the same noise.
        output: path ending in .png (a grid), .npz (`images`, uint8 (N, height, width, 1)) or .gif (a latent walk).

    Raises:
        InputError: see load_generator.
        OSError: output cannot be written.
    """
    output = pathlib.Path(output)
    generator = load_generator(source)
    latent_dim = generator.input_shape[-1]
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".gif":
        walk = latent_walk(seed, count, latent_dim)
        images = make_images(generator, walk.reshape(-1, latent_dim))
        frames = [plots.tile(frame, scale=2) for frame in images.reshape(len(walk), count, *images.shape[1:])]
        plots.save_gif(output, frames, milliseconds=80, rest=1)
        return
    images = make_images(generator, training.sample_noise(seed, count, latent_dim))
    if output.suffix == ".png":
        plots.save_png(output, plots.tile(images, scale=2))
    else:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images)
        plots.write_whole(output, buffer.getvalue())
