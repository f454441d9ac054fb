"""The dataset: its classes, where it is found, how it is verified. Imports no TensorFlow before it loads."""

import concurrent.futures
import contextlib
import difflib
import gzip
import hashlib
import http.client
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
import zlib
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from fmgan_tf import InputError, pretrained

NAME = "Fashion-MNIST"
CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
CLASS_NAMES += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
STAND_IN = "stand-in: generated images, NOT Fashion-MNIST"
COUNTS = {"train": 60_000, "test": 10_000}
PIXEL_SUMS = {"train": 3_431_114_169, "test": 573_469_082}  # whatever the order; those of MNIST are others

# Bytes and SHA-256 of each file once it is unpacked, however it was packed (TFDS records those of the .gz)
FILES = {
    "t10k-labels-idx1-ubyte": (10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    "train-labels-idx1-ubyte": (60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "train-images-idx3-ubyte": (47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
}
MIRROR = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"  # of keras.datasets.fashion_mnist
PACKAGE = "dataset-fashion-mnist"  # in Debian and Ubuntu
PACKAGE_FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")
ORIGIN_FILE = "fmgan_source.txt"  # beside the prepared dataset: where its files came from

CONNECT_SECONDS = 4  # for a host to answer
PATIENCE_SECONDS, SLOWEST = 6, 50_000  # after so long, a download has to bring so many bytes per second
APT_SECONDS = 30  # for all that apt-get does


class DataError(InputError):
    """The dataset is not available, or what was found is something else. The message says how to fix it."""

    def __init__(self, message):
        super().__init__(" ".join(str(message).split()))  # what it quotes of others may have several lines


class _Nowhere(DataError):
    """None of the places that may have the dataset has it."""


class StandInWarning(UserWarning):
    """Generated images stand in for the dataset. The message says why, and how to get the real one."""


class Dataset(NamedTuple):
    """Images, labels, and what they are."""

    train_images: np.ndarray  # uint8 (N, height, width, 1) in [0, 255], 0 being the background
    train_labels: np.ndarray  # int64 (N,), indices into class_names
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str  # where the images came from, for people and run.json
    folder: str  # where they are kept
    name: str = NAME
    class_names: tuple = CLASS_NAMES

    @property
    def is_stand_in(self):
        """Whether these are generated images, which no figure should be computed on."""
        return self.source == STAND_IN


def class_index(label, class_names=CLASS_NAMES):
    """The index of a class given by name, in any case, or number; else an InputError that lists them all."""
    by_name = {name.lower(): index for index, name in enumerate(class_names)}
    text = str(label).strip().lower()
    if text in by_name:
        return by_name[text]
    if text.isdecimal() and int(text) < len(class_names):
        return int(text)
    near = class_names[by_name[difflib.get_close_matches(text, by_name, n=1, cutoff=0.0)[0]]]
    listing = ", ".join(f"{index} {name}" for index, name in enumerate(class_names))
    raise InputError(f"No class {label!r}. The classes are {listing}. Did you mean {near!r}?")


def load():
    """Fashion-MNIST, verified, through TensorFlow Datasets: Dataset, 60,000 and 10,000 images of 28 x 28.

    What TFDS prepared before, in TFDS_DATA_DIR or ~/tensorflow_datasets, comes first. Else the first of these
    that has the four files fills that folder: the folder that FMGAN_DATA_DIR names, alone where it is set;
    Debian's and Ubuntu's package where it is installed; the dataset's host; Keras's mirror; that package,
    fetched into a temporary folder. Where none has them, images of the shipped conditional generator stand
    in (is_stand_in), with a StandInWarning.

    Raises:
        DataError: FMGAN_DATA_DIR lacks a file or holds another; TFDS's folder cannot be written or holds
            something else; or the dataset is nowhere and no generator can stand in.
    Source: Xiao, Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747.
    """
    import tensorflow_datasets as tfds

    fix = "Set TFDS_DATA_DIR to a folder that can be written."
    try:
        home = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    except RuntimeError as error:  # no HOME, and the system knows none
        raise DataError(f"{error} {fix}") from error
    with _reading(home):
        builder = tfds.builder("fashion_mnist", data_dir=home)
        cached = os.path.exists(builder.data_dir)
    if not cached:
        try:
            home.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=home).close()
        except OSError as error:
            raise DataError(f"{NAME} cannot be kept in {home} ({error.strerror}). {fix}") from error
        try:
            contents, origin = _find(host=next(iter(builder.url_infos)).rpartition("/")[0])
        except _Nowhere as error:
            return _stand_in(home / "fmgan_stand_in", error)
        _prepare(builder, contents, origin)
    with _reading(home):
        builder = tfds.builder("fashion_mnist", data_dir=home)
        arrays = []
        for name, count in COUNTS.items():
            split = builder.as_dataset(name, batch_size=-1)
            images, labels = split["image"].numpy(), split["label"].numpy()
            arrays += [images, labels]
            found = images.shape, int(images.sum(dtype=np.int64)), np.bincount(labels).tolist()
            expected = (count, 28, 28, 1), PIXEL_SUMS[name], [count // 10] * 10
            if found != expected:
                raise ValueError(f"{name} images, sum of pixels, labels: {found}, expected {expected}")
        file = pathlib.Path(builder.data_dir, ORIGIN_FILE)
        origin = file.read_text() if file.exists() else ""
    source = f"TFDS cache (from {origin})" if origin else "TFDS cache"
    return Dataset(*arrays, source if cached else f"{origin}, through TFDS", str(builder.data_dir))


@contextlib.contextmanager
def _reading(home):
    """A damaged cache shows in many ways: OSError, DataLossError, JSON errors, other images."""
    try:
        yield
    except Exception as error:
        folder, fix = home / "fashion_mnist", "Delete that folder and run this again."
        raise DataError(f"{folder} cannot be read, or is not {NAME} ({error}). {fix}") from error


def _say(text):
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)


def _find(host):
    """The four contents, {name: bytes}, of the first place that has them, and what that place is called."""
    if local := os.environ.get("FMGAN_DATA_DIR"):
        try:
            return _read(pathlib.Path(os.path.expanduser(local))), "the files in FMGAN_DATA_DIR"
        except DataError as error:
            fix = "Put the four files there, as .gz or unpacked, or unset FMGAN_DATA_DIR to fetch them."
            raise DataError(f"FMGAN_DATA_DIR: {error}. {fix}") from error
    failures = []
    for origin, fetch, place in (
        (f"Debian's installed package {PACKAGE}", _read, PACKAGE_FOLDER),
        ("the dataset's host", _download, host),
        ("Keras's mirror", _download, MIRROR),
        (f"Debian's package {PACKAGE}", _fetch_package, PACKAGE),
    ):
        try:
            return fetch(place), origin
        except (OSError, http.client.HTTPException, DataError) as error:
            failures.append(f"{origin}: {error}")
    raise _Nowhere(
        f"{NAME} was found nowhere ({'; '.join(failures)}). Try again later, or put the four files "
        f"{', '.join(FILES)}, as .gz or unpacked, in a folder and set FMGAN_DATA_DIR to it."
    )


def _verified(content, name, path):
    """The content of a file, unpacked if need be; DataError if it is not what it should be."""
    size, digest = FILES[name]
    if content.startswith(b"\x1f\x8b"):  # its first bytes tell: browsers unpack files and keep their names
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(size + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is truncated or damaged ({error})") from error
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        length = f"{len(content):,}" if len(content) <= size else f"more than {size:,}"
        raise DataError(
            f"{path} is not {NAME}'s: unpacked {length} bytes with SHA-256 {found}, expected {size:,} with "
            f"{digest}; truncated, or MNIST under the same name?"
        )
    return content


def _read(folder):
    """The four contents of a folder or of folders in it; where there are several of a name, any that fits."""
    contents = {}
    for name in FILES:
        pattern = name.replace("-idx", "?idx") + "*"  # train-images.idx3-ubyte is common as well
        problem = f"{folder / name}.gz is missing" if folder.is_dir() else f"{str(folder)!r} is not a folder"
        for path in [*sorted(folder.glob(pattern)), *sorted(folder.glob(f"*/{pattern}"))]:
            try:
                if path.is_file():  # some archives have a folder of that name around each file
                    contents[name] = _verified(path.read_bytes(), name, path)
                    break
            except (OSError, DataError) as error:
                problem = error
        else:
            raise DataError(problem)
    return contents


def _open(url):
    """The response of a host, in CONNECT_SECONDS: DNS, or several silent addresses, keep to no timeout."""
    outcome = concurrent.futures.Future()

    def run():
        try:
            outcome.set_result(urllib.request.urlopen(url, timeout=CONNECT_SECONDS))
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return outcome.result(CONNECT_SECONDS)
    except concurrent.futures.TimeoutError:
        raise TimeoutError(f"no answer in {CONNECT_SECONDS} s") from None


def _download(base):
    """The four contents of a web address: the small ones first, which tell early if they are others."""
    _say(f"asking {base} ...")
    start, contents = time.monotonic(), {}
    with tqdm(total=31e6, unit="B", unit_scale=True, desc=NAME, leave=False, disable=None) as bar:
        received = 0
        for name, (size, _) in FILES.items():
            url, content = f"{base}/{name}.gz", b""
            with _open(url) as response:
                while len(content) <= size and (part := response.read1(1 << 20)):
                    content += part
                    received += len(part)
                    bar.update(len(part))
                    seconds = time.monotonic() - start  # a byte now and then keeps to every other timeout
                    if seconds > PATIENCE_SECONDS and received < seconds * SLOWEST:
                        raise TimeoutError(f"{received:,} bytes in {seconds:.0f} s, too slow")
            contents[name] = _verified(content, name, url)
    return contents


def _fetch_package(package):
    """The four contents of a Debian package that apt-get fetches, as any user, into a temporary folder: first
    with the system's package lists, then with new ones, for containers have none, and old ones mislead."""
    if not shutil.which("apt-get"):
        raise DataError("there is no apt-get on this machine")
    _say(f"asking apt-get for the package {package} ...")
    end = time.monotonic() + APT_SECONDS
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "lists").mkdir()
        settings = (
            f'Dir::Cache "{folder}"; APT::Sandbox::User "root"; Acquire::Retries "0";\n'
            f'Acquire::http::Timeout "{CONNECT_SECONDS}"; Acquire::https::Timeout "{CONNECT_SECONDS}";\n'
            '#clear APT::Update;\nAPT::Update::Error-Mode "any";\n'  # nothing that a system does after it
        )
        (folder / "apt.conf").write_text(settings)

        def run(*command):
            left = max(0, end - time.monotonic())
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=left)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"no result in {APT_SECONDS} s") from None
            return (done.stderr.strip() or "failed").splitlines()[0] if done.returncode else ""

        apt = ("apt-get", "-qq", "-c", "apt.conf")
        if run(*apt, "download", package):
            apt += ("-o", f"Dir::State::lists={folder / 'lists'}")
            unreachable = run(*apt, "update")  # maybe one of many servers: the download will tell
            if problem := run(*apt, "download", package):
                raise DataError(unreachable or problem)
        if problem := run("dpkg-deb", "-x", *folder.glob("*.deb"), "unpacked"):
            raise DataError(problem)
        return _read(folder / "unpacked" / PACKAGE_FOLDER.relative_to("/"))


def _prepare(builder, contents, origin):
    """Lets TFDS write the dataset as it does from its own download."""
    import tensorflow_datasets as tfds

    def examples(part):
        images = np.frombuffer(contents[f"{part}-images-idx3-ubyte"], "uint8", offset=16)
        labels = np.frombuffer(contents[f"{part}-labels-idx1-ubyte"], "uint8", offset=8)
        for index, image in enumerate(images.reshape(-1, 28, 28, 1)):
            yield index, {"image": image, "label": labels[index]}

    def split_generators(download_manager):
        # Into a folder that gets its name when all of it is written
        pathlib.Path(builder.data_dir, ORIGIN_FILE).write_text(origin)
        return {"train": examples("train"), "test": examples("t10k")}

    builder._split_generators = split_generators  # TFDS's own takes nothing but the .gz files, byte for byte
    _say(f"verified, from {origin}; preparing it once, about half a minute")
    if not sys.stderr.isatty():  # in a log or a notebook a progress bar is only noise
        tfds.disable_progress_bar()
    start = time.monotonic()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except Exception as error:  # TFDS, TensorFlow and the file system each have exceptions of their own
        if not os.path.exists(builder.data_dir):  # else another process was faster
            fix = "It takes 150 MB: free some disk, or set TFDS_DATA_DIR to another folder."
            raise DataError(f"{NAME} cannot be prepared in {builder.data_dir} ({error}). {fix}") from error
    _say(f"ready after {time.monotonic() - start:.0f} s in {builder.data_dir}")


def _stand_in(folder, reason):
    """Generated images in the form of the dataset, drawn once for every generator, and the warning."""
    if "cgan" not in pretrained.shipped():
        raise reason
    path = folder / f"{pretrained.digests()['cgan/generator.keras'][:12]}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = [kept[name] for name in Dataset._fields[:4]]
    except Exception:  # not there yet, or damaged: OSError, ValueError, zipfile.BadZipFile and others
        try:
            arrays = _draw_stand_in()
            folder.mkdir(exist_ok=True)
            np.savez(path, **dict(zip(Dataset._fields, arrays, strict=False)))
        except InputError as error:
            raise DataError(f"{reason} No generated images can stand in for it either: {error}") from error
        except OSError as error:
            fix = "Free 55 MB, or set TFDS_DATA_DIR to another folder."
            raise DataError(f"{path} cannot be written ({error.strerror}). {fix}") from error
    message = f"These are generated images, NOT {NAME}: figures computed on them mean nothing. {reason}"
    warnings.warn(message, StandInWarning, stacklevel=3)
    return Dataset(*arrays, STAND_IN, str(folder))


def _draw_stand_in():
    """Images, labels, images, labels, like the first fields of Dataset: all classes equally often."""
    generator = pretrained.load_pretrained("cgan")
    _say("generating 70,000 images that stand in for it, once, about half a minute")
    random, arrays = np.random.default_rng(0), []
    for count in COUNTS.values():
        labels = random.permutation(np.arange(count) % len(CLASS_NAMES))
        noise = random.standard_normal((count, generator.inputs[0].shape[-1]), dtype="float32")
        images = np.empty((count, 28, 28, 1), "uint8")
        for first in tqdm(range(0, count, 250), desc="generated images", leave=False, disable=None):
            batch = slice(first, first + 250)
            drawn = generator.predict_on_batch([noise[batch], labels[batch]])
            images[batch] = np.clip(np.rint((drawn + 1) * 127.5), 0, 255)
        arrays += [images, labels]
    return arrays
