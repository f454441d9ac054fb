"""Generators that somebody else saved with Keras. What nobody wrote down is told by shapes, names and values.
TensorFlow is imported when a model is loaded, not before.
"""

import dataclasses
import json
import math
import pathlib
import re
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


def check(path):
    """Refuses a .keras or HDF5 file that holds no whole model, or needs code which is not Keras's own."""
    config, _ = _read_config(path)
    if config is None:
        raise InputError(
            f"{path} holds weights alone, without their layers. In the program that has those: "
            'generator.load_weights(...), then generator.save("generator.keras")'
        )
    foreign = ", ".join(sorted(set(_foreign(config))))
    if foreign:
        raise InputError(f"{path} needs code other than Keras's, which is not run: {foreign}. {SAVE_IMAGES}")


def _read_config(path):
    """(config of the model in a file, None if it holds none; version of the Keras that saved it)."""
    try:
        if _is_hdf5(path):
            import h5py

            with h5py.File(path, "r") as file:
                config, version = file.attrs.get("model_config"), file.attrs.get("keras_version")
        else:
            with zipfile.ZipFile(path) as archive:
                config = archive.read("config.json")
                version = json.loads(archive.read("metadata.json"))["keras_version"]
        return None if config is None else json.loads(config), str(version)
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


def load(path, reading):
    """A generator of any shape as a generation.Generator, whose images have no empty border any more.
    Args:
        path: of a file that passed check(): noise of any shape, in one or more inputs, and maybe a label, a
            number or one-hot -> images, in any structure of lists and dicts; or a whole GAN with such a part.
        reading: sources.Reading.
    Raises:
        InputError: it cannot be loaded, is no generator, or two readings are possible.
    """
    import keras

    from fmgan_tf import generation

    model, place, told = _image_part(_load_model(path), path)
    structure = getattr(model, "input", model.inputs[0])  # a Sequential that was never called has no `input`
    inputs = []
    for where, tensor in keras.tree.flatten_with_path(structure):
        inputs.append((set(re.findall("[a-z]+", f"{where} {tensor.name}".lower())), tensor))
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

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Keras minds in old models is nobody's fault here
        file = pathlib.Path(folder, "generator.h5" if _is_hdf5(path) else "generator.keras")
        file.symlink_to(path.absolute())  # Keras goes by the name
        try:
            return generation.load_model(file)
        except InputError as error:
            old = "It is a file of Keras 2. " if _read_config(path)[1].startswith("2") else ""
            raise InputError(f"{str(error).replace(str(file), str(path))}. {old}{SAVE_IMAGES}") from error


def _image_part(model, path):
    """The part of a model that makes images, itself or one within: (model, which output, told in words)."""
    import keras

    def layouts(tensors):
        shapes = [tensor.shape[1:] for tensor in tensors or ()]
        return [arrays.layout([size or arrays.SIZE for size in shape]) for shape in shapes]

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
    shapes = f"inputs of shape {ins} into {outs}"
    raise InputError(f"{path} is no generator: it turns {shapes}, expected images to come out")


def _label_input(inputs, wanted, path):
    """(index of the input that takes the label, "number" or "one-hot"), or (None, None).
    Args:
        inputs: list of (set of the words in its name, tensor).
        wanted: label of a Reading.
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
        expected = "noise of a fixed size and at most one label"
        raise InputError(f"{path} is no generator: {shapes}, expected {expected}")
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
    """(Generator, told) that takes the label out of the noise, if that is wanted, or if one is in its first
    or last ten values, one-hot; else None. A generator that was trained so listens to it more than to all the
    rest: the label explains most of the variance of its pixels (0.79 in one made of cgan), ten values of
    plain noise little (0.02 to 0.07 in the shipped models)."""
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
