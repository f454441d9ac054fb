"""Images from a trained generator: as a grid, as arrays, as a walk through the latent space."""

import io
import json
import pathlib
import zipfile
from typing import NamedTuple

import keras
import numpy as np

from fmgan_tf import InputError, data, plots, pretrained, training

FRAMES = 16  # of a latent walk, from one noise vector to the next


def load_generator(source):
    """Loads the averaged generator of a run, or a shipped one.

    Args:
        source: path of a run folder, or the name of a shipped recipe.

    Returns:
        keras.Model, float32 noise (N, latent_dim), or a list of it and int labels (N,) -> float32 images (N, height, width,
        1) in the range of its last activation.

    Raises:
        InputError: it is neither, or the generator is missing or damaged.
    """
    source = pathlib.Path(source)
    if not source.exists() and str(source) in pretrained.shipped():
        return pretrained.load_pretrained(str(source))
    path = source / "generator.keras"
    if not source.is_dir() or not (source / "run.json").exists():
        raise InputError(
            f"{source} is not a run folder; expected one that `train` made, like runs/dcgan{_or_shipped()}"
        )
    if (source / "classifier.keras").exists():
        raise InputError(f"{source} holds a classifier, expected the run of a GAN, like runs/dcgan")
    if not path.exists():
        raise InputError(
            f"{source} holds no generator.keras yet: its run was cut off. Finish it with train --resume --output {source}"
        )
    return _load(path)


def _load(path):
    try:
        return keras.models.load_model(path, compile=False)  # safe mode: no code from the file is run
    except Exception as error:  # a damaged zip, HDF5 or JSON inside, a foreign layer: each has exceptions of its own
        raise InputError(f"{path} cannot be loaded{_other_keras(path)} ({_one_line(error)})") from error


def _other_keras(path):
    """What a .keras file says of the Keras that saved it, if it was another than this one: a likely reason."""
    try:
        with zipfile.ZipFile(path) as archive:
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])[:20]
    except Exception:  # damaged, see above: then nothing is known
        return ""
    return f" by Keras {keras.__version__}; it was saved by {version}" if version != keras.__version__ else ""


def _or_shipped():
    names = ", ".join(pretrained.shipped())
    return f", or a shipped model: {names}" if names else ""


class Generator(NamedTuple):
    """A generator that anybody trained, and how to use it.

    model: keras.Model.
    latent_dim: int, the number of noise values.
    noise_input: int, which of its inputs is the noise; the other one is the label.
    label: None, "number" (an input of one value) or "one-hot" (of ten).
    classes: int, how many labels it knows; 0 where it takes none.
    """

    model: keras.Model
    latent_dim: int
    noise_input: int
    label: str | None
    classes: int


def open_generator(source):
    """Loads the generator of a run folder, a shipped one, or one that somebody else saved.

    Args:
        source: path of a run folder, name of a shipped recipe, or path of a .keras file: noise -> images, or noise and
            label, in either order.

    Returns:
        Generator.

    Raises:
        InputError: it is neither, cannot be loaded safely, or is no generator.
    """
    source = pathlib.Path(source)
    if source.is_dir() or (not source.exists() and str(source) in pretrained.shipped()):
        model = load_generator(source)
    elif not source.exists() or source.suffix != ".keras":
        raise InputError(
            f"{source} {'is something else' if source.exists() else 'does not exist'}; expected a run folder, a .keras "
            f"generator or an .npz of images{_or_shipped()}"
        )
    else:
        model = _load(source)
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
    classes = 0
    if label:  # an embedding says how many classes it has
        embeddings = [layer.input_dim for layer in _all_layers(model) if isinstance(layer, keras.layers.Embedding)]
        classes = min([len(data.CLASS_NAMES), *embeddings])
    return Generator(model, noise[1], noise_input, label, classes)


def _all_layers(model):
    for layer in model.layers:
        yield from _all_layers(layer) if isinstance(layer, keras.Model) else [layer]


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
    for batch in data.in_batches(np.arange(len(noise)), batch_size, "generated"):
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


def generate(source, output, count=None, seed=0, labels=None):
    """Writes generated images to a file.

    Args:
        source: see open_generator.
        output: path ending in .png (a grid), .npz (`images`, uint8 (N, height, width, 1), and from a conditional generator
            `labels`, int64 (N,)) or .gif (a latent walk).
        count: int, how many images, of every class from a conditional generator; in a .gif, how many walk side by side.
            By default 64, of every class 8.
        seed: int; the same seed gives the same noise.
        labels: the classes to make, see data.class_index; by default all that a conditional generator knows.

    Raises:
        InputError: see open_generator; a label that the generator does not know, or any where it takes none.
        OSError: output cannot be written.
    """
    output = pathlib.Path(output)
    generator = open_generator(source)
    count = count or (8 if generator.label else 64)
    if labels is None:
        labels = range(generator.classes)
    elif not generator.label:
        raise InputError(f"{source} makes images of no class in particular: it takes no label")
    labels = [data.class_index(label) for label in labels]
    known = data.CLASS_NAMES[: generator.classes]
    for label in labels:
        if label >= len(known):
            raise InputError(f"{source} has never seen {data.CLASS_NAMES[label]!r}; it knows {', '.join(known)}")
    rows = max(1, len(labels))  # a row for every class, the same noise in all of them
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".gif":
        walk = latent_walk(seed, count, generator.latent_dim)
        noise = np.tile(walk, (1, rows, 1)).reshape(-1, generator.latent_dim)
        images = sample_images(generator, noise, np.tile(np.repeat(labels, count), len(walk)))
        columns = count if generator.label else None
        frames = images.reshape(len(walk), rows * count, *images.shape[1:])
        plots.save_gif(output, [plots.tile(frame, columns, scale=2) for frame in frames], milliseconds=80, rest=1)
        return
    noise = np.tile(training.sample_noise(seed, count, generator.latent_dim), (rows, 1))
    asked = np.repeat(labels, count).astype("int64")
    images = sample_images(generator, noise, asked)
    if output.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images, **({"labels": asked} if generator.label else {}))
        plots.write_whole(output, buffer.getvalue())
    elif generator.label and count <= 20:
        names = [data.CLASS_NAMES[label] for label in labels]
        plots.save_figure(output, plots.show_images(images, columns=count, row_labels=names))
    else:
        plots.save_png(output, plots.tile(images, min(count, 40) if generator.label else None, scale=2))
