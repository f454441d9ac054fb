"""The dataset's sources, each alone and each with something wrong. Most tests use a dataset of 30 images."""

import concurrent.futures
import gzip
import hashlib
import http.server
import os
import pathlib
import pwd
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import warnings

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from fmgan_tf import InputError, pretrained
from fmgan_tf import fashion_mnist as dataset_module
from fmgan_tf.fashion_mnist import CLASS_NAMES, COUNTS, FILES, DataError, StandInWarning, class_index, load

HOST = next(iter(tfds.builder_cls("fashion_mnist").url_infos)).rpartition("/")[0]


def test_class_index():
    assert [class_index(name) for name in CLASS_NAMES] == list(range(10))
    assert class_index("ankle BOOT") == class_index("9") == class_index(9) == 9
    for wrong in ("Ankle boots", "10", 10, -1, "", "²"):
        with pytest.raises(InputError, match="T-shirt/top.*Ankle boot"):
            class_index(wrong)
    with pytest.raises(InputError, match="Did you mean 'Ankle boot'"):
        class_index("Ankel boot")
    assert class_index("B", ("a", "b")) == 1
    with pytest.raises(InputError, match="The classes are 0 a, 1 b. Did you mean"):
        class_index("2", ("a", "b"))


# The real dataset


def test_real_data(fashion_mnist):
    assert fashion_mnist.name == "Fashion-MNIST" and fashion_mnist.class_names == CLASS_NAMES
    assert CLASS_NAMES == tuple(tfds.builder("fashion_mnist").info.features["label"].names)
    assert fashion_mnist.train_images.shape == (60_000, 28, 28, 1)
    assert fashion_mnist.test_images.shape == (10_000, 28, 28, 1)
    assert fashion_mnist.train_images.dtype == fashion_mnist.test_images.dtype == np.uint8
    assert fashion_mnist.train_labels.dtype == fashion_mnist.test_labels.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(fashion_mnist.train_labels), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(fashion_mnist.test_labels), [1000] * 10)
    known = pytest.approx(72.94, abs=0.01)  # the mean that the field knows
    assert fashion_mnist.train_images.mean() == known


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """The four files of Debian's package, fetched. Skips, with the reason, where Debian is not reachable."""
    folder = tmp_path_factory.mktemp("debian") / "files"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_module, "_read", lambda unpacked: shutil.copytree(unpacked, folder))
        try:
            dataset_module._fetch_package(dataset_module.PACKAGE)
        except (OSError, DataError) as error:
            pytest.skip(f"needs Debian's packages: {error}")
    return folder


@pytest.fixture(scope="module")
def original(request):
    """A folder with the real files as .gz."""
    return pathlib.Path(os.environ.get("FMGAN_DATA_DIR") or request.getfixturevalue("debian"))


def test_debian_package(debian):
    contents = dataset_module._read(debian)
    assert [len(contents[name]) for name in FILES] == [size for size, _ in FILES.values()]
    # What it holds are the files whose SHA-256 TFDS records, but for the ten bytes and the name in front.
    for url, info in tfds.builder_cls("fashion_mnist").url_infos.items():
        name = url.rsplit("/", 1)[-1].removesuffix(".gz")
        date = b"\xf3\xe9\xa7\x59" if name.startswith("t10k") else b"\xde\xe9\xa7\x59"
        head = b"\x1f\x8b\x08\x08" + date + b"\x00\x03" + name.encode() + b"\x00"
        content = (debian / f"{name}.gz").read_bytes()
        assert content[3] == 0  # no name, so ten bytes of header
        assert hashlib.sha256(head + content[10:]).hexdigest() == info.checksum


def test_real_files(original, fashion_mnist, tmp_path, monkeypatch, capsys):
    """Prepared as TFDS prepares them, in the same order, and where TFDS looks for them."""
    home = tmp_path / "Daten für alle"
    monkeypatch.setenv("TFDS_DATA_DIR", str(home))
    monkeypatch.setenv("FMGAN_DATA_DIR", str(original))
    dataset = load()
    assert dataset.source == "the files in FMGAN_DATA_DIR, through TFDS"
    assert dataset.folder == str(home / "fashion_mnist" / "3.0.1")
    said = capsys.readouterr()
    assert said.out == "" and "verified, from the files in FMGAN_DATA_DIR" in said.err
    assert equal(dataset, fashion_mnist)
    plain = tfds.load("fashion_mnist", data_dir=home, split="test", batch_size=-1, download=False)
    assert np.array_equal(plain["image"], dataset.test_images)
    assert np.array_equal(plain["label"], dataset.test_labels)


def test_real_files_unpacked(original, tmp_path):
    contents = dataset_module._read(original)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert dataset_module._read(tmp_path) == contents


# A dataset of 30 images, in a world without network


def tiny():
    """The contents of four files like the real ones, with 20 and 10 images."""
    random, contents = np.random.default_rng(0), {}
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = random.integers(0, 256, count * 784, "uint8").tobytes()
        labels = random.permutation(np.arange(count) % 10).astype("uint8").tobytes()
        contents[f"{prefix}-images-idx3-ubyte"] = struct.pack(">4i", 2051, count, 28, 28) + images
        contents[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, count) + labels
    return dict(sorted(contents.items(), key=lambda item: len(item[1])))


def use_tiny(patch):
    """Makes the module take the tiny dataset for Fashion-MNIST. Returns its contents."""
    contents = tiny()
    files = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in contents.items()}
    sums = {
        n: sum(contents[f"{p}-images-idx3-ubyte"][16:]) for n, p in (("train", "train"), ("test", "t10k"))
    }
    patch.setattr(dataset_module, "FILES", files)
    patch.setattr(dataset_module, "COUNTS", {"train": 20, "test": 10})
    patch.setattr(dataset_module, "PIXEL_SUMS", sums)
    return contents


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Folders of its own, nothing in any source, no shipped generator. Checks what is written elsewhere."""
    for name in ("home", "tmp", "work", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds of é and ü"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("FMGAN_DATA_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(dataset_module, "PACKAGE_FOLDER", tmp_path / "no package")
    monkeypatch.setattr(pretrained, "shipped", lambda: ())

    def urlopen(url, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    yield tmp_path
    assert not [*(tmp_path / "home").iterdir(), *(tmp_path / "work").iterdir()]
    left = [
        path.name for path in (tmp_path / "tmp").rglob("*") if path.is_file()
    ]  # TFDS leaves empty folders
    assert all(name.startswith("__autograph_generated") for name in left), left  # and TensorFlow its code


@pytest.fixture
def contents(world, monkeypatch):
    return use_tiny(monkeypatch)


def written(world):
    return [path for path in (world / "tfds of é and ü").rglob("*") if path.is_file()]


def put(folder, contents, pack=gzip.compress, name="{}.gz"):
    for key, content in contents.items():
        path = folder / name.format(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(content))


class Server(http.server.BaseHTTPRequestHandler):
    """Answers from `pages`, {path: bytes or a function of the handler}, and with 404."""

    pages = {}

    def do_GET(self):
        page = self.pages.get(self.path)
        if callable(page):
            page(self)
        elif page is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    def log_message(self, *_):
        pass


@pytest.fixture
def pages(world, monkeypatch):
    """What the dataset's host serves below /host/, and Keras's mirror below /mirror/: nothing at first."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def urlopen(url, timeout):
        return opener.open(url.replace(HOST, f"{address}/host"), timeout=timeout)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(dataset_module, "MIRROR", f"{address}/mirror")
    monkeypatch.setattr(Server, "pages", {})
    yield Server.pages
    server.shutdown()
    server.server_close()


def serve(pages, place, contents, pack=gzip.compress):
    pages |= {f"/{place}/{name}.gz": pack(content) for name, content in contents.items()}


def script(path, text):
    path.write_text(f"#!/bin/sh\nset -e\nPATH=/usr/bin:/bin\n{text}\n")
    path.chmod(0o755)


def debian_system(world, monkeypatch, contents, lists=True, pack=gzip.compress):
    """An apt-get and a dpkg-deb that know one package. Without lists, apt-get has to fetch some first."""
    monkeypatch.setattr(dataset_module, "PACKAGE_FOLDER", pathlib.Path("/no such folder/fashion-mnist"))
    put(world / "package", contents, pack)
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


def gz_of_other_settings(content):
    return gzip.compress(content, compresslevel=1, mtime=1)


def unpacked(content):
    return content


LAYOUTS = {
    "as gz": (gzip.compress, "{}.gz"),
    "gz of other settings": (gz_of_other_settings, "{}.gz"),
    "unpacked": (unpacked, "{}"),
    "unpacked by a browser, which keeps the name": (unpacked, "{}.gz"),
    "one level below": (gzip.compress, "raw/{}.gz"),
    "each in a folder of its name": (unpacked, "{0}/{0}"),
}


def check(dataset, contents, source):
    """The dataset holds these contents, in any order, and says where they are from."""
    parts = {"train": dataset[:2], "t10k": dataset[2:4]}
    for prefix, (images, labels) in parts.items():
        expected = contents[f"{prefix}-images-idx3-ubyte"][16:], contents[f"{prefix}-labels-idx1-ubyte"][8:]
        assert images.dtype == np.uint8 and labels.dtype == np.int64
        assert images.shape == (len(labels), 28, 28, 1)
        pairs = [(expected[0][784 * i : 784 * (i + 1)], label) for i, label in enumerate(expected[1])]
        assert sorted(pairs) == sorted(
            (image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)
        )
    assert dataset.source == f"{source}, through TFDS" and not dataset.is_stand_in
    again = load()
    assert again.source == f"TFDS cache (from {source})" and np.array_equal(
        again.train_images, dataset.train_images
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_in_fmgan_data_dir(layout, world, contents, monkeypatch, capsys):
    pack, name = LAYOUTS[layout]
    put(world / "my files", contents, pack, name)
    monkeypatch.setenv("FMGAN_DATA_DIR", str(world / "my files"))
    dataset = load()
    assert "verified, from the files in FMGAN_DATA_DIR" in capsys.readouterr().err
    check(dataset, contents, "the files in FMGAN_DATA_DIR")


def test_names_with_a_dot(world, contents):
    put(world / "files", {name.replace("-idx", ".idx"): content for name, content in contents.items()})
    assert dataset_module._read(world / "files") == contents


def test_a_wrong_file_beside_a_right_one_does_no_harm(world, contents):
    put(world / "files" / "raw", contents)
    put(world / "files", dict.fromkeys(contents, b"something else"))
    assert dataset_module._read(world / "files") == contents


def test_installed_package(world, contents, monkeypatch):
    monkeypatch.setattr(dataset_module, "PACKAGE_FOLDER", world / "installed")
    put(world / "installed", contents)
    check(load(), contents, "Debian's installed package dataset-fashion-mnist")


@pytest.mark.parametrize("place, source", [("host", "the dataset's host"), ("mirror", "Keras's mirror")])
def test_download(place, source, contents, pages, capsys):
    serve(pages, place, contents)
    dataset = load()
    assert f"asking {HOST} ..." in capsys.readouterr().err
    check(dataset, contents, source)


@pytest.mark.parametrize("lists", [True, False], ids=["with package lists", "without"])
def test_apt_get(lists, world, contents, monkeypatch):
    debian_system(world, monkeypatch, contents, lists)
    check(load(), contents, "Debian's package dataset-fashion-mnist")


def test_an_empty_fmgan_data_dir_is_none(contents, pages, monkeypatch):
    monkeypatch.setenv("FMGAN_DATA_DIR", "")
    serve(pages, "host", contents)
    assert load().source == "the dataset's host, through TFDS"


# What is wrong in one of the four files, as a function of what is written

WRONG = {
    "look-alike": lambda content: gzip.compress(gzip.decompress(content)[:-1] + b"!"),
    "look-alike, unpacked": lambda content: gzip.decompress(content)[:-1] + b"!",
    "truncated": lambda content: content[:-1],
    "truncated, unpacked": lambda content: gzip.decompress(content)[:-1],
    "longer": lambda content: gzip.compress(gzip.decompress(content) + b"!" * 10**6),
    "damaged": lambda content: content[:30] + bytes([content[30] ^ 0xFF]) + content[31:],
    "empty": lambda content: b"",
    "a web page": lambda content: b"<html>Sign in to this network</html>",
}


def spoil(folder, wrong):
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(WRONG[wrong](path.read_bytes()))
    return path


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_files_in_fmgan_data_dir_are_refused(wrong, world, contents, pages, monkeypatch):
    serve(pages, "host", contents)  # which must not stand in for what the user gave
    put(world / "files", contents)
    path = spoil(world / "files", wrong)
    monkeypatch.setenv("FMGAN_DATA_DIR", str(world / "files"))
    with pytest.raises(DataError, match="FMGAN_DATA_DIR: .*Put the four files there") as refusal:
        load()
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert "truncated" in str(refusal.value) or "damaged" in str(refusal.value)
    assert not written(world)


def test_missing_files_and_folders_are_refused(world, contents, monkeypatch):
    put(world / "files", contents)
    (world / "files" / "train-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setenv("FMGAN_DATA_DIR", str(world / "files"))
    with pytest.raises(DataError, match="train-labels-idx1-ubyte.gz is missing.*Put the four files there"):
        load()
    monkeypatch.setenv("FMGAN_DATA_DIR", str(world / "nowhere"))
    with pytest.raises(DataError, match="nowhere' is not a folder.*Put the four files there"):
        load()
    assert not written(world)


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_files_in_other_sources_are_passed_over(wrong, world, contents, pages, monkeypatch):
    """Each source in turn is the first to have something right; all before it have something wrong."""
    put(world / "installed", contents)
    spoil(world / "installed", wrong)
    for place in ("host", "mirror"):
        serve(pages, place, contents)
        path = f"/{place}/t10k-images-idx3-ubyte.gz"
        pages[path] = WRONG[wrong](pages[path])
    debian_system(world, monkeypatch, contents)
    spoil(world / "package", wrong)
    monkeypatch.setattr(dataset_module, "PACKAGE_FOLDER", world / "installed")
    script(
        world / "bin" / "dpkg-deb",
        f'mkdir -p "$3{world}/installed"; cp "{world}/package/"* "$3{world}/installed"',
    )
    with pytest.raises(DataError) as refusal:
        load()
    assert str(refusal.value).count("t10k-images-idx3-ubyte.gz is ") == 4  # each says what is wrong with it
    assert not written(world)

    put(world / "package", contents)
    assert dataset_module._find(HOST) == (contents, "Debian's package dataset-fashion-mnist")
    serve(pages, "mirror", contents)
    assert dataset_module._find(HOST) == (contents, "Keras's mirror")
    serve(pages, "host", contents)
    assert dataset_module._find(HOST) == (contents, "the dataset's host")
    put(world / "installed", contents)
    assert dataset_module._find(HOST) == (contents, "Debian's installed package dataset-fashion-mnist")


def silent(handler):
    time.sleep(2)


def dripping(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        try:
            handler.wfile.write(b"x")
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.02)


def cut_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"\x1f\x8b\x08")


def no_http(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    with pytest.raises(OSError):
        while True:
            handler.wfile.write(bytes(1 << 16))


@pytest.mark.parametrize(
    "answer, reason",
    [
        (silent, "no answer in|timed out"),
        (dripping, "too slow"),
        (cut_off, "truncated or damaged"),
        (no_http, "SSH"),
        (endless, "more than"),
    ],
)
def test_hosts_that_do_not_answer_as_they_should(answer, reason, contents, pages, monkeypatch):
    monkeypatch.setattr(dataset_module, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(dataset_module, "PATIENCE_SECONDS", 0.3)
    first = next(iter(contents))
    pages[f"/host/{first}.gz"] = pages[f"/mirror/{first}.gz"] = answer
    start = time.monotonic()
    with pytest.raises(DataError, match=f"host: .*({reason}).*mirror: .*({reason})"):
        dataset_module._find(HOST)
    assert time.monotonic() - start < 1.5  # the silent one would go on for two seconds


def test_a_lookup_that_hangs(world, monkeypatch):
    monkeypatch.setattr(dataset_module, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: time.sleep(1))
    with pytest.raises(TimeoutError, match="no answer in 0.1 s"):
        dataset_module._open(HOST)


def test_an_apt_get_that_hangs_or_fails(world, contents, monkeypatch):
    debian_system(world, monkeypatch, contents)
    monkeypatch.setattr(dataset_module, "APT_SECONDS", 0.3)
    script(world / "bin" / "apt-get", "exec sleep 5")
    with pytest.raises(TimeoutError, match="no result in 0.3 s"):
        dataset_module._fetch_package("package")
    monkeypatch.setattr(dataset_module, "APT_SECONDS", 30)
    script(
        world / "bin" / "apt-get",
        'case "$*" in *update) echo "E: no route" >&2; echo more >&2;; esac; exit 100',
    )
    with pytest.raises(DataError, match="^E: no route$"):
        dataset_module._fetch_package("package")


def test_all_failures_together_take_less_than_a_minute():
    """If both hosts send a byte now and then, connect once more, send one more, and apt-get hangs."""
    slow = dataset_module.PATIENCE_SECONDS + 2 * dataset_module.CONNECT_SECONDS
    assert 2 * slow + dataset_module.APT_SECONDS < 60


def test_one_message_lists_all_failures(world, contents):
    with pytest.raises(DataError, match="was found nowhere.*set FMGAN_DATA_DIR") as refusal:
        load()
    for source in (
        "installed package",
        "dataset's host: <urlopen",
        "mirror: <urlopen",
        "no apt-get on this machine",
    ):
        assert source in str(refusal.value)
    assert "\n" not in str(refusal.value) and not written(world)


# Where it is kept


def test_a_cache_that_holds_something_else(world, contents, pages, monkeypatch):
    serve(pages, "host", contents)
    folder = pathlib.Path(load().folder)
    records = next(folder.glob("*test.tfrecord*"))
    content = bytearray(records.read_bytes())
    content[len(content) // 2] ^= 0xFF
    for wrong in (content, content[:-1], b""):
        records.write_bytes(wrong)
        with pytest.raises(DataError, match="cannot be read.*Delete that folder"):
            load()
    content[len(content) // 2] ^= 0xFF
    records.write_bytes(content)
    assert load().source == "TFDS cache (from the dataset's host)"
    monkeypatch.setattr(dataset_module, "PIXEL_SUMS", {"train": 1, "test": 1})
    with pytest.raises(DataError, match="is not Fashion-MNIST .*expected.*Delete that folder"):
        load()
    for text in ('{"name": "fashion_mnist", "version": "3.0.1"}', "{", ""):
        (folder / "dataset_info.json").write_text(text)
        with pytest.raises(DataError, match="cannot be read.*Delete that folder"):
            load()


def test_prepared_by_tfds_itself(world, contents, pages):
    serve(pages, "host", contents)
    load()
    (origin,) = [path for path in written(world) if path.name == dataset_module.ORIGIN_FILE]
    origin.unlink()
    assert load().source == "TFDS cache"


@pytest.mark.parametrize("home", ["a file/home", "a file"])
def test_a_folder_that_cannot_be_written(home, world, contents, pages, monkeypatch):
    serve(pages, "host", contents)
    (world / "a file").touch()
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(world / home))
    with pytest.raises(
        DataError, match="cannot be kept in .*Set TFDS_DATA_DIR to a folder that can be written"
    ):
        load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(world, contents, pages):
    serve(pages, "host", contents)
    folder = world / "tfds of é and ü"
    folder.mkdir(mode=0o555)
    with pytest.raises(DataError, match="cannot be kept in .*Permission denied.*Set TFDS_DATA_DIR"):
        load()
    folder.chmod(0o755)
    load()
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o555)
    assert load().source == "TFDS cache (from the dataset's host)"
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_no_home_makes_no_folder_of_that_name(world, contents, monkeypatch):
    def getpwuid(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    for variable in ("HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(variable)
    with pytest.raises(DataError, match="Set TFDS_DATA_DIR to a folder"):
        load()
    assert not pathlib.Path("~").exists()


def test_a_preparation_that_fails_leaves_nothing(world, contents, pages, monkeypatch):
    serve(pages, "host", contents)

    def fails(*_, **__):
        raise OSError(28, "No space left\non device")

    monkeypatch.setattr(np, "frombuffer", fails)
    with pytest.raises(
        DataError, match="cannot be prepared in .*No space left.*set TFDS_DATA_DIR to another"
    ):
        load()
    assert not written(world)


def test_two_processes_at_once(world, contents):
    """Both have found the files, and wait for one another, before they prepare them."""
    put(world / "files", contents)
    tiny = {name: getattr(dataset_module, name) for name in ("FILES", "COUNTS", "PIXEL_SUMS")}
    code = (
        "import pathlib, sys, time\n"
        "from fmgan_tf import fashion_mnist\n"
        f"vars(fashion_mnist).update({tiny!r})\n"
        "prepare, mine, other = fashion_mnist._prepare, *map(pathlib.Path, sys.argv[1:])\n"
        "def wait(*arguments):\n"
        "    mine.touch()\n"
        "    while not other.exists(): time.sleep(0.01)\n"
        "    prepare(*arguments)\n"
        "fashion_mnist._prepare = wait\n"
        "print(fashion_mnist.load().train_labels.tolist())\n"
    )
    environment = os.environ | {
        "HOME": str(world / "home of both"),  # where Keras and others keep their settings
        "FMGAN_DATA_DIR": str(world / "files"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TMPDIR": str(world / "tmp"),
    }
    marks = [str(world / name) for name in ("first", "second")]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, *order],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for order in (marks, marks[::-1])
    ]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        outputs = list(threads.map(lambda run: run.communicate(timeout=120), runs))
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] == f"{load().train_labels.tolist()}\n"
    folders = {path.parent.name for path in written(world)}
    assert folders == {"3.0.1"}


# The stand-in


@pytest.fixture
def offline(world, monkeypatch):
    """No dataset and no network, but a conditional generator, tiny and untrained. Returns its path."""
    keras.utils.set_random_seed(0)
    noise, label = keras.Input((5,), name="noise"), keras.Input((), dtype="int32", name="label")
    loud = keras.initializers.RandomNormal(
        stddev=1.0
    )  # so that the label shows in every image, whatever the noise
    both = keras.layers.Concatenate()(
        [noise, keras.layers.Embedding(10, 3, embeddings_initializer=loud)(label)]
    )
    image = keras.layers.Reshape((28, 28, 1))(keras.layers.Dense(28 * 28, activation="tanh")(both))
    path = world / "assets" / "cgan" / "generator.keras"
    path.parent.mkdir(parents=True)
    keras.Model([noise, label], image).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained, "ASSETS", world / "assets")
    monkeypatch.setattr(pretrained, "digests", lambda: {"cgan/generator.keras": digest})
    monkeypatch.setattr(pretrained, "shipped", lambda: ("cgan",))
    monkeypatch.setattr(dataset_module, "COUNTS", {"train": 6000, "test": 1000})
    return path


def stand_in():
    """Loads the stand-in and checks that it is none in silence."""
    with pytest.warns(
        StandInWarning, match="generated.* NOT Fashion-MNIST.* mean nothing.*FMGAN_DATA_DIR"
    ) as caught:
        dataset = load()
    (warning,) = [warning for warning in caught if warning.category is StandInWarning]
    assert "\n" not in str(warning.message) and warning.filename == __file__
    assert dataset.is_stand_in and dataset.source == dataset_module.STAND_IN
    return dataset


def equal(first, second):
    return all(np.array_equal(first[index], second[index]) for index in range(4))


def test_stand_in(offline, world, capsys):
    assert COUNTS == {"train": 60_000, "test": 10_000}  # what it draws outside of this test
    first = stand_in()
    images = {"train": first.train_images, "test": first.test_images}
    labels = {"train": first.train_labels, "test": first.test_labels}
    for name, count in dataset_module.COUNTS.items():
        assert images[name].shape == (count, 28, 28, 1) and images[name].dtype == np.uint8
        assert labels[name].shape == (count,) and labels[name].dtype == np.int64
        np.testing.assert_array_equal(np.bincount(labels[name]), [count // 10] * 10)
        assert (np.bincount(labels[name][: count // 10]) < count // 50).all()  # shuffled
    digests = {name: {image.tobytes() for image in images[name]} for name in images}
    assert len(digests["train"]) == 6000 and not digests["train"] & digests["test"]
    # Labels and noise go together: the generator gives these very images for these labels only.
    generator = pretrained.load_pretrained("cgan")
    noise = np.random.default_rng(1).standard_normal((50, 5), "float32")
    brightness = [generator.predict_on_batch([noise, np.full(50, label)]).mean() for label in range(10)]
    found = [first.train_images[first.train_labels == label].mean() for label in range(10)]
    assert np.corrcoef(brightness, found)[0, 1] > 0.5
    assert "generating 70,000 images" in capsys.readouterr().err

    # Kept: the second time the generator is not asked.
    content = offline.read_bytes()
    offline.unlink()
    assert equal(stand_in(), first) and "generating" not in capsys.readouterr().err
    assert first.folder == str(world / "tfds of é and ü" / "fmgan_stand_in")

    # Damaged: made again, which takes the generator.
    (kept,) = written(world)
    assert kept.name == hashlib.sha256(content).hexdigest()[:12] + ".npz"
    damaged = bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    for wrong in (b"", b"no zip", damaged[:-1], damaged):
        kept.write_bytes(wrong)
        with pytest.raises(DataError, match="FMGAN_DATA_DIR.* stand in .*generator.keras cannot be read"):
            load()
    offline.write_bytes(content[:-1])
    with pytest.raises(DataError, match="FMGAN_DATA_DIR.* stand in .*generator.keras is damaged"):
        load()
    offline.write_bytes(content)
    assert equal(stand_in(), first) and written(world) == [kept]
    offline.unlink()
    assert equal(stand_in(), first)


def test_nothing_stands_in_for_wrong_files_or_a_damaged_cache(offline, world, monkeypatch):
    (world / "files").mkdir()
    monkeypatch.setenv("FMGAN_DATA_DIR", str(world / "files"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", StandInWarning)
        with pytest.raises(DataError, match="is missing"):
            load()
        monkeypatch.delenv("FMGAN_DATA_DIR")
        cache = world / "tfds of é and ü" / "fashion_mnist" / "3.0.1"
        cache.mkdir(parents=True)
        for content in (None, '{"name": "fashion_mnist", "version": "3.0.1"}'):
            if content:
                (cache / "dataset_info.json").write_text(content)
            with pytest.raises(DataError, match="cannot be read.*Delete that folder"):
                load()
    assert not (world / "tfds of é and ü" / "fmgan_stand_in").exists()


def test_without_a_shipped_generator_nothing_stands_in(world):
    with pytest.raises(DataError, match="was found nowhere .*FMGAN_DATA_DIR"):
        load()


def test_a_stand_in_that_cannot_be_kept(offline, world, monkeypatch):
    monkeypatch.setattr(dataset_module, "COUNTS", {"train": 20, "test": 10})
    (world / "tfds of é and ü").mkdir()
    (world / "tfds of é and ü" / "fmgan_stand_in").write_text("a file where the folder would be")
    with pytest.raises(DataError, match="cannot be written .*TFDS_DATA_DIR"):
        load()
