"""Images of one's own: what is read, what is refused, and what is done with them."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from fmgan_tf import InputError, data, features, own_data, pictures, plots, recipes
from fmgan_tf.__main__ import main
from fmgan_tf.runs import evaluation, training
from fmgan_tf.runs import folder as run_folder

CLASSES = ("disk", "ring with a hole", "Ümlaut")


def drawn(count, size=30, seed=0):
    """Gray images of three kinds, uint8 (count, size, size), and which kind each is."""
    random, (y, x) = np.random.default_rng(seed), np.mgrid[:size, :size]
    kinds, images = np.arange(count) % 3, []
    for kind in kinds:
        middle, radius = random.uniform(size * 0.4, size * 0.6, 2), random.uniform(size * 0.2, size * 0.35)
        far = np.hypot(x - middle[0], y - middle[1])
        square = np.maximum(abs(x - middle[0]), abs(y - middle[1])) < radius
        shown = (far < radius, (far < radius) & (far > radius / 2), square)[kind]
        images.append(np.where(shown, random.integers(120, 256), 0))
    return np.array(images, "uint8"), kinds


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder of 300 pictures in three classes, of many kinds, and things that people leave beside them."""
    folder = tmp_path_factory.mktemp("own data") / "my shapes"
    images, kinds = drawn(300)
    modes = ("L", "RGB", "RGBA", "P", "1", "I;16")
    for number, (image, kind) in enumerate(zip(images, kinds, strict=True)):
        place = folder / CLASSES[kind]
        place.mkdir(parents=True, exist_ok=True)
        mode, picture = modes[number % 6], Image.fromarray(image)
        if mode == "I;16":
            picture = Image.fromarray(image.astype("uint16") * 257)
        elif mode == "RGBA":
            picture = Image.merge("RGBA", [Image.new("L", picture.size, 255)] * 3 + [picture])
        elif mode != "L":
            picture = picture.convert(mode)
        suffix = "webp" if mode == "RGB" else "png"
        picture.save(place / f"a picture {number}.{suffix}", **{"lossless": True} if mode == "RGB" else {})
    (folder / "disk" / "._hidden.png").write_bytes(b"of a system")
    (folder / "disk" / "Thumbs.db").write_bytes(b"of another")
    (folder / "disk" / "broken.png").write_bytes(b"no picture")
    (folder / ".cache").mkdir()
    os.symlink(folder / "disk" / "a picture 0.png", folder / "disk" / "linked.png")
    return folder


def test_a_folder_of_classes(shapes):
    dataset = own_data.load(str(shapes), 28)
    assert dataset.class_names == CLASSES and dataset.name == "my shapes" and dataset.is_own
    assert len(dataset.train_images) == 241 and len(dataset.test_images) == 60  # 300 and the linked one
    assert dataset.train_images.shape[1:] == (28, 28, 1) and dataset.train_images.dtype == np.uint8
    assert np.bincount(dataset.test_labels).tolist() == [20, 20, 20]
    assert "1 left out" in dataset.source and "broken.png cannot be read as a picture" in dataset.source
    # Whatever the mode: a white background of an RGBA picture lies under a mask, 16 bits become 8
    assert np.median(dataset.train_images[:, 0]) == 0 and 120 < dataset.train_images[:, 14, 5:23].max() <= 255
    again = own_data.load(str(shapes), 28)
    assert again.fingerprint == dataset.fingerprint != own_data.load(str(shapes), 32).fingerprint


def test_the_same_unlabeled_and_with_pictures_beside_the_classes(shapes, tmp_path):
    for number, path in enumerate(pictures.find(shapes)[:80]):
        (tmp_path / f"{number}{path.suffix}").write_bytes(path.read_bytes())
    dataset = own_data.load(str(tmp_path))
    assert not dataset.is_labeled and set(dataset.train_labels) == {0}
    with pytest.raises(InputError, match="cgan learns classes, and .* has no classes.* Or train dcgan"):
        training.fitted(recipes.get("cgan"), dataset)
    assert training.fitted(recipes.get("dcgan"), dataset).classes == 1
    (tmp_path / "disk").mkdir()
    (tmp_path / "1.png").rename(tmp_path / "disk" / "1.png")
    with pytest.raises(InputError, match="pictures beside its sub-folders"):
        own_data.load(str(tmp_path))


def test_a_photograph_is_turned_cut_to_its_middle_and_made_small(tmp_path):
    shade = np.zeros((200, 400), "uint8")
    shade[:, 100:200] = 200  # the left half of the middle square
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    Image.fromarray(shade).save(tmp_path / "a.jpg", exif=turned, quality=95)
    image = pictures.open_gray(tmp_path / "a.jpg", 28)
    assert image.shape == (28, 28)
    assert image[:, :12].max() < 10 and abs(image[:, 16:27].astype(int) - 200).max() < 10


def test_arrays_of_every_kind(tmp_path):
    images, kinds = drawn(120, 28)
    flat = images.reshape(120, 784)
    header = ",".join(["label", *(f"pixel{n}" for n in range(1, 785))])
    table = np.column_stack([kinds, flat])
    np.savetxt(tmp_path / "kaggle.csv", table, "%d", delimiter=",", header=header, comments="")
    np.savez(tmp_path / "plain.npz", images=images, labels=kinds)
    np.savez(tmp_path / "names.npz", x=images / 255, y=np.array(CLASSES)[kinds])
    parts = {"train_images": images[:96], "test_images": images[96:]}
    parts |= {"train_labels": kinds[:96, None], "test_labels": kinds[96:, None], "val_images": images[:9]}
    np.savez(tmp_path / "medical.npz", **parts)
    first = None
    for name, names in (
        ("kaggle.csv", ("0", "1", "2")),
        ("plain.npz", ("0", "1", "2")),
        ("names.npz", CLASSES),
        ("medical.npz", ("0", "1", "2")),
    ):
        dataset = own_data.load(str(tmp_path / name))
        assert dataset.class_names == names and len(dataset.train_images) == 96, name
        both = np.concatenate([dataset.train_images, dataset.test_images])[..., 0]
        labels = np.concatenate([dataset.train_labels, dataset.test_labels])
        found = {image.tobytes(): label for image, label in zip(both, labels, strict=True)}
        first = first or found
        assert found == first == {image.tobytes(): kind for image, kind in zip(images, kinds, strict=True)}


def test_classes_called_by_numbers_stay_in_their_order():
    labels, names = pictures.class_names(np.array(["10", "2", "2", "1"]))
    assert names == ("1", "2", "10") and labels.tolist() == [2, 1, 1, 0]
    labels, names = pictures.class_names(np.array([[0, 1], [1, 0]]))
    assert names == ("0", "1") and labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: None, "is no file, no folder and no dataset of TFDS"),
        (lambda path: path.mkdir(), "holds no pictures"),
        (lambda path: path.write_bytes(b""), "is something else; expected images"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(make, message, tmp_path):
    make(tmp_path / "kmnsit")
    with pytest.raises(InputError, match=message) as raised:
        own_data.load(str(tmp_path / "kmnsit"))
    assert "\n" not in str(raised.value)


def test_three_images_and_a_name_that_is_nearly_one(tmp_path):
    np.savez(tmp_path / "a.npz", images=drawn(3)[0])
    with pytest.raises(InputError, match="holds 3 images, expected at least 50"):
        own_data.load(str(tmp_path / "a.npz"))
    with pytest.raises(InputError, match="Did you mean 'kmnist'"):
        own_data.load("kmnsit")
    np.savez(tmp_path / "a.npz", train_images=drawn(60)[0], train_labels=np.ones((60, 14), int))
    with pytest.raises(InputError, match="expected one class for every image"):
        own_data.load(str(tmp_path / "a.npz"))


def test_datasets_of_tfds(tmp_path, monkeypatch):
    """kmnist as TFDS prepares it, but from files that are drawn here, without a network."""
    import tensorflow_datasets as tfds

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    builder = tfds.builder("kmnist", data_dir=tmp_path)
    images, kinds = drawn(120, 28)

    def examples(chosen):
        for number in chosen:
            yield number, {"image": images[number][..., None], "label": int(kinds[number])}

    builder._split_generators = lambda manager: {
        "train": examples(range(96)),
        "test": examples(range(96, 120)),
    }
    builder.download_and_prepare()
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    dataset = own_data.load("kmnist")
    assert dataset.name == dataset.argument == "kmnist" and len(dataset.class_names) == 10
    assert (len(dataset.train_images), len(dataset.test_images)) == (96, 24)
    order = sorted(image.tobytes() for image in images[:96])
    assert sorted(image.tobytes() for image in dataset.train_images) == order


def test_problems_are_named_and_drawn(shapes):
    dataset = own_data.load(str(shapes))
    few = "241 images are few: the generator may copy them; measure with evaluate"
    assert own_data.problems(dataset) == [few, "copies of other images: 1"]
    images, labels = 255 - dataset.train_images, dataset.train_labels.copy()
    images[:5] = 255
    labels[labels == 1] = 0
    found = own_data.problems(dataset._replace(train_images=images, train_labels=labels))
    words = (
        "few",
        "out of balance: from 0 to",
        "white background",
        "one gray level only: 5",
        "copies of other images: 5",
    )
    assert all(any(word in problem for problem in found) for word in words)
    figure = plots.show_dataset(dataset, found)
    assert len(figure.axes) == 2 and "disk (81)" in [
        text.get_text() for text in figure.axes[0].get_yticklabels()
    ]


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    """A run of a few steps on the shapes, stopped and gone on with."""
    folder = tmp_path_factory.mktemp("runs") / "own"
    command = ["train", "cgan", "--data", str(shapes), "--set", "batch_size=16", "--output", str(folder)]
    assert main([*command, "--epochs", "1"]) == 0
    assert main(["train", "--resume", "--output", str(folder), "--epochs", "2"]) == 0
    return folder


def test_a_run_remembers_its_data(trained, shapes, tmp_path, capsys):
    record = run_folder.read_record(trained)
    assert record["dataset"] == "my shapes" and record["class_names"] == list(CLASSES)
    assert record["recipe"]["classes"] == 3 and record["val_fid"] is None and record["steps"] == 30
    assert (trained / "preview.png").exists()
    images, kinds = drawn(90, seed=1)
    np.savez(tmp_path / "others.npz", images=images, labels=kinds)
    others = ["--data", str(tmp_path / "others.npz")]
    assert main(["train", "--resume", "--output", str(trained), "--epochs", "3", *others]) == 2
    assert "was trained on my shapes" in (said := capsys.readouterr().err) and "this is others" in said
    assert main(["evaluate", str(trained), *others]) == 2
    assert "was trained on my shapes, and these images are others" in capsys.readouterr().err
    made = ["generate", str(trained), "--label", "RING", "--output", str(tmp_path / "a.npz"), "--count", "5"]
    assert main(made) == 0
    assert np.load(tmp_path / "a.npz")["labels"].tolist() == [1] * 5
    assert main([*made[:3], "Bag", *made[4:]]) == 2
    assert "The classes are 0 disk, 1 ring with a hole, 2 Ümlaut" in capsys.readouterr().err


def test_scores_are_of_an_extractor_that_was_trained_on_the_data(
    trained, shapes, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(features, "OWN_STEPS", 80)
    monkeypatch.setattr(evaluation, "ACCURACY_STEPS", 10)
    dataset = own_data.load(str(shapes))
    extractors = features.train_extractors(dataset, trained)
    found, recognized = extractors.features(dataset.test_images)
    assert found.shape == (60, 64) == (60, extractors.dimensions)
    assert (recognized == dataset.test_labels).mean() > 0.8
    before = {path: path.stat().st_mtime_ns for path in trained.glob("*.keras")}
    assert len(before) == 3
    assert main(["evaluate", str(trained), "--json"]) == 2
    assert (
        "expected at least 70 of either" in capsys.readouterr().err
    )  # 60 test images are too few for 64 features
    images, labels = drawn(240, 28, seed=5)
    larger = dataset._replace(test_images=images[..., None], test_labels=labels)
    monkeypatch.setattr(own_data, "load", lambda *_: larger)
    assert main(["evaluate", str(trained), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert "fid_fmnist" not in scores and scores["fid_my_shapes"]["extractor"] == "my shapes classifier"
    assert scores["fid_my_shapes"]["value"] > 10 * scores["fid_my_shapes"]["floor"]
    assert {path: path.stat().st_mtime_ns for path in trained.glob("*.keras")} == before  # trained once


@pytest.mark.parametrize("labeled", [False, True])
def test_a_race_is_measured_by_its_own_data(labeled, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(features, "OWN_STEPS", 2)
    images, kinds = drawn(400)
    np.savez(tmp_path / "shapes.npz", images=images, **({"labels": kinds} if labeled else {}))
    command = [
        "race",
        "--recipes",
        "dcgan",
        "--minutes",
        "0.01",
        "--output",
        str(tmp_path / "race"),
        "--data",
    ]
    assert main([*command, str(tmp_path / "shapes.npz")]) == 0
    header = (tmp_path / "race" / "race.csv").read_text().splitlines()[0]
    assert "fid_fmnist" not in header and "label_free_distance" in header
    assert ("fid_shapes" in header) == labeled
    np.savez(tmp_path / "shapes.npz", images=images[::-1], **({"labels": kinds[::-1]} if labeled else {}))
    assert main([*command, str(tmp_path / "shapes.npz")]) == 2
    assert "holds another race" in capsys.readouterr().err


def test_bytes_are_scaled_exactly_in_the_stream(blobs, tmp_path):
    """Training from bytes gives the bits that training from floats gave."""
    scaled = data.to_tanh_range(np.arange(256, dtype="uint8"))
    np.testing.assert_array_equal(scaled[blobs.train_images], data.to_tanh_range(blobs.train_images))


def test_64_pixels_are_trained(shapes, tmp_path):
    recipe = recipes.override(recipes.get("dcgan"), {"image_size": 64, "batch_size": 16})
    record = training.train(recipe, own_data.load(str(shapes), 64), tmp_path / "run", epochs=1, verbose=False)
    assert record["steps"] == 15 and record["recipe"]["image_size"] == 64
