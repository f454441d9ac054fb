import dataclasses
import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile

import h5py
import imageio.v3 as imageio
import keras
import numpy as np
import pytest
from keras import layers

from fmgan_tf import InputError, data, features, generation, metrics, models, pretrained, recipes
from fmgan_tf.fashion_mnist import CLASS_NAMES
from fmgan_tf.runs import arrays, sources
from fmgan_tf.runs.sources import Reading


def refusal(source, reading=sources.AS_TOLD, load=False):
    """The message with which a source is refused: one line, without escape codes, not too long."""
    with pytest.raises(InputError) as error:
        found = sources.find(source, reading)
        if load:
            sources.open_generator(found)
    message = str(error.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 800
    return message


# Arrays


@pytest.fixture(scope="module")
def real(few):
    return few.test_images[:300, :, :, 0], few.test_labels[:300]


def padded(images, *widths):
    return np.pad(images, ((0, 0), *widths))


def one_hot(labels):
    return np.eye(10, dtype="float32")[labels]


def forms(x, y):
    """What files hold, and what is said of it, for images x uint8 (N, 28, 28) and labels y."""
    column, framed = y[:, None].astype("float32"), padded(x, (2, 2), (2, 2))
    noise = np.random.default_rng(0).normal(size=(len(x), 100))
    unnamed, rows = "images from `{}`; labels from numbers in `{}`", "rows of 784 values read as images"
    return {
        "ours": ({"images": x[..., None], "labels": y}, ""),
        "without channel": ({"images": x}, ""),
        "unnamed": ({"arr_0": x[..., None], "arr_1": y}, unnamed.format("arr_0", "arr_1")),
        "keras.datasets": ({"x_train": x, "y_train": y}, unnamed.format("x_train", "y_train")),
        "other names": ({"samples": x, "Target": y}, unnamed.format("samples", "Target")),
        "any name": ({"garments": x, "what": y}, unnamed.format("garments", "what")),
        "rows": ({"images": x.reshape(-1, 784)}, rows),
        "rows of floats": (
            {"X": x.reshape(-1, 784) / 255},
            f"images from `X`; {rows}; pixels read as [0, 1]",
        ),
        "[0, 1]": ({"images": (x / 255).astype("float32")}, "pixels read as [0, 1]"),
        "[-1, 1]": ({"images": (x / 127.5 - 1).astype("float32")}, "pixels read as [-1, 1]"),
        "[0, 255]": ({"images": x.astype("float64")}, "pixels read as [0, 255]"),
        "overshoot": ({"images": x / 255 * 1.001 - 0.0015}, "pixels read as [0, 1]"),
        "half precision": ({"images": (x / 127.5 - 1).astype("float16")}, "pixels read as [-1, 1]"),
        "int64": ({"images": x.astype("int64")}, "pixels read as [0, 255]"),
        "uint16": ({"images": x.astype("uint16")}, "pixels read as [0, 255]"),
        "channels first": ({"images": x[:, None]}, ""),
        "three channels": ({"images": np.stack([x, x, x], -1)}, ""),
        "opacity": ({"images": np.stack([x, x, x, np.full_like(x, 255)], -1)}, ""),
        "one-hot": ({"images": x, "labels": one_hot(y)}, "labels from one-hot rows in `labels`"),
        "one-hot of bool": ({"images": x, "labels": one_hot(y) > 0}, "labels from one-hot rows in `labels`"),
        "column": ({"images": x, "labels": column}, "labels from floats in `labels`"),
        "floats": ({"images": x, "labels": y.astype("float64")}, "labels from floats in `labels`"),
        "names": ({"images": x, "labels": np.array(CLASS_NAMES)[y]}, "labels from names in `labels`"),
        "twice the same": ({"images": x, "labels": y, "hot": one_hot(y)}, ""),
        "noise beside": ({"images": x, "noise": noise, "y": y}, "labels from numbers in `y`"),
        "border": ({"images": framed}, "32 x 32 cropped to 28 x 28"),
        "border below": (
            {"images": padded(x, (0, 4), (0, 4)) / 127.5 - 1},
            "pixels read as [-1, 1]; 32 x 32 cropped to 28 x 28",
        ),
        "border on one side": ({"images": padded(x, (2, 2), (0, 0))}, "32 x 28 cropped to 28 x 28"),
    }


@pytest.mark.parametrize("form", forms(np.zeros((9, 28, 28), "uint8"), np.arange(9)))
def test_arrays(real, tmp_path, form):
    held, assumed = forms(*real)[form]
    np.savez(tmp_path / "a.npz", **held)
    source = sources.find(tmp_path / "a.npz")
    assert source.assumed == assumed and source.kind == "images" and source.images.dtype == np.uint8
    assert (
        source.images.shape == (300, 28, 28, 1)
        and np.abs(source.images[..., 0] - real[0].astype(int)).max() <= 1
    )
    if len(held) == 1:
        assert source.labels is None
    else:
        assert source.labels.dtype == np.int64 and np.array_equal(source.labels, real[1])


def test_a_choice_of_images_keeps_pairs(real, tmp_path):
    np.savez(tmp_path / "a.npz", images=real[0], labels=real[1])
    drawn = sources.draw(tmp_path / "a.npz", 20, seed=0)
    order = np.random.default_rng(0).permutation(300)[:20]
    assert np.array_equal(drawn.images[..., 0], real[0][order]) and np.array_equal(
        drawn.labels, real[1][order]
    )
    assert len(sources.draw(tmp_path / "a.npz", 500, seed=0).images) == 300


def test_npy(real, tmp_path):
    np.save(tmp_path / "a.npy", real[0] / 255)
    source = sources.find(tmp_path / "a.npy")
    assert np.array_equal(source.images[..., 0], real[0]) and source.assumed == "pixels read as [0, 1]"
    shutil.copy(tmp_path / "a.npy", tmp_path / "a.dat")  # the content says what it is
    assert np.array_equal(sources.find(tmp_path / "a.dat").images, source.images)


IMAGES = np.full((4, 28, 28), 9, "uint8")


@pytest.mark.parametrize(
    "held, expected",
    [
        (
            {"x_train": IMAGES, "x_test": IMAGES},
            "several sets of images: `x_train` uint8 (4, 28, 28), `x_test`",
        ),
        (
            {"images": IMAGES, "y": np.arange(4), "y_train": np.zeros(4)},
            "several sets of labels: `y` int64 (4,), `y_train`",
        ),
        ({"images": IMAGES, "a": np.arange(4), "b": np.zeros(4)}, "several sets of labels"),
        ({"images": IMAGES[0]}, "`images` uint8 (28, 28), expected"),
        ({"vectors": np.zeros((4, 100))}, "holds `vectors` float64 (4, 100), expected `images`"),
        ({}, "holds nothing"),
        ({"images": IMAGES[:0]}, "(0, 28, 28), expected numbers"),
        ({"images": np.zeros((300, 0, 0, 1), "uint8")}, "expected `images`, numbers (N, 28, 28, 1)"),
        ({"images": np.zeros((4, 28, 28), "U3")}, "expected `images`, numbers"),
        ({"images": np.zeros((4, 28, 28), "complex64")}, "expected `images`, numbers"),
        ({"images": np.array([{}], object)}, "plain arrays"),
        ({"images": np.arange(4 * 784 * 3).reshape(4, 28, 28, 3) % 256}, "is in color"),
        (
            {"images": np.arange(4 * 784).reshape(4, 28, 28) % 2},
            "from 0 to 1, which fits none of the usual ranges, or several",
        ),
        ({"images": IMAGES.astype("int16") * -1}, "from -9 to -9"),
        ({"images": IMAGES.astype("uint16") * 257}, "--pixels"),
        (
            {"images": np.where(IMAGES[:, :, ::-1].cumsum(2) > 99, 2.02, -0.81)},
            "from -0.81 to 2.02",
        ),  # standardized
        ({"images": np.pad(np.ones((4, 20, 20)), ((0, 0), (4, 4), (4, 4))) - 0.5}, "from -0.5 to 0.5"),
        ({"images": np.where(IMAGES.cumsum(2) > 99, np.nan, 0.0)}, "NaN"),
        ({"images": np.random.default_rng(0).integers(0, 256, (4, 28, 40))}, "28 x 40 are not square"),
        ({"images": np.random.default_rng(0).integers(0, 256, (4, 300, 300))}, "look like grids"),
        (
            {"images": IMAGES, "labels": np.arange(3)},
            "`labels` int64 (3,), expected 4 whole numbers from 0 to 9",
        ),
        ({"images": IMAGES, "labels": np.arange(4) + 7}, "from 0 to 9"),
        ({"images": IMAGES, "labels": np.arange(4) + 0.5}, "whole numbers"),
        ({"images": IMAGES, "labels": np.full((4, 10), 0.1)}, "one-hot rows"),
        ({"images": IMAGES, "labels": np.array(["cat", "dog"] * 2)}, "`labels` <U3 (4,)"),
        ({"images": IMAGES, "labels": np.arange(4) > 2}, "`labels` bool"),
    ],
)
def test_arrays_that_are_refused(tmp_path, held, expected):
    np.savez(tmp_path / "a.npz", **held)
    assert expected in refusal(tmp_path / "a.npz")


def test_a_user_overrules_what_is_told(real, tmp_path):
    np.savez(tmp_path / "a.npz", images=(real[0] > 127).astype("uint8"))
    assert "--pixels" in refusal(tmp_path / "a.npz")
    assert set(np.unique(sources.find(tmp_path / "a.npz", Reading(pixels="unit")).images)) == {0, 255}
    assert sources.find(tmp_path / "a.npz", Reading(pixels="byte")).images.max() == 1
    np.savez(tmp_path / "b.npz", images=padded(real[0], (2, 2), (2, 2)))
    drawn = sources.draw(sources.find(tmp_path / "b.npz", Reading(fit="resize")), 300, 0)
    assert drawn.images.shape == (300, 28, 28, 1) and drawn.assumed == "32 x 32 resized to 28 x 28"
    noisy = np.random.default_rng(0).integers(0, 256, (300, 32, 32)).astype("uint8")
    np.savez(tmp_path / "c.npz", images=noisy)
    assert sources.draw(tmp_path / "c.npz", 9, 0).assumed == "32 x 32 resized to 28 x 28"
    cropped = sources.find(tmp_path / "c.npz", Reading(fit="crop"))
    assert (
        np.array_equal(cropped.images[..., 0], noisy[:, 2:-2, 2:-2])
        and "cropped to 28 x 28" in cropped.assumed
    )
    for reading in (Reading(noise="uniform"), Reading(label="none")):
        assert "holds images, not a generator; leave out --" in refusal(tmp_path / "a.npz", reading)


def test_sizes(real, tmp_path):
    """A border of doubled images goes where it is a frame; a light background is mentioned."""
    double = np.kron(real[0], np.ones((1, 2, 2), "uint8"))
    for images, assumed in (
        (double, "56 x 56 resized to 28 x 28"),
        (padded(double, (4, 4), (4, 4)), "64 x 64 cropped to 56 x 56; 56 x 56 resized to 28 x 28"),
        (real[0][:, ::2, ::2], "14 x 14 resized to 28 x 28"),
        (255 - real[0], "light background left as it is"),
    ):
        np.savez(tmp_path / "a.npz", images=images)
        drawn = sources.draw(tmp_path / "a.npz", 300, 0)
        assert drawn.images.shape == (300, 28, 28, 1) and drawn.assumed == assumed


def test_bytes_are_those_of_data():
    values = np.linspace(-1.2, 1.2, 5001, dtype="float32")
    assert np.array_equal(arrays.to_bytes(values, "tanh"), data.from_tanh_range(values))
    assert np.array_equal(arrays.to_bytes(values, "unit"), data.from_unit_range(values))


# Pictures


def test_pictures(real, tmp_path):
    for index, image in enumerate(real[0][:20]):
        imageio.imwrite(tmp_path / f"{index:03}.png", image)
    (tmp_path / "notes.txt").touch()
    source = sources.find(tmp_path)
    assert np.array_equal(source.images[..., 0], real[0][:20]) and source.labels is None
    assert source.assumed == "20 pictures"
    for path in tmp_path.glob("*.png"):
        imageio.imwrite(
            path.with_suffix(".jpg"), np.repeat(imageio.imread(path)[..., None], 3, 2), quality=95
        )
        path.unlink()
    assert np.abs(sources.find(tmp_path).images[..., 0] - real[0][:20].astype(int)).mean() < 4
    assert "is one picture" in refusal(tmp_path / "000.jpg")
    imageio.imwrite(tmp_path / "grid.png", np.zeros((56, 56), "uint8"))
    assert "pictures of several forms" in refusal(tmp_path)
    (tmp_path / "grid.png").write_bytes(b"no picture")
    assert "grid.png cannot be read as a picture" in refusal(tmp_path)


def test_pictures_in_a_folder_for_every_class(real, tmp_path):
    for index, (image, label) in enumerate(zip(*real, strict=True)):
        folder = tmp_path / (CLASS_NAMES[label].lower() if label == 9 else str(label))
        folder.mkdir(exist_ok=True)
        imageio.imwrite(folder / f"{index}.png", image)
    source = sources.find(tmp_path)
    assert len(source.images) == 300 and "labels from the names of their folders" in source.assumed
    pairs = {(image.tobytes(), label) for image, label in zip(*real, strict=True)}
    assert {
        (image.tobytes(), label) for image, label in zip(source.images, source.labels, strict=True)
    } == pairs
    (tmp_path / "9").mkdir()
    shutil.copytree(tmp_path / "7", tmp_path / "cats")
    assert "is not a run folder" in refusal(tmp_path)


# Generators of others


@pytest.fixture(scope="module")
def distance(few):
    test, _ = features.classifier_features(few.test_images)
    return lambda images: metrics.frechet_distance(test, features.classifier_features(images)[0])


def noise_and_label(label_first=False):
    """cgan's generator, noise and a one-hot label side by side in one input, as a Keras example has it."""
    source = pretrained.load_pretrained("cgan")

    def dense(layer):
        if isinstance(layer, layers.Embedding):
            return layers.Dense(layer.output_dim, use_bias=False, name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    twin = keras.models.clone_model(
        source, input_tensors=[keras.Input((64,)), keras.Input((10,))], clone_function=dense
    )
    for layer in source.layers:
        if layer.weights:
            twin.get_layer(layer.name).set_weights(layer.get_weights())
    both = keras.Input((74,), name="noise_and_label")
    halves = [both[:, 10:], both[:, :10]] if label_first else [both[:, :64], both[:, 64:]]
    return keras.Model(both, twin(halves))


def of_dcgan(*ends):
    """dcgan's generator with images in [0, 1] and more layers behind it."""
    noise = keras.Input((100,))
    x = layers.Rescaling(0.5, 0.5)(pretrained.load_pretrained("dcgan")(noise))
    for end in ends:
        x = end(x)
    return keras.Model(noise, x)


def end(scale, offset):
    constant = keras.initializers.Constant
    return layers.Conv2D(1, 1, kernel_initializer=constant(scale), bias_initializer=constant(offset))


def of_cgan(noise, label, inputs):
    return keras.Model(inputs, pretrained.load_pretrained("cgan")([noise, label]))


def dict_inputs():
    noise, label = keras.Input((64,), name="noise"), keras.Input((), dtype="int32", name="klass")
    return of_cgan(noise, label, {"noise": noise, "klass": label})  # sorting changes their order


def named_otherwise():
    noise, label = keras.Input((64,), name="a"), keras.Input((1,), dtype="float32", name="b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras minds keys that are no names
        return of_cgan(noise, layers.Flatten()(label)[:, 0], [{"z": noise}, (label,)])


CASES = {  # model, reading, whose images they are, what is said, and the most that its FID-FMNIST may be
    "one-hot in noise": (
        noise_and_label,
        Reading(),
        "cgan",
        "64 normal values; label one-hot in the last 10 of 74 values; pixels read as [-1, 1]",
        2,
    ),
    "one-hot in noise, said": (
        noise_and_label,
        Reading(label="in-noise"),
        "cgan",
        "64 normal values; label one-hot in the last 10 of 74 values; pixels read as [-1, 1]",
        None,
    ),
    "one-hot before noise": (
        lambda: noise_and_label(label_first=True),
        Reading(),
        "cgan",
        "64 normal values; label one-hot in the first 10 of 74 values; pixels read as [-1, 1]",
        None,
    ),
    "linear end": (
        lambda: of_dcgan(end(1.03, -0.015)),
        Reading(),
        "dcgan",
        "100 normal values; no label; pixels read as [0, 1]",
        8,
    ),
    "larger overshoot": (
        lambda: of_dcgan(end(1.1, -0.04)),
        Reading(),
        "dcgan",
        "100 normal values; no label; pixels read as [0, 1]",
        None,
    ),
    "tanh end on [0, 1]": (
        lambda: of_dcgan(layers.Activation("tanh"), end(1.3, -0.01)),
        Reading(),
        "dcgan",
        "100 normal values; no label; pixels read as [0, 1]",
        30,
    ),
    "[0, 255]": (
        lambda: of_dcgan(end(260.0, -3.0)),
        Reading(),
        "dcgan",
        "100 normal values; no label; pixels read as [0, 255]",
        8,
    ),
    "padded": (
        lambda: of_dcgan(layers.ZeroPadding2D(2)),
        Reading(),
        "dcgan",
        "100 normal values; no label; pixels read as [0, 1]; 32 x 32 cropped to 28 x 28",
        8,
    ),
    "padded on one side": (
        lambda: of_dcgan(layers.ZeroPadding2D(((0, 4), (4, 0)))),
        Reading(),
        "dcgan",
        "100 normal values; no label; pixels read as [0, 1]; 32 x 32 cropped to 28 x 28",
        None,
    ),
    "flat": (
        lambda: of_dcgan(layers.Flatten()),
        Reading(),
        "dcgan",
        "100 normal values; no label; pixels read as [0, 1]",
        None,
    ),
    "channels first": (
        lambda: of_dcgan(layers.Permute((3, 1, 2))),
        Reading(),
        "dcgan",
        "100 normal values; no label; pixels read as [0, 1]",
        8,
    ),
    "dict inputs": (
        dict_inputs,
        Reading(),
        "cgan",
        "64 normal values; label as number, 10 classes; pixels read as [-1, 1]",
        2,
    ),
    "nested inputs": (
        named_otherwise,
        Reading(),
        "cgan",
        "64 normal values; label as number, 10 classes; pixels read as [-1, 1]",
        None,
    ),
}


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
@pytest.mark.parametrize("case", CASES)
def test_what_is_told_of_a_generator(distance, tmp_path, case):
    build, reading, origin, assumed, most = CASES[case]
    build().save(tmp_path / "g.keras")
    drawn = sources.draw(sources.find(tmp_path / "g.keras", reading), 1000, seed=3)
    right = sources.draw(origin, 1000, seed=3)
    assert drawn.assumed == assumed and right.assumed == ""
    assert (drawn.labels is None) == (origin == "dcgan")
    if origin == "cgan":
        assert np.array_equal(drawn.labels, right.labels)
    differences = np.abs(drawn.images.astype(int) - right.images)
    assert differences.mean() < (20 if "tanh" in case else 7), "only the overshoot may differ"
    if most:
        assert distance(drawn.images) < most


def test_a_wrong_reading_is_what_makes_figures_wrong(distance, tmp_path):
    """So that the limits above mean something."""
    noise_and_label().save(tmp_path / "a.keras")
    drawn = sources.draw(sources.find(tmp_path / "a.keras", Reading(label="none")), 1000, seed=3)
    assert drawn.assumed == "74 normal values; no label; pixels read as [-1, 1]" and drawn.labels is None
    assert distance(drawn.images) > 10
    of_dcgan(end(1.03, -0.015)).save(tmp_path / "b.keras")
    assert (
        distance(sources.draw(sources.find(tmp_path / "b.keras", Reading(pixels="tanh")), 1000, 3).images)
        > 20
    )
    of_dcgan(layers.ZeroPadding2D(2)).save(tmp_path / "c.keras")
    drawn = sources.draw(sources.find(tmp_path / "c.keras", Reading(fit="resize")), 1000, 3)
    assert distance(drawn.images) > 9 and drawn.assumed.endswith("32 x 32 resized to 28 x 28")


def test_generators_that_are_not_square_28(tmp_path):
    of_dcgan(layers.UpSampling2D(2)).save(tmp_path / "a.keras")
    drawn = sources.draw(tmp_path / "a.keras", 8, 0)
    assert drawn.images.shape == (8, 28, 28, 1) and drawn.assumed.endswith("56 x 56 resized to 28 x 28")
    generator = sources.open_generator(tmp_path / "a.keras")
    assert generation.sample_images(generator, generation.sample_noise(0, 2, 100)).shape == (2, 56, 56, 1)
    of_dcgan(layers.ZeroPadding2D(((0, 0), (3, 3)))).save(tmp_path / "b.keras")
    assert "28 x 34 cropped to 28 x 28" in sources.draw(tmp_path / "b.keras", 8, 0).assumed


def generator(*inputs, structure=None, activation="tanh", shape=(28, 28, 1), scale=1.0, classes=10):
    """An untrained generator that pays attention to all of its inputs."""
    flat = [layers.Embedding(classes, 4)(x) if "int" in x.dtype else x for x in inputs]
    flat = [layers.Flatten()(x) for x in flat]
    x = layers.concatenate(flat) if len(flat) > 1 else flat[0]
    x = layers.Dense(int(np.prod(shape)), activation=activation, kernel_initializer="random_normal")(x)
    if scale != 1.0:
        x = layers.Rescaling(scale)(x)
    return keras.Model(structure or list(inputs), layers.Reshape(shape)(x))


def z(*shape, name="z"):
    return keras.Input(shape or (6,), name=name)


STRANGERS = {  # model, reading, latent_dim, classes, what goes in, from noise and labels
    "plain": (lambda: generator(z()), Reading(), 6, 0, lambda n, y: n),
    "embedded": (
        lambda: generator(z(), keras.Input((), dtype="int32")),
        Reading(),
        6,
        10,
        lambda n, y: [n, y],
    ),
    "label first": (
        lambda: generator(keras.Input((1,), dtype="int64"), z()),
        Reading(),
        6,
        10,
        lambda n, y: [y[:, None], n],
    ),
    "ten noises": (
        lambda: generator(z(10), keras.Input((1,))),
        Reading(),
        10,
        10,
        lambda n, y: [n, y[:, None] * 1.0],
    ),
    "one-hot first": (
        lambda: generator(keras.Input((10,)), z()),
        Reading(),
        6,
        10,
        lambda n, y: [one_hot(y), n],
    ),
    "one-hot, flat": (
        lambda: generator(z(), keras.Input((10,)), shape=(28, 28)),
        Reading(),
        6,
        10,
        lambda n, y: [n, one_hot(y)],
    ),
    "named": (
        lambda: generator(z(10), z(10, name="class_vector")),
        Reading(),
        10,
        10,
        lambda n, y: [n, one_hot(y)],
    ),
    "three classes": (
        lambda: generator(z(), z(3, name="label")),
        Reading(),
        6,
        3,
        lambda n, y: [n, one_hot(y)[:, :3]],
    ),
    "two classes": (
        lambda: generator(z(), keras.Input((), dtype="int32"), classes=2),
        Reading(),
        6,
        2,
        lambda n, y: [n, y],
    ),
    "ten more noises": (
        lambda: generator(z(), z(10, name="more")),
        Reading(label="none"),
        16,
        0,
        lambda n, y: [n[:, :6], n[:, 6:]],
    ),
    "two noises": (
        lambda: generator(z(), z(7, name="style")),
        Reading(),
        13,
        0,
        lambda n, y: [n[:, :6], n[:, 6:]],
    ),
    "noise maps": (lambda: generator(z(1, 1, 6)), Reading(), 6, 0, lambda n, y: n.reshape(-1, 1, 1, 6)),
    "more noise maps": (lambda: generator(z(2, 3, 4)), Reading(), 24, 0, lambda n, y: n.reshape(-1, 2, 3, 4)),
    "in maps": (
        lambda: generator(z(1, 1, 16)),
        Reading(label="in-noise"),
        6,
        10,
        lambda n, y: np.concatenate([n, one_hot(y)], 1).reshape(-1, 1, 1, 16),
    ),
    "32 x 32": (lambda: generator(z(), shape=(32, 32, 1)), Reading(), 6, 0, lambda n, y: n),
    "half precision": (
        lambda: generator(keras.Input((6,), dtype="float16")),
        Reading(),
        6,
        0,
        lambda n, y: n.astype("float16"),
    ),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", STRANGERS)
def test_generators_of_others(tmp_path, name, suffix):
    build, reading, latent_dim, classes, inputs = STRANGERS[name]
    model = build()
    model.save(tmp_path / f"g{suffix}")
    source = sources.find(tmp_path / f"g{suffix}", reading)
    opened = sources.open_generator(source)
    assert (opened.latent_dim, opened.classes) == (latent_dim, classes) and opened is sources.open_generator(
        source
    )
    labels = np.random.default_rng(4).permutation(np.arange(300) % classes) if classes else None
    noise = generation.sample_noise(4, 300, latent_dim)
    images = generation.sample_images(opened, noise, labels)
    output = np.asarray(model(inputs(noise, labels)))
    expected = data.from_tanh_range(output).reshape(300, *output.shape[1:3], 1)
    assert np.abs(images.astype(int) - expected).max() <= 1
    drawn = sources.draw(source, 300, seed=4)
    assert np.array_equal(drawn.images, data.resize(images, 28))
    assert drawn.labels is None if labels is None else np.array_equal(drawn.labels, labels)
    assert ("6 + 7 normal values; no label" in drawn.assumed) == (name == "two noises")


def test_uniform_noise(tmp_path):
    generator(z()).save(tmp_path / "g.keras")
    opened = sources.open_generator(sources.find(tmp_path / "g.keras", Reading(noise="uniform")))
    (fed,) = keras.tree.flatten(opened.feed(generation.sample_noise(0, 20_000, 6), None))
    assert "6 uniform values" in opened.assumed and -1 <= fed.min() < -0.999 and 0.999 < fed.max() <= 1
    counts, _ = np.histogram(fed, 10, (-1, 1))
    assert np.abs(counts - counts.mean()).max() < 0.03 * counts.mean()


@pytest.mark.parametrize(
    "activation, scale, pixels",
    [("tanh", 1.0, "tanh"), ("sigmoid", 1.0, "unit"), ("tanh", 0.99, "tanh"), ("sigmoid", 255.0, "byte")],
)
def test_the_range_of_untrained_generators(tmp_path, activation, scale, pixels):
    generator(z(), activation=activation, scale=scale).save(tmp_path / "g.keras")
    assert (
        f"pixels read as {arrays.PIXELS[pixels][0]}" in sources.open_generator(tmp_path / "g.keras").assumed
    )


def test_several_outputs(tmp_path):
    noise = z()
    image, small = generator(noise).output, layers.Reshape((14, 14, 1))(layers.Dense(196)(noise))
    for outputs in (
        {"picture": image, "aux": layers.Dense(3)(noise)},
        [small, image],
        [image, layers.Dense(1)(noise)],
    ):
        keras.Model(noise, outputs).save(tmp_path / "g.keras")
        opened = sources.open_generator(tmp_path / "g.keras")
        assert generation.sample_images(opened, generation.sample_noise(0, 3, 6)).shape == (3, 28, 28, 1)
    keras.Model(noise, [image, layers.Reshape((28, 28))(image)]).save(tmp_path / "g.keras")
    assert "several images of one size" in refusal(tmp_path / "g.keras", load=True)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_whole_gan(tmp_path, suffix):
    judge = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(1)], name="judge")
    noise, label = z(), keras.Input((), dtype="int32", name="label")
    parts = [(generator(z()), [noise]), (generator(z(), keras.Input((), dtype="int32")), [noise, label])]
    for part, inputs in parts:
        whole = keras.Model(inputs, judge(part(inputs if label in inputs else noise)))
        whole.save(tmp_path / f"g{suffix}")
        opened = sources.open_generator(tmp_path / f"g{suffix}")
        assert opened.assumed.startswith(f"the part '{part.name}' of a larger model; 6 normal values")
        noises, labels = generation.sample_noise(0, 4, 6), np.arange(4)
        expected = data.from_tanh_range(part([noises, labels] if label in inputs else noises))
        assert np.abs(generation.sample_images(opened, noises, labels).astype(int) - expected).max() <= 1


def not_generators():
    image, noise = keras.Input((28, 28, 1)), z()
    broken = generator(z())
    broken.set_weights([np.full_like(weight, np.nan) for weight in broken.get_weights()])
    ten = Reading(label="one-hot")
    return {
        "classifier": (features.classifier(), Reading(), "into [(None, 10)], expected images to come out"),
        "discriminator": (models.build_dcgan_discriminator(), Reading(), "expected images to come out"),
        "autoencoder": (
            keras.Model(image, layers.Conv2D(1, 3, padding="same")(image)),
            Reading(),
            "expected noise",
        ),
        "flat autoencoder": (generator(z(784), shape=(784,)), Reading(), "turns images into images"),
        "colors": (generator(noise, shape=(28, 28, 3)), Reading(), "is in color"),
        "vectors": (keras.Model(noise, layers.Dense(100)(noise)), Reading(), "expected images"),
        "sentence": (
            keras.Model((x := z(None, 3)), generator(z(3))(layers.GlobalMaxPooling1D()(x))),
            Reading(),
            "expected noise of a fixed size",
        ),
        "two labels": (
            generator(z(10, name="a"), z(10, name="b")),
            Reading(),
            "each of several inputs could be the label",
        ),
        "two numbers": (
            generator(z(), keras.Input((), dtype="int32"), keras.Input((), dtype="int32")),
            Reading(),
            "each of several inputs",
        ),
        "label only": (generator(keras.Input((), dtype="int32")), Reading(), "expected noise"),
        "no such label": (generator(noise), ten, "no input for a label as one-hot"),
        "no room": (generator(noise), Reading(label="in-noise"), "no noise with room for a label"),
        "label as noise": (
            generator(z(), keras.Input((), dtype="int32")),
            Reading(label="none"),
            "at most one label",
        ),
        "nan": (broken, Reading(), "NaN"),
        "other range": (generator(noise, scale=40.0), Reading(), "--pixels"),
        "oblong": (generator(noise, shape=(28, 40, 1)), Reading(), "28 x 40 are not square"),
        "grid": (generator(noise, shape=(280, 280, 1)), Reading(), "look like grids"),
    }


def test_what_is_no_generator_is_refused(tmp_path):
    for name, (model, reading, expected) in not_generators().items():
        model.save(tmp_path / f"{name}.keras")
        assert expected in refusal(tmp_path / f"{name}.keras", reading, load=True), name


# Files of every kind


@keras.saving.register_keras_serializable()
class PixelNorm(layers.Layer):
    def call(self, x):
        return x


class Unregistered(layers.Layer):
    def call(self, x):
        return x


def swish_of_mine(x):
    return x


def foreign():
    def after(*ends):
        return keras.Sequential([z(), layers.Dense(784), *ends, layers.Reshape((28, 28, 1))])

    return {
        "Lambda": after(layers.Lambda(lambda x: 2 * x)),
        "PixelNorm": after(PixelNorm()),
        "Unregistered": after(Unregistered()),
        "swish_of_mine": after(layers.Activation(swish_of_mine)),
    }


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_of_others_is_named_and_not_run(tmp_path, suffix):
    for name, model in foreign().items():
        model.save(tmp_path / f"g{suffix}")
        known = dict(keras.saving.get_custom_objects())
        keras.saving.get_custom_objects().clear()  # as in a program that never saw the class
        try:
            message = refusal(tmp_path / f"g{suffix}", load=True)
        finally:
            keras.saving.get_custom_objects().update(known)
        assert name in message and "np.savez" in message


def test_files_and_folders_that_are_something_else(tmp_path):
    model = generator(z())
    model.save_weights(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "old.h5", "w") as file:  # as Keras 2 wrote weights
        file.attrs["layer_names"] = [b"dense"]
        file.create_dataset("dense/kernel:0", data=np.zeros((6, 784)))
    for name in (
        "saved/saved_model.pb",
        "checkpoints/checkpoint",
        "empty/notes.txt",
        "runs/a/run.json",
        "a.ckpt.index",
        "a.pt",
        "a.onnx",
        "a.pkl",
        "a.json",
        "a.tar",
        "a.csv",
        "a.txt",
        "no_suffix",
        "damaged.npz",
        "damaged.npy",
        "damaged.keras",
        "damaged.h5",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"not what it seems")
    model.save(tmp_path / "g.keras")
    with zipfile.ZipFile(tmp_path / "g.keras") as archive:
        archive.extractall(tmp_path / "unpacked")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.png", b"")
    for name, expected in {
        "a.weights.h5": "holds weights alone",
        "old.h5": 'generator.save("generator.keras")',
        "saved": "is a SavedModel",
        "checkpoints": "holds a TensorFlow checkpoint",
        "unpacked": "is an unpacked .keras file. Pack it: cd ",
        "empty": "is not a run folder, like runs/dcgan, nor one of pictures; expected a run folder, a .keras",
        "runs": "is not a run folder",
        "a.ckpt.index": "a TensorFlow checkpoint",
        "a.pt": "another library",
        "a.onnx": "another library",
        "a.pkl": "a pickle",
        "a.json": "without weights",
        "a.zip": "is packed",
        "a.tar": "is packed",
        "a.csv": "a table",
        "a.txt": "is something else; expected a run folder, a .keras generator or an .npz",
        "no_suffix": "is something else",
        "damaged.npz": "cannot be read as an .npz",
        "damaged.npy": "cannot be read as an .npy",
        "damaged.keras": "cannot be loaded",
        "damaged.h5": "cannot be loaded",
        "nowhere": "does not exist; expected a run folder",
    }.items():
        assert expected in refusal(tmp_path / name), name
    assert "Did you mean 'dcgan'?" in refusal("dcgn")


def test_what_a_file_is_decides_not_its_name(tmp_path):
    model, noise = generator(z()), generation.sample_noise(0, 4, 6)
    model.save(tmp_path / "a.h5")
    model.save(tmp_path / "a.keras")
    (tmp_path / "a.h5").rename(tmp_path / "old.keras")  # as Keras 2 wrote such files for a while
    (tmp_path / "a.keras").rename(tmp_path / "model.zip")
    for name in ("old.keras", "model.zip"):
        images = generation.sample_images(sources.open_generator(tmp_path / name), noise)
        assert np.abs(images.astype(int) - data.from_tanh_range(model(noise))).max() <= 1


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_of_keras_2_that_cannot_be_loaded_says_so(tmp_path, suffix):
    path = tmp_path / f"g{suffix}"
    pretrained.load_pretrained("dcgan").save(path)
    if suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = file.attrs["model_config"]
            file.attrs["model_config"] = config.replace('"strides":', '"groups": 1, "strides":')
            file.attrs["keras_version"] = "2.15.0"
    else:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        parts["config.json"] = parts["config.json"].replace(b"keras.src.models", b"keras.src.engine")
        parts["metadata.json"] = json.dumps({"keras_version": "2.15.0"})
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    message = refusal(path, load=True)
    assert f"{path} cannot be loaded" in message and "It is a file of Keras 2. In the program" in message


def test_a_model_of_a_newer_keras_says_so(tmp_path):
    path = tmp_path / "new.keras"
    generator(z()).save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["metadata.json"] = json.dumps({"keras_version": "99.0"}).encode()

    def write(old=b"", new=b""):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(
                    name, content.replace(old, new) if old and name == "config.json" else content
                )

    write()
    assert sources.open_generator(path).latent_dim == 6  # what can be loaded is, whatever saved it
    write(b'"stddev"', b'"what_comes_next"')
    message = refusal(path, load=True)
    assert f"cannot be loaded by Keras {keras.__version__}; it was saved by 99.0 (" in message


# Our own


def a_run(folder, recipe):
    folder.mkdir()
    builder = getattr(models, recipe.generator)
    builder(latent_dim=recipe.latent_dim, image_size=recipe.image_size).save(folder / "generator.keras")
    (folder / "run.json").write_text(json.dumps({"recipe": dataclasses.asdict(recipe)}))
    return folder


def test_a_run_folder(tmp_path):
    recipe = recipes.override(recipes.get("dcgan"), {"image_size": 32})
    folder = a_run(tmp_path / "run", recipe)
    source = sources.find(folder)
    assert (source.kind, source.recipe) == ("run", recipe)
    drawn = sources.draw(source, 10, seed=2)
    made = data.from_tanh_range(source.generator.model(generation.sample_noise(2, 10, 100)))
    assert drawn.labels is None and np.array_equal(drawn.images, data.resize(made, 28))
    assert drawn.assumed == "32 x 32 resized to 28 x 28" and source.generator.assumed == ""
    for reading, option in (
        (Reading(noise="normal"), "--noise"),
        (Reading(label="none"), "--label-as"),
        (Reading(pixels="tanh"), "--pixels"),
        (Reading(fit="crop"), "--fit"),
    ):
        for name in (folder, "cgan"):
            assert f"of which nothing is guessed; leave out {option}" in refusal(name, reading)
    (folder / "generator.keras").unlink()
    assert f"Finish it with train --resume --output {folder}" in refusal(folder)
    (folder / "classifier.keras").touch()
    assert "holds a classifier" in refusal(folder)
    for damaged in ("", "{}", '{"recipe": {"name": "dcgan"}}', "[1]"):
        (tmp_path / "run" / "run.json").write_text(damaged)
        (folder / "classifier.keras").unlink(missing_ok=True)
        (folder / "generator.keras").touch()
        assert "missing or damaged" in refusal(folder)


def test_shipped_models_are_drawn_as_their_figures_were(tmp_path):
    source = sources.find("cgan")
    assert source.kind == "shipped" and source.recipe.name == "cgan"
    drawn = sources.draw(source, 40, seed=1)
    labels = np.random.default_rng(1).permutation(np.arange(40) % 10)
    noise = np.random.default_rng(1).standard_normal((40, 64), "float32")
    made = data.from_tanh_range(pretrained.load_pretrained("cgan")([noise, labels]))
    assert np.array_equal(drawn.labels, labels) and np.abs(drawn.images.astype(int) - made).max() <= 1
    assert drawn.assumed == ""
    unit = sources.draw("dense-cgan", 6, seed=1)
    made = pretrained.load_pretrained("dense-cgan")(
        [np.random.default_rng(1).standard_normal((6, 100), "float32"), unit.labels]
    )
    assert (
        set(unit.labels) == {0, 1} and np.abs(unit.images.astype(int) - data.from_unit_range(made)).max() <= 1
    )
    assert sources.find(source) is source


def test_images_are_no_generator(real, tmp_path):
    np.savez(tmp_path / "a.npz", images=real[0])
    assert "holds images, expected a generator" in refusal(tmp_path / "a.npz", load=True)


def test_images_of_some_classes_are_set_against_those_classes(fashion_mnist, tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES)
    assert sources.real_images(tmp_path / "a.npz", fashion_mnist) is fashion_mnist
    found = sources.real_images(tmp_path / "a.npz", fashion_mnist, np.array([3, 7, 3]))
    assert set(found.test_labels) == set(found.train_labels) == {3, 7}
    assert len(found.test_images) == 2000 and len(found.train_images) == 12_000
    # It was trained on most test images of two classes: it is set against those that it has not seen
    found = sources.real_images("dense-cgan", fashion_mnist)
    assert len(found.test_images) == 1400 and len(found.train_images) == 11_200
    seen = {image.tobytes() for image in found.train_images}
    assert sum(image.tobytes() in seen for image in found.test_images) < 5  # Fashion-MNIST has a few doubles


def test_nothing_is_loaded_to_refuse(real, tmp_path):
    """Not TensorFlow, not the dataset, and within two seconds."""
    np.savez(tmp_path / "images.npz", images=np.repeat(real[0] / 255.0, 50, 0), labels=np.repeat(real[1], 50))
    np.savez(tmp_path / "bad.npz", images=np.repeat(real[0] / 255.0 - 0.5, 50, 0))
    foreign()["Lambda"].save(tmp_path / "lambda.keras")
    foreign()["Lambda"].save(tmp_path / "lambda.h5")
    generator(z()).save(tmp_path / "good.keras")
    code = """
import sys, time
start = time.perf_counter()
from fmgan_tf import InputError
from fmgan_tf.runs import sources
for name in sys.argv[1:]:
    try:
        print(sources.find(name).kind)
    except InputError:
        print("refused")
assert not {"tensorflow", "keras", "matplotlib"} & set(sys.modules)
print(time.perf_counter() - start)
"""
    names = ["images.npz", "bad.npz", "lambda.keras", "lambda.h5", "good.keras", "nowhere"]
    paths = ["dcgan", *(str(tmp_path / name) for name in names)]
    environment = os.environ | {"PYTHONPATH": str(pretrained.ASSETS.parent)}
    result = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, env=environment
    )
    *kinds, seconds = result.stdout.split()
    assert kinds == ["shipped", "images", "refused", "refused", "refused", "generator", "refused"], (
        result.stderr
    )
    assert float(seconds) < 2


# Sameness


def test_images_that_are_the_same(real):
    images, labels = real[0][..., None], real[1]
    assert sources.sameness(images, labels) == "" and not sources.collapsed(images)
    one = np.repeat(images[:1], 2000, 0)
    assert sources.sameness(one) == "1 different image among 2,000: the generator has collapsed"
    ten = images[[np.argmax(labels == label) for label in range(10)]]
    tiled = np.tile(ten, (200, 1, 1, 1))
    expected = "10 different images among 2,000: the generator has collapsed"
    assert sources.sameness(tiled, np.arange(2000) % 10) == expected
    assert sources.collapsed(one) and sources.collapsed(tiled) and sources.different_images(tiled) == 10
    # Nearly the same: no two alike to the pixel
    nearly = np.clip(tiled + np.random.default_rng(0).integers(-2, 3, tiled.shape), 0, 255).astype("uint8")
    assert sources.different_images(nearly) == 2000 and sources.collapsed(nearly)
    assert sources.sameness(nearly) == "10 different images among 500: the generator has collapsed"
    half = np.concatenate([images, images[:100], images[:100]])
    assert sources.sameness(half) == "300 different images among 500: many come more than once"
    assert (
        not sources.collapsed(half)
        and not sources.collapsed(images[:1])
        and sources.sameness(images[:1]) == ""
    )


def test_uneven_classes(real):
    images = np.tile(real[0], (4, 1, 1)) + np.arange(1200, dtype="uint8")[:, None, None]
    random = np.random.default_rng(0)
    assert sources.sameness(images, random.integers(0, 10, 1200)) == ""
    assert sources.sameness(images, np.arange(1200) % 2) == ""  # two classes are all there is
    mostly = np.where(random.random(1200) < 0.9, 0, random.integers(0, 10, 1200))
    assert sources.sameness(images, mostly).startswith(
        f"uneven classes: among 1,200 images {(mostly == 0).sum():,} of T-shirt/top, "
    )
    few_boots = np.append(np.arange(1197) % 9, [9, 9, 9])
    assert sources.sameness(images, few_boots).endswith("3 of Ankle boot")
