"""Generators and images that somebody else made, in the forms in which real users have them."""

import shutil

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from fmgan_tf import InputError, data, datasets, generation
from fmgan_tf.runs import evaluation, sources

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def shipped():
    return generation.load_generator("cgan").model


def garments(count=200, side=28):
    """Pixels in [0, 255] with an empty border: squares of random gray on black."""
    images = np.zeros((count, side, side), "float64")
    images[:, 3:-3, 4:-4] = RANDOM.integers(0, 256, (count, side - 6, side - 8))
    return images


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


# Images in files


@pytest.mark.parametrize(
    "name, form, note",
    [
        ("arr_0", lambda x: x.astype("uint8"), "images from `arr_0`"),
        ("x_train", lambda x: x.astype("uint8")[..., None], "images from `x_train`"),
        ("images", lambda x: x.reshape(-1, 784).astype("uint8"), ""),
        ("images", lambda x: x.astype("uint8")[:, None], ""),
        ("images", lambda x: (x / 255).astype("float32"), "pixels: unit"),
        ("images", lambda x: (x / 127.5 - 1).astype("float16"), "pixels: tanh"),
        ("images", lambda x: x.astype("float32"), "pixels: byte"),
        ("images", lambda x: x.astype("int64"), "pixels: byte"),
        ("images", lambda x: np.repeat(x.astype("uint8")[..., None], 3, -1), ""),
        ("images", lambda x: np.repeat((x / 255)[..., None], 4, -1) ** [1, 1, 1, 0], "pixels: unit"),
    ],
)
def test_arrays_in_every_usual_form(tmp_path, name, form, note):
    wanted = garments()
    source = sources.open(save(tmp_path / "a.npz", **{name: form(wanted)}))
    assert source.images.shape == (200, 28, 28, 1) and source.images.dtype == np.uint8
    assert np.abs(source.images[..., 0] - wanted).max() <= 1 and source.assumed == note


@pytest.mark.parametrize(
    "name, form",
    [
        ("labels", lambda y: y),
        ("labels", lambda y: y.astype("float32")),
        ("y", lambda y: y[:, None].astype("uint8")),
        ("target", lambda y: np.eye(10)[y]),
        ("labels", lambda y: np.array(datasets.CLASS_NAMES)[y]),
        ("arr_1", lambda y: y),
    ],
)
def test_labels_in_every_usual_form(tmp_path, name, form):
    labels = np.arange(200) % 10
    source = sources.open(save(tmp_path / "a.npz", images=garments().astype("uint8"), **{name: form(labels)}))
    np.testing.assert_array_equal(source.given, labels)
    assert ("labels from" in source.assumed) == (name != "labels")


@pytest.mark.parametrize(
    "arrays, expected",
    [
        (
            {"images": np.linspace(-0.5, 0.5, 15680).reshape(20, 28, 28)},
            "fits none of the usual ranges, or several",
        ),
        ({"images": np.full((20, 28, 28), np.nan)}, "NaN or infinite"),
        ({"images": np.zeros((0, 28, 28))}, "expected numbers"),
        ({"images": np.zeros((20, 5))}, "expected numbers"),
        ({"a": np.zeros((20, 28, 28)), "b": np.zeros((20, 28, 28))}, "expected one array of images"),
        ({"images": np.zeros((20, 28, 28)), "labels": np.full(20, 11)}, "expected 20 classes as numbers"),
        ({}, "holds nothing"),
    ],
)
def test_what_cannot_be_told_is_one_clear_error(tmp_path, arrays, expected):
    with pytest.raises(InputError, match=expected):
        sources.open(save(tmp_path / "a.npz", **arrays))


def test_files_that_are_something_else(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("a.pt", "a.csv", "a.png", "unpacked"):
        (tmp_path / name).touch()
    for name in ("a.npz", "a.csv", "pickle.npy"):
        with pytest.raises(InputError, match="cannot be read as plain arrays"):
            sources.open(tmp_path / name)
    for name in ("a.pt", "a.png", "unpacked"):
        with pytest.raises(InputError, match=r"is something else; expected a run folder.*np.savez\("):
            sources.open(tmp_path / name)
    with pytest.raises(InputError, match="does not exist.*Did you mean 'dcgan'"):
        sources.open("dcgna")


def test_the_range_and_the_fit_can_be_said(tmp_path):
    path = save(tmp_path / "a.npz", images=garments(side=40) / 255 - 0.5)
    with pytest.raises(InputError, match="--pixels"):
        sources.open(path)
    source = sources.open(path, sources.Options(pixels="tanh", fit="crop"))
    assert source.images.shape == (200, 28, 28, 1) and "40 x 40 cropped to 28 x 28" in source.assumed
    assert sources.open(path, sources.Options(pixels="tanh", fit="resize")).images.shape == (200, 40, 40, 1)
    with pytest.raises(InputError, match="leave out --noise"):
        sources.open(path, sources.Options(pixels="tanh", noise="uniform"))


@pytest.mark.parametrize("top, left", [(2, 2), (0, 4), (4, 0)])
@pytest.mark.parametrize("background", [0, 255])
def test_an_empty_border_is_cropped_wherever_it_is(tmp_path, top, left, background):
    inner = np.abs(background - garments()).astype("uint8")
    inner[:, [0, -1]], inner[:, :, [0, -1]] = 77, 77  # up to its rim
    framed = np.full((200, 32, 32), background, "uint8")
    framed[:, top : top + 28, left : left + 28] = inner
    source = sources.open(save(tmp_path / "a.npz", images=framed))
    np.testing.assert_array_equal(source.images[..., 0], inner)
    assert "32 x 32 cropped to 28 x 28" in source.assumed


def test_images_without_a_border_are_not_cropped(tmp_path):
    source = sources.open(save(tmp_path / "a.npz", images=RANDOM.integers(0, 256, (50, 32, 32), "uint8")))
    assert source.images.shape == (50, 32, 32, 1)


# Folders of pictures


def fill(folder, pictures, suffix=".png", **options):
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(
            folder / f"{index:03}{suffix}", **options
        )


def test_folders_by_class_and_hidden_ones(tmp_path):
    for name in ("Bag", "9"):
        fill(tmp_path / name, garments(5).astype("uint8"))
    for hidden in (".ipynb_checkpoints", "Bag/.thumbnails"):
        fill(tmp_path / hidden, garments(3).astype("uint8"))
    (tmp_path / "Bag" / "._000.png").write_bytes(b"of a Mac")
    source = sources.open(tmp_path)
    assert (
        source.given.tolist() == [9] * 5 + [8] * 5
        and "10 pictures; labels from their folders" in source.assumed
    )


def test_folders_that_are_no_classes_give_no_labels(tmp_path):
    fill(tmp_path / "cats", garments(4).astype("uint8"))
    source = sources.open(tmp_path)
    assert source.given is None and len(source.images) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        sources.open(tmp_path / "empty")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "1", "I;16"])
def test_pictures_of_every_mode_look_as_they_are_shown_on_black(tmp_path, mode):
    shown = garments(4).astype("uint8")
    pictures = []
    for gray in shown:
        if mode in ("RGBA", "LA"):  # white, seen through the alpha
            white = Image.new("L", (28, 28), 255)
            pictures.append(Image.merge("LA", (white, Image.fromarray(gray))).convert(mode))
        elif mode == "P":
            pictures.append(Image.fromarray(gray).quantize(256))
        elif mode == "1":
            pictures.append(Image.fromarray(gray > 127))
        elif mode == "I;16":
            pictures.append(Image.fromarray(gray.astype("uint16") * 257))
        else:
            pictures.append(Image.fromarray(gray).convert(mode))
    fill(tmp_path, pictures)
    found = sources.open(tmp_path).images[..., 0].astype(int)
    wanted = (shown > 127) * 255 if mode == "1" else shown
    assert np.abs(found - wanted).max() <= (8 if mode == "P" else 1)


def test_transparent_palettes_and_turned_photographs(tmp_path):
    gray = garments(1)[0].astype("uint8")
    palette = Image.fromarray(np.where(gray, gray, 255).astype("uint8")).quantize(64)
    fill(tmp_path / "palette", [palette], transparency=palette.getpixel((0, 0)))
    assert sources.open(tmp_path / "palette").images[0, 0, 0, 0] == 0
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    gray[5:8, 5:20] = 255
    fill(tmp_path / "turned", [gray], ".jpg", exif=exif, quality=100)
    found = sources.open(tmp_path / "turned").images[0, ..., 0].astype(int)
    assert np.abs(found - np.rot90(gray, -1)).max() < 40


def test_pictures_that_cannot_be_used(tmp_path):
    fill(tmp_path, [np.zeros((28, 28), "uint8"), np.zeros((30, 28), "uint8")])
    with pytest.raises(InputError, match="pictures of 2 sizes"):
        sources.open(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="broken.png cannot be read as a picture"):
        sources.open(tmp_path)


# Generators of others


def check(path, shipped, options=None, classes=10, tolerance=1):
    """The generator makes of noise and label what the shipped cgan does of them."""
    source = sources.open(path, options or sources.Options())
    generator = source.generator
    assert generator.latent_dim == 64 and generator.classes == classes, source.assumed
    noise, labels = generation.sample_noise(1, 20, 64), np.arange(20) % 10
    wanted = data.from_tanh_range(shipped([noise, labels], training=False))
    found = generation.sample_images(generator, noise, labels)
    assert np.abs(found.astype(int) - wanted).max() <= tolerance
    assert source.labels(["boot"]) == [9]
    return source.assumed


def test_label_as_number_and_inputs_in_a_dict_or_the_other_order(shipped, tmp_path):
    noise, label = keras.Input((64,), name="z"), keras.Input((1,), dtype="int32", name="class_id")
    image = shipped([noise, layers.Reshape(())(label)])
    keras.Model([label, noise], image).save(tmp_path / "a.keras")
    assert "label: number, 10 classes; pixels: tanh" in check(tmp_path / "a.keras", shipped)
    keras.Model({"z": noise, "class_id": label}, image).save(tmp_path / "b.keras")
    check(tmp_path / "b.keras", shipped)


def of_one_hot(shipped, noise, label):
    """The shipped generator for a one-hot label, in layers that every Keras knows."""
    index = layers.Dense(1, use_bias=False)
    number = index(label)
    index.set_weights([np.arange(10, dtype="float32")[:, None]])
    return shipped([noise, layers.Reshape(())(keras.ops.clip(number, 0, 9))])


def test_label_as_one_hot_and_inside_the_noise(shipped, tmp_path):
    noise, label = keras.Input((64,), name="noise"), keras.Input((10,), name="y")
    keras.Model([noise, label], of_one_hot(shipped, noise, label)).save(tmp_path / "a.keras")
    assert "label: one-hot, 10 classes" in check(tmp_path / "a.keras", shipped)
    both = keras.Input((74,))
    for form, cut in (("in-noise", (64, 10)), ("in-noise-first", (10, 64))):
        parts = keras.ops.split(both, [cut[0]], axis=1)
        first, second = parts if form == "in-noise" else parts[::-1]
        keras.Model(both, of_one_hot(shipped, first, second)).save(tmp_path / f"{form}.keras")
        assert f"label: {form}, 10" in check(tmp_path / f"{form}.keras", shipped, sources.Options(label=form))
        source = sources.open(tmp_path / f"{form}.keras")
        assert source.generator.latent_dim == 74 and "--label-as in-noise" in source.assumed
        with pytest.raises(InputError, match="takes no label"):
            source.labels(["Bag"])


def test_a_label_that_cannot_be_told(tmp_path):
    one, two = keras.Input((10,)), keras.Input((10,))
    pixels = layers.Reshape((28, 28, 1))(layers.Dense(784)(layers.Concatenate()([one, two])))
    keras.Model([one, two], pixels).save(tmp_path / "a.keras")
    with pytest.raises(InputError, match="could be the label; say --label-as none"):
        assert sources.open(tmp_path / "a.keras").generator is None
    source = sources.open(tmp_path / "a.keras", sources.Options(label="none", pixels="tanh"))
    assert source.generator.latent_dim == 20 and not source.generator.classes


def wrap(shipped, change, path):
    noise, label = keras.Input((64,), name="noise"), keras.Input((), dtype="int32", name="label")
    keras.Model([noise, label], change(shipped([noise, label]))).save(path)
    return path


@pytest.mark.parametrize(
    "change, note",
    [
        (layers.Rescaling(0.5, 0.485), "pixels: unit"),  # a linear end that overshoots
        (layers.Rescaling(127.5, 127.5), "pixels: byte"),
        (layers.ZeroPadding2D(2), "32 x 32 cropped to 28 x 28"),
        (layers.Reshape((784,)), "pixels: tanh"),
        (layers.Permute((3, 1, 2)), "pixels: tanh"),
        (lambda image: layers.Concatenate()([image] * 3), "pixels: tanh"),
    ],
)
def test_ranges_borders_and_layouts(shipped, tmp_path, change, note):
    if isinstance(change, layers.ZeroPadding2D):  # pads with 0, so that black has to be 0
        pad = change
        change = lambda image: pad(layers.Rescaling(0.5, 0.5)(image))  # noqa: E731
    assert note in check(wrap(shipped, change, tmp_path / "a.keras"), shipped, tolerance=5)


def test_uniform_noise_has_the_same_shape(tmp_path):
    noise = keras.Input((784,))
    keras.Model(noise, layers.Reshape((28, 28, 1))(noise)).save(tmp_path / "a.keras")
    generator = sources.open(tmp_path / "a.keras", sources.Options("uniform", "none", "tanh")).generator
    found = generation.sample_images(generator, generation.sample_noise(0, 100, 784)) / 255
    shares = np.histogram(found, 10, (0, 1))[0] / found.size
    assert np.abs(shares - 0.1).max() < 0.01


def test_what_is_no_generator(shipped, tmp_path):
    image = keras.Input((28, 28, 1))
    keras.Model(image, layers.Dense(1)(layers.Flatten()(image))).save(tmp_path / "judge.keras")
    with pytest.raises(InputError, match="is no generator of single gray images: it turns"):
        assert sources.open(tmp_path / "judge.keras").generator is None
    keras.Sequential([keras.Input((5,)), layers.Dense(784), layers.Lambda(lambda x: x)]).save(
        tmp_path / "a.keras"
    )
    with pytest.raises(InputError, match="cannot be loaded"):
        assert sources.open(tmp_path / "a.keras").generator is None
    keras.Sequential([keras.Input((5,)), layers.Dense(784), layers.Lambda(lambda x: x)]).save(
        tmp_path / "a.h5"
    )
    for path in (tmp_path / "a.h5", shutil.copy(tmp_path / "a.h5", tmp_path / "c.keras")):
        with pytest.raises(InputError, match="holds code .a Lambda layer., which is not run"):
            assert sources.open(path).generator is None
    (tmp_path / "b.keras").write_bytes(b"no zip")
    with pytest.raises(InputError, match="b.keras cannot be loaded by Keras"):
        assert sources.open(tmp_path / "b.keras").generator is None


def test_files_of_keras_3_and_2_load_whatever_their_suffix(tmp_path):
    noise = keras.Input((6,))
    pixels = layers.Dense(
        784, activation="tanh", kernel_initializer=keras.initializers.RandomNormal(stddev=2)
    )(noise)
    model = keras.Model(noise, layers.Reshape((28, 28, 1))(pixels))
    for written in ("a.keras", "a.h5"):
        model.save(tmp_path / written)
        for name in ("B.KERAS", "B.H5", "b.Hdf5"):
            path = shutil.copy(tmp_path / written, tmp_path / name)
            assert sources.open(path).generator.latent_dim == 6


# Our own


def test_our_own_models_are_known(tmp_path):
    source = sources.open("cgan")
    assert source.labels() == list(range(10)) and source.labels(["t-shirt", "9"]) == [0, 9]
    images, labels = source.sample(30, seed=0)
    assert images.shape == (30, 28, 28, 1) and sorted(labels) == sorted(np.arange(30) % 10)
    with pytest.raises(InputError, match="has never seen 'Bag'; it knows T-shirt/top, Trouser"):
        sources.open("dense-cgan").labels(["Bag"])
    with pytest.raises(InputError, match="dcgan takes no label"):
        sources.open("dcgan").labels(["Bag"])
    with pytest.raises(InputError, match="which knows its pixels; leave that out"):
        sources.open("cgan", sources.Options(pixels="tanh"))


def test_the_package_alone_says_that_a_checkout_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "ASSETS", tmp_path)
    generation.digests.cache_clear()
    try:
        with pytest.raises(InputError, match="a whole checkout.*Clone its repository and run ./setup.sh"):
            sources.open("cgan")
    finally:
        monkeypatch.undo()
        generation.digests.cache_clear()


# Real images beside them


def test_the_floor_takes_the_road_of_the_images(few, tmp_path):
    """Images that were resized to 32 and back are as far from real ones as the floor is."""
    chosen = few.train_images[1500:]
    found = {}
    for size in (28, 32):
        path = save(tmp_path / f"{size}.npz", images=data.resize(chosen, size))
        sets = evaluation.compare(sources.open(path), few, 1500, with_floor=True)
        own, floor = (evaluation.frechet(sets.real.features, each.features)[0] for each in sets[:3:2])
        found[size] = own, floor
    assert found[32][0] > 2 * found[28][0] and found[32][1] > 2 * found[28][1]
    assert found[32][0] == pytest.approx(found[32][1], rel=0.3)


def test_uneven_classes_are_compared_at_counts_that_both_have(few, tmp_path):
    pick = np.concatenate(
        [np.flatnonzero(few.train_labels == label)[: 280 if label == 0 else 40] for label in range(10)]
    )
    path = save(tmp_path / "a.npz", images=few.train_images[pick], labels=few.train_labels[pick])
    sets = evaluation.compare(sources.open(path), few, 10_000)
    counts = np.bincount(sets.generated.labels)
    np.testing.assert_array_equal(counts, np.bincount(sets.real.labels))
    assert counts[0] < 200 and (counts[1:] == 40).all()
    assert any(f"{counts.sum():,} of {len(pick):,} images" in remark for remark in sets.remarks)


def test_copies_are_said_first(few, tmp_path):
    path = save(tmp_path / "a.npz", images=np.repeat(few.train_images[:10], 100, 0))
    sets = evaluation.compare(sources.open(path), few, 1000)
    assert sets.remarks[0] == "only 10 different images among 1,000" and not sets.asked
    with pytest.raises(InputError, match="gives 20 images .*, expected at least 200"):
        evaluation.compare(sources.open(save(tmp_path / "b.npz", images=few.train_images[:20])), few, 1000)
