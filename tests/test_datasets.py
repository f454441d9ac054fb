"""The dataset's sources, each alone and each with something wrong. Most tests use a dataset of 30 images."""

import dataclasses
import gzip
import hashlib
import http.server
import json
import os
import pathlib
import struct
import tempfile
import threading
import time
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from fmgan_tf import InputError, datasets, fetch, generation, recipes
from fmgan_tf.datasets import CLASS_NAMES, StandInWarning, class_index, load
from fmgan_tf.fetch import DataError

HOST = next(iter(tfds.builder_cls("fashion_mnist").url_infos)).rpartition("/")[0]


def test_classes_are_known_by_number_name_and_beginning():
    assert [class_index(name) for name in CLASS_NAMES] == list(range(10))
    assert class_index("ankle BOOT") == class_index("9") == class_index(9) == class_index("ank") == 9
    assert class_index("t-shirt") == 0 and class_index("Shirt") == 6 and class_index("B", ("a", "b")) == 1
    for wrong in ("Ankle boots", "S", "10", 10, -1, "", "²"):
        with pytest.raises(InputError, match="T-shirt/top.*Ankle boot"):
            class_index(wrong)
    with pytest.raises(InputError, match="Did you mean 'Ankle boot'"):
        class_index("Ankel boot")


def test_the_real_dataset(fashion_mnist):
    assert CLASS_NAMES == fashion_mnist.class_names
    assert CLASS_NAMES == tuple(tfds.builder("fashion_mnist").info.features["label"].names)
    for images, labels, count in ((*fashion_mnist[:2], 60_000), (*fashion_mnist[2:4], 10_000)):
        assert images.shape == (count, 28, 28, 1) and images.dtype == np.uint8
        assert labels.dtype == np.int64 and np.bincount(labels).tolist() == [count // 10] * 10
    assert fashion_mnist.train_images.mean() == pytest.approx(72.94, abs=0.01)  # that the field knows
    moved = fashion_mnist._replace(train_labels=np.roll(fashion_mnist.train_labels, 1))
    assert len(fashion_mnist.fingerprint) == 64 and moved.fingerprint != fashion_mnist.fingerprint


def test_the_real_files_are_those_of_the_real_dataset(fashion_mnist):
    if not os.environ.get("FMGAN_DATA_DIR"):
        pytest.skip("needs the four files in FMGAN_DATA_DIR")
    contents = fetch.read_folder(pathlib.Path(os.environ["FMGAN_DATA_DIR"]))
    assert [len(contents[name]) for name in fetch.FILES] == [size for size, _ in fetch.FILES.values()]
    check_images(fashion_mnist, contents)


# A dataset of 30 images, in a world without network


def tiny():
    """The contents of four files like the real ones, with 20 and 10 images; the small ones come first."""
    random, contents = np.random.default_rng(0), {}
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = random.integers(0, 256, count * 784, "uint8").tobytes()
        labels = random.permutation(np.arange(count) % 10).astype("uint8").tobytes()
        contents[f"{prefix}-images-idx3-ubyte"] = struct.pack(">4i", 2051, count, 28, 28) + images
        contents[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, count) + labels
    return dict(sorted(contents.items(), key=lambda item: len(item[1])))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Folders of its own, nothing in any source, no shipped generator. Checks what is written elsewhere."""
    for name in ("home", "tmp", "work", "bin", "assets"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds of é and ü"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("FMGAN_DATA_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(fetch, "PACKAGE_FOLDER", tmp_path / "no package")
    monkeypatch.setattr(generation, "ASSETS", tmp_path / "assets")
    generation.digests.cache_clear()

    def urlopen(url, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    yield tmp_path
    generation.digests.cache_clear()
    assert not [*(tmp_path / "home").iterdir(), *(tmp_path / "work").iterdir()]
    left = [path.name for path in (tmp_path / "tmp").rglob("*") if path.is_file()]
    assert all(name.startswith("__autograph_generated") for name in left), left  # TensorFlow leaves its code


@pytest.fixture
def contents(world, monkeypatch):
    """Makes the course take the tiny dataset for Fashion-MNIST."""
    files = tiny()
    known = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()}
    sums = [sum(files[f"{part}-images-idx3-ubyte"][16:]) for part in ("train", "t10k")]
    monkeypatch.setattr(fetch, "FILES", known)
    monkeypatch.setattr(datasets, "COUNTS", {"train": 20, "test": 10})
    monkeypatch.setattr(datasets, "PIXEL_SUMS", dict(zip(("train", "test"), sums, strict=True)))
    return files


def written(world):
    return [path for path in (world / "tfds of é and ü").rglob("*") if path.is_file()]


def put(folder, contents, pack=gzip.compress, name="{}.gz"):
    for key, content in contents.items():
        path = folder / name.format(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(content))


@pytest.fixture
def pages(world, monkeypatch):
    """What the dataset's host serves below /host/, and Keras's mirror below /mirror/: nothing at first. A
    page is bytes, or a function of the handler."""
    found = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page = found.get(self.path)
            if page is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            page(self) if callable(page) else self.wfile.write(page)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def urlopen(url, timeout):
        return opener.open(url.replace(HOST, f"{address}/host"), timeout=timeout)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(fetch, "MIRROR", f"{address}/mirror")
    yield found
    server.shutdown()
    server.server_close()


def serve(pages, place, contents):
    pages |= {f"/{place}/{name}.gz": gzip.compress(content) for name, content in contents.items()}


def script(path, text):
    path.write_text(f"#!/bin/sh\nset -e\nPATH=/usr/bin:/bin\n{text}\n")
    path.chmod(0o755)


def debian_system(world, monkeypatch, contents, lists=True):
    """An apt-get and a dpkg-deb that know one package. Without lists, apt-get has to fetch some first, into
    a folder of the user's own."""
    monkeypatch.setattr(fetch, "PACKAGE_FOLDER", pathlib.Path("/no such folder/fashion-mnist"))
    put(world / "package", contents)
    script(
        world / "bin" / "apt-get",
        'for word; do case "$word" in Dir::State::lists=*) lists="${word#*=}";; esac; last="$word"; done\n'
        'case "$*" in *update) touch "$lists/new"; exit;; esac\n'
        f'if [ {lists} = True ] || [ -e "$lists/new" ]; then touch "$last.deb"; exit; fi\n'
        'echo "E: Unable to locate package $last" >&2; exit 100',
    )
    script(
        world / "bin" / "dpkg-deb",
        f'folder="$3/no such folder/fashion-mnist"; mkdir -p "$folder"; cp "{world}/package/"* "$folder"',
    )


def check_images(dataset, contents):
    """The dataset holds these contents, in any order."""
    for prefix, images, labels in (("train", *dataset[:2]), ("t10k", *dataset[2:4])):
        pixels, names = (
            contents[f"{prefix}-images-idx3-ubyte"][16:],
            contents[f"{prefix}-labels-idx1-ubyte"][8:],
        )
        expected = [(pixels[784 * index : 784 * (index + 1)], label) for index, label in enumerate(names)]
        found = [(image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)]
        assert sorted(found) == sorted(expected)


def check(dataset, contents, source):
    """It is whole, says where it is from, and is there the next time."""
    check_images(dataset, contents)
    assert dataset.source == f"{source}, through TFDS" and not dataset.is_stand_in
    again = load()
    assert again.source == f"TFDS cache (from {source})" and again.folder == dataset.folder
    np.testing.assert_array_equal(again.train_images, dataset.train_images)


FORMS = {
    "gz of other settings": (lambda content: gzip.compress(content, compresslevel=1, mtime=1), "{}.gz"),
    "unpacked": (bytes, "{}"),
    "unpacked by a browser, which keeps the name": (bytes, "{}.gz"),
    "one level below": (gzip.compress, "raw/{}.gz"),
    "each in a folder of its name": (bytes, "{0}/{0}"),
}


@pytest.mark.parametrize("form", FORMS)
def test_files_in_every_usual_form(form, world, contents):
    put(world / "files", contents, *FORMS[form])
    assert fetch.read_folder(world / "files") == contents


def test_names_with_a_dot_and_wrong_files_beside_right_ones(world, contents):
    put(world / "files" / "raw", {name.replace("-idx", ".idx"): text for name, text in contents.items()})
    put(world / "files", dict.fromkeys(contents, b"something else"))
    assert fetch.read_folder(world / "files") == contents


def test_a_folder_of_ones_own(world, contents, monkeypatch, capsys):
    put(world / "my files", contents)
    monkeypatch.setenv("FMGAN_DATA_DIR", str(world / "my files"))
    dataset = load()
    assert "verified, from the files in FMGAN_DATA_DIR" in capsys.readouterr().err
    check(dataset, contents, "the files in FMGAN_DATA_DIR")
    plain = tfds.load("fashion_mnist", data_dir=os.environ["TFDS_DATA_DIR"], split="test", batch_size=-1)
    np.testing.assert_array_equal(plain["image"], dataset.test_images)  # where TFDS looks for it


def test_an_installed_package(world, contents, monkeypatch):
    monkeypatch.setattr(fetch, "PACKAGE_FOLDER", world / "installed")
    put(world / "installed", contents)
    check(load(), contents, "Debian's installed package dataset-fashion-mnist")


@pytest.mark.parametrize("place, source", [("host", "the dataset's host"), ("mirror", "Keras's mirror")])
def test_a_download(place, source, contents, pages, monkeypatch):
    monkeypatch.setenv("FMGAN_DATA_DIR", "")  # is none
    serve(pages, place, contents)
    check(load(), contents, source)


@pytest.mark.parametrize("lists", [True, False], ids=["with package lists", "without"])
def test_apt_get_as_any_user(lists, world, contents, monkeypatch):
    debian_system(world, monkeypatch, contents, lists)
    check(load(), contents, "Debian's package dataset-fashion-mnist")


WRONG = {
    "MNIST under the same name": lambda content: gzip.compress(gzip.decompress(content)[:-1] + b"!"),
    "truncated": lambda content: content[:-1],
    "truncated, unpacked": lambda content: gzip.decompress(content)[:-1],
    "longer": lambda content: gzip.compress(gzip.decompress(content) + b"!" * 10**6),
    "damaged": lambda content: content[:30] + bytes([content[30] ^ 0xFF]) + content[31:],
    "a web page": lambda content: b"<html>Sign in to this network</html>",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_files_are_refused(wrong, world, contents, pages, monkeypatch):
    """In the user's own folder, for which nothing else stands in; elsewhere the next place is asked."""
    put(world / "files", contents)
    path = world / "files" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(WRONG[wrong](path.read_bytes()))
    monkeypatch.setenv("FMGAN_DATA_DIR", str(world / "files"))
    with pytest.raises(DataError, match="FMGAN_DATA_DIR: .*(truncated|damaged).*Put the four") as refusal:
        load()
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value) and not written(world)
    monkeypatch.delenv("FMGAN_DATA_DIR")
    serve(pages, "host", contents)
    pages[f"/host/{path.name}"] = path.read_bytes()
    with pytest.raises(DataError, match="found nowhere.*the dataset's host: .*t10k-images.* is "):
        fetch.find(HOST)
    serve(pages, "mirror", contents)
    assert fetch.find(HOST) == (contents, "Keras's mirror")


def test_missing_files_and_folders_are_refused(world, contents, monkeypatch):
    put(world / "files", contents)
    (world / "files" / "train-labels-idx1-ubyte.gz").unlink()
    for name, problem in (("files", "train-labels-idx1-ubyte.gz is missing"), ("nowhere", "is not a folder")):
        monkeypatch.setenv("FMGAN_DATA_DIR", str(world / name))
        with pytest.raises(DataError, match=f"{problem}.*Put the four files there"):
            load()


def silent(handler):
    time.sleep(1)


def dripping(handler):
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.02)


@pytest.mark.parametrize("answer, reason", [(silent, "no answer in|timed out"), (dripping, "too slow")])
def test_slow_and_silent_hosts(answer, reason, contents, pages, monkeypatch):
    monkeypatch.setattr(fetch, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(fetch, "PATIENCE_SECONDS", 0.3)
    first = next(iter(contents))
    pages[f"/host/{first}.gz"] = pages[f"/mirror/{first}.gz"] = answer
    with pytest.raises(DataError, match=f"host: .*({reason}).*mirror: .*({reason})"):
        fetch.find(HOST)


def test_an_apt_get_that_hangs_or_fails(world, contents, monkeypatch):
    debian_system(world, monkeypatch, contents)
    monkeypatch.setattr(fetch, "APT_SECONDS", 0.3)
    script(world / "bin" / "apt-get", "exec sleep 5")
    with pytest.raises(TimeoutError, match="no result in 0.3 s"):
        fetch.fetch_package("package")
    monkeypatch.setattr(fetch, "APT_SECONDS", 30)
    fails = 'case "$*" in *update) echo "E: no route" >&2; echo more >&2;; esac; exit 100'
    script(world / "bin" / "apt-get", fails)
    with pytest.raises(DataError, match="^E: no route$"):
        fetch.fetch_package("package")


def test_one_message_lists_all_failures(world, contents):
    with pytest.raises(DataError, match="found nowhere.*set FMGAN_DATA_DIR.*No generated images") as refusal:
        load()
    for place in ("installed package", "dataset's host: <urlopen", "mirror: <urlopen", "no apt-get on this"):
        assert place in str(refusal.value)
    assert "\n" not in str(refusal.value) and not written(world)


# Where it is kept


def damaged(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("theirs", ["array_record", "MNIST under the name", "damaged", "damaged information"])
def test_what_others_keep_in_the_folder_stays_theirs(theirs, world, contents, pages):
    """Ours is prepared beside it, and found there the next time."""
    home, form, others = world / "tfds of é and ü", "tfrecord", contents
    if theirs == "array_record":
        form = pytest.importorskip("array_record") and theirs
    elif theirs == "MNIST under the name":
        others = {name: text[:16] + bytes(len(text) - 16) for name, text in contents.items()}
    builder = tfds.builder("fashion_mnist", data_dir=home, file_format=form)
    datasets._prepare(builder, others, "another course")
    if theirs.startswith("damaged"):
        pattern = "*test.tfrecord*" if theirs == "damaged" else "dataset_info.json"
        damaged(next(pathlib.Path(builder.data_dir).glob(pattern)))
    before = {path: path.read_bytes() for path in written(world)}
    serve(pages, "mirror", contents)
    dataset = load()
    check(dataset, contents, "Keras's mirror")
    assert pathlib.Path(dataset.folder).parents[1] == home / "fmgan"
    assert {path: path.read_bytes() for path in before} == before
    damaged(next(pathlib.Path(dataset.folder).glob("*test.tfrecord*")))
    with pytest.raises(DataError, match="fmgan.*cannot be read, or is not Fashion-MNIST.*Delete that folder"):
        load()  # both


def test_a_folder_that_cannot_be_written(world, contents, pages, monkeypatch):
    serve(pages, "host", contents)
    (world / "a file").touch()
    monkeypatch.setenv("TFDS_DATA_DIR", str(world / "a file" / "tfds"))
    with pytest.raises(DataError, match="cannot be kept in .*Set TFDS_DATA_DIR to a folder that can be"):
        load()


def test_a_preparation_that_fails_leaves_nothing(world, contents, pages, monkeypatch):
    serve(pages, "host", contents)

    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "frombuffer", fails)
    with pytest.raises(DataError, match="cannot be prepared .*No space left.*set TFDS_DATA_DIR to another"):
        load()
    assert not written(world)


# The stand-in


@pytest.fixture
def offline(world, monkeypatch):
    """No dataset and no network, but a conditional generator, tiny and untrained. Returns its path."""
    keras.utils.set_random_seed(0)
    noise, label = keras.Input((5,), name="noise"), keras.Input((), dtype="int32", name="label")
    loud = keras.initializers.RandomNormal(stddev=1.0)  # so that the label shows in every image
    table = keras.layers.Embedding(10, 3, embeddings_initializer=loud)(label)
    pixels = keras.layers.Dense(28 * 28, activation="tanh")(keras.layers.Concatenate()([noise, table]))
    path = world / "assets" / "cgan" / "generator.keras"
    path.parent.mkdir(parents=True)
    keras.Model([noise, label], keras.layers.Reshape((28, 28, 1))(pixels)).save(path)
    recipe = dataclasses.replace(recipes.get("cgan"), latent_dim=5)
    path.with_name("run.json").write_text(json.dumps({"recipe": dataclasses.asdict(recipe)}))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (world / "assets" / generation.SUMS).write_text(f"{digest}  cgan/generator.keras\n")
    generation.digests.cache_clear()
    monkeypatch.setattr(datasets, "COUNTS", {"train": 2000, "test": 1000})
    return path


def stand_in():
    """Loads the stand-in, which says what it is."""
    with pytest.warns(StandInWarning, match="generated.* NOT Fashion-MNIST.* mean nothing.*FMGAN_DATA_DIR"):
        dataset = load()
    assert dataset.is_stand_in and dataset.source == datasets.STAND_IN
    return dataset


def test_generated_images_stand_in_for_a_dataset_that_is_nowhere(offline, world, capsys):
    first = stand_in()
    assert "generating 70,000 images" in capsys.readouterr().err
    for images, labels, count in ((*first[:2], 2000), (*first[2:4], 1000)):
        assert images.shape == (count, 28, 28, 1) and images.dtype == np.uint8
        assert np.bincount(labels).tolist() == [count // 10] * 10
        assert (np.bincount(labels[: count // 10]) < count // 50).all()  # shuffled
    train, test = ({image.tobytes() for image in images} for images in (first[0], first[2]))
    assert len(train) == 2000 and not train & test
    # Labels and noise go together: the generator gives these very images for these labels alone
    generator, noise = generation.load_generator("cgan"), generation.sample_noise(1, 50, 5)
    asked = [generation.sample_images(generator, noise, np.full(50, label)).mean() for label in range(10)]
    found = [first.train_images[first.train_labels == label].mean() for label in range(10)]
    assert np.corrcoef(asked, found)[0, 1] > 0.5
    again = stand_in()  # kept: the generator is not asked again
    assert "generating" not in capsys.readouterr().err
    assert all(np.array_equal(first[index], again[index]) for index in range(4))
    assert first.folder == str(world / "tfds of é and ü" / "fmgan_stand_in") and len(written(world)) == 1


def test_nothing_stands_in_for_wrong_files_or_where_no_generator_is_whole(offline, world, monkeypatch):
    (world / "files").mkdir()
    monkeypatch.setenv("FMGAN_DATA_DIR", str(world / "files"))
    with pytest.raises(DataError, match="is missing"):
        load()
    monkeypatch.delenv("FMGAN_DATA_DIR")
    offline.write_bytes(offline.read_bytes()[:-1])
    with pytest.raises(DataError, match="FMGAN_DATA_DIR.* stand in .*generator.keras is damaged"):
        load()
    assert not written(world)
