import gzip
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.request
import warnings

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from fmgan_tf import InputError, __main__, data, pretrained

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@pytest.mark.parametrize(
    "to_range, from_range, low",
    [(data.to_tanh_range, data.from_tanh_range, -1), (data.to_unit_range, data.from_unit_range, 0)],
)
def test_scaling_is_exactly_invertible(to_range, from_range, low):
    pixels = np.arange(256, dtype="uint8")
    scaled = to_range(pixels)
    assert scaled.dtype == np.float32
    assert scaled[0] == low and scaled[255] == 1
    np.testing.assert_allclose(np.diff(scaled), (1 - low) / 255, rtol=1e-4)
    restored = from_range(scaled)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored, pixels)
    np.testing.assert_array_equal(from_range(np.array([low - 0.5, 1.5])), [0, 255])


def test_class_index():
    assert [data.class_index(name) for name in data.CLASS_NAMES] == list(range(10))
    assert data.class_index("ankle BOOT") == data.class_index("9") == data.class_index(9) == 9
    for wrong in ("Ankle boots", "10", 10, -1, "", "²"):
        with pytest.raises(InputError, match="T-shirt/top.*Ankle boot"):
            data.class_index(wrong)
    with pytest.raises(InputError, match="Did you mean 'Ankle boot'"):
        data.class_index("Ankel boot")


def test_select_classes():
    labels = np.array([0, 1, 2, 1, 0])
    images, kept = data.select_classes(np.arange(5), labels, ["Trouser", 0])
    np.testing.assert_array_equal(images, [0, 1, 3, 4])
    np.testing.assert_array_equal(kept, [0, 1, 1, 0])


def test_stratified_split():
    labels = np.repeat([0, 1], [700, 300])
    images = np.arange(1000)
    parts = data.stratified_split(images, labels, seed=3)
    assert [len(part[0]) for part in parts] == [800, 100, 100]
    for part_images, part_labels in parts:
        assert part_labels.mean() == pytest.approx(0.3)
        np.testing.assert_array_equal(labels[part_images], part_labels)
    np.testing.assert_array_equal(np.sort(np.concatenate([part[0] for part in parts])), images)
    again = data.stratified_split(images, labels, seed=3)
    np.testing.assert_array_equal(parts[1][0], again[1][0])
    assert not np.array_equal(parts[1][0], data.stratified_split(images, labels, seed=4)[1][0])
    with pytest.raises(InputError, match="sum to 1"):
        data.stratified_split(images, labels, fractions=(0.8, 0.1, 0.2))


@pytest.mark.parametrize("size", [28, 32, 64])
def test_resize(size):
    images = np.full((3, 28, 28, 1), 200, "uint8")
    resized = data.resize(images, size)
    assert resized.shape == (3, size, size, 1) and resized.dtype == np.uint8
    assert (resized == 200).all()


def numbered(count):
    return np.arange(count, dtype="float32").reshape(count, 1, 1, 1) * np.ones((1, 2, 2, 1), "float32")


def take(dataset, count):
    return np.array([batch[:, 0, 0, 0] for batch in dataset.take(count).as_numpy_iterator()])


def test_batches():
    dataset = data.batches(numbered(10), 3, seed=1)
    assert dataset.element_spec.shape == (3, 2, 2, 1)
    drawn = take(dataset, 9)  # three epochs of three batches; one image is left over in each
    for epoch in drawn.reshape(3, 9):
        assert len(set(epoch)) == 9
    assert not np.array_equal(drawn[:3], drawn[3:6])
    assert set(drawn.ravel()) == set(range(10))
    np.testing.assert_array_equal(drawn, take(data.batches(numbered(10), 3, seed=1), 9))
    assert not np.array_equal(drawn, take(data.batches(numbered(10), 3, seed=2), 9))
    for first_step in (1, 3, 5):
        np.testing.assert_array_equal(
            drawn[first_step:], take(data.batches(numbered(10), 3, 1, first_step), 9 - first_step)
        )


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batches_refuses(batch_size):
    with pytest.raises(InputError, match=f"batch_size is {batch_size}, expected 1 to 10"):
        data.batches(numbered(10), batch_size)


def test_real_data(fashion_mnist):
    assert fashion_mnist.train_images.shape == (60_000, 28, 28, 1) and fashion_mnist.train_images.dtype == np.uint8
    assert fashion_mnist.test_images.shape == (10_000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(fashion_mnist.train_labels), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(fashion_mnist.test_labels), [1000] * 10)
    assert fashion_mnist.train_images.mean() == pytest.approx(72.94, abs=0.01)  # the mean that the field knows


def load_elsewhere(tfds_dir, **environment):
    """Loads the dataset in a process of its own, whose TFDS cache is tfds_dir and where no generator is shipped."""
    code = (
        "from fmgan_tf import data, pretrained\npretrained.SHA256.clear()\n"
        "try:\n print(data.load_fashion_mnist().source)\nexcept data.DataError as e:\n print('REFUSED', e)"
    )
    known = {name: value for name, value in os.environ.items() if name != "FMGAN_DATA_DIR"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=known | {"TFDS_DATA_DIR": str(tfds_dir)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def leftovers(folder):
    return [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]


def fake_folder(folder):
    """Four files under the right names that hold something else: what MNIST under this name looks like."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(gzip.compress(b"\0\0\x08\x03" + bytes(1000)))
    return folder


def test_foreign_files_are_refused(tmp_path):
    folder = fake_folder(tmp_path / "files")
    output = load_elsewhere(tmp_path / "tfds", FMGAN_DATA_DIR=str(folder))
    assert output.startswith("REFUSED") and f"{folder}/t" in output and "SHA-256" in output and "Put the four" in output
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    for name in FILES[:3]:
        (folder / name).unlink()
    assert "is missing" in load_elsewhere(tmp_path / "tfds", FMGAN_DATA_DIR=str(folder))
    assert "not a folder" in load_elsewhere(tmp_path / "tfds", FMGAN_DATA_DIR=str(tmp_path / "nowhere"))
    assert not leftovers(tmp_path / "tfds")


def test_failing_download_says_what_to_do(tmp_path):
    proxy = "http://127.0.0.1:9"  # nobody listens there
    output = load_elsewhere(tmp_path / "tfds", http_proxy=proxy, https_proxy=proxy, no_proxy="")
    assert output.startswith("REFUSED") and "set FMGAN_DATA_DIR" in output
    assert not [path for path in leftovers(tmp_path / "tfds") if path.name == "dataset_info.json"]


@pytest.mark.skipif("FMGAN_DATA_DIR" not in os.environ, reason="needs the original files in FMGAN_DATA_DIR")
def test_original_files(tmp_path):
    original = pathlib.Path(os.environ["FMGAN_DATA_DIR"])
    # One truncated file among three right ones.
    folder = tmp_path / "files"
    folder.mkdir()
    for name in FILES[:3]:
        shutil.copy(original / name, folder)
    (folder / FILES[3]).write_bytes((original / FILES[3]).read_bytes()[:-1])
    output = load_elsewhere(tmp_path / "tfds", FMGAN_DATA_DIR=str(folder))
    assert output.startswith("REFUSED") and FILES[3] in output and "5,147 bytes" in output and "5,148 bytes" in output
    # A file swapped for another.
    shutil.copy(original / FILES[1], folder / FILES[3])
    assert "REFUSED" in load_elsewhere(tmp_path / "tfds", FMGAN_DATA_DIR=str(folder))
    assert not leftovers(tmp_path / "tfds")
    # The right ones, then from the cache, then from a cache that was damaged.
    assert "FMGAN_DATA_DIR" in load_elsewhere(tmp_path / "tfds", FMGAN_DATA_DIR=str(original))
    assert "TFDS cache" in load_elsewhere(tmp_path / "tfds")
    records = next((tmp_path / "tfds").rglob("*test.tfrecord*"))
    content = bytearray(records.read_bytes())
    content[len(content) // 2] ^= 0xFF
    records.write_bytes(content)
    output = load_elsewhere(tmp_path / "tfds")
    assert output.startswith("REFUSED") and "Delete the folder" in output


# The stand-in


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No dataset and no network, but a conditional generator, tiny and untrained. Returns its path."""
    keras.utils.set_random_seed(0)
    noise, label = keras.Input((5,), name="noise"), keras.Input((), dtype="int32", name="label")
    loud = keras.initializers.RandomNormal(stddev=1.0)  # so that the label shows in every image, whatever the noise
    both = keras.layers.Concatenate()([noise, keras.layers.Embedding(10, 3, embeddings_initializer=loud)(label)])
    image = keras.layers.Reshape((28, 28, 1))(keras.layers.Dense(28 * 28, activation="tanh")(both))
    path = tmp_path / "assets" / "cgan" / "generator.keras"
    path.parent.mkdir(parents=True)
    keras.Model([noise, label], image).save(path)
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path / "assets")
    monkeypatch.setitem(pretrained.SHA256, "cgan/generator.keras", hashlib.sha256(path.read_bytes()).hexdigest())

    builder = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: builder(name, data_dir=tmp_path / "tfds"))
    monkeypatch.delenv("FMGAN_DATA_DIR", raising=False)

    def urlopen(*arguments, **named):
        raise OSError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return path


def stand_in():
    """Loads the stand-in and checks that it is none in silence."""
    with pytest.warns(
        data.StandInWarning, match="generated.* NOT Fashion-MNIST.* mean nothing.*FMGAN_DATA_DIR"
    ) as caught:
        dataset = data.load_fashion_mnist()
    (warning,) = [warning for warning in caught if warning.category is data.StandInWarning]
    assert "\n" not in str(warning.message) and warning.filename == __file__
    assert dataset.is_stand_in and dataset.source == data.STAND_IN
    return dataset


def equal(first, second):
    return all(np.array_equal(first[index], second[index]) for index in range(4))


def test_stand_in(offline, tmp_path, monkeypatch, capsys):
    first = stand_in()
    images = {"train": first.train_images, "test": first.test_images}
    labels = {"train": first.train_labels, "test": first.test_labels}
    for name, count in (("train", 60_000), ("test", 10_000)):
        assert images[name].shape == (count, 28, 28, 1) and images[name].dtype == np.uint8
        assert labels[name].shape == (count,) and labels[name].dtype == np.int64
        np.testing.assert_array_equal(np.bincount(labels[name]), [count // 10] * 10)
        assert (np.bincount(labels[name][: count // 10]) < count // 50).all()  # shuffled
    digests = {name: {image.tobytes() for image in images[name]} for name in images}
    assert len(digests["train"]) == 60_000 and not digests["train"] & digests["test"]
    # Labels and noise go together: the generator gives these very images for these labels only.
    generator = pretrained.load_pretrained("cgan")
    noise = np.random.default_rng(1).standard_normal((50, 5), "float32")
    brightness = [
        data.from_tanh_range(generator.predict_on_batch([noise, np.full(50, label)])).mean() for label in range(10)
    ]
    found = [first.train_images[first.train_labels == label].mean() for label in range(10)]
    assert np.corrcoef(brightness, found)[0, 1] > 0.5
    assert "generating 70,000 images" in capsys.readouterr().err

    # Kept: the second time the generator is not asked.
    content = offline.read_bytes()
    offline.unlink()
    assert equal(stand_in(), first) and capsys.readouterr().err == ""
    # Neither is it where the download fails after its host has answered.
    monkeypatch.setattr(data, "_check_host", lambda builder: None)

    def download_and_prepare(self, **named):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download_and_prepare)
    assert equal(stand_in(), first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert __main__.main(["data"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'tfds' / 'fmgan_stand_in'}\n"

    # Damaged: made again, which takes the generator.
    (kept,) = leftovers(tmp_path / "tfds")
    assert kept.name == hashlib.sha256(content).hexdigest()[:12] + ".npz"
    damaged = bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    for wrong in (b"", b"no zip", damaged[:-1], damaged):
        kept.write_bytes(wrong)
        with pytest.raises(data.DataError, match="FMGAN_DATA_DIR.* stand in .*generator.keras cannot be read"):
            data.load_fashion_mnist()
    offline.write_bytes(content[:-1])
    with pytest.raises(data.DataError, match="FMGAN_DATA_DIR.* stand in .*generator.keras is damaged"):
        data.load_fashion_mnist()
    offline.write_bytes(content)
    assert equal(stand_in(), first) and leftovers(tmp_path / "tfds") == [kept]
    offline.unlink()
    assert equal(stand_in(), first)


def test_nothing_stands_in_for_wrong_files_or_a_damaged_cache(offline, tmp_path, monkeypatch):
    folder = fake_folder(tmp_path / "files")
    monkeypatch.setenv("FMGAN_DATA_DIR", str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("error", data.StandInWarning)
        with pytest.raises(data.DataError, match="is not Fashion-MNIST's"):
            data.load_fashion_mnist()
        monkeypatch.setattr(data, "_check_files", lambda folder, builder: None)  # and what TFDS itself refuses
        with pytest.raises(data.DataError, match="could not be prepared"):
            data.load_fashion_mnist()
        monkeypatch.delenv("FMGAN_DATA_DIR")
        cache = tmp_path / "tfds" / "fashion_mnist" / "3.0.1"
        cache.mkdir(parents=True)
        (cache / "dataset_info.json").write_text('{"name": "fashion_mnist", "version": "3.0.1"}')
        with pytest.raises(data.DataError, match="cannot be read.*Delete the folder"):
            data.load_fashion_mnist()
    assert not (tmp_path / "tfds" / "fmgan_stand_in").exists()


def test_without_a_shipped_generator_nothing_stands_in(offline, monkeypatch):
    monkeypatch.delitem(pretrained.SHA256, "cgan/generator.keras")
    with pytest.raises(data.DataError, match="host cannot be reached .*FMGAN_DATA_DIR"):
        data.load_fashion_mnist()


def test_a_stand_in_that_cannot_be_kept(offline, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_COUNTS", {"train": 20, "test": 10})
    (tmp_path / "tfds").mkdir()
    (tmp_path / "tfds" / "fmgan_stand_in").write_text("a file where the folder would be")
    with pytest.raises(data.DataError, match="cannot be written .*TFDS_DATA_DIR"):
        data.load_fashion_mnist()


def test_parts(blobs):
    dataset, images, labels = data.parts(blobs)
    assert (
        dataset is blobs and len(images) == len(labels) == 200
    )  # of as many training images as there are, at most 5,000
    dataset, images, labels = data.parts(blobs, classes=2)  # 50 of the 250 images are of the first two classes
    sizes = [len(part) for part in (dataset.train_images, images, dataset.test_images)]
    assert sizes == [40, 5, 5]
    for part in (dataset.train_labels, dataset.test_labels, labels):
        assert set(part.tolist()) == {0, 1} and abs(np.mean(part) - 0.5) <= 0.1
    again, *_ = data.parts(blobs, classes=2)
    np.testing.assert_array_equal(dataset.train_images, again.train_images)


def test_batches_with_labels():
    images = np.arange(10, dtype="float32")[:, None, None, None] * np.ones((1, 2, 2, 1), "float32")
    labels = np.arange(10) % 3
    with_labels = iter(data.batches(images, 5, seed=1, labels=labels))
    without = iter(data.batches(images, 5, seed=1))
    for _ in range(4):
        batch, numbers = next(with_labels)
        np.testing.assert_array_equal(batch, next(without))
        np.testing.assert_array_equal(numbers, batch.numpy()[:, 0, 0, 0].astype(int) % 3)
