"""Generators that somebody else saved with Keras. What nobody wrote down is told by shapes, names and values.

TensorFlow is imported when a model is loaded, not before.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
import re
import shutil
import tempfile
import warnings
import zipfile

import numpy as np

from fmgan_tf import InputError, one_line
from fmgan_tf.runs import arrays
from fmgan_tf.runs.arrays import CLASSES

SAVE_IMAGES = (
    'In the program that has it, save images: np.savez("images.npz", images=generator.predict(noise)), and '
    "`labels` where it takes some"
)
SAVE_WHOLE = 'In the program that made it, save the whole generator: generator.save("generator.keras")'
HDF5 = b"\x89HDF\r\n\x1a\n"  # what such a file begins with
LABEL_WORDS = tuple("label class klass cond categ digit target".split())  # that names of inputs begin with


# The file


def check(path):
    """Refuses a file of Keras that holds no whole model, or one that needs code which is not Keras's own.

    Args:
        path: pathlib.Path of a .keras or HDF5 file.
    Raises:
        InputError: the message says what is missing and what to do.
    """
    config = _read_config(path)
    if config is None:
        raise InputError(
            f"{path} holds weights alone, without their layers. In the program that has those: "
            'generator.load_weights(...), then generator.save("generator.keras")'
        )
    foreign = ", ".join(sorted(set(_foreign(_modern(config)))))
    if foreign:
        raise InputError(f"{path} needs code other than Keras's, which is not run: {foreign}. {SAVE_IMAGES}")


def _read_config(path):
    """The config of the model in a file, None if it holds none."""
    try:
        if _is_hdf5(path):
            import h5py

            with h5py.File(path, "r") as file:
                text = file.attrs.get("model_config")
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read("config.json")
        return None if text is None else json.loads(text)
    except Exception as error:  # damaged zips, HDF5 and JSON raise dozens of kinds
        raise InputError(f"{path} cannot be loaded: it is damaged ({one_line(error)})") from error


def _is_hdf5(path):
    with open(path, "rb") as file:
        return file.read(len(HDF5)) == HDF5


def _foreign(config):
    """The classes and functions in a model's config that are not Keras's own, and those that run any code."""
    if isinstance(config, dict):
        kind, module = str(config.get("class_name", "")), str(config.get("module") or "")
        own = "module" not in config or module.split(".")[0] == "keras"
        if kind in ("Lambda", "TFSMLayer", "__lambda__") or ">" in kind or (kind and not own):
            yield str(config.get("config") if kind == "function" else kind.strip("_"))[:50]
        # What a model was compiled with is not loaded
        config = [item for key, item in config.items() if key != "compile_config"]
    for item in config if isinstance(config, list) else ():
        yield from _foreign(item)


def _modern(config):
    """The config of a model that Keras 2 saved as Keras 3 writes it; that of Keras 3 as it is."""
    if isinstance(config, list):
        return [_modern(item) for item in config]
    if not isinstance(config, dict):
        return config
    config = {key: _modern(item) for key, item in config.items()}
    kind, inner = config.get("class_name"), config.get("config")
    if isinstance(inner, dict):
        if kind == "Functional" and config.get("module"):
            config["module"] = "keras.src.models.functional"
        if config.get("module") and kind != "InputLayer":
            inner.pop("batch_input_shape", None)
        if kind == "Conv2DTranspose" and inner.get("groups") == 1:
            del inner["groups"]
        if kind == "BatchNormalization" and isinstance(inner.get("axis"), list):
            inner["axis"] = inner["axis"][0]
    return config


@contextlib.contextmanager
def _loadable(path):
    """The path of the same model as this Keras loads it: the file itself, or a copy while it is needed."""
    config = _read_config(path)
    modern, suffix = _modern(config), ".h5" if _is_hdf5(path) else ".keras"
    if modern == config and path.suffix == suffix:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, f"generator{suffix}")
        if suffix == ".h5":
            import h5py

            shutil.copyfile(path, copy)
            with h5py.File(copy, "r+") as file:
                file.attrs["model_config"] = json.dumps(modern)
        else:
            with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
                for name in old.namelist():
                    new.writestr(name, json.dumps(modern) if name == "config.json" else old.read(name))
        yield copy


# The model


def load(path, reading):
    """A generator of any shape, and how to use it.

    Args:
        path: pathlib.Path of a .keras or .h5 file that passed check(): noise of any shape, in one or more
            inputs, and maybe a label, a number or one-hot -> images, in any structure of lists and dicts; or
            a whole GAN with such a part.
        reading: sources.Reading.
    Returns:
        generation.Generator, whose images have no empty border any more.
    Raises:
        InputError: it cannot be loaded, is no generator, or two readings are possible.
    """
    import keras

    from fmgan_tf import generation

    model, place, told = _image_part(_load_model(path), path)
    structure = getattr(model, "input", model.inputs[0])  # a Sequential that was never called has no `input`
    inputs = [
        (set(re.findall("[a-z]+", f"{where} {tensor.name}".lower())), tensor)
        for where, tensor in keras.tree.flatten_with_path(structure)
    ]
    label_at, kind = _label_input(inputs, reading.label, path)
    sizes = [math.prod(tensor.shape[1:]) for index, (_, tensor) in enumerate(inputs) if index != label_at]
    classes = _classes(model, inputs[label_at][1]) if kind else 0
    feed = _feeder(structure, inputs, label_at, kind, classes)

    def read_values(outputs):
        return arrays.flat_gray(np.asarray(keras.tree.flatten(outputs)[place], "float32"), path)

    raw = generation.Generator(model, sum(sizes), classes, feed, read_values)
    label = f"label as {kind}, {classes} classes" if classes else "no label"
    if len(inputs) == 1 and reading.label in (None, "in-noise"):
        raw, label = _label_in_noise(raw, reading.label) or (raw, label)
        sizes = [raw.latent_dim]
    if reading.noise == "uniform":
        raw = dataclasses.replace(raw, feed=_from_uniform(raw.feed))
    told += [f"{' + '.join(map(str, sizes))} {reading.noise or 'normal'} values", label]
    noise, labels = generation.sample_noise(0, 256, raw.latent_dim), np.arange(256) % max(1, raw.classes)
    probe = generation.sample_images(raw, noise, labels)
    if any(arrays.layout(tensor.shape[1:]) == probe.shape[1:] for _, tensor in inputs):
        raise InputError(f"{path} is no generator: it turns images into images, expected noise to go in")
    pixels = reading.pixels or arrays.pixels_of(probe, path)
    cut, cropped = arrays.window(arrays.to_bytes(probe, pixels), reading.fit, path)

    def read(outputs):
        return arrays.to_bytes(read_values(outputs), pixels)[cut][..., None]

    told = "; ".join([*told, f"pixels read as {arrays.PIXELS[pixels][0]}", *cropped])
    return dataclasses.replace(raw, read=read, assumed=told)


def _load_model(path):
    from fmgan_tf import generation

    with _loadable(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Keras minds in models of Keras 2 is nobody's fault here
        try:
            return generation.load_model(file)
        except InputError as error:
            raise InputError(f"{str(error).replace(str(file), str(path))}. {SAVE_IMAGES}") from error


def _image_part(model, path):
    """The part of a model that makes images, itself or one within: (model, which output, told in words)."""
    import keras

    def layouts(tensors):
        shapes = [
            [arrays.SIZE if size is None else size for size in tensor.shape[1:]] for tensor in tensors or ()
        ]
        return [arrays.layout(shape) for shape in shapes]

    parts = [model]
    for part in parts:  # grows while it is walked through
        parts += [layer for layer in part.layers if isinstance(layer, keras.Model)]
    for part in parts:
        outputs = layouts(getattr(part, "outputs", None))
        found = sorted((math.prod(size), place) for place, size in enumerate(outputs) if size)
        if not found or (part is not model and any(layouts(part.inputs))):  # the discriminator takes images
            continue
        if len(found) > 1 and found[-1][0] == found[-2][0]:
            raise InputError(f"{path} gives several images of one size at a time, expected one")
        return part, found[-1][1], [] if part is model else [f"the part {part.name!r} of a larger model"]
    ins, outs = ([tuple(t.shape) for t in getattr(model, side, None) or ()] for side in ("inputs", "outputs"))
    raise InputError(
        f"{path} is no generator: it turns inputs of shape {ins} into {outs}, expected images to come out"
    )


def _label_input(inputs, wanted, path):
    """Which input takes the label, and how.

    Args:
        inputs: list of (set of the words in its name, tensor).
        wanted: label of a Reading.
    Returns:
        (index, "number" or "one-hot"), or (None, None).
    """
    shapes = f"its inputs are {[tuple(tensor.shape) for _, tensor in inputs]}"
    sizes = [None if None in tensor.shape[1:] else math.prod(tensor.shape[1:]) for _, tensor in inputs]
    whole = ["int" in str(tensor.dtype) for _, tensor in inputs]
    candidates = []  # (how likely, index, kind)
    for index, (words, _) in enumerate(inputs):
        size = sizes[index] or math.inf
        kind = "number" if size == 1 else "one-hot" if size <= CLASSES else None
        named = any(word.startswith(LABEL_WORDS) or word in ("y", "c") for word in words)
        likely = 4 * named + 2 * whole[index] + (kind == "number")
        is_noise = bool(words & {"noise", "latent", "z"}) and not named
        if kind and not is_noise and (likely or size == CLASSES) and wanted in (None, kind):
            candidates.append((likely, index, kind))
    candidates = sorted(candidates, reverse=True) if len(inputs) > 1 else []
    if len(candidates) > 1 and candidates[0][0] == candidates[1][0]:
        raise InputError(f"{path}: each of several inputs could be the label; {shapes}. Name the one `label`")
    if wanted in ("number", "one-hot") and not candidates:
        raise InputError(f"{path} has no input for a label as {wanted}; {shapes}")
    label_at, kind = candidates[0][1:] if candidates else (None, None)
    rest = [index for index in range(len(inputs)) if index != label_at]
    if not rest or any(sizes[index] is None or whole[index] for index in rest):
        raise InputError(
            f"{path} is no generator: {shapes}, expected noise of a fixed size and at most one label"
        )
    if wanted == "in-noise" and (len(inputs) > 1 or sizes[0] <= CLASSES):
        raise InputError(f"{path} has no noise with room for a label in it; {shapes}")
    return label_at, kind


def _classes(model, tensor):
    """How many classes a generator knows: as many as its label is wide, or its embedding long."""
    import keras

    if math.prod(tensor.shape[1:]) > 1:
        return math.prod(tensor.shape[1:])
    layers, known = list(model.layers), [CLASSES]
    for layer in layers:  # grows while it is walked through
        layers += layer.layers if isinstance(layer, keras.Model) else []
        if isinstance(layer, keras.layers.Embedding):
            known.append(layer.input_dim)
        elif isinstance(layer, keras.layers.CategoryEncoding):
            known.append(layer.num_tokens)
    return min(known)


def _feeder(structure, inputs, label_at, kind, classes):
    """The function of noise (N, latent_dim) and labels (N,) that gives what the model takes."""
    import keras

    def feed(noise, labels):
        values, first = [], 0
        for index, (_, tensor) in enumerate(inputs):
            if index == label_at:
                value = labels if kind == "number" else np.eye(classes)[labels]
            else:
                size = math.prod(tensor.shape[1:])
                value, first = noise[:, first : first + size], first + size
            values.append(value.reshape(-1, *tensor.shape[1:]).astype(tensor.dtype))
        return keras.tree.pack_sequence_as(structure, values)

    return feed


def _from_uniform(feed):
    """The same feed for a generator that was trained on uniform noise in [-1, 1]."""
    from scipy.special import erf

    return lambda noise, labels: feed(erf(noise / math.sqrt(2)), labels)  # the distribution of what is normal


def _label_in_noise(raw, wanted):
    """Takes the label out of a generator's noise, if there is one in the first or last ten values, one-hot.

    A generator that was trained so listens to it more than to all the rest: of the variance of its pixels the
    label explains most (0.79 in one made of cgan). Ten values of plain noise explain little (0.02 to 0.07 in
    the shipped models).

    Args:
        raw: generation.Generator without a label.
        wanted: "in-noise" or None, see sources.Reading.
    Returns:
        (Generator, told in words), or None.
    """
    from fmgan_tf import generation

    free = raw.latent_dim - CLASSES
    if free < CLASSES and not wanted:
        return None
    noise = np.repeat(generation.sample_noise(0, 16, free), CLASSES, 0)
    label = np.tile(np.eye(CLASSES, dtype="float32"), (16, 1))

    def explained(*parts):
        images = generation.sample_images(raw, np.concatenate(parts, 1)).reshape(16, CLASSES, -1)
        return images.var(1).mean() / (images.var((0, 1)).mean() + 1e-9)

    first, last = explained(label, noise), explained(noise, label)
    if not wanted and not (max(first, last) > 0.4 and min(first, last) < 0.2):
        return None
    side = "first" if first > 2 * last else "last"

    def feed(noise, labels):
        label = np.eye(CLASSES, dtype="float32")[labels]
        return raw.feed(np.concatenate([label, noise] if side == "first" else [noise, label], 1), None)

    told = f"label one-hot in the {side} {CLASSES} of {raw.latent_dim} values"
    return dataclasses.replace(raw, latent_dim=free, classes=CLASSES, feed=feed), told
